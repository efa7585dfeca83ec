"""Activation functions, built in or given by the user."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.kernels import activations as kernels
from fastggn.runtime.errors import unknown_name

__all__ = ["ACTIVATIONS", "Activation", "get_activation", "leaky_relu"]

ScalarFunction = Callable[[float], float]

# A new custom activation is evaluated at these points.
_TRIAL_POINTS = (-2.0, -0.5, 0.0, 0.5, 2.0)


@dataclass(frozen=True, eq=False)
class Activation:
    """An activation function sigma with its first two derivatives.

    `get_activation` returns the built-in ones by name, `leaky_relu` one with a slope, and
    `Activation.custom` makes your own. Activations are equal when name and parameter are.

    Attributes
    ----------
    name : str
    code : int
        The number of the activation in the kernels.
    param : float
        The slope of `leaky_relu`; 0 for all others.
    address : int
        The address of the C function of a custom activation; 0 for built-in ones.
    smoothness : int
        0 if only continuous, 1 if once continuously differentiable, 2 if twice or more.
    vanishing_derivative : bool
        Whether sigma' is 0 somewhere, which Principle 4 (Shen 2018) excludes.

    Notes
    -----
    Conventions where a derivative does not exist: ReLU'(0) = 0, leaky ReLU'(0) = the slope of
    the negative side, softsign''(0) = 0 (softsign is only C^1, although Shen 2018, Remark 3,
    lists it). First derivatives are relatively accurate in the tails: sech^2(20) = 1.7e-17.
    """

    name: str
    code: int
    param: float = 0.0
    address: int = field(default=0, repr=False)
    smoothness: int = 2
    vanishing_derivative: bool = False
    # The custom functions, for pickling, and their compiled form, which must outlive every use.
    _functions: tuple[ScalarFunction, ...] = field(default=(), repr=False)
    _compiled: Any = field(default=None, repr=False)

    def __eq__(self, other: object) -> bool:
        """Compare names and parameters."""
        if not isinstance(other, Activation):
            return NotImplemented
        return (self.name, self.code, self.param) == (other.name, other.code, other.param)

    def __hash__(self) -> int:
        """Hash the name and the parameter."""
        return hash((self.name, self.code, self.param))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle a custom activation by its functions: an address means nothing elsewhere."""
        flags = self.smoothness, self.vanishing_derivative
        if self.code == kernels.CUSTOM:
            return _remake, (self.name, *self._functions, *flags)
        return Activation, (self.name, self.code, self.param, 0, *flags)

    @classmethod
    def custom(
        cls,
        name: str,
        sigma: ScalarFunction,
        derivative: ScalarFunction,
        second_derivative: ScalarFunction,
        third_derivative: ScalarFunction | None = None,
        fourth_derivative: ScalarFunction | None = None,
        *,
        smoothness: int = 2,
        vanishing_derivative: bool = True,
    ) -> Activation:
        """Make an activation from scalar functions of one float.

        They are compiled once in each process into one C function over arrays, which is not kept on
        disk.

        Parameters
        ----------
        name : str
            Any name of no built-in activation.
        sigma, derivative, second_derivative : callable
            Plain functions that Numba can compile, or jitted functions. They must not raise: the
            compiled loop would lose the exception.
        third_derivative, fourth_derivative : callable, optional
            Both or none; derivatives of the network by its inputs (`ResidualProblem`) need them.
        smoothness : {0, 1, 2}
            0 if sigma is only continuous, 1 if C^1, 2 if C^2 or smoother.
        vanishing_derivative : bool
            Whether sigma' is 0 somewhere. The default, True, makes no promise.

        Raises
        ------
        TypeError
            If a function is not callable, does not return a real number, or cannot be compiled, or
            one of the two higher derivatives is missing.
        ValueError
            If the name is taken, the smoothness is not 0, 1 or 2, or a function is not finite
            at one of the trial points -2, -0.5, 0, 0.5, 2.
        """
        functions: tuple[ScalarFunction, ...] = (sigma, derivative, second_derivative)
        if third_derivative is not None and fourth_derivative is not None:
            functions += (third_derivative, fourth_derivative)
        elif third_derivative is not fourth_derivative:
            raise TypeError("give both third_derivative and fourth_derivative, or none of them")
        _check_custom(name, functions, smoothness)
        compiled, address = kernels.compile_custom(*functions)
        flags = (smoothness, bool(vanishing_derivative))
        return cls(name, kernels.CUSTOM, 0.0, address, *flags, functions, compiled)

    def __call__(self, z: ArrayLike) -> NDArray[np.float64]:
        """Return sigma(z), elementwise, for `z` of any shape."""
        return self._evaluate(z, 0)

    def derivative(self, z: ArrayLike) -> NDArray[np.float64]:
        """Return sigma'(z), elementwise, for `z` of any shape."""
        return self._evaluate(z, 1)

    def second_derivative(self, z: ArrayLike) -> NDArray[np.float64]:
        """Return sigma''(z), elementwise, for `z` of any shape."""
        return self._evaluate(z, 2)

    @property
    def roughness(self) -> str:
        """Why derivatives of a network by its inputs cannot be had with it; empty if they can."""
        if self.smoothness < 2:
            return (
                "has a jump in its first or second derivative, so that derivatives by the inputs "
                "would miss what happens there; use a smooth one, such as tanh"
            )
        if self.code == kernels.CUSTOM and len(self._functions) < 5:
            return (
                "has two derivatives, and derivatives by the inputs need four: give "
                "third_derivative and fourth_derivative to Activation.custom"
            )
        return ""

    def _evaluate(self, z: ArrayLike, order: int) -> NDArray[np.float64]:
        points = np.ascontiguousarray(z, dtype=np.float64)
        row = points.reshape(1, -1)
        out = [np.empty_like(row) for _ in range(3)]
        kernels.activate_second(self.code, self.param, self.address, row, *out)
        result: NDArray[np.float64] = out[order].reshape(np.shape(z))
        return result

    def to_config(self) -> dict[str, Any]:
        """Return a dictionary for JSON, the input of `from_config`."""
        if self.code == kernels.CUSTOM:
            return {"custom": self.name}
        if self.code == kernels.LEAKY_RELU:
            return {"name": self.name, "slope": self.param}
        return {"name": self.name}

    @staticmethod
    def from_config(
        config: Mapping[str, Any], custom: Mapping[str, Activation] | None = None
    ) -> Activation:
        """Return the activation of a dictionary of `to_config`.

        Parameters
        ----------
        config : mapping
        custom : mapping of str to Activation, optional
            The custom activations by name: their functions are not stored.

        Raises
        ------
        ValueError
            If the name is unknown, or a custom activation is not in `custom`.
        """
        if "custom" in config:
            name = config["custom"]
            if custom is None or name not in custom:
                raise ValueError(
                    f"the custom activation {name!r} is not stored in the file: "
                    f"give {{{name!r}: Activation.custom(...)}} (activations= of Model.load)"
                )
            return custom[name]
        if config.get("name") == "leaky_relu":
            return leaky_relu(config.get("slope", 0.01))
        return get_activation(config.get("name"))


def _remake(name: str, *given: Any) -> Activation:
    *functions, smoothness, vanishing = given
    return Activation.custom(
        name, *functions, smoothness=smoothness, vanishing_derivative=vanishing
    )


def _check_custom(name: str, functions: tuple[ScalarFunction, ...], smoothness: int) -> None:
    """Raise unless the arguments of `Activation.custom` are valid."""
    if not isinstance(name, str) or not name:
        raise TypeError(f"name must be a non-empty string, got {name!r}")
    if name in ACTIVATIONS:
        raise ValueError(f"name {name!r} is a built-in activation; choose another")
    if smoothness not in (0, 1, 2):
        raise ValueError(f"smoothness must be 0, 1 or 2, got {smoothness!r}")
    labels = ("sigma", "derivative", "second_derivative", "third_derivative", "fourth_derivative")
    for label, function in zip(labels, functions, strict=False):
        _try_scalar(label, function)


def _try_scalar(label: str, function: ScalarFunction) -> None:
    """Check that `function` maps a few floats to finite floats."""
    if not callable(function):
        raise TypeError(f"{label} must be a function of one float, got {function!r}")
    for point in _TRIAL_POINTS:
        value = function(point)
        if np.ndim(value) != 0 or not np.isrealobj(value):
            raise TypeError(f"{label}({point}) must be a real number, got {value!r}")
        try:
            finite = math.isfinite(value)
        except TypeError:
            raise TypeError(f"{label}({point}) must be a real number, got {value!r}") from None
        if not finite:
            raise ValueError(f"{label}({point}) is {value}; it must be finite")


ACTIVATIONS: dict[str, Activation] = {
    a.name: a
    for a in (
        Activation("identity", kernels.IDENTITY),
        Activation("sigmoid", kernels.SIGMOID),
        Activation("tanh", kernels.TANH),
        Activation("softsign", kernels.SOFTSIGN, smoothness=1),
        Activation("softplus", kernels.SOFTPLUS),
        Activation("bent_identity", kernels.BENT_IDENTITY),
        Activation("relu", kernels.RELU, smoothness=0, vanishing_derivative=True),
        Activation("leaky_relu", kernels.LEAKY_RELU, 0.01, smoothness=0),
        Activation("square", kernels.SQUARE, vanishing_derivative=True),
        Activation("sin", kernels.SIN, vanishing_derivative=True),
        Activation("swish", kernels.SWISH, vanishing_derivative=True),
        Activation("gelu", kernels.GELU, vanishing_derivative=True),
    )
}


def leaky_relu(slope: float = 0.01) -> Activation:
    """Return the leaky ReLU: z for z > 0, ``slope * z`` otherwise.

    Raises
    ------
    TypeError
        If the slope is not a real number.
    ValueError
        If it is NaN or infinite.
    """
    try:
        number = float(slope)
    except (TypeError, ValueError):
        raise TypeError(f"slope must be a real number, not {type(slope).__name__}") from None
    if not math.isfinite(number):
        raise ValueError(f"slope must be finite, got {slope}")
    return Activation(
        "leaky_relu", kernels.LEAKY_RELU, number, 0, 2 if number == 1.0 else 0, number == 0.0
    )


def get_activation(activation: object) -> Activation:
    """Return the activation of this name, or the activation itself.

    Parameters
    ----------
    activation : str or Activation
        One of identity, sigmoid, tanh, softsign, softplus, bent_identity, relu, leaky_relu
        (slope 0.01), square, sin, swish and gelu, or an `Activation`.

    Raises
    ------
    ValueError
        If the name is unknown; the message suggests the nearest valid one.
    TypeError
        If it is neither a name nor an `Activation`.
    """
    if isinstance(activation, Activation):
        return activation
    if not isinstance(activation, str):
        raise TypeError(
            f"activation must be a name or an Activation, not {type(activation).__name__}"
        )
    if activation not in ACTIVATIONS:
        raise unknown_name("activation", activation, ACTIVATIONS)
    return ACTIVATIONS[activation]
