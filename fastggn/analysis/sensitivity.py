"""The response of theta and of the predictions to a perturbation of the targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.analysis.magnitudes import finite
from fastggn.analysis.plain import plain
from fastggn.objective.kinds import check_samples
from fastggn.objective.problem import Problem
from fastggn.runtime.comm import require_serial
from fastggn.solvers.null_space import DenseNullSpace
from fastggn.training.regularisation.null_space import NullSpace

FloatArray = NDArray[np.float64]
EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class TargetSensitivity:
    """The linear response of a stationary point to its targets.

    Attributes
    ----------
    theta_response : ndarray, shape (N, T n_L)
        d theta / dY, columns sample by sample; of least norm where directions are undetermined.
    prediction_response : ndarray, shape (T n_L, T n_L)
        d prediction / dY at the samples.
    new_response : ndarray, shape (T_new n_L, T n_L), or None
        The same at other inputs.
    undetermined : int
        Dimension of the null space of the curvature: directions in which theta is not a function
        of the targets.
    theta_norm, prediction_norm : float
        Largest singular values of the responses; `theta_norm` is inf where directions are
        undetermined.
    new_norm : float or None
        The same at the other inputs: inf where an undetermined direction moves a prediction there.
    """

    theta_response: FloatArray
    prediction_response: FloatArray
    new_response: FloatArray | None
    undetermined: int
    theta_norm: float
    prediction_norm: float
    new_norm: float | None

    @property
    def least_theta_norm(self) -> float:
        """Largest singular value of the response of least norm."""
        return float(np.linalg.norm(self.theta_response, 2))

    def to_dict(self) -> dict[str, Any]:
        """Return the norms as plain values, an infinite one as None."""
        norms = ("theta_norm", "least_theta_norm", "prediction_norm", "new_norm")
        found = plain(self, "undetermined", *norms)
        return {n: v if v is not None and np.isfinite(v) else None for n, v in found.items()}

    def __str__(self) -> str:
        lines = [
            f"{self.undetermined} directions of theta are undetermined by the targets",
            f"  |d theta / dY|             {self.theta_norm:.4g}"
            f" (response of least norm: {self.least_theta_norm:.4g})",
            f"  |d prediction / dY|        {self.prediction_norm:.4g}",
        ]
        if self.new_norm is not None:
            lines.append(f"  |d new prediction / dY|    {self.new_norm:.4g}")
        return "\n".join(lines)


def target_sensitivity(
    problem: Problem,
    theta: ArrayLike,
    *,
    regularizer: NullSpace | None = None,
    X_new: ArrayLike | None = None,
) -> TargetSensitivity:
    """Return d theta / dY and d prediction / dY at a stationary point.

    With H the Hessian of the objective (l2 included), ``H dtheta = (1/T) J^T dY``. Where H is
    singular theta is no function of Y; a `fastggn.NullSpace` makes it one by
    ``H + gamma N N^T``, or at gamma = inf by H on the range of the GGN. At an exact fit the
    response is then ``J^+``.

    Parameters
    ----------
    problem : Problem
        With the squared loss; a few thousand parameters at most (N x N arrays).
    theta : array_like, shape (N,)
        A stationary point, without a test.
    regularizer : NullSpace, optional
        With its null space taken at theta.
    X_new : array_like, shape (T_new, n_0), optional
        Other inputs for predictions.

    Raises
    ------
    TypeError
        If `problem` has equations, or `regularizer` is not a NullSpace.
    ValueError
        If the loss is not the squared one, or theta or X_new is not valid.
    """
    check_samples(problem, "target_sensitivity", "laplace and coefficient_errors tell the spread")
    if problem.loss_function.name != "squared":
        raise ValueError(f"problem must have the squared loss, got {problem.loss_function.name!r}")
    if regularizer is not None and not isinstance(regularizer, NullSpace):
        kind = type(regularizer).__name__
        raise TypeError(f"regularizer must be a fastggn.NullSpace or None, not {kind}")
    require_serial(problem.comm, "target_sensitivity")
    jacobian = problem.jacobian(theta).to_dense()
    fresh = None if X_new is None else _jacobian_at(problem, theta, X_new)
    share = np.repeat(problem.relative_weights / problem.n_samples, problem.n_outputs)
    scale = float(getattr(problem.loss_function, "scale", 1.0))
    pull = jacobian.T * (share / scale**2)
    inverse, null = _inverse(problem, theta, regularizer)
    response = inverse @ pull
    undetermined = null.shape[1]
    new_response, new_norm = None, None
    if fresh is not None:
        new_response = fresh @ response
        new_norm = float(np.linalg.norm(new_response, 2))
        if undetermined and np.abs(fresh @ null).max() > np.sqrt(EPS) * np.abs(fresh).max():
            new_norm = np.inf
    predictions = jacobian @ response
    return TargetSensitivity(
        theta_response=response,
        prediction_response=predictions,
        new_response=new_response,
        undetermined=undetermined,
        theta_norm=np.inf if undetermined else float(np.linalg.norm(response, 2)),
        prediction_norm=float(np.linalg.norm(predictions, 2)),
        new_norm=new_norm,
    )


def _inverse(
    problem: Problem, theta: ArrayLike, regularizer: NullSpace | None
) -> tuple[FloatArray, FloatArray]:
    """Return the inverse of the curvature, and a basis of its undetermined directions."""
    hessian = problem.hessian(theta)
    if regularizer is None:
        return _pseudo_inverse(hessian)
    space = DenseNullSpace(problem.at(theta))
    if regularizer.gamma < np.inf:
        return _pseudo_inverse(hessian + regularizer.gamma * space.basis @ space.basis.T)
    rows = space.row_basis
    inner, null = _pseudo_inverse(rows.T @ hessian @ rows)
    return rows @ inner @ rows.T, rows @ null


def _pseudo_inverse(matrix: FloatArray) -> tuple[FloatArray, FloatArray]:
    values, vectors = np.linalg.eigh(finite(matrix, "the curvature"))
    kept = np.abs(values) > values.size * EPS * np.abs(values).max(initial=0.0)
    inside = vectors[:, kept]
    return (inside / values[kept]) @ inside.T, vectors[:, ~kept]


def _jacobian_at(problem: Problem, theta: ArrayLike, X: ArrayLike) -> FloatArray:
    count = np.shape(X)[0] if np.ndim(X) else 0
    other = Problem(problem.network, X, np.zeros((count, problem.n_outputs)))
    return other.jacobian(theta).to_dense()
