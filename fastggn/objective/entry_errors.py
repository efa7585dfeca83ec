"""The rounding errors of the entries of a Jacobian, as far as they can be foreseen.

Standard errors: the errors of different operations count as independent, so their squares add. A
sum of m terms has the error ``u sqrt(m)`` times the root of the sum of their squares, a function
of one number that of its argument times its slope, and a share u of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastggn.kernels.layer_table import CORE, D_ROW, INPUTS, PHI_IN, PHI_OUT, UNIT_ROW, UNITS, W_OFF
from fastggn.network.workspace import Block

FloatArray = NDArray[np.float64]
UNIT = float(np.finfo(np.float64).eps) / 4.0  # the standard error of a rounding to nearest


@dataclass(frozen=True, eq=False)
class EntryErrors:
    """Norms of the rounding errors over the samples.

    Attributes
    ----------
    columns : ndarray, shape (N,)
        Of the columns of the Jacobian.
    layers : ndarray, shape (L + 1,)
        Of Phi_0 to Phi_L.
    """

    columns: FloatArray
    layers: FloatArray

    @property
    def norm(self) -> float:
        """The Frobenius norm of the errors of the Jacobian."""
        return root_of_squares(self.columns)

    def norm_of(self, columns: slice) -> float:
        """Return that of some columns."""
        return root_of_squares(self.columns[columns])

    def and_those(self, other: EntryErrors) -> EntryErrors:
        """Return the norms over the samples of both."""
        return EntryErrors(
            np.hypot(self.columns, other.columns), np.hypot(self.layers, other.layers)
        )


def root_of_squares(values: FloatArray) -> float:
    """Return the norm of an array without overflow."""
    return float(np.hypot.reduce(values.ravel())) if values.size else 0.0


def entry_errors(block: Block, factors: FloatArray) -> EntryErrors:
    """Return the errors of the rows S^T J of a block, for S (B, n_L, n_S)."""
    columns = np.zeros(block.plan.n_params)
    with np.errstate(over="ignore", invalid="ignore"):
        sweep = _Sweep(block)
        for s in range(factors.shape[2]):
            columns = np.hypot(columns, sweep.columns(factors[:, :, s]))
    return EntryErrors(columns, np.array([root_of_squares(off) for off in sweep.off]))


def _spread(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return ``sqrt(a^2 @ b^2)`` without overflow."""
    sizes = [float(np.abs(part).max(initial=0.0)) or 1.0 for part in (a, b)]
    squares = np.square(a / sizes[0]) @ np.square(b / sizes[1])
    return np.asarray(np.sqrt(squares) * sizes[0] * sizes[1])


class _Sweep:
    """Values and derivatives of a block with their errors, from the inputs up."""

    def __init__(self, block: Block) -> None:
        layers, whole = block.plan.layers, slice(0, block.size)
        self._cores: list[FloatArray] = []
        self._phi: list[FloatArray] = []
        self._slopes: list[FloatArray] = []
        self._slopes_off: list[FloatArray] = []
        self.off = [np.zeros((block.size, int(layers[0][INPUTS])))]
        for row in layers:
            n, m, first = int(row[UNITS]), int(row[INPUTS]), int(row[W_OFF])
            w = block.theta[first : first + n * m].reshape(n, m)
            self._cores.append(w[:, : int(row[CORE])])
            phi = block.by_sample(int(row[PHI_IN]), m, whole)
            slope = block.by_sample(int(row[D_ROW]), n, whole)
            bend = block.by_sample(int(row[UNIT_ROW]), n, whole, block.second_derivatives)
            out = block.by_sample(int(row[PHI_OUT]), n, whole)
            at = np.hypot(UNIT * np.sqrt(m) * _spread(phi, w.T), _spread(self.off[-1], w.T))
            self._phi.append(phi)
            self._slopes.append(slope)
            # A value may overflow where a slope is constant.
            bent = np.multiply(bend, at, out=np.zeros_like(at), where=bend != 0.0)
            self._slopes_off.append(np.hypot(bent, UNIT * slope))
            self.off.append(np.hypot(slope * at, UNIT * out))
            if len(self._phi) < len(layers):  # the next layer's dummy unit is exact
                dummies = int(layers[len(self._phi)][INPUTS]) - n
                self.off[-1] = np.pad(self.off[-1], ((0, 0), (0, dummies)))

    def columns(self, seed: FloatArray) -> FloatArray:
        """Return the norms of the errors of ``seed^T J``, column by column, shape (N,)."""
        pulled, pulled_off = seed, UNIT * np.abs(seed)
        parts: list[FloatArray] = []
        for index in range(len(self._phi) - 1, -1, -1):
            slope = self._slopes[index]
            psi = pulled * slope
            psi_off = np.hypot(pulled_off * slope, pulled * self._slopes_off[index])
            own = np.hypot(_spread(psi.T, self.off[index]), _spread(psi_off.T, self._phi[index]))
            parts.insert(0, own.ravel())
            if index == 0:
                break
            w = self._cores[index]
            pulled_off = np.hypot(UNIT * np.sqrt(len(w)) * _spread(psi, w), _spread(psi_off, w))
            pulled = psi @ w
        return np.concatenate(parts)
