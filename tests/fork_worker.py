"""Processes of every kind train after their parent has: ``fork_worker.py LAYER FORKS``."""

import hashlib
import multiprocessing
import os
import random
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import joblib
import numba
import numpy as np
import threadpoolctl
from patience import HANGS

import fastggn as fg
from fastggn.runtime.threads import LAYER, one_pool

PATIENCE = HANGS / 4  # seconds after which a child hangs


def samples(T=600):
    rng = np.random.default_rng(0)
    return rng.normal(size=(T, 4)), rng.normal(size=(T, 2))


def digest(seed, T=600):
    theta = fg.train(fg.Problem(fg.MLP((4, 20, 2)), *samples(T)), seed=seed, max_iter=3).theta
    return hashlib.sha256(theta.tobytes()).hexdigest()


def place(_):
    """Return the bits of a run, the process, and whether its kernels lost their threads."""
    return digest(0), os.getpid(), LAYER.lost


def code_of(child):
    """Return the exit code of a child, or None if it hangs."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return None


def forked(work):
    """Return the exit code of a child that does some work: 0, or 1 with an exception."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if work() else 2
        finally:
            os._exit(code)
    return code_of(child)


def forks_beside_training(expected, count):
    """Fork at random moments while another thread trains; return the exit codes."""
    stop, moments = threading.Event(), random.Random(0)

    def train_on():
        while not stop.is_set():
            digest(1)

    other = threading.Thread(target=train_on)
    other.start()
    codes = []
    for _ in range(count):
        time.sleep(0.01 * moments.random())
        codes.append(forked(lambda: digest(0) == expected))
    stop.set()
    other.join(PATIENCE)
    assert not other.is_alive(), "the parent hangs"
    return codes


def blas_threads():
    found = threadpoolctl.threadpool_info()
    return [library["num_threads"] for library in found if library["user_api"] == "blas"]


def blas_beside_training():
    """Fork while another thread is inside; the child has BLAS's own number of threads."""
    before, inside, leave = blas_threads(), threading.Event(), threading.Event()

    def stay():
        with one_pool():
            inside.set()
            leave.wait(PATIENCE)

    other = threading.Thread(target=stay)
    other.start()
    inside.wait(PATIENCE)
    code = forked(lambda: blas_threads() == before)
    leave.set()
    other.join(PATIENCE)
    return code


def check_pools(expected):
    """Compare the bits of processes and threads of multiprocessing and joblib."""
    for kind in ("fork", "spawn"):
        with multiprocessing.get_context(kind).Pool(2) as pool:
            found = pool.map_async(place, range(4)).get(PATIENCE)
        assert all(bits == expected and pid != os.getpid() for bits, pid, _ in found), found
        assert all(lost == (kind == "fork") for _, _, lost in found), found
    for kind in ("loky", "multiprocessing", "threading"):
        with joblib.parallel_config(kind):
            found = joblib.Parallel(2, timeout=PATIENCE)(joblib.delayed(place)(i) for i in range(4))
        assert all(bits == expected for bits, _, _ in found), found


def main(layer, count):
    warnings.simplefilter("ignore", fg.errors.FastGGNWarning)
    early = forked(lambda: digest(0) and not LAYER.lost)  # starts its own threads
    expected = digest(0)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(digest, range(4))) == [digest(seed) for seed in range(4)]
    assert numba.threading_layer() == layer
    assert early == 0, early
    # A grandchild too: libgomp itself would let it hang.
    assert forked(lambda: forked(lambda: digest(0) == expected) == 0) == 0
    assert blas_beside_training() == 0
    codes = forks_beside_training(expected, count)
    assert codes == [0] * count, codes
    check_pools(expected)
    assert digest(0) == expected and not LAYER.lost
    print("ended")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
