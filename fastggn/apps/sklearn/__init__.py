"""Estimators with the interface of scikit-learn: `GGNRegressor` and `GGNClassifier`."""

from __future__ import annotations

try:
    import sklearn  # noqa: F401
except ImportError as error:
    raise ImportError(
        "the estimators need scikit-learn: install the extra with pip install 'fastggn[sklearn]'"
    ) from error

from fastggn.apps.sklearn.classifier import GGNClassifier
from fastggn.apps.sklearn.regressor import GGNRegressor

__all__ = ["GGNClassifier", "GGNRegressor"]
