"""The number of threads of an estimator."""

from __future__ import annotations

import os
import threading

from fastggn.runtime.threads import thread_count


def threads_to_use(n_threads: int | None) -> int | None:
    """Return the threads of a fit or a prediction; None for the default of the kernels."""
    if n_threads is not None:
        return n_threads
    if threading.current_thread() is not threading.main_thread():
        return 1  # the threads of joblib share the cores
    # joblib sets OMP_NUM_THREADS in its processes; they may inherit Numba's own variable.
    # "4,2" gives the threads of nested levels; the first is the outer one.
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if asked.isdigit() and int(asked) > 0:
        return min(thread_count(), int(asked))
    return None
