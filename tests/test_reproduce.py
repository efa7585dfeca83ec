"""``python -m papers``: every experiment's quick version, the two files, and clear errors."""

import json
import re
import subprocess
import sys
import types

import numpy as np
import pytest
from click.testing import CliRunner
from documented import PAGES, ROOT, commands
from quick import run_quick

import papers as experiments
from papers.__main__ import main

# What the default tier makes smaller in the quick versions; the tier slow has them whole.
SMOKE = {
    "bayesian": {"splits": 1, "hidden": 3, "restarts": 1, "max_iter": 15, "folds": 2,
                 "grid": [-1.0, -3.0, 2], "path_iter": 5},
    "channels": {"widths": [2], "samples": [30], "starts": 1, "max_iter": 30},
    "linear": {"starts": 1, "max_iter": {"lm": 20, "newton": 20, "bp": 50}},
    "lsd-fig1": {},
    "lsd-fig2": {"points": 11, "trials": 10},
    "lsd-fig3": {"hidden": [1, 2]},
    "lsd-table1": {"samples": 300, "columns": [[8, 1, 2]],
                   "second_order": {"widths": [8], "solver": "dual", "batch_size": 50,
                                    "damping": 1.0, "passes": 1}},
    "null-space": {"starts": 1, "iterations": 10},
    "sharpness": {"hidden": 3, "rates": [0.3], "time": 30.0, "points": 10, "lm_iterations": 3},
    "rank-phase": {"widths": [1, 3], "samples": [4, 8], "n_draws": 1},
    "shen-fig1a": {"starts": 2, "iterations": 30},
    "shen-fig1b": {"activations": ["tanh"], "starts": 2, "iterations": 10},
    "shen-fig1c": {"iterations": 20, "bp_steps": 200},
    "uci": {"splits": 1, "units": [3], "starts": 1, "max_iter": 15},
    "xor": {"hidden_units": [2], "starts": 1, "max_iter": 50, "random_ranks": 5},
}  # fmt: skip


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        return CliRunner().invoke(main, [str(a) for a in arguments])

    return call


@pytest.fixture
def toy(monkeypatch):
    """An experiment that takes no time, registered as ``toy``."""
    module = types.ModuleType("papers.toy", "A toy.\n\nNot a figure of any paper.")
    module.DEFAULT = {"seed": 0, "count": 3, "factor": 1.5, "kind": "good", "sizes": [1, 2]}
    module.QUICK = {**module.DEFAULT, "count": 2}
    module.calls = []

    def work(config, report):
        module.calls.append(config)
        if config["kind"] != "good":
            raise ValueError("kind must be good")
        report("half of it")
        if config["count"] == 99:
            raise ValueError("broken inside")
        return {
            "values": np.arange(config["count"]) * config["factor"],
            "gap": np.nan,
            "n": np.int64(4),
            "pair": (1, np.float64(0.5)),
        }

    def plot(result):
        from fastggn.figures.style import new_figure

        if module.fails_to_draw:
            raise RuntimeError("no ink")
        figure, axes = new_figure()
        axes[0, 0].plot(result["values"])
        return figure

    module.run, module.plot, module.fails_to_draw = work, plot, False
    module.summary = lambda result: f"gap {result['gap']}, {len(result['values'])} values"
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(experiments.NAMES, "toy", "toy")
    return module


def one_line(result, *words):
    assert result.exit_code == 2, result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("fastggn: error: "), result.stderr
    for word in words:
        assert word in lines[0]


# --- every experiment ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(experiments.NAMES))
def test_smoke_version(name, tmp_path, monkeypatch):
    module = experiments.load(name)
    monkeypatch.setattr(module, "QUICK", {**module.QUICK, **SMOKE[name]})
    check_files(name, module, run_quick(name, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in sorted(experiments.NAMES)],
)
def test_quick_version(name, quick):
    """One worker has the tests of the same run: of the experiments xor and shen-fig1c."""
    assert quick(name).seconds < 60.0
    check_files(name, experiments.load(name), quick(name))


def check_files(name, module, quick):
    from matplotlib.image import imread

    if "the MNIST training files" in quick.outcome.output:
        pytest.skip("the MNIST files are absent (FASTGGN_DATA names the data folder)")
    document = quick.document()
    assert document["experiment"] == name
    assert document["config"] == json.loads(json.dumps(module.QUICK))
    assert set(document["versions"]) == {"fastggn", "numpy", "scipy", "numba"}
    assert document["seconds"] > 0.0
    assert document["result"]
    # The file alone is enough for the summary and the figure.
    assert module.summary(document["result"]).strip() in quick.outcome.stdout
    picture = imread(quick.folder / f"{name}.png")
    height, width = picture.shape[:2]
    assert 400 <= height <= 3000 and 600 <= width <= 4000
    assert np.ptp(picture[..., :3]) == 1.0  # ink on white
    assert {p.name for p in quick.folder.iterdir()} == {f"{name}.json", f"{name}.png"}


@pytest.mark.parametrize("name", sorted(experiments.NAMES))
def test_modules_hold_what_the_command_needs(name):
    module = experiments.load(name)
    assert set(module.QUICK) == set(module.DEFAULT) and isinstance(module.DEFAULT["seed"], int)
    json.dumps(module.DEFAULT, allow_nan=False)
    for part in ("run", "plot", "summary"):
        assert callable(getattr(module, part))
    assert module.__doc__ and len(module.__doc__.splitlines()[0]) <= 100


def test_list(run):
    result = run("--list")
    assert result.exit_code == 0
    for name in experiments.NAMES:
        assert name in result.stdout


@pytest.mark.parametrize("name", sorted(experiments.NAMES))
def test_each_page_says_what_agrees_beside_its_picture(name):
    text = (ROOT / "docs" / "experiments" / f"{name}.md").read_text(encoding="utf-8")
    assert len(re.findall(r"What agrees(?: with the paper)?, and what does not", text)) == 1
    assert (ROOT / "docs" / "images" / "experiments" / f"{name}.png").is_file()
    assert f"](../images/experiments/{name}.png)" in text


def test_the_pages_show_lines_that_are_accepted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = [
        command.words[3:]
        for page in PAGES
        for command in commands(page.read_text("utf-8"))
        if command.words[:3] == ("python", "-m", "papers")
    ]
    assert {words[0] for words in shown} == set(experiments.NAMES)
    for words in shown:
        main.make_context("papers", list(words))


def test_the_command_and_its_help():
    """The command of the pages, in a process of its own; nothing of it is in the package."""
    done = subprocess.run(
        [sys.executable, "-m", "papers", "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0 and "python -m papers shen-fig1a" in done.stdout


# --- what it writes -----------------------------------------------------------------------------


def test_files_and_summary(run, toy, tmp_path):
    result = run("toy", "--out", "deep/er", "--seed", 7, "--set", "factor=2", "--set", "kind=good")
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "deep/er/toy.json").read_text())
    assert document["config"] == {**toy.DEFAULT, "seed": 7, "factor": 2.0}
    assert document["result"] == {
        "values": [0.0, 2.0, 4.0],
        "gap": None,
        "n": 4,
        "pair": [1, 0.5],
    }
    assert (tmp_path / "deep/er/toy.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert "gap None, 3 values" in result.stdout and "toy.png" in result.stdout
    assert "toy: half of it" in result.stderr
    assert toy.DEFAULT["seed"] == 0  # the module's own configuration is untouched


def test_quiet_prints_nothing(run, toy):
    result = run("toy", "--out", ".", "--quiet", "--quick")
    assert result.exit_code == 0 and result.output == ""
    assert toy.calls[0]["count"] == 2


def test_threads(run, toy, monkeypatch):
    from fastggn.runtime.threads import thread_count

    seen = []
    work = toy.run
    toy.run = lambda config, report: (seen.append(thread_count()), work(config, report))[1]
    assert run("toy", "--out", ".", "--threads", 1).exit_code == 0
    assert seen == [1]


def test_a_failing_figure_leaves_the_result(run, toy, tmp_path):
    toy.fails_to_draw = True
    result = run("toy", "--out", ".")
    assert result.exit_code == 1 and "no ink" in result.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["toy.json"]


# --- errors before any work ---------------------------------------------------------------------


def test_an_unknown_name_lists_the_names(run):
    one_line(run("shen-fig9", "--out", "."), "shen-fig9", *experiments.NAMES)
    one_line(run("--out", "."), "NAME", *experiments.NAMES)


def test_out_is_needed_and_must_be_writable(run, toy, tmp_path):
    one_line(run("toy"), "--out DIR")
    (tmp_path / "file").write_text("")
    one_line(run("toy", "--out", "file"), "file")
    (tmp_path / "toy.png").mkdir()
    one_line(run("toy", "--out", "."), "toy.png")
    assert toy.calls == []


def test_matplotlib_missing(run, toy, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    one_line(run("toy", "--out", "."), "fastggn[plot]")
    assert toy.calls == []


@pytest.mark.parametrize(
    ("setting", "word"),
    [
        ("cuont=3", "did you mean 'count'"),
        ("count", "KEY=VALUE"),
        ("count=many", "like 3"),
        ("count=2.5", "like 3"),
        ("count=true", "like 3"),
        ("factor=wide", "like 1.5"),
        ("sizes=3", "like [1, 2]"),
    ],
)
def test_bad_settings(run, toy, setting, word):
    one_line(run("toy", "--out", ".", "--set", setting), word)
    assert toy.calls == []


def test_threads_beyond_the_limit(run, toy):
    one_line(run("toy", "--out", ".", "--threads", 10**6), "number of threads")
    assert toy.calls == []


def test_a_refusal_of_the_experiment_is_bad_input_where_a_setting_led_to_it(run, toy):
    result = run("toy", "--out", ".", "--set", "kind=bad")
    assert result.exit_code == 2
    assert result.stderr.endswith("fastggn: error: toy with --set: kind must be good\n")
    result = run("toy", "--out", ".", "--set", "count=99")  # after the work has begun: a bug
    assert result.exit_code == 1 and "internal error" in result.stderr
    toy.DEFAULT["kind"] = "bad"  # nobody's setting
    assert run("toy", "--out", ".").exit_code == 1
