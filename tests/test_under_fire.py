"""Random streams, permissions, files, sizes and names: a run goes on, and harms nobody."""

import errno
import io
import os
import subprocess
import sys
import threading
import time
import unicodedata
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from patience import HANGS

import fastggn as fg
from fastggn.apps.cli import main
from fastggn.kernels import cache
from fastggn.runtime import claims
from fastggn.runtime.archive import ArchiveError
from fastggn.runtime.atomic_files import write_atomically
from fastggn.runtime.errors import printable
from fastggn.training import run as runs

ROOT = Path(__file__).resolve().parent.parent
HUNDREDS = pytest.mark.parametrize(
    ("first", "count"), [(0, 10), pytest.param(10, 120, marks=pytest.mark.slow)]
)


def small_problem():
    X = np.linspace(-1, 1, 20)[:, None]
    return fg.Problem(fg.MLP((1, 3, 1)), X, np.sin(3 * X))


# --- progress -----------------------------------------------------------------------------------


class Failing(io.StringIO):
    """A stream that fails from one of its writes on, or at it alone."""

    def __init__(self, rng):
        super().__init__()
        full, closed = OSError(errno.ENOSPC, "full"), ValueError("I/O operation on closed file")
        errors = [full, closed, BrokenPipeError(errno.EPIPE, "gone"), OSError(errno.EIO, "bad")]
        self._error = errors[rng.integers(4)]
        self._first, self._terminal = int(rng.integers(0, 6)), bool(rng.integers(2))
        self._last = self._first if rng.integers(3) == 0 else 10**9
        self._in_flush, self._calls, self.failed = bool(rng.integers(2)), 0, False
        self._thread = threading.get_ident()

    def isatty(self):
        return self._terminal

    def _count(self, flushes):
        # Not in rich's own thread, which no run hears of.
        if flushes != self._in_flush or threading.get_ident() != self._thread:
            return
        self._calls += 1
        if self._first < self._calls <= self._last + 1:
            self.failed = True
            raise self._error

    def write(self, text):
        self._count(False)
        return super().write(text)

    def flush(self):
        self._count(True)


@HUNDREDS
def test_a_run_goes_on_whatever_happens_to_its_progress(monkeypatch, first, count):
    problem = small_problem()
    whole = fg.train(problem, seed=0, max_iter=8).theta
    failures, out, threads = 0, sys.stdout, threading.active_count()
    for case in range(first, first + count):
        stream = Failing(np.random.default_rng(case))
        with monkeypatch.context() as place, warnings.catch_warnings(record=True) as caught:
            place.setattr(sys, "stderr", stream)
            warnings.simplefilter("always")
            result = fg.train(problem, seed=0, max_iter=8, progress=True)
            assert sys.stderr is stream
        np.testing.assert_array_equal(result.theta, whole)
        assert sys.stdout is out
        end = time.monotonic() + HANGS  # rich's thread ends soon after it is told to
        while threading.active_count() > threads and time.monotonic() < end:
            time.sleep(0.01)
        assert threading.active_count() == threads, case
        told = [w for w in caught if "progress could not be written" in str(w.message)]
        assert len(told) == stream.failed, case
        failures += stream.failed
    assert failures >= count // 4


@pytest.mark.process
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a full disk is /dev/full")
@pytest.mark.parametrize("where", ["2>/dev/full", "2>&-", "2>&1 | head -1", "2>&1 >/dev/null"])
def test_a_command_whose_messages_cannot_be_written_goes_on(tmp_path, where):
    train = f"{sys.executable} -m fastggn train -v --samples 40 --hidden 3 --max-iter 30"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {train} --grad-tol 0 {where}"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        timeout=HANGS,
    )  # fmt: skip
    # A summary that nobody reads is an error of its own, after the model is safe.
    assert done.returncode in ((0, 1) if "head" in where else (0,)), done.stdout + done.stderr
    assert fg.Model.load(tmp_path / "model.npz").training["n_iter"] == 30


@pytest.mark.process
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a full disk is /dev/full")
def test_a_summary_that_cannot_be_printed_says_where_the_model_is(tmp_path):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "fastggn", "train", "--samples", "40", "--max-iter", "2"],
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=full,
            stderr=subprocess.PIPE, text=True, timeout=HANGS,
        )  # fmt: skip
    assert done.returncode == 1 and fg.Model.load(tmp_path / "model.npz").training["n_iter"] == 2
    assert "the summary was not printed" in done.stderr and "model.npz" in done.stderr


# --- files of others ----------------------------------------------------------------------------


def content_of(folder):
    """Return mode and bytes of each file."""
    return {path.name: (path.stat().st_mode, path.read_bytes()) for path in folder.iterdir()}


@HUNDREDS
def test_random_permissions_are_kept_and_files_of_others_stay(tmp_path, first, count):
    """Checkpoints, models and exports beside files of any name and mode."""
    problem = small_problem()
    model = fg.Model.of(problem.network, problem.network.init(seed=0))
    writers = {
        "run": lambda file: fg.train(problem, seed=0, max_iter=2, checkpoint=file),
        "model.npz": lambda file: model.save(file),
        "plain.npz": lambda file: model.export(file),
        "bytes": lambda file: write_atomically(file, lambda stream: stream.write(b"new") and None),
    }
    for case in range(first, first + count):
        rng, folder = np.random.default_rng(case), tmp_path / str(case)
        folder.mkdir()
        name = str(rng.choice(list(writers)))
        file, write = folder / name, writers[name]
        own = {name}
        mode = int(rng.integers(0o200, 0o1000)) | 0o600 * int(rng.integers(2))
        if rng.integers(2):
            write(file)
            file.chmod(mode)
            own.add(f"{name}.previous")
        for ending in (".lock", ".tmp", ".bak", "~", ".fastggn", ".old", ".ckpt"):
            if rng.integers(2):
                other = folder / rng.choice([f"{name}{ending}", f".{name}{ending}"])
                other.write_bytes(rng.bytes(20))
                other.chmod(int(rng.integers(0o1000)))
        before = content_of(folder)
        if name in before and not mode & 0o222:
            with pytest.raises((PermissionError, ValueError)):
                write(file)
            assert content_of(folder) == before, case
            continue
        write(file)
        after = content_of(folder)
        assert {k: v for k, v in after.items() if k not in own} == {
            k: v for k, v in before.items() if k not in own
        }, case
        if name in before:
            assert after[name][0] == before[name][0], case


# --- bombs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "count"), [(0, 5), pytest.param(5, 120, marks=pytest.mark.slow)])
def test_archives_of_any_claim_are_read_or_refused_in_little_memory(
    tmp_path, monkeypatch, first, count
):
    """The truth: what the arrays take, against what the bytes of the file may claim."""
    import tracemalloc

    monkeypatch.setattr(claims, "SMALL", 2**20)
    most, refused = 0, 0
    for case in range(first, first + count):
        rng, file = np.random.default_rng(case), tmp_path / "x.npz"
        rows, level = int(10.0 ** rng.uniform(1, 5.7)), int(rng.integers(1, 10))
        values = [np.zeros(rows, np.int8), rng.integers(0, 2, rows), rng.random(rows)]
        column = values[rng.integers(3)]
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as archive:
            for name in ("X", "Y"):
                member = io.BytesIO()
                np.save(member, column[:, None] if name == "X" else column)
                archive.writestr(f"{name}.npy", member.getvalue())
        allowed = max(2**20, claims.ARRAY_TIMES * file.stat().st_size)
        tracemalloc.start()
        try:
            table = fg.read_table(file)
            assert 2 * 8 * rows <= allowed, case
            np.testing.assert_array_equal(table.X[:, 0], column)
        except ArchiveError as error:
            assert 2 * 8 * rows > allowed and "shrink so far" in str(error), case
            refused += 1
            most = max(most, tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert most < 20e6
    assert count < 100 or refused >= 10


def test_hdf5_does_not_lead_to_other_files_by_its_virtual_data_sets(tmp_path):
    h5py = pytest.importorskip("h5py")
    (tmp_path / "secret").write_bytes(np.arange(20.0).tobytes())
    with h5py.File(tmp_path / "part.h5", "w") as file:
        file.create_dataset("data", (20,), float, external=[("secret", 0, 160)])
        file["g/data"] = np.arange(20.0)
    layout = h5py.VirtualLayout(shape=(20,), dtype=float)
    layout[:] = h5py.VirtualSource("part.h5", "data", shape=(20,))
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_virtual_dataset("X", layout)
        file["Y"] = np.arange(20.0)
    with h5py.File(tmp_path / "l.h5", "w") as file:
        file.create_group("a")["g"] = h5py.ExternalLink("part.h5", "/g")
        file["X"] = h5py.SoftLink("/a/g/data")
        file["Y"] = np.arange(20.0)
    with h5py.File(tmp_path / "c.h5", "w") as file:
        layout = h5py.VirtualLayout(shape=(20,), dtype=float)
        layout[:] = h5py.VirtualSource(".", "X", shape=(20,))
        file.create_virtual_dataset("X", layout)
        file["Y"] = np.arange(20.0)
    for name, words in (
        ("v.h5", "stand in other files"),
        ("l.h5", "a link to another file"),
        ("c.h5", "again and again"),
    ):
        with pytest.raises(ValueError, match=words):
            fg.read_table(tmp_path / name)


# --- memory -------------------------------------------------------------------------------------


@HUNDREDS
def test_vectors_of_all_parameters_are_refused_where_they_do_not_fit(monkeypatch, first, count):
    """The truth: eleven vectors of N doubles, N counted layer by layer."""
    monkeypatch.setattr(runs, "UNASKED", 0)
    X = np.linspace(-1, 1, 6)[:, None]
    refused = 0
    for case in range(first, first + count):
        rng = np.random.default_rng(case)
        widths = (1, *rng.integers(1, 40, rng.integers(1, 4)).tolist(), 1)
        needed = 8 * 11 * sum((a + 1) * b for a, b in zip(widths, widths[1:], strict=False))
        free = int(needed * rng.choice([0.2, 0.9, 1.1, 8.0])) + 1
        monkeypatch.setattr(runs, "available_memory", lambda free=free: free)
        problem = fg.Problem(fg.MLP(widths), X, np.sin(X))
        if needed > free:
            with pytest.raises(MemoryError, match=r"need some \d+\.\d GiB for vectors"):
                fg.train(problem, seed=0, max_iter=1)
            refused += 1
        else:
            assert fg.train(problem, seed=0, max_iter=1).n_iter <= 1
    assert count // 4 <= refused <= 3 * count // 4


PEAK = """
import resource, sys
import numpy as np
import fastggn as fg

def peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

def train(k):
    X = np.linspace(-1, 1, 40).reshape(20, 2)
    net = fg.MLP((2, k, k, 1))
    fg.train(fg.Problem(net, X, np.sin(X[:, :1])), seed=0, max_iter=3)
    return net.n_params

train(8)
before = peak()
n = train(int(sys.argv[1]))
print((peak() - before) / (8 * n))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ru_maxrss is in KiB on Linux")
def test_a_run_takes_no_more_vectors_than_are_estimated():
    for k in (1500, 2500):
        done = subprocess.run(
            [sys.executable, "-c", PEAK, str(k)],
            env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
            timeout=HANGS,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert float(done.stdout) < runs.VECTORS + 1.0, done.stdout


# --- the cache of kernels, and names ------------------------------------------------------------


@HUNDREDS
def test_kernels_of_random_owners_and_modes(tmp_path, first, count):
    """Only what this user, root or the owner of the package alone can write is loaded."""
    trusted = {os.getuid(), 0, os.stat(cache.HERE).st_uid}
    for case in range(first, first + count):
        rng, file = np.random.default_rng(case), tmp_path / f"{case}.fgk"
        file.write_bytes(b"code")
        owner, mode = os.getuid(), 0o400 | int(rng.integers(0o1000))
        if os.getuid() == 0:
            owner = int(rng.choice([0, 1, 1000, 65534]))
            os.chown(file, owner, int(rng.choice([0, 1000])))
        file.chmod(mode)
        if owner in trusted and not mode & 0o022:
            assert cache._read(file) == b"code", case
        else:
            with pytest.raises(cache.Damaged):
                cache._read(file)


def random_name(rng):
    """Return a name of letters and of characters that steer terminals."""
    letters = [chr(rng.integers(97, 123)) for _ in range(3)]
    steering = [
        "\x1b[2J",
        "\x1b]0;t\x07",
        "\x9b31m",
        "\x08",
        "\x7f",
        "\u202e",
        "\u2066",
        "\x00"[:0],
    ]
    picked = [steering[rng.integers(len(steering))] for _ in range(2)]
    picked.append(chr(rng.choice([*range(1, 9), 11, *range(14, 32), *range(127, 160)])))
    return "".join(np.random.default_rng(rng.integers(99)).permutation(letters + picked))


def steers(text):
    """Whether a text holds a character that a terminal obeys."""
    return any(unicodedata.category(c) in ("Cc", "Cf") and c not in "\n\t" for c in text)


def test_five_hundred_names_are_printable():
    for case in range(500):
        name = random_name(np.random.default_rng(case))
        assert steers(name) and not steers(printable(name)), repr(name)


@pytest.mark.parametrize(("first", "count"), [(0, 3), pytest.param(3, 100, marks=pytest.mark.slow)])
def test_random_names_of_columns_and_files_are_shown_as_text(tmp_path, monkeypatch, first, count):
    """Through each command that shows names, whether it succeeds or refuses."""
    monkeypatch.chdir(tmp_path)
    for case in range(first, first + count):
        rng = np.random.default_rng(case)
        names, file = [random_name(rng) for _ in range(3)], f"{random_name(rng)}.csv"
        rows = rng.random((40, 3)) * [1e4, 1.0, 1.0]
        lines = [",".join(names), *(",".join(map(repr, row)) for row in rows.tolist())]
        Path(file).write_text("\n".join(lines), encoding="utf-8")
        model, wrong = f"{random_name(rng)}.npz", f"{random_name(rng)}.csv"
        Path(wrong).write_text("u,v\n1,2\n")
        for words in (
            ("train", file, "--max-iter", "2", "--hidden", "2", "--out", model),
            ("train", file, "--target", names[0] + "x", "-v"),
            ("evaluate", model, file),
            ("predict", model, file, "-o", f"{names[0]}.csv"),
            ("predict", model, wrong, "-o", "p.csv", "-v"),
            ("rank", model, file),
            ("info", model),
            ("export", model, f"{names[1]}.npz"),
            ("convert", file, f"{names[2]}.npz"),
            ("info", f"{names[0]}.none"),
        ):
            done = CliRunner().invoke(main, list(words))
            assert not steers(done.output), (case, words[0], done.output)
            assert not isinstance(done.exception, Exception), (case, words, done.exception)
