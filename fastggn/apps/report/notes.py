"""Names, scales and classes of the samples of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.objective.problem import Problem

FloatArray = NDArray[np.float64]
DECISIONS = (None, "argmax", "sign", "nearest")
MOST_LISTED = 6


@dataclass(frozen=True)
class SampleNotes:
    """Names, scales and classes of the samples of a problem.

    Attributes
    ----------
    name : str
        Name of the data set or the file.
    inputs, targets : tuple of str
        Names of the columns, with their units.
    decision : {"nearest", "argmax", "sign", None}
        Rule that turns outputs into classes; None for a regression.
    classes : tuple of float
        Value of the target for each class.
    scale_inputs, scale_targets : mapping or None
        ``mean`` and ``scale`` of each column where the problem holds ``(column - mean) / scale``.
    facts : mapping of str to str
        Further rows of the table of the data, such as the SHA-256 of the file.
    """

    name: str = "arrays"
    inputs: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    decision: str | None = None
    classes: tuple[float, ...] = ()
    scale_inputs: Mapping[str, Any] | None = None
    scale_targets: Mapping[str, Any] | None = None
    facts: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, known: Mapping[str, Any]) -> SampleNotes:
        """Read the notes that ``fastggn train`` keeps under ``samples`` in a model file."""
        return cls(
            name=str(known.get("name") or "arrays"),
            inputs=tuple(map(str, known.get("inputs") or ())),
            targets=tuple(map(str, known.get("targets") or ())),
            decision=known.get("decision"),
            classes=tuple(known.get("classes") or ()),
            scale_inputs=known.get("scale_inputs"),
            scale_targets=known.get("scale_targets"),
        )

    def completed(self, problem: Problem) -> SampleNotes:
        """Return the notes with a name for each column and the decision that the loss implies.

        Raises
        ------
        ValueError
            If names or scales do not fit the number of columns, or the decision is unknown.
        """
        n, m = problem.network.n_inputs, problem.n_outputs
        if self.decision not in DECISIONS:
            raise ValueError(f"decision must be one of {DECISIONS}, got {self.decision!r}")
        decision = self.decision
        loss = problem.loss_function.name
        if decision is None and loss == "softmax_cross_entropy":
            decision = "argmax"
        if decision is None and loss == "logistic" and m == 1:
            decision = "sign"
        if decision == "nearest" and not self.classes:
            raise ValueError("classes must be given where the nearest one decides")
        for name, scale, width in (
            ("scale_inputs", self.scale_inputs, n),
            ("scale_targets", self.scale_targets, m),
        ):
            if scale is not None and any(np.shape(scale[k]) != (width,) for k in ("mean", "scale")):
                raise ValueError(f"{name} must hold mean and scale of {width} columns")
        inputs = self.inputs or tuple(f"x{j}" for j in range(n))
        # One column of labels stands for as many outputs as there are classes.
        several = tuple(f"y{j}" for j in range(m))
        targets = self.targets or (several if decision is None else ("class",))
        if len(inputs) != n:
            raise ValueError(f"inputs must name {n} columns, got {len(inputs)}")
        if len(targets) != m and decision is None:
            raise ValueError(f"targets must name {m} columns, got {len(targets)}")
        return replace(self, inputs=inputs, targets=targets, decision=decision)

    def class_names(self, n_outputs: int) -> list[str]:
        """Return the names of the classes: target values, column names, or numbers."""
        if self.classes:
            return [f"{value:g}" for value in self.classes]
        if self.decision == "sign":
            return ["0", "1"]
        if len(self.targets) == n_outputs:
            return list(self.targets)
        return [str(k) for k in range(n_outputs)]

    def decide(self, outputs: FloatArray) -> NDArray[np.int64]:
        """Return the classes (T,), counted from 0, of outputs (T, n_L)."""
        if self.decision == "argmax":
            return np.asarray(outputs.argmax(axis=1), dtype=np.int64)
        if self.decision == "sign":
            return np.asarray(outputs[:, 0] > 0.0, dtype=np.int64)
        return self._nearest(outputs)

    def labels(self, targets: FloatArray) -> NDArray[np.int64]:
        """Return the classes (T,), counted from 0, of targets (T, n_L) of the problem."""
        if self.decision == "argmax":
            return np.asarray(targets.argmax(axis=1), dtype=np.int64)
        if self.decision == "sign":
            return np.asarray(targets[:, 0] > 0.5, dtype=np.int64)
        return self._nearest(targets)

    def _nearest(self, columns: FloatArray) -> NDArray[np.int64]:
        away = np.abs(self.in_units(columns) - np.asarray(self.classes))
        return np.asarray(away.argmin(axis=1), dtype=np.int64)

    def in_units(self, columns: FloatArray) -> FloatArray:
        """Convert targets or outputs (T, n_L) to the units of the data."""
        return _undo(self.scale_targets, columns)

    def inputs_in_units(self, columns: FloatArray) -> FloatArray:
        """Convert inputs (T, n_0) to the units of the data."""
        return _undo(self.scale_inputs, columns)

    def scaled_inputs(self, columns: FloatArray) -> FloatArray:
        """Convert inputs (T, n_0) from the units of the data to the units of the network."""
        if self.scale_inputs is None:
            return columns
        mean, scale = (np.asarray(self.scale_inputs[key]) for key in ("mean", "scale"))
        return np.asarray((columns - mean) / scale)


def listed_errors(names: Sequence[str], errors: FloatArray) -> str:
    """List the error of each output; their units differ, so a mean would mean nothing."""
    if errors.size == 1:
        return f"{errors[0]:.6g}"
    pairs = [f"{name} {error:.6g}" for name, error in zip(names, errors, strict=True)]
    more = len(pairs) - MOST_LISTED
    return ", ".join(pairs[:MOST_LISTED]) + (f" and {more} more" if more > 0 else "")


def _undo(kept: Mapping[str, Any] | None, columns: FloatArray) -> FloatArray:
    if kept is None:
        return columns
    return np.asarray(columns * np.asarray(kept["scale"]) + np.asarray(kept["mean"]))
