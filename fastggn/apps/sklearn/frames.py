"""Names of pandas targets, and predictions as pandas objects."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def target_names(y: Any) -> NDArray[Any] | None:
    """Return the names of pandas targets; None for arrays and for a Series without a name."""
    if hasattr(y, "columns"):
        return np.asarray(y.columns, dtype=object)
    name = getattr(y, "name", None)
    return None if name is None else np.asarray([name], dtype=object)


def as_frame(values: NDArray[Any], X: Any, names: NDArray[Any] | None, *, table: bool) -> Any:
    """Return predictions as a Series or a DataFrame with the index of `X`."""
    try:
        import pandas
    except ImportError as error:
        raise ImportError(
            "frames need pandas: install the extra with pip install 'fastggn[sklearn]'"
        ) from error
    index = getattr(X, "index", None)
    index = None if callable(index) else index  # the method of a list
    if values.ndim == 1 and not table:
        return pandas.Series(values, index=index, name=None if names is None else names[0])
    columns = values.reshape(values.shape[0], -1)
    return pandas.DataFrame(columns, index=index, columns=names)
