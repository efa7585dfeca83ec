"""One run on one checkpoint: the second is refused, a dead one locks nobody out."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from patience import HANGS

import fastggn as fg
from fastggn.apps.cli import main
from fastggn.runtime.locks import FileLock, LockedError
from fastggn.training.checkpoint.files import CheckpointError, CheckpointFile

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}

HOLD = """
import sys, time
from pathlib import Path
from fastggn.runtime.locks import FileLock
FileLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
time.sleep(3600)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of run.ckpt."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run.ckpt")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.fixture
def problem():
    X, Y = fg.data.four_regions(40, seed=0)
    return fg.Problem(fg.MLP((2, 3, 1)), X, Y)


@pytest.mark.process
def test_a_second_run_is_refused_before_any_work(problem, tmp_path, holder, monkeypatch):
    monkeypatch.chdir(tmp_path)
    where = f"process {holder.pid} on {socket.gethostname()}"
    with pytest.raises(CheckpointError, match=f"is in use by another run .{where}"):
        fg.train(problem, seed=0, checkpoint="run.ckpt", callbacks=[lambda record: 1 / 0])
    for more in ([], ["--resume"], ["--starts", "2"]):
        run = CliRunner().invoke(main, ["train", "--checkpoint", "run.ckpt", *more])
        assert run.exit_code == 2, run.output
        assert where in run.stderr and "iteration" not in run.stderr
    assert sorted(os.listdir()) == [".run.ckpt.fastggn-lock"]


@pytest.mark.process
def test_a_killed_run_locks_nobody_out(problem, tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / ".run.ckpt.fastggn-lock").exists()
    fg.train(
        problem, seed=0, max_iter=2, checkpoint=fg.Checkpoint(tmp_path / "run.ckpt", resume=True)
    )
    assert os.listdir(tmp_path) == ["run.ckpt"]


def test_the_lock_ends_with_the_run_whatever_ends_it(problem, tmp_path):
    path = tmp_path / "run.ckpt"

    def fail(record):
        raise ArithmeticError("planted")

    with pytest.raises(ArithmeticError) as kept:  # the traceback keeps every frame alive
        fg.train(problem, seed=0, checkpoint=path, callbacks=[fail])
    with pytest.raises(CheckpointError, match="another run") as other:
        fg.train(problem, seed=1, checkpoint=fg.Checkpoint(path, resume=True))
    assert (
        fg.train(problem, seed=0, max_iter=2, checkpoint=fg.Checkpoint(path, resume=True)).n_iter
        == 2
    )
    assert not path.with_name(".run.ckpt.fastggn-lock").exists()
    assert kept.tb and other.tb


def test_two_threads_of_one_process(problem, tmp_path):
    errors, begun, end = [], threading.Event(), threading.Event()

    def wait(record):
        begun.set()
        end.wait(HANGS)

    def first():
        fg.train(problem, seed=0, max_iter=1, checkpoint=tmp_path / "c", callbacks=[wait])

    thread = threading.Thread(target=first)
    thread.start()
    assert begun.wait(HANGS)
    try:
        fg.train(problem, seed=0, max_iter=1, checkpoint=tmp_path / "c")
    except CheckpointError as error:
        errors.append(str(error))
    end.set()
    thread.join()
    assert len(errors) == 1 and f"process {os.getpid()}" in errors[0]


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"[1]", b'{"pid": "x"}', b'{"pid": 1}'])
def test_what_stands_in_the_file_does_not_matter_where_locks_work(tmp_path, content):
    (tmp_path / ".a.fastggn-lock").write_bytes(content)
    lock = FileLock(tmp_path / "a")
    lock.acquire()
    assert json.loads((tmp_path / ".a.fastggn-lock").read_text())["pid"] == os.getpid()
    lock.acquire()  # held already
    lock.release()
    lock.release()
    assert os.listdir(tmp_path) == []


def test_a_file_that_its_holder_removes_meanwhile_is_no_lock(tmp_path, monkeypatch):
    """Between opening and locking the name went to another file: that one must be locked."""
    fcntl = pytest.importorskip("fcntl", reason="locks of POSIX")
    real, calls = fcntl.flock, []

    def slow(descriptor, how):
        if not calls:
            (tmp_path / ".a.fastggn-lock").unlink()
        calls.append(how)
        return real(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", slow)
    lock = FileLock(tmp_path / "a")
    lock.acquire()
    assert len(calls) == 2
    with pytest.raises(LockedError):
        FileLock(tmp_path / "a").acquire()
    lock.release()


def named(**changes):
    return {"host": socket.gethostname(), "pid": os.getpid(), "job": "", **changes}


@pytest.mark.parametrize(
    ("holder", "free"),
    [
        (named(), False),
        (named(pid=2**22 + 1), True),  # no such process
        (named(host="elsewhere"), False),
        (named(host="elsewhere", job="17"), True),  # this very job, requeued
        (named(host="elsewhere", job="18"), False),
        ({}, True),
    ],
)
def test_a_file_system_without_locks(tmp_path, monkeypatch, holder, free):
    fcntl = pytest.importorskip("fcntl", reason="locks of POSIX")

    def refuse(descriptor, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    (tmp_path / ".a.fastggn-lock").write_text(json.dumps(holder))
    lock = FileLock(tmp_path / "a")
    if not free:
        with pytest.raises(LockedError, match=r"remove \.a\.fastggn-lock: no locks work there"):
            lock.acquire()
        return
    lock.acquire()
    lock.release()
    assert os.listdir(tmp_path) == []


@pytest.mark.process
def test_many_processes_one_at_a_time(tmp_path):
    """Each adds one to a number under the lock, again and again: no addition is lost."""
    work = """
import sys, time
from pathlib import Path
from fastggn.runtime.locks import FileLock, LockedError
path, done = Path(sys.argv[1]), 0
while done < 40:
    lock = FileLock(path)
    try:
        lock.acquire()
    except LockedError:
        time.sleep(0.0005)
        continue
    number = int(path.read_text())
    path.write_text(str(number + 1))
    lock.release()
    done += 1
"""
    path = tmp_path / "number"
    path.write_text("0")
    command = [sys.executable, "-c", work, str(path)]
    crowd = [subprocess.Popen(command, env=ENVIRONMENT) for _ in range(4)]
    assert [process.wait(HANGS) for process in crowd] == [0] * 4
    assert path.read_text() == "160"


def test_a_checkpoint_file_alone(tmp_path):
    file = CheckpointFile(tmp_path / "run.ckpt")
    with file.locked():
        file.save({"theta": np.zeros(2)})
        with pytest.raises(CheckpointError), CheckpointFile(file.path).locked():
            pass
    with CheckpointFile(file.path).locked():
        assert CheckpointFile(file.path).load() is not None


@pytest.mark.process
def test_the_child_of_a_fork_neither_keeps_nor_releases_the_lock_of_its_parent(tmp_path):
    """The lock ends with the parent, and the child's way out of the block does not end it."""
    import multiprocessing

    lock = FileLock(tmp_path / "run.ckpt")
    lock.acquire()
    context = multiprocessing.get_context("fork")
    child = context.Process(target=lock.release)
    child.start()
    child.join(HANGS)
    assert child.exitcode == 0 and lock.path.exists()
    with pytest.raises(LockedError):
        FileLock(tmp_path / "run.ckpt").acquire()
    ended = context.Event()
    waiting = context.Process(target=ended.wait, args=(HANGS,))
    waiting.start()
    lock.release()
    other = FileLock(tmp_path / "run.ckpt")
    other.acquire()  # although the child of the first holder lives
    other.release()
    ended.set()
    waiting.join(HANGS)
