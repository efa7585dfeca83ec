"""Ranks of MPI agree with one process, and end together."""

import functools
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from patience import HANGS, last_mark

import fastggn as fg
from fastggn.runtime.comm import SERIAL, require_serial
from fastggn.runtime.ranks import as_comm

ROOT = Path(__file__).resolve().parent.parent
WORKER = ROOT / "tests" / "mpi_worker.py"
# pip's wheels put mpiexec beside the interpreter.
MPIEXEC = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")

# Each job is launched once, by one worker.
pytestmark = pytest.mark.xdist_group("mpi")
has_mpi = pytest.mark.skipif(
    importlib.util.find_spec("mpi4py") is None or MPIEXEC is None,
    reason="mpi4py or mpiexec is absent: pip install 'fastggn[mpi]'",
)


def needs_mpi(test):
    return pytest.mark.process(has_mpi(test))


OPERATIONS = (
    "sum",
    "sum_partials",
    "total",
    "norm",
    "any",
    "broadcast",
    "agree",
    "gather",
    "concatenate",
    "unite",
    "raise_on_all",
    "memory_share",
)


def launch(size, *arguments, module=False, script=WORKER, folder=None, **variables):
    """Run `size` ranks of one thread each; return the process and the seconds after its last mark.

    A rank marks its start and its fault: how long others take to get there is not measured.
    """
    environment = {
        **os.environ,
        "NUMBA_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        **variables,
    }
    target = ["-m", "fastggn"] if module else [str(script)]
    command = [MPIEXEC, "-n", str(size), sys.executable, *target, *map(str, arguments)]
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as marks:
        file = Path(marks, "marks")
        done = subprocess.run(
            command,
            env={**environment, "MARKS": str(file)},
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=HANGS,
            check=False,
        )
        return done, time.monotonic() - (last_mark(file) or start)


@functools.cache
def found(size, *arguments):
    done, _ = launch(size, *(arguments or ("agree",)))
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    return json.loads(line.removeprefix("FOUND "))


SIZES = (1, 2, 3, 4)


@needs_mpi
@pytest.mark.parametrize("size", SIZES)
def test_functions_of_theta_agree(size):
    for case, differences in found(size)["functions"].items():
        for name, difference in differences.items():
            assert difference <= 1e-12, f"{case}: {name} differs by {difference:.1e}"


@needs_mpi
@pytest.mark.parametrize("size", SIZES)
def test_ranks_hold_the_same_bits(size):
    assert set(found(size)["bits"].values()) == {1}


@needs_mpi
@pytest.mark.parametrize("size", SIZES)
def test_training_agrees(size):
    for name, run in found(size)["training"].items():
        assert run["loss"] <= 1e-8, f"{name}: {run}"
        assert run.get("evidence", 0.0) <= 1e-6, f"{name}: {run}"
        assert run["bits"] == 1, f"{name}: theta differs between the ranks"
        assert run["repeated"], f"{name}: another theta the second time"
        one, many = run["iterations"]
        # Where a run converges depends on the rounding of its last steps.
        assert abs(one - many) <= 2, f"{name}: {one} iterations in one process, {many} on {size}"
        assert len(set(run["status"])) == 1, f"{name}: {run['status']}"
        assert (run["status"][0] == "early_stopped") == (name == "early stopping")


@needs_mpi
@pytest.mark.parametrize("size", SIZES)
def test_ranks_decide_together(size):
    decided = found(size)["decisions"]
    assert decided["stopped"] == [["interrupted", 3]] * size
    assert decided["late"] == [["max_iter", 5]] * size
    assert decided["unseeded"] == 1


@needs_mpi
@pytest.mark.parametrize("size", SIZES)
def test_advice_is_about_the_samples_of_all_ranks(size):
    for kind, told in found(size)["advice"].items():
        assert told["differs"] <= 1e-9, kind
        assert told["units"], kind
        assert told["warnings"] == [1] + [0] * (size - 1), kind


@needs_mpi
@pytest.mark.parametrize("size", SIZES[1:])
def test_large_networks_go_to_lsqr_and_few_samples_to_the_dual(size):
    n_params, *solvers = found(size)["decisions"]["large"]
    assert n_params > 20_000
    assert solvers == ["dual", "lsqr"]


def apart(size):
    return ", ".join(f"{0.1 * (rank + 1)} on rank {rank}" for rank in range(size))


@needs_mpi
@pytest.mark.parametrize("size", SIZES[1:])
def test_bad_input_of_one_rank_is_an_error_on_all(size):
    refused = found(size)["refusals"]
    where = f"rank {size - 1}: ValueError: X[2, 1] is nan"
    assert all(message.startswith(where) for message in refused["nan"][:-1])
    assert refused["nan"][-1].startswith("X[2, 1] is nan")
    expected = {
        "l2": f"the ranks of comm differ in l2: {apart(size)}",
        "empty": "X is empty on every rank of comm",
        "weights": "sample_weight is zero for every sample",
    }
    for name, message in expected.items():
        assert refused[name] == [message] * size
    assert all("held_out: " in message for message in refused["held_out"])
    assert all("X[2, 1] is nan" in message for message in refused["held_out"])
    # Found on rank 0 while the others wait, and on all of them at their own samples.
    assert all("theta: the loss there is" in message for message in refused["overflow"])
    assert all("the weights are too large" in message for message in refused["ranks"])
    alone = f"a comm of size 1 and the one that is trained has one of size {size}"
    assert all(alone in message for message in refused["held_out alone"])


@needs_mpi
def test_equations_agree():
    """Ranks that share the points of a ResidualProblem, one term on the last rank alone."""
    done, _ = launch(3, script=ROOT / "tests" / "equations_worker.py")
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    differences = json.loads(line.removeprefix("FOUND "))
    assert len(differences) == 17
    assert max(differences.values()) < 1e-9, differences


@needs_mpi
def test_what_needs_all_samples_is_refused():
    refused = found(2)["refusals"]
    message = "needs all samples in one process"
    assert all(message in found for found in refused["stationarity"])


@needs_mpi
def test_rank_analysis_agrees():
    cases = found(2, "analyses")["rank"]
    assert len(cases) == 10
    for case, differences in cases.items():
        assert not differences, f"{case}: {differences}"


@needs_mpi
def test_critical_points_agree():
    points = found(2, "analyses")["critical"]
    labels = {point["verdicts"][0] for point in points.values()}
    assert {"local_minimum", "global_minimum", "strict_saddle", "saddle", "not_critical"} == labels
    for case, point in points.items():
        for name in ("verdicts", "null", "inertia"):
            assert point[name][0] == point[name][1], f"{case}: {point}"
        assert point["loss"] <= 1e-12, f"{case}: {point}"
        assert point.get("eigenvalues", 0.0) <= 1e-12, f"{case}: {point}"
        assert point["bits"] == 1, f"{case}: the ranks differ"
        assert point["repeated"], f"{case}: another report the second time"


@needs_mpi
def test_what_critical_points_are_made_of_agrees():
    for kind, parts in found(2, "analyses")["parts"].items():
        assert parts["found"] == [False, True, True, False, None], kind
        assert parts["rounding"] <= 1e-12 and parts["outputs"] <= 1e-12, kind
        # By factors, and by an iteration that stops at 1e-14 of the condition.
        assert parts["steps"][0] <= 1e-10 and parts["steps"][1] <= 1e-8, f"{kind}: {parts}"


def agrees(case, run):
    assert run["loss"] <= 1e-8, f"{case}: {run}"
    for name in ("iterations", "status", "solver"):
        assert run[name][0] == run[name][1], f"{case}: {run}"
    assert run["fell"], f"{case}: nothing was learnt"
    assert run["bits"] == 1, f"{case}: theta differs between the ranks"
    assert run["repeated"], f"{case}: another theta the second time"


@needs_mpi
def test_mini_batches_are_those_of_one_process():
    for case, run in found(2, "analyses")["batches"].items():
        agrees(case, run)


@needs_mpi
def test_the_dual_agrees():
    duals = found(2, "analyses")["duals"]
    for case, run in duals["runs"].items():
        agrees(case, run)
        assert run["solver"] == ["dual", "dual"]
    assert duals["gram"]  # bit for bit, from tiles of all ranks


@needs_mpi
def test_the_null_space_regulariser_agrees():
    for case, run in found(2, "analyses")["regularisers"].items():
        agrees(case, run)


def ends_together(size, task, operation, rank):
    done, seconds = launch(size, task, operation, rank)
    where = f"{task} at {operation} on rank {rank} of {size}"
    assert done.returncode != 0, where
    assert seconds < 30.0, f"{where}: {seconds:.1f} s"
    assert "UNHARMED" not in done.stdout, f"{where}: never called"
    return done


# One operation that rank 0 leads and one that all do alike; the tier slow has all the others, on
# one rank or the other in turn, and the tier weekly those on the other rank.
PLACES = {
    (operation, rank): pytest.mark.weekly if (number + rank) % 2 else pytest.mark.slow
    for number, operation in enumerate(OPERATIONS)
    for rank in range(2)
}
PLACES |= dict.fromkeys([("broadcast", 0), ("sum", 1)], pytest.mark.process)


@has_mpi
@pytest.mark.parametrize(
    ("operation", "rank"),
    [pytest.param(*place, marks=mark) for place, mark in PLACES.items()],
)
def test_an_exception_ends_all_ranks(operation, rank):
    done = ends_together(2, "fail", operation, rank)
    assert "ArithmeticError: planted" in done.stderr
    assert f"rank {rank} of 2 failed" in done.stderr


@needs_mpi
@pytest.mark.parametrize("rank", range(2))
def test_a_killed_rank_ends_all(rank):
    ends_together(2, "kill", "sum", rank)


AGREEMENT = ROOT / "tests" / "mpi_agreement.py"


def found_by(task, *arguments):
    done, _ = launch(3, task, *arguments, script=AGREEMENT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.split("FOUND ")[1].splitlines()[0])


@needs_mpi
def test_options_that_differ_by_rank_are_named_on_all(tmp_path):
    told = found_by("options", tmp_path)
    assert len(told["found"]) == 100 and told["same"]
    for name, others, messages in told["found"]:
        wrong = [message for message in messages if "the ranks of comm differ in" not in message]
        if wrong:  # an argument that is not valid: the ranks that gave it raise their own error
            (own,) = {message for message, other in zip(messages, others, strict=True) if other}
            place = f"ValueError: rank {others.index(True)}: {own}"
            expected = [own if other else place for other in others]
            assert messages == expected, name
        else:
            assert len(set(messages)) == 1, messages
            assert re.search(rf"differ in (n_starts and )?{name}", messages[0]), messages[0]
            assert all(str(rank) in messages[0] for rank in range(3)), messages[0]


@needs_mpi
def test_different_calls_are_errors_on_all_ranks(tmp_path):
    told = found_by("calls", tmp_path)
    assert len(told["found"]) > 90 and told["same"] == [True] * 3
    for names, messages in told["found"]:
        assert len(set(messages)) == 1 and messages[0], f"{names}: {messages}"
        named = [name for name in names if name != "no call"]
        assert any(name in messages[0] for name in named), f"{names}: {messages[0]}"


def leaves_together(size, where, rank):
    done, seconds = launch(size, "leave", where, rank, script=AGREEMENT)
    assert done.returncode != 0 and "UNHARMED" not in done.stdout
    assert seconds < 30.0, f"{where} on rank {rank} of {size}: {seconds:.1f} s"
    if where in ("start", "error"):
        assert f"rank {rank} of comm has left the program before this call" in done.stderr
    else:
        assert f"the end of the program on rank {rank}" in done.stderr


@needs_mpi
@pytest.mark.parametrize(
    ("size", "where", "rank"),
    [(2, "start", 1), (3, "error", 0), (3, "between", 2), (2, "callback", 0)],
)
def test_a_rank_that_leaves_ends_all(size, where, rank):
    leaves_together(size, where, rank)


@has_mpi
@pytest.mark.weekly
@pytest.mark.timeout(7200)
def test_a_hundred_ranks_that_leave_end_all():
    rng = np.random.default_rng(0)
    for _ in range(100):
        size = int(rng.integers(2, 5))
        where = str(rng.choice(["start", "error", "between", "callback"]))
        leaves_together(size, where, int(rng.integers(size)))


@needs_mpi
def test_a_rank_may_end_first():
    done, _ = launch(2, "leave", "end", 1, script=AGREEMENT)
    assert done.returncode == 0 and done.stdout.count("ENDED") == 1, done.stderr


@needs_mpi
def test_command_line(tmp_path):
    options = ("--samples", 60, "--hidden", "6", "--max-iter", 15, "--solver", "cholesky")
    options += ("--held-out", 0.2)
    many, _ = launch(3, "train", "--mpi", *options, "--out", tmp_path / "many.npz", module=True)
    assert many.returncode == 0, many.stderr
    assert many.stdout.count("rank of the Jacobian") == 1
    assert many.stderr.count("parameters;") == 1
    one = subprocess.run(
        [sys.executable, "-m", "fastggn", "train", *map(str, options)]
        + ["--out", str(tmp_path / "one.npz")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=HANGS,
        check=True,
    )
    shared, alone = (fg.Model.load(tmp_path / name) for name in ("many.npz", "one.npz"))
    np.testing.assert_allclose(shared.theta, alone.theta, rtol=1e-6, atol=1e-9)
    assert (shared.recipe, shared.split, shared.digest) == (alone.recipe, alone.split, alone.digest)
    for key in ("loss", "validation_loss"):
        assert shared.training[key] == pytest.approx(alone.training[key], rel=1e-8)
    accuracies = [re.findall(r"accuracy .*", done.stdout) for done in (many, one)]
    assert accuracies[0] == accuracies[1] and len(accuracies[0]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["many.npz", "one.npz"]
    summary = [line for line in one.stdout.splitlines() if line.startswith("rank of the")]
    assert summary[0] in many.stdout


@needs_mpi
def test_command_line_with_targets_that_do_not_count(tmp_path):
    """The gaps are among the rows of one rank alone."""
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (60, 2))
    Y = np.column_stack([np.sin(2 * X[:, 0]), X[:, 0] * X[:, 1]])
    Y[45:, 1] = np.nan
    np.savez(tmp_path / "t.npz", X=X, Y=Y)
    options = ("t.npz", "--missing-targets", "ignore", "--no-held-out", "--hidden", "4",
               "--max-iter", "10", "--solver", "cholesky")  # fmt: skip
    models = {}
    for size in (1, 2):
        out = tmp_path / f"{size}.npz"
        words = ("train", "--mpi", *options, "--out", out)
        done, _ = launch(size, *words, module=True, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "15 of 60 values are missing and do not count" in done.stderr
        models[size] = fg.Model.load(out)
    np.testing.assert_allclose(models[2].theta, models[1].theta, rtol=1e-6, atol=1e-9)
    assert models[2].digest == models[1].digest


@needs_mpi
def test_command_line_reports_a_mistake_once(tmp_path):
    done, seconds = launch(2, "train", "--mpi", "--loss", "nonsense", module=True)
    assert done.returncode == 2
    assert done.stderr.count("fastggn: error: loss 'nonsense' is unknown") == 1
    sound, usual = launch(2, "train", "--mpi", "--samples", 20, "--max-iter", 1, module=True,
                          folder=tmp_path)  # fmt: skip
    assert sound.returncode == 0 and seconds < usual + 30.0


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    return found(3, "jobs", tmp_path_factory.mktemp("jobs"))


@needs_mpi
def test_resumed_runs_have_the_bits_of_whole_ones(jobs):
    for name, run in jobs["parts"].items():
        assert run["parts"] >= 3, name
        assert run["same"] == [True] * 3, name
    assert jobs["parts"]["early stopping"]["status"] == ["early_stopped"] * 3
    # Rank 0 alone writes: two generations of each run, nothing else.
    expected = [f"{i}.ckpt{end}" for i in range(len(jobs["parts"])) for end in ("", ".previous")]
    assert jobs["files"] == expected


@needs_mpi
def test_a_run_without_a_seed_is_resumed(jobs):
    assert jobs["unseeded"] == [1, 4, True]


@needs_mpi
def test_a_signal_to_one_rank_saves_and_stops_all(jobs):
    assert jobs["signal"] == [["interrupted", 2, 4]] * 3


@needs_mpi
def test_checkpoints_of_other_ranks_or_rows_are_refused_on_all(jobs):
    parts = {
        "rows": "inputs X differs; targets Y differs",
        "ranks": "number of ranks was 1 and is 3",
        "no checkpoint": "it is not replaced",
        "no folder": "none",
    }
    for name, part in parts.items():
        messages = jobs["refused"][name]
        assert all(part in message for message in messages), f"{name}: {messages}"
        assert all(message.startswith("rank 0: ") for message in messages[1:])


@needs_mpi
def test_samples_in_files_have_the_bits_of_those_in_memory(jobs):
    assert jobs["streamed"] == {"even": [True] * 3, "uneven": [True] * 3, "empty": [True] * 3}


@needs_mpi
def test_command_line_resumes(tmp_path):
    options = ("train", "--mpi", "--samples", 60, "--hidden", "5", "--solver", "cholesky")
    files = ("--checkpoint", tmp_path / "run.ckpt", "--resume")
    files += ("--history", tmp_path / "run.jsonl", "--out", tmp_path / "parts.npz")
    for arguments in (
        ("--max-iter", 8, "--out", tmp_path / "whole.npz"),
        ("--max-iter", 4, *files),
        ("--max-iter", 8, *files),
    ):
        done, _ = launch(2, *options, *arguments, module=True)
        assert done.returncode == 0, done.stderr
    parts, whole = (fg.Model.load(tmp_path / f"{name}.npz") for name in ("parts", "whole"))
    np.testing.assert_array_equal(parts.theta, whole.theta)
    lines = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == list(range(1, 9))


@needs_mpi
def test_command_line_with_several_starts(tmp_path):
    options = ("--samples", 60, "--hidden", "4", "--max-iter", 4, "--starts", 3)
    done, _ = launch(2, "train", "--mpi", *options, "--out", tmp_path / "m.npz", module=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("start 3/3") == 1
    losses = [
        float(line.split("loss ")[1].split()[0])
        for line in done.stderr.splitlines()
        if line.startswith("start ")
    ]
    kept = fg.Model.load(tmp_path / "m.npz").training["loss"]
    assert kept == pytest.approx(min(losses), rel=1e-5)


@needs_mpi
def test_command_line_does_not_repeat_finished_starts(tmp_path):
    options = ("train", "--mpi", "--samples", 60, "--hidden", "4", "--max-iter", 4)
    files = ("--checkpoint", tmp_path / "starts.ckpt", "--out", tmp_path / "n.npz", "--resume")
    for files_of, count in (((), 3), (files, 2), (files, 3)):
        out = files_of or ("--out", tmp_path / "m.npz")
        done, _ = launch(2, *options, "--starts", count, *out, module=True)
        assert done.returncode == 0, done.stderr
    begun = [line.split(",")[0] for line in done.stderr.splitlines() if line.startswith("start ")]
    assert begun == ["start 3/3"]
    theta, expected = (fg.Model.load(tmp_path / name).theta for name in ("n.npz", "m.npz"))
    np.testing.assert_array_equal(theta, expected)
    names = sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".npz")
    assert [name for name in names if not name.endswith(".previous")] == [
        f"starts.ckpt.seed{seed}" for seed in range(3)
    ]


@needs_mpi
@pytest.mark.parametrize("rank", range(2))
def test_a_killed_rank_ends_the_job_and_the_run_resumes(tmp_path, rank):
    done, seconds = launch(2, "killed", tmp_path, rank)
    assert done.returncode != 0 and seconds < 30.0
    assert "UNHARMED" not in done.stdout
    assert (tmp_path / "run.ckpt").exists()
    revived = found(2, "killed", tmp_path, -1)
    assert revived["same"] == [True, True]
    # Killed in its fifth iteration: rank 0 may have written that one before it was ended.
    assert set(revived["left"]) <= ({8} if rank == 0 else {7, 8})


STREAMED = """
import json, sys
from pathlib import Path
from fastggn.data.npy import NpyFile
from fastggn.apps.cli import main

read, plain = [], NpyFile._fill

def fill(self, buffer, start):
    rows = len(buffer) // self._row_bytes
    if rows > 1:  # the first row tells the type
        read.append([start, start + rows])
    plain(self, buffer, start)

NpyFile._fill = fill
found = []
for command in json.loads(sys.argv[2]):
    read.clear()
    main(command, standalone_mode=False)
    with open("/proc/self/status") as status:
        lines = dict(line.split(":", 1) for line in status)
    found.append({"rows": [min(a for a, b in read), max(b for a, b in read)],
                  "anonymous": int(lines["RssAnon"].split()[0]) / 1024})
from mpi4py import MPI
Path(sys.argv[1], f"rank{MPI.COMM_WORLD.rank}.json").write_text(json.dumps(found))
"""


@needs_mpi
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_command_line_reads_the_rows_of_a_rank_only(tmp_path, monkeypatch):
    """Also for the mean and the deviation of the columns, and for class labels."""
    from click.testing import CliRunner

    from fastggn.apps.cli import main

    rng = np.random.default_rng(0)
    X = rng.normal(size=(20_001, 3)) * 5 + 2
    np.save(tmp_path / "big.npy", np.column_stack([X, np.sin(X[:, 0])]))
    kinds = np.where(np.arange(20_001) < 10_000, 2.0, np.where(X[:, 1] > 2.0, 3.0, 5.0))
    kinds[0] = 5.0  # of the three classes, the first rank sees two
    np.save(tmp_path / "kinds.npy", np.column_stack([X, kinds]))
    (tmp_path / "job.py").write_text(STREAMED)
    options = ["--hidden", "4", "--max-iter", "3"]
    labelled = ["--loss", "softmax_cross_entropy", *options]
    commands = {"big": ["train", "big.npy", *options], "kinds": ["train", "kinds.npy", *labelled]}
    over_ranks = [
        [*command, "--mpi", "--stream", "--out", f"{name}-many.npz"]
        for name, command in commands.items()
    ]
    many, _ = launch(2, tmp_path, json.dumps(over_ranks), script=tmp_path / "job.py",
                     folder=tmp_path)  # fmt: skip
    assert many.returncode == 0, many.stderr
    reports = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2)]
    # The rows of each part are shared in order; the digest is taken over blocks of 4096 rows.
    for report in zip(*reports, strict=True):
        assert report[0]["rows"][0] == 0 and report[0]["rows"][1] < 10_500
        assert report[1]["rows"][0] >= 8_192 and report[1]["rows"][1] == 20_001
    monkeypatch.chdir(tmp_path)
    for name, command in commands.items():
        one = CliRunner().invoke(main, [*command, "--out", f"{name}-one.npz"])
        assert one.exit_code == 0, one.output
        shared, alone = (fg.Model.load(f"{name}-{kind}.npz") for kind in ("many", "one"))
        for key in ("loss", "validation_loss", "n_rows", "n_training"):
            assert shared.training[key] == pytest.approx(alone.training[key], rel=1e-8)
        assert (shared.split, shared.digest) == (alone.split, alone.digest)
        assert shared.classes is None or shared.classes.tolist() == alone.classes.tolist()
        for scaler, other in ((shared.input_scaler, alone.input_scaler),
                              (shared.target_scaler, alone.target_scaler)):  # fmt: skip
            if scaler is not None:
                np.testing.assert_allclose(scaler.mean, other.mean, rtol=1e-12)
                np.testing.assert_allclose(scaler.scale, other.scale, rtol=1e-12)
    assert alone.classes.tolist() == [2, 3, 5]
    rank_of_a_model(tmp_path)


def rank_of_a_model(folder):
    """Let two ranks analyse the model, and compare what they print with one process."""
    from click.testing import CliRunner

    from fastggn.apps.cli import main

    model, data = str(folder / "big-one.npz"), str(folder / "big.npy")
    many, _ = launch(2, "rank", model, data, "--mpi", "--json", "r.json", module=True,
                     folder=folder)  # fmt: skip
    assert many.returncode == 0, many.stderr
    one = CliRunner().invoke(main, ["rank", model, data], standalone_mode=False)
    assert many.stdout == one.stdout
    report = json.loads((folder / "r.json").read_text())
    assert report["n_samples"] == fg.Model.load(model).training["n_training"]


def test_the_rows_of_a_rank_stay_in_their_file(tmp_path):
    from fastggn.apps.cli.tables import own_rows
    from fastggn.data.sources import is_streamed
    from fastggn.data.stream import stream_table
    from fastggn.runtime.comm import Comm

    rows = np.random.default_rng(0).standard_normal((11, 3))
    np.save(tmp_path / "table.npy", rows)
    table = stream_table(tmp_path / "table.npy")
    shares = []
    for rank in range(3):
        comm = Comm()
        comm.rank, comm.size = rank, 3
        shares.append(own_rows(table, comm))
    assert all(is_streamed(share.X) for share in shares)
    np.testing.assert_array_equal(np.concatenate([s.X[0:] for s in shares]), rows[:, :2])
    np.testing.assert_array_equal(shares[1].X[1:3], rows[4:6, :2])


class OneProcess:
    """A communicator of size 1, as mpi4py gives it where no mpiexec was used."""

    def Get_rank(self):
        return 0

    def Get_size(self):
        return 1

    Bcast = Reduce = None


def test_one_process_is_serial(monkeypatch):
    monkeypatch.delenv("SLURM_NTASKS", raising=False)
    assert as_comm(None) is SERIAL
    assert as_comm(OneProcess()) is SERIAL
    monkeypatch.setenv("SLURM_NTASKS", "1")
    assert as_comm(OneProcess()) is SERIAL
    require_serial(SERIAL, "this")


def test_one_process_in_a_job_of_several_tasks_is_refused(monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "4")
    with pytest.raises(ValueError, match="one process, but the SLURM job has 4 tasks"):
        as_comm(OneProcess())
    assert as_comm(None) is SERIAL  # a serial srun: nobody asked for MPI
    problem = fg.Problem(fg.MLP((1, 2, 1)), np.ones((3, 1)), np.ones(3))
    assert problem.comm is SERIAL


def test_what_is_no_communicator_is_refused():
    with pytest.raises(TypeError, match="comm must be an mpi4py communicator or None, not str"):
        fg.Problem(fg.MLP((1, 2, 1)), np.ones((3, 1)), np.ones(3), comm="world")


def test_without_mpi4py_the_extra_is_named(monkeypatch):
    from fastggn.runtime.mpi import world

    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(ImportError, match=r'pip install "fastggn\[mpi\]"'):
        world()
