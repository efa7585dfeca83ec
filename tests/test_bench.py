"""The benchmarks at smoke size: both sides compute the same, and every row ends in the report."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from patience import HANGS

from fastggn.kernels.jit import DISABLED

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

pytestmark = pytest.mark.skipif(DISABLED, reason="times say nothing without the compiler")

from bench import core, machine, peers, protocols, report, rows, turns  # noqa: E402

PAIRS = [row for row in rows.ROWS if row.build is not None]
OTHERS = [row for row in rows.ROWS if row.measure is not None]
# Three short rows; the others are the tier slow.
USUAL = {"gram-digits", "cholesky-500", "linear-in-T"}


def each_row(rows):
    tiers = ([] if row.key in USUAL else [pytest.mark.slow] for row in rows)
    marked = [
        pytest.param(row, marks=tier, id=row.key) for row, tier in zip(rows, tiers, strict=True)
    ]
    return pytest.mark.parametrize("row", marked)


def build(row):
    """Return the row's pair; a peer that is absent must say so, and then there is no pair."""
    try:
        with peers.blas_threads():
            return row.build(core.SMOKE)
    except core.Absent as reason:
        assert str(reason)
        outcome = row.run(core.SMOKE)
        assert outcome.value is None and str(reason) in outcome.note
        pytest.skip(f"not available: {reason}")


@each_row(PAIRS)
def test_both_sides_compute_the_same_and_are_timed(row):
    pair = build(row)
    assert pair.difference() <= pair.tolerance
    with peers.blas_threads():
        outcome = core.compete(pair, 1)
    assert outcome.value == pytest.approx(outcome.peer.median / outcome.ours.median)
    for timing, side in ((outcome.ours, pair.ours), (outcome.peer, pair.peer)):
        assert timing.label == side.label
        assert 0.0 < timing.minimum <= timing.median


@each_row(OTHERS)
def test_other_rows_have_a_figure_or_a_reason(row):
    outcome = row.run(core.SMOKE)
    assert not outcome.failed, outcome.note
    if outcome.value is None:
        assert outcome.note.startswith("not available: ")
    else:
        assert np.isfinite(outcome.value)


def test_row_keys_are_unique_and_selected_by_their_beginning():
    keys = [row.key for row in rows.ROWS]
    assert len(set(keys)) == len(keys)
    assert rows.select("all") == list(rows.ROWS)
    assert [row.key for row in rows.select("jv, cholesky-500")] == [
        "jv-multi",
        "jv-scalar",
        "cholesky-500",
    ]
    with pytest.raises(ValueError, match="no row is called 'nonsense'"):
        rows.select("nonsense")


@pytest.mark.slow
def test_absent_peers_are_named(monkeypatch):
    load = importlib.import_module

    def without_torch(name, *rest, **options):
        if name == "torch":
            raise ModuleNotFoundError("No module named 'torch'")
        return load(name, *rest, **options)

    monkeypatch.setattr(importlib, "import_module", without_torch)
    assert "torch is not installed" in peers.absences()["torch"]
    row = next(row for row in rows.ROWS if row.key == "gram-digits-torch")
    text = report.render([(row, row.run(core.SMOKE))], core.SMOKE)
    assert "not available: torch is not installed" in text


def test_a_missing_data_set_is_named(monkeypatch, tmp_path):
    from bench import cases

    cases._kin8nm_split.cache_clear()
    monkeypatch.setenv("FASTGGN_DATA", str(tmp_path))
    row = next(row for row in rows.ROWS if row.key == "lm-kin8nm")
    assert "the data set kin8nm is not here" in row.run(core.SMOKE).note
    cases._kin8nm_split.cache_clear()


@pytest.fixture
def all_peers(monkeypatch):
    """Do not import the peers to see which of them are absent: this takes seconds."""
    monkeypatch.setattr(peers, "absences", dict)


def test_a_missed_target_and_a_failure_are_reported(all_peers):
    def fail(size):
        raise ZeroDivisionError("nothing")

    missed = core.Row("slow", "a slow one", ">=", 2.0, measure=lambda size: core.Outcome(1.5))
    met = core.Row("small", "a small one", "<=", 2.0, "s", measure=lambda size: core.Outcome(1.5))
    failing = core.Row("broken", "a broken one", ">=", 2.0, measure=fail)
    results = [(row, row.run(core.FULL)) for row in (missed, met, failing)]
    text = report.render(results, core.FULL)
    assert "1 met, 1 missed (slow), 1 not measured" in text
    assert "| 1.5x | >= 2x | **missed** |" in text
    assert "| 1.5 s | <= 2 s | met |" in text
    assert "failed: ZeroDivisionError: nothing" in text


def test_the_report_of_several_runs_has_the_median_run_and_all_figures(
    all_peers, tmp_path, monkeypatch
):
    side = core.Timing("fastggn", 1.0, 0.9, 5)
    figures = iter((3.0, 1.0, 2.0))

    def run(size):
        return core.Outcome(next(figures), side, note="a note")

    row = core.Row("quick", "a quick one", ">=", 2.0, measure=run)
    monkeypatch.setattr(report, "select", lambda names: [row])
    out, runs = tmp_path / "RESULTS.md", tmp_path / "runs.json"
    for _ in range(3):
        assert report.main(["--no-plots", "--json", str(runs), "--out", str(out)]) == 0
    text = out.read_text(encoding="utf-8")
    assert "medians of 3 complete runs" in text
    assert "| 2x | >= 2x | met | fastggn: 1.00 s (900 ms) | - | runs: 3x, 1x, 2x; a note |" in text


def test_a_disturbed_row_says_so(all_peers):
    row = core.Row("quick", "a quick one", ">=", 2.0, measure=lambda size: core.Outcome(3.0))
    quiet, busy = core.Outcome(3.0, others=0.01), core.Outcome(3.0, others=1.2)
    assert "disturbed" not in report.render([(row, quiet)], core.FULL)
    text = report.render([(row, busy)], core.FULL)
    assert "1 of 1 rows are marked as disturbed" in text
    assert "other processes kept 1.2 cores busy" in text


def test_other_programs_are_judged_from_a_tenth_of_a_second_on(monkeypatch):
    """Clock, work of all processes, own work; the system counts in steps of 0.01 s."""
    times = iter([(0.0, 0.0, 0.0), (0.05, 0.05, 0.01), (1.0, 3.0, 2.0), (1.2, 3.3, 2.2)])
    monkeypatch.setattr(machine.Bystanders, "_times", lambda _: next(times))
    assert machine.Bystanders().share() is None
    assert machine.Bystanders().share() == pytest.approx(0.5)


@pytest.mark.process
def test_one_command_writes_the_report(tmp_path):
    out = tmp_path / "RESULTS.md"
    command = [sys.executable, "-m", "bench", "--size", "smoke", "--rows", "cholesky-500"]
    subprocess.run(
        [*command, "--out", str(out)], cwd=ROOT, env=os.environ, check=True, timeout=HANGS
    )
    text = out.read_text(encoding="utf-8")
    for word in ("cholesky-500", "openblas", "numba", "threads", "cores"):
        assert word in text
    assert str(ROOT) not in text
    if hasattr(os, "uname") and len(os.uname().nodename) > 3:
        assert os.uname().nodename not in text


@pytest.mark.slow
def test_pictures(tmp_path):
    pytest.importorskip("matplotlib")
    from bench import plots

    assert plots.draw(tmp_path, core.SMOKE) is None
    assert {path.name for path in tmp_path.iterdir()} == {"cost_T.png", "cost_N.png", "threads.png"}


@pytest.mark.slow
def test_a_row_in_turns_with_another_checkout(capfd):
    assert turns.main([str(ROOT / "docs")]) == 2
    assert turns.main([str(ROOT), "cholesky-500"]) == 0
    (row,) = [line for line in capfd.readouterr().out.splitlines() if "cholesky-500" in line]
    assert 0.1 < float(row.split("|")[4]) < 10.0  # one version: 1 on an idle machine


def test_turns_descend_once(monkeypatch):
    done = []
    monkeypatch.setattr(peers, "torch_bp", lambda case, alpha: lambda count: done.append(count))
    turns._descend_once()
    for _ in range(3):
        peers.torch_bp("case", 0.1)(7)
    assert done == [7]


def test_time_to_an_accuracy_and_the_profile():
    curves = {
        "fastggn": [(0.0, 1.0), (1.0, 0.1), (2.0, 1e-8)],
        "other": [(0.0, 1.0), (3.0, 0.1), (4.0, 0.1)],
    }
    assert protocols.seconds_to(curves, 0.2) == {"fastggn": 1.0, "other": 3.0}
    assert protocols.seconds_to(curves, 1e-3) == {"fastggn": 2.0, "other": np.inf}
    records = [{"task": "a task", "seed": 0, "curves": curves}]
    assert protocols.profile(records, 0.2) == {"fastggn": [1.0], "other": [3.0]}
    assert "| a task | 1 | 3 (other) | 3 |" in protocols.table(records, 0.2)


def test_a_protocol_runs_and_is_read_again(tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="matplotlib is absent: the extra bench")
    file, picture = tmp_path / "curves.json", tmp_path / "profile.png"
    arguments = ["--seeds", "1", "--limit", "0.1", "--samples", "50", "--tasks", "rosenbrock",
                 "--solvers", "fastggn", "--json", str(file)]  # fmt: skip
    for _ in range(2):
        protocols.main([*arguments, "--picture", str(picture)])
        assert "Rosenbrock" in capsys.readouterr().out
        assert picture.read_bytes()[:4] == b"\x89PNG"
    (record,) = json.loads(file.read_text())
    assert record["curves"]["fastggn"][-1][1] < record["curves"]["fastggn"][0][1]
