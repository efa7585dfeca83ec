"""From a table to a model: split, scale, train."""

from __future__ import annotations

import warnings
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
from fastggn.model.checks import check_known, check_range, check_samples, notes_of
from fastggn.model.decision import Decision
from fastggn.model.history import kept_history, run_facts
from fastggn.model.model import Model
from fastggn.model.saving import MOST_POSTERIOR
from fastggn.model.splitting import split_rows
from fastggn.network.activations import Activation
from fastggn.network.losses import get_loss
from fastggn.network.losses.base import Loss
from fastggn.network.mlp import MLP
from fastggn.objective.problem import Problem
from fastggn.runtime.comm import SERIAL, Comm
from fastggn.runtime.errors import FastGGNWarning, check_count
from fastggn.training.control.validation import HeldOut
from fastggn.training.regularisation.evidence import check_likelihood
from fastggn.training.regularisation.priors import Evidence
from fastggn.training.restarts import train_restarts
from fastggn.training.result import TrainResult
from fastggn.training.train import train

PATIENCE = 20  # iterations


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
    patience: int | None = PATIENCE,
    test: float = 0.0,
    starts: int = 1,
    init: str = "glorot",
    sample_weight: Any = None,
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
        not zero for them. "auto": 0.15, drawn by `seed` with equal shares of the
        classes (the end of a series); nothing for fewer than 50 rows or with `posterior`.
    patience : int or None
        The training stops after so many iterations without a lower loss on the held-out rows, and
        keeps the weights of the lowest. None: it runs on, with its last weights.
    test : float
        A share of rows that nothing sees: ``model.parts(table)["test"]``.
    starts : int
        The number of runs from different first weights; the best one is kept.
    init : str
        The scheme of the first weights, as in `MLP.init`. ``theta0=`` gives them.
    sample_weight : array_like, shape (T,) or (T, n_L), optional
        A weight for each row of the table, or for each target of each row, in the loss of the
        training and of the held-out rows. The scales of the columns do not depend on it.
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
    widths, starts = _widths(hidden), check_count("starts", starts, 1)
    samples = _read(table, target, held_out)
    drawn = int(np.random.default_rng(seed).integers(2**31)) if seed is None else int(seed)
    if posterior and isinstance(held_out, str) and held_out == "auto":
        held_out = 0.0
    weights = _weights(sample_weight, samples)
    model, split, rows = prepare(
        samples,
        widths,
        activation=activation,
        output_activation=output_activation,
        loss=loss,
        l2=l2,
        held_out=held_out,
        test=test,
        seed=drawn,
    )
    if posterior and model.network.n_params > MOST_POSTERIOR:
        raise ValueError(
            f"a posterior is kept for up to {MOST_POSTERIOR} parameters, the network has "
            f"{model.network.n_params}"
        )
    training, held, _ = rows
    problem = model.problem(samples.take(training), sample_weight=_part(weights, training))
    if posterior:
        check_likelihood(problem)  # raises for a loss without one
    told = part_notes(model, *(part.size for part in rows))
    model = replace(model, training={"notes": [*model.training["notes"], *told]})
    if not (held.size or posterior or l2) and "regularize" not in options:
        if problem.n_params > problem.n_samples * problem.n_outputs:
            warnings.warn(FastGGNWarning(told[0]), stacklevel=2)
    if held.size:
        watched = model.problem(samples.take(held), l2=0.0, sample_weight=_part(weights, held))
        options["held_out"] = HeldOut(watched, patience=patience)
    if posterior and l2 == 0.0 and "regularize" not in options:
        options["regularize"] = Evidence()
    if starts > 1:
        result = train_restarts(
            problem, starts, seed=drawn, init=init, method=method, **options
        ).best
    else:
        if options.get("theta0") is None:
            options["theta0"] = problem.init(drawn, init)
        result = train(problem, method=method, seed=drawn, **options)
    model = finished(
        model, problem, result, split, samples, seed=drawn, method=method, posterior=posterior
    )
    return model, result


def _weights(given: Any, samples: Table) -> NDArray[np.float64] | None:
    """Return the weights of the rows of a table, which `Problem` checks in full."""
    if given is None:
        return None
    weights = np.asarray(given, dtype=np.float64)
    if weights.shape[:1] != (samples.n_rows,):
        raise ValueError(
            f"sample_weight must have one row for each of the {samples.n_rows} rows of the table, "
            f"got shape {weights.shape}"
        )
    return weights


def _part(weights: NDArray[np.float64] | None, rows: NDArray[np.intp]) -> Any:
    return None if weights is None else weights[rows]


def _widths(hidden: Any) -> tuple[int, ...]:
    """Return the widths of the hidden layers."""
    if isinstance(hidden, (int, np.integer)) and not isinstance(hidden, bool):
        hidden = (hidden,)
    if not isinstance(hidden, (tuple, list)):
        hint = f"target={hidden!r}" if isinstance(hidden, str) else "fg.fit((X, y))"
        raise TypeError(
            f"hidden must be the widths of the hidden layers, such as (20, 20), not "
            f"{type(hidden).__name__}; the targets are a part of the table: {hint}"
        )
    return tuple(check_count(f"hidden[{k}]", width, 1) for k, width in enumerate(hidden))


def _read(table: Any, target: Names, held_out: Any) -> Table:
    """Return the samples, without the column that chooses the held-out rows."""
    column = held_out if isinstance(held_out, str) and held_out != "auto" else None
    if not isinstance(table, Table):
        return read_table(table, target, drop=() if column is None else [column])
    if target is not None:
        raise ValueError("the table has its target: give target= to read_table")
    if column is not None and column in (c.name for c in table.recipe.inputs):
        raise ValueError(
            f"held_out={column!r} is an input too: read the table with drop=[{column!r}]"
        )
    if table.Y is None:
        raise TableError(table.source, ["there is no target column"])
    return table


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
    scale: bool = True,
    comm: Comm = SERIAL,
) -> tuple[Model, Split | None, tuple[NDArray[np.intp], ...]]:
    """Return an untrained model with the scales of the training rows, the split, and its rows.

    All ranks of `comm` have the whole table, and each one reads its share of the training rows.
    """
    chosen = get_loss(_loss_name(loss, samples))
    check_samples(samples, chosen)
    classes = samples.classes
    decision = Decision.of(chosen, classes, len(samples.targets))
    n_outputs = len(samples.targets) if decision is None else decision.n_outputs
    network = MLP(
        (len(samples.inputs), *_widths(hidden), n_outputs), activation, output_activation, bias
    )
    output = network.activations[-1].name
    if classes is None:
        check_range(samples, output)
    split, rows = split_rows(samples, held_out, test, seed)
    check_known(samples, rows[0])
    part = samples.take(rows[0][comm.share(rows[0].size)])
    inputs, targets = part.stored
    scales = scale and classes is None and output == "identity"
    model = Model(
        network,
        np.zeros(network.n_params),
        chosen,
        samples.recipe,
        Scaler.of(part.X, comm=comm, stored=inputs) if scale else None,
        Scaler.of_known(part.Y, comm, stored=targets) if scales else None,
        l2=l2,
        split=split,
    )
    return replace(model, training={"notes": notes_of(model, samples)}), split, rows


def part_notes(model: Model, n_training: int, n_held: int, n_test: int = 0) -> list[str]:
    """Return a sentence on held-out rows, and one on test rows where there are any."""
    notes = [f"{n_held} of {n_training + n_held + n_test} rows are held out"]
    if not n_held:
        notes = [
            f"nothing is held out; {model.network.n_params} parameters face "
            f"{n_training * model.network.n_outputs} equations"
        ]
    return [*notes, f"{n_test} rows are kept for the test"] if n_test else notes


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
    digest: str | None = None,
) -> Model:
    """Return the model with the outcome of a run; `digest` is that of the samples, if known."""
    found = None
    if posterior:
        try:
            found = laplace(problem, result.theta, result.evidence)
        except (ValueError, MemoryError) as error:  # the training must not be lost
            warnings.warn(FastGGNWarning(f"the model has no posterior: {error}"), stacklevel=3)
    outcome = {
        **run_facts(result),
        "method": method if isinstance(method, str) else method.name,
        "seed": seed,
        "n_rows": samples.n_rows,
        "n_training": problem.n_samples,
        "source": samples.source,
        "notes": list(model.training.get("notes", ())),
    }
    return replace(
        model,
        theta=np.array(result.theta),
        l2=model.l2 if result.evidence is None else result.evidence.l2,
        training=outcome,
        history=kept_history(result.history),
        split=split,
        digest=samples.digest if digest is None else digest,
        posterior=found,
    )
