"""Counters that several workers share: loads, stores and additions that no worker sees half done.

A worker that stores a counter after it has written an array (release) and one that loads the
counter before it reads the array (acquire) agree on the array's content. With
NUMBA_DISABLE_JIT=1 one worker runs alone and plain operations do.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastggn.kernels.jit import DISABLED, inline
from fastggn.runtime.platform import GIVE_WAY

_ALIGNMENT = 8


def _slot(context, builder, signature, args):
    """Return the address of an entry of a one-dimensional int64 array."""
    array = context.make_array(signature.args[0])(context, builder, args[0])
    return builder.gep(array.data, [args[1]])


def _check(array):
    if not (isinstance(array, types.Array) and array.ndim == 1 and array.dtype == types.int64):
        raise TypeError("counters stand in a one-dimensional int64 array")


@intrinsic
def _load(typing_context, array, index):
    _check(array)

    def generate(context, builder, signature, args):
        address = _slot(context, builder, signature, args)
        return builder.load_atomic(address, "acquire", _ALIGNMENT)

    return types.int64(array, types.int64), generate


@intrinsic
def _store(typing_context, array, index, value):
    _check(array)

    def generate(context, builder, signature, args):
        address = _slot(context, builder, signature, args)
        builder.store_atomic(args[2], address, "release", _ALIGNMENT)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64), generate


@intrinsic
def _add(typing_context, array, index, value):
    _check(array)

    def generate(context, builder, signature, args):
        address = _slot(context, builder, signature, args)
        return builder.atomic_rmw("add", address, args[2], "seq_cst")

    return types.int64(array, types.int64, types.int64), generate


@intrinsic
def _give_way(typing_context):
    def generate(context, builder, signature, args):
        name, *values = GIVE_WAY
        word = ir.IntType(32)
        function_type = ir.FunctionType(word, [word] * len(values))
        function = cgutils.get_or_insert_function(builder.module, function_type, name)
        builder.call(function, [ir.Constant(word, value) for value in values])
        return context.get_dummy_value()

    return types.void(), generate


if DISABLED:

    def load(array, index):
        """Return an entry."""
        return array[index]

    def store(array, index, value):
        """Set an entry."""
        array[index] = value

    def add(array, index, value):
        """Add to an entry and return what stood there."""
        before = array[index]
        array[index] = before + value
        return before

    def give_way():
        """Do nothing: nobody else runs."""

else:

    @inline
    def load(array, index):
        """Return an entry, and see all that was written before it was stored."""
        return _load(array, index)

    @inline
    def store(array, index, value):
        """Set an entry, after all that was written before."""
        _store(array, index, value)

    @inline
    def add(array, index, value):
        """Add to an entry and return what stood there."""
        return _add(array, index, value)

    @inline
    def give_way():
        """Let another thread run on this core, if one waits for it."""
        _give_way()
