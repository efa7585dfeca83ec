"""The decorators of every compiled function: one place for all options of the compiler."""

import numba

# The names of the LLVM flags that keep NaN and infinities (no nnan, ninf) and the order of
# sums (no reassoc): results must not depend on how a loop was vectorised.
FLAGS = {"contract", "nsz", "arcp"}

# error_model="numpy": the check for a division by zero would stop vectorisation.
njit = numba.njit(cache=True, error_model="numpy", nogil=True, fastmath=FLAGS)
pnjit = numba.njit(cache=True, error_model="numpy", nogil=True, fastmath=FLAGS, parallel=True)
inline = numba.njit(cache=True, error_model="numpy", nogil=True, fastmath=FLAGS, forceinline=True)

# True where the compiler is switched off (NUMBA_DISABLE_JIT=1): Python twins run instead.
DISABLED = bool(numba.config.DISABLE_JIT)
