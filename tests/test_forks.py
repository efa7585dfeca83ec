"""After a fork: results or an exception, never a hang."""

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from patience import HANGS

from fastggn.data import reading
from fastggn.kernels.jit import DISABLED
from fastggn.runtime.forks import LocalLock

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(DISABLED, reason="threads need the compiler")


def train_in_all_kinds(layer, count):
    environment = {**os.environ, "NUMBA_THREADING_LAYER": layer, "PYTHONPATH": str(ROOT)}
    worker = ROOT / "tests" / "fork_worker.py"
    result = subprocess.run(
        [sys.executable, str(worker), layer, str(count)],
        capture_output=True, text=True, env=environment, timeout=HANGS,
    )  # fmt: skip
    if f"threading layer {layer!r} cannot be loaded" in result.stderr:
        pytest.skip(f"the threading layer {layer} is absent")
    assert result.returncode == 0, result.stderr
    assert result.stdout == "ended\n"


def ends_well(work):
    """Whether a child of a fork does some work without an error."""
    child = os.fork()
    if child == 0:
        code = 1
        signal.alarm(int(HANGS))  # ends a child that hangs
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1] == 0


def take(lock):
    with lock, lock:
        pass


def test_a_lock_of_another_thread_is_free_in_the_child():
    lock, held, leave = LocalLock(), threading.Event(), threading.Event()

    def hold():
        with lock:
            held.set()
            leave.wait(HANGS)

    other = threading.Thread(target=hold)
    other.start()
    held.wait(HANGS)
    assert ends_well(lambda: take(lock))
    leave.set()
    other.join()


def test_a_lock_of_the_forking_thread_stays_its_own_in_the_child():
    lock = LocalLock()

    def go_on():
        take(lock)
        lock.__exit__(None, None, None)
        take(lock)

    with lock:
        assert ends_well(go_on)
        take(lock)


def test_a_pass_over_a_file_goes_on_in_the_child_of_a_fork():
    """Which lacks the thread that reads ahead; the parent's pass is left alone."""
    expected = list(reading.read_ahead(lambda start, stop: range(start, stop), 30, 7))

    def go_on(begun, parts):
        assert begun + list(parts) == expected

    for place in range(1, len(expected) + 1):
        parts = reading.read_ahead(lambda start, stop: range(start, stop), 30, 7)
        begun = [next(parts) for _ in range(place)]
        assert ends_well(lambda begun=begun, parts=parts: go_on(begun, parts))
        go_on(begun, parts)


def test_each_lock_is_free_in_the_child_of_a_fork():
    """Others than these are `LocalLock`s, or a fork waits for them."""
    found = {
        (path.relative_to(ROOT).as_posix(), kind)
        for path in (ROOT / "fastggn").rglob("*.py")
        for kind in re.findall(
            r"\b(R?Lock|Condition|Semaphore|Barrier)\(\)", path.read_text(encoding="utf-8")
        )
    }
    assert found == {
        ("fastggn/runtime/forks.py", "RLock"),  # that of LocalLock
        ("fastggn/runtime/platform.py", "Lock"),  # of systems without preadv and forks
        ("fastggn/runtime/threads.py", "Lock"),  # held over forks
        ("fastggn/runtime/threads.py", "RLock"),  # Numba's, renewed
    }


@pytest.mark.parametrize(
    "forks",
    [pytest.param(100, marks=pytest.mark.process), pytest.param(300, marks=pytest.mark.weekly)],
)
@pytest.mark.parametrize("layer", ["omp", "tbb", "workqueue"])
def test_processes_of_every_kind_give_the_bits_of_their_parent(layer, forks):
    """Forks at random moments beside a thread that trains, and the pools of others."""
    train_in_all_kinds(layer, forks)


COLD = """
import os, sys, threading, time
import fastggn as fg

def work():
    problem = fg.Problem(fg.MLP((2, 3, 1)), [[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [0.0, 1.0, 0.5])
    fg.train(problem, seed=0, max_iter=2)

other = threading.Thread(target=work)
other.start()
time.sleep(float(sys.argv[1]))
child = os.fork()
if child == 0:
    try:
        work()
    finally:
        os._exit(0)
end = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    if os.waitpid(child, os.WNOHANG)[0]:
        break
    time.sleep(0.01)
else:
    os.kill(child, 9)
    sys.exit("the child hangs")
other.join()
"""


def fork_beside_imports(moment):
    result = subprocess.run(
        [sys.executable, "-c", COLD, str(moment), str(HANGS / 2)],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=HANGS,
    )  # fmt: skip
    assert result.returncode == 0, f"after {moment} s: {result.stderr}"


@pytest.mark.process
def test_a_fork_while_another_thread_imports_does_not_hang():
    fork_beside_imports(0.3)


@pytest.mark.parametrize(
    "count", [pytest.param(15, marks=pytest.mark.slow), pytest.param(60, marks=pytest.mark.weekly)]
)
def test_forks_at_many_moments_of_a_first_training_do_not_hang(count):
    for moment in (1.2 / count * k for k in range(count)):
        fork_beside_imports(moment)
