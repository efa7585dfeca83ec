"""How well a model predicts: errors by target, or by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Metrics:
    """The errors of a model on a table, in the units of the targets.

    Attributes
    ----------
    n_rows : int
        The number of rows.
    loss : float
        The mean loss in the units of the network, without weight decay.
    targets : tuple of dict
        For a regression, by target: ``name``, ``rms``, ``mae``, ``r2`` (NaN for a constant target),
        ``unit``.
    accuracy : float or None
        The share of right labels, of a classification.
    log_loss : float or None
        The mean of -log p of the right class; None where the loss has no probabilities.
    classes : tuple of dict
        By class: ``label``, ``count``, ``precision``, ``recall`` (NaN where there is nothing to
        divide by).
    confusion : tuple of tuple of int
        Rows of true classes, columns of predicted ones.
    """

    n_rows: int
    loss: float
    targets: tuple[dict[str, Any], ...] = ()
    accuracy: float | None = None
    log_loss: float | None = None
    classes: tuple[dict[str, Any], ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; a number that is not finite is None."""
        found: dict[str, Any] = {"n_rows": self.n_rows, "loss": _plain(self.loss)}
        if self.targets:
            found["targets"] = [{k: _plain(v) for k, v in t.items()} for t in self.targets]
        else:
            found |= {"accuracy": self.accuracy, "log_loss": _plain(self.log_loss)}
            found["classes"] = [{k: _plain(v) for k, v in c.items()} for c in self.classes]
            found["confusion"] = [list(row) for row in self.confusion]
        return found

    def __str__(self) -> str:
        """Return a table with one line for each target or class."""
        lines = [f"{self.n_rows} rows"]
        if self.targets:
            width = max(6, *(len(_title(t)) for t in self.targets))
            lines.append(f"{'target':<{width}}  {'rms':>12}  {'mae':>12}  {'R2':>9}")
            lines += [
                f"{_title(t):<{width}}  {t['rms']:>12.6g}  {t['mae']:>12.6g}  {t['r2']:>9.6f}"
                for t in self.targets
            ]
            return "\n".join(lines)
        lines[0] += f", accuracy {100 * float(self.accuracy or 0.0):.2f} %"
        if self.log_loss is not None:
            lines[0] += f", log loss {self.log_loss:.6g}"
        width = max(5, *(len(c["label"]) for c in self.classes))
        lines.append(f"{'class':<{width}}  {'count':>7}  {'precision':>9}  {'recall':>9}")
        lines += [
            f"{c['label']:<{width}}  {c['count']:>7}  {c['precision']:>9.4f}  {c['recall']:>9.4f}"
            for c in self.classes
        ]
        return "\n".join(lines)


class RegressionSums:
    """Errors of a regression whose rows come in parts."""

    def __init__(self, names: Sequence[str], units: Sequence[str]) -> None:
        self._names, self._units = names, units
        n = len(names)
        self._count: FloatArray = np.zeros(n)
        self._squares: FloatArray = np.zeros(n)
        self._absolute: FloatArray = np.zeros(n)
        self._mean: FloatArray = np.zeros(n)
        self._spread: FloatArray = np.zeros(n)

    def add(self, predicted: FloatArray, targets: FloatArray) -> None:
        """Take rows of predictions and targets, shape (B, n); NaN targets do not count."""
        known = ~np.isnan(targets)
        error = np.where(known, predicted - targets, 0.0)
        self._squares += np.square(error).sum(axis=0)
        self._absolute += np.abs(error).sum(axis=0)
        own = known.sum(axis=0).astype(np.float64)
        total = self._count + own
        safe = np.maximum(own, 1.0)
        mean = np.where(known, targets, 0.0).sum(axis=0) / safe
        spread = np.where(known, np.square(targets - mean), 0.0).sum(axis=0)
        delta = mean - self._mean
        share = own / np.maximum(total, 1.0)
        self._spread += spread + np.square(delta) * self._count * share
        self._mean = self._mean + delta * share
        self._count = total

    def metrics(self, n_rows: int, loss: float) -> Metrics:
        """Return the errors of all rows."""
        targets = []
        for j, name in enumerate(self._names):
            count = max(float(self._count[j]), 1.0)
            spread = float(self._spread[j])
            targets.append(
                {
                    "name": name,
                    "rms": float(np.sqrt(self._squares[j] / count)),
                    "mae": float(self._absolute[j] / count),
                    "r2": 1.0 - float(self._squares[j]) / spread if spread > 0.0 else float("nan"),
                    "unit": self._units[j],
                }
            )
        return Metrics(n_rows, loss, tuple(targets))


def class_metrics(
    confusion: NDArray[np.int64], labels: Sequence[str], loss: float, log_loss: float | None
) -> Metrics:
    """Return the errors of a classification from its confusion matrix."""
    total = int(confusion.sum())
    classes = []
    with np.errstate(invalid="ignore", divide="ignore"):
        right = np.diag(confusion).astype(np.float64)
        precision, recall = right / confusion.sum(axis=0), right / confusion.sum(axis=1)
    for k, label in enumerate(labels):
        classes.append(
            {
                "label": label,
                "count": int(confusion[k].sum()),
                "precision": float(precision[k]),
                "recall": float(recall[k]),
            }
        )
    rows = tuple(tuple(int(v) for v in row) for row in confusion)
    accuracy = float(right.sum()) / max(total, 1)
    return Metrics(total, loss, (), accuracy, log_loss, tuple(classes), rows)


def _title(target: dict[str, Any]) -> str:
    return f"{target['name']} [{target['unit']}]" if target["unit"] else str(target["name"])


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value
