"""The Kronecker-factored preconditioner of the matrix-free solver."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.linalg import LinAlgError
from scipy.linalg import eigh

from fastggn.solvers.base import FloatArray


class KroneckerPreconditioner:
    """A square root C of ``(blockdiag_l(U_l kron V_l) + mu I)^-1``, ``C C^T`` equal to it.

    With ``U = P diag(u) P^T`` and ``V = Q diag(v) Q^T`` a layer's block of C is
    ``(P kron Q) diag(u_i v_j + mu)^(-1/2)``: two small products a layer, in which no Kronecker
    product is formed (Martens and Grosse 2015, section 6.3, where the damping is factored
    approximately; here it is exact).

    Attributes
    ----------
    size : int
        N.
    largest : float
        The largest eigenvalue of all ``U_l kron V_l``, an estimate of ``|A|^2``.
    """

    def __init__(self, factors: Sequence[tuple[FloatArray, FloatArray]]) -> None:
        self._layers = [(*_spectrum(u), *_spectrum(v)) for u, v in factors]
        self.size = sum(u.size * v.size for u, _, v, _ in self._layers)
        self.largest = max(float(u[-1] * v[-1]) for u, _, v, _ in self._layers)

    def scales(self, mu: float) -> list[FloatArray]:
        """Return ``(u_i v_j + mu)^(-1/2)`` for each layer, shape (n_l, m_l); mu > 0."""
        return [1.0 / np.sqrt(np.outer(u, v) + mu) for u, _, v, _ in self._layers]

    def apply(self, scales: Sequence[FloatArray], w: FloatArray) -> FloatArray:
        """Return ``C w``, shape (N,)."""
        out = np.empty(self.size)
        start = 0
        for (_, p, _, q), scale in zip(self._layers, scales, strict=True):
            stop = start + scale.size
            block = w[start:stop].reshape(scale.shape)
            out[start:stop] = (p @ (scale * block) @ q.T).ravel()
            start = stop
        return out

    def apply_transposed(self, scales: Sequence[FloatArray], v: FloatArray) -> FloatArray:
        """Return ``C^T v``, shape (N,)."""
        out = np.empty(self.size)
        start = 0
        for (_, p, _, q), scale in zip(self._layers, scales, strict=True):
            stop = start + scale.size
            block = v[start:stop].reshape(scale.shape)
            out[start:stop] = (scale * (p.T @ block @ q)).ravel()
            start = stop
        return out


def _spectrum(factor: FloatArray) -> tuple[FloatArray, FloatArray]:
    if not np.isfinite(factor).all():
        raise LinAlgError("a Kronecker factor is not finite")
    values, vectors = eigh(factor, check_finite=False)
    # Rounding makes zero eigenvalues slightly negative.
    return np.maximum(values, 0.0), np.ascontiguousarray(vectors)
