"""Activations and their derivatives over arrays of pre-activations, chosen by an integer code.

A jitted function passed as an argument would miss the disk cache in every process; a code,
dispatched outside the loops, keeps every caller cached. A custom activation is the address of
a C function ``void f(int64 n, double *z, double *s, double *d1, double *d2, double *d3,
double *d4)`` that fills n values, with d2, d3 and d4 possibly null; its pointers travel as 64-bit
integers.

All arrays have the shape (units, samples) and contiguous rows. They must not overlap: the
loops would still be right where two are the same array, but not vectorised.
"""

import ctypes
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastggn.kernels import vector_math
from fastggn.kernels.jit import DISABLED, inline, leaf, njit

IDENTITY = 0
SIGMOID = 1
TANH = 2
SOFTSIGN = 3
SOFTPLUS = 4
BENT_IDENTITY = 5
RELU = 6
LEAKY_RELU = 7
SQUARE = 8
SIN = 9
SWISH = 10
GELU = 11
CUSTOM = 100

if DISABLED:
    PROTOTYPE = ctypes.CFUNCTYPE(None, *([ctypes.c_int64] * 7))

    def array_at(address, n):
        """Return the n float64 at `address` as an array."""
        return np.ctypeslib.as_array((ctypes.c_double * n).from_address(address))

    def _call(address, n, z, s, d1, d2, d3, d4):
        """Call the C function at `address`."""
        PROTOTYPE(address)(n, z, s, d1, d2, d3, d4)

else:

    @intrinsic
    def _pointer_of(typing_context, address):
        """Return the address as a pointer to float64."""

        def generate(context, builder, signature, args):
            return builder.inttoptr(args[0], ir.DoubleType().as_pointer())

        return types.CPointer(types.float64)(types.int64), generate

    @inline
    def array_at(address, n):
        """Return the n float64 at `address` as an array."""
        return numba.carray(_pointer_of(address), n)

    @intrinsic
    def _call(typing_context, address, n, z, s, d1, d2, d3, d4):
        """Call the C function at `address`."""

        def generate(context, builder, signature, args):
            word = ir.IntType(64)
            function = ir.FunctionType(ir.VoidType(), [word] * 7)
            builder.call(builder.inttoptr(args[0], function.as_pointer()), args[1:])
            return context.get_dummy_value()

        return types.void(*([types.int64] * 8)), generate


@leaf
def _custom(address, z, phi, d1):
    for i in range(z.shape[0]):
        _call(address, z.shape[1], z[i].ctypes.data, phi[i].ctypes.data, d1[i].ctypes.data, 0, 0, 0)


@leaf
def _custom_second(address, z, phi, d1, d2):
    for i in range(z.shape[0]):
        _call(
            address,
            z.shape[1],
            z[i].ctypes.data,
            phi[i].ctypes.data,
            d1[i].ctypes.data,
            d2[i].ctypes.data,
            0,
            0,
        )


@leaf
def _identity(z, phi, d1):
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            phi[i, j] = z[i, j]
            d1[i, j] = 1.0


def over(function, loop):
    """Compile a loop that calls a function, under a name of its own in the cache."""
    loop.__qualname__ = f"{loop.__name__}_{function.__name__}"
    return leaf(loop)


def _first(function):
    def slopes_of(z, phi, d1):
        for i in range(z.shape[0]):
            for j in range(z.shape[1]):
                phi[i, j], d1[i, j] = function(z[i, j])[:2]

    return over(function, slopes_of)


def _second(function):
    def bends_of(z, phi, d1, d2):
        for i in range(z.shape[0]):
            for j in range(z.shape[1]):
                phi[i, j], d1[i, j], d2[i, j] = function(z[i, j])[:3]

    return over(function, bends_of)


_ALIKE = (
    vector_math.sigmoid,
    vector_math.tanh,
    vector_math.softsign,
    vector_math.softplus,
    vector_math.bent_identity,
    vector_math.swish,
    vector_math.gelu,
)
_sigmoid, _tanh, _softsign, _softplus, _bent_identity, _swish, _gelu = map(_first, _ALIKE)
_sin = _first(vector_math.sin_and_cos)
(
    _sigmoid_second,
    _tanh_second,
    _softsign_second,
    _softplus_second,
    _bent_identity_second,
    _swish_second,
    _gelu_second,
) = map(_second, _ALIKE)


@leaf
def _sin_second(z, phi, d1, d2):
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            phi[i, j], d1[i, j] = vector_math.sin_and_cos(z[i, j])
            d2[i, j] = -phi[i, j]


@leaf
def _leaky_relu(slope, z, phi, d1):
    # The derivative at 0 is that of the negative side; a NaN goes through.
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            v = z[i, j]
            phi[i, j] = v if v > 0.0 else slope * v
            d1[i, j] = 1.0 if v > 0.0 else slope


@leaf
def _relu(z, phi, d1):
    # Not the leaky one with slope 0, which would make a NaN of -inf.
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            v = z[i, j]
            phi[i, j] = 0.0 if v <= 0.0 else v
            d1[i, j] = 1.0 if v > 0.0 else 0.0


@leaf
def _square(z, phi, d1):
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            v = z[i, j]
            phi[i, j] = v * v
            d1[i, j] = v + v


@njit
def _fill(value, d2):
    for i in range(d2.shape[0]):
        for j in range(d2.shape[1]):
            d2[i, j] = value


@njit
def activate(code, param, address, z, phi, d1):
    """Write the activation of `z` into `phi` and its derivative into `d1`."""
    if code == TANH:
        _tanh(z, phi, d1)
    elif code == SIGMOID:
        _sigmoid(z, phi, d1)
    elif code == SOFTSIGN:
        _softsign(z, phi, d1)
    elif code == SOFTPLUS:
        _softplus(z, phi, d1)
    elif code == BENT_IDENTITY:
        _bent_identity(z, phi, d1)
    elif code == RELU:
        _relu(z, phi, d1)
    elif code == LEAKY_RELU:
        _leaky_relu(param, z, phi, d1)
    elif code == SQUARE:
        _square(z, phi, d1)
    elif code == SIN:
        _sin(z, phi, d1)
    elif code == SWISH:
        _swish(z, phi, d1)
    elif code == GELU:
        _gelu(z, phi, d1)
    elif code == CUSTOM:
        _custom(address, z, phi, d1)
    else:
        _identity(z, phi, d1)


@njit
def activate_second(code, param, address, z, phi, d1, d2):
    """Write the activation of `z` and its two derivatives into `phi`, `d1` and `d2`."""
    if code == TANH:
        _tanh_second(z, phi, d1, d2)
    elif code == SIGMOID:
        _sigmoid_second(z, phi, d1, d2)
    elif code == SOFTSIGN:
        _softsign_second(z, phi, d1, d2)
    elif code == SOFTPLUS:
        _softplus_second(z, phi, d1, d2)
    elif code == BENT_IDENTITY:
        _bent_identity_second(z, phi, d1, d2)
    elif code == SIN:
        _sin_second(z, phi, d1, d2)
    elif code == SWISH:
        _swish_second(z, phi, d1, d2)
    elif code == GELU:
        _gelu_second(z, phi, d1, d2)
    elif code == CUSTOM:
        _custom_second(address, z, phi, d1, d2)
    else:
        # Piecewise linear ones and the square: the second derivative is a constant.
        activate(code, param, address, z, phi, d1)
        _fill(2.0 if code == SQUARE else 0.0, d2)


def compile_custom(*functions: Any) -> tuple[Any, int]:
    """Return a loop over 3 scalar functions, or 5 with higher derivatives, as C, and its address.

    The first must be kept alive as long as the address is in use.
    """
    if DISABLED:
        return _callback(*functions)
    jitted = [
        f if numba.extending.is_jitted(f) else numba.njit(error_model="numpy", nogil=True)(f)
        for f in functions
    ]
    s, d, h = jitted[:3]
    third, fourth = jitted[3:] or (h, h)  # without them, never called: their addresses are null

    def loop(n, z_address, s_address, d_address, h_address, third_address, fourth_address):
        z, values, slopes = array_at(z_address, n), array_at(s_address, n), array_at(d_address, n)
        for i in range(n):
            values[i] = s(z[i])
            slopes[i] = d(z[i])
        if h_address != 0:
            curvatures = array_at(h_address, n)
            for i in range(n):
                curvatures[i] = h(z[i])
        if third_address != 0:
            thirds, fourths = array_at(third_address, n), array_at(fourth_address, n)
            for i in range(n):
                thirds[i] = third(z[i])
                fourths[i] = fourth(z[i])

    try:
        compiled = numba.cfunc(types.void(*([types.int64] * 7)), error_model="numpy")(loop)
    except numba.core.errors.NumbaError as error:
        raise TypeError(f"Numba cannot compile sigma and its derivatives: {error}") from None
    return compiled, compiled.address


def _callback(*functions):
    """Return what `compile_custom` does, without a compiler: a callback into Python."""

    def loop(n, z_address, *addresses):
        z = array_at(z_address, n).tolist()
        for address, f in zip(addresses, functions, strict=False):
            if address:
                array_at(address, n)[:] = [f(v) for v in z]

    callback = PROTOTYPE(loop)
    return callback, ctypes.cast(callback, ctypes.c_void_p).value
