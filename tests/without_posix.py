"""What users do, on a machine without POSIX: ``without_posix.py FOLDER``.

The modules and names that Windows lacks are taken away after the third-party imports, and before
those of the package.
"""

import builtins
import io
import os
import signal
import sys
import warnings
from pathlib import Path

import click
import llvmlite.binding
import numba
import numpy as np
import rich.console
import rich.progress
import scipy.linalg
import scipy.sparse.linalg
import sklearn.model_selection
import threadpoolctl
from click.testing import CliRunner
from posix_names import MODULES, OS_NAMES, SIGNALS

HANDLED = ("SIGABRT", "SIGFPE", "SIGILL", "SIGINT", "SIGSEGV", "SIGTERM")


def take_away():
    """Leave what Windows has; what is there but acts otherwise is an error."""
    for name in MODULES:
        sys.modules[name] = None
    for module, names in ((os, OS_NAMES), (signal, SIGNALS)):
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    real_open, real_os_open, real_signal = builtins.open, os.open, signal.signal

    def opened(file, *args, **keywords):
        # threadpoolctl finds the libraries of Linux in the one that is left.
        if str(file).startswith(("/proc", "/sys")) and file != "/proc/self/maps":
            raise FileNotFoundError(file)
        return real_open(file, *args, **keywords)

    def os_opened(path, *args, **keywords):
        if os.path.isdir(path):
            raise PermissionError(13, "Permission denied", path)
        return real_os_open(path, *args, **keywords)

    def handled(number, handler):
        if signal.Signals(number).name not in HANDLED:
            raise ValueError("signal number out of range")
        return real_signal(number, handler)

    def kill(pid, number):
        raise AssertionError("os.kill ends a process on Windows")

    builtins.open = io.open = opened
    os.open, signal.signal, os.kill = os_opened, handled, kill
    signal.valid_signals = lambda: {getattr(signal, name) for name in HANDLED}


def use(folder):
    import fastggn as fg

    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 3))
    y = np.sin(X[:, 0]) + 0.1 * X[:, 1]
    problem = fg.Problem(fg.MLP((3, 5, 1)), X, y)
    first = fg.train(problem, seed=0, max_iter=3, checkpoint=folder / "run.ckpt")
    resumed = fg.train(
        problem, seed=0, max_iter=9, checkpoint=fg.Checkpoint(folder / "run.ckpt", resume=True)
    )
    whole = fg.train(problem, seed=0, max_iter=9)
    assert first.n_iter == 3 and np.array_equal(resumed.theta, whole.theta)
    model, _ = fg.fit((X, y), hidden=(4,), seed=0, max_iter=20)
    model.save(folder / "model.npz")
    again = fg.Model.load(folder / "model.npz")
    assert np.array_equal(again.predict(X), model.predict(X))
    again.save(folder / "model.npz")  # replaces a file
    np.save(folder / "rows.npy", np.column_stack([X, y]))
    with fg.data.open_npy(folder / "rows.npy") as rows:
        assert np.array_equal(rows[3:9], np.column_stack([X, y])[3:9])
    scores = sklearn.model_selection.cross_val_score(
        fg.GGNRegressor((4,), random_state=0, max_iter=20), X, y, cv=3
    )
    assert np.isfinite(scores).all()
    assert fg.rank_analysis(problem, whole.theta).rank > 0
    fg.show_config()
    command(folder)


def command(folder):
    from fastggn.apps.cli import main

    rows, model, ckpt = (str(folder / name) for name in ("rows.npy", "cli.npz", "cli.ckpt"))
    for arguments in (
        ["train", rows, "--hidden", "4", "--max-iter", "5", "--checkpoint", ckpt, "--out", model],
        ["train", rows, "--hidden", "4", "--max-iter", "9", "--checkpoint", ckpt, "--resume"]
        + ["--out", str(folder / "more.npz"), "--stream", "--max-time", "60"],
        ["info", model],
        ["evaluate", model, rows],
        ["rank", model, rows, "--max-time", "60"],
    ):
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 0, (arguments, done.output, done.exception)


if __name__ == "__main__":
    unused = click, llvmlite.binding, numba, rich.console, rich.progress, scipy.linalg
    unused += (scipy.sparse.linalg, threadpoolctl)
    warnings.simplefilter("ignore")
    take_away()
    use(Path(sys.argv[1]))
    print("DONE")
