"""The null space of the GGN at any depth: its dimension, a basis, and its parts by layer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.analysis.plain import plain
from fastggn.analysis.rank.spectrum import rank_in_words
from fastggn.kernels.row_spectrum import RowSpectrum
from fastggn.objective.kinds import AnyProblem, as_problem
from fastggn.runtime.cached import cached_property
from fastggn.runtime.errors import as_float_vector, check_positive
from fastggn.solvers.null_space import DenseNullSpace, ReflectedNullSpace
from fastggn.training.step import norm

FloatArray = NDArray[np.float64]
# A shorter part of a direction in a layer counts as none: the basis is only accurate to the
# rounding of J over its smallest singular value kept.
NO_PART = 1e-7


@dataclass(frozen=True, eq=False)
class FirstLayerSplit:
    """A basis of the null space in two families.

    Attributes
    ----------
    first : ndarray, shape (k, n_1, m_1)
        Orthonormal directions of the first layer's weights that some change of the later layers
        compensates.
    coupled : ndarray, shape (k, N - n_1 m_1)
        That change, of least norm, for each direction. For one hidden layer without biases it is
        ``-W_1 (sigma' o What_0 X) S^+`` (O'Leary-Roseberry and Ghattas 2020, Eq. 19, with the
        pseudo-inverse).
    later : ndarray, shape (d - k, N - n_1 m_1)
        Orthonormal directions of the later layers alone; for one hidden layer
        ``What_1 S = 0``, of dimension ``n_2 (m_2 - rank S)``.
    """

    first: FloatArray
    coupled: FloatArray
    later: FloatArray


@dataclass(frozen=True, eq=False)
class NullSpaceReport:
    """The null space of the generalised Gauss-Newton matrix of a problem's data at one theta.

    Attributes
    ----------
    space : DenseNullSpace or ReflectedNullSpace
        The null space itself; the methods below use it.
    dimension : int
        d: N minus the rank of the weighted Jacobian.
    rank : int
    tolerance : float
        Singular values at most this large counted as zero.
    gap : float
        Smallest singular value kept over the largest one dropped; inf where none is dropped.
    certain_rank : int
        Singular values above 100 tolerances; `rank` is undecided where it is larger.
    singular_values : ndarray, shape (min(M, N),)
        Of the rows ``sqrt(w_i) S_i^T J_i``, whose Gram matrix is the GGN; descending.
    loss, gradient_norm : float
        At theta. The GGN is the Hessian where the misfit is zero.
    layer_shapes : tuple of (int, int)
    layer_dimensions, layer_alone : tuple of int
        For each layer the dimension of the projection of the null space on its weights, and of the
        null directions that change this layer only.
    """

    space: DenseNullSpace | ReflectedNullSpace = field(repr=False)
    rank: int
    tolerance: float
    gap: float
    certain_rank: int
    singular_values: FloatArray
    loss: float
    gradient_norm: float
    layer_shapes: tuple[tuple[int, int], ...]
    layer_dimensions: tuple[int, ...]
    layer_alone: tuple[int, ...]

    @property
    def dimension(self) -> int:
        """The dimension d of the null space."""
        return self.space.n_rows

    @property
    def n_params(self) -> int:
        """N."""
        return self.rank + self.dimension

    @cached_property
    def basis(self) -> FloatArray:
        """An orthonormal basis, shape (N, d); where T n_L < N it is formed at the first use."""
        return self.space.basis

    def apply(self, u: ArrayLike) -> FloatArray:
        """Return the combination of the basis with the coefficients u (d,): shape (N,)."""
        return self.space.combine(as_float_vector("u", u, self.dimension))

    def coordinates(self, v: ArrayLike) -> FloatArray:
        """Return the coefficients (d,) of the part of v (N,) in the null space."""
        return self.space.coordinates(as_float_vector("v", v, self.n_params))

    def project(self, v: ArrayLike) -> FloatArray:
        """Return the part of v (N,) in the null space, shape (N,)."""
        return self.space.project(as_float_vector("v", v, self.n_params))

    def layers(self) -> list[FloatArray]:
        """Return the basis cut into layers: arrays (d, n_l, m_l)."""
        parts, start = [], 0
        for n, m in self.layer_shapes:
            rows = self.basis[start : start + n * m]
            parts.append(np.ascontiguousarray(rows.T).reshape(-1, n, m))
            start += n * m
        return parts

    def first_layer_split(self) -> FirstLayerSplit:
        """Return a basis in two families: directions with and without a change of the first layer.

        The basis is that of the paper's Theorem 2 with sigma' for sigma in the second term of
        its Eqs. 11, 14, 16 and 17: all (What_0, What_1) with
        ``What_1 S + W_1 (sigma' o What_0 X) = 0``.
        """
        n, m = self.layer_shapes[0]
        first, rest = self.basis[: n * m], self.basis[n * m :]
        # Right singular vectors make the coupled parts orthogonal to the later ones.
        u, s, vt = np.linalg.svd(first, full_matrices=True)
        k = int(np.count_nonzero(s > NO_PART))
        coupled = (rest @ vt[:k].T) / s[:k]
        later = rest @ vt[k:].T
        return FirstLayerSplit(
            np.ascontiguousarray(u[:, :k].T).reshape(k, n, m),
            np.ascontiguousarray(coupled.T),
            np.ascontiguousarray(later.T),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values without the basis."""
        return {
            **plain(self, "n_params", "dimension", "rank", "certain_rank", "tolerance"),
            "gap": self.gap if np.isfinite(self.gap) else None,
            **plain(self, "loss", "gradient_norm", "singular_values"),
            "layers": [
                {"shape": list(shape), "dimension": reach, "alone": alone}
                for shape, reach, alone in zip(
                    self.layer_shapes, self.layer_dimensions, self.layer_alone, strict=True
                )
            ],
        }

    def __str__(self) -> str:
        s = self.singular_values
        kept = s[self.rank - 1] if self.rank else 0.0
        margin = kept / self.tolerance if self.tolerance else np.inf
        lines = [
            f"null space of the GGN: dimension {self.dimension} of N = {self.n_params}",
            f"  rank                 {rank_in_words(self.rank, self.certain_rank, margin)}",
            f"  singular values      {s[0]:.3e} ... {kept:.3e} kept, tolerance "
            f"{self.tolerance:.1e}, gap {self.gap:.1e}",
            f"  loss, |gradient|     {self.loss:.3e}, {self.gradient_norm:.3e}",
            "  layer   weights   dimension of its part   within this layer alone",
        ]
        rows = zip(self.layer_shapes, self.layer_dimensions, self.layer_alone, strict=True)
        for number, ((n, m), reach, alone) in enumerate(rows, start=1):
            lines.append(f"  {number:5d}   {n * m:7d}   {reach:21d}   {alone:23d}")
        return "\n".join(lines)

    def plot(self) -> Any:
        """Return a figure of the singular values with the rank and the tolerance."""
        from fastggn.figures.spectra import draw_spectrum

        title = f"null space of dimension {self.dimension} of {self.n_params}"
        return draw_spectrum(self.singular_values, self, title)


def null_space(
    problem: AnyProblem, theta: ArrayLike, *, tol: float | None = None
) -> NullSpaceReport:
    """Return the null space of the generalised Gauss-Newton matrix of the data.

    Where the misfit is zero this is the null space of the exact Hessian, of dimension
    ``N - rank J``. The result ignores the problem's l2, which would leave no null space.

    Source: O'Leary-Roseberry and Ghattas (2020), "Ill-Posedness and Optimization Geometry for
    Nonlinear Neural Network Training", Theorem 2, corrected; any depth.

    Parameters
    ----------
    problem : Problem or ResidualProblem
        Its curvature must not be indefinite: "psd", or "exact" with a convex loss.
    theta : array_like, shape (N,)
    tol : float, optional
        Singular values of the weighted Jacobian at most `tol` count as zero; by default
        ``10 eps s_max`` and the rounding errors of the entries.

    Raises
    ------
    ValueError
        If theta has a wrong length or is not finite, `tol` is negative, or the curvature is
        indefinite.

    Examples
    --------
    >>> import fastggn as fg
    >>> X, Y = fg.data.xor()
    >>> problem = fg.Problem(fg.MLP((2, 3, 1)), X, Y)
    >>> fg.analysis.null_space(problem, problem.network.init(seed=0)).dimension
    9
    """
    problem = as_problem(problem)
    with problem.comm.raise_on_all() as said:
        if tol is not None:
            tol = check_positive("tol", tol, zero=True)
        vector = as_float_vector("theta", theta, problem.n_params)
        said |= {"call": "null_space", "tol": tol}
    lin = problem.at(vector)
    if lin.signs is not None:
        raise ValueError(
            "the problem's curvature is 'exact' and may be indefinite: its null space is not "
            "that of the Jacobian; make the problem with curvature='psd'"
        )
    shapes = problem.network.layer_shapes
    space: DenseNullSpace | ReflectedNullSpace
    if lin.n_rows < lin.n_params:
        # The basis of the row space takes the place of the reflectors, which are computed again.
        reach, alone = _by_layer(ReflectedNullSpace(lin, tol).into_row_basis(), shapes)
        space = ReflectedNullSpace(lin, tol)
    else:
        space = DenseNullSpace(lin, tol)
        reach, alone = _by_layer(space.row_basis, shapes)
    return NullSpaceReport(
        space=space,
        rank=space.found.rank,
        tolerance=space.found.tolerance,
        gap=space.found.gap,
        certain_rank=space.found.certain_rank,
        singular_values=space.singular_values,
        loss=float(lin.data_loss),
        gradient_norm=norm(lin.data_gradient),
        layer_shapes=shapes,
        layer_dimensions=reach,
        layer_alone=alone,
    )


def _by_layer(
    rows: FloatArray, shapes: tuple[tuple[int, int], ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    # A direction within some parameters is null if it is orthogonal to these rows of a basis of
    # the row space, which is small where there are few samples.
    reach, alone, start = [], [], 0
    for n, m in shapes:
        stop, others = start + n * m, len(rows) - n * m
        alone.append(n * m - _dimension(rows[start:stop]))
        reach.append(len(rows) - rows.shape[1] - others + _dimension(rows[:start], rows[stop:]))
        start = stop
    return tuple(reach), tuple(alone)


def _dimension(*parts: FloatArray) -> int:
    spectrum = RowSpectrum(max(1, parts[0].shape[1]))
    for rows in parts:
        if rows.size:
            spectrum.fold(rows)
    return int(np.count_nonzero(spectrum.values() > NO_PART))
