"""The base class of the losses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.runtime.errors import check_finite

Array = NDArray[np.float64]

# The rounding errors of larger entries of a right-hand side would exceed the other entries.
LARGEST_FACTOR = 1e8
# Eigenvalues above -ROUNDING times the largest magnitude are zero.
ROUNDING = 1e-12


class Loss(ABC):
    """Base class of the losses E(F, Y), evaluated on blocks of samples.

    A subclass needs `name`, `value`, `gradient` and `hessian`; the base class derives all else with
    one eigenvalue decomposition a sample. A loss is 0 at an exact fit.

    Attributes
    ----------
    name : str
        The name for `get_loss`.
    principle_1, principle_1a : tuple of (bool, str)
        Whether the loss obeys Shen's Principle 1 (differentiable, and every stationary point a
        global minimum of it) and 1.a (nondegenerate Hessian there), and why. Shen 2018
        words 1.a as nondegenerate everywhere, which only strictly convex losses fulfil; here it
        means at critical points (Morse).

    Notes
    -----
    Shapes: `F` are B rows of n_L network outputs, `Y` their targets from `prepare_targets`.
    """

    name: str = "custom"
    principle_1: tuple[bool, str] = (False, "not stated for this loss")
    principle_1a: tuple[bool, str] = (False, "not stated for this loss")

    @property
    def convex(self) -> bool:
        """Whether the Hessian is positive semi-definite everywhere."""
        return True

    @property
    def unit_hessian(self) -> bool:
        """Whether the Hessian is the identity everywhere."""
        return False

    @property
    def output_weights(self) -> Array | None:
        """The w of Hessians that are multiples of one diag(w), S diagonal too, (n_L,) or (1,)."""
        return np.ones(1) if self.unit_hessian else None

    @property
    def psd_is_exact(self) -> bool:
        """Whether the curvature of `curvature_factor` is the Hessian itself."""
        return self.convex

    @abstractmethod
    def value(self, F: Array, Y: Array) -> Array:
        """Return the losses, shape (B,)."""

    @abstractmethod
    def gradient(self, F: Array, Y: Array) -> Array:
        """Return the gradients with respect to the outputs, shape (B, n_L)."""

    def value_and_gradient(self, F: Array, Y: Array) -> tuple[Array, Array]:
        """Return `value` and `gradient`; a loss may share their work."""
        return self.value(F, Y), self.gradient(F, Y)

    @abstractmethod
    def hessian(self, F: Array, Y: Array) -> Array:
        """Return the Hessians with respect to the outputs, shape (B, n_L, n_L)."""

    def hessian_sqrt(self, F: Array, Y: Array) -> Array:
        """Return S, shape (B, n_L, n_S), with S S^T the Hessian.

        Raises
        ------
        ValueError
            If the Hessian of a sample is indefinite.
        """
        values, vectors = np.linalg.eigh(self.hessian(F, Y))
        self._refuse_indefinite(values)
        return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :])

    def curvature_factor(self, F: Array, Y: Array) -> tuple[Array, Array | None]:
        """Return the positive semi-definite curvature used in training, factored.

        Returns
        -------
        S : ndarray, shape (B, n_L, n_S)
            The curvature is S S^T: the Hessian where it is positive semi-definite, else its
            positive part (robust losses use iteratively reweighted least squares instead).
        b : ndarray, shape (B, n_S), or None
            S b is the gradient; None if a sample has no such b of moderate size.
        """
        try:
            S = self.hessian_sqrt(F, Y)
        except ValueError:
            values, vectors = np.linalg.eigh(self.hessian(F, Y))
            S = vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]
        return S, _factor_gradient(S, self.gradient(F, Y))

    def signed_factor(self, F: Array, Y: Array) -> tuple[Array, Array]:
        """Return the exact Hessian as S diag(d) S^T.

        Returns
        -------
        S : ndarray, shape (B, n_L, n_S)
        d : ndarray, shape (B, n_S)
            Entries -1, 0 or 1.
        """
        values, vectors = np.linalg.eigh(self.hessian(F, Y))
        return vectors * np.sqrt(np.abs(values))[:, None, :], np.sign(values)

    def decision(self, F: Array) -> NDArray[np.int64] | None:
        """Return the predicted classes, shape (B,); None for a loss without classes."""
        return None

    def prepare_targets(self, Y: Any, T: int, n_outputs: int) -> Array:
        """Return the targets as an array (T, n_outputs) of float64.

        Parameters
        ----------
        Y : array_like, shape (T, n_outputs), or (T,) when n_outputs is 1
        T : int
            The number of samples.
        n_outputs : int
            The width n_L of the output layer.

        Raises
        ------
        TypeError
            If the targets are not real numbers.
        ValueError
            If the shape is wrong, or a target is NaN or infinite.
        """
        array = real_array(Y)
        if array.shape == (T,) and n_outputs == 1:
            array = array.reshape(T, 1)
        if array.shape != (T, n_outputs):
            accepted = f"({T}, {n_outputs})" + (f" or ({T},)" if n_outputs == 1 else "")
            raise ValueError(
                f"Y must have shape {accepted} for {T} samples and {n_outputs} outputs, "
                f"got {array.shape}"
            )
        return np.ascontiguousarray(array, dtype=np.float64)

    def to_config(self) -> dict[str, Any]:
        """Return a dictionary for JSON, the input of `loss_from_config`."""
        return {"custom": self.name}

    def _refuse_indefinite(self, values: Array, rounding: float = ROUNDING) -> None:
        """Raise if a row of eigenvalues, exact up to `rounding`, has a negative one."""
        scale = np.abs(values).max(axis=1, initial=0.0)
        bad = values.min(axis=1, initial=0.0) < -rounding * scale
        if bad.any():
            i = int(np.argmax(bad))
            raise ValueError(
                f"the Hessian of the loss {self.name!r} is indefinite at sample {i} of the "
                f"block (eigenvalue {values[i].min():.3g}): it has no real square root; use "
                "curvature_factor or signed_factor, and declare convex = False"
            )


def real_array(Y: Any) -> NDArray[Any]:
    """Return targets as an array of finite real numbers, or name the first bad one."""
    array = np.asarray(Y)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"Y must hold real numbers, got dtype {array.dtype}")
    if array.dtype.kind == "f":
        check_finite("Y", array)
    return array


def diagonal(entries: Array) -> Array:
    """Return the diagonal matrices, shape (B, n, n), with these diagonals (B, n)."""
    n = entries.shape[1]
    out = np.zeros((entries.shape[0], n, n))
    out[:, np.arange(n), np.arange(n)] = entries
    return out


def _factor_gradient(S: Array, gradient: Array) -> Array | None:
    """Return the shortest b with S b = gradient; None if b does not exist or is very large."""
    b = (np.linalg.pinv(S, rcond=1e-10) @ gradient[:, :, None])[:, :, 0]
    missed = np.abs((S @ b[:, :, None])[:, :, 0] - gradient).max(axis=1, initial=0.0)
    size = np.abs(gradient).max(axis=1, initial=0.0)
    if (missed > 1e-10 * size).any() or not (np.abs(b) <= LARGEST_FACTOR).all():
        return None
    return np.asarray(b)
