"""Ctrl-C and the time limit end each long command within a second, and leave its files whole."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from patience import HANGS, Stopwatch, let_work

import fastggn as fg
from fastggn.apps.cli import watch as watching
from fastggn.apps.cli.outcome import BadInput, OutOfTime
from fastggn.apps.cli.watch import Watch, duration

# Seconds of an answer with the end of the interpreter, less those in which other programs had its
# cores. One call of LAPACK holds Python's lock until its end, and an enumeration has 20 seconds to
# keep its part.
MOST, MOST_OF_OTHERS = 4.0, 25.0
QUICK = ("predict", "evaluate", "plot")
COMMAND = "import sys; from fastggn.apps.cli import main; main(sys.argv[1:])"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model and its samples, with which each command runs for many seconds."""
    folder = tmp_path_factory.mktemp("long")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20_000, 8))
    Y = np.sin(X[:, :1]) + 0.1 * rng.normal(size=(20_000, 1))
    np.savez(folder / "long.npz", X=X, Y=Y)
    np.savetxt(folder / "short.csv", np.hstack([X, Y])[:14, 5:], delimiter=",")
    # Rows of zeros take no room on the disk.
    np.lib.format.open_memmap(folder / "big.npy", mode="w+", shape=(100_000_000, 9))
    net = fg.MLP((8, 30, 30, 1))
    fg.Model.of(net, net.init(seed=0)).save(folder / "model.npz")
    return folder


LONG = {
    "train": ("train", "--samples", "2000", "--max-iter", "1000000", "--grad-tol", "0",
              "--step-tol", "0", "--no-held-out", "--out", "out"),
    "predict": ("predict", "model.npz", "big.npy", "--out", "out.npy"),
    "evaluate": ("evaluate", "model.npz", "big.npy", "--json", "out"),
    "rank": ("rank", "model.npz", "long.npz", "--json", "out"),
    "critical-point": ("critical-point", "model.npz", "long.npz", "--polish", "--json", "out"),
    "null-space": ("landscape", "null-space", "model.npz", "long.npz", "--json", "out"),
    "regions": ("landscape", "regions", "short.csv", "--hidden", "3", "--json", "out",
                "--max-time", "1000"),
    "regions by processes": ("landscape", "regions", "short.csv", "--hidden", "3", "--jobs", "2",
                             "--max-time", "1000"),
    "plot": ("plot", "model.npz", "long.npz", "--kind", "plane", "--points", "300",
             "--out", "out.png"),
}  # fmt: skip


def start(folder, *words):
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *words],
        cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


def interrupted(folder, words, moment):
    """Send Ctrl-C at a moment; return the exit code, the seconds of the answer, and all text."""
    process = start(folder, *words)
    try:
        time.sleep(moment)
        watch = Stopwatch(process)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
        out, err, seconds = watch.end()
        return process.returncode, seconds, out + err
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def check_files(folder, name, code):
    assert not [path for path in folder.iterdir() if path.suffix in (".tmp", ".lock")]
    for path in (folder / "out", folder / "out.png"):
        if not path.exists():
            continue
        if name == "train":
            fg.Model.load(path)
        elif path.suffix:
            assert path.read_bytes()[-8:-4] == b"IEND"
        else:
            report = json.loads(path.read_text())
            # With 3 the signal may have come before the first region.
            assert name != "regions" or report["records"] or code == 3
        path.unlink()
        # 130: the signal came when the file was in place, before the end of the program.
        assert code in (0, 3, 130, -signal.SIGINT)


@pytest.mark.process
@pytest.mark.parametrize("name", list(LONG))
def test_ctrl_c_at_random_moments(folder, name):
    check_moments(folder, name, 4)


@pytest.mark.weekly  # three minutes for each command
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", list(LONG))
def test_ctrl_c_at_twenty_moments(folder, name):
    check_moments(folder, name, 20)


def check_moments(folder, name, count):
    """At a moment of each part of the first seconds: the imports, the beginning, the midst."""
    draw, edges = random.Random(name), np.geomspace(0.3, 8.0, count + 1)
    for moment in map(draw.uniform, edges, edges[1:]):
        code, seconds, text = interrupted(folder, LONG[name], moment)
        # Before the program is imported, the interpreter itself ends by the signal.
        expected = {0, 130, -signal.SIGINT} | ({3} if name in ("train", "regions") else set())
        assert code in expected, f"at {moment:.2f} s: {code}\n{text}"
        most = MOST if name in QUICK else MOST_OF_OTHERS
        assert seconds < most, f"at {moment:.2f} s: {seconds:.2f} s\n{text}"
        assert "Traceback" not in text or code == -signal.SIGINT, f"at {moment:.2f} s\n{text}"
        check_files(folder, name, code)


@pytest.mark.process
@pytest.mark.parametrize("name", [n for n in LONG if "regions" not in n and n != "train"])
def test_the_time_limit_ends_a_command(folder, name):
    process = start(folder, *LONG[name], "--max-time", "2")
    out, err, seconds = Stopwatch(process).end()
    assert process.returncode == 130, out + err
    assert "out of time after 2 s" in err or "nothing is saved" in err
    assert seconds < (8.0 if name in QUICK else 40.0)
    check_files(folder, name, 130)


@pytest.mark.process
def test_an_enumeration_goes_on_where_it_was_cut_off(folder):
    words = ("landscape", "regions", "short.csv", "--hidden", "3", "--json", "part.json")
    for seconds in ("12", "60", "300"):  # the first region may take long beside other programs
        process = start(folder, *words, "--max-time", seconds)
        out, err = process.communicate(timeout=HANGS)
        if process.returncode != 130:
            break
    assert process.returncode == 3, out + err
    part = json.loads((folder / "part.json").read_text())
    assert 0 < part["next"] < part["total"] and f"--start {part['next']} goes on" in err
    assert part["records"][-1]["index"] == part["next"] - 1


def test_an_endless_enumeration_is_refused_with_a_figure(folder, monkeypatch):
    from click.testing import CliRunner

    from fastggn.apps.cli import main

    monkeypatch.chdir(folder)
    result = CliRunner().invoke(main, ["landscape", "regions", "short.csv", "--hidden", "9"])
    assert result.exit_code == 2, result.output
    assert "regions: about" in result.stderr and "years" in result.stderr
    assert "--max-time" in result.stderr


def test_a_watch_raises_at_the_limit(monkeypatch):
    """Its thread waits for the limit, and for nothing after it."""
    waits, real = [], watching.select.select

    def select(read, write, other, seconds):
        waits.append(seconds)
        return real(read, write, other, seconds)

    monkeypatch.setattr(watching.select, "select", select)
    monkeypatch.setattr(watching, "GRACE", HANGS)  # its end would be that of this process
    began = time.monotonic()
    with pytest.raises(OutOfTime, match=r"out of time after 0\.2 s"), Watch(0.2):
        while time.monotonic() < began + HANGS:
            time.sleep(0.01)
    assert time.monotonic() - began >= 0.2
    assert waits[0] <= 0.2
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_watch_holds_a_signal_while_a_record_is_counted(monkeypatch):
    monkeypatch.setattr(watching, "GRACE", HANGS)
    done = []
    with pytest.raises(KeyboardInterrupt), Watch() as watch:
        with watch.holding():
            signal.raise_signal(signal.SIGINT)
            done.append("counted")
    assert done == ["counted"]


def test_an_interrupt_inside_an_import_comes_after_it(tmp_path, monkeypatch):
    """C code of NumPy or Numba answers one by an error of its own."""
    monkeypatch.setattr(watching, "GRACE", HANGS)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "swallows_interrupts.py").write_text(
        "import signal\n"
        "try:\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "    list(map(str, range(1000)))\n"
        "except KeyboardInterrupt:\n"
        "    raise ImportError('failed to import') from None\n"
    )
    done = []
    with pytest.raises(KeyboardInterrupt), Watch():
        import swallows_interrupts  # noqa: F401

        done.append("imported")
        end = time.monotonic() + HANGS
        while time.monotonic() < end:
            time.sleep(0.01)
    assert done == ["imported"]


def test_costs_are_told_and_refused(capsys):
    watch = Watch()
    watch.expect(5.0, "little work")
    watch.expect(100.0, "some work")
    assert capsys.readouterr().err == "some work: about 100 s\n"
    with pytest.raises(BadInput, match="much work: about 32 years: take less, or set a limit"):
        watch.expect(1e9, "much work", "take less, ")
    Watch(max_time=60.0).expect(1e9, "much work")
    with pytest.raises(BadInput, match="GiB, of which"):
        watch.expect_singular_values(10**7, 10**7)


def test_durations():
    assert [duration(s) for s in (3.2, 150.0, 7300.0, 1e6, 3e11)] == [
        "3 s", "2 min", "2 h", "12 days", "9,506 years"
    ]  # fmt: skip


BLOCKED = """
import hashlib
from fastggn.apps.cli.watch import Watch
with Watch():
    print("blocked", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
"""


@pytest.mark.process
@pytest.mark.parametrize(("signals", "most"), [(1, 1.5), (2, 0.6)])
def test_a_watch_ends_what_python_cannot_interrupt(signals, most):
    with subprocess.Popen(
        [sys.executable, "-c", BLOCKED], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stdout.readline()
        let_work(process, 0.2)  # it is inside
        for number in range(signals):
            if number:
                time.sleep(0.2)
            watch = Stopwatch(process)
            process.send_signal(signal.SIGINT)
        _, err, seconds = watch.end()
        assert process.returncode == 130 and "nothing is saved" in err
        assert seconds < most
