"""The adapter from an object of the user to a loss."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastggn.network.losses.base import Array, Loss

_NEEDED = ("value", "gradient", "hessian", "hessian_sqrt")


class CustomLoss(Loss):
    """A loss made of any object with value, gradient, hessian and hessian_sqrt.

    The methods take blocks (F, Y) of shape (B, n_L) and return arrays of the shapes in `Loss`;
    every call checks them. The object may also define name, convex (True by default: declare
    ``convex = False`` if hessian_sqrt can raise ValueError), curvature_factor, signed_factor,
    prepare_targets, decision, principle_1 and principle_1a, each principle a bool or a pair (bool,
    reason).

    Parameters
    ----------
    loss : object

    Raises
    ------
    TypeError
        If it is a class instead of an instance, or a method is missing.
    """

    def __init__(self, loss: Any) -> None:
        if isinstance(loss, type):
            raise TypeError(f"loss must be an object, not the class {loss.__name__}: call it")
        missing = [name for name in _NEEDED if not callable(getattr(loss, name, None))]
        if missing:
            raise TypeError(
                "loss must be a name or an object with the methods "
                f"{', '.join(_NEEDED)}; {type(loss).__name__} lacks {', '.join(missing)}"
            )
        self._loss = loss
        self.name = str(getattr(loss, "name", type(loss).__name__))
        self.principle_1 = _statement(getattr(loss, "principle_1", Loss.principle_1))
        self.principle_1a = _statement(getattr(loss, "principle_1a", Loss.principle_1a))

    @property
    def convex(self) -> bool:
        """The declaration of the object; True by default."""
        return bool(getattr(self._loss, "convex", True))

    def value(self, F: Array, Y: Array) -> Array:
        """Return the losses, shape (B,)."""
        return self._checked("value", (F.shape[0],), F, Y)

    def gradient(self, F: Array, Y: Array) -> Array:
        """Return the gradients with respect to the outputs, shape (B, n_L)."""
        return self._checked("gradient", F.shape, F, Y)

    def hessian(self, F: Array, Y: Array) -> Array:
        """Return the Hessians with respect to the outputs, shape (B, n_L, n_L)."""
        return self._checked("hessian", (*F.shape, F.shape[1]), F, Y)

    def hessian_sqrt(self, F: Array, Y: Array) -> Array:
        """Return S, shape (B, n_L, n_S), with S S^T the Hessian."""
        return self._checked("hessian_sqrt", (*F.shape, None), F, Y)

    def curvature_factor(self, F: Array, Y: Array) -> tuple[Array, Array | None]:
        """Return the curvature (S, b) of the object, or the derived one."""
        if hasattr(self._loss, "curvature_factor"):
            S, b = self._loss.curvature_factor(F, Y)
            # Copies: the object may use its arrays again.
            return np.array(S, np.float64), None if b is None else np.array(b, np.float64)
        return super().curvature_factor(F, Y)

    def signed_factor(self, F: Array, Y: Array) -> tuple[Array, Array]:
        """Return the factors (S, d) of the object for the Hessian, or the derived ones."""
        if hasattr(self._loss, "signed_factor"):
            S, d = self._loss.signed_factor(F, Y)
            return S, d
        return super().signed_factor(F, Y)

    def decision(self, F: Array) -> Any:
        """Return the decision of the object, or None."""
        return self._loss.decision(F) if hasattr(self._loss, "decision") else None

    def prepare_targets(self, Y: Any, T: int, n_outputs: int) -> Array:
        """Return the targets, shape (T, n_outputs), by the method of the object if it has one."""
        if hasattr(self._loss, "prepare_targets"):
            Y = self._loss.prepare_targets(Y, T, n_outputs)
        return super().prepare_targets(Y, T, n_outputs)

    def _checked(self, method: str, shape: tuple[int | None, ...], F: Array, Y: Array) -> Array:
        result = np.asarray(getattr(self._loss, method)(F, Y), dtype=np.float64)
        fits = result.ndim == len(shape) and all(
            want is None or have == want for have, want in zip(result.shape, shape, strict=True)
        )
        if not fits:
            wanted = ", ".join("n_S" if n is None else str(n) for n in shape)
            raise ValueError(
                f"{method} of the loss {self.name!r} must return shape ({wanted}) for outputs "
                f"of shape {F.shape}, got {result.shape}"
            )
        return result


def _statement(given: Any) -> tuple[bool, str]:
    """Return the pair (bool, reason) of a principle."""
    if isinstance(given, tuple):
        return bool(given[0]), str(given[1])
    return bool(given), "as the loss declares"
