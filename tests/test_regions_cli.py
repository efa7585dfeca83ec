"""``fastggn landscape regions``."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

import fastggn as fg
from fastggn.apps.cli import main


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "three.csv").write_text("a,b,y\n-1,1,1\n2,1,2\n1,3,3\n")

    def call(*arguments):
        return CliRunner().invoke(main, ["landscape", "regions", *map(str, arguments)])

    return call


def test_table_and_json(run, tmp_path):
    result = run("three.csv", "--hidden", 2, "--json", "out.json")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert "6 patterns" in lines[0] and "21 regions" in lines[0]
    rows = {line.split()[0]: [int(v) for v in line.split()[1:3]] for line in lines[2:]}
    assert rows["0"] == [14, 10] and rows["4.5"] == [2, 2] and rows["0.16"] == [3, 3]
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["total"] == len(report["records"]) == 21
    assert sum(report["regions"]) == 36 and sum(report["attained"]) == 28
    X, y = np.array([[-1, 1], [2, 1], [1, 3.0]]), np.array([1, 2, 3.0])
    problem = fg.Problem(fg.MLP((2, 2, 1), "relu", bias="none"), X, y)
    for record in report["records"]:
        assert (record["theta"] is None) != record["attained"]
        if record["attained"]:
            assert np.linalg.norm(problem.gradient(record["theta"])) < 1e-9


@pytest.mark.parametrize(("which", "regions"), [("all", 64), ("attained", 28)])
def test_other_sets(run, which, regions):
    result = run("three.csv", "--target", "y", "--hidden", 2, "--which", which)
    assert result.exit_code == 0, result.output
    assert sum(int(line.split()[1]) for line in result.output.splitlines()[2:]) == regions


def test_going_on(run):
    result = run("three.csv", "--hidden", 2, "--start", 20)
    assert [line.split()[:2] for line in result.output.splitlines()[2:]] == [["0.16", "1"]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["three.csv"], "--hidden"),
        (["none.csv", "--hidden", "1"], "none.csv"),
        (["three.csv", "--hidden", "1", "--which", "some"], "which 'some' is unknown"),
        (["three.csv", "--hidden", "1", "--target", "a,b"], "one target column"),
        (["three.csv", "--hidden", "0"], "--hidden"),
        (["three.csv", "--hidden", "1", "--json", "no/out.json"], "no"),
    ],
)
def test_bad_input(run, arguments, message):
    result = run(*arguments)
    assert result.exit_code == 2 and message in result.stderr
