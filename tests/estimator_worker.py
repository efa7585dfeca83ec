"""An estimator that counts the threads its fit used; a module, so that processes can import it."""

import os
import threading
from pathlib import Path

import numba

import fastggn as fg


def cpu_seconds():
    """Return the CPU time of each thread of this process, by its id."""
    out = {}
    for task in Path("/proc/self/task").iterdir():
        try:
            out[task.name] = int((task / "schedstat").read_text().split()[0]) / 1e9
        except OSError:  # it has ended meanwhile
            continue
    return out


class CountingRegressor(fg.GGNRegressor):
    """Keeps how many threads did more than a tenth of the work of the busiest one."""

    def fit(self, X, y, sample_weight=None):
        super().fit(X, y, sample_weight)  # loads the kernels
        before = cpu_seconds()
        super().fit(X, y, sample_weight)
        spent = [t - before.get(name, 0.0) for name, t in cpu_seconds().items()]
        self.busy_threads_ = sum(s > 0.1 * max(spent) for s in spent)
        self.process_ = os.getpid()
        return self


def count(estimator, X, y):
    """Score by what the process used: threads busy, times 1e7, plus its number."""
    return estimator.busy_threads_ * 10_000_000 + estimator.process_


def allowed(n_threads=None):
    """Return the threads an estimator would use here, and those that Numba has."""
    from fastggn.apps.sklearn.parallelism import threads_to_use
    from fastggn.runtime.threads import threads

    with threads(threads_to_use(n_threads)):
        main = threading.current_thread() is threading.main_thread()
        return numba.get_num_threads(), numba.config.NUMBA_NUM_THREADS, main
