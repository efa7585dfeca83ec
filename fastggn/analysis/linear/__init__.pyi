from .classification import Classification as Classification, classify as classify
from .derivatives import (
    gradient_blocks as gradient_blocks,
    hessian as hessian,
    layer_curvatures as layer_curvatures,
)
from .leave import Escape as Escape, escape as escape
from .regression import Regression as Regression, hypotheses as hypotheses
from .saddles import construct as construct
from .values import best_map as best_map, critical_values as critical_values
