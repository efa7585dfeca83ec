"""Uncertainty of a trained network, and the choice of its weight decay."""

from fastggn.bayesian.mixture import PosteriorMixture
from fastggn.bayesian.posterior import LaplacePosterior, laplace
from fastggn.bayesian.weight_decay import WeightDecayPath, select_weight_decay

__all__ = [
    "LaplacePosterior",
    "PosteriorMixture",
    "WeightDecayPath",
    "laplace",
    "select_weight_decay",
]
