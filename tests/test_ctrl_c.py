"""Ctrl-C at random lines leaks no threads, locks, handlers or files."""

import _thread
import contextlib
import gc
import os
import random
import signal
import sys
import threading
import warnings
from pathlib import Path

import numba
import numpy as np
import pytest
import threadpoolctl

import fastggn as fg
from fastggn.runtime.locks import FileLock

PACKAGE = str(Path(fg.__file__).resolve().parent)
TRACED = (PACKAGE, contextlib.__file__)


class _Signal(int):
    """A signal that arrives when its attribute is read.

    Python looks for signals after a call, at the start of a function and at a jump back. It does
    not do so after the reading of an attribute: the signal waits for the traced line, as a true
    one does.
    """

    arrive = property(_thread.interrupt_main)


class Strike:
    """Trace the lines of the package, and send Ctrl-C at the n-th visit of one of them."""

    def __init__(self, line=None, visit=1):
        self.visits = {}
        self._line, self._left = line, visit
        self._ctrl_c = _Signal(signal.SIGINT)

    def __call__(self, frame, event, _):
        code = frame.f_code
        if not code.co_filename.startswith(TRACED):
            return None
        if event == "line":
            place = (code.co_filename, frame.f_lineno)
            if self._line is None:
                self.visits[place] = self.visits.get(place, 0) + 1
            elif place == self._line:
                self._left -= 1
                if self._left == 0:
                    sys.settrace(None)  # first: this function would be interrupted itself
                    self._ctrl_c.arrive  # noqa: B018
        return self

    def run(self, work):
        """Return whether the work was interrupted."""
        sys.settrace(self)
        try:
            work()
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(None)
        return False


def state():
    """Return what an interrupt must leave as it was."""
    # Not here: `np.errstate` and `warnings.catch_warnings` have lines of their own.
    blas = [lib["num_threads"] for lib in _blas() if lib["user_api"] == "blas"]
    numbers = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
    return {
        "BLAS": blas,
        "workers": numba.get_num_threads(),
        "handlers": [signal.getsignal(number) for number in numbers],
        "mask": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "Python threads": sorted(t.name for t in threading.enumerate()),
        "files": len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0,
    }


def _blas():
    return threadpoolctl.threadpool_info()


def samples():
    rng = np.random.default_rng(0)
    return rng.normal(size=(40, 2)), rng.normal(size=(40, 1))


def training(folder):
    problem = fg.Problem(fg.MLP((2, 3, 1)), *samples())
    with fg.threads(1):
        fg.train(
            problem, seed=0, max_iter=3, held_out=samples(),
            checkpoint=fg.Checkpoint(folder / "run.ckpt", every=1),
        )  # fmt: skip


def fitting(folder):
    fg.GGNRegressor(3, max_iter=3, random_state=0).fit(*samples())


def ranking(folder):
    problem = fg.Problem(fg.MLP((2, 3, 1)), *samples())
    fg.rank_analysis(problem, problem.network.init(seed=0))


def saving(folder):
    net = fg.MLP((2, 3, 1))
    model = fg.Model.of(net, net.init(seed=0))
    for _ in range(2):
        model.save(folder / "model.npz")


WORK = {work.__name__: work for work in (training, fitting, ranking, saving)}


def check_files(folder):
    """Check that no other file is left, that no lock is held, and that each file is whole."""
    names = {path.name for path in folder.iterdir()}
    assert names <= {"run.ckpt", "run.ckpt.previous", "model.npz"}
    lock = FileLock(folder / "run.ckpt")
    lock.acquire()
    lock.release()
    if "model.npz" in names:
        fg.Model.load(folder / "model.npz")
    if "run.ckpt" in names:
        from fastggn.training.checkpoint.files import CheckpointFile

        assert CheckpointFile(folder / "run.ckpt").load() is not None


def strike_often(name, folder, count):
    """Interrupt a work at random lines; each line of the package is as likely as another."""
    work, draw = WORK[name], random.Random(f"{name} {count}")
    work(folder)  # loads everything
    learnt = Strike()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        learnt.run(lambda: work(folder))
        lines, faults, hits = sorted(learnt.visits), [], 0
        for _ in range(count):
            line = draw.choice(lines)
            visit = draw.randint(1, min(learnt.visits[line], draw.choice((1, 3, 1000))))
            gc.collect()
            for path in folder.iterdir():
                path.unlink()
            before = state()
            hits += Strike(line, visit).run(lambda: work(folder))
            gc.collect()
            where = f"{Path(line[0]).name}:{line[1]}, visit {visit}"
            after = state()
            faults += [
                f"{where}: {key} was {before[key]} and is {after[key]}"
                for key in before
                if before[key] != after[key]
            ]
            try:
                check_files(folder)
            except (AssertionError, ValueError) as error:
                faults.append(f"{where}: {error}")
    return faults, hits


@pytest.mark.skipif(sys.gettrace() is not None, reason="another tracer is at work")
@pytest.mark.parametrize("name", list(WORK))
def test_ctrl_c_at_random_lines(name, tmp_path):
    faults, hits = strike_often(name, tmp_path, 15)
    assert not faults, "\n".join(faults)
    assert hits >= 3


@pytest.mark.weekly
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", list(WORK))
def test_ctrl_c_at_five_hundred_random_lines(name, tmp_path):
    faults, hits = strike_often(name, tmp_path, 500)
    assert not faults, "\n".join(faults)
    assert hits >= 100
