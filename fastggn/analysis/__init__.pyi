from . import linear as linear
from .critical.classify import critical_point as critical_point
from .critical.polishing import PolishResult as PolishResult, polish as polish
from .critical.report import CriticalPointReport as CriticalPointReport
from .degenerate import (
    degenerate_activation as degenerate_activation,
    degenerate_probability as degenerate_probability,
)
from .infinity.report import MinimumAtInfinity as MinimumAtInfinity
from .infinity.verdict import minimum_at_infinity as minimum_at_infinity
from .null_spaces import null_space as null_space
from .posterior.coefficients import coefficient_errors as coefficient_errors
from .rank.analysis import rank_analysis as rank_analysis
from .rank.design import check_design as check_design
from .rank.exact_fit import exact_fit as exact_fit
from .rank.sweeps import (
    RankTrace as RankTrace,
    rank_over_training as rank_over_training,
    rank_over_weights as rank_over_weights,
)
from .relu.arrangement import realisable_patterns as realisable_patterns
from .relu.constructions import (
    linear_region_minimum as linear_region_minimum,
    widen_with_dead_unit as widen_with_dead_unit,
)
from .relu.enumeration import (
    RegionMinimum as RegionMinimum,
    SubglobalMinima as SubglobalMinima,
    enumerate_subglobal_minima as enumerate_subglobal_minima,
)
from .relu.gated import (
    GatedPoint as GatedPoint,
    classify_gated as classify_gated,
    gated_problem as gated_problem,
)
from .relu.kinks import descent_direction as descent_direction
from .relu.location import Location as Location, region_of as region_of
from .relu.subglobal import (
    SubglobalMinimum as SubglobalMinimum,
    subglobal_minimum as subglobal_minimum,
)
from .relu.table import LossTable as LossTable, loss_table as loss_table
from .sensitivity import target_sensitivity as target_sensitivity
from .slice_reports import LossLine as LossLine, LossPlane as LossPlane
from .slices import (
    filter_normalised as filter_normalised,
    loss_along as loss_along,
    loss_between as loss_between,
    loss_plane as loss_plane,
)
from .spectra import (
    CurvatureTrace as CurvatureTrace,
    SpectralDensity as SpectralDensity,
    curvature as curvature,
    largest_eigenvalues as largest_eigenvalues,
    spectral_density as spectral_density,
)
from .split_index import SplitIndex as SplitIndex, index_along_gamma as index_along_gamma
from .stationarity import stationarity_split as stationarity_split
from .symmetry import (
    EffectiveWidth as EffectiveWidth,
    add_unit as add_unit,
    effective_width as effective_width,
    merge_units as merge_units,
    split_unit as split_unit,
)
