"""fastggn critical-point MODEL DATA."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

import fastggn as fg
from fastggn.apps.cli import main


def run(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Models trained on built-in samples, on a table, and on labels."""
    path = tmp_path_factory.mktemp("models")
    rng = np.random.default_rng(0)
    X = rng.uniform(size=(40, 2))
    rows = np.column_stack([X, X @ [1.0, -2.0] + 0.1 * rng.standard_normal(40)])
    np.savetxt(path / "houses.csv", rows, delimiter=",", header="a,b,price", comments="")
    kinds = np.column_stack([X, rng.integers(0, 3, 40) * 2])
    np.savetxt(path / "kinds.csv", kinds, delimiter=",", header="a,b,kind", comments="")
    np.save(path / "wide.npy", np.hstack([X, rows]))
    for name, arguments in {
        "xor.npz": ["--dataset", "xor", "--hidden", "4"],
        "houses.npz": [path / "houses.csv", "--hidden", "none", "--target", "price"],
        "kinds.npz": [
            path / "kinds.csv", "--hidden", "2", "--loss", "softmax_cross_entropy",
            "--l2", "0.01", "--method", "newton", "--max-iter", "300",
        ],
    }.items():  # fmt: skip
        result = run("train", *arguments, "-q", "--out", path / name)
        assert result.exit_code == 0, result.output
    return path


def test_built_in_samples(folder):
    result = run("critical-point", folder / "xor.npz")
    assert result.exit_code == 0
    assert "global_minimum" in result.output and "F(2,4,1), tanh" in result.output


def test_a_table_with_scales(folder):
    result = run("critical-point", folder / "houses.npz", folder / "houses.csv", "--json", "-")
    report = json.loads(result.output)
    assert report["label"] == "global_minimum" and "convex" in report["reason"]
    kept = fg.Model.load(folder / "houses.npz").training
    assert report["loss"] == pytest.approx(kept["loss"])


def test_labels_and_polish(folder):
    out = folder / "report.json"
    result = run(
        "critical-point", folder / "kinds.npz", folder / "kinds.csv", "--polish", "--json", out
    )
    assert result.exit_code == 0, result.output
    report = json.loads(out.read_text())
    assert report["gradient_norm"] <= 1e-13 and "converged" in report["polished"]
    kept = fg.Model.load(folder / "kinds.npz").training
    assert report["loss"] == pytest.approx(kept["loss"], rel=1e-6)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["houses.npz"], "give DATA"),
        (["none.npz"], "no such file"),
        (["houses.npz", "wide.npy"], "5 columns, where the model takes 2 inputs and 1 target"),
        (["kinds.npz", "houses.csv"], "column 'kind' is missing"),
        (["xor.npz", "--method", "sparse"], "method 'sparse' is unknown"),
        (["xor.npz", "--grad-tol", "-1"], "grad_tol"),
    ],
)
def test_bad_input(folder, monkeypatch, arguments, message):
    monkeypatch.chdir(folder)
    result = run("critical-point", *arguments)
    assert result.exit_code == 2
    assert message in result.output
