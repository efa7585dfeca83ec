"""The inverse curvature of a posterior, from one factor: quadratic forms of rows."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from fastggn.objective.point import Point
from fastggn.runtime.memory import available_memory
from fastggn.solvers.base import CurvatureSums, FloatArray, LinearSystem
from fastggn.solvers.cholesky_in_place import CholeskyFactor, SymmetricMatrix, factor_cholesky
from fastggn.solvers.curvature_sums import (
    LEAST_RCOND,
    sums_of_factor,
    sums_of_singular_values,
    sums_of_stacked,
)
from fastggn.solvers.stacked_rows import DiagonalRows, ScaledColumns, StackedRows
from fastggn.solvers.svd import Spectrum, spectrum_of

# Arrays of the size of the rows, or of N x N, alive while they are decomposed.
ARRAYS = 3


class CurvatureFactor(Protocol):
    """``C = A^T A + mu I``, factored.

    Attributes
    ----------
    sums : CurvatureSums
    """

    sums: CurvatureSums

    def whiten(self, rows: FloatArray) -> FloatArray:
        """Return Z, shape (r, k), with ``Z Z^T = rows C^-1 rows^T``; `rows` (r, N) may be lost."""


class FactoredCurvature:
    """A Cholesky factor of C, for more rows of A than columns."""

    def __init__(self, factor: CholeskyFactor, sums: CurvatureSums) -> None:
        self.whiten = factor.whiten
        self.sums = sums.numbers()


class DecomposedCurvature:
    """The singular value decomposition of A, for fewer rows than columns and for a small mu."""

    def __init__(self, spectrum: Spectrum, n_params: int, mu: float) -> None:
        self._vt = spectrum.vt
        self._width = np.hypot(spectrum.s, np.sqrt(mu))
        self._root = float(np.sqrt(mu))
        self._whole = spectrum.s.size == n_params
        if mu == 0.0 and not self._whole:
            raise ValueError(
                f"the curvature has rank {spectrum.s.size} for N = {n_params} and l2 = 0: the "
                "posterior is not proper. Give the problem an l2 > 0, or train with "
                "regularize=fg.Evidence() and pass its evidence"
            )
        self.sums = (
            sums_of_singular_values(spectrum.s, spectrum.vt, mu).numbers()
            if mu > 0.0
            else CurvatureSums(float(n_params), 2.0 * float(np.sum(np.log(spectrum.s))))
        )

    def whiten(self, rows: FloatArray) -> FloatArray:
        """Return the part in the row space of A over its widths, and the rest over sqrt(mu)."""
        inside = rows @ self._vt.T
        if self._whole:
            return np.asarray(inside / self._width)
        # Formed before it is divided: the difference of two squares would cancel.
        rest = rows - inside @ self._vt
        return np.hstack([inside / self._width, rest / self._root])


class StackedCurvature(DecomposedCurvature):
    """``A^T A + diag(decay)``, where the decay spares some parameters: its rows stand below A."""

    def __init__(self, lin: Point) -> None:
        decay = np.asarray(lin.decay)
        spectrum = spectrum_of(StackedRows(lin, DiagonalRows(np.sqrt(decay)), lin.theta))[0]
        if spectrum.s.size < lin.n_params:
            raise ValueError(
                f"the curvature with that of the prior has rank {spectrum.s.size} for N = "
                f"{lin.n_params}: the residuals leave coefficients open, which have no prior, so "
                "the posterior is not proper (fastggn.rank_analysis counts what they determine)"
            )
        super().__init__(spectrum, lin.n_params, 0.0)
        self.sums = sums_of_stacked(spectrum.s, spectrum.vt, decay).numbers()


class StoredCurvature:
    """A square root R of C^-1, from a file."""

    def __init__(self, root: FloatArray) -> None:
        self._root = root
        # The eigenvalues of the curvature are not kept: only rows are whitened from here on.
        self.sums = CurvatureSums(float("nan"), float("nan"))

    def whiten(self, rows: FloatArray) -> FloatArray:
        """Return ``rows R``."""
        return np.asarray(rows @ self._root)


class ScaledCurvature:
    """``A^T A + l2 diag(w)`` by the factor of ``S A^T A S + l2 I``, S = diag(w^-1/2)."""

    def __init__(self, factor: CurvatureFactor, scale: FloatArray) -> None:
        self._factor = factor
        self._scale = scale
        self.sums = factor.sums

    def whiten(self, rows: FloatArray) -> FloatArray:
        """Return the scaled rows, whitened."""
        return self._factor.whiten(rows * self._scale)


def factor_curvature(lin: Point, relative: FloatArray | None = None) -> CurvatureFactor:
    """Return ``A^T A + l2 diag(relative)`` of a linearisation, factored."""
    if isinstance(lin.decay, np.ndarray) and relative is None:
        return StackedCurvature(lin)
    if relative is None:
        return _factored(lin, lin.l2)
    scale = 1.0 / np.sqrt(relative)
    return ScaledCurvature(_factored(ScaledColumns(lin, scale), lin.l2), scale)


def _factored(lin: LinearSystem, l2: float) -> CurvatureFactor:
    """Return ``A^T A + l2 I``, factored.

    By Cholesky where A has more rows than columns and l2 is not too small for that, in O(N^3);
    else by the singular values of A, in O(M^2 N) for M rows up to N.
    """
    comm = lin.comm
    wide = lin.n_rows < lin.n_params and comm.size == 1
    needed = 8 * ARRAYS * lin.n_params * (lin.n_rows if wide else lin.n_params)
    free = comm.memory_share(available_memory())
    if needed > free:
        raise MemoryError(
            f"a posterior of N = {lin.n_params:,} parameters needs {needed:,} bytes, and {free:,} "
            "are free"
        )
    if wide:
        return DecomposedCurvature(spectrum_of(lin)[0], lin.n_params, l2)
    matrix = SymmetricMatrix(lin.gram())
    factor = factor_cholesky(matrix, l2)
    # The rank at l2 = 0 is not to be read off a Gram matrix.
    if comm.any(l2 == 0.0 or factor.bad_pivot > 0 or not factor.rcond >= LEAST_RCOND):
        del matrix, factor
        return DecomposedCurvature(spectrum_of(lin)[0], lin.n_params, l2)
    return FactoredCurvature(factor, sums_of_factor(factor, lin.n_params, l2))
