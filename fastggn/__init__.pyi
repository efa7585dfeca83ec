from . import analysis as analysis, data as data
from .analysis.critical.classify import critical_point as critical_point
from .analysis.critical.report import CriticalPointReport as CriticalPointReport
from .analysis.posterior.gaussian import LaplacePosterior as LaplacePosterior
from .analysis.posterior.laplace import laplace as laplace
from .analysis.posterior.mixture import PosteriorMixture as PosteriorMixture
from .analysis.rank.analysis import rank_analysis as rank_analysis
from .analysis.rank.design import DesignReport as DesignReport, check_design as check_design
from .analysis.rank.report import RankReport as RankReport
from .apps.info import show_config as show_config
from .apps.report.writing import report as report
from .apps.sklearn import GGNClassifier as GGNClassifier, GGNRegressor as GGNRegressor
from .data.read_table import read_table as read_table
from .data.recipe import TableError as TableError
from .data.split import Split as Split
from .data.table import Table as Table
from .model import interchange as interchange
from .model.fit import fit as fit
from .model.metrics import Metrics as Metrics
from .model.model import Model as Model
from .model.saving import ModelFileError as ModelFileError
from .network import activations as activations, losses as losses
from .network.activations import Activation as Activation
from .network.mlp import MLP as MLP
from .objective.problem import Problem as Problem
from .objective.residual_problem import ResidualProblem as ResidualProblem
from .objective.terms import Term as Term
from .runtime import errors as errors
from .runtime.errors import (
    AscentWarning as AscentWarning,
    CheckpointWarning as CheckpointWarning,
    DivergenceWarning as DivergenceWarning,
    FastGGNWarning as FastGGNWarning,
    ScalingWarning as ScalingWarning,
    SingularSystemWarning as SingularSystemWarning,
    UnitsWarning as UnitsWarning,
)
from .runtime.threads import threads as threads
from .runtime.version import __version__ as __version__
from .training.checkpoint.files import CheckpointError as CheckpointError
from .training.checkpoint.saving import Checkpoint as Checkpoint
from .training.control.stopping import Stop as Stop
from .training.control.validation import HeldOut as HeldOut
from .training.methods.named import (
    LBFGS as LBFGS,
    Adam as Adam,
    Auto as Auto,
    GaussNewton as GaussNewton,
    GradientDescent as GradientDescent,
    LevenbergMarquardt as LevenbergMarquardt,
    Newton as Newton,
)
from .training.regularisation.evidence import EvidenceEstimate as EvidenceEstimate
from .training.regularisation.null_space import NullSpace as NullSpace
from .training.regularisation.priors import Evidence as Evidence
from .training.regularisation.weight_decay import (
    WeightDecayPath as WeightDecayPath,
    select_weight_decay as select_weight_decay,
)
from .training.restarts import RestartsResult as RestartsResult, train_restarts as train_restarts
from .training.result import TrainResult as TrainResult
from .training.train import train as train
from .training.warmup import WarmupReport as WarmupReport, warmup as warmup
