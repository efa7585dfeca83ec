"""``fastggn train`` with samples held out: a share of DATA, or a file of their own."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import fastggn as fg
from fastggn.apps.cli import main


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        return CliRunner().invoke(main, ["train", *[str(a) for a in arguments]])

    return call


def refused(result, *words):
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.strip().splitlines()
    for word in words:
        assert word in line


def table(name, T, seed, header="a,b,y"):
    """Two inputs in large units and a noisy target."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(100.0, 300.0, (T, 2))
    y = np.sin(X[:, 0] / 30.0) + 0.3 * rng.standard_normal(T)
    rows = "\n".join(",".join(map(repr, map(float, row))) for row in np.c_[X, y])
    Path(name).write_text(f"{header}\n{rows}\n")
    return X, y[:, None]


def history(name="h.jsonl"):
    return [json.loads(line) for line in Path(name).read_text().splitlines()]


def scaled(columns, kept):
    return (columns - kept["mean"]) / kept["scale"]


def half_squares(net, theta, X, Y, kept):
    Y_hat = net.predict(theta, scaled(X, kept["scale_inputs"]))
    return 0.5 * ((Y_hat - scaled(Y, kept["scale_targets"])) ** 2).sum(axis=1).mean()


def test_a_file_of_its_own(run):
    """Scaled as DATA is; the model is that of its lowest loss."""
    table("data.csv", 40, 0)
    X, Y = table("other.csv", 30, 1)
    result = run(
        "data.csv", "--validation", "other.csv", "--patience", 6, "--history", "h.jsonl"
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "40 samples and 30 held out" in result.stderr
    assert "early_stopped" in result.stdout
    assert "rms error" in result.stdout and "on 30 held-out samples" in result.stdout
    net, theta, metadata = fg.load_model("model.npz")
    loss = half_squares(net, theta, X, Y, metadata["samples"])
    kept = metadata["training"]
    assert kept["status"] == "early_stopped"
    assert loss == pytest.approx(kept["validation_loss"], rel=1e-9)
    losses = [record["validation_loss"] for record in history()]
    assert min(losses) == kept["validation_loss"] == losses[kept["best_iter"] - 1]
    assert kept["n_iter"] == kept["best_iter"] + 6 == len(losses)
    assert metadata["samples"]["n_samples"] == 40
    assert metadata["samples"]["n_held_out"] == 30


def test_a_share_of_the_samples(run):
    X, Y = table("data.csv", 40, 0)
    assert run("data.csv", "--validation-fraction", 0.25, "--max-iter", 4).exit_code == 0
    net, theta, metadata = fg.load_model("model.npz")
    kept = metadata["samples"]
    assert (kept["n_samples"], kept["n_held_out"]) == (30, 10)
    # The scales are those of the samples that are trained on.
    assert not np.allclose(kept["scale_inputs"]["mean"], X.mean(axis=0), rtol=1e-6)
    from fastggn.apps.cli.held_out import hold_out
    from fastggn.apps.cli.samples import Samples

    split = hold_out(Samples("s", X, Y, 1, ("a", "b"), ("y",)), 0.25, 0)
    np.testing.assert_allclose(kept["scale_inputs"]["mean"], split.X.mean(axis=0), rtol=1e-12)
    every = np.vstack([split.X, split.held_out.X])
    np.testing.assert_array_equal(np.sort(every, axis=0), np.sort(X, axis=0))
    loss = half_squares(net, theta, split.held_out.X, split.held_out.Y, kept)
    # Without --patience the model is the last one, and its validation loss is not the lowest.
    assert loss >= metadata["training"]["validation_loss"]


def test_the_seed_chooses_the_share(run):
    table("data.csv", 40, 0)
    means = []
    for seed in (0, 0, 1):
        arguments = ["--validation-fraction", 0.5, "--max-iter", 0, "--seed", seed]
        assert run("data.csv", *arguments).exit_code == 0
        means.append(fg.load_model("model.npz")[2]["samples"]["scale_inputs"]["mean"])
    assert means[0] == means[1] != means[2]


def test_classes(run):
    """Labels of both files are those of DATA; accuracies are told of both."""
    X, Y = fg.data.four_regions(120, seed=0)
    for name, rows in (("data.csv", slice(0, 80)), ("other.csv", slice(80, 120))):
        np.savetxt(name, np.c_[X[rows], 3 * Y[rows]], delimiter=",")
    loss = ["--loss", "softmax_cross_entropy", "--hidden", 5, "--max-iter", 5]
    result = run("data.csv", "--validation", "other.csv", *loss)
    assert result.exit_code == 0, result.output
    assert "of 40 held-out samples" in result.stdout
    np.savetxt("unknown.csv", [[0.0, 0.0, 3.0], [0.0, 0.0, 4.0]], delimiter=",")
    refused(
        run("data.csv", "--validation", "unknown.csv", *loss),
        "--validation unknown.csv: target 4.0 of sample 1 is no class",
    )


@pytest.mark.parametrize("extra", [[], ["--one-hot"], ["--loss", "softmax_cross_entropy"]])
def test_built_in_samples(run, extra):
    result = run(
        "--validation-fraction", 0.2, "--samples", 50, "--hidden", 4, "--max-iter", 3, *extra
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "40 samples and 10 held out" in result.stderr
    assert "of 10 held-out samples" in result.stdout


def test_files_that_stay_where_they_are(run, monkeypatch):
    """Scaled as they are read, with the bits of those that are read at once."""
    for name, seed in (("data", 0), ("other", 1)):
        np.save(f"{name}.npy", np.hstack(table("t.csv", 50, seed)))
    arguments = ["data.npy", "--hidden", 4, "--max-iter", 4]
    files = [*arguments, "--validation", "other.npy", "--patience", 6]
    assert run(*files).exit_code == 0
    here = fg.load_model("model.npz")
    monkeypatch.setattr("fastggn.apps.cli.samples.MOST_OF_MEMORY", 0.0)
    assert run(*files).exit_code == 0
    there = fg.load_model("model.npz")
    assert here[2]["training"]["validation_loss"] == pytest.approx(
        there[2]["training"]["validation_loss"], rel=1e-9
    )
    refused(run(*arguments, "--validation-fraction", 0.2), "too large", "give --validation FILE")


def test_a_requeued_job_goes_on(run):
    table("data.csv", 40, 0)
    arguments = ["data.csv", "--validation-fraction", 0.3, "--patience", 8]
    assert run(*arguments, "--out", "whole.npz").exit_code == 0
    files = ["--checkpoint", "run.ckpt", "--resume"]
    assert run(*arguments, *files, "--max-iter", 3).exit_code == 0
    result = run(*arguments, *files)
    assert "early_stopped" in result.stdout
    whole, parts = fg.load_model("whole.npz"), fg.load_model("model.npz")
    np.testing.assert_array_equal(whole[1], parts[1])
    assert whole[2]["training"]["best_iter"] == parts[2]["training"]["best_iter"]


def test_options_of_a_config_file(run):
    Path("run.toml").write_text("validation-fraction = 0.2\npatience = 2\nmax_iter = 30\n")
    assert run("--config", "run.toml", "--samples", 50, "--hidden", 4).exit_code == 0
    assert fg.load_model("model.npz")[2]["samples"]["n_held_out"] == 10


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--validation", "good.csv"], ["--validation goes with DATA"]),
        (
            ["good.csv", "--validation", "good.csv", "--validation-fraction", "0.1"],
            ["--validation or --validation-fraction, not both"],
        ),
        (["good.csv", "--validation-fraction", "1.5"], ["above 0 and below 1, got 1.5"]),
        (["good.csv", "--validation-fraction", "nan"], ["above 0 and below 1"]),
        (["good.csv", "--validation-fraction", "0.001"], ["holds out 0 of 20 samples"]),
        (["good.csv", "--validation", "none.csv"], ["none.csv: there is no such file"]),
        (["good.csv", "--validation", "wide.csv"], ["the inputs a, b, c; DATA has a, b"]),
        (["good.csv", "--validation", "swapped.csv"], ["the inputs b, a; DATA has a, b"]),
        (["good.csv", "--validation", "nan.csv"], ["line 2, column 1 ('a') is nan"]),
        (
            ["good.csv", "--patience", "3"],
            ["--patience goes with validation", "--validation-fraction"],
        ),
        (["good.csv", "--validation-tol", "0.1"], ["validation_tol goes with validation"]),
        (["good.csv", "--validation", "good.csv", "--patience", "0"], ["--patience"]),
    ],
    ids=lambda value: " ".join(value) if value[0].startswith("-") or len(value) > 1 else "",
)
def test_bad_input(run, arguments, words):
    table("good.csv", 20, 0)
    table("swapped.csv", 20, 0, header="b,a,y")
    Path("wide.csv").write_text("a,b,c,y\n1,2,3,4\n")
    Path("nan.csv").write_text("a,b,y\nnan,1,2\n")
    refused(run(*arguments), *words)
    assert not Path("model.npz").exists()
