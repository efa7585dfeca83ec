"""fastggn: second-order training and loss-surface analysis of multilayer perceptrons.

The names below are imported when they are first used, so that ``import fastggn`` and
``fastggn --help`` are quick and start no compiler.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastggn import activations, analysis, data, errors, interchange, losses
    from fastggn.activations import Activation
    from fastggn.analysis.critical import CriticalPointReport, critical_point
    from fastggn.analysis.rank import DesignReport, RankReport, check_design, rank_analysis
    from fastggn.bayesian import (
        LaplacePosterior,
        PosteriorMixture,
        WeightDecayPath,
        laplace,
        select_weight_decay,
    )
    from fastggn.checkpoints import CheckpointError
    from fastggn.errors import (
        AscentWarning,
        CheckpointWarning,
        DivergenceWarning,
        FastGGNWarning,
        ScalingWarning,
        SingularSystemWarning,
        UnitsWarning,
    )
    from fastggn.estimators import GGNClassifier, GGNRegressor
    from fastggn.model_io import ModelFileError, load_model, save_model
    from fastggn.network import MLP
    from fastggn.parallel import show_config, threads
    from fastggn.problem import Problem
    from fastggn.reporting import report
    from fastggn.training import NullSpace, RestartsResult, TrainResult, train, train_restarts
    from fastggn.training.evidence import Evidence
    from fastggn.training.warmup import WarmupReport, warmup

__version__ = "0.1.0"

__all__ = [
    "MLP",
    "Activation",
    "AscentWarning",
    "CheckpointError",
    "CheckpointWarning",
    "CriticalPointReport",
    "DesignReport",
    "DivergenceWarning",
    "Evidence",
    "FastGGNWarning",
    "GGNClassifier",
    "GGNRegressor",
    "LaplacePosterior",
    "ModelFileError",
    "NullSpace",
    "PosteriorMixture",
    "Problem",
    "RankReport",
    "RestartsResult",
    "ScalingWarning",
    "SingularSystemWarning",
    "TrainResult",
    "UnitsWarning",
    "WarmupReport",
    "WeightDecayPath",
    "__version__",
    "activations",
    "analysis",
    "check_design",
    "critical_point",
    "data",
    "errors",
    "interchange",
    "laplace",
    "load_model",
    "losses",
    "rank_analysis",
    "report",
    "save_model",
    "select_weight_decay",
    "show_config",
    "threads",
    "train",
    "train_restarts",
    "warmup",
]

_HOME = {
    "MLP": "network",
    "Activation": "activations",
    "AscentWarning": "errors",
    "CheckpointError": "checkpoints",
    "CheckpointWarning": "errors",
    "CriticalPointReport": "analysis.critical",
    "DesignReport": "analysis.rank",
    "DivergenceWarning": "errors",
    "Evidence": "training.evidence",
    "FastGGNWarning": "errors",
    "GGNClassifier": "estimators",
    "GGNRegressor": "estimators",
    "LaplacePosterior": "bayesian",
    "ModelFileError": "model_io",
    "NullSpace": "training",
    "PosteriorMixture": "bayesian",
    "Problem": "problem",
    "RankReport": "analysis.rank",
    "RestartsResult": "training",
    "ScalingWarning": "errors",
    "SingularSystemWarning": "errors",
    "TrainResult": "training",
    "UnitsWarning": "errors",
    "WarmupReport": "training.warmup",
    "WeightDecayPath": "bayesian",
    "check_design": "analysis.rank",
    "critical_point": "analysis.critical",
    "laplace": "bayesian",
    "load_model": "model_io",
    "rank_analysis": "analysis.rank",
    "report": "reporting",
    "save_model": "model_io",
    "select_weight_decay": "bayesian",
    "show_config": "parallel",
    "threads": "parallel",
    "train": "training",
    "train_restarts": "training",
    "warmup": "training.warmup",
}
_MODULES = ("activations", "analysis", "data", "errors", "interchange", "losses")


def _limit_threads() -> None:
    # Before anything imports Numba, which fixes the size of its pool then.
    from fastggn.cores import limit_numba

    limit_numba()


_limit_threads()


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"fastggn.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'fastggn' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"fastggn.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
