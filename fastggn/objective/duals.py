"""Dual-number arrays: the derivatives of a vectorised NumPy function, point by point.

A `DualArray` holds values and their derivatives by P variables. NumPy's elementwise functions, sums
over components and stacking follow the chain rule; every other function is refused by its name.
Values that are dual numbers themselves give second derivatives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

# Finite where they are not analytic: at 0, or at the ends of their domains. So is "power" with an
# exponent that is not a whole number.
_ROUGH = {"sqrt", "cbrt", "hypot", "arctan2", "arcsin", "arccos", "arccosh"}
_used: ContextVar[list[str] | None] = ContextVar("used", default=None)

_LOG2, _LOG10 = math.log(2.0), math.log(10.0)


class DualArray(NDArrayOperatorsMixin):
    """Values at B points and their derivatives by P variables.

    Parameters
    ----------
    value : ndarray or DualArray, shape (B, ...) or ()
        The points stand along the first axis.
    tangent : ndarray or DualArray, shape (P, B, ...) or (P,)
        The derivatives by the variables.
    """

    __slots__ = ("tangent", "value")

    def __init__(self, value: Any, tangent: Any) -> None:
        self.value = value
        self.tangent = tangent

    def __repr__(self) -> str:
        return f"DualArray of shape {self.shape} with {self.tangent.shape[0]} derivatives"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the values."""
        return np.shape(self.value)

    @property
    def ndim(self) -> int:
        """The number of axes of the values."""
        return len(self.shape)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        name = ufunc.__name__
        if options.get("out") is not None:
            raise refused(f"np.{name} in place", "write a = a + b instead of a += b")
        if method != "__call__" or options:
            raise refused(f"np.{name}" + ("" if method == "__call__" else f".{method}"))
        _note(name, inputs)
        if name in UNARY:
            x = self.value
            y = ufunc(x)
            return DualArray(y, UNARY[name](x, y) * self.tangent)
        if name in BINARY:
            return _binary(ufunc, BINARY[name], *inputs)
        raise refused("np.abs" if name == "absolute" else f"np.{name}")

    def __array_function__(
        self, function: Any, types: Any, inputs: tuple[Any, ...], options: dict[str, Any]
    ) -> Any:
        if function not in FUNCTIONS:
            name = function.__name__
            where = str(function.__module__).replace("numpy", "np", 1)
            raise refused(f"{where}.{name}", ADVICE.get(name, ""))
        return FUNCTIONS[function](*inputs, **options)

    def __pow__(self, exponent: Any) -> DualArray:
        _note("power", (self, exponent))
        if isinstance(exponent, DualArray):
            return _binary(np.power, BINARY["power"], self, exponent)
        # The operator takes NumPy's short cuts (squares, roots), like that of plain values.
        return _binary(lambda x, p: x**p, BINARY["power"], self, exponent)

    def __getitem__(self, key: Any) -> DualArray:
        keys = key if isinstance(key, tuple) else (key,)
        inner = sum(k is not None and k is not Ellipsis for k in keys)
        whole = keys and (
            (keys[0] is Ellipsis and inner < self.ndim)
            or (isinstance(keys[0], slice) and keys[0] == slice(None))
        )
        if not whole or self.ndim == 0:
            raise refused("an index of points", "a residual computes each point by itself")
        return DualArray(self.value[keys], self.tangent[(slice(None),) + keys])

    def __setitem__(self, key: Any, value: Any) -> None:
        raise refused("an assignment to some points", ADVICE["where"])

    def sum(self, axis: int | None = None, keepdims: bool = False) -> DualArray:
        """Return the sum over the components of each point: an axis other than the first."""
        if axis is None or not 1 <= axis % max(self.ndim, 1):
            raise refused("a sum over points", "np.sum(..., axis=-1) adds components")
        axis %= self.ndim
        value = np.sum(self.value, axis=axis, keepdims=keepdims)
        return DualArray(value, np.sum(self.tangent, axis=axis + 1, keepdims=keepdims))

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Any:
        raise refused("a loop over points")

    def __bool__(self) -> bool:
        raise refused("a condition (if, and, or, max, min)")

    def __float__(self) -> float:
        raise refused("a function of single numbers (float, math.sin)", "use that of NumPy")

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise refused("a conversion (np.array, np.asarray)")

    def __getattr__(self, name: str) -> Any:
        if hasattr(np.ndarray, name):
            raise AttributeError(str(refused(f"the method .{name}", ADVICE.get(name, ""))))
        raise AttributeError(f"an array has no attribute {name!r}")


def is_analytic(function: Callable[[], Any]) -> bool:
    """Whether a function of dual arrays only uses functions that are analytic where finite."""
    token = _used.set([])
    try:
        function()
        return not _used.get()
    finally:
        _used.reset(token)


def _note(name: str, inputs: tuple[Any, ...]) -> None:
    found = _used.get()
    if found is None:
        return
    if name == "power":
        exponent = inputs[1]
        whole = not isinstance(exponent, DualArray) and np.all(np.mod(exponent, 1.0) == 0.0)
        found += [] if whole else [name]
    elif name in _ROUGH:
        found.append(name)


def refused(what: str, advice: str = "") -> TypeError:
    """Return the error for a function without a rule."""
    names = ", ".join(name for name in (*UNARY, *BINARY) if name not in _OPERATORS)
    known = f"a residual may use arithmetic, powers, np.stack, sums over components, and {names}"
    return TypeError(
        f"{what} has no rule for its derivative: {advice or known}; for anything else give the "
        "derivative yourself: jacobian="
    )


ADVICE = {
    name: f"np.{name} mixes the points, and the mean over the points is the problem's own work"
    for name in ("mean", "average", "std", "var", "median", "cumsum", "diff", "gradient")
} | {"where": "a condition on x alone is a factor: (x[:, 0] > 0) * u.value"}
_OPERATORS = {"negative", "positive", "add", "subtract", "multiply", "divide", "power"}


def variables(points: FloatArray, numbers: FloatArray, order: int) -> list[Any]:
    """Return dual variables: of points (n, B), shape (B,) each, then of numbers (K,), scalars.

    With `order` 2 the values are dual numbers themselves.
    """
    found: list[Any] = []
    total = len(points) + len(numbers)
    for slot, start in enumerate([*points, *numbers]):
        unit = np.zeros(total)
        unit[slot] = 1.0
        shape = np.shape(start)
        tangent = np.broadcast_to(unit.reshape(total, *(1,) * len(shape)), (total, *shape))
        variable = start
        for _ in range(order):
            variable = DualArray(variable, tangent)
        found.append(variable)
    return found


def stack(parts: Sequence[Any], axis: int, joined: Any = np.stack) -> Any:
    """Return arrays of one shape, some of them dual, along a new axis (or joined along one)."""
    duals = [part for part in parts if isinstance(part, DualArray)]
    if not duals:
        return joined([np.asarray(part) for part in parts], axis=axis)
    n = duals[0].tangent.shape[0]
    values = [part.value if isinstance(part, DualArray) else part for part in parts]
    tangents = [
        part.tangent if isinstance(part, DualArray) else np.zeros((n, *np.shape(part)))
        for part in parts
    ]
    return DualArray(stack(values, axis, joined), stack(tangents, axis + 1, joined))


def broadcast(array: Any, shape: tuple[int, ...]) -> Any:
    """Return a plain or dual array as one of this shape."""
    if np.shape(array) == shape:
        return array
    if not isinstance(array, DualArray):
        return np.broadcast_to(array, shape)
    tangent = _aligned(array.tangent, len(shape) + 1)
    return DualArray(broadcast(array.value, shape), broadcast(tangent, (tangent.shape[0], *shape)))


def _aligned(tangent: Any, ndim: int) -> Any:
    """Return a tangent with new axes behind its first, `ndim` in all."""
    missing = ndim - tangent.ndim
    if missing == 0:
        return tangent
    key = (slice(None), *(None,) * missing)
    if not isinstance(tangent, DualArray):
        return tangent[key]
    return DualArray(tangent.value[key], tangent.tangent[(slice(None),) + key])


def _binary(function: Any, slopes: Callable[..., Any], a: Any, b: Any) -> DualArray:
    """Return a function of two operands, one of them or both dual."""
    x, y = (part.value if isinstance(part, DualArray) else part for part in (a, b))
    value = function(x, y)
    by_x, by_y = slopes(x, y, value)
    ndim, tangent = np.ndim(value), None
    for part, slope in ((a, by_x), (b, by_y)):
        if isinstance(part, DualArray):
            new = slope() * _aligned(part.tangent, ndim + 1)
            tangent = new if tangent is None else tangent + new
    assert tangent is not None
    return DualArray(value, broadcast(tangent, (tangent.shape[0], *np.shape(value))))


def _sech2(x: Any) -> Any:
    """Return the derivative of tanh, relatively accurate in the tails."""
    if isinstance(x, DualArray):
        value = _sech2(x.value)
        return DualArray(value, -2.0 * np.tanh(x.value) * value * x.tangent)
    e = np.exp(-2.0 * np.abs(x))
    return 4.0 * e / (1.0 + e) ** 2


def _power_slopes(x: Any, p: Any, y: Any) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Return the slopes of x^p; 0 for p = 0, at x = 0 too."""

    def by_base() -> Any:
        if isinstance(p, DualArray):
            return p * x ** (p - 1.0)
        below = np.where(np.equal(p, 0), 1.0, np.subtract(p, 1.0))
        return p * x ** (float(below) if below.ndim == 0 else below)

    return by_base, lambda: y * np.log(x)


# The derivative of y = f(x) by x.
UNARY: dict[str, Callable[[Any, Any], Any]] = {
    "negative": lambda x, y: -1.0,
    "positive": lambda x, y: 1.0,
    "exp": lambda x, y: y,
    "exp2": lambda x, y: _LOG2 * y,
    "expm1": lambda x, y: np.exp(x),
    "log": lambda x, y: 1.0 / x,
    "log2": lambda x, y: 1.0 / (_LOG2 * x),
    "log10": lambda x, y: 1.0 / (_LOG10 * x),
    "log1p": lambda x, y: 1.0 / (1.0 + x),
    "sin": lambda x, y: np.cos(x),
    "cos": lambda x, y: -np.sin(x),
    "tan": lambda x, y: 1.0 + y * y,
    "arcsin": lambda x, y: 1.0 / np.sqrt((1.0 - x) * (1.0 + x)),
    "arccos": lambda x, y: -1.0 / np.sqrt((1.0 - x) * (1.0 + x)),
    "arctan": lambda x, y: 1.0 / (1.0 + x * x),
    "sinh": lambda x, y: np.cosh(x),
    "cosh": lambda x, y: np.sinh(x),
    "tanh": lambda x, y: _sech2(x),
    "arcsinh": lambda x, y: 1.0 / np.sqrt(1.0 + x * x),
    "arccosh": lambda x, y: 1.0 / np.sqrt((x - 1.0) * (x + 1.0)),
    "arctanh": lambda x, y: 1.0 / ((1.0 - x) * (1.0 + x)),
    "sqrt": lambda x, y: 0.5 / y,
    "cbrt": lambda x, y: 1.0 / (3.0 * y * y),
    "square": lambda x, y: 2.0 * x,
    "reciprocal": lambda x, y: -y * y,
    "erf": lambda x, y: 2.0 / math.sqrt(math.pi) * np.exp(-x * x),  # SciPy's
    "erfc": lambda x, y: -2.0 / math.sqrt(math.pi) * np.exp(-x * x),
    "expit": lambda x, y: 0.25 * _sech2(0.5 * x),
}

# The derivatives of y = f(a, b) by a and by b, each computed where it is needed.
BINARY: dict[str, Callable[[Any, Any, Any], tuple[Callable[[], Any], Callable[[], Any]]]] = {
    "add": lambda a, b, y: (lambda: 1.0, lambda: 1.0),
    "subtract": lambda a, b, y: (lambda: 1.0, lambda: -1.0),
    "multiply": lambda a, b, y: (lambda: b, lambda: a),
    "divide": lambda a, b, y: (lambda: 1.0 / b, lambda: -y / b),
    "power": _power_slopes,
    "arctan2": lambda a, b, y: (lambda: b / (a * a + b * b), lambda: -a / (a * a + b * b)),
    "hypot": lambda a, b, y: (lambda: a / y, lambda: b / y),
    "logaddexp": lambda a, b, y: (lambda: np.exp(a - y), lambda: np.exp(b - y)),
}


def _checked_axis(axis: int, ndim: int) -> int:
    if not 1 <= axis % ndim:
        raise refused("a stack along the points", "axis=-1 puts components side by side")
    return axis % ndim


def _stack(arrays: Sequence[Any], axis: int = 0) -> Any:
    return stack(arrays, _checked_axis(axis, np.ndim(arrays[0]) + 1))


def _concatenate(arrays: Sequence[Any], axis: int = 0) -> Any:
    return stack(arrays, _checked_axis(axis, np.ndim(arrays[0])), np.concatenate)


def _column_stack(tup: Sequence[Any]) -> Any:
    return _concatenate([part[:, None] if np.ndim(part) == 1 else part for part in tup], axis=1)


def _sum(a: Any, axis: int | None = None, keepdims: bool = False) -> Any:
    return a.sum(axis, keepdims)


FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.stack: _stack,
    np.concatenate: _concatenate,
    np.column_stack: _column_stack,
    np.sum: _sum,
    np.shape: lambda a: a.shape,
    np.ndim: lambda a: a.ndim,
    np.zeros_like: lambda a: np.zeros(a.shape),
    np.ones_like: lambda a: np.ones(a.shape),
    np.full_like: lambda a, fill_value: np.full(a.shape, fill_value),
}
