"""Runs whose every outcome is counted, so that no warning need tell of it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from fastggn.runtime.errors import FastGGNWarning

__all__ = ["quiet"]


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the package's own warnings (ascent, divergence, singular systems) in the block.

    For experiments that train hundreds of times and report losses and statuses themselves.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FastGGNWarning)
        yield
