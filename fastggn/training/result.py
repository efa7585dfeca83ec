"""The outcome of a training run: one record for each iteration, and the result."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fastggn.training.regularisation.evidence import EvidenceEstimate

Status = Literal[
    "converged_gradient",
    "converged_loss",
    "converged_step",
    "target_reached",
    "max_iter",
    "max_time",
    "interrupted",
    "damping_limit",
    "diverging",
    "early_stopped",
    "failed",
]
STATUSES: tuple[str, ...] = get_args(Status)
ASKED = "a callback asked to stop"


@dataclass(frozen=True)
class Record:
    """One iteration of a training run; ``record["loss"]`` also reads a field.

    Callbacks can also read the parameters, as ``record.theta``.

    Attributes
    ----------
    iteration : int
        1 for the first iteration.
    loss : float
        The objective after the iteration, over all samples, with l2.
    gradient_norm : float
        2-norm of the gradient after the iteration.
    step_norm : float
        2-norm of the change of theta, or of the last trial step if none was accepted.
    damping : float or None
        The lambda of the last trial step (method "lm").
    gain_ratio : float or None
        Actual over predicted decrease of the loss. Below the rounding of the loss, the gradients
        at both ends of the step give the actual decrease.
    solver : str
        The source of the step: a solver's name, "trust_region", "steihaug", "gradient", "adam",
        "negative_curvature" or "noise".
    rank : int or None
        Numerical rank of the system, if the solver computes it.
    rcond : float or None
        Reciprocal condition number of the system, if the solver estimates it. If the damping alone
        makes it large (above 1e-8), it is a lower bound.
    seconds : float
        Time since the start of the run.
    accepted : bool
        False if theta did not change.
    rejections : int
        Rejected trial steps of this iteration.
    assemblies, factorisations, evaluations : int
        Since the start of the run: assembled curvature systems, solved systems, and evaluations of
        the loss at trial points.
    alpha, beta, effective_parameters : float or None
        With ``regularize=Evidence()``: the precisions of prior and noise after the
        iteration, and the gamma of their update.
    validation_loss : float or None
        The mean loss of the held-out samples after the iteration, without l2; None without
        held-out samples.
    curvature_samples : int or None
        The samples of the last matrix, where `LevenbergMarquardt` may take a part of them.
    """

    iteration: int
    loss: float
    gradient_norm: float
    step_norm: float
    damping: float | None
    gain_ratio: float | None
    solver: str
    rank: int | None
    rcond: float | None
    seconds: float
    accepted: bool
    rejections: int
    assemblies: int
    factorisations: int
    evaluations: int
    alpha: float | None = None
    beta: float | None = None
    effective_parameters: float | None = None
    validation_loss: float | None = None
    curvature_samples: int | None = None

    @property
    def theta(self) -> NDArray[np.float64]:
        """The parameters after the iteration, shape (N,), read-only, valid inside the callback.

        Raises
        ------
        AttributeError
            Outside a callback: a history does not keep the parameters of every iteration.
        """
        theta: NDArray[np.float64] | None = self.__dict__.get("_theta")
        if theta is None:
            raise AttributeError("record.theta is there while the callbacks run: copy it there")
        return theta

    @contextlib.contextmanager
    def showing(self, theta: NDArray[np.float64]) -> Iterator[None]:
        """Make `theta` readable inside the block."""
        shown = theta.view()
        shown.flags.writeable = False
        self.__dict__["_theta"] = shown
        try:
            yield
        finally:
            del self.__dict__["_theta"]

    def __getitem__(self, name: str) -> Any:
        """Return the field `name`."""
        try:
            return getattr(self, name)
        except AttributeError:
            raise KeyError(name) from None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary of plain numbers and strings."""
        return asdict(self)


class History(list[Record]):
    """The records of a run: a list."""

    def to_frame(self) -> Any:
        """Return a pandas ``DataFrame`` with a row for each iteration and a column for each field.

        Returns
        -------
        pandas.DataFrame
            The index is the iteration. A value that the method does not have (None) is NaN, or
            missing in the integer column `rank`.

        Raises
        ------
        ImportError
            If pandas is not installed; the extra ``sklearn`` includes it.

        Examples
        --------
        >>> import fastggn as fg
        >>> problem = fg.Problem(fg.MLP((2, 2, 1)), *fg.data.xor())
        >>> frame = fg.train(problem, seed=0, max_iter=3).history.to_frame()
        >>> frame["loss"].is_monotonic_decreasing
        True
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError(
                "a history as a frame needs pandas: pip install 'fastggn[sklearn]'"
            ) from error
        columns = {
            column.name: [getattr(record, column.name) for record in self]
            for column in fields(Record)
        }
        frame = pandas.DataFrame(columns).set_index("iteration")
        optional = ("damping", "gain_ratio", "rcond", "validation_loss")
        return frame.astype({**dict.fromkeys(optional, "float64"), "rank": "Int64"})


@dataclass(frozen=True, eq=False, repr=False)
class TrainResult:
    """The end of a training run.

    Attributes
    ----------
    theta : (N,) ndarray
        The last accepted parameters, or `theta0` if no step was accepted. With early stopping
        it is `best_theta`, for every status.
    loss : float
        The objective at `theta`, with l2.
    gradient_norm : float
        2-norm of the gradient at `theta`.
    n_iter : int
        The number of iterations, including a last one without an accepted step.
    status : str
        The reason for the end of the run: "converged_gradient", "converged_loss", "converged_step",
        "target_reached", "max_iter", "max_time", "interrupted", "damping_limit", "diverging",
        "early_stopped" or "failed".
    message : str
        The status in words, with the numbers behind it.
    history : History
        A list with one record for each iteration; ``history.to_frame()`` is a pandas frame.
    initial_loss : float
        The objective at `theta0`.
    solver : str
        The solver of the method's systems: "cholesky", "dual", "qr" or "lsqr", "trust_region" or
        "steihaug" (Newton), "gradient", "adam" or "lbfgs"; with "auto" the solver of the last
        method.
    solver_reason : str
        The reason for the choice of the solver.
    seconds : float
        The time of the run, with its parts before a checkpoint.
    unsaved : str
        The reason why the last state is not in the checkpoint; empty if it is there, or without
        checkpoint.
    evidence : EvidenceEstimate or None
        With ``regularize=Evidence()``: alpha, beta, the effective number of parameters and
        the log evidence at `theta`; None without an iteration, or where its
        curvature is not finite.
    best_theta : (N,) ndarray or None
        The parameters with the lowest validation loss. This field and the next two are None
        without validation samples.
    best_validation_loss : float or None
        The lowest validation loss.
    best_iter : int or None
        The iteration of `best_theta`; 0 for `theta0`.
    initial_validation_loss : float or None
        The validation loss at `theta0`.
    """

    theta: NDArray[np.float64]
    loss: float
    gradient_norm: float
    n_iter: int
    status: Status
    message: str
    history: History
    initial_loss: float
    solver: str
    solver_reason: str
    seconds: float
    unsaved: str = ""
    evidence: EvidenceEstimate | None = None
    best_theta: NDArray[np.float64] | None = None
    best_validation_loss: float | None = None
    best_iter: int | None = None
    initial_validation_loss: float | None = None

    def __repr__(self) -> str:
        """Return the status, the iterations and the loss."""
        return (
            f"TrainResult: {self.status} after {self.n_iter} iterations, loss {self.loss:.6g} "
            f"(first {self.initial_loss:.6g}), gradient {self.gradient_norm:.3g}: {self.message}"
        )

    @property
    def converged(self) -> bool:
        """Whether a convergence test or the loss target ended the run."""
        return self.status == "target_reached" or self.status.startswith("converged")

    def plot(self, *, path: str | None = None) -> Any:
        """Return a matplotlib figure of the training curves; see `figures.curves.plot_curves`.

        Parameters
        ----------
        path : str, optional
            The file for the figure.
        """
        from fastggn.figures.curves import plot_curves

        return plot_curves(
            self.history,
            initial_loss=self.initial_loss,
            initial_validation_loss=self.initial_validation_loss,
            best_iter=self.best_iter,
            path=path,
        )


def unless_interrupted(result: TrainResult) -> TrainResult:
    """Return a run of several; raise KeyboardInterrupt where Ctrl-C or a signal ended it."""
    if result.status == "interrupted" and not result.message.startswith(ASKED):
        raise KeyboardInterrupt(result.message)
    return result
