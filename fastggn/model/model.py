"""A model: a network, its weights, and all that turns a table into predictions."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.analysis.posterior.gaussian import LaplacePosterior
from fastggn.analysis.symmetry import reduced
from fastggn.data.columns import Raw
from fastggn.data.readers import read_raw
from fastggn.data.recipe import Recipe
from fastggn.data.scaler import Scaler
from fastggn.data.scaling import scaled
from fastggn.data.sources import as_source, in_parts
from fastggn.data.split import Split
from fastggn.data.table import Table
from fastggn.model.checks import target_weights
from fastggn.model.decision import Decision, as_labels
from fastggn.model.interchange.files import export
from fastggn.model.metrics import Metrics, evaluated
from fastggn.model.saving import read_model, write_model
from fastggn.network.activations import Activation
from fastggn.network.losses import get_loss
from fastggn.network.losses.base import Loss
from fastggn.network.mlp import MLP
from fastggn.objective.problem import Problem
from fastggn.runtime.errors import as_float_vector
from fastggn.runtime.version import __version__

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A trained network that takes rows as people have them and predicts in their units.

    `fit` makes one; `load` reads one from a file.

    Attributes
    ----------
    network : MLP
    theta : ndarray, shape (N,), float64
        The weights, for scaled inputs and targets.
    loss : Loss
    recipe : Recipe
        The columns, their kinds and levels, and the classes.
    input_scaler, target_scaler : Scaler or None
        The scales of the network's inputs and outputs; None for unscaled ones.
    l2 : float
        The weight decay of the last objective.
    penalize_biases : bool
        Whether the weight decay includes the biases.
    training : dict
        Method, solver, seed, status, loss and the like of the run.
    history : dict of lists
        Columns of at most 500 iterations of the run.
    split : Split or None
        The rule of held-out and test rows.
    digest : str
        The SHA-256 of the table of the training.
    posterior : LaplacePosterior or None
    versions : dict
        The versions of fastggn and NumPy that made the model.
    """

    network: MLP
    theta: FloatArray
    loss: Loss
    recipe: Recipe
    input_scaler: Scaler | None = None
    target_scaler: Scaler | None = None
    l2: float = 0.0
    penalize_biases: bool = True
    training: Mapping[str, Any] = field(default_factory=dict)
    history: Mapping[str, list[Any]] = field(default_factory=dict)
    split: Split | None = None
    digest: str = ""
    posterior: LaplacePosterior | None = None
    versions: Mapping[str, str] = field(
        default_factory=lambda: {"fastggn": __version__, "numpy": np.__version__}
    )

    def __post_init__(self) -> None:
        """Check that the parts belong together."""
        object.__setattr__(
            self, "theta", as_float_vector("theta", self.theta, self.network.n_params)
        )
        inputs = len(self.recipe.input_names)
        if inputs != self.network.n_inputs:
            raise ValueError(
                f"the recipe has {inputs} inputs, the network takes {self.network.n_inputs}"
            )
        for name, width in (
            ("input_scaler", self.network.n_inputs),
            ("target_scaler", self.network.n_outputs),
        ):
            scaler = getattr(self, name)
            if scaler is not None and scaler.mean.size != width:
                raise ValueError(f"{name} has {scaler.mean.size} columns, the network {width}")
        decision = self.decision
        outputs = len(self.recipe.targets) if decision is None else decision.n_outputs
        if self.recipe.targets and outputs != self.network.n_outputs:
            raise ValueError(
                f"the targets need {outputs} outputs, the network has {self.network.n_outputs}"
            )

    @classmethod
    def of(
        cls,
        network: MLP,
        theta: ArrayLike,
        loss: str | Loss = "squared",
        classes: Any = None,
        **keywords: Any,
    ) -> Model:
        """Return the model of a network on unnamed columns, unscaled unless scalers are given."""
        recipe = Recipe.of_arrays(network.n_inputs, network.n_outputs, classes)
        vector = as_float_vector("theta", theta, network.n_params)
        return cls(network, vector, get_loss(loss), recipe, **keywords)

    @property
    def classes(self) -> NDArray[Any] | None:
        """The labels of the classes, whole numbers where all are; None for a regression."""
        found = self.recipe.classes
        return None if found is None else as_labels(found)

    @property
    def decision(self) -> Decision | None:
        """How outputs become classes; None for a regression."""
        return Decision.of(self.loss, self.recipe.classes, self.network.n_outputs)

    def encode(self, rows: Any, *, targets: bool | None = None) -> Table:
        """Return new rows as the model takes them, matched by name.

        Parameters
        ----------
        rows : Table, path-like, frame, mapping or arrays
            As for `read_table`; columns that the model does not know are ignored.
        targets : bool, optional
            Whether the targets are needed (True), ignored (False), or taken if present (None).

        Raises
        ------
        TableError
            If columns are missing, levels unknown, or cells do not fit; one message for all.
        """
        recipe = self.recipe
        if isinstance(rows, Table):
            if rows.raw is None:
                if rows.recipe.to_dict() == recipe.to_dict():
                    return rows
                raise ValueError("the table has another recipe than the model")
            raw = rows.raw
            recipe = recipe.with_missing_targets((rows.recipe.reading or {}).get("missing_targets"))
        else:
            raw = read_raw(rows, recipe.reading or {})
        whole = not isinstance(rows, Raw)  # a part of a file may have no complete row
        X, Y, kept = recipe.encode(raw, targets=targets, whole=whole)
        return Table(X, Y, recipe, kept, raw, raw.source)

    def outputs(self, rows: Any) -> FloatArray:
        """Return the outputs of the network for new rows, shape (T, n_L), in the targets' units."""
        X = as_source("rows", self.encode(rows, targets=False).X)
        return np.concatenate([self.outputs_of(part) for _, part in in_parts(X)])

    def outputs_of(self, X: FloatArray) -> FloatArray:
        """Return the outputs for encoded rows, shape (T, n_0), in the targets' units."""
        F = self.network.predict(self.theta, self.scaled_inputs(X))
        return F if self.target_scaler is None else self.target_scaler.undo(F)

    def scaled_inputs(self, X: Any) -> Any:
        """Return encoded rows, shape (T, n_0), in the units of the network."""
        return X if self.input_scaler is None else scaled(X, self.input_scaler)

    def deviations_of(self, X: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return mean and deviation of the outputs for encoded rows, in the targets' units."""
        if self.posterior is None:
            raise ValueError("a deviation needs a posterior: fit(..., posterior=True)")
        mean, deviation = self.posterior.predict(self.scaled_inputs(X))
        if self.target_scaler is None:
            return mean, deviation
        return self.target_scaler.undo(mean), deviation * self.target_scaler.scale

    def logits_of(self, X: FloatArray) -> FloatArray:
        """Return the outputs behind the probabilities, with a posterior moderated, (T, n_L)."""
        if self.posterior is None:
            return self.outputs_of(X)
        return self.posterior.moderated_outputs(self.scaled_inputs(X))

    def predict(self, rows: Any, *, std: bool = False) -> Any:
        """Return predictions for new rows, in the units of the targets.

        Parameters
        ----------
        rows : Table, path-like, frame, mapping or arrays
            As for `read_table`, without or with the targets; columns are matched by name.
        std : bool
            Whether to return the standard deviations too, noise included, of a model that was
            fitted with ``posterior=True``.

        Returns
        -------
        ndarray
            Shape (T,) for one target, (T, n) for several; labels (T,) for classes. With `std` a
            pair of such arrays.

        Raises
        ------
        TableError
            If the rows do not fit the model.
        ValueError
            If `std` is asked for and the model has no posterior, or has classes.
        """
        decision = self.decision
        if not std:
            F = self.outputs(rows)
            if decision is None:
                return F[:, 0] if F.shape[1] == 1 else F
            winners = decision.winners(F)
            return winners if self.classes is None else self.classes[winners]
        if decision is not None:
            raise ValueError("std=True is for numbers; of classes predict_proba tells how sure")
        mean, deviation = self.deviations_of(self.encode(rows, targets=False).X)
        return (mean[:, 0], deviation[:, 0]) if mean.shape[1] == 1 else (mean, deviation)

    def predict_proba(self, rows: Any) -> FloatArray:
        """Return the probabilities of the classes, shape (T, n_classes), in their order.

        With a posterior they are moderated: nearer to even where the weights are uncertain.

        Raises
        ------
        ValueError
            If the model has no classes, or its loss no probabilities.
        """
        decision = self.decision
        if decision is None or decision.link is None:
            raise ValueError(
                "predict_proba needs a model of classes with the loss softmax_cross_entropy or "
                f"logistic; the loss is {self.loss.name}"
            )
        X = as_source("rows", self.encode(rows, targets=False).X)
        return np.concatenate([decision.probabilities(self.logits_of(p)) for _, p in in_parts(X)])

    def evaluate(self, table: Any, sample_weight: Any = None) -> Metrics:
        """Return the errors of the predictions on rows with targets.

        Parameters
        ----------
        table : Table, path-like, frame, mapping or arrays
        sample_weight : array_like, shape (T,), optional
            Weights of the rows of the table.

        Returns
        -------
        Metrics
            rms, mae and R2 for each target in its unit; for classes accuracy, log loss, and
            precision, recall and count for each class.

        Raises
        ------
        TableError
            If the rows do not fit the model, or have no targets.
        ValueError
            If a weight is negative, or all are zero.
        """
        return evaluated(self, self.encode(table, targets=True), sample_weight)

    def problem(self, table: Any, **options: Any) -> Problem:
        """Return the problem of this model's objective on a table, in scaled units.

        Parameters
        ----------
        table : Table, path-like, frame, mapping or arrays
            Rows with targets; of a target that is NaN nothing counts.
        **options
            Further arguments of `Problem`: `sample_weight`, `l2`, `curvature`, `comm`.
        """
        samples = self.encode(table, targets=True)
        X, Y = self.scaled_inputs(samples.X), self.targets_of(samples.Y)
        terms = {"l2": self.l2, "penalize_biases": self.penalize_biases, **options}
        given = terms.get("sample_weight"), self.loss, terms.get("comm")
        terms["sample_weight"] = target_weights(Y, *given)
        return Problem(self.network, X, Y, self.loss, **terms)

    def reduced(self, table: Any = None) -> Model:
        """Return the model, without a posterior, less the hidden units that change nothing.

        With rows of a `table`, units that are constant, dead or linear at all of them go too;
        without, the outputs are the same for every input.
        """
        n = self.network.n_inputs
        X = np.zeros((0, n)) if table is None else self.scaled_inputs(self.encode(table).X)
        found = reduced(self.network, self.theta, np.asarray(X, dtype=np.float64))
        return replace(self, network=found.network, theta=found.theta, posterior=None)

    def parts(self, table: Any) -> dict[str, Table]:
        """Return the training, held-out and test rows of the table of the training.

        Any other table (another digest) is one part, "data".
        """
        samples = self.encode(table, targets=True)
        if self.split is None or samples.digest != self.digest:
            return {"training" if samples.digest == self.digest else "data": samples}
        labels = samples.Y if self.classes is not None else None
        rows = self.split.rows(samples.n_rows, labels)
        names = ("training", "held-out", "test")
        return {k: samples.take(r) for k, r in zip(names, rows, strict=True) if r.size}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to one sealed file, by convention ``.npz``, in one step.

        Raises
        ------
        OSError
            If the folder is missing or not writable, or the disk is full.
        """
        write_model(path, self)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        activations: Mapping[str, Activation] | None = None,
        losses: Mapping[str, Any] | None = None,
    ) -> Model:
        """Read a file of `save`; nothing in it is ever executed.

        Parameters
        ----------
        path : path-like
        activations, losses : mapping of str to object, optional
            The custom activations and losses by name: a file holds only their names.

        Raises
        ------
        MissingFileError
            If there is no such file (a ``FileNotFoundError`` and a ``ValueError``).
        ModelFileError
            If it is cut, altered, foreign, pickled, of another version, or needs a custom
            activation that is not given (a ``ValueError``).
        """
        return read_model(path, cls, activations, losses)

    def export(
        self,
        path: str | os.PathLike[str],
        dtype: str = "float64",
        *,
        probabilities: bool = False,
    ) -> None:
        """Write the network for other programs: encoded inputs in, outputs in the targets' units.

        The inputs are the columns of ``recipe.input_names``: numbers as they are, dates as days
        since their first date, and categories as one column for each level but the first. The
        file holds these names, and those of targets and classes (but for ``.csv``).

        Parameters
        ----------
        path : path-like
            ``.onnx``; ``.pt`` or ``.pth`` (state dict of ``Sequential(Linear, activation, ...)``);
            ``.npz`` (W_1, b_1, ..., and the names of the activations); ``.csv`` (a weight a line).
        dtype : {"float64", "float32"}
            The type of the weights. Inputs and outputs of an ``.onnx`` model are float64 all the
            same, so that offsets lose no digits.
        probabilities : bool
            Whether an ``.onnx`` model ends in the softmax or the sigmoids of its loss.

        Raises
        ------
        ValueError, OSError, ImportError
            If the suffix is unknown, the format cannot hold the network, an entry is too large for
            the type, the file cannot be written, or an extra is missing.
        """
        export(path, self, dtype, probabilities=probabilities)

    def __repr__(self) -> str:
        """Return the network, the columns, the target and the outcome of the training."""
        names = ", ".join(str(c.name) for c in self.recipe.inputs[:6])
        more = len(self.recipe.inputs) - 6
        names += f", ... {more} more" if more > 0 else ""
        target = ", ".join(self.recipe.target_names) or "no target"
        if self.classes is not None:
            target += f" ({len(self.classes)} classes)"
        widths = ",".join(map(str, self.network.widths))
        end = self.training.get("status")
        outcome = f", {end}, loss {self.training['loss']:.3e}" if end else ""
        return f"Model F({widths}): {names} -> {target}; {self.loss.name} loss{outcome}"

    def targets_of(self, Y: Any) -> Any:
        """Return encoded targets as the loss takes them."""
        if (decision := self.decision) is not None:
            return decision.targets(Y)
        return Y if self.target_scaler is None else scaled(Y, self.target_scaler)
