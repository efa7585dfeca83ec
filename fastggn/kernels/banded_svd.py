"""Singular values of a large square matrix by way of a band.

A direct reduction to bidiagonal form spends half of its operations on products of a matrix with a
vector, at the speed of the memory. Here block reflectors bring the matrix to an upper band
(Grosser and Lang 1999) at the speed of matrix products, over the workers, and LAPACK's plane
rotations take the band to its diagonal.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numba.extending import get_cython_function_address
from numpy.typing import NDArray
from scipy.linalg import LinAlgError

from fastggn.kernels.reflectors import reflect_columns, reflect_rows, reflectors_of

FloatArray = NDArray[np.float64]

BAND = 32  # diagonals above the main one


def banded_svd(a: FloatArray, rhs: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the singular values of a (n, n), descending, and U^T rhs for rhs (n, k).

    `a`, C-ordered, is overwritten.
    """
    band, turned = _to_band(a, np.array(rhs, order="C"))
    return _of_band(band, np.asfortranarray(turned))


def _to_band(a: FloatArray, rhs: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the upper band of U^T a V in LAPACK's storage, (BAND + 1, n), and U^T rhs."""
    n = a.shape[0]
    band = np.zeros((BAND + 1, n), order="F")
    for k in range(0, n, BAND):
        last = min(n, k + BAND)
        v, t, r = reflectors_of(a[k:, k:last])
        reflect_columns(v, t, a[k:, last:])
        if rhs.shape[1]:
            reflect_columns(v, t, rhs[k:])
        _store(band, r, k, k)
        if last == n:
            break
        v, t, r = reflectors_of(a[k:last, last:].T)
        reflect_rows(a[last:, last:], v, t)
        _store(band, r.T, k, last)
    return band, rhs


def _store(band: FloatArray, part: FloatArray, row: int, column: int) -> None:
    """Put the entries of `part`, which stands at (row, column), that belong to the band."""
    i, j = np.nonzero(part)
    band[BAND + (row + i) - (column + j), column + j] = part[i, j]


def _of_band(band: FloatArray, c: FloatArray) -> tuple[FloatArray, FloatArray]:
    n, k = band.shape[1], c.shape[1]
    d, e, work, none = np.zeros(n), np.zeros(n), np.zeros(4 * n), np.zeros(1)
    info = _call(
        "dgbbrd", b"N", n, n, k, 0, BAND, band, BAND + 1, d, e, none, 1, none, 1, c, n, work
    )
    if info == 0:
        info = _call("dbdsqr", b"U", n, 0, 0, k, d, e, none, 1, none, 1, c, n, work)
    if info < 0:
        raise ValueError(f"LAPACK refused its argument {-info}")
    if info > 0:
        raise LinAlgError("the singular values did not converge")
    return d, c


def _call(name: str, *arguments: Any) -> int:
    """Call a routine of LAPACK, which takes every argument by address, and return its info."""
    info = ctypes.c_int(0)
    kept = [_pointer(value) for value in arguments]
    prototype = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * (len(kept) + 1))
    routine = prototype(get_cython_function_address("scipy.linalg.cython_lapack", name))
    routine(*(ctypes.cast(pointer, ctypes.c_void_p) for pointer in kept), ctypes.addressof(info))
    return info.value


def _pointer(value: Any) -> Any:
    if isinstance(value, bytes):
        return ctypes.c_char_p(value)
    if isinstance(value, int):
        return ctypes.pointer(ctypes.c_int(value))
    return value.ctypes.data_as(ctypes.c_void_p)
