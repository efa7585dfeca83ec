"""Large arrays in reused memory: new memory costs more than a read of a part of a file.

The system clears each new page of a large array at the first write, and takes it back with the
array. A read from the page cache into existing memory is several times as fast. For the curvature
matrix new pages cost a fifth of its assembly, and on a virtual machine, which first gets the memory
from its host, several times the assembly.
"""

from __future__ import annotations

import math
import weakref
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastggn.runtime.forks import LocalLock

LEAST_BYTES = 2**17  # below this size the allocator keeps the memory itself
MOST_BYTES = 2**29  # the total size of idle blocks; larger blocks are not kept
IDLE = 8  # idle blocks: for two readers of inputs and targets, matrices and their sums


class _Blocks:
    """Idle blocks of memory."""

    def __init__(self) -> None:
        self._lock = LocalLock()  # a finaliser may come in between
        self._idle: list[NDArray[np.uint8]] = []

    def take(self, n_bytes: int) -> NDArray[np.uint8]:
        """Return the smallest sufficient idle block, or a new block."""
        with self._lock:
            fitting = [block for block in self._idle if n_bytes <= block.size <= 2 * n_bytes]
            if fitting:
                block = min(fitting, key=lambda found: found.size)
                self._idle = [other for other in self._idle if other is not block]
                return block
        return np.empty(n_bytes, np.uint8)

    def give_back(self, block: NDArray[np.uint8]) -> None:
        """Keep a block for the next user, and drop the oldest blocks."""
        with self._lock:
            idle = [*self._idle, block][-IDLE:]
            while sum(kept.size for kept in idle) > MOST_BYTES:
                idle = idle[1:]
            self._idle = idle


_blocks = _Blocks()


def lend(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return a C-ordered array of arbitrary content, whose memory is reused after its end."""
    kind = np.dtype(dtype)
    n_bytes = math.prod(shape) * kind.itemsize
    if not LEAST_BYTES <= n_bytes <= MOST_BYTES:
        return np.empty(shape, kind)
    block = _blocks.take(n_bytes)
    # The base is a memoryview, not an array. So this array is the base of all its views, and the
    # block comes back after the last view.
    array = np.frombuffer(block.data, dtype=kind, count=math.prod(shape))
    weakref.finalize(array, _blocks.give_back, block).atexit = False
    return array.reshape(shape)
