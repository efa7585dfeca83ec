"""What a training run hands back: one record an iteration, and the result."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fastggn.training.regularisation.evidence import Evidence

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


@dataclass(frozen=True)
class Record:
    """One iteration of a training run; its fields also answer to ``record["loss"]``.

    Callbacks can read the parameters, too, as ``record.theta``.

    Attributes
    ----------
    iteration : int
        1 for the first iteration.
    loss : float
        The objective after the iteration, over all samples, l2 included.
    gradient_norm : float
        2-norm of the gradient after the iteration.
    step_norm : float
        2-norm of the change of theta; where nothing was accepted, of the last step tried.
    damping : float or None
        The lambda of the last step tried (method "lm").
    gain_ratio : float or None
        Actual over predicted decrease of the loss; the actual one is taken from the gradients
        at both ends of the step where it is below the rounding of the loss.
    solver : str
        What made the step: a solver's name, "trust_region", "steihaug", "gradient", "adam",
        "negative_curvature" or "noise".
    rank : int or None
        Numerical rank of the system, where the solver reveals it.
    rcond : float or None
        Reciprocal condition number of the system, where the solver estimates it; a lower bound
        where the damping alone makes it large (above 1e-8).
    seconds : float
        Time since the start of the run.
    accepted : bool
        False where theta did not iteration.
    rejections : int
        Trial steps refused in this iteration.
    assemblies, factorisations, evaluations : int
        Since the start of the run: curvature systems prepared, systems solved, and losses
        evaluated at trial points.
    alpha, beta, effective_parameters : float or None
        With ``regularization="bayesian"``: the precisions of prior and noise after the
        iteration, and the gamma that they were updated with.
    validation_loss : float or None
        The mean loss of the validation samples after the iteration, without l2; None where there
        are none.
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

    @property
    def theta(self) -> NDArray[np.float64]:
        """The parameters after the iteration, shape (N,), read-only; of no use after the callback.

        Raises
        ------
        AttributeError
            Where no callback runs: a history does not keep the parameters of every iteration.
        """
        theta: NDArray[np.float64] | None = self.__dict__.get("_theta")
        if theta is None:
            raise AttributeError("record.theta is there while the callbacks run: copy it there")
        return theta

    @contextlib.contextmanager
    def showing(self, theta: NDArray[np.float64]) -> Iterator[None]:
        """Let `theta` be read inside the block."""
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
        """Return a pandas ``DataFrame``: a row an iteration, a column a field.

        Returns
        -------
        pandas.DataFrame
            Its index is the iteration. What a method does not have (None) is NaN, and missing in
            the column of integers `rank`.

        Raises
        ------
        ImportError
            If pandas is not installed: it comes with the extra ``sklearn``.

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


@dataclass(frozen=True, eq=False)
class TrainResult:
    """The end of a training run.

    Attributes
    ----------
    theta : (N,) ndarray
        The last accepted parameters; `theta0` itself where no step was accepted. With early
        stopping (`patience`) `best_theta`, whatever ended the run.
    loss : float
        The objective at `theta`, l2 included.
    gradient_norm : float
        2-norm of the gradient at `theta`.
    n_iter : int
        Iterations done, a last one without an accepted step included.
    status : str
        Why the run ended: "converged_gradient", "converged_loss", "converged_step",
        "target_reached", "max_iter", "max_time", "interrupted", "damping_limit", "diverging",
        "early_stopped" or "failed".
    message : str
        The same in words, with the numbers that decided.
    history : History
        A list of one record an iteration; ``history.to_frame()`` is a pandas frame.
    initial_loss : float
        The objective at `theta0`.
    solver : str
        What solves the method's systems: "cholesky", "dual", "qr" or "lsqr", "trust_region" or
        "steihaug" (Newton), "gradient", "adam" or "lbfgs"; with "auto" that of the last method.
    solver_reason : str
        Why it was chosen.
    seconds : float
        Time the run took, its parts before a checkpoint included.
    unsaved : str
        Why the last state is not in the checkpoint; empty where it is, or none was asked for.
    evidence : Evidence or None
        With ``regularization="bayesian"``: alpha, beta, the effective number of parameters and
        the log evidence at `theta`; None where no iteration was made.
    best_theta : (N,) ndarray or None
        The parameters of the lowest validation loss; None without validation samples, as the two
        below.
    best_validation_loss : float or None
        The lowest validation loss.
    best_iter : int or None
        The iteration after which it was found; 0 for `theta0`.
    """

    theta: NDArray[np.float64]
    loss: float
    gradient_norm: float
    n_iter: int
    status: Status
    message: str
    history: History = field(repr=False)
    initial_loss: float
    solver: str
    solver_reason: str
    seconds: float
    unsaved: str = ""
    evidence: Evidence | None = None
    best_theta: NDArray[np.float64] | None = field(default=None, repr=False)
    best_validation_loss: float | None = None
    best_iter: int | None = None

    @property
    def converged(self) -> bool:
        """Whether a convergence test or the loss target ended the run."""
        return self.status == "target_reached" or self.status.startswith("converged")

    def plot(self, *, path: str | None = None) -> Any:
        """Return a matplotlib figure of the training curves; see `plotting.curves.plot_curves`.

        Parameters
        ----------
        path : str, optional
            Where to write the figure.
        """
        from fastggn.figures.curves import plot_curves

        return plot_curves(
            self.history, initial_loss=self.initial_loss, best_iter=self.best_iter, path=path
        )
