"""The numbers of a report at theta; all ranks that share the samples must take part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.analysis.rank.spectrum import Rank, rank_of
from fastggn.data.builtin import DATASETS
from fastggn.model.history import kept_history, run_facts
from fastggn.model.metrics import RegressionSums
from fastggn.model.model import Model
from fastggn.network.losses.output_weights import OutputWeighted
from fastggn.objective.problem import Problem
from fastggn.runtime.threads import pooled
from fastggn.training.checkpoint.identity import problem_fingerprint
from fastggn.training.result import TrainResult

FloatArray = NDArray[np.float64]

# The singular values need a QR of all rows of J, about 2 T n_L N min(T n_L, N) operations.
MOST_OPERATIONS = 5e10
MOST_SAMPLES = 20_000  # of a part, in the pictures
MOST_HASHED = 2 * 2**30  # bytes of samples: the digest needs one more pass


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Singular values of the Jacobian and its rank, or the reason why they were not computed."""

    values: FloatArray | None
    rank: Rank | None
    reason: str


@dataclass(frozen=True, eq=False)
class Findings:
    """One part of the samples, and the outputs there, in the units of the data.

    Inputs, targets and outputs are evenly spaced samples; `rms` and `r2` (n_L,) are taken over all
    `n_known` (n_L,) targets, and `n_right` (None for a regression) over all `n_samples`. A target
    that does not count is NaN.
    """

    inputs: FloatArray
    targets: FloatArray
    outputs: FloatArray
    rms: FloatArray
    r2: FloatArray
    n_known: NDArray[np.int64]
    n_samples: int
    n_right: int | None

    @property
    def n_shown(self) -> int:
        """Number of samples in the pictures."""
        return int(self.inputs.shape[0])


def model_of(problem: Problem, result: TrainResult) -> Model:
    """Return the model of a run on arrays: unnamed columns, as they are."""
    loss, m = problem.loss_function, problem.n_outputs
    classes: Any = range(m) if loss.name == "softmax_cross_entropy" else None
    if loss.name == "logistic" and m == 1:
        classes = (0, 1)
    terms = {"l2": problem.l2, "penalize_biases": problem.penalize_biases}
    facts = {"training": run_facts(result), "history": kept_history(result.history)}
    return Model.of(problem.network, result.theta, loss, classes, **terms, **facts)


def parts_of(model: Model, data: Any) -> dict[str, Problem]:
    """Return the problems of the training, held-out and test rows of a table, or those given."""
    if isinstance(data, Mapping) and any(isinstance(part, Problem) for part in data.values()):
        return dict(data)
    return {name: model.problem(part) for name, part in model.parts(data).items()}


def target_names(model: Model) -> list[str]:
    """Return the names of the targets with their units, unless a name tells its own."""
    return [_titled(column.name, column.unit) for column in model.recipe.targets]


def _titled(name: str, unit: str) -> str:
    known = not unit or f"({unit})" in name or f"[{unit}]" in name
    return name if known else f"{name} ({unit})"


def class_names(model: Model) -> list[str] | None:
    """Return the names of the classes, also of a built-in regression of classes; else None."""
    if model.recipe.classes is not None:
        return list(model.recipe.classes)
    return [f"{value:g}" for value in _values(model)] or None


def labels_of(model: Model, columns: FloatArray, *, given: bool) -> NDArray[np.int64]:
    """Return the classes (T,), counted from 0, of `given` outputs or of targets (T, n_L)."""
    if model.decision is None:
        return np.asarray(np.abs(columns - np.array(_values(model))).argmin(axis=1), dtype=np.int64)
    return model.decision.winners(columns if given or columns.shape[1] > 1 else columns - 0.5)


def _values(model: Model) -> tuple[float, ...]:
    """Return the targets that stand for classes in a built-in data set with one output."""
    dataset = DATASETS.get(str(model.training.get("source")))
    return dataset.classes if dataset is not None and model.network.n_outputs == 1 else ()


@pooled
def findings(problem: Problem, model: Model) -> Findings:
    """Compute the outputs and errors that pictures and tables show, in blocks of samples."""
    comm, total, width = problem.comm, problem.n_samples, problem.n_outputs
    every, classes = -(-total // MOST_SAMPLES), class_names(model)
    sums, right = RegressionSums([""] * width, [""] * width, False), 0.0
    shown = [[np.zeros((0, n))] for n in (problem.network.n_inputs, width, width)]
    for block in problem.at(model.theta).rows.blocks():
        inputs = problem.read_samples(block.start, block.stop)[0]
        outputs, both = block.outputs, problem._targets[block.start : block.stop]
        targets = both[:, :width]
        if isinstance(problem.loss_function, OutputWeighted):  # those of weight 0 do not count
            targets = np.where(both[:, width:] > 0.0, targets, np.nan)
        if model.target_scaler is not None:
            outputs, targets = (model.target_scaler.undo(part) for part in (outputs, targets))
        sums.add(outputs, targets, np.ones(block.size))
        if classes is not None:
            same = labels_of(model, outputs, given=True) == labels_of(model, targets, given=False)
            right += float(np.count_nonzero(same))
        for part, rows in zip(shown, (inputs, targets, outputs), strict=True):
            # A copy: a view would keep all rows.
            part.append(np.array(rows[-block.start % every :: every]))
    parts = [np.concatenate(comm.gather(np.concatenate(part))) for part in shown]
    if model.input_scaler is not None:
        parts[0] = model.input_scaler.undo(parts[0])
    rms, _, r2, count = sums.over(comm)
    n_right = None if classes is None else round(comm.total(right))
    inputs, targets, outputs = parts
    n_known = count.astype(np.int64)
    return Findings(inputs, targets, outputs, rms, r2, n_known, total, n_right)


def spectrum_of(problem: Problem, theta: FloatArray) -> Spectrum:
    """Compute the singular values of the Jacobian, unless they would take more than seconds."""
    n_rows, n_params = problem.n_samples * problem.n_outputs, problem.n_params
    operations = 2.0 * n_rows * n_params * min(n_rows, n_params)
    if operations > MOST_OPERATIONS:
        reason = (
            f"not computed: the QR factorisation of {n_rows} x {n_params} numbers would take "
            f"about {operations:.0e} operations (the limit here is {MOST_OPERATIONS:.0e}); "
            "fastggn rank MODEL computes it at any size"
        )
        return Spectrum(None, None, reason)
    jacobian = problem.jacobian(theta)
    values, error = jacobian.singular_values(), jacobian.entry_errors().norm
    return Spectrum(values, rank_of(values, (n_params, n_rows), entry_error=error), "")


def digests_of(problem: Problem) -> dict[str, Any]:
    """Return the SHA-256 digests of the samples, or the reason why there are none."""
    net = problem.network
    size = 8 * problem.n_samples * (net.n_inputs + net.n_outputs)
    if size > MOST_HASHED:
        gib = size / 2**30
        return {"SHA-256": f"not computed: the samples hold {gib:.1f} GiB, and it needs a pass"}
    found = problem_fingerprint(problem)
    return {
        "SHA-256 of the inputs": found["inputs X"],
        "SHA-256 of the targets": found["targets Y"],
    }
