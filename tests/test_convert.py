"""Text tables turned into .npy in a stream: the same numbers, clear errors, no debris."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import fastggn as fg
from fastggn.apps.cli import main
from fastggn.data import convert

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(convert, "ROWS_PER_PART", 7)


@pytest.fixture
def table(tmp_path):
    """A file with a header, blank lines, quotes and all digits; and its numbers."""
    values = np.random.default_rng(0).normal(size=(100, 4)) * [1e-300, 1.0, 1e12, 3.0]
    lines = [",".join(repr(float(v)) for v in row) for row in values]
    lines[3] = ",".join(f'"{cell}"' for cell in lines[3].split(","))
    lines.insert(50, "")
    path = tmp_path / "table.csv"
    path.write_text("a,b,c,price\n" + "\n".join(lines) + "\n")
    return path, values


def test_npy_holds_the_numbers_and_the_targets_last(table, tmp_path):
    path, values = table
    seen = []
    done = fg.data.convert_table(
        path, tmp_path / "out.npy", "b", lambda rows, share: seen.append((rows, share))
    )
    assert (done.n_rows, done.inputs, done.targets) == (100, ("a", "c", "price"), ("b",))
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), values[:, [0, 2, 3, 1]])
    assert fg.data.open_npy(tmp_path / "out.npy").shape == (100, 4)
    rows, shares = zip(*seen, strict=True)
    assert len(rows) == 15 and rows[-1] == 100 and list(rows) == sorted(rows)
    assert list(shares) == sorted(shares) and shares[-1] == 1.0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a,b\n" + "1,2\n" * 20 + "\n3\n4,5\n", "line 23 has 1"),
        ("1,2\n" * 30 + "1,2,3\n", "line 31 has 3"),
        (
            "a,b\n" + "1,2\n" * 20 + "1,two\n",
            r"column 'b' \(number\): 1 cell with 'two' \(line 22\)",
        ),
        (
            "a,b\n" + "1,2\n" * 9 + "nan,2\n",
            r"column 'a' \(number\): 1 missing value, the first in line 11",
        ),
        ("a,b\n1,\n", "column 'b'.*1 missing value"),
        ("", "the file is empty"),
        ("\n \n", "the file is empty"),
        ("a,b\n", "a header but no rows"),
        ("1\n2\n", "at least 2"),
        (b"a,b\n" + b"1,2\n" * 5000 + b"\xff\xfe,1\n", "encoding='latin-1'"),
    ],
)
def test_a_wrong_line_is_named_and_the_old_file_stays(tmp_path, content, words):
    path, out = tmp_path / "t.csv", tmp_path / "out.npy"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    out.write_bytes(b"old")
    with pytest.raises(ValueError, match=words):
        fg.data.convert_table(path, out)
    assert out.read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["t.csv", out.name])


def test_files_that_cannot_be(table, tmp_path):
    path, _ = table
    for suffix in ("parquet", "h5"):
        with pytest.raises(ValueError, match="unknown kind of file"):
            fg.data.convert_table(path, tmp_path / f"out.{suffix}")
    with pytest.raises(ValueError, match="not a text table"):
        fg.data.convert_table(_touch(tmp_path / "x.npz"), tmp_path / "out.npy")
    with pytest.raises(ValueError, match="no such file"):
        fg.data.convert_table(tmp_path / "absent.csv", tmp_path / "out.npy")
    with pytest.raises(OSError, match="does not exist"):
        fg.data.convert_table(path, tmp_path / "absent" / "out.npy")
    with pytest.raises(ValueError, match="no column 'prize'; did you mean 'price'"):
        fg.data.convert_table(path, tmp_path / "out.npy", "prize")


def _touch(path):
    path.touch()
    return path


LIMITED = """
import resource, signal, sys
import fastggn as fg
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    fg.data.convert_table(sys.argv[1], sys.argv[2])
except OSError as error:
    print("OSError", error)
"""


@pytest.mark.process
def test_a_full_disk_leaves_nothing_behind(tmp_path):
    """A limit on the size of files stands for the disk: the write fails half-way."""
    path, out = tmp_path / "t.csv", tmp_path / "out.npy"
    path.write_text("1,2\n" * 50_000)
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path), str(out)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert "OSError" in done.stdout and out.name in done.stdout
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]


MEMORY = """
import sys, tracemalloc
import fastggn as fg
fg.data.convert_table
tracemalloc.start()
fg.data.convert_table(sys.argv[1], sys.argv[2])
print(tracemalloc.get_traced_memory()[1] / 2**20)
"""


@pytest.mark.process
def test_memory_does_not_grow_with_the_file(tmp_path):
    line = "0.123456789012,1.23456789012,2.3456789012\n"
    (tmp_path / "small.csv").write_text(line * 40_000)
    (tmp_path / "large.csv").write_text(line * 160_000)
    peaks = []
    for name in ("small", "large"):
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, tmp_path / f"{name}.csv", tmp_path / f"{name}.npy"],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        peaks.append(float(done.stdout))
    assert peaks[1] < 1.1 * peaks[0] + 0.5
    assert peaks[1] < 20


def test_the_command(table, tmp_path):
    path, values = table
    out = tmp_path / "out.npy"
    run = CliRunner().invoke(main, ["convert", str(path), str(out), "--target", "b,price"])
    assert run.exit_code == 0, run.output
    assert "100 rows, 2 inputs, 2 targets (b, price)" in run.output
    np.testing.assert_array_equal(np.load(out), values[:, [0, 2, 1, 3]])
    path.write_text("a,b\n1,2\n3\n")
    run = CliRunner().invoke(main, ["convert", str(path), str(out), "--force"])
    assert run.exit_code == 2 and "line 3 has 1" in run.output
