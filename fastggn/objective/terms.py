"""The terms of a problem of equations: points, a residual of the channels, weights and a loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.data.sources import ArraySource, as_source, check_rows
from fastggn.network.channels import Channel
from fastggn.network.losses import Loss
from fastggn.objective.bound_terms import (
    BoundTerm,
    Faults,
    checked_loss,
    checked_names,
    point_weights,
)
from fastggn.objective.channels import Names
from fastggn.objective.equations import Equation, Observed, Residual, advised
from fastggn.objective.residual_checks import check_residual
from fastggn.runtime.errors import as_real, check_finite, check_positive, hinted

FloatArray = NDArray[np.float64]


class Term:
    """Residuals at points: an equation for the outputs and their derivatives, or data.

    A `ResidualProblem` takes the weighted sum of the mean losses of its terms. A term itself does
    no work; the problem checks it.

    Parameters
    ----------
    X : array_like, shape (T, n_0)
        The points, by rows.
    residual : callable, optional
        ``residual(x, u)`` or ``residual(x, u, k)``: a vectorised NumPy function that returns (B,),
        (B, n_r), or a tuple of arrays (B,), for points x of shape (B, n_0). ``u.value``,
        ``u.d("x")`` and ``u.d("x", "y")`` (inputs by name or index) are the output and its first
        and second derivatives, each (B,); with several outputs ``u[o].value`` and so on.
        ``k["c"]`` is a coefficient of the problem. Each point stands for itself: B is not T, and
        a residual must not mix points.
    weight : float or mapping, default 1
        The factor of the mean loss of this term; positive. For data a mapping gives each kind a
        weight: ``{(): 1.0, ("x",): 0.1}``, by which the squares of its residuals are
        multiplied (1 where it has none). One over the variance of the noise is a good choice, or,
        without noise, one over the variance of the data.
    targets : array_like, shape (T,) or (T, n_L), optional
        Values of the outputs, instead of `residual`.
    derivatives : mapping, optional
        Derivatives of the outputs, as data: ``{("x",): dY_dx}`` by inputs, arrays of the shape of
        `targets`. They stand beside `targets`, or alone.
    loss : str or SeparableLoss, default "squared"
        The loss of the residuals: squared, huber, cauchy, smooth_lp or blake_zisserman.
    jacobian : callable, optional
        The derivative of `residual`, for functions that have no rule for it (np.abs, np.where,
        tables, ...). It takes the arguments of `residual` and returns a mapping from channels (a
        tuple of inputs, ``()`` for the value) and names of coefficients to derivatives (B,) or
        (B, n_r): ``{(): 2 * u.value, ("x", "x"): 1.0, "c": ...}``; with several outputs
        ``{0: {(): ...}, 1: {("t",): ...}, "c": ...}``. What is not named is 0. Differences of
        `residual` check it when the problem is made.
    sample_weight : array_like, shape (T,), optional
        Non-negative weights of the points; the term takes the weighted mean.

    Examples
    --------
    >>> import numpy as np
    >>> from fastggn.objective.terms import Term
    >>> x = np.linspace(0, 1, 20)[:, None]
    >>> decay = Term(x, lambda x, u, k: u.d("t") + k["rate"] * u.value)
    >>> bound = decay.bind(("t",), 1, 1, {"rate": 2.0})
    >>> bound.channels
    ((), (0,))
    """

    @hinted
    def __init__(
        self,
        X: Any,
        residual: Callable[..., Any] | None = None,
        *,
        weight: float | Mapping[Any, float] = 1.0,
        targets: ArrayLike | None = None,
        derivatives: Mapping[Any, ArrayLike] | None = None,
        loss: str | Loss = "squared",
        jacobian: Callable[..., Any] | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> None:
        self.X, self.residual, self.weight = X, residual, weight
        self.targets, self.derivatives = targets, derivatives
        self.loss, self.jacobian, self.sample_weight = loss, jacobian, sample_weight

    def __repr__(self) -> str:
        kind = "data" if self.residual is None else getattr(self.residual, "__name__", "residual")
        return f"Term({kind}, points of shape {np.shape(self.X)}, weight {self.weight})"

    def bind(
        self,
        inputs: Sequence[str] | None,
        n_inputs: int,
        n_outputs: int,
        coefficients: Mapping[str, float] | None = None,
        *,
        name: str = "term",
        least: int = 1,
    ) -> BoundTerm:
        """Return the term for a network, after all checks.

        Parameters
        ----------
        inputs : sequence of str, or None
            The names of the inputs; None where residuals use indices.
        n_inputs, n_outputs : int
            n_0 and n_L.
        coefficients : mapping of str to float, optional
            The coefficients of the problem with their start values.
        name : str
            The term in messages.
        least : int
            The smallest number of points: 0 for a rank that may have none.

        Raises
        ------
        ValueError
            With every fault of the term, one a line.
        """
        faults: list[str] = []
        names = checked_names(inputs, n_inputs, n_outputs, coefficients or {}, faults)
        bound = None if faults else self._bound(names, coefficients or {}, name, least, faults)
        if faults or bound is None:
            raise ValueError("\n".join(faults))
        return bound

    def _bound(
        self,
        names: Names,
        coefficients: Mapping[str, float],
        name: str,
        least: int,
        faults: list[str],
    ) -> BoundTerm | None:
        """Return the term for a network; None after faults."""
        noted = Faults(name, faults)
        source = noted.of(lambda: self._source(names.n_inputs, least))
        n_points = None if source is None else source.shape[0]
        loss = noted.of(lambda: checked_loss(self.loss))
        roots = noted.of(lambda: self._roots(names))
        weight = noted.of(lambda: 1.0 if isinstance(self.weight, Mapping)
                          else check_positive("weight", self.weight))  # fmt: skip
        if n_points is None:
            return None
        weights = noted.of(lambda: point_weights(self.sample_weight, n_points, least))
        noted.of(self._check_parts)
        if noted.count or source is None or loss is None or roots is None or weight is None:
            return None
        model: Residual
        if self.residual is None:
            model = Observed(names, roots)
            targets = noted.of(lambda: self._targets(names, roots, n_points))
        else:
            k = np.array([float(coefficients[c]) for c in names.coefficients])
            found = noted.of(lambda: self._equation(names, source, k))
            if found is None:
                return None
            model, width = found
            targets = np.broadcast_to(0.0, (n_points, width))
        if targets is None:
            return None
        return BoundTerm(source, model, targets, weight, weights, loss)

    def _source(self, n_inputs: int, least: int) -> ArraySource:
        source = as_source("X", self.X, n_inputs, least=least)
        check_rows("X", source)
        return source

    def _check_parts(self) -> None:
        """Refuse a term that is neither an equation nor data, or both."""
        data = self.targets is not None or self.derivatives is not None
        if self.residual is None and not data:
            raise ValueError("give a residual, or targets, or derivatives")
        if self.residual is None and self.jacobian is not None:
            raise ValueError("jacobian belongs to a residual")
        if self.residual is not None:
            if data:
                raise ValueError("targets and derivatives are data: make them a term of their own")
            if isinstance(self.weight, Mapping):
                raise ValueError("a mapping as weight belongs to targets and derivatives")
            for part, function in (("residual", self.residual), ("jacobian", self.jacobian)):
                if function is not None and not callable(function):
                    raise TypeError(f"{part} must be a function, not {type(function).__name__}")

    def _equation(self, names: Names, source: ArraySource, k: FloatArray) -> tuple[Equation, int]:
        """Return the traced and checked equation, and the number of its residuals."""
        rng = np.random.default_rng(0)
        assert self.residual is not None
        equation = Equation(names, self.residual, self.jacobian)
        n_points = source.shape[0]
        shape = (7, names.n_inputs)
        x = np.resize(source.rows(0, min(7, n_points)), shape) if n_points else np.zeros(shape)
        few = np.full((7, names.n_outputs, 1), 0.5)
        try:
            equation.trace(x, k, rng)
            few = np.repeat(few, len(equation.channels), axis=2)
            width = equation.evaluate(x, few, k).shape[1]
            check_residual(equation, source, k, rng)
            equation.judge(source, k, rng)
        except (ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
            raise self._explained(error, names, source, k) from error
        return equation, width

    def _explained(
        self, error: Exception, names: Names, source: ArraySource, k: FloatArray
    ) -> Exception:
        """Return the error of a residual, with advice where it works on all points together."""
        n_points = source.shape[0]
        if "broadcast" not in str(error) or not 7 != n_points <= 100_000:
            return advised(error)
        assert self.residual is not None
        try:
            whole = Equation(names, self.residual, self.jacobian)
            whole.trace(source.rows(0, n_points), k, np.random.default_rng(0))
        except Exception:  # noqa: BLE001 - any: then the first error stands
            return error
        return ValueError(
            f"the residual works on all {n_points} points together only ({error}): it is called on "
            "blocks of points, and must compute every value from x; data of the points are targets"
        )

    def _roots(self, names: Names) -> dict[Channel, float]:
        """Return the roots of the weights of data by channel."""
        weights = self.weight if isinstance(self.weight, Mapping) else {}
        keys: dict[Channel, float] = {} if self.targets is None else {(): 1.0}
        for by in self.derivatives or {}:
            channel = _channel(names, by)
            if not channel or channel in keys:
                what = "the value: pass it as targets" if not channel else f"{by!r} twice"
                raise ValueError(f"derivatives holds {what}")
            keys[channel] = 1.0
        for by, weight in weights.items():
            channel = _channel(names, by)
            if channel not in keys:
                raise ValueError(f"weight has {by!r}, for which there are no data")
            keys[channel] = math.sqrt(check_positive(f"weight[{by!r}]", weight))
        return keys

    def _targets(self, names: Names, roots: Mapping[Channel, float], n_points: int) -> FloatArray:
        """Return the data times their root weights, shape (T, n_r)."""
        given = {} if self.targets is None else {"targets": self.targets}
        given |= {f"derivatives[{by!r}]": data for by, data in (self.derivatives or {}).items()}
        parts, wrong = [], []
        for (label, data), root in zip(given.items(), roots.values(), strict=True):
            array = as_real(label, data)
            wanted = (n_points, names.n_outputs)
            if array.shape == (n_points,) and names.n_outputs == 1:
                array = array[:, None]
            if array.shape != wanted:
                wrong.append(f"{label} must have shape {wanted}, got {np.shape(data)}")
                continue
            check_finite(label, array)
            parts.append(root * array)
        if wrong:
            raise ValueError("; ".join(wrong))
        return np.concatenate(parts, axis=1)


def with_gradients(
    X: Any, Y: FloatArray, gradients: FloatArray, loss: str | Loss, weights: ArrayLike | None
) -> Term:
    """Return the term of values Y and of gradients (T, n_L, n_0), over their mean squares."""
    squares = np.mean(np.square(gradients), axis=(0, 1))
    return Term(
        X,
        targets=Y,
        derivatives={(j,): gradients[:, :, j] for j in range(squares.size)},
        weight={(j,): 1.0 / square for j, square in enumerate(squares) if square > 0.0},
        loss=loss,
        sample_weight=weights,
    )


def bind_terms(
    terms: Sequence[Term],
    *,
    inputs: Sequence[str] | None,
    n_inputs: int,
    n_outputs: int,
    coefficients: Mapping[str, float] | None = None,
    least: int = 1,
) -> list[BoundTerm]:
    """Return the terms of a problem for its network (see `Term.bind`).

    Raises
    ------
    TypeError
        If an entry is not a `Term`.
    ValueError
        With every fault of every term, one a line; a coefficient that no term reads is one.
    """
    terms = [terms] if isinstance(terms, Term) else list(terms)
    for number, term in enumerate(terms):
        if not isinstance(term, Term):
            raise TypeError(f"terms[{number}] must be a Term, not {type(term).__name__}")
    if not terms:
        raise ValueError("terms is empty: give at least one Term")
    start = dict(coefficients or {})
    faults: list[str] = []
    names = checked_names(inputs, n_inputs, n_outputs, start, faults)
    if faults:
        raise ValueError("\n".join(faults))
    found = [term._bound(names, start, f"terms[{number}]", least, faults)
             for number, term in enumerate(terms)]  # fmt: skip
    bound = [term for term in found if term is not None]
    if not faults:
        used = {name for term in bound for name in term.used}
        unused = [name for name in start if name not in used]
        if unused:
            faults.append(f"coefficients: no term reads {', '.join(map(repr, unused))}")
    if faults:
        raise ValueError("\n".join(faults))
    return bound


def _channel(names: Names, by: Any) -> Channel:
    return names.channel(by if isinstance(by, tuple) else (by,))
