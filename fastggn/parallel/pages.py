"""Large arrays that are used again: the pages of a new one cost time at each call.

The system hands out cleared pages one by one. For the curvature matrix that is a fifth of the time
of its assembly, and several times the whole on a virtual machine that must first get the memory
from its host. So what an iteration took waits here for the next one.
"""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

__all__ = ["borrow", "give_back"]

FloatArray = NDArray[np.float64]

_MOST_BYTES = 512 * 2**20  # of all arrays that wait, together
_MOST_ARRAYS = 4

_lock = threading.Lock()
_idle: list[FloatArray] = []


def borrow(size: int) -> FloatArray:
    """Return an array (size,) of arbitrary content, for one user until it is given back."""
    with _lock:
        for index, array in enumerate(_idle):
            if array.size == size:
                return _idle.pop(index)
    return np.empty(size)


def give_back(array: FloatArray) -> None:
    """Take an array of `borrow` that nobody reads any more; the oldest ones make room for it."""
    if array.nbytes > _MOST_BYTES:
        return
    with _lock:
        _idle.append(array)
        while len(_idle) > _MOST_ARRAYS or sum(a.nbytes for a in _idle) > _MOST_BYTES:
            _idle.pop(0)
