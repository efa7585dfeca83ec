"""Uncertainty of a trained network: the Laplace approximation and mixtures of it."""
