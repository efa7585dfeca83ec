"""What a run shows: how much fits on a line, the time left, plain lines in a log."""

import io

import numpy as np
import pytest
from rich.console import Console

import fastggn as fg
from fastggn.training import progress
from fastggn.training.progress import ProgressLine, clock
from fastggn.training.result import Record


def record(iteration, **changes):
    values = dict(
        iteration=iteration, loss=1.25e-3, gradient_norm=3e-5, step_norm=0.1, damping=2e-4,
        gain_ratio=0.75, solver="cholesky", rank=None, rcond=1e-6, seconds=float(iteration),
        accepted=True, rejections=0, assemblies=1, factorisations=1, evaluations=1,
        validation_loss=4.5e-3,
    )  # fmt: skip
    return Record(**{**values, **changes})


@pytest.fixture
def now(monkeypatch):
    """A clock that the test moves."""

    class Now:
        value = 100.0

    monkeypatch.setattr(progress.time, "monotonic", lambda: Now.value)
    return Now


def terminal(width):
    return Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)


def text(console):
    return console.file.getvalue()


def test_the_time_left_is_that_of_the_limit_that_comes_first(now):
    for max_time, expected in ((None, 90 * 2.0), (100.0, 100.0 - 20.0), (1e4, 90 * 2.0)):
        line = ProgressLine(Console(file=io.StringIO()), 100, max_time, quiet=True)
        with line:
            assert line.left == max_time
            for iteration in range(1, 11):
                now.value += 2.0
                line(record(iteration))
            assert line.left == pytest.approx(expected)
            now.value += 1.5  # inside an iteration
            assert line.left == pytest.approx(expected - 1.5)
            now.value += 1e6
            assert line.left == 0.0


def test_the_first_iteration_which_compiles_is_no_measure(now):
    line = ProgressLine(Console(file=io.StringIO()), 11, quiet=True)
    with line:
        now.value += 60.0
        line(record(1))
        assert line.left is None
        now.value += 1.0
        line(record(2))
        assert line.left == pytest.approx(9.0)


def test_a_resumed_run_counts_from_where_it_is(now):
    line = ProgressLine(Console(file=io.StringIO()), 100, 50.0, quiet=True)
    with line:
        for iteration in (91, 92, 93):
            now.value += 1.0
            line(record(iteration, seconds=1e4 + iteration))
        assert line.left == pytest.approx(7.0)


def test_times_in_words():
    assert clock(3.9, None) == "0:03"
    assert clock(65.0, 3 * 3600 + 5 * 60 + 9.0) == "1:05 ≤3:05:09 left"


@pytest.mark.parametrize("width", [48, 60, 80, 100, 200])
def test_the_line_fits(now, width):
    console = terminal(width)
    with ProgressLine(console, 1000, 60.0) as line:
        for iteration in range(1, 13):
            now.value += 1.0
            line(record(iteration))
        shown = line._fitting(record(12))
        bar = 13 if width >= 100 else 0
        assert len(shown) + 1 + len(clock(line.elapsed, line.left)) + bar <= width
        assert shown.startswith("  12/1000  loss 1.250e-03")
        wanted = ["val 4.50e-03", "damping 2e-04", "gain 0.8", "|gradient| 3.0e-05"]
        count = {48: 0, 60: 1, 80: 3, 100: 3, 200: 4}[width]
        assert [part in shown for part in wanted] == [k < count for k in range(4)]
        line._bar.refresh()
    assert "left" in text(console)
    # What is left on the screen is the last iteration, in full.
    last = text(console).splitlines()[-1]
    assert "iteration   12/1000  loss 1.250000e-03  held-out 4.500000e-03" in last
    assert "gain ratio 0.750" in last


def test_what_a_method_does_not_have_is_left_out(now):
    console = terminal(120)
    with ProgressLine(console, 10) as line:
        shown = line._fitting(record(1, damping=None, gain_ratio=None, validation_loss=None))
    assert shown == " 1/10  loss 1.250e-03  |gradient| 3.0e-05"


def test_plain_lines_in_a_log(now):
    console = Console(file=io.StringIO())
    with ProgressLine(console, 8, None) as line:
        for iteration in range(1, 8):
            now.value += 0.2
            line(record(iteration))
    lines = text(console).splitlines()
    # Two a second at most, and the last one.
    assert [int(line.split()[1].split("/")[0]) for line in lines] == [1, 4, 7]
    assert lines[1].endswith("4.0 s, at most 0.8 s left")
    assert lines[2].endswith("gain ratio 0.750  7.0 s, at most 0.2 s left")
    assert "\x1b" not in text(console)


def test_quiet_and_verbose(now):
    for keywords, count in (({"quiet": True}, 0), ({"verbose": True}, 5)):
        console = Console(file=io.StringIO())
        with ProgressLine(console, 8, **keywords) as line:
            for iteration in range(1, 6):
                line(record(iteration, accepted=False))
        assert len(text(console).splitlines()) == count
        assert line.n_records == 5
    assert "|step| 1.00e-01  rcond 1.0e-06  cholesky (rejected)" in text(console)


def test_a_run_on_a_terminal(monkeypatch, capsys):
    """The whole way from train(progress=True); the display is gone after an exception, too."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    X, Y = fg.data.four_regions(60, seed=0)
    problem = fg.Problem(fg.MLP((2, 5, 1)), X, Y)

    def slow(record):
        if record.iteration == 3:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fg.train(problem, seed=0, max_iter=5, progress=True, callbacks=[slow])
    shown = capsys.readouterr().err
    assert "starting (the first run compiles the kernels)" in shown
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1  # the cursor is back
    result = fg.train(problem, seed=0, max_iter=5, progress=True)
    assert f"iteration 5/5  loss {result.loss:.6e}" in capsys.readouterr().err
    assert np.isfinite(result.loss)
