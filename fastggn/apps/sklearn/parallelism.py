"""How many threads an estimator uses where nothing was asked for."""

from __future__ import annotations

import os
import threading

from fastggn.runtime.threads import thread_count


def threads_to_use(n_threads: int | None) -> int | None:
    """Return the number of threads for a fit or a prediction.

    `n_threads` where it is given. Otherwise what the kernels use anyway, but

    - no more than the variable OMP_NUM_THREADS: joblib sets it in the processes it starts, to
      the cores over the processes, and Numba's own variable may be inherited from the parent;
    - one in a Python thread that is not the main one: joblib's threads share the cores.
    """
    if n_threads is not None:
        return n_threads
    if threading.current_thread() is not threading.main_thread():
        return 1
    # "4,2" gives the threads of nested levels; the first is the outer one.
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if asked.isdigit() and int(asked) > 0:
        return min(thread_count(), int(asked))
    return None
