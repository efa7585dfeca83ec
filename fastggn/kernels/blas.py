"""BLAS at one thread, called from inside compiled workers through SciPy's function pointers.

The addresses of ``scipy.linalg.cython_blas`` are registered as LLVM symbols at import: a kernel
that calls a symbol, and not a ctypes pointer, can be cached on disk. All matrices are row-major
with a unit stride in the last axis; BLAS sees their transposes. With NUMBA_DISABLE_JIT=1 the
Python twins at the end run instead.
"""

import llvmlite.binding as llvm_binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import get_cython_function_address, intrinsic

from fastggn.kernels.jit import DISABLED, inline

_ROUTINES = {
    "scipy.linalg.cython_blas": ("dgemm", "sgemm", "dsyrk", "ssyrk"),
    "scipy.linalg.cython_lapack": ("dpotrf", "dtpqrt", "dtpmqrt"),
}
for _module, _names in _ROUTINES.items():
    for _name in _names:
        llvm_binding.add_symbol(f"fastggn_{_name}", get_cython_function_address(_module, _name))

_I32 = ir.IntType(32)
_I8 = ir.IntType(8)
_F32 = ir.FloatType()


def _matrix(context, builder, typ, value):
    """Return the data pointer, rows, columns and leading dimension of a row-major matrix."""
    array = context.make_array(typ)(context, builder, value)
    rows, columns = cgutils.unpack_tuple(builder, array.shape, 2)
    strides = cgutils.unpack_tuple(builder, array.strides, 2)
    leading = builder.sdiv(strides[0], ir.Constant(strides[0].type, typ.dtype.bitwidth // 8))
    # An array of one row may have any stride; BLAS asks for at least the number of columns.
    wide = builder.icmp_signed(">", columns, leading)
    leading = builder.select(wide, columns, leading)
    one = ir.Constant(leading.type, 1)
    leading = builder.select(builder.icmp_signed("<", leading, one), one, leading)
    return array.data, rows, columns, leading


def _by_reference(builder, value):
    """Return a stack slot with `value`: Fortran takes every argument by address."""
    slot = cgutils.alloca_once(builder, value.type)
    builder.store(value, slot)
    return slot


def _integer(builder, value):
    return _by_reference(builder, builder.trunc(value, _I32))


def _character(builder, flag, if_true, if_false):
    """Return a stack slot with one of two letters."""
    letter = builder.select(
        builder.trunc(flag, ir.IntType(1)),
        ir.Constant(_I8, ord(if_true)),
        ir.Constant(_I8, ord(if_false)),
    )
    return _by_reference(builder, letter)


def _call(builder, name, arguments):
    function_type = ir.FunctionType(ir.VoidType(), [a.type for a in arguments])
    function = cgutils.get_or_insert_function(builder.module, function_type, f"fastggn_{name}")
    builder.call(function, arguments)


def _check_matrices(*arrays, dtypes=(types.float64,)):
    for a in arrays:
        if not (isinstance(a, types.Array) and a.ndim == 2 and a.dtype in dtypes):
            raise TypeError(f"this BLAS wrapper takes two-dimensional arrays of {dtypes}")
        if a.dtype != arrays[0].dtype:
            raise TypeError("the arrays of a BLAS call must have one dtype")


@intrinsic
def _gemm(typingctx, ta, tb, alpha, a, b, beta, c):
    """C = alpha op(A) op(B) + beta C; `ta` and `tb` are 0 or 1 (transposed)."""
    _check_matrices(a, b, c, dtypes=(types.float64, types.float32))
    signature = types.void(types.int64, types.int64, types.float64, a, b, types.float64, c)

    def codegen(context, builder, sig, args):
        data_a, rows_a, cols_a, lda = _matrix(context, builder, sig.args[3], args[3])
        data_b, _, _, ldb = _matrix(context, builder, sig.args[4], args[4])
        data_c, rows, cols, ldc = _matrix(context, builder, sig.args[6], args[6])
        single = sig.args[3].dtype == types.float32
        alpha, beta = args[2], args[5]
        if single:
            alpha, beta = builder.fptrunc(alpha, _F32), builder.fptrunc(beta, _F32)
        depth = builder.select(builder.trunc(args[0], ir.IntType(1)), rows_a, cols_a)
        arguments = [
            _character(builder, args[1], "T", "N"),
            _character(builder, args[0], "T", "N"),
            _integer(builder, cols),
            _integer(builder, rows),
            _integer(builder, depth),
            _by_reference(builder, alpha),
            data_b,
            _integer(builder, ldb),
            data_a,
            _integer(builder, lda),
            _by_reference(builder, beta),
            data_c,
            _integer(builder, ldc),
        ]
        _call(builder, "sgemm" if single else "dgemm", arguments)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def _syrk(typingctx, alpha, a, beta, c):
    """Lower triangle of C = alpha A A^T + beta C."""
    _check_matrices(a, c, dtypes=(types.float64, types.float32))
    signature = types.void(types.float64, a, types.float64, c)

    def codegen(context, builder, sig, args):
        data_a, _, depth, lda = _matrix(context, builder, sig.args[1], args[1])
        data_c, rows, _, ldc = _matrix(context, builder, sig.args[3], args[3])
        single = sig.args[1].dtype == types.float32
        alpha, beta = args[0], args[2]
        if single:
            alpha, beta = builder.fptrunc(alpha, _F32), builder.fptrunc(beta, _F32)
        yes = ir.Constant(ir.IntType(64), 1)
        arguments = [
            _character(builder, yes, "U", "U"),
            _character(builder, yes, "T", "T"),
            _integer(builder, rows),
            _integer(builder, depth),
            _by_reference(builder, alpha),
            data_a,
            _integer(builder, lda),
            _by_reference(builder, beta),
            data_c,
            _integer(builder, ldc),
        ]
        _call(builder, "ssyrk" if single else "dsyrk", arguments)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def _potrf(typingctx, a):
    """Lower Cholesky factor of A in place; returns 0, or the first bad pivot, counted from 1."""
    _check_matrices(a)
    signature = types.int64(a)

    def codegen(context, builder, sig, args):
        data_a, rows, _, lda = _matrix(context, builder, sig.args[0], args[0])
        info = _by_reference(builder, ir.Constant(_I32, 0))
        yes = ir.Constant(ir.IntType(64), 1)
        arguments = [
            _character(builder, yes, "U", "U"),
            _integer(builder, rows),
            data_a,
            _integer(builder, lda),
            info,
        ]
        _call(builder, "dpotrf", arguments)
        return builder.sext(builder.load(info), ir.IntType(64))

    return signature, codegen


@intrinsic
def _tpqrt(typingctx, r, below, t, work):
    """Fold rows into a triangle: all arrays are transposes of LAPACK's; returns its info."""
    _check_matrices(r, below, t, work)
    signature = types.int64(r, below, t, work)

    def codegen(context, builder, sig, args):
        (r, _, _, ldr), (b, columns, rows, ldb), (t, _, panel, ldt), (work, _, _, _) = (
            _matrix(context, builder, *pair) for pair in zip(sig.args, args, strict=True)
        )
        info = _by_reference(builder, ir.Constant(_I32, 0))
        zero = _by_reference(builder, ir.Constant(_I32, 0))
        sizes = [_integer(builder, size) for size in (rows, columns, panel)]
        leading = [_integer(builder, size) for size in (ldr, ldb, ldt)]
        arguments = [*sizes[:2], zero, sizes[2], r, leading[0], b, leading[1], t, leading[2]]
        _call(builder, "dtpqrt", [*arguments, work, info])
        return builder.sext(builder.load(info), ir.IntType(64))

    return signature, codegen


@intrinsic
def _tpmqrt(typingctx, v, t, c, right, work):
    """Turn right-hand sides, C above the others, by the reflectors of a fold; returns the info."""
    _check_matrices(v, t, c, right, work)
    signature = types.int64(v, t, c, right, work)

    def codegen(context, builder, sig, args):
        (v, columns, rows, ldv), (t, _, panel, ldt), (c, n_rhs, _, ldc), (b, _, _, ldb), (w, *_) = (
            _matrix(context, builder, *pair) for pair in zip(sig.args, args, strict=True)
        )
        info = _by_reference(builder, ir.Constant(_I32, 0))
        zero = _by_reference(builder, ir.Constant(_I32, 0))
        yes = ir.Constant(ir.IntType(64), 1)
        letters = [_character(builder, yes, "L", "L"), _character(builder, yes, "T", "T")]
        rows, n_rhs, columns, panel, ldv, ldt, ldc, ldb = (
            _integer(builder, size) for size in (rows, n_rhs, columns, panel, ldv, ldt, ldc, ldb)
        )
        sizes = [rows, n_rhs, columns, zero, panel]
        _call(builder, "dtpmqrt", [*letters, *sizes, v, ldv, t, ldt, c, ldc, b, ldb, w, info])
        return builder.sext(builder.load(info), ir.IntType(64))

    return signature, codegen


if DISABLED:
    import numpy as np
    from scipy.linalg import lapack

    def gemm(ta, tb, alpha, a, b, beta, c):
        """Twin of the compiled product."""
        product = alpha * ((a.T if ta else a) @ (b.T if tb else b))
        c[...] = product if beta == 0.0 else product + beta * c

    def syrk(alpha, a, beta, c):
        """Twin of the compiled symmetric product: the lower triangle only."""
        lower = np.tril_indices(c.shape[0])
        product = alpha * (a @ a.T)
        c[lower] = product[lower] if beta == 0.0 else product[lower] + beta * c[lower]

    def potrf(a):
        """Twin of the compiled Cholesky factorisation."""
        factor, info = lapack.dpotrf(np.tril(a), lower=1)
        lower = np.tril_indices(a.shape[0])
        a[lower] = factor[lower]
        return info

    def tpqrt(r, below, t, work):
        """Twin of the compiled fold."""
        r.T[...], below.T[...], t.T[...], info = lapack.dtpqrt(0, t.shape[1], r.T, below.T)
        return info

    def tpmqrt(v, t, c, right, work):
        """Twin of the compiled turn."""
        c.T[...], right.T[...], info = lapack.dtpmqrt(
            0, v.T, t.T, c.T, right.T, side="L", trans="T"
        )
        return info

else:

    @inline
    def gemm(ta, tb, alpha, a, b, beta, c):
        """C = alpha op(A) op(B) + beta C; `ta`, `tb`: 1 for the transpose."""
        _gemm(ta, tb, alpha, a, b, beta, c)

    @inline
    def syrk(alpha, a, beta, c):
        """Lower triangle of C = alpha A A^T + beta C."""
        _syrk(alpha, a, beta, c)

    @inline
    def potrf(a):
        """Cholesky in place, lower triangle; returns the first bad pivot (from 1), or 0."""
        return _potrf(a)

    @inline
    def tpqrt(r, below, t, work):
        """Fold rows, below (N, m) transposed, into R^T (N, N); returns LAPACK's info.

        `below` then holds the reflectors and `t` (N, panel) their factors; `work` (panel, N).
        """
        return _tpqrt(r, below, t, work)

    @inline
    def tpmqrt(v, t, c, right, work):
        """Turn C^T (n_rhs, N) and right-hand sides (n_rhs, m) by them; `work` (panel, n_rhs)."""
        return _tpmqrt(v, t, c, right, work)
