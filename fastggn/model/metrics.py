"""How well a model predicts: errors by target, or by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.data.sources import as_source, in_parts
from fastggn.data.table import Table
from fastggn.model.checks import losses_of
from fastggn.objective.sample_checks import checked_weights
from fastggn.runtime.comm import SERIAL, Comm

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
        ``count`` of known values (the sum of the weights, if there are any), ``unit``.
    accuracy : float or None
        The share of right labels, of a classification.
    log_loss : float or None
        The mean of -log p of the right class; None where the loss has no probabilities.
    classes : tuple of dict
        By class: ``label``, ``count`` (the sum of the weights, if there are any), ``precision``,
        ``recall`` (NaN where there is nothing to divide by).
    confusion : tuple of tuple of int, or of float with weights
        Rows of true classes, columns of predicted ones; empty for labels that may stand together.
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
        whole = isinstance((self.targets or self.classes)[0]["count"], int)
        word = "count" if whole else "weights"
        if self.targets:
            width = max(6, *(len(_title(t)) for t in self.targets))
            gaps = any(t["count"] != self.n_rows for t in self.targets)
            head = f"{'target':<{width}}  {'rms':>12}  {'mae':>12}  {'R2':>9}"
            lines.append(head + f"  {word:>9}" * gaps)
            lines += [
                f"{_title(t):<{width}}  {t['rms']:>12.6g}  {t['mae']:>12.6g}  {t['r2']:>9.6f}"
                + f"  {t['count']:>9.6g}" * gaps
                for t in self.targets
            ]
            return "\n".join(lines)
        lines[0] += f", accuracy {100 * float(self.accuracy or 0.0):.2f} %"
        if self.log_loss is not None:
            lines[0] += f", log loss {self.log_loss:.6g}"
        width = max(5, *(len(c["label"]) for c in self.classes))
        lines.append(f"{'class':<{width}}  {word:>7}  {'precision':>9}  {'recall':>9}")
        lines += [
            f"{c['label']:<{width}}  {c['count']:>7.6g}  {c['precision']:>9.4f}  "
            f"{c['recall']:>9.4f}"
            for c in self.classes
        ]
        return "\n".join(lines)


class RegressionSums:
    """Errors of a regression whose rows come in parts."""

    def __init__(self, names: Sequence[str], units: Sequence[str], weighted: bool) -> None:
        self._names, self._units = names, units
        self._number: type = float if weighted else int
        n = len(names)
        self._count: FloatArray = np.zeros(n)
        self._squares: FloatArray = np.zeros(n)
        self._absolute: FloatArray = np.zeros(n)
        self._mean: FloatArray = np.zeros(n)
        self._spread: FloatArray = np.zeros(n)

    def add(self, predicted: FloatArray, targets: FloatArray, weights: FloatArray) -> None:
        """Take predictions and targets (B, n), of which NaN does not count, and weights (B,)."""
        known = ~np.isnan(targets)
        shares = np.where(known, weights[:, None], 0.0)
        error = np.where(known, predicted - targets, 0.0)
        self._squares += (shares * np.square(error)).sum(axis=0)
        self._absolute += (shares * np.abs(error)).sum(axis=0)
        own = shares.sum(axis=0)
        total = self._count + own
        values = np.where(known, targets, 0.0)
        mean = (shares * values).sum(axis=0) / np.where(own > 0.0, own, 1.0)
        spread = (shares * np.square(values - mean)).sum(axis=0)
        delta = mean - self._mean
        part = own / np.where(total > 0.0, total, 1.0)
        self._spread += spread + np.square(delta) * self._count * part
        self._mean = self._mean + delta * part
        self._count = total

    def over(self, comm: Comm) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Return the rms and mean absolute errors, R2 and the counts of the rows of all ranks."""
        sums = (self._count, self._count * self._mean, self._squares, self._absolute)
        count, total, squares, absolute = (comm.sum(part.copy()) for part in sums)
        mean = total / np.where(count > 0.0, count, 1.0)
        spread = comm.sum(self._spread + self._count * np.square(self._mean - mean))
        with np.errstate(invalid="ignore", divide="ignore"):
            r2 = np.where(spread > 0.0, 1.0 - squares / spread, np.nan)
            return np.sqrt(squares / count), absolute / count, r2, count

    def metrics(self, n_rows: int, loss: float) -> Metrics:
        """Return the errors of all rows."""
        targets = []
        parts = zip(self._names, self._units, *self.over(SERIAL), strict=True)
        for name, unit, *found, count in parts:
            errors = dict(zip(("rms", "mae", "r2"), map(float, found), strict=True))
            targets.append({"name": name, **errors, "count": self._number(count), "unit": unit})
        return Metrics(n_rows, loss, tuple(targets))


class ClassCounts:
    """Right and wrong classes of rows that come in parts, or labels that may stand together."""

    def __init__(self, names: Sequence[str], weighted: bool) -> None:
        n = len(names)
        self._names = names
        self._number: type = float if weighted else int
        self._confusion: FloatArray = np.zeros((n, n))
        self._given, self._called, self._right = (np.zeros(n) for _ in range(3))
        self._exact = self._total = 0.0
        self._exclusive = True

    def add(self, found: NDArray[np.int64], given: NDArray[Any], weights: FloatArray) -> None:
        """Take predicted and true classes (B,) from 0, or labels of 0 and 1, shape (B, n)."""
        self._exclusive = found.ndim == 1
        if self._exclusive:
            codes = np.eye(len(self._names), dtype=np.int64)
            found, given = codes[found], codes[given]
        counted = weights[:, None] * found
        self._confusion += given.T @ counted
        self._given += weights @ given
        self._called += counted.sum(axis=0)
        self._right += (given * counted).sum(axis=0)
        self._exact += float(weights @ (found == given).all(axis=1))
        self._total += float(weights.sum())

    def metrics(self, n_rows: int, loss: float, log_loss: float | None) -> Metrics:
        """Return the errors of all rows."""
        with np.errstate(invalid="ignore", divide="ignore"):
            precision, recall = self._right / self._called, self._right / self._given
        classes = tuple(
            {
                "label": name,
                "count": self._number(self._given[k]),
                "precision": float(precision[k]),
                "recall": float(recall[k]),
            }
            for k, name in enumerate(self._names)
        )
        rows = tuple(tuple(self._number(v) for v in row) for row in self._confusion)
        accuracy = self._exact / self._total
        return Metrics(
            n_rows, loss, (), accuracy, log_loss, classes, rows if self._exclusive else ()
        )


class Evaluation:
    """The errors of a model on encoded samples that come in parts."""

    def __init__(self, model: Any, weighted: bool = False) -> None:
        self._model, self._decision = model, model.decision
        self._n_rows, self._loss, self._log_loss, self._total = 0, 0.0, 0.0, 0.0
        self._sums: RegressionSums | ClassCounts
        if self._decision is None:
            units = [column.unit for column in model.recipe.targets]
            self._sums = RegressionSums(model.recipe.target_names, units, weighted)
        else:
            labels = model.recipe.classes or model.recipe.target_names
            self._sums = ClassCounts(labels, weighted)

    def add(self, samples: Table, weights: FloatArray | None = None) -> None:
        """Take samples with targets, with weights (T,) or without."""
        model, decision = self._model, self._decision
        shares = np.ones(samples.n_rows) if weights is None else weights
        for start, X in in_parts(as_source("rows", samples.X, least=0)):
            stop = start + X.shape[0]
            Y, F, w = samples.Y[start:stop], model.outputs_of(X), shares[start:stop]
            scaled_F = F if model.target_scaler is None else model.target_scaler.apply(F)
            targets = model.targets_of(Y)
            losses, counted = losses_of(model.loss, scaled_F, targets)
            self._loss += float(w @ losses)
            self._total += float(w @ counted)
            if decision is not None and model.posterior is not None:
                losses = -model.posterior.log_likelihoods(model.scaled_inputs(X), targets)
            self._log_loss += float(w @ losses)
            self._sums.add(F if decision is None else decision.winners(F), Y, w)
        self._n_rows += samples.n_rows

    def metrics(self) -> Metrics:
        """Return the errors of all samples."""
        loss = self._loss / self._total
        if isinstance(self._sums, RegressionSums):
            return self._sums.metrics(self._n_rows, loss)
        # Both losses with a link are negative log-likelihoods; a posterior moderates them.
        linked = self._decision is not None and self._decision.link is not None
        log_loss = self._log_loss / self._total if linked else None
        return self._sums.metrics(self._n_rows, loss, log_loss)


def evaluated(model: Any, samples: Table, sample_weight: Any) -> Metrics:
    """Return the errors of a model on encoded samples with targets."""
    found = Evaluation(model, sample_weight is not None)
    found.add(samples, _weights(sample_weight, samples))
    return found.metrics()


def _weights(sample_weight: Any, samples: Table) -> FloatArray:
    """Return the weights of the samples that are kept of a table."""
    if sample_weight is None:
        return np.ones(samples.n_rows)
    total = samples.n_rows if samples.raw is None else samples.raw.n_rows
    weights = checked_weights(sample_weight, total)
    assert weights is not None
    kept = weights if samples.raw is None else weights[samples.rows]
    if not kept.any():
        raise ValueError("sample_weight is zero for every sample")
    return kept


def _title(target: dict[str, Any]) -> str:
    name, unit = str(target["name"]), str(target["unit"])
    return name if not unit or unit in name else f"{name} [{unit}]"


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value
