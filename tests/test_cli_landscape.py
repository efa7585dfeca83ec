"""fastggn landscape null-space and fastggn landscape linear."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import fastggn as fg
from fastggn import analysis
from fastggn.apps.cli import main


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(main, [str(a) for a in arguments])


def table(T=12):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((T, 3))
    Y = X @ rng.standard_normal((3, 2)) + 0.1 * rng.standard_normal((T, 2))
    np.savez("arrays.npz", X=X, Y=Y)
    return X, Y


def test_null_space_of_a_model(run):
    assert run("train", "--dataset", "xor", "--hidden", 4, "--quiet").exit_code == 0
    result = run("landscape", "null-space", "model.npz", "--json", "n.json", "--plot", "n.png")
    assert result.exit_code == 0, result.output
    report = json.loads(Path("n.json").read_text())
    assert report["null_space"]["dimension"] == 17 - report["null_space"]["rank"]
    assert "dimension 13 of N = 17" in result.output
    assert report["stationarity"]["kind"] == "zero_misfit"
    assert Path("n.png").stat().st_size > 1000


def test_null_space_on_a_file(run):
    table()
    assert run("train", "arrays.npz", "--hidden", 3, "--quiet", "--max-iter", 3).exit_code == 0
    result = run("landscape", "null-space", "model.npz", "arrays.npz", "--tol", "1e-6")
    assert result.exit_code == 0 and "not_stationary" in result.output, result.output


def test_linear_values(run):
    X, Y = table()
    result = run("landscape", "linear", "arrays.npz", "--widths", "3,2,2", "--json", "l.json")
    assert result.exit_code == 0, result.output
    values = json.loads(Path("l.json").read_text())["critical_values"]
    np.testing.assert_allclose(values, analysis.linear.critical_values(X, Y, (3, 2, 2)))
    assert "4 critical values" in result.output and "distinct eigenvalues" in result.output


def test_linear_model(run):
    table()
    flags = ["--hidden", "2,2", "--activation", "identity", "--bias", "none", "--quiet"]
    assert run("train", "arrays.npz", *flags).exit_code == 0
    result = run("landscape", "linear", "arrays.npz", "--model", "model.npz", "--json", "l.json")
    assert result.exit_code == 0, result.output
    assert json.loads(Path("l.json").read_text())["classification"]["label"] == "global_minimum"
    model = fg.Model.load("model.npz")
    replace(model, theta=0.0 * model.theta).save("zero.npz")
    result = run("landscape", "linear", "arrays.npz", "--model", "zero.npz")
    assert "bad_saddle" in result.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["landscape", "linear", "arrays.npz"], "--widths or --model"),
        (["landscape", "linear", "arrays.npz", "--widths", "4,2,2"], "widths"),
        (["landscape", "linear", "none.npz", "--widths", "3,2,2"], "none.npz"),
        (["landscape", "null-space", "none.npz"], "none.npz"),
        (["landscape", "null-space", "arrays.npz"], "arrays.npz"),
    ],
)
def test_bad_input(run, arguments, words):
    table()
    result = run(*arguments)
    assert result.exit_code == 2 and words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_model_that_is_not_linear(run):
    table()
    assert run("train", "arrays.npz", "--hidden", 2, "--quiet", "--max-iter", 1).exit_code == 0
    result = run("landscape", "linear", "arrays.npz", "--model", "model.npz")
    assert result.exit_code == 2 and "no linear network" in result.stderr
