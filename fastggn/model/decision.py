"""From the outputs of a network to classes and probabilities, and from classes to its targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy
from numpy.typing import NDArray

from fastggn.network.losses.base import Loss

FloatArray = NDArray[np.float64]

LINKS = {"softmax_cross_entropy": "softmax", "logistic": "sigmoid"}
CERTAIN = np.nextafter(1.0, 0.0)


def as_labels(classes: Sequence[str]) -> NDArray[Any]:
    """Return the labels of classes, whole numbers where all are."""
    try:
        numbers = [int(label) for label in classes]
    except ValueError:
        return np.array(classes)
    same = all(str(n) == label for n, label in zip(numbers, classes, strict=True))
    return np.array(numbers if same else classes)


@dataclass(frozen=True)
class Decision:
    """How outputs become classes.

    Attributes
    ----------
    kind : {"argmax", "sign", "labels"}
        The largest of several outputs, the sign of one output for two classes, or the sign of
        each output for labels that do not exclude each other.
    link : {"softmax", "sigmoid"} or None
        The function from outputs to probabilities, if the loss has one.
    n_classes : int
    """

    kind: Literal["argmax", "sign", "labels"]
    link: str | None
    n_classes: int

    @classmethod
    def of(cls, loss: Loss, classes: Any, n_outputs: int) -> Decision | None:
        """Return the decision of a loss for these classes; None for a regression."""
        link = LINKS.get(loss.name)
        if classes is None:
            return cls("labels", link, n_outputs) if link == "sigmoid" else None
        return cls("sign" if link == "sigmoid" else "argmax", link, len(classes))

    @property
    def n_outputs(self) -> int:
        """The width of the output layer."""
        return 1 if self.kind == "sign" else self.n_classes

    def winners(self, F: FloatArray) -> NDArray[np.int64]:
        """Return the classes (T,) from 0, or 0 and 1 for each label, shape (T, n_L)."""
        if self.kind == "argmax":
            return np.asarray(F.argmax(axis=1), dtype=np.int64)
        signs = (F > 0.0).astype(np.int64)
        return signs if self.kind == "labels" else signs[:, 0]

    def scores(self, F: FloatArray) -> FloatArray:
        """Return one logit (T,) for two classes, else one for each class, shape (T, n)."""
        if self.kind == "labels" or self.n_classes > 2:
            return F
        return F[:, 1] - F[:, 0] if F.shape[1] == 2 else F[:, 0]

    def linked(self, F: FloatArray) -> FloatArray:
        """Return the probabilities of the outputs, shape (T, n_L)."""
        if self.link == "softmax":
            return np.asarray(scipy.special.softmax(F, axis=1))
        # Below 1: rounding to certainty is avoided.
        return np.asarray(np.minimum(scipy.special.expit(F), CERTAIN))

    def probabilities(self, F: FloatArray) -> FloatArray:
        """Return the probabilities of the classes, shape (T, n_classes)."""
        if self.kind == "sign":
            return np.hstack([self.linked(-F), self.linked(F)])
        return self.linked(F)

    def log_probabilities(self, F: FloatArray) -> FloatArray:
        """Return the logarithms of the probabilities, accurate where those underflow."""
        if self.link == "softmax":
            return np.asarray(scipy.special.log_softmax(F, axis=1))
        return np.asarray(scipy.special.log_expit(np.hstack([-F, F]) if self.kind == "sign" else F))

    def targets(self, Y: NDArray[Any]) -> NDArray[Any]:
        """Return classes from 0, shape (T,), as the loss takes them."""
        if self.kind == "labels":
            return Y
        if self.kind == "sign":
            return np.asarray(Y, dtype=np.float64)[:, None]
        return Y if self.link else np.eye(self.n_classes)[Y]
