"""Batch jobs: a scheduler's signals and requeues, the history file, many starts in one process."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from patience import HANGS

import fastggn as fg
from fastggn.apps.cli import main
from fastggn.apps.cli.history import HistoryFile
from fastggn.training.checkpoint.files import CheckpointFile
from fastggn.training.result import Record

ROOT = Path(__file__).resolve().parent.parent
SMALL = ["--samples", "40", "--hidden", "4", "--max-iter", "12"]
CHECKPOINT = ["--checkpoint", "run.ckpt", "--resume"]


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        return CliRunner().invoke(main, ["train", *[str(a) for a in arguments]])

    return call


def theta_of(path="model.npz"):
    return fg.Model.load(path).theta


def lines_of(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


# --- a scheduler --------------------------------------------------------------------------------

# An iteration takes some 50 milliseconds: a pass of 375 mini-batches.
JOB = [
    "--method", "adam", "--samples", "3000", "--batch-size", "8", "--hidden", "5", "--seed", "2",
    "--grad-tol", "0", "--history", "history.jsonl", *CHECKPOINT, "--checkpoint-every", "1", "-v",
]  # fmt: skip


class Scheduler:
    """Starts a job, sends it signals, and KILL where it hangs."""

    def __init__(self, folder):
        self.folder = folder
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def start(self, *arguments):
        command = [sys.executable, "-m", "fastggn", "train", *JOB, *arguments]
        self.lines = []
        self.under_way = threading.Event()
        self.job = subprocess.Popen(
            command, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            env=self.environment,
        )  # fmt: skip
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        for line in self.job.stderr:
            self.lines.append(line)
            if line.startswith("iteration"):
                self.under_way.set()

    def wait(self, seconds):
        try:
            return self.job.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def end(self, pauses):
        """Send the signals, with these pauses after them; return the exit code."""
        assert self.under_way.wait(HANGS), self.lines
        time.sleep(pauses["before"])
        for name, pause in pauses["signals"]:
            self.job.send_signal(getattr(signal, name))
            if self.wait(pause) is not None:
                break
        code = self.wait(HANGS)
        if code is None:
            self.job.kill()
            code = self.job.wait()
        self.reader.join()
        self.job.stderr.close()
        return code

    def iterations(self):
        """Return the iteration that the part went on after, and the last one it did."""
        text = "".join(self.lines)
        began = re.search(r"going on after iteration (\d+)", text)
        numbers = [int(n) for n in re.findall(r"^iteration +(\d+)/", text, re.MULTILINE)]
        return int(began[1]) if began else 0, max(numbers, default=0)


# The signals of a part, in turn: a polite end, an impatient one, and one without a warning.
PARTS = (
    [("USR1", HANGS)],
    [("USR1", 0.02), ("TERM", HANGS)],
    [("USR1", 0.0), ("TERM", 0.0), ("KILL", HANGS)],
    [("TERM", HANGS)],
    [("KILL", HANGS)],
    [("INT", HANGS)],
)


@pytest.mark.parametrize(
    "requeues",
    [pytest.param(7, marks=pytest.mark.process), pytest.param(20, marks=pytest.mark.weekly)],
)
def test_requeues_lose_at_most_one_iteration_each(tmp_path, requeues):
    scheduler = Scheduler(tmp_path)
    rng = random.Random(0)
    done, lost = 0, []
    for part in range(requeues):
        scheduler.start("--max-iter", "100000")
        signals = [(f"SIG{name}", pause) for name, pause in PARTS[part % len(PARTS)]]
        code = scheduler.end({"before": rng.uniform(0.0, 0.2), "signals": signals})
        killed = signals[-1][0] == "SIGKILL"
        assert code == 3 or (killed and code == -signal.SIGKILL), scheduler.lines
        began, last = scheduler.iterations()
        lost.append(done - began)
        assert 0 <= lost[-1] <= 1, scheduler.lines
        assert last > began
        done = last
    total = done + 2
    scheduler.start("--max-iter", str(total))
    assert scheduler.end({"before": 0.0, "signals": [("SIGCONT", HANGS)]}) == 0
    history = lines_of(tmp_path / "history.jsonl")
    assert [line["iteration"] for line in history] == list(range(1, total + 1))
    X, Y = fg.data.four_regions(3000, seed=2)
    problem = fg.Problem(fg.MLP((2, 5, 1)), X, Y)
    whole = fg.train(
        problem, seed=2, method=fg.Adam(batch_size=8), stop=fg.Stop(gradient=0.0), max_iter=total
    )
    np.testing.assert_array_equal(theta_of(tmp_path / "model.npz"), whole.theta)
    assert [line["loss"] for line in history] == [r.loss for r in whole.history]


STUBS = {
    "srun": '#!/bin/bash\nwhile [[ $1 == --* ]]; do shift; done\nexec "$@"\n',
    "scontrol": '#!/bin/bash\necho "$@" >> scontrol.log\n',
    "fastggn": f'#!/bin/bash\nexec {sys.executable} -m fastggn "$@"\n',
}


@pytest.mark.process
def test_the_requeue_template_of_the_pages(tmp_path):
    """The script as it is printed, with stubs for SLURM's programs; two parts, then done."""
    page = (ROOT / "docs" / "hpc" / "slurm.md").read_text(encoding="utf-8")
    script = re.search(r"```bash\n(#!/bin/bash\n.*?)```", page, re.DOTALL)[1]
    assert "#SBATCH --signal=B:USR1@120" in script
    small = {"--hidden 200,200": "--hidden 3 --method bp --alpha 0.001", "100000": "1000000"}
    for old, new in small.items():
        assert old in script
        script = script.replace(old, new)
    binaries = tmp_path / "bin"
    binaries.mkdir()
    for name, text in STUBS.items():
        (binaries / name).write_text(text)
        (binaries / name).chmod(0o755)
    X, Y = fg.data.four_regions(60, seed=0)
    np.savez(tmp_path / "data.npz", X=X, Y=Y)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PATH": f"{binaries}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "17",
        "SLURM_CPUS_PER_TASK": "1",
        # Its own folder would be compiled into anew.
        "SLURM_TMPDIR": str(tmp_path),
    }
    for name, seed in (("test", 1), ("new", 2)):
        X, Y = fg.data.four_regions(10, seed=seed)
        np.savez(tmp_path / f"{name}.npz", **({"X": X, "Y": Y} if name == "test" else {"X": X}))
    script = re.sub(r"export NUMBA_CACHE_DIR=.*", "", script)
    (tmp_path / "job.sh").write_text(script)
    for part in (1, 2):
        job = subprocess.Popen(
            ["bash", "job.sh"], cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        lines = []
        for line in job.stderr:
            lines.append(line)
            if line.startswith("iteration"):
                break
        job.send_signal(signal.SIGUSR1)  # B: only the script receives it
        lines += job.communicate(timeout=HANGS)[1].splitlines()
        assert job.returncode == 3, lines
        assert (tmp_path / "scontrol.log").read_text() == "requeue 17\n" * part
        assert any("going on after" in line for line in lines) == (part == 2)
    history = [line["iteration"] for line in lines_of(tmp_path / "run.jsonl")]
    assert history == list(range(1, len(history) + 1))
    (tmp_path / "job.sh").write_text(script.replace("1000000", str(len(history) + 2)))
    done = subprocess.run(["bash", "job.sh"], cwd=tmp_path, env=environment, timeout=HANGS)
    assert done.returncode == 0
    assert json.loads((tmp_path / "errors.json").read_text())["n_rows"] == 10
    lines = (tmp_path / "predictions.csv").read_text().splitlines()
    found = np.array(lines[1:], dtype=float)
    model = fg.Model.load(tmp_path / "model.npz")
    np.testing.assert_array_equal(found, model.predict(fg.data.four_regions(10, seed=2)[0]))


# --- options ------------------------------------------------------------------------------------


def test_a_job_in_two_parts_gives_the_model_of_one(run):
    assert run(*SMALL, "--out", "whole.npz").exit_code == 0
    assert run(*SMALL[:-1], "5", *CHECKPOINT).exit_code == 0
    result = run(*SMALL, *CHECKPOINT)
    assert "going on after iteration 5" in result.stderr
    np.testing.assert_array_equal(theta_of(), theta_of("whole.npz"))
    again = run(*SMALL, *CHECKPOINT)  # nothing is left to do
    assert again.exit_code == 0 and "iteration " not in again.stderr
    np.testing.assert_array_equal(theta_of(), theta_of("whole.npz"))


def test_the_options_in_a_file(run):
    for every in ("3", '"30s"'):
        Path("run.toml").write_text(
            f'checkpoint = "run.ckpt"\ncheckpoint-every = {every}\nresume = true\n'
            'history = "h.jsonl"\nstarts = 1\n'
        )
        assert run(*SMALL, "--config", "run.toml").exit_code == 0
        assert Path("run.ckpt").exists() and Path("h.jsonl").exists()
    Path("run.toml").write_text("checkpoint-every = 1.5\n")
    result = run("--config", "run.toml")
    assert result.exit_code == 2 and "must be whole numbers or text" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--resume"], "resume goes with checkpoint"),
        (["--checkpoint-every", "5"], "checkpoint_every goes with checkpoint"),
        (["--starts", "3", "--resume"], "resume goes with checkpoint"),
        (["--checkpoint", "a", "--checkpoint-every", "soon"], "got 'soon'"),
        (["--starts", "2", "--checkpoint", "a", "--checkpoint-every", "soon"], "got 'soon'"),
        (["--checkpoint", "nowhere/a.ckpt"], "the folder does not exist"),
        (["--starts", "2", "--checkpoint", "nowhere/a.ckpt"], "the folder does not exist"),
        (["--history", "nowhere/h.jsonl"], "the folder does not exist"),
        (["--starts", "0"], "--starts"),
        (["--checkpoint", "text"], "--checkpoint text would replace a file that is no checkpoint"),
        (["--checkpoint", "text", "--resume"], "--checkpoint text would replace"),
        (["--starts", "2", "--checkpoint", "text", "--resume"], "text.seed0) would replace"),
        (["--checkpoint", "text", "--resume", "--force"], "text: "),
    ],
)
def test_bad_options_are_one_line(run, arguments, words):
    for name in ("text", "text.seed0"):
        Path(name).write_text("no checkpoint " * 30)
    result = run(*SMALL, *arguments)
    assert result.exit_code == 2, result.output
    error = result.stderr.strip().splitlines()[-1]
    assert error.startswith("fastggn: error: ") and words in error
    for name in ("text", "text.seed0"):
        assert Path(name).read_text() == "no checkpoint " * 30
    assert not Path("model.npz").exists()


def test_a_checkpoint_of_another_run_is_bad_input(run):
    run(*SMALL, *CHECKPOINT)
    result = run(*SMALL, *CHECKPOINT, "--seed", "1", "--l2", "0.1")
    assert result.exit_code == 2
    assert "l2 was 0.0 and is 0.1; seed was 0 and is 1" in result.stderr


def test_an_unsaved_state_is_no_exit_code_3(run, monkeypatch):
    """Code 3 promises that the state is saved: the model is, the checkpoint is not."""

    def full(self, content):
        raise OSError(28, "No space left on device", "run.ckpt")

    monkeypatch.setattr(CheckpointFile, "save", full)
    result = run(*SMALL, "--checkpoint", "run.ckpt", "--max-time", "1e-9")
    assert result.exit_code == 1
    assert "No space left on device" in result.stderr
    assert "the model is in model.npz" in result.stderr
    assert Path("model.npz").exists()


# --- history ------------------------------------------------------------------------------------


def test_history_is_one_json_object_an_iteration(run):
    run(*SMALL, "--history", "h.jsonl")
    lines = lines_of("h.jsonl")
    assert [line["iteration"] for line in lines] == list(range(1, 13))
    assert set(lines[0]) == {"seed", *Record.__dataclass_fields__}
    run(*SMALL, "--history", "h.jsonl", "--max-iter", "3")  # a fresh run, a fresh file
    assert len(lines_of("h.jsonl")) == 3


def test_a_resumed_history_has_each_iteration_once(run):
    run(*SMALL[:-1], "6", *CHECKPOINT, "--history", "h.jsonl")
    whole = Path("h.jsonl").read_text()
    # The process was killed after an iteration that the checkpoint does not know, and in a line.
    ahead = whole.splitlines()[-1].replace('"iteration": 6', '"iteration": 7')
    Path("h.jsonl").write_text(whole + ahead + "\n" + '{"seed": 0, "iterat')
    run(*SMALL, *CHECKPOINT, "--history", "h.jsonl")
    lines = lines_of("h.jsonl")
    assert [line["iteration"] for line in lines] == list(range(1, 13))
    assert Path("h.jsonl").read_text().startswith(whole)


def test_what_is_not_finite_is_null(run):
    record = Record(1, 1.0, np.inf, np.nan, None, -np.inf, "qr", 3, 0.5, 0.1, True, 0, 1, 1, 1)
    history = HistoryFile("h.jsonl", resume=False)
    with history.of(4):
        history(record)
    line = lines_of("h.jsonl")[0]
    assert line["seed"] == 4 and line["gradient_norm"] is None and line["gain_ratio"] is None
    assert line["rank"] == 3


def test_a_full_disk_ends_the_history_not_the_run(run, monkeypatch):
    def full(self, path, iteration):
        return open("/dev/full", "w")

    monkeypatch.setattr(HistoryFile, "_open", full)
    result = run(*SMALL, "--history", "h.jsonl")
    assert result.exit_code == 0
    assert "the history h.jsonl ends here" in result.stderr
    assert Path("model.npz").exists()


# --- many starts --------------------------------------------------------------------------------


def single_losses(seeds):
    X, Y = fg.data.four_regions(40, seed=0)
    problem = fg.Problem(fg.MLP((2, 4, 1)), X, Y)
    runs = [fg.train(problem, problem.network.init(s), seed=s, max_iter=12) for s in seeds]
    return [r.loss for r in runs], [r.theta for r in runs]


def test_the_best_of_several_starts_is_kept(run):
    result = run(*SMALL, "--starts", "4")
    assert result.exit_code == 0
    losses, thetas = single_losses(range(4))
    for number, loss in enumerate(losses):
        assert f"start {number + 1}/4, seed {number}: loss {loss:.6e}" in result.stderr
    best = int(np.argmin(losses))
    np.testing.assert_array_equal(theta_of(), thetas[best])
    training = fg.Model.load("model.npz").training
    assert training["start_seed"] == best and training["seed"] == 0
    assert f"the best of 4 starts, seed {best}" in result.stdout
    assert run(*SMALL, "--starts", "4", "--quiet").output == ""


def test_a_finished_start_is_not_run_again(run):
    starts = [*SMALL, "--starts", "2", "--history", "h.jsonl", *CHECKPOINT]
    assert run(*starts).exit_code == 0
    assert sorted(p.name for p in Path(".").glob("run.ckpt*")) == [
        "run.ckpt.seed0",
        "run.ckpt.seed1",
    ]
    starts[starts.index("--starts") + 1] = "4"
    result = run(*starts)
    assert re.findall(r"start (\d)/4", result.stderr) == ["3", "4"]
    losses, thetas = single_losses(range(4))
    np.testing.assert_array_equal(theta_of(), thetas[int(np.argmin(losses))])
    assert [(line["seed"], line["iteration"]) for line in lines_of("h.jsonl")] == [
        (seed, iteration) for seed in range(4) for iteration in range(1, 13)
    ]
    again = run(*starts)
    assert again.exit_code == 0 and "start " not in again.stderr
    np.testing.assert_array_equal(theta_of(), thetas[int(np.argmin(losses))])


def test_other_starts_are_refused(run):
    starts = [*SMALL, "--starts", "2", *CHECKPOINT]
    run(*starts)
    for change, words in (
        (["--init", "he"], "theta0 differs"),
        (["--method", "newton"], "method was 'lm' and is 'newton'"),
    ):
        result = run(*starts, *change)
        assert result.exit_code == 2 and words in result.stderr


@pytest.mark.process
def test_starts_go_on_in_the_midst_of_one(run, monkeypatch):
    """The time is over in the third start; the finished ones and its state are kept."""
    starts = [*SMALL, "--starts", "4", *CHECKPOINT, "--history", "h.jsonl"]
    real, calls = HistoryFile.__call__, [0]

    def count(self, record):
        calls[0] += 1
        if calls[0] == 30:  # 12 iterations a start
            os.kill(os.getpid(), signal.SIGUSR1)
        return real(self, record)

    monkeypatch.setattr(HistoryFile, "__call__", count)
    result = run(*starts)
    assert result.exit_code == 3, result.output
    assert "stopped by SIGUSR1 after 2 of 4 starts" in " ".join(result.stdout.split())
    assert Path("run.ckpt.seed2").exists() and not Path("run.ckpt.seed3").exists()
    monkeypatch.setattr(HistoryFile, "__call__", real)
    result = run(*starts)
    assert result.exit_code == 0
    assert re.findall(r"start (\d)/4", result.stderr) == ["3", "4"]
    losses, thetas = single_losses(range(4))
    np.testing.assert_array_equal(theta_of(), thetas[int(np.argmin(losses))])
    assert [line["seed"] for line in lines_of("h.jsonl")] == [
        s for s in range(4) for _ in range(12)
    ]


def test_the_time_limit_is_for_all_starts(run):
    result = run(*SMALL[:-1], "100000", "--grad-tol", "0", "--starts", "9", "--max-time", "0.4",
                 "--method", "bp", "--alpha", "0.01")  # fmt: skip
    assert result.exit_code == 3
    text = " ".join(result.stdout.split())
    assert "time limit reached" in text and "after 0 of 9 starts" in text
    assert Path("model.npz").exists()
