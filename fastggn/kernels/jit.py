"""The decorators of every compiled function: one place for all options of the compiler."""

import warnings

import numba

from fastggn.kernels.cache import KernelCache
from fastggn.runtime.errors import KernelCacheWarning
from fastggn.runtime.signals import deferred_signals

try:
    from fastggn.kernels import compiler
except (ImportError, AttributeError) as _error:
    compiler = None
    warnings.warn(
        f"Numba {numba.__version__} has moved what fastggn's own compiler uses ({_error}): each "
        "process compiles its kernels anew, by Numba alone. Install an earlier Numba, or a later "
        "fastggn",
        KernelCacheWarning,
        stacklevel=2,
    )

# The names of the LLVM flags that keep NaN and infinities (no nnan, ninf) and the order of
# sums (no reassoc): results must not depend on how a loop was vectorised.
FLAGS = {"contract", "nsz", "arcp"}

# True where the compiler is switched off (NUMBA_DISABLE_JIT=1): Python twins run instead.
DISABLED = bool(numba.config.DISABLE_JIT)


def _decorator(pipeline="KernelCompiler", **options):
    if compiler is not None:
        options["pipeline_class"] = getattr(compiler, pipeline)
    # No wrapper for calls from C, which nobody makes.
    # error_model="numpy": the check for a division by zero would stop vectorisation.
    compiled = numba.njit(
        error_model="numpy",
        nogil=True,
        fastmath=FLAGS,
        no_cfunc_wrapper=True,
        **options,
    )

    def decorate(function):
        dispatcher = compiled(function)
        if not DISABLED:
            if compiler is not None:
                dispatcher._cache = KernelCache(function, compiler.to_bytes, compiler.from_bytes)
            # LLVM calls Python for the code of a kernel. What a handler of a signal raises there is
            # lost, and so is the code: the kernel would be called at address 0.
            dispatcher.compile = deferred_signals()(dispatcher.compile)
        return dispatcher

    return decorate


njit = _decorator()
pnjit = _decorator(parallel=True)
# For functions that only other kernels call: they are linked into those, and a call from Python
# would crash.
leaf = _decorator("PartCompiler", no_cpython_wrapper=True)
inline = _decorator("PartCompiler", no_cpython_wrapper=True, forceinline=True)
