"""Activations with four derivatives, for derivatives of a network by its inputs.

The value and two derivatives are those of `activations`; the third and the fourth follow from
them by closed formulas without cancellation in the tails.
"""

from fastggn.kernels import vector_math
from fastggn.kernels.activations import (
    BENT_IDENTITY,
    CUSTOM,
    GELU,
    SIGMOID,
    SIN,
    SOFTPLUS,
    SWISH,
    TANH,
    _call,
    activate_second,
    over,
)
from fastggn.kernels.jit import inline, leaf, njit


@inline
def tanh(z):
    """Return tanh and its four derivatives."""
    s, d1, d2 = vector_math.tanh(z)
    square = s * s
    return s, d1, d2, d1 * (6.0 * square - 2.0), 8.0 * s * d1 * (2.0 - 3.0 * square)


@inline
def sigmoid(z):
    """Return the logistic function and its four derivatives."""
    s, d1, d2 = vector_math.sigmoid(z)
    return s, d1, d2, d1 * (1.0 - 6.0 * d1), d2 * (1.0 - 12.0 * d1)


@inline
def softplus(z):
    """Return log(1 + e^z) and its four derivatives."""
    s, d1, d2 = vector_math.softplus(z)
    _, _, d3 = vector_math.sigmoid(z)
    return s, d1, d2, d3, d2 * (1.0 - 6.0 * d2)


@inline
def bent_identity(z):
    """Return the bent identity and its four derivatives."""
    s, d1, d2 = vector_math.bent_identity(z)
    c = 1e100 if z > 1e100 else (-1e100 if z < -1e100 else z)
    u2 = 1.0 / (1.0 + c * c)
    return s, d1, d2, -3.0 * c * u2 * d2, 3.0 * u2 * d2 * (5.0 * c * c * u2 - 1.0)


@inline
def sin(z):
    """Return the sine and its four derivatives."""
    s, c = vector_math.sin_and_cos(z)
    return s, c, -s, -c, s


@inline
def swish(z):
    """Return z sigma(z) and its four derivatives."""
    s, d1, d2 = vector_math.swish(z)
    c = 750.0 if z > 750.0 else (-750.0 if z < -750.0 else z)
    _, _, g2, g3, g4 = sigmoid(z)
    return s, d1, d2, 3.0 * g2 + c * g3, 4.0 * g3 + c * g4


@inline
def gelu(z):
    """Return z P(z) and its four derivatives."""
    s, d1, d2, density = vector_math.gelu(z)
    c = 40.0 if z > 40.0 else (-40.0 if z < -40.0 else z)
    v = c * c
    return s, d1, d2, density * c * (v - 4.0), density * ((7.0 - v) * v - 4.0)


def _all(function):
    def jets_of(z, s, d1, d2, d3, d4):
        for i in range(z.shape[0]):
            for j in range(z.shape[1]):
                s[i, j], d1[i, j], d2[i, j], d3[i, j], d4[i, j] = function(z[i, j])

    return over(function, jets_of)


_tanh, _sigmoid, _softplus, _bent_identity = map(_all, (tanh, sigmoid, softplus, bent_identity))
_sin, _swish, _gelu = map(_all, (sin, swish, gelu))


@leaf
def _custom(address, z, s, d1, d2, d3, d4):
    for i in range(z.shape[0]):
        _call(
            address,
            z.shape[1],
            z[i].ctypes.data,
            s[i].ctypes.data,
            d1[i].ctypes.data,
            d2[i].ctypes.data,
            d3[i].ctypes.data,
            d4[i].ctypes.data,
        )


@njit
def activate_higher(code, param, address, z, s, d1, d2, d3, d4):
    """Write the activation of `z` and its four derivatives into `s`, `d1`, `d2`, `d3` and `d4`."""
    if code == TANH:
        _tanh(z, s, d1, d2, d3, d4)
    elif code == SIGMOID:
        _sigmoid(z, s, d1, d2, d3, d4)
    elif code == SOFTPLUS:
        _softplus(z, s, d1, d2, d3, d4)
    elif code == BENT_IDENTITY:
        _bent_identity(z, s, d1, d2, d3, d4)
    elif code == SIN:
        _sin(z, s, d1, d2, d3, d4)
    elif code == SWISH:
        _swish(z, s, d1, d2, d3, d4)
    elif code == GELU:
        _gelu(z, s, d1, d2, d3, d4)
    elif code == CUSTOM:
        _custom(address, z, s, d1, d2, d3, d4)
    else:  # the identity and the square
        activate_second(code, param, address, z, s, d1, d2)
        d3[:, :] = 0.0
        d4[:, :] = 0.0
