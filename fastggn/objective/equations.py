"""Residuals of an equation, and of data with derivatives, as functions of channels."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastggn.data.sources import SampleSource
from fastggn.network.channels import Channel, closed
from fastggn.objective.channels import Channels, Coefficients, Names
from fastggn.objective.duals import DualArray, broadcast, is_analytic, stack, variables

FloatArray = NDArray[np.float64]
Linearised = tuple[FloatArray, FloatArray]

_JUDGED = 2048  # points at once


# What the errors of Python and NumPy in a residual mean here.
ADVICE = {
    "Python scalars": "use the functions of NumPy, not those of math or float",
    "abstract array": "use the functions of NumPy, not those of JAX",
    "truth value": "if, max and min have no rule for their derivative: give it by jacobian=",
    "read-only": "write a = a + b instead of a += b",
    "has no attribute 'd'": 'a second derivative is u.d("x", "x")',
    "not callable": 'u.value, u.d("x") and k["c"] are numbers: no brackets behind them',
}


def advised(error: Exception) -> Exception:
    """Return an error of a residual with advice, where there is some."""
    for words, advice in ADVICE.items():
        if words in str(error):
            return TypeError(f"{error}: {advice}")
    return error


class Residual(Protocol):
    """Residuals of points, with derivatives by P = n_L C + K channels and coefficients.

    The variables are ordered by output, then channel (`o * C + c`), then the coefficients.
    """

    names: Names
    channels: tuple[Channel, ...]
    used: frozenset[str]
    by_rules: bool
    linear: bool

    def evaluate(self, x: FloatArray, channels: FloatArray, k: FloatArray) -> FloatArray:
        """Return the residuals, shape (B, n_r)."""
        ...

    def linearise(self, x: FloatArray, channels: FloatArray, k: FloatArray) -> Linearised:
        """Return the residuals and their derivatives, shape (B, n_r, P)."""
        ...

    def curvature(
        self, x: FloatArray, channels: FloatArray, k: FloatArray, cotangent: FloatArray
    ) -> FloatArray:
        """Return the second derivatives of cotangent . r, shape (B, P, P)."""
        ...


class Observed:
    """Values and derivatives that data give: the channels themselves, each times a root weight.

    The residuals go by channel as in `roots`, then by output.
    """

    used: frozenset[str] = frozenset()
    by_rules = True
    linear = True

    def __init__(self, names: Names, roots: Mapping[Channel, float]) -> None:
        self.names = names
        self.channels = closed(roots)
        self._index = [self.channels.index(channel) for channel in roots]
        self._roots = np.array(list(roots.values()))

    def evaluate(self, x: FloatArray, channels: FloatArray, k: FloatArray) -> FloatArray:
        """Return the weighted channels, shape (B, n_r)."""
        found = channels[:, :, self._index] * self._roots
        return np.ascontiguousarray(found.transpose(0, 2, 1)).reshape(len(channels), -1)

    def linearise(self, x: FloatArray, channels: FloatArray, k: FloatArray) -> Linearised:
        """Return them and their constant derivatives, shape (B, n_r, P)."""
        n_outputs, n_channels = self.names.n_outputs, len(self.channels)
        unit = np.zeros((len(self._index), n_outputs, n_outputs * n_channels + k.size))
        for row, (index, root) in enumerate(zip(self._index, self._roots, strict=True)):
            for output in range(n_outputs):
                unit[row, output, output * n_channels + index] = root
        flat = unit.reshape(-1, unit.shape[2])
        dr = np.broadcast_to(flat, (len(channels), *flat.shape))
        return self.evaluate(x, channels, k), np.ascontiguousarray(dr)

    def curvature(
        self, x: FloatArray, channels: FloatArray, k: FloatArray, cotangent: FloatArray
    ) -> FloatArray:
        """Return zeros, shape (B, P, P)."""
        size = self.names.n_outputs * len(self.channels) + k.size
        return np.zeros((len(channels), size, size))


class Equation:
    """A residual function of the user, traced for the channels that it reads.

    `jacobian` is a function like `residual` that returns the derivatives as a mapping (see `Term`).
    """

    def __init__(
        self,
        names: Names,
        residual: Callable[..., Any],
        jacobian: Callable[..., Any] | None = None,
    ) -> None:
        self.names = names
        self.channels: tuple[Channel, ...] = ()
        self.used: frozenset[str] = frozenset()
        self._residual = of_three(residual)
        self._jacobian = None if jacobian is None else of_three(jacobian)
        self.by_rules = self.linear = False  # until `judge` knows

    def trace(self, x: FloatArray, k: FloatArray, rng: np.random.Generator) -> None:
        """Call the functions once on a few points, and note the channels that they read."""
        seen: dict[tuple[int, Channel], FloatArray] = {}

        def read(output: int, channel: Channel) -> FloatArray:
            return seen.setdefault((output, channel), rng.uniform(0.1, 0.9, len(x)))

        named = Coefficients(self.names.coefficients, k)
        for function in (self._residual, self._jacobian):
            with np.errstate(all="ignore"):
                if function is not None:
                    function(_locked(x), Channels(self.names, read), named)
        if not seen and not named.read:
            raise ValueError("the residual reads no channel of u and no coefficient")
        self.channels = closed(channel for _, channel in seen)
        self.used = frozenset(named.read)

    def judge(self, source: SampleSource, k: FloatArray, rng: np.random.Generator) -> None:
        """Note whether a residual that passed all checks is analytic, and linear in the variables.

        It is linear if second derivatives are 0 at all points, for random variables.
        """
        n_points, width = source.shape
        few = source.rows(0, 1) if n_points else np.zeros((1, width))
        if self._jacobian is None:
            slots = variables(_points(self._drawn(few, rng)), k, 1)
            self.by_rules = is_analytic(lambda: self._components(self._residual, few, slots))
        starts = range(0, n_points, _JUDGED)
        self.linear = all(self._is_flat(source.rows(a, min(n_points, a + _JUDGED)), k, rng)
                          for a in starts)  # fmt: skip

    def _drawn(self, x: FloatArray, rng: np.random.Generator) -> FloatArray:
        shape = len(x), self.names.n_outputs, len(self.channels)
        return np.asarray(rng.uniform(0.1, 0.9, shape))

    def _is_flat(self, x: FloatArray, k: FloatArray, rng: np.random.Generator) -> bool:
        """Whether the second derivatives are 0, for variables of all sizes and both signs."""

        def sizes(shape: tuple[int, ...]) -> FloatArray:
            return np.asarray(rng.choice([-1.0, 1.0], shape) * 10.0 ** rng.uniform(-3, 3, shape))

        plain = self._drawn(x, rng)
        draws = [(plain, rng.uniform(0.1, 0.9, k.size)), (plain, k * rng.uniform(0.5, 1.5, k.size))]
        draws += [(sizes(plain.shape), sizes(k.shape)) for _ in range(4)]
        cotangent = rng.normal(size=self.evaluate(x, *draws[0]).shape)
        try:
            return not any(self.curvature(x, *draw, cotangent).any() for draw in draws)
        except TypeError:  # a jacobian= with functions that have no rule
            return False

    def evaluate(self, x: FloatArray, channels: FloatArray, k: FloatArray) -> FloatArray:
        """Return the residuals, shape (B, n_r)."""
        points = _points(channels)
        r: FloatArray = self._components(self._residual, x, [*points, *k])
        return np.ascontiguousarray(r, dtype=np.float64)

    def linearise(self, x: FloatArray, channels: FloatArray, k: FloatArray) -> Linearised:
        """Return the residuals and their derivatives, shape (B, n_r, P)."""
        points = _points(channels)
        if self._jacobian is not None:
            r = self.evaluate(x, channels, k)
            dr = self._derivatives(x, [*points, *k], r.shape)
            return r, np.ascontiguousarray(dr, dtype=np.float64)
        found = self._components(self._residual, x, variables(points, k, 1))
        r, tangent = _parts(found, len(points) + k.size)
        dr = tangent.transpose(1, 2, 0)
        return np.ascontiguousarray(r, np.float64), np.ascontiguousarray(dr, np.float64)

    def curvature(
        self, x: FloatArray, channels: FloatArray, k: FloatArray, cotangent: FloatArray
    ) -> FloatArray:
        """Return the second derivatives of cotangent . r, shape (B, P, P).

        Raises
        ------
        TypeError
            If `jacobian` uses a function whose derivative is unknown.
        """
        points = _points(channels)
        size = len(points) + k.size
        if self._jacobian is not None:
            shape = cotangent.shape
            slopes = self._derivatives(x, variables(points, k, 1), shape)  # (B, n_r, P)
            second = _parts(slopes, size)[1].transpose(3, 0, 1, 2)
        else:
            found = self._components(self._residual, x, variables(points, k, 2))
            second = _parts(_parts(found, size)[1], size)[1]
        return np.ascontiguousarray(np.einsum("pqbr,br->bpq", second, cotangent))

    def _view(self, slots: list[Any]) -> tuple[Channels, Coefficients]:
        """Return u and k with values in the order of the variables."""
        index = {channel: c for c, channel in enumerate(self.channels)}

        def read(output: int, channel: Channel) -> Any:
            if channel not in index:
                raise ValueError(
                    f"the residual asks for {self.names.said(channel, output)}, which it did not "
                    "read when the problem was made: it must read the same channels in each call"
                )
            return slots[output * len(index) + index[channel]]

        n = self.names.n_outputs * len(index)
        return Channels(self.names, read), Coefficients(self.names.coefficients, slots[n:])

    def _components(self, function: Callable[..., Any], x: FloatArray, slots: list[Any]) -> Any:
        """Return the residuals of a function as one array (B, n_r), plain or dual."""
        with np.errstate(all="ignore"):
            found = function(_locked(x), *self._view(slots))
            many = isinstance(found, (tuple, list))
            parts = [_real(part, len(x)) for part in (found if many else [found])]
            if many:
                if not parts or any(part.ndim != 1 for part in parts):
                    shapes = ", ".join(str(part.shape) for part in parts)
                    raise ValueError(
                        f"the residual returns parts of the shapes {shapes or 'of nothing'}, where "
                        f"each must be ({len(x)},) for {len(x)} points"
                    )
                return stack(parts, 1)
            return parts[0] if parts[0].ndim == 2 else parts[0][:, None]

    def _derivatives(self, x: FloatArray, slots: list[Any], shape: tuple[int, ...]) -> Any:
        """Return the derivatives that `jacobian` gives, shape (B, n_r, P)."""
        assert self._jacobian is not None
        with np.errstate(all="ignore"):
            found = self._jacobian(_locked(x), *self._view(slots))
            columns: list[Any] = [np.zeros(shape)] * len(slots)
            for slot, entry in self._slots(found):
                part = entry if isinstance(entry, DualArray) else np.asarray(entry, np.float64)
                if part.ndim == 1 and part.shape == shape[:1]:
                    part = part[:, None]
                if part.ndim and part.shape not in (shape, (shape[0], 1)):
                    raise ValueError(
                        f"jacobian gives a derivative of shape {part.shape}, where the residual "
                        f"has shape {shape}: give ({shape[0]},) or {shape}"
                    )
                columns[slot] = broadcast(part, shape)
            return stack(columns, 2)

    def _slots(self, found: Any) -> list[tuple[int, Any]]:
        """Return (variable, derivative) of the mapping that `jacobian` returns."""
        if not isinstance(found, Mapping):
            raise ValueError(f"jacobian must return a mapping, not {type(found).__name__}")
        n_channels, names = len(self.channels), self.names
        several = names.n_outputs > 1
        slots: list[tuple[int, Any]] = []

        def add(output: int, part: Mapping[Any, Any]) -> None:
            for by, entry in part.items():
                channel = names.channel(by if isinstance(by, tuple) else (by,))
                if channel not in self.channels:
                    raise ValueError(
                        f"jacobian has {names.said(channel, output)}, which nothing reads"
                    )
                slots.append((output * n_channels + self.channels.index(channel), entry))

        for key, entry in found.items():
            if isinstance(key, str) and key in names.coefficients:
                slots.append((names.n_outputs * n_channels + names.coefficients.index(key), entry))
            elif several and isinstance(entry, Mapping) and key in range(names.n_outputs):
                add(int(key), entry)
            elif several:
                raise ValueError(
                    f"jacobian has the key {key!r}: with {names.n_outputs} outputs its keys are "
                    "outputs, each with a mapping by channel, and names of coefficients"
                )
            else:
                add(0, {key: entry})
        return slots


def of_three(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of (x, u) or (x, u, k) as one of (x, u, k).

    Raises
    ------
    ValueError
        If it takes another number of arguments.
    """
    kinds = inspect.Parameter
    by_place = (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return function  # a compiled function says nothing
    places = [p for p in parameters if p.kind in by_place]
    needed = sum(p.default is kinds.empty for p in places)
    if needed == 3 or any(p.kind is kinds.VAR_POSITIONAL for p in parameters):
        return function
    if needed > 3 or len(places) < 2:
        name = getattr(function, "__name__", type(function).__name__)
        raise ValueError(f"{name} must take (x, u) or (x, u, k), it takes {needed} arguments")
    return lambda x, u, k: function(x, u)


def _locked(x: FloatArray) -> FloatArray:
    """Return a view that the function of a user cannot write to."""
    view: FloatArray = x.view()
    view.flags.writeable = False
    return view


def _points(channels: FloatArray) -> FloatArray:
    """Return channels (B, n_L, C) as read-only rows (n_L C, B)."""
    rows = np.ascontiguousarray(channels.reshape(channels.shape[0], -1).T, dtype=np.float64)
    rows.flags.writeable = False
    return rows


def _parts(found: Any, size: int) -> tuple[Any, Any]:
    """Return value and tangent of a dual array; zeros for a plain one."""
    if isinstance(found, DualArray):
        return found.value, found.tangent
    return found, np.zeros((size, *found.shape))


def _real(part: Any, n_points: int) -> Any:
    """Return what a residual gives, plain or dual, after checks of type and shape."""
    if not isinstance(part, DualArray):
        part = np.asarray(part)
        if part.dtype.kind not in "fiu":
            raise ValueError(f"the residual must return real numbers, not dtype {part.dtype}")
    if part.ndim in (1, 2) and part.shape[0] == n_points and part.shape[-1] > 0:
        return part
    raise ValueError(
        f"the residual returns shape {part.shape} for {n_points} points: it must be ({n_points},), "
        f"({n_points}, n_r), or a tuple of arrays ({n_points},)"
    )
