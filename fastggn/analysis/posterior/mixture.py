"""Several minima as one posterior: the mixture of their Laplace approximations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.analysis.posterior.gaussian import LaplacePosterior
from fastggn.analysis.posterior.laplace import laplace
from fastggn.objective.kinds import AnyProblem
from fastggn.training.restarts import RestartsResult

FloatArray = NDArray[np.float64]


class PosteriorMixture:
    """The even mixture of Laplace posteriors around several minima: a committee of networks.

    The posterior of a network has many maxima. Gaussian approximations of their evidences are too
    inaccurate for weights, as the highest one would take all the weight. So all members count
    alike.

    Source: MacKay (1995), "Probable networks and plausible predictions"; Thodberg (1996).

    Parameters
    ----------
    members : sequence of LaplacePosterior
        Of the same loss and number of outputs.

    Attributes
    ----------
    members : tuple of LaplacePosterior

    Raises
    ------
    TypeError, ValueError
        If there is no member, or one is no LaplacePosterior.

    Examples
    --------
    >>> import numpy as np
    >>> import fastggn as fg
    >>> X = np.linspace(-1, 1, 40)[:, None]
    >>> Y = np.sin(3 * X) + 0.1 * np.random.default_rng(0).standard_normal((40, 1))
    >>> problem = fg.Problem(fg.MLP((1, 8, 1)), X, Y)
    >>> runs = fg.train_restarts(problem, 3, regularize=fg.Evidence(per="unit"), max_iter=50)
    >>> mean, std = fg.PosteriorMixture.of_runs(problem, runs).predict(X)
    >>> mean.shape, std.shape
    ((40, 1), (40, 1))
    """

    def __init__(self, members: Sequence[LaplacePosterior]) -> None:
        self.members = tuple(members)
        if not self.members:
            raise ValueError("members must hold at least one LaplacePosterior, got none")
        for member in self.members:
            if not isinstance(member, LaplacePosterior):
                raise TypeError(
                    f"members must be LaplacePosterior objects, got {type(member).__name__}"
                )

    @classmethod
    def of_runs(cls, problem: AnyProblem, runs: RestartsResult) -> PosteriorMixture:
        """Return the mixture of the Laplace posteriors of all runs that did not fail.

        Parameters
        ----------
        problem : Problem or ResidualProblem
            The training problem, or other samples for the same network.
        runs : RestartsResult
            The outcome of `train_restarts`.
        """
        return cls([laplace(problem, run.theta, run.evidence) for run in runs.usable])

    def predict(self, X: Any, *, noise: bool = True) -> tuple[FloatArray, FloatArray]:
        """Return the mean and the standard deviation of the predictions, shapes (T, n_L).

        The variance is the mean of the members' variances and the variance of their means.

        Parameters
        ----------
        X : array_like, shape (T, n_0)
        noise : bool
            See `LaplacePosterior.predict`.
        """
        parts = [member.predict(X, noise=noise) for member in self.members]
        means = np.array([mean for mean, _ in parts])
        inside = np.mean([std**2 for _, std in parts], axis=0)
        return means.mean(axis=0), np.sqrt(inside + means.var(axis=0))

    def predict_proba(self, X: Any) -> FloatArray:
        """Return the mean of the members' moderated probabilities, shape (T, n_L).

        Raises
        ------
        ValueError
            If the loss is the squared one.
        """
        return np.asarray(np.mean([m.predict_proba(X) for m in self.members], axis=0))

    def log_likelihood(self, X: Any, Y: Any) -> float:
        """Return the mean over samples of ``log p(y | x)``, p the mean of the members' densities.

        Parameters
        ----------
        X : array_like, shape (T, n_0)
        Y : array_like
            Targets, as `Problem` takes them.
        """
        return float(np.mean(_log_mean(lambda m: m.log_likelihoods(X, Y), self.members)))


def _log_mean(
    value: Callable[[LaplacePosterior], FloatArray], members: Sequence[LaplacePosterior]
) -> FloatArray:
    logs = np.array([value(member) for member in members])
    return np.asarray(np.logaddexp.reduce(logs, axis=0) - np.log(len(members)))
