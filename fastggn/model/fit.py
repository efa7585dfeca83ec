"""From a table to a model: split, scale, train."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.analysis.posterior.laplace import laplace
from fastggn.data.read_table import Names, read_table
from fastggn.data.recipe import TableError
from fastggn.data.scaler import Scaler
from fastggn.data.split import Split
from fastggn.data.table import Table
from fastggn.model.history import kept_history
from fastggn.model.model import LINKS, MOST_POSTERIOR, Model
from fastggn.network.activations import Activation
from fastggn.network.losses import get_loss
from fastggn.network.losses.base import Loss
from fastggn.network.mlp import MLP
from fastggn.objective.problem import Problem
from fastggn.training.regularisation.priors import Evidence
from fastggn.training.restarts import train_restarts
from fastggn.training.result import TrainResult
from fastggn.training.train import train

HELD_OUT = 0.15
LEAST_ROWS = 50  # a smaller table holds nothing out by default


def fit(
    table: Any,
    hidden: int | Sequence[int] = (20, 20),
    *,
    target: Names = None,
    activation: str | Activation | Sequence[str | Activation] = "tanh",
    output_activation: str | Activation = "identity",
    loss: str | Loss = "auto",
    l2: float = 0.0,
    held_out: Any = "auto",
    test: float = 0.0,
    starts: int = 1,
    posterior: bool = False,
    seed: int | None = None,
    method: Any = "lm",
    **options: Any,
) -> tuple[Model, TrainResult]:
    """Fit a network to a table; the model takes and returns raw units.

    Inputs, and the targets of a regression, are standardised by the training rows.

    Parameters
    ----------
    table : Table, path-like, frame, mapping or arrays
        Samples; anything but a `Table` is read by `read_table` first.
    hidden : int or sequence of int
        The widths of the hidden layers.
    target : str, int or sequence of them, optional
        The target columns, for `read_table`.
    activation, output_activation : str or Activation
        As in `MLP`.
    loss : str or Loss
        "auto": softmax cross-entropy for classes, else the squared loss.
    l2 : float
        Weight decay.
    held_out : float, "auto", array or str
        Rows that are not trained on: a share, row numbers, a mask, or the name of a column that is
        not zero for them. The training stops after 20 iterations without a lower loss on them and
        keeps the weights of the lowest. "auto": 0.15, drawn by `seed` with equal shares of the
        classes (the end of a series); nothing for fewer than 50 rows or with `posterior`.
    test : float
        A share of rows that nothing sees: ``model.parts(table)["test"]``.
    starts : int
        The number of runs from different first weights; the best one is kept.
    posterior : bool
        Whether to fit by the evidence (unless `l2` or `regularize` says otherwise) and keep the
        Laplace posterior, for ``predict(std=True)``.
    seed : int, optional
        The seed of the split and of the first weights; None draws one.
    method : str or method
        As in `train`.
    **options
        Further arguments of `train`.

    Returns
    -------
    model : Model
    result : TrainResult

    Raises
    ------
    TableError
        If the table cannot be used; one message for all faults.
    ValueError
        If an argument is not valid.

    Examples
    --------
    >>> import numpy as np
    >>> import fastggn as fg
    >>> rng = np.random.default_rng(0)
    >>> size, rooms = rng.uniform(30, 200, 300), rng.integers(1, 7, 300)
    >>> houses = {"size": size, "rooms": rooms, "price": 1000 * size * (1 + 0.1 * rooms)}
    >>> model, result = fg.fit(houses, target="price", hidden=(8,), seed=0)
    >>> bool(abs(model.predict({"rooms": [2], "size": [100]})[0] - 120_000) < 500)
    True
    """
    samples = _read(table, target)
    drawn = int(np.random.default_rng(seed).integers(2**31)) if seed is None else int(seed)
    model, split, rows = prepare(
        samples,
        hidden,
        activation=activation,
        output_activation=output_activation,
        loss=loss,
        l2=l2,
        held_out=0.0
        if posterior and isinstance(held_out, str) and held_out == "auto"
        else held_out,
        test=test,
        seed=drawn,
    )
    training, held = rows[0], rows[1]
    problem = model.problem(samples.take(training))
    if held.size and "held_out" not in options:
        watched = model.problem(samples.take(held), l2=0.0)
        options |= held_out_options(watched)
    if posterior and l2 == 0.0 and "regularize" not in options:
        options |= evidence_options()
    if starts > 1:
        result = train_restarts(problem, starts, seed=drawn, method=method, **options).best
    else:
        result = train(problem, method=method, seed=drawn, **options)
    return finished(model, problem, result, split, samples, seed=drawn, method=method,
                    posterior=posterior), result  # fmt: skip


def held_out_options(problem: Problem) -> dict[str, Any]:
    """Return the arguments of `train` that stop a run by held-out rows."""
    return {"held_out": problem}


def evidence_options() -> dict[str, Any]:
    """Return the arguments of `train` that choose the weight decay by the evidence."""
    return {"regularize": Evidence()}


def _read(table: Any, target: Names) -> Table:
    samples = table if isinstance(table, Table) and target is None else read_table(table, target)
    if samples.Y is None:
        raise TableError(samples.source, ["there is no target column"])
    return samples


def prepare(
    samples: Table,
    hidden: int | Sequence[int],
    *,
    activation: Any,
    output_activation: Any,
    loss: str | Loss,
    l2: float,
    held_out: Any,
    test: float,
    seed: int,
    bias: Any = "free",
) -> tuple[Model, Split | None, tuple[NDArray[np.intp], ...]]:
    """Return an untrained model with the scales of the training rows, the split, and its rows."""
    chosen = get_loss(_loss_name(loss, samples))
    classes = samples.classes
    if chosen.name in LINKS and classes is None:
        raise ValueError(
            f"the loss {chosen.name} needs classes: read the table with "
            f"categorical={list(samples.targets)!r}"
        )
    if chosen.name == "logistic" and len(classes or ()) != 2:
        raise ValueError(f"the loss logistic needs two classes, got {len(classes or ())}")
    n_outputs = len(samples.targets) if classes is None else len(classes)
    if chosen.name == "logistic":
        n_outputs = 1
    widths = (hidden,) if isinstance(hidden, (int, np.integer)) else tuple(hidden)
    network = MLP((len(samples.inputs), *widths, n_outputs), activation, output_activation, bias)
    split, rows = split_rows(samples, held_out, test, seed)
    part = samples.take(rows[0])
    bounded = network.activations[-1].name != "identity"
    model = Model(
        network,
        np.zeros(network.n_params),
        chosen,
        samples.recipe,
        Scaler.of(part.X),
        None if classes is not None or bounded else Scaler.of(part.Y),
        l2=l2,
        split=split,
    )
    return model, split, rows


def split_rows(
    samples: Table, held_out: Any, test: float, seed: int
) -> tuple[Split | None, tuple[NDArray[np.intp], ...]]:
    """Return the rule of the split, if it is one, and the training, held-out and test rows."""
    total, labels = samples.n_rows, samples.Y if samples.classes is not None else None
    kind = "end" if samples.series else "random"
    if isinstance(held_out, str) and held_out == "auto":
        held_out = HELD_OUT if total >= LEAST_ROWS else 0.0
    if isinstance(held_out, (int, float)) and not isinstance(held_out, bool):
        split = Split(float(held_out), float(test), seed, kind)  # type: ignore[arg-type]
        if split.held_out == split.test == 0.0:
            nothing = np.zeros(0, dtype=np.intp)
            return None, (np.arange(total), nothing, nothing)
        return split, split.rows(total, labels)
    held = _chosen_rows(samples, held_out)
    rest = np.setdiff1d(np.arange(total), held)
    if test:
        raise ValueError("test= is a share of a random split; give held_out as a share too")
    if not held.size or not rest.size:
        raise ValueError(f"held_out chooses {held.size} of {total} rows")
    return Split.of_rows(held), (rest, held, np.zeros(0, dtype=np.intp))


def _chosen_rows(samples: Table, held_out: Any) -> NDArray[np.intp]:
    """Return the rows that a mask, row numbers or a column choose."""
    total = samples.n_rows
    if isinstance(held_out, str):
        if samples.raw is None or held_out not in samples.raw.names:
            raise ValueError(f"held_out: there is no column {held_out!r}")
        mask = samples.raw.column(held_out)[samples.rows]
        if mask.dtype.kind != "f":
            raise ValueError(f"held_out: column {held_out!r} must hold 0 or 1")
        return np.flatnonzero(mask != 0.0)
    chosen = np.asarray(held_out)
    if chosen.dtype == bool and chosen.shape == (total,):
        return np.flatnonzero(chosen)
    if chosen.dtype.kind not in "iu" or chosen.ndim != 1:
        raise TypeError("held_out must be a share, row numbers, a mask of all rows, or a column")
    if chosen.size and not (0 <= chosen.min() and chosen.max() < total):
        raise ValueError(f"held_out: row {chosen.max()} of {total} rows")
    return np.unique(chosen).astype(np.intp)


def _loss_name(loss: str | Loss, samples: Table) -> str | Loss:
    if isinstance(loss, str) and loss == "auto":
        return "squared" if samples.classes is None else "softmax_cross_entropy"
    return loss


def finished(
    model: Model,
    problem: Problem,
    result: TrainResult,
    split: Split | None,
    samples: Table,
    *,
    seed: int,
    method: Any,
    posterior: bool = False,
) -> Model:
    """Return the model with the outcome of a run."""
    found = None
    if posterior:
        if problem.n_params > MOST_POSTERIOR:
            raise ValueError(
                f"a posterior is kept for up to {MOST_POSTERIOR} parameters, not {problem.n_params}"
            )
        found = laplace(problem, result.theta, result.evidence)
    outcome = {
        "method": method if isinstance(method, str) else method.name,
        "solver": result.solver,
        "solver_reason": result.solver_reason,
        "seed": seed,
        "status": result.status,
        "message": result.message,
        "loss": result.loss,
        "initial_loss": result.initial_loss,
        "gradient_norm": result.gradient_norm,
        "n_iter": result.n_iter,
        "seconds": result.seconds,
        "validation_loss": result.best_validation_loss,
        "best_iter": result.best_iter,
        "n_rows": samples.n_rows,
        "n_training": problem.n_samples,
        "source": samples.source,
        "evidence": None if result.evidence is None else result.evidence.to_dict(),
    }
    return replace(
        model,
        theta=np.array(result.theta),
        l2=model.l2 if result.evidence is None else result.evidence.l2,
        training=outcome,
        history=kept_history(result.history),
        split=split,
        digest=samples.digest,
        posterior=found,
    )
