"""``fastggn train --gradient-columns``."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import fastggn as fg
from fastggn.apps.cli import main


def surface(X):
    """Return values and gradients, of very different units."""
    a, b = 3 * X[:, 0], (X[:, 1] - 200) / 40
    slopes = np.cos(a) * np.cos(b) * 3, -np.sin(a) * np.sin(b) / 40
    return 100 * np.sin(a) * np.cos(b), 100 * np.stack(slopes, axis=-1)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    X = np.random.default_rng(0).uniform((-1, 100), (1, 300), (60, 2))
    rows = np.column_stack([X, *surface(X)])
    text = "\n".join(",".join(map(repr, row)) for row in rows.tolist())
    Path("points.csv").write_text(f"a,b,energy,by a,by b\n{text}\n")

    def call(*arguments):
        given = ["train", "points.csv", "--target", "energy", "--hidden", "12", "--max-iter", "60"]
        return CliRunner().invoke(main, [*given, *map(str, arguments)])

    return call


def error():
    X = np.random.default_rng(1).uniform((-1, 100), (1, 300), (500, 2))
    return np.std(fg.Model.load("model.npz").predict({"a": X[:, 0], "b": X[:, 1]}) - surface(X)[0])


def test_values_and_gradients(run):
    errors = []
    for option in ("--drop", "--gradient-columns"):
        result = run("--no-held-out", option, "by a,by b")
        assert result.exit_code == 0, result.output
        errors.append(error())
    assert errors[1] < errors[0] / 2
    model = fg.Model.load("model.npz")
    assert model.recipe.input_names == ("a", "b") and model.recipe.target_names == ("energy",)
    # Held-out rows, a file of them, numbers of columns, a model to go on from.
    again = ["--gradient-columns", "3,4", "--held-out", "0.2", "--max-iter", "3"]
    result = run(*again)
    assert result.exit_code == 0 and "12 of 60 rows are held out" in result.stderr, result.output
    # The derivatives are in raw units: those of the model agree with the table.
    at = {"a": np.array([0.2]), "b": np.array([210.0])}
    slopes = surface(np.array([[0.2, 210.0]]))[1][0]
    for name, step, slope in zip("ab", (1e-5, 1e-3), slopes, strict=True):
        up, down = ({**at, name: at[name] + sign * step} for sign in (1, -1))
        found = (model.predict(up) - model.predict(down))[0] / (2 * step)
        assert abs(found - slope) < 0.1 * abs(slope) + 0.1


REFUSED = {
    "number": (["by a"], "names 1 columns for 3 inputs: give the derivatives by a, b"),
    "unknown": (["by a,by c"], "there is no column 'by c'"),
    "ranks": (["by a,by b", "--mpi"], "does not go with --mpi"),
    "posterior": (["by a,by b", "--posterior"], "does not go with --posterior"),
    "curvature": (["by a,by b", "--curvature", "exact"], "does not go with --curvature"),
    "relu": (["by a,by b", "--activation", "relu"], "relu"),
    "targets": (["by b", "--target", "energy,by a"], "needs one target of numbers"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(run, case):
    arguments, words = REFUSED[case]
    result = run("--gradient-columns", *arguments)
    assert result.exit_code == 2, result.output
    assert words in result.stderr


def test_gaps_and_text(run):
    lines = Path("points.csv").read_text().splitlines()
    for cell, words in (("", "1 missing value"), ("high", "'high'")):
        broken = [*lines[:5], lines[5].rsplit(",", 1)[0] + f",{cell}", *lines[6:]]
        Path("points.csv").write_text("\n".join(broken))
        result = run("--gradient-columns", "by a,by b", "--no-held-out")
        assert result.exit_code == 2 and words in result.stderr, result.output
    result = CliRunner().invoke(main, ["train", "--gradient-columns", "a"])
    assert result.exit_code == 2 and "goes with DATA" in result.stderr
