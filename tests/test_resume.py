"""A run that goes on from a checkpoint: the bits of an uninterrupted one, whatever stopped it."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from fakes import StillClock

import fastggn as fg
from fastggn.runtime.threads import max_threads
from fastggn.training.checkpoint.files import CheckpointError, CheckpointFile
from fastggn.training.checkpoint.saving import Interval
from fastggn.training.history import from_columns, to_columns

ROOT = Path(__file__).resolve().parent.parent
ITERATIONS = 20
DISABLED = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")

# Held-out samples with labels of their own: their loss rises soon.
VALIDATION = (fg.data.four_regions(40, seed=1)[0], fg.data.four_regions(40, seed=2)[1])

# Every method and every part that remembers something.
CASES = {
    "lm": {},
    "lm mixed": {"method": fg.LevenbergMarquardt(solver="cholesky", precision="mixed")},
    "lm lsqr": {"method": fg.LevenbergMarquardt(solver="lsqr")},
    "lm geodesic off": {"method": fg.LevenbergMarquardt(geodesic=False, damping=1.0)},
    "lm batches": {"method": fg.LevenbergMarquardt(batch_size=30)},
    "lm bayesian": {"regularize": fg.Evidence()},
    "lm bayesian qr": {"regularize": fg.Evidence(), "method": fg.LevenbergMarquardt(solver="qr")},
    "ggn": {"method": fg.GaussNewton(step=0.1)},
    "ggn batches": {"method": fg.GaussNewton(step=0.1, batch_size=30)},
    "newton": {"method": "newton"},
    "newton matrix-free": {"method": fg.Newton(solver="lsqr")},
    "lbfgs": {"method": fg.LBFGS(memory=3)},
    "bp momentum": {"method": fg.GradientDescent(rate=0.01, momentum=0.9)},
    "adam": {"method": fg.Adam(rate=0.01)},
    "adam batches": {"method": fg.Adam(rate=0.01, batch_size=16)},
    "newton null space": {"method": "newton", "regularize": fg.NullSpace(refresh=3)},
    "newton iterated null space": {
        "method": fg.Newton(solver="lsqr"),
        "regularize": fg.NullSpace(refresh=None),
    },
    "lm null space": {"regularize": fg.NullSpace(mode="objective", refresh=3)},
    "early stopping": {
        "method": fg.LevenbergMarquardt(damping=1e-3),
        "held_out": fg.HeldOut(VALIDATION[0], VALIDATION[1], np.linspace(0.5, 1.0, 40), patience=9),
    },
    "early stopping with batches": {
        "method": fg.LevenbergMarquardt(batch_size=30),
        "held_out": fg.HeldOut(*VALIDATION, patience=9, tol=1e-3),
    },
    "escape by noise": {"leave_saddles": "noise", "stop": fg.Stop(gradient=0.01)},
    "escape by curvature": {"leave_saddles": "negative_curvature", "stop": fg.Stop(gradient=0.01)},
}


@pytest.fixture(scope="module")
def problem():
    X, Y = fg.data.four_regions(60, seed=0)
    return fg.Problem(fg.MLP((2, 5, 1)), X, Y)


def sha(theta):
    return hashlib.sha256(theta.tobytes()).hexdigest()


def stop_after(iteration):
    return lambda record: record.iteration >= iteration


def facts(result):
    """Return all that must be equal: theta, outcome, and the history but for the time."""
    history = [{**record.to_dict(), "seconds": 0.0} for record in result.history]
    best = result.best_validation_loss, result.best_iter
    if result.best_theta is not None:
        best = *best, sha(result.best_theta)
    outcome = result.status, result.message, result.initial_loss
    return sha(result.theta), outcome, best, repr(history)


def quiet_train(*arguments, **keywords):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fg.AscentWarning)
        warnings.simplefilter("ignore", fg.SingularSystemWarning)
        warnings.simplefilter("ignore", fg.UnitsWarning)
        return fg.train(*arguments, **keywords)


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_interrupted_early_late_and_at_the_end(problem, tmp_path, options):
    """Also with the number of threads changing from part to part."""
    keywords = {"seed": 3, "max_iter": ITERATIONS, **options}
    whole = quiet_train(problem, **keywords)
    assert whole.n_iter >= 10
    keywords["checkpoint"] = fg.Checkpoint(tmp_path / "run.ckpt", every=1000, resume=True)
    for part, last in enumerate((1, 2, 7, whole.n_iter)):
        threads = 1 + part % min(2, max_threads())
        with fg.threads(threads):
            result = quiet_train(problem, callbacks=[stop_after(last)], **keywords)
        assert result.n_iter == last
        assert result.status == "interrupted" or last == whole.n_iter
    for _ in range(2):  # a run that is over stays as it is
        assert facts(quiet_train(problem, **keywords)) == facts(whole)


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_interrupted_inside_an_iteration(problem, tmp_path, options, monkeypatch):
    """Ctrl-C in the midst of the work: the state is that of the last whole iteration."""
    keywords = {"seed": 3, "max_iter": 8, **options}
    whole = quiet_train(problem, **keywords)
    keywords["checkpoint"] = fg.Checkpoint(tmp_path / "run.ckpt", resume=True)
    real, calls = fg.Problem.at, [0]

    def at(self, theta):
        calls[0] += 1
        if calls[0] % 5 == 0:
            raise KeyboardInterrupt
        return real(self, theta)

    monkeypatch.setattr(fg.Problem, "at", at)
    n_iter = 0
    for _ in range(40):
        try:
            result = quiet_train(problem, **keywords)
        except KeyboardInterrupt:  # before the first iteration
            continue
        assert result.n_iter >= n_iter
        n_iter = result.n_iter
        if result.status != "interrupted" or calls[0] > 200:
            break
    monkeypatch.undo()
    assert facts(quiet_train(problem, **keywords)) == facts(whole)


def test_samples_in_files(problem, tmp_path):
    """A run goes on with the same samples, whether they are in memory or in files."""
    X, Y = fg.data.four_regions(60, seed=0)
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "Y.npy", Y)
    rows = [np.load(tmp_path / name, mmap_mode="r") for name in ("X.npy", "Y.npy")]
    in_files = fg.Problem(fg.MLP((2, 5, 1)), *rows)
    keywords = {"seed": 3, "checkpoint": fg.Checkpoint(tmp_path / "run.ckpt", resume=True)}
    quiet_train(in_files, max_iter=4, **keywords)
    quiet_train(problem, max_iter=8, **keywords)
    result = quiet_train(in_files, max_iter=12, **keywords)
    assert facts(result) == facts(quiet_train(problem, seed=3, max_iter=12))


@pytest.mark.xdist_group("threads")
@pytest.mark.skipif(DISABLED or max_threads() < 2, reason="needs two threads")
def test_a_larger_problem_on_other_threads(tmp_path):
    """Large enough that the kernels share the work."""
    X, Y = fg.data.friedman1(3000, seed=0)
    problem = fg.Problem(fg.MLP((X.shape[1], 30, 1)), X, Y)
    with fg.threads(2):
        whole = fg.train(problem, seed=0, max_iter=6)
    checkpoint = fg.Checkpoint(tmp_path / "a.ckpt", resume=True)
    for threads, max_iter in ((1, 2), (2, 4), (1, 6)):
        with fg.threads(threads):
            result = fg.train(problem, seed=0, max_iter=max_iter, checkpoint=checkpoint)
    assert facts(result) == facts(whole)


def test_more_iterations_than_at_first(problem, tmp_path):
    """max_iter is the limit of all parts together, and may be raised: also past an escape."""
    for options in ({}, CASES["escape by noise"]):
        path = tmp_path / f"{len(options)}.ckpt"
        whole = fg.train(problem, seed=3, max_iter=ITERATIONS, **options)
        for limit in (*range(0, ITERATIONS, 3), ITERATIONS):
            result = fg.train(
                problem,
                seed=3,
                max_iter=limit,
                checkpoint=fg.Checkpoint(path, resume=True),
                **options,
            )
        assert facts(result) == facts(whole)


def test_the_time_of_all_parts_and_the_limit_of_each(problem, tmp_path, monkeypatch):
    clock = StillClock(monkeypatch)
    keywords = {
        "seed": 0,
        "checkpoint": fg.Checkpoint(tmp_path / "a.ckpt", resume=True),
        "stop": fg.Stop(gradient=0.0),
    }
    keywords["callbacks"] = [lambda record: clock.move(0.5)]
    first = fg.train(problem, max_iter=5, **keywords)
    second = fg.train(problem, max_iter=8, max_time=60, **keywords)
    assert (first.seconds, second.seconds) == (2.5, 4.0)
    assert [r.seconds for r in second.history] == [0.5 * k for k in range(8)]
    third = fg.train(problem, max_iter=10, max_time=1.1, **keywords)
    assert third.status == "max_iter" and third.n_iter == 10


@pytest.mark.parametrize("kind", [fg.Adam, fg.LevenbergMarquardt])
def test_a_pass_cut_by_the_time_limit_is_done_again(problem, tmp_path, kind, monkeypatch):
    keywords = {"seed": 0, "method": kind(batch_size=20), "max_iter": 6}
    keywords |= {"held_out": fg.HeldOut(*VALIDATION, patience=20)}
    whole = quiet_train(problem, **keywords)
    path = tmp_path / "a.ckpt"
    real, calls, clock = fg.Problem.subset, [0], StillClock(monkeypatch)

    def slow(self, rows):
        calls[0] += 1
        if calls[0] == 8:
            clock.move(0.3)
        return real(self, rows)

    monkeypatch.setattr(fg.Problem, "subset", slow)
    cut = quiet_train(problem, checkpoint=path, max_time=0.25, **keywords)
    monkeypatch.undo()
    assert cut.status == "max_time" and 1 <= cut.n_iter < 6
    result = quiet_train(problem, checkpoint=fg.Checkpoint(path, resume=True), **keywords)
    assert facts(result) == facts(whole)


def test_an_unseeded_run_goes_on(problem, tmp_path):
    checkpoint = fg.Checkpoint(tmp_path / "a.ckpt", resume=True)
    keywords = {"method": fg.Adam(batch_size=16), "checkpoint": checkpoint}
    first = fg.train(problem, max_iter=3, **keywords)
    second = fg.train(problem, max_iter=6, **keywords)
    assert second.initial_loss == first.initial_loss
    assert [r.loss for r in second.history[:3]] == [r.loss for r in first.history]


def test_without_resume_a_run_starts_afresh(problem, tmp_path):
    path = tmp_path / "a.ckpt"
    first = fg.train(problem, seed=0, max_iter=4, checkpoint=path)
    assert first.unsaved == "" and path.exists()
    again = fg.train(problem, seed=0, max_iter=4, checkpoint=path)
    assert [r.iteration for r in again.history] == [1, 2, 3, 4]
    assert facts(again) == facts(first)


def test_a_damaged_checkpoint_costs_one_generation(problem, tmp_path):
    path = tmp_path / "a.ckpt"
    keywords = {"seed": 0, "max_iter": 8, "checkpoint": fg.Checkpoint(path, every=2, resume=True)}
    whole = fg.train(problem, **keywords)
    path.write_bytes(path.read_bytes()[:-10])
    seen = []
    with pytest.warns(fg.CheckpointWarning, match="going on from the older generation"):
        result = fg.train(problem, callbacks=[seen.append], **keywords)
    assert len(seen) == 2  # iterations 7 and 8
    assert facts(result) == facts(whole)


def test_intervals(problem, tmp_path, monkeypatch):
    written = []
    real = CheckpointFile.save

    def save(self, content):
        written.append(len(content["history"]["loss"]))
        real(self, content)

    monkeypatch.setattr(CheckpointFile, "save", save)
    path, keywords = tmp_path / "a.ckpt", {"seed": 0, "max_iter": 7}
    fg.train(problem, checkpoint=fg.Checkpoint(path, every=3), **keywords)
    assert written == [3, 6, 7]
    written.clear()
    fg.train(problem, checkpoint=path, **keywords)  # five minutes are not over: the end alone
    assert written == [7]
    written.clear()
    keywords["callbacks"] = [lambda r: time.sleep(0.03)]
    fg.train(problem, checkpoint=fg.Checkpoint(path, every="0.05s"), **keywords)
    assert 3 <= len(written) <= 8  # sleep may take longer than it was told


@pytest.mark.parametrize(
    ("value", "iterations", "seconds"),
    [
        (10, 10, None),
        (np.int64(3), 3, None),
        ("10", 10, None),
        ("30s", None, 30.0),
        (" 5 min", None, 300.0),
        ("1.5h", None, 5400.0),
    ],
)
def test_interval_is_parsed(value, iterations, seconds):
    assert Interval.parse(value) == Interval(iterations, seconds)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: fg.Checkpoint("a", every=0), ValueError, "at least 1 iteration, got 0"),
        (lambda: fg.Checkpoint("a", every=2.5), TypeError, "every must be an"),
        (lambda: fg.Checkpoint("a", every=True), TypeError, "every must be an"),
        (lambda: fg.Checkpoint("a", every=None), TypeError, "every must be an"),
        (lambda: fg.Checkpoint("a", every="5 days"), ValueError, "got '5 days'"),
        (lambda: fg.Checkpoint("a", every="2.5"), ValueError, "such as '30s', '5min'"),
        (lambda: fg.Checkpoint("a", resume="yes"), TypeError, "resume must be True or False"),
        (lambda: fg.Checkpoint(3), TypeError, "must be a path or a fastggn.Checkpoint, not int"),
        (lambda: 3, TypeError, "must be a path or a fastggn.Checkpoint, not int"),
        (lambda: "no/a", FileNotFoundError, "the folder does not exist"),
        (lambda: ".", ValueError, "it is a folder"),
        (lambda: "/dev/full", ValueError, "not a regular file"),
    ],
)
def test_bad_arguments_before_any_work(problem, tmp_path, monkeypatch, make, error, match):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fg.Problem, "at", lambda *_: pytest.fail("work before the check"))
    with pytest.raises(error, match=match):
        fg.train(problem, seed=0, checkpoint=make())
    assert os.listdir(tmp_path) == []


# --- a checkpoint of another run ----------------------------------------------------------------


def variants():
    """Yield what differs, the problem, and the options."""
    X, Y = fg.data.four_regions(60, seed=0)
    net = fg.MLP((2, 5, 1))
    moved = X.copy()
    moved[7, 1] = np.nextafter(moved[7, 1], 1.0)
    base = {"seed": 0}
    yield "inputs X differs", fg.Problem(net, moved, Y), base
    yield "targets Y differs", fg.Problem(net, X, Y + 1e-9), base
    yield "number of samples was 60 and is 59", fg.Problem(net, X[:59], Y[:59]), base
    weights = np.r_[np.ones(59), 2.0]
    yield "sample weights differs", fg.Problem(net, X, Y, sample_weight=weights), base
    yield "gates differs", fg.Problem(net, X, Y, gates=[np.ones((60, 5))]), base
    yield "network differs", fg.Problem(fg.MLP((2, 6, 1)), X, Y), base
    yield "network differs", fg.Problem(fg.MLP((2, 5, 1), activation="sigmoid"), X, Y), base
    yield "loss ", fg.Problem(net, X, Y, loss="huber"), base
    yield "l2 was 0.0 and is 0.5", fg.Problem(net, X, Y, l2=0.5), base
    yield "curvature was 'psd' and is 'exact'", fg.Problem(net, X, Y, curvature="exact"), base
    same = fg.Problem(net, X, Y)
    yield "seed was 0 and is 1", same, {"seed": 1}
    yield "theta0 differs", same, {"seed": 0, "theta0": net.init(5)}
    for option, value in {
        "solver": "qr",
        "damping": 0.5,
        "geodesic": False,
        "batch_size": 20,
    }.items():
        method = fg.LevenbergMarquardt(**{option: value})
        yield f"{option} was", same, {"seed": 0, "method": method}
    yield "leave_saddles was", same, {"seed": 0, "leave_saddles": "noise"}
    yield "target was", same, {"seed": 0, "stop": fg.Stop(target=1e-3)}
    yield "regularize was", same, {"seed": 0, "regularize": fg.NullSpace()}
    yield "held_out differs", same, {"seed": 0, "held_out": VALIDATION}
    yield "gradient was 1e-10 and is 0.01", same, {"seed": 0, "stop": fg.Stop(gradient=0.01)}
    yield "method was 'lm' and is 'newton'", same, {"seed": 0, "method": "newton"}


def test_a_checkpoint_of_another_run_is_refused(problem, tmp_path, monkeypatch):
    path = tmp_path / "a.ckpt"
    fg.train(problem, seed=0, max_iter=3, checkpoint=path)
    before = path.read_bytes()
    for words, other, options in variants():
        with pytest.raises(CheckpointError, match="checkpoint of another run") as refusal:
            fg.train(other, max_iter=5, checkpoint=fg.Checkpoint(path, resume=True), **options)
        assert words in str(refusal.value)
        assert path.read_bytes() == before
    fg.train(problem, seed=0, max_iter=5, checkpoint=fg.Checkpoint(path, resume=True))


class Changing:
    """A custom loss whose code changes between two parts of a run."""

    scale = 1.0

    def value(self, outputs, targets):
        return 0.5 * self.scale * ((outputs - targets) ** 2).sum(axis=1)

    def gradient(self, outputs, targets):
        return self.scale * (outputs - targets)

    def hessian(self, outputs, targets):
        return np.full((len(outputs), 1, 1), self.scale)

    def hessian_sqrt(self, outputs, targets):
        return np.sqrt(self.hessian(outputs, targets))


def test_a_changed_function_is_noticed(tmp_path):
    X, Y = fg.data.four_regions(30, seed=0)
    loss = Changing()
    problem = fg.Problem(fg.MLP((2, 3, 1)), X, Y, loss=loss)
    path = tmp_path / "a.ckpt"
    fg.train(problem, seed=0, max_iter=2, checkpoint=path)
    Changing.scale = 1.0 + 1e-12
    with pytest.warns(fg.CheckpointWarning, match="not bit for bit"):
        fg.train(problem, seed=0, max_iter=3, checkpoint=fg.Checkpoint(path, resume=True))
    Changing.scale = 2.0
    with pytest.raises(CheckpointError, match="the code of the network or of the loss has changed"):
        fg.train(problem, seed=0, max_iter=4, checkpoint=fg.Checkpoint(path, resume=True))
    Changing.scale = 1.0


def prune(tree, path):
    """Return the tree without the part at `path`."""
    head, *rest = path
    if not rest:
        return {key: value for key, value in tree.items() if key != head}
    return {**tree, head: prune(tree[head], rest)}


def paths(tree, before=()):
    for key, value in tree.items():
        yield (*before, key)
        if isinstance(value, dict):
            yield from paths(value, (*before, key))


def test_a_whole_file_with_a_missing_or_wrong_part(problem, tmp_path):
    path = tmp_path / "a.ckpt"
    keywords = {"seed": 0, "max_iter": 4, "method": fg.GradientDescent(rate=0.01, momentum=0.5)}
    keywords |= {"held_out": fg.HeldOut(*VALIDATION, patience=20)}
    fg.train(problem, checkpoint=path, **keywords)
    content = CheckpointFile(path).load()
    needed = [p for p in paths(content) if p[0] != "versions" and p[0] != "identity"]
    assert len(needed) > 30
    changed = [prune(content, p) for p in needed]
    changed += [
        {**content, "theta": np.ones(3)},
        {**content, "theta": np.full_like(content["theta"], np.nan)},
        {**content, "theta": "theta"},
        {**content, "stop": {"status": "happy", "message": ""}},
        {**content, "history": {**content["history"], "loss": np.ones(2)}},
        {**content, "parts": {**content["parts"], "method": {"velocity": np.ones(2)}}},
    ]
    for tree in changed:
        CheckpointFile(path).save(tree)
        with pytest.raises(CheckpointError, match=r"a\.ckpt"):
            fg.train(problem, checkpoint=fg.Checkpoint(path, resume=True), **keywords)


def test_history_columns_are_exact(problem):
    records = fg.train(problem, seed=0, max_iter=3).history
    records += fg.train(problem, seed=0, max_iter=3, method=fg.GradientDescent(rate=0.01)).history
    assert from_columns(to_columns(records)) == records
    assert [type(v) for r in from_columns(to_columns(records)) for v in r.to_dict().values()] == [
        type(v) for r in records for v in r.to_dict().values()
    ]
    assert from_columns(to_columns([])) == []


# --- saves that fail, exceptions, signals -------------------------------------------------------


def test_a_full_disk_does_not_end_the_run(problem, tmp_path, monkeypatch):
    path = tmp_path / "a.ckpt"
    whole = fg.train(problem, seed=0, max_iter=6)
    real, saves = CheckpointFile.save, []

    def save(self, content):
        saves.append(1)
        if len(saves) in (2, 3):
            raise OSError(28, "No space left on device", str(path))
        real(self, content)

    monkeypatch.setattr(CheckpointFile, "save", save)
    keywords = {"seed": 0, "checkpoint": fg.Checkpoint(path, every=2)}
    with pytest.warns(fg.CheckpointWarning, match="could not be written.*No space left"):
        result = fg.train(problem, max_iter=6, **keywords)
    assert sha(result.theta) == sha(whole.theta)
    assert result.unsaved == ""  # the last save was tried again, and went well
    assert len(saves) == 4
    saves[:] = [1]
    with pytest.warns(fg.CheckpointWarning):
        result = fg.train(problem, max_iter=3, **keywords)
    assert "No space left" in result.unsaved
    assert result.n_iter == 3 and np.isfinite(result.theta).all()


LIMITED = """
import resource, signal, sys, warnings
import fastggn as fg
X, Y = fg.data.four_regions(60, seed=0)
problem = fg.Problem(fg.MLP((2, 5, 1)), X, Y)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

def fill(record):  # from here on the disk is "full"
    if record.iteration == 3:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    result = fg.train(problem, seed=0, max_iter=6, callbacks=[fill],
                      checkpoint=fg.Checkpoint(sys.argv[1], every=1))
assert result.n_iter == 6 and result.loss < result.initial_loss
assert "File too large" in result.unsaved, result.unsaved
assert {w.category for w in caught} == {fg.CheckpointWarning}
"""


@pytest.mark.process
def test_a_disk_that_fills_up(problem, tmp_path):
    """A limit on the size of files stands for the full disk."""
    path = tmp_path / "a.ckpt"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", LIMITED, str(path)], env=environment, check=True)
    assert sorted(os.listdir(tmp_path)) == ["a.ckpt", "a.ckpt.previous"]
    result = fg.train(problem, seed=0, max_iter=6, checkpoint=fg.Checkpoint(path, resume=True))
    assert facts(result) == facts(fg.train(problem, seed=0, max_iter=6))


def test_a_folder_that_vanishes(problem, tmp_path):
    folder = tmp_path / "scratch"
    folder.mkdir()

    def remove(record):
        if record.iteration == 3:
            shutil.rmtree(folder)

    keywords = {"seed": 0, "max_iter": 6}
    with pytest.warns(fg.CheckpointWarning, match="the folder does not exist"):
        result = fg.train(
            problem,
            callbacks=[remove],
            checkpoint=fg.Checkpoint(folder / "a.ckpt", every=2),
            **keywords,
        )
    assert "the folder does not exist" in result.unsaved
    assert facts(result) == facts(fg.train(problem, **keywords))


def test_an_exception_of_a_callback_keeps_the_work(problem, tmp_path):
    def fail(record):
        if record.iteration == 5:
            raise ZeroDivisionError("a callback's own fault")

    checkpoint = fg.Checkpoint(tmp_path / "a.ckpt", resume=True)
    keywords = {"seed": 0, "max_iter": 8, "checkpoint": checkpoint}
    with pytest.raises(ZeroDivisionError):
        fg.train(problem, callbacks=[fail], **keywords)
    seen = []
    fg.train(problem, callbacks=[seen.append], **keywords)
    assert seen[0].iteration == 5


@pytest.mark.process
@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGINT"])
def test_a_signal_saves_and_stops(problem, tmp_path, name):
    def send(record):
        if record.iteration == 4:
            os.kill(os.getpid(), getattr(signal, name))

    number = getattr(signal, name)
    before = signal.getsignal(number)
    checkpoint = fg.Checkpoint(tmp_path / "a.ckpt", resume=True)
    keywords = {"seed": 0, "max_iter": 9, "checkpoint": checkpoint}
    result = fg.train(problem, callbacks=[send], **keywords)
    assert signal.getsignal(number) is before
    assert result.status == "interrupted" and result.n_iter == 4
    if name != "SIGINT":
        assert result.message == f"stopped by {name}"
    again = fg.train(problem, **keywords)
    assert facts(again) == facts(fg.train(problem, seed=0, max_iter=9))


@pytest.mark.process
def test_a_handler_of_the_program_is_left_alone(problem, tmp_path):
    received = []
    previous = signal.signal(signal.SIGUSR1, lambda number, frame: received.append(number))
    try:
        result = fg.train(
            problem,
            seed=0,
            max_iter=3,
            checkpoint=tmp_path / "a.ckpt",
            callbacks=[lambda r: os.kill(os.getpid(), signal.SIGUSR1)],
        )
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert result.status == "max_iter" and len(received) == 3


@pytest.mark.process
@pytest.mark.parametrize("iteration", [2, 4])
def test_a_signal_during_a_save_waits_for_its_end(problem, tmp_path, monkeypatch, iteration):
    """In the midst of the run, and in the last save of all."""
    path = tmp_path / "a.ckpt"
    real = CheckpointFile.save

    def save(self, content):
        if len(content["history"]["loss"]) == iteration:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
        real(self, content)

    monkeypatch.setattr(CheckpointFile, "save", save)
    every = 1 if iteration < 4 else 1000
    keywords = {"seed": 0, "max_iter": 4, "checkpoint": fg.Checkpoint(path, every=every)}
    if iteration == 4:
        with pytest.raises(KeyboardInterrupt):
            fg.train(problem, **keywords)
    else:
        assert fg.train(problem, **keywords).status == "interrupted"
    monkeypatch.undo()
    assert len(CheckpointFile(path).load()["history"]["loss"]) == iteration


def test_outside_the_main_thread(problem, tmp_path):
    """Where no handler can be installed, checkpoints work all the same."""
    results = []

    def work():
        results.append(fg.train(problem, seed=0, max_iter=3, checkpoint=tmp_path / "a.ckpt"))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert results[0].unsaved == "" and (tmp_path / "a.ckpt").exists()


def test_other_held_out_samples_are_another_run(problem, tmp_path):
    (X, Y), checkpoint = VALIDATION, fg.Checkpoint(tmp_path / "a.ckpt", resume=True)
    keywords = {"seed": 0, "checkpoint": checkpoint}
    early = fg.HeldOut(X, Y, patience=5)
    fg.train(problem, max_iter=2, held_out=early, **keywords)
    for words, changed in (
        ("patience was 5 and is 6", fg.HeldOut(X, Y, patience=6)),
        ("tol was 0.0 and is 0.1", fg.HeldOut(X, Y, patience=5, tol=0.1)),
        ("held_out targets Y differs", fg.HeldOut(X, Y + 1.0, patience=5)),
        ("held_out differs", None),
    ):
        with pytest.raises(CheckpointError, match=words):
            fg.train(problem, max_iter=4, held_out=changed, **keywords)
    # A limit that comes together with the end of the patience does not hide it.
    whole = fg.train(problem, seed=0, held_out=early)
    assert whole.status == "early_stopped"
    fg.train(problem, max_iter=whole.n_iter, held_out=early, **keywords)
    again = fg.train(problem, held_out=early, **keywords)
    assert facts(again) == facts(whole)
