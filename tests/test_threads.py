"""One budget of threads: set, checked, restored; and the same bits for any number."""

import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
import threading

import numba
import numpy as np
import pytest
import threadpoolctl
from patience import HANGS

import fastggn as fg
from fastggn.kernels.jit import DISABLED
from fastggn.runtime.cores import FreeCores
from fastggn.runtime.threads import (
    max_threads,
    one_pool,
    thread_count,
    threading_layer,
    workers,
    workers_for,
)

pytestmark = pytest.mark.xdist_group("threads")


def test_the_scheduler_sees_the_groups(request):
    """It reads a group from the id; without groups, workers repeat what is computed once."""
    if not request.config.getoption("loadgroup", False):
        pytest.skip("no worker of pytest-xdist with groups")
    assert request.node.nodeid.endswith("@threads")


BITS = """
import hashlib, json, sys
import numpy as np
import fastggn as fg
from fastggn.kernels.cholesky import cholesky
from fastggn.runtime.threads import one_pool

def digest(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()

def shifted(array, shift):
    buffer = np.empty(array.size + 8)
    view = buffer[shift : shift + array.size].reshape(array.shape)
    view[...] = array
    return view

SHAPES = [((3, 8, 1), 700, "squared"), ((6, 40, 40, 1), 900, "huber"),
          ((5, 12, 7, 4), 600, "softmax_cross_entropy")]
out = {}
for widths, T, loss in SHAPES:
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(T, widths[0])), rng.normal(size=(T, widths[-1]))
    if loss == "softmax_cross_entropy":
        Y = rng.integers(0, widths[-1], T)
    net = fg.MLP(widths)
    theta = net.init(seed=0)
    v, u = rng.normal(size=net.n_params), rng.normal(size=T * widths[-1])
    for n in (1, 2, 3, 4):
        for repeat in range(int(sys.argv[1])):
            with fg.threads(n):
                p = fg.Problem(net, shifted(X, repeat % 8), Y, loss, l2=1e-3)
                t = shifted(theta, (3 * repeat) % 8)
                J = p.jacobian(t)
                G = p.ggn(t)
                factor = G + np.eye(len(G))
                with one_pool():
                    assert cholesky(factor) == 0
                one = fg.train(p, t, max_iter=1)
                many = fg.train(p, t, max_iter=20) if repeat == 0 else one
                dense = p.hessian(t) if repeat == 0 else G
                results = [G, p.gradient(t), J @ v, J.T @ u, np.tril(factor), one.theta,
                           many.theta if repeat == 0 else None, dense if repeat == 0 else None]
            for k, r in enumerate(results):
                if r is not None:
                    out.setdefault(f"{widths} {k}", set()).add(digest(r))
print(json.dumps({k: len(v) for k, v in out.items()}))
"""


@pytest.mark.process
@pytest.mark.skipif(DISABLED, reason="threads need the compiler")
def test_the_bits_do_not_depend_on_the_number_of_threads_or_the_alignment():
    environment = {**os.environ, "NUMBA_NUM_THREADS": "4"}
    result = subprocess.run(
        [sys.executable, "-c", BITS, "10"],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    distinct = json.loads(result.stdout.splitlines()[-1])
    assert len(distinct) == 3 * 8
    assert set(distinct.values()) == {1}, distinct


def test_threads_are_set_and_restored():
    before = numba.get_num_threads()
    with fg.threads(1):
        assert thread_count() == 1
    assert numba.get_num_threads() == before
    with pytest.raises(RuntimeError, match="inside"), fg.threads(1):
        raise RuntimeError("inside")
    assert numba.get_num_threads() == before


def test_blas_runs_at_one_thread_inside_and_is_restored():
    def blas():
        return [
            lib["num_threads"]
            for lib in threadpoolctl.threadpool_info()
            if lib["user_api"] == "blas"
        ]

    np.ones((2, 2)) @ np.ones((2, 2))
    before = blas()
    with one_pool():
        assert set(blas()) == {1}
        with fg.threads(1):
            assert set(blas()) == {1}
        assert set(blas()) == {1}
    assert blas() == before
    with pytest.raises(RuntimeError, match="inside"), one_pool():
        raise RuntimeError("inside")
    assert blas() == before


@pytest.mark.parametrize("n", [0, -1, max_threads() + 1])
def test_a_count_out_of_range_raises(n):
    with pytest.raises(ValueError, match=r"number of threads must lie in 1\.\."), fg.threads(n):
        pass


@pytest.mark.parametrize("n", [1.5, "2", True])
def test_a_count_that_is_no_integer_raises(n):
    with pytest.raises(TypeError, match="must be an integer"), fg.threads(n):
        pass


@pytest.mark.skipif(max_threads() == 1, reason="one thread has nothing to leave")
def test_large_work_runs_on_the_free_cores_and_small_work_on_the_calling_thread(monkeypatch):
    n = max_threads()
    for free, large in ((1, 1), (n - 1, n - 1), (n, n), (sys.maxsize, n)):
        monkeypatch.setattr(FreeCores, "count", lambda _, free=free: free)
        with fg.threads(n):
            with workers_for(1e12):
                assert workers() == large
            with workers_for(1.0):
                assert workers() == 1
            assert workers() == thread_count() == n
    with fg.threads(1), workers_for(1e12):
        assert workers() == 1


@pytest.mark.skipif(max_threads() == 1, reason="one thread has nothing to share")
def test_python_threads_share_the_workers(monkeypatch):
    thread_count()
    if threading_layer() in (None, "workqueue"):
        pytest.skip("Python threads take turns")
    monkeypatch.setattr(FreeCores, "count", lambda _: sys.maxsize)
    inside, leave = threading.Event(), threading.Event()

    def other():
        with one_pool():
            inside.set()
            leave.wait()

    beside = threading.Thread(target=other)
    with fg.threads(max_threads()), workers_for(1e12):
        assert workers() == max_threads()
    beside.start()
    inside.wait()
    with fg.threads(max_threads()), workers_for(1e12):
        shared = workers()
    leave.set()
    beside.join()
    assert shared == max_threads() // 2
    with fg.threads(max_threads()), workers_for(1e12):
        assert workers() == max_threads()


def test_a_run_whose_free_cores_change_all_the_time_has_the_same_bits(monkeypatch):
    rng = np.random.default_rng(0)
    X, labels = rng.normal(size=(900, 6)), rng.integers(0, 5, 900)
    problem = fg.Problem(fg.MLP((6, 40, 5)), X, labels, "softmax_cross_entropy")
    digests = set()
    for cycle in ([sys.maxsize], [1], [1, 2, 3, sys.maxsize]):
        counts = itertools.cycle(cycle)
        monkeypatch.setattr(FreeCores, "count", lambda _, counts=counts: next(counts))
        theta = fg.train(
            problem, seed=0, max_iter=8, method=fg.LevenbergMarquardt(solver="cholesky")
        ).theta
        digests.add(hashlib.sha256(theta.tobytes()).hexdigest())
    assert len(digests) == 1


def test_two_python_threads_give_the_results_of_two_calls_in_sequence():
    from concurrent.futures import ThreadPoolExecutor

    rng = np.random.default_rng(0)
    problem = fg.Problem(fg.MLP((2, 6, 1)), rng.normal(size=(50, 2)), rng.normal(size=50))

    def digest(seed):
        theta = fg.train(problem, seed=seed, max_iter=8).theta
        return hashlib.sha256(theta.tobytes()).hexdigest()

    alone = [digest(seed) for seed in range(6)]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(digest, range(6))) == alone


def test_blas_is_limited_in_every_python_thread_and_restored_by_the_last():
    """The thread that leaves last need not be the one that came first."""

    def blas():
        return [
            lib["num_threads"]
            for lib in threadpoolctl.threadpool_info()
            if lib["user_api"] == "blas"
        ]

    before = blas()
    inside, leave = threading.Barrier(2), threading.Event()
    seen = []

    def first():
        with one_pool():
            inside.wait(HANGS)

    def last():
        with one_pool():
            inside.wait(HANGS)
            leave.wait(HANGS)
            seen.append(blas())

    fg.Problem(fg.MLP((1, 2, 1)), np.ones((3, 1)), np.ones(3)).loss(np.zeros(7))
    if threading_layer() == "workqueue":
        pytest.skip("calls take turns on the workqueue layer")
    workers = [threading.Thread(target=target) for target in (first, last)]
    for worker in workers:
        worker.start()
    workers[0].join(HANGS)
    leave.set()
    workers[1].join(HANGS)
    assert set(seen[0]) == {1}, threadpoolctl.threadpool_info()
    assert blas() == before


def test_show_config_names_what_matters(capsys):
    fg.show_config()
    text = capsys.readouterr().out
    for word in ("numba", "threading layer", "blas", "threads", "cache folder", "cores (bound"):
        assert word in text
    assert re.search(r"waiting +workers (spin|sleep|yield)", text) or DISABLED
