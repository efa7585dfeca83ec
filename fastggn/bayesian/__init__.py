"""Uncertainty of a trained network, and the choice of its weight decay."""

from fastggn.bayesian.laplace import LaplacePosterior, laplace

__all__ = ["LaplacePosterior", "laplace"]
