"""Limited-memory BFGS steps on all samples: cheap steps, one gradient each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from fastggn.training.resumable import Resumable, State
from fastggn.training.step import Choice, Ending, Iteration, Method, Work, norm

if TYPE_CHECKING:
    from fastggn.objective.point import Point
    from fastggn.objective.problem import Problem


FloatArray = NDArray[np.float64]

PAIRS = 10  # of method "auto"
# The constants of the weak Wolfe conditions, and the trials of a line search.
DECREASE, SLOPE, TRIALS = 1e-4, 0.9, 20
# Pairs with less curvature, relative to |y|^2, are omitted.
LEAST_CURVATURE = 2.2e-16


class _LastRows:
    """The last rows appended, contiguous in a buffer that is copied from time to time."""

    def __init__(self, rows: FloatArray, most: int) -> None:
        self._most = most
        self._buffer = np.empty((2 * most, rows.shape[1]))
        self._first, self._end = 0, rows.shape[0]
        self._buffer[: self._end] = rows

    @property
    def rows(self) -> FloatArray:
        """The rows (k, N), k at most `most`, valid until the next `append`."""
        return self._buffer[self._first : self._end]

    def append(self, row: FloatArray) -> None:
        """Append a row, in place of the first of `most` rows."""
        if self._end - self._first == self._most:
            self._first += 1
        if self._end == self._buffer.shape[0]:
            kept = self._end - self._first
            self._buffer[:kept] = self._buffer[self._first : self._end]
            self._first, self._end = 0, kept
        self._buffer[self._end] = row
        self._end += 1


class Memory(Resumable):
    """The last pairs of steps and changes of the gradient, and their inverse Hessian.

    Its product is the compact form of Byrd, Nocedal and Schnabel (1994, Eq. 2.6): four products
    with thin matrices instead of a loop over the pairs.
    """

    def __init__(self, n_params: int, most: int = PAIRS) -> None:
        self._n_params = n_params
        self._most = most
        self.clear()

    def clear(self) -> None:
        """Remove all pairs."""
        none = np.empty((0, self._n_params))
        self._s, self._y = _LastRows(none, self._most), _LastRows(none, self._most)
        self._r = np.zeros((0, 0))
        self._yy = np.zeros((0, 0))

    @property
    def empty(self) -> bool:
        """Whether the memory has no pair."""
        return self._r.shape[0] == 0

    def add(self, s: FloatArray, y: FloatArray) -> None:
        """Add a step (N,) and its change of the gradient, if the curvature is positive."""
        if not float(s @ y) > LEAST_CURVATURE * float(y @ y):
            return
        first = 1 if self._r.shape[0] == self._most else 0
        self._s.append(s)
        self._y.append(y)
        self._r = _bordered(self._r[first:, first:], self._s.rows @ y)
        self._yy = _bordered(self._yy[first:, first:], self._y.rows @ y)
        self._yy[-1] = self._yy[:, -1]

    def times(self, g: FloatArray) -> FloatArray:
        """Return the inverse Hessian times g (N,), or g without pairs."""
        if self.empty:
            return np.array(g)
        s, y, curvature = self._s.rows, self._y.rows, self._r.diagonal()
        scale = curvature[-1] / self._yy[-1, -1]
        a, _ = lapack.dtrtrs(self._r, s @ g)
        inner = curvature * a + scale * (self._yy @ a - y @ g)
        b, _ = lapack.dtrtrs(self._r, inner, trans=1)
        return np.asarray(scale * (g - y.T @ a) + s.T @ b)

    def state(self) -> State:
        """Return the pairs and their products."""
        return {"s": self._s.rows.copy(), "y": self._y.rows.copy(), "r": self._r, "yy": self._yy}

    def restore(self, state: State) -> None:
        """Restore the pairs."""
        s, y, r, yy = (np.asarray(state[name], np.float64) for name in ("s", "y", "r", "yy"))
        if s.ndim != 2 or s.shape[1] != self._n_params or s.shape != y.shape:
            raise ValueError("the pairs are of another number of parameters")
        if s.shape[0] > self._most:
            raise ValueError(f"there are {s.shape[0]} pairs, more than {self._most}")
        if r.shape != 2 * s.shape[:1] or yy.shape != r.shape:
            raise ValueError("the products of the pairs are of another number of pairs")
        # The memory order decides the bits of products.
        self._s, self._y = _LastRows(s, self._most), _LastRows(y, self._most)
        self._r, self._yy = np.asfortranarray(r), np.asfortranarray(yy)


class QuasiNewton(Method):
    """L-BFGS (Nocedal 1980; Liu and Nocedal 1989), with up to `burst` steps in an iteration."""

    _resumes = ("memory",)

    solver = Choice("lbfgs", "gradients of all samples")

    def __init__(
        self, problem: Problem, work: Work, *, memory: int = PAIRS, burst: int = 1
    ) -> None:
        self._problem = problem
        self._work = work
        self._burst = burst
        self.memory = Memory(problem.n_params, memory)

    def step(self, point: Point) -> Iteration:
        """Do up to `burst` steps, until no step lowers the loss."""
        start, gradient = point, point.gradient
        for _ in range(self._burst):
            found = self._step(point, gradient)
            if found is None and not self.memory.empty:
                self.memory.clear()
                found = self._step(point, gradient)
            if found is None:
                break
            new, new_gradient = found
            self.memory.add(new.theta - point.theta, new_gradient - gradient)
            point, gradient = new, new_gradient
        length = norm(point.theta - start.theta)
        stop = None
        if point is start:
            stop = Ending("converged_step", "no step along the gradient lowers the loss")
        return Iteration(point, length, "lbfgs", accepted=point is not start, stop=stop)

    def _step(self, point: Point, gradient: FloatArray) -> Any:
        """Return the next point and its gradient, or None if no step lowers the loss."""
        direction = -self.memory.times(gradient)
        slope = float(direction @ gradient)
        if not (slope < 0.0 and np.isfinite(slope)):
            return None
        length = min(1.0, 1.0 / norm(gradient)) if self.memory.empty else 1.0
        return self._search(point, direction, slope, length)

    def _search(self, point: Point, direction: FloatArray, slope: float, length: float) -> Any:
        """Return a point on the ray that meets the weak Wolfe conditions, or at least the first."""
        low, high, best = 0.0, np.inf, None
        loss = float(point.loss)
        for _ in range(TRIALS):
            self._work.evaluations += 1
            theta = point.theta + length * direction
            if not np.isfinite(theta).all():
                return best
            new = self._problem.at(theta)
            if not new.loss <= loss + DECREASE * length * slope:  # a NaN included
                high = length
                length = _shorter(low, length, loss, slope, float(new.loss))
                continue
            gradient = new.gradient
            ahead = float(gradient @ direction)
            if not np.isfinite(ahead):
                high, length = length, 0.5 * (low + length)
                continue
            best = new, gradient
            if ahead >= SLOPE * slope:
                return best
            low = length
            length = 0.5 * (low + high) if np.isfinite(high) else 2.0 * length
        return best


def _shorter(low: float, length: float, loss: float, slope: float, new: float) -> float:
    """Return the minimiser of the parabola through the trial, limited to the bracket."""
    width = length - low
    if low > 0.0 or not np.isfinite(new):
        return low + 0.5 * width
    rise = (new - loss) / length - slope
    return float(min(max(-0.5 * slope * length / rise, 0.1 * width), 0.5 * width))


def _bordered(matrix: FloatArray, column: FloatArray) -> FloatArray:
    """Return the matrix with one more column and a zero row below its other columns."""
    k = column.size
    out = np.zeros((k, k), order="F")
    out[:-1, :-1] = matrix
    out[:, -1] = column
    return out
