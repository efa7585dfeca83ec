"""Samples of a chunk, transposed: from an array, or from a file by the worker that needs them.

A worker that reads some hundred kilobytes and transposes them at once finds them in its own cache,
so that a file costs little more than an array; a thread that reads ahead takes its time from the
workers and leaves the rows in memory. What cannot be read is told by a flag and tried again in
Python, which knows how to say what is wrong.
"""

import ctypes
import functools
import os

import llvmlite.binding as llvm_binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastggn.kernels.jit import DISABLED, exact, inline, leaf

# What says where the rows are, a vector of int64.
DESCRIPTOR = 0  # of the open file, or -1: in memory that is mapped
POSITION = 1  # of the first row in the file, or its address
PITCH = 2  # bytes from row to row, a multiple of 8
SPAN = 3  # bytes of a row that are wanted; the last row may end there
PLACE = 4

# Samples of a strip: they fill whole lines of the cache in every row of phi. With one sample at a
# time a line was fetched eight times, from far: rows of phi lie 2 KiB apart and share few sets.
STRIP = 16

_symbol = ctypes.cast(ctypes.CDLL(None).pread, ctypes.c_void_p).value
llvm_binding.add_symbol("fastggn_pread", _symbol)

_I32 = ir.IntType(32)
_I64 = ir.IntType(64)


def _address(context, builder, signature, args):
    """Return the address of the first argument's data, args[1] bytes on."""
    array = context.make_array(signature.args[0])(context, builder, args[0])
    return builder.add(builder.ptrtoint(array.data, _I64), args[1])


@intrinsic
def _pread(typing_context, array, offset, descriptor, count, position):
    def generate(context, builder, signature, args):
        function_type = ir.FunctionType(_I64, [_I32, _I64, _I64, _I64])
        function = cgutils.get_or_insert_function(builder.module, function_type, "fastggn_pread")
        target = _address(context, builder, signature, args)
        return builder.call(function, [builder.trunc(args[2], _I32), target, args[3], args[4]])

    return types.int64(array, *[types.int64] * 4), generate


@intrinsic
def _copy(typing_context, array, offset, address, count):
    def generate(context, builder, signature, args):
        function_type = ir.FunctionType(_I64, [_I64, _I64, _I64])
        function = cgutils.get_or_insert_function(builder.module, function_type, "memcpy")
        builder.call(function, [_address(context, builder, signature, args), args[2], args[3]])
        return context.get_dummy_value()

    return types.void(array, *[types.int64] * 3), generate


if DISABLED:

    def read(buffer, offset, descriptor, count, position):
        """Read into the buffer from a byte on; return how much, or -1."""
        try:
            target = memoryview(buffer).cast("B")[offset : offset + count]
            return os.preadv(descriptor, [target], position)
        except OSError:
            return -1

    def copy(buffer, offset, address, count):
        """Copy bytes from an address."""
        ctypes.memmove(buffer.ctypes.data + offset, int(address), int(count))

else:

    @inline
    def read(buffer, offset, descriptor, count, position):
        """Read into the buffer from a byte on; return how much, or -1."""
        return _pread(buffer, offset, descriptor, count, position)

    @inline
    def copy(buffer, offset, address, count):
        """Copy bytes from an address."""
        _copy(buffer, offset, address, count)


def place(descriptor, position, pitch, span):
    """Return the vector that says where rows are."""
    out = np.empty(PLACE, dtype=np.int64)
    out[DESCRIPTOR], out[POSITION], out[PITCH], out[SPAN] = descriptor, position, pitch, span
    return out


@functools.lru_cache
def in_array(n_inputs, n_workers):
    """Return what `forward` takes in place of a file, for samples in an array."""
    columns = np.arange(n_inputs, dtype=np.int64)
    no_place, no_flags = np.zeros((2, 0), dtype=np.int64)
    buffers = np.zeros((n_workers, 0, 0))
    return no_place, columns, np.zeros((2, 0)), buffers, np.zeros((0, 0)), no_flags


@leaf
def fetch(place, first, count, buffer):
    """Fill a C-ordered buffer with the rows first..first+count; return whether that failed."""
    pitch = place[PITCH]
    position = place[POSITION] + first * pitch
    wanted = (count - 1) * pitch + place[SPAN]
    if place[DESCRIPTOR] < 0:
        copy(buffer, 0, position, wanted)
        return False
    done = 0
    while done < wanted:
        got = read(buffer, done, place[DESCRIPTOR], wanted - done, position + done)
        if got <= 0:
            return True
        done += got
    return False


@exact
def load_columns(rows, first, count, columns, scaling, phi):
    """Transpose columns of the rows first..first+count into phi (n, C), the last one repeated.

    With scaling (2, n), not (2, 0), each is (column - scaling[0]) / scaling[1].
    """
    chunk = phi.shape[1]
    for start in range(0, chunk, STRIP):
        for j in range(phi.shape[0]):
            column = columns[j]
            if start + STRIP <= count:
                for i in range(STRIP):
                    phi[j, start + i] = rows[first + start + i, column]
            else:
                for i in range(start, min(start + STRIP, chunk)):
                    phi[j, i] = rows[first + min(i, count - 1), column]
    for j in range(scaling.shape[1]):
        target = phi[j]
        mean, scale = scaling[0, j], scaling[1, j]
        for i in range(chunk):
            target[i] = (target[i] - mean) / scale


@leaf
def keep_columns(rows, first, count, columns, kept):
    """Copy columns of the rows first..first+count to kept (count, n)."""
    for i in range(count):
        for k in range(kept.shape[1]):
            kept[i, k] = rows[first + i, columns[k]]
