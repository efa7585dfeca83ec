"""A model: a network, its weights, and all that turns a table into predictions."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.analysis.posterior.laplace import LaplacePosterior
from fastggn.data.readers import read_raw
from fastggn.data.recipe import Recipe
from fastggn.data.scaler import Scaler
from fastggn.data.scaling import scaled
from fastggn.data.sources import as_source, in_parts
from fastggn.data.split import Split
from fastggn.data.table import Table
from fastggn.model.metrics import Metrics, RegressionSums, class_metrics
from fastggn.network.activations import Activation
from fastggn.network.losses import get_loss, loss_from_config
from fastggn.network.losses.base import Loss
from fastggn.network.mlp import MLP
from fastggn.objective.problem import Problem
from fastggn.runtime.archive import ArchiveError, plain, read_sealed, write_sealed
from fastggn.runtime.errors import as_float_vector
from fastggn.runtime.version import __version__

FloatArray = NDArray[np.float64]

MOST_POSTERIOR = 5000  # parameters whose posterior is kept in the file
LINKS = {"softmax_cross_entropy": "softmax", "logistic": "sigmoid"}


class ModelFileError(ArchiveError):
    """A file that is not a valid model: cut, altered, foreign, pickled, or of another version."""


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
        classes = self.recipe.classes
        outputs = len(self.recipe.targets)
        if classes is not None:
            outputs = 1 if self.decision == "sign" else len(classes)
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
        if found is None:
            return None
        try:
            numbers = [int(label) for label in found]
        except ValueError:
            return np.array(found)
        same = all(str(n) == label for n, label in zip(numbers, found, strict=True))
        return np.array(numbers if same else found)

    @property
    def decision(self) -> str | None:
        """How outputs become classes: "sign", "argmax", or None for a regression."""
        if self.recipe.classes is None:
            return None
        return "sign" if self.loss.name == "logistic" else "argmax"

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
        if isinstance(rows, Table):
            if rows.raw is None:
                if rows.recipe.to_dict() == self.recipe.to_dict():
                    return rows
                raise ValueError("the table has another recipe than the model")
            raw = rows.raw
        else:
            raw = read_raw(rows, self.recipe.reading or {})
        X, Y, kept = self.recipe.encode(raw, targets=targets)
        return Table(X, Y, self.recipe, kept, raw, raw.source)

    def outputs(self, rows: Any) -> FloatArray:
        """Return the outputs of the network for new rows, shape (T, n_L), in the targets' units."""
        X = self._inputs(rows)
        parts = [self._raw_outputs(part) for _, part in in_parts(as_source("rows", X))]
        return np.concatenate(parts)

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
        if not std:
            F = self.outputs(rows)
            if self.classes is None:
                return F[:, 0] if F.shape[1] == 1 else F
            return self.classes[self._labels(F)]
        if self.classes is not None:
            raise ValueError("std=True is for numbers; of classes predict_proba tells how sure")
        if self.posterior is None:
            raise ValueError("std=True needs a posterior: fit(..., posterior=True)")
        X = self._inputs(rows)
        inputs = X if self.input_scaler is None else self.input_scaler.apply(X)
        mean, deviation = self.posterior.predict(inputs)
        if self.target_scaler is not None:
            mean, deviation = self.target_scaler.undo(mean), deviation * self.target_scaler.scale
        return (mean[:, 0], deviation[:, 0]) if mean.shape[1] == 1 else (mean, deviation)

    def predict_proba(self, rows: Any) -> FloatArray:
        """Return the probabilities of the classes, shape (T, n_classes), in their order.

        With a posterior they are moderated: nearer to even where the weights are uncertain.

        Raises
        ------
        ValueError
            If the model has no classes, or its loss no probabilities.
        """
        if self.classes is None or self.loss.name not in LINKS:
            raise ValueError(
                f"predict_proba needs a model of classes with the loss {' or '.join(LINKS)}"
            )
        if self.posterior is not None:
            X = self._inputs(rows)
            p = self.posterior.predict_proba(X if self.input_scaler is None
                                             else self.input_scaler.apply(X))  # fmt: skip
        else:
            p = self._link(self.outputs(rows))
        return np.hstack([1.0 - p, p]) if self.decision == "sign" else p

    def evaluate(self, table: Any) -> Metrics:
        """Return the errors of the predictions on rows with targets.

        Parameters
        ----------
        table : Table, path-like, frame, mapping or arrays

        Returns
        -------
        Metrics
            rms, mae and R2 for each target in its unit; for classes accuracy, log loss, and
            precision, recall and count for each class.

        Raises
        ------
        TableError
            If the rows do not fit the model, or have no targets.
        """
        samples = self.encode(table, targets=True)
        loss, n = 0.0, samples.n_rows
        log_loss = 0.0 if self.loss.name in LINKS else None
        labels = self.recipe.classes
        counts = np.zeros((len(labels or ()), len(labels or ())), dtype=np.int64)
        sums = RegressionSums(self.recipe.target_names, [c.unit for c in self.recipe.targets])
        for start, X in in_parts(as_source("rows", samples.X)):
            Y = samples.Y[start : start + X.shape[0]]
            F = self._raw_outputs(X)
            scaled_F = F if self.target_scaler is None else self.target_scaler.apply(F)
            targets = self._targets(Y)
            prepared = self.loss.prepare_targets(targets, X.shape[0], self.network.n_outputs)
            loss += float(self.loss.value(scaled_F, prepared).sum())
            if labels is None:
                sums.add(F, Y)
                continue
            np.add.at(counts, (Y, self._labels(F)), 1)
        if labels is None:
            return sums.metrics(n, loss / n)
        if log_loss is not None:
            log_loss = loss / n  # both losses are mean negative log-likelihoods of labels
        return class_metrics(counts, labels, loss / n, log_loss)

    def problem(self, table: Any, **options: Any) -> Problem:
        """Return the problem of this model's objective on a table, in scaled units.

        Parameters
        ----------
        table : Table, path-like, frame, mapping or arrays
            Rows with targets.
        **options
            Further arguments of `Problem`: `sample_weight`, `l2`, `curvature`, `comm`.
        """
        samples = self.encode(table, targets=True)
        X = samples.X if self.input_scaler is None else scaled(samples.X, self.input_scaler)
        terms = {"l2": self.l2, "penalize_biases": self.penalize_biases, **options}
        return Problem(self.network, X, self._targets(samples.Y), self.loss, **terms)

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
        posterior = self.posterior if self.network.n_params <= MOST_POSTERIOR else None
        scalers = {"input_scaler": self.input_scaler, "target_scaler": self.target_scaler}
        content: dict[str, Any] = {
            "theta": self.theta,
            "network": self.network.to_config(),
            "loss": self.loss.to_config(),
            "recipe": self.recipe.to_dict(),
            "l2": self.l2,
            "penalize_biases": self.penalize_biases,
            "training": json.loads(json.dumps(dict(self.training), default=plain)),
            "history": dict(self.history),
            "split": None if self.split is None else self.split.to_dict(),
            "digest": self.digest,
            "versions": dict(self.versions),
            "posterior": None if posterior is None else posterior.to_dict(),
        }
        content |= {k: None if s is None else s.to_dict() for k, s in scalers.items()}
        write_sealed(path, "model", content)

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
        try:
            kept = read_sealed(path, "model")
        except ArchiveError as error:
            raise ModelFileError(str(error)) from None
        try:
            network = MLP.from_config(kept["network"], activations)
            loss = loss_from_config(kept["loss"], losses)
            posterior = kept["posterior"]
            return cls(
                network,
                kept["theta"],
                loss,
                Recipe.from_dict(kept["recipe"]),
                *(None if kept[key] is None else Scaler.from_dict(kept[key])
                  for key in ("input_scaler", "target_scaler")),
                l2=float(kept["l2"]),
                penalize_biases=bool(kept["penalize_biases"]),
                training=kept["training"],
                history=kept["history"],
                split=None if kept["split"] is None else Split.from_dict(kept["split"]),
                digest=str(kept["digest"]),
                posterior=None if posterior is None else LaplacePosterior.from_dict(
                    posterior, network, loss, kept["theta"]),
                versions=kept["versions"],
            )  # fmt: skip
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise ModelFileError(f"{path}: {error}") from error

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

    def _inputs(self, rows: Any) -> Any:
        return self.encode(rows, targets=False).X

    def _raw_outputs(self, X: FloatArray) -> FloatArray:
        """Return the outputs for encoded rows, in the targets' units."""
        inputs = X if self.input_scaler is None else self.input_scaler.apply(X)
        F = self.network.predict(self.theta, inputs)
        return F if self.target_scaler is None else self.target_scaler.undo(F)

    def _labels(self, F: FloatArray) -> NDArray[np.int64]:
        """Return the classes of outputs, counted from 0."""
        if self.decision == "sign":
            return (F[:, 0] > 0.0).astype(np.int64)
        return np.asarray(F.argmax(axis=1))

    def _targets(self, Y: Any) -> Any:
        """Return encoded targets as the loss takes them."""
        if self.recipe.classes is None:
            return Y if self.target_scaler is None else scaled(Y, self.target_scaler)
        if self.decision == "sign":
            return np.asarray(Y, dtype=np.float64)[:, None]
        if self.loss.name in LINKS:
            return Y
        return np.eye(len(self.recipe.classes))[Y]

    def _link(self, F: FloatArray) -> FloatArray:
        """Return the probabilities of outputs."""
        if self.decision == "sign":
            return np.asarray(0.5 * (1.0 + np.tanh(0.5 * F)))
        weights = np.exp(F - F.max(axis=1, keepdims=True))
        return np.asarray(weights / weights.sum(axis=1, keepdims=True))
