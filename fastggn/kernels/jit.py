"""The decorators of every compiled function: one place for all options of the compiler."""

import numba

from fastggn.kernels.cache import KernelCache
from fastggn.kernels.compiler import KernelCompiler, PartCompiler
from fastggn.runtime.signals import deferred_signals

# The names of the LLVM flags that keep NaN and infinities (no nnan, ninf) and the order of
# sums (no reassoc): results must not depend on how a loop was vectorised.
FLAGS = {"contract", "nsz", "arcp"}

# True where the compiler is switched off (NUMBA_DISABLE_JIT=1): Python twins run instead.
DISABLED = bool(numba.config.DISABLE_JIT)


def _decorator(pipeline_class=KernelCompiler, fastmath=FLAGS, **options):
    # No wrapper for calls from C, which nobody makes.
    # error_model="numpy": the check for a division by zero would stop vectorisation.
    compiled = numba.njit(
        error_model="numpy",
        nogil=True,
        fastmath=fastmath,
        no_cfunc_wrapper=True,
        pipeline_class=pipeline_class,
        **options,
    )

    def decorate(function):
        dispatcher = compiled(function)
        if not DISABLED:
            dispatcher._cache = KernelCache(function)
            # LLVM calls Python for the code of a kernel. What a handler of a signal raises there is
            # lost, and so is the code: the kernel would be called at address 0.
            dispatcher.compile = deferred_signals()(dispatcher.compile)
        return dispatcher

    return decorate


njit = _decorator()
pnjit = _decorator(parallel=True)
# For functions that only other kernels call: they are linked into those, and a call from Python
# would crash.
leaf = _decorator(PartCompiler, no_cpython_wrapper=True)
inline = _decorator(PartCompiler, no_cpython_wrapper=True, forceinline=True)
# The same, rounded as NumPy rounds: no reciprocal in place of a division.
exact = _decorator(PartCompiler, fastmath=False, no_cpython_wrapper=True)
