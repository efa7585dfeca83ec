"""The curvature H = G + S: its parts, largest eigenvalues along a run, and spectral density."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.linalg import LinearOperator, eigsh

from fastggn.analysis.critical.spectrum import lanczos_weights
from fastggn.analysis.magnitudes import finite, usable_point
from fastggn.analysis.plain import plain
from fastggn.objective.kinds import AnyProblem, as_problem
from fastggn.runtime.errors import as_float_vector, check_count, unknown_name

FloatArray = NDArray[np.float64]
Part = Literal["G", "S", "H"]
PARTS = ("G", "S", "H")
# Losses whose Gauss-Newton matrix is the Fisher matrix of their likelihood.
FISHER = ("squared", "softmax_cross_entropy", "logistic")
DENSE = 40  # parameters, up to which eigenvalues come from the dense matrix
ACCURACY = 1e-9  # of the largest eigenvalue, relative


def curvature(problem: AnyProblem, theta: ArrayLike, part: Part = "H") -> LinearOperator:
    """Return a part of the Hessian H = G + S of the objective, without an N x N matrix.

    Parameters
    ----------
    problem : Problem or ResidualProblem
    theta : array_like, shape (N,)
    part : {"G", "S", "H"}
        "G": the Gauss-Newton matrix with the weight decay; for the squared loss, softmax
        cross-entropy and the logistic loss it is the Fisher matrix of the likelihood. "S": the
        rest, the residuals times the curvature of the network. "H": the exact Hessian.

    Returns
    -------
    LinearOperator, shape (N, N)

    Raises
    ------
    ValueError
        If the part is unknown, or `theta` is not valid.
    """
    if part not in PARTS:
        raise unknown_name("part", part, PARTS)
    problem = as_problem(problem)
    if part == "H":
        return problem.hessian_operator(theta)
    if part == "G":
        return problem.ggn_operator(theta)
    return problem.hessian_operator(theta) - problem.ggn_operator(theta)


def part_name(problem: AnyProblem, part: Part) -> str:
    """Return the name of a part in words."""
    fisher = ", the Fisher matrix" if problem.loss_function.name in FISHER else ""
    return {
        "G": f"Gauss-Newton matrix{fisher}",
        "S": "Hessian less Gauss-Newton matrix",
        "H": "Hessian",
    }[part]


def largest_eigenvalues(
    problem: AnyProblem,
    theta: ArrayLike,
    part: Part = "H",
    count: int = 1,
    *,
    start: ArrayLike | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Return the largest eigenvalues of a part of the Hessian, and their eigenvectors.

    Parameters
    ----------
    problem : Problem or ResidualProblem
    theta : array_like, shape (N,)
    part : {"G", "S", "H"}
    count : int
        Their number, at most N.
    start : array_like, shape (N,), optional
        A start of the Lanczos iteration, such as an eigenvector at a point nearby.

    Returns
    -------
    values : ndarray, shape (count,), descending
        To 1e-9 of the largest one.
    vectors : ndarray, shape (N, count)

    Raises
    ------
    ValueError
        If `count` is above N.
    """
    n = problem.n_params
    if check_count("count", count, 1) > n:
        raise ValueError(f"count must be at most N = {n}, got {count}")
    usable_point(problem, as_float_vector("theta", theta, n))
    operator = curvature(problem, theta, part)
    if n <= DENSE or count > n // 2:
        matrix = finite(operator @ np.eye(n), "the curvature")
        values, vectors = np.linalg.eigh(0.5 * matrix + 0.5 * matrix.T)
    else:
        first = np.random.default_rng(0).standard_normal(n) if start is None else start
        finite(operator @ first, "the curvature")
        values, vectors = eigsh(operator, count, which="LA", v0=first, tol=ACCURACY)
    order = np.argsort(values)[::-1][:count]
    return values[order], vectors[:, order]


class CurvatureTrace:
    """A callback of `train` that follows the largest eigenvalues of the curvature.

    Parameters
    ----------
    problem : Problem or ResidualProblem
        The problem in training.
    parts : sequence of {"G", "S", "H"}
        The largest eigenvalue of "H" is the sharpness.
    every : int
        Iterations between two measurements.

    Attributes
    ----------
    iterations : list of int
    values : dict of list of float
        The largest eigenvalue of each part at these iterations.

    Examples
    --------
    >>> import fastggn as fg
    >>> from fastggn import analysis
    >>> X, Y = fg.data.xor()
    >>> problem = fg.Problem(fg.MLP((2, 2, 1)), X, Y)
    >>> trace = analysis.CurvatureTrace(problem, every=2)
    >>> result = fg.train(problem, seed=0, max_iter=4, callbacks=[trace])
    >>> trace.iterations
    [2, 4]
    """

    def __init__(
        self, problem: AnyProblem, parts: tuple[Part, ...] = ("G", "S", "H"), every: int = 1
    ) -> None:
        for part in parts:
            if part not in PARTS:
                raise unknown_name("part", part, PARTS)
        self._problem, self._every = problem, check_count("every", every, 1)
        self._starts: dict[str, FloatArray] = {}
        self.iterations: list[int] = []
        self.values: dict[Part, list[float]] = {part: [] for part in parts}

    def __call__(self, record: Any) -> None:
        """Measure after an iteration."""
        if record.iteration % self._every:
            return
        self.iterations.append(record.iteration)
        for part, found in self.values.items():
            start = self._starts.get(part)
            values, vectors = largest_eigenvalues(self._problem, record.theta, part, start=start)
            self._starts[part] = vectors[:, 0]
            found.append(float(values[0]))

    def plot(self, rate: float | None = None) -> Any:
        """Return a matplotlib figure; `rate` draws 2 / rate, gradient descent's bound."""
        from fastggn.figures.spectra import plot_curvature

        return plot_curvature(self.iterations, self.values, rate)


@dataclass(frozen=True, eq=False)
class SpectralDensity:
    """The distribution of the eigenvalues of a part of the Hessian, estimated.

    Attributes
    ----------
    name : str
        The matrix in words.
    nodes, weights : ndarray, shape (K,)
        Ritz values, ascending, and their shares, with the sum 1.
    n_params : int
        N.
    probes, depth : int
    """

    name: str
    nodes: FloatArray
    weights: FloatArray
    n_params: int
    probes: int
    depth: int

    def cumulative(self, x: ArrayLike) -> FloatArray:
        """Return the share of eigenvalues up to x; linear between the middles of the nodes."""
        middle = np.cumsum(self.weights) - 0.5 * self.weights
        return np.interp(np.asarray(x, dtype=np.float64), self.nodes, middle, left=0.0, right=1.0)

    def density(self, x: ArrayLike, width: float) -> FloatArray:
        """Return the density at x, smoothed by a normal curve of this standard deviation."""
        points = np.atleast_1d(np.asarray(x, dtype=np.float64))
        z = (points[:, None] - self.nodes) / width
        return np.asarray(np.exp(-0.5 * z**2) @ self.weights / (width * np.sqrt(2.0 * np.pi)))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return plain(self)

    def plot(self) -> Any:
        """Return a matplotlib figure of the shares up to each eigenvalue, on a logarithmic axis."""
        from fastggn.figures.spectra import plot_density

        return plot_density(self)


def spectral_density(
    problem: AnyProblem,
    theta: ArrayLike,
    part: Part = "H",
    *,
    probes: int = 20,
    depth: int = 200,
    seed: int = 0,
) -> SpectralDensity:
    """Estimate the distribution of the eigenvalues by stochastic Lanczos quadrature.

    Source: Ubaru, Chen and Saad (2017), "Fast estimation of tr(f(A)) via stochastic Lanczos
    quadrature". The standard error of a share p is about sqrt(2 p (1 - p) / (N probes)).

    Parameters
    ----------
    problem : Problem or ResidualProblem
    theta : array_like, shape (N,)
    part : {"G", "S", "H"}
    probes : int
        The number of random vectors.
    depth : int
        Lanczos steps for each of them, N at most; each is one product with the matrix. A cluster of
        eigenvalues is resolved to about 0.1 / depth of the range at its ends, and not inside.
    seed : int

    Returns
    -------
    SpectralDensity
    """
    n, rng = problem.n_params, np.random.default_rng(seed)
    count, steps = check_count("probes", probes, 1), min(check_count("depth", depth, 1), n)
    usable_point(problem, as_float_vector("theta", theta, n))
    operator = curvature(problem, theta, part)
    pairs = [lanczos_weights(operator, rng.standard_normal(n), steps) for _ in range(count)]
    nodes = np.concatenate([values for values, _ in pairs])
    weights = np.concatenate([shares for _, shares in pairs]) / count
    order = np.argsort(nodes, kind="stable")
    name = part_name(problem, part)
    return SpectralDensity(name, nodes[order], weights[order], n, count, steps)
