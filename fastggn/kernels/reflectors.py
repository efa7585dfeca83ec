"""Products with block reflectors I - V T V^T (Schreiber and Van Loan 1989), tile by tile.

The tiles depend on the shapes alone, so the bits do not depend on the number of workers.
"""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray
from scipy.linalg import lapack

from fastggn.kernels.blas import gemm
from fastggn.kernels.jit import pnjit

TILE = 128  # columns, or rows, of a tile


@pnjit
def reflect_columns(v, t, c):
    """C := (I - V T^T V^T) C for V (m, b), T (b, b) and C (m, n)."""
    n, b = c.shape[1], t.shape[0]
    for k in prange((n + TILE - 1) // TILE):
        part = c[:, k * TILE : min(n, (k + 1) * TILE)]
        image = np.empty((b, part.shape[1]))
        turned = np.empty((b, part.shape[1]))
        gemm(1, 0, 1.0, v, part, 0.0, image)
        gemm(1, 0, 1.0, t, image, 0.0, turned)
        gemm(0, 0, -1.0, v, turned, 1.0, part)


@pnjit
def reflect_rows(c, v, t):
    """C := C (I - V T V^T) for C (m, n), V (n, b) and T (b, b)."""
    m, b = c.shape[0], t.shape[0]
    for k in prange((m + TILE - 1) // TILE):
        part = c[k * TILE : min(m, (k + 1) * TILE)]
        image = np.empty((part.shape[0], b))
        turned = np.empty((part.shape[0], b))
        gemm(0, 0, 1.0, part, v, 0.0, image)
        gemm(0, 0, 1.0, image, t, 0.0, turned)
        gemm(0, 1, -1.0, turned, v, 1.0, part)


@pnjit
def reflect_both(v, t, upper, lower):
    """The same for I above V (m, b), and C: `upper` (b, n) above `lower` (m, n)."""
    n, b = upper.shape[1], t.shape[0]
    for k in prange((n + TILE - 1) // TILE):
        first, last = k * TILE, min(n, (k + 1) * TILE)
        above, below = upper[:, first:last], lower[:, first:last]
        image = above.copy()
        turned = np.empty((b, last - first))
        gemm(1, 0, 1.0, v, below, 1.0, image)
        gemm(1, 0, 1.0, t, image, 0.0, turned)
        above -= turned
        gemm(0, 0, -1.0, v, turned, 1.0, below)


def reflectors_of(
    panel: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return V (m, k), T (k, k) and R (k, n) of the QR factorisation of a panel (m, n)."""
    k = min(panel.shape)
    factored, t, info = lapack.dgeqrt(k, np.array(panel, order="F"), overwrite_a=1)
    if info != 0:
        raise ValueError(f"LAPACK's dgeqrt refused its argument {-info}")
    v = np.ascontiguousarray(np.tril(factored[:, :k], -1))
    v[np.arange(k), np.arange(k)] = 1.0
    # Below its diagonal LAPACK leaves T as it was.
    return v, np.ascontiguousarray(np.triu(t)), np.triu(factored[:k])
