"""Ctrl-C at random lines leaks no threads, locks, handlers or files."""

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
from strikes import Strike

import fastggn as fg
from fastggn.apps.cli.predict import WRITERS, Predictions
from fastggn.apps.cli.watch import Watch
from fastggn.kernels import cache
from fastggn.runtime import atomic_files, forks, threads
from fastggn.runtime.locks import FileLock
from fastggn.training.checkpoint.files import CheckpointFile


def state():
    """Return what an interrupt must leave as it was."""
    # Not here: `np.errstate` and `warnings.catch_warnings` have lines of their own.
    blas = [lib["num_threads"] for lib in _blas() if lib["user_api"] == "blas"]
    numbers = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
    return {
        "BLAS": blas,
        "workers": numba.get_num_threads(),
        "inside BLAS": set(threads._blas._inside),
        "pool": threads._inside.pool,
        "locks that are held": held_locks(),
        "handlers": [signal.getsignal(number) for number in numbers],
        "mask": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "Python threads": sorted(t.name for t in threading.enumerate()),
        "files": len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0,
        "files under way": set(atomic_files._open_files),
        "unfinished kernels": unfinished_kernels(),
    }


def _blas():
    return threadpoolctl.threadpool_info()


def held_locks():
    """Return the locks of the package, of Numba and of imports that anybody holds."""
    locks = [lock._lock for lock in list(forks._local)] + forks._foreign_locks()
    locks = [getattr(lock, "_lock", lock) for lock in [*locks, threads._blas.lock]]
    held = [repr(lock) for lock in locks if not repr(lock).startswith("<unlocked")]
    return held + forks._imports(own=True)


def unfinished_kernels():
    """Return the temporary files of this process in the kernels' cache."""
    mine = f".{os.getpid()}."
    return {file.name for folder in cache.folders()[0] for file in folder.glob(f".*{mine}*.tmp")}


def samples():
    rng = np.random.default_rng(0)
    return rng.normal(size=(40, 2)), rng.normal(size=(40, 1))


ITERATIONS, NET = 3, fg.MLP((2, 3, 1))


def train(folder, resume=False, callbacks=()):
    with fg.threads(1):
        return fg.train(
            fg.Problem(NET, *samples()), seed=0, max_iter=ITERATIONS, held_out=samples(),
            checkpoint=fg.Checkpoint(folder / "run.ckpt", every=1, resume=resume),
            callbacks=callbacks,
        )  # fmt: skip


def training(folder):
    seen.clear()
    return train(folder, callbacks=[lambda record: seen.append(np.array(record.theta))]).theta


def fitting(folder):
    return fg.GGNRegressor(3, max_iter=3, random_state=0).fit(*samples()).predict(samples()[0])


def ranking(folder):
    problem = fg.Problem(NET, *samples())
    report = fg.rank_analysis(problem, problem.network.init(seed=0))
    return report.singular_values


def saving(folder):
    model = fg.Model.of(NET, NET.init(seed=0))
    for _ in range(2):
        model.save(folder / "model.npz")
    return fg.Model.load(folder / "model.npz").theta


class SlowRows:
    """An array that is read as a file is, in parts, by a thread."""

    dtype, shape = np.dtype(float), (5000, 400)

    def __getitem__(self, rows):
        return np.repeat(np.arange(*rows.indices(self.shape[0]))[:, None] / 5e3, 400, axis=1)


def streaming(folder):
    """Losses and predictions of rows that stay in their file."""
    net = fg.MLP((400, 2, 1))
    theta, rows = net.init(seed=0), SlowRows()
    problem = fg.Problem(net, rows, np.linspace(0, 1, 5000)[:, None])
    return np.append(problem.gradient(theta), predicted(folder, theta[: NET.n_params]))


def predicted(folder, theta):
    """The command `predict`, without its watch, which would end this process."""
    out = folder / "out.npy"
    np.save(folder / "rows.npy", samples()[0])
    predictions = Predictions(fg.Model.of(NET, theta), str(folder / "rows.npy"), proba=False,
                              std=False)  # fmt: skip
    write = WRITERS[".npy"]
    atomic_files.write_atomically(out, lambda stream: write(stream, predictions, Watch(quiet=True)))
    return np.load(out)


seen = []  # theta of each iteration that a callback was told of
WORK = {work.__name__: work for work in (training, fitting, ranking, saving, streaming)}


def check_files(folder, whole):
    """Check that no other file is left, that no lock is held, and that each file is whole."""
    names = {path.name for path in folder.iterdir()}
    assert names <= {"run.ckpt", "run.ckpt.previous", "model.npz", "rows.npy", "out.npy"}, names
    lock = FileLock(folder / "run.ckpt")
    lock.acquire()
    lock.release()
    if "model.npz" in names:
        fg.Model.load(folder / "model.npz")
    if whole is not None:
        check_checkpoint(folder, whole)


def check_checkpoint(folder, whole):
    """The checkpoint is that of the last accepted step, and a resumed run ends as a whole one."""
    content = CheckpointFile(folder / "run.ckpt").load()
    if content is None:
        assert len(seen) <= 1
    else:
        count = len(content["history"]["loss"])
        assert len(seen) - 1 <= count <= max(len(seen), count)
        assert content["theta"].tobytes() == whole[count].tobytes()
    assert train(folder, resume=True).theta.tobytes() == whole[ITERATIONS].tobytes()


def strike_often(name, folder, count):
    """Interrupt a work at random lines; each line of the package is as likely as another."""
    work, draw = WORK[name], random.Random(f"{name} {count}")
    result, whole = work(folder).tobytes(), None  # loads everything
    if name == "training":
        whole = [NET.init(seed=0), *seen]
    gc.collect()
    gc.freeze()  # collections look at what a strike leaves
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return strikes(work, folder, draw, count, result, whole)
    finally:
        gc.unfreeze()


def strikes(work, folder, draw, count, result, whole):
    """Return the faults of so many strikes, and how many came."""
    learnt = Strike()
    learnt.run(lambda: work(folder))
    lines, faults, struck = sorted(learnt.visits), [], 0
    for _ in range(count):
        line = draw.choice(lines)
        visit = draw.randint(1, min(learnt.visits[line], draw.choice((1, 3, 1000))))
        where = f"{Path(line[0]).name}:{line[1]}, visit {visit}"
        gc.collect()
        for path in folder.iterdir():
            path.unlink()
        before, strike = state(), Strike(line, visit)
        strike.run(lambda: work(folder))
        struck += strike.struck
        gc.collect()
        after = state()
        faults += [
            f"{where}: {key} was {before[key]} and is {after[key]}"
            for key in before
            if before[key] != after[key]
        ]
        try:
            check_files(folder, whole)
            assert work(folder).tobytes() == result, "another run has other bits"
        except Exception as error:
            faults.append(f"{where}: {type(error).__name__}: {error}")
    return faults, struck


def check(name, folder, count):
    faults, struck = strike_often(name, folder, count)
    print(f"{name}: {struck} of {count} interrupts came, {len(faults)} faults")
    assert not faults, "\n".join(faults)
    assert struck >= 0.7 * count


untraced = pytest.mark.skipif(sys.gettrace() is not None, reason="another tracer is at work")


@untraced
@pytest.mark.parametrize("name", list(WORK))
def test_ctrl_c_at_random_lines(name, tmp_path):
    check(name, tmp_path, 6)


@untraced
@pytest.mark.slow
@pytest.mark.parametrize("name", list(WORK))
def test_ctrl_c_at_a_hundred_random_lines(name, tmp_path):
    check(name, tmp_path, 100 // len(WORK))


@untraced
@pytest.mark.weekly
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", list(WORK))
def test_ctrl_c_at_two_thousand_random_lines(name, tmp_path):
    check(name, tmp_path, 2000 // len(WORK))
