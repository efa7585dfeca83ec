"""Large arrays, used again: fresh memory costs more than to read a part of a file into it.

The system clears each new page of an array of some megabytes at the first write, and takes it back
when the array is gone. Reading a part from the page cache into memory that is there is several
times as fast; for the curvature matrix new pages are a fifth of its assembly, and several times the
whole on a virtual machine that must first get the memory from its host.
"""

from __future__ import annotations

import math
import threading
import weakref
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

LEAST_BYTES = 2**17  # below it the allocator keeps the memory itself
MOST_BYTES = 2**29  # of all blocks that wait; larger ones are not kept
IDLE = 8  # blocks that wait: two readers at work, with inputs and targets; matrices and their sums


class _Blocks:
    """Blocks of memory that nobody uses at present."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[NDArray[np.uint8]] = []

    def take(self, n_bytes: int) -> NDArray[np.uint8]:
        """Return the smallest idle block that is large enough, or a new one."""
        with self._lock:
            fitting = [block for block in self._idle if n_bytes <= block.size <= 2 * n_bytes]
            if fitting:
                block = min(fitting, key=lambda found: found.size)
                self._idle = [other for other in self._idle if other is not block]
                return block
        return np.empty(n_bytes, np.uint8)

    def give_back(self, block: NDArray[np.uint8]) -> None:
        """Keep a block for the next user, and drop those that waited longest."""
        with self._lock:
            idle = [*self._idle, block][-IDLE:]
            while sum(kept.size for kept in idle) > MOST_BYTES:
                idle = idle[1:]
            self._idle = idle


_blocks = _Blocks()


def lend(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return a C-ordered array of arbitrary content, its memory used again when it is gone.

    The array is the caller's own for as long as it, or any view of it, lives.
    """
    kind = np.dtype(dtype)
    n_bytes = math.prod(shape) * kind.itemsize
    if not LEAST_BYTES <= n_bytes <= MOST_BYTES:
        return np.empty(shape, kind)
    block = _blocks.take(n_bytes)
    # Its base is a memoryview, no array: so all views have this very array as their base, and
    # the block comes back when the last of them is gone.
    array = np.frombuffer(block.data, dtype=kind, count=math.prod(shape))
    weakref.finalize(array, _blocks.give_back, block).atexit = False
    return array.reshape(shape)
