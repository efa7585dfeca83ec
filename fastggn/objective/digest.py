"""Digests of the samples of a problem, by which a resumed run knows them again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.runtime.comm import Comm

READ_BYTES = 8 * 2**20


def digest(comm: Comm, read: Callable[[int, int], NDArray[Any]], n_rows: int, width: int) -> str:
    """Return the SHA-256 of the rows; over ranks, the SHA-256 of the digests of all ranks."""
    sha = hashlib.sha256()
    step = max(1, READ_BYTES // (8 * width))
    for start in range(0, n_rows, step):
        sha.update(np.ascontiguousarray(read(start, min(n_rows, start + step))).data)
    if comm.size == 1:
        return sha.hexdigest()
    return hashlib.sha256(" ".join(comm.gather(sha.hexdigest())).encode()).hexdigest()
