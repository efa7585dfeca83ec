"""``fastggn train``: held-out rows, test rows, and weights to go on from."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import fastggn as fg
from fastggn.apps.cli import main
from fastggn.apps.cli.tables import stays
from fastggn.data.split import Split


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


def half_squares(model, X, Y):
    scale = model.target_scaler
    F = model.network.predict(model.theta, model.input_scaler.apply(X))
    return 0.5 * ((F - scale.apply(Y)) ** 2).sum(axis=1).mean()


def model_of(path="model.npz"):
    return fg.Model.load(path)


def test_a_share_of_data_is_held_out_by_default(run):
    """With a patience of 20; the scales are those of the rows that are trained on."""
    X, Y = table("data.csv", 80, 0)
    result = run("data.csv", "--max-iter", 200, "--history", "h.jsonl")
    assert result.exit_code == 0, result.output
    assert "12 of 80 rows are held out" in result.stderr and "held-out loss" in result.stdout
    model = model_of()
    kept = model.training
    assert kept["status"] == "early_stopped" and kept["n_iter"] == kept["best_iter"] + 20
    assert model.split == Split(0.15, 0.0, 0)
    training, held_out, _ = model.split.rows(80)
    np.testing.assert_allclose(model.input_scaler.mean, X[training].mean(axis=0), rtol=1e-12)
    loss = half_squares(model, X[held_out], Y[held_out])
    assert loss == pytest.approx(kept["validation_loss"], rel=1e-9)
    losses = [record["validation_loss"] for record in history()]
    assert min(losses) == kept["validation_loss"] == losses[kept["best_iter"] - 1]
    parts = model.parts("data.csv")
    assert {name: part.n_rows for name, part in parts.items()} == {"training": 68, "held-out": 12}


@pytest.mark.parametrize(
    "arguments",
    [["--no-held-out"], ["--held-out", "0"], ["--regularization", "bayesian"]],
    ids=" ".join,
)
def test_nothing_is_held_out(run, arguments):
    table("data.csv", 80, 0)
    result = run("data.csv", "--hidden", 5, "--max-iter", 3, *arguments)
    assert result.exit_code == 0, result.output
    assert "nothing is held out; 21 parameters face 80 equations" in result.stderr
    assert model_of().split is None and "held-out" not in result.stdout


def test_small_tables_hold_nothing_out(run):
    table("data.csv", 49, 0)
    result = run("data.csv", "--hidden", "20,20", "--max-iter", 2)
    assert "nothing is held out; 501 parameters face 49 equations" in result.stderr


def test_a_file_of_its_own(run):
    """Scaled as DATA is; the model is that of its lowest loss."""
    table("data.csv", 60, 0)
    X, Y = table("other.csv", 30, 1)
    result = run("data.csv", "--held-out-file", "other.csv", "--patience", 6)
    assert result.exit_code == 0, result.output
    assert "30 of 90 rows are held out" in result.stderr
    assert "of 30 held-out samples" in result.stdout
    model = model_of()
    kept = model.training
    assert kept["status"] == "early_stopped" and kept["n_iter"] == kept["best_iter"] + 6
    loss = half_squares(model, X, Y)
    assert loss == pytest.approx(kept["validation_loss"], rel=1e-9)
    assert kept["n_training"] == 60 and model.split is None


def test_a_column_chooses(run):
    X, _ = table("data.csv", 60, 0)
    late = (np.arange(60) % 3 == 0).astype(int)
    lines = Path("data.csv").read_text().splitlines()
    rows = [f"{line},{k}" for line, k in zip(lines, ["late", *late], strict=True)]
    Path("data.csv").write_text("\n".join(rows) + "\n")
    result = run("data.csv", "--target", "y", "--held-out", "late", "--max-iter", 3)
    assert result.exit_code == 0, result.output
    model = model_of()
    assert model.recipe.input_names == ("a", "b")
    np.testing.assert_array_equal(model.split.rows(60)[1], np.flatnonzero(late))
    np.testing.assert_allclose(model.input_scaler.mean, X[late == 0].mean(axis=0), rtol=1e-12)


def test_the_seed_chooses_the_share(run):
    table("data.csv", 60, 0)
    means = []
    for seed in (0, 0, 1):
        assert run("data.csv", "--max-iter", 0, "--seed", seed).exit_code == 0
        means.append(model_of().input_scaler.mean.tolist())
    assert means[0] == means[1] != means[2]


def test_test_rows_are_seen_at_the_end_only(run):
    X, Y = table("data.csv", 80, 0)
    few = ["--hidden", 4, "--max-iter", 4]
    result = run("data.csv", *few, "--test-fraction", 0.25)
    assert result.exit_code == 0, result.output
    assert "20 rows are kept for the test" in result.stderr
    model = model_of()
    training, held_out, test = model.split.rows(80)
    assert (training.size, held_out.size, test.size) == (48, 12, 20)
    rms = np.sqrt(np.mean((model.predict(X[test]) - Y[test, 0]) ** 2))
    assert model.training["test"]["targets"][0]["rms"] == pytest.approx(rms, rel=1e-12)
    assert "test rows: 20 rows" in result.stdout
    # The same run on the other rows alone is the same run.
    rest = np.sort(np.concatenate([training, held_out]))
    lines = Path("data.csv").read_text().splitlines()
    Path("rest.csv").write_text("\n".join([lines[0], *(lines[1 + k] for k in training)]) + "\n")
    Path("held.csv").write_text("\n".join([lines[0], *(lines[1 + k] for k in held_out)]) + "\n")
    Path("test.csv").write_text("\n".join([lines[0], *(lines[1 + k] for k in test)]) + "\n")
    files = ["--held-out-file", "held.csv", "--test", "test.csv"]
    assert run("rest.csv", *few, *files, "--out", "files.npz").exit_code == 0
    np.testing.assert_array_equal(model_of("files.npz").theta, model.theta)
    assert model_of("files.npz").training["test"] == model.training["test"]
    assert rest.size == 60


def test_classes_give_equal_shares(run):
    """Labels of all files are those of DATA."""
    X, Y = fg.data.four_regions(160, seed=0)
    for name, rows in (("data.csv", slice(0, 120)), ("other.csv", slice(120, 160))):
        np.savetxt(name, np.c_[X[rows], 3 * Y[rows]], delimiter=",")
    loss = ["--loss", "softmax_cross_entropy", "--hidden", 5, "--max-iter", 5]
    result = run("data.csv", "--test", "other.csv", *loss)
    assert result.exit_code == 0, result.output
    model = model_of()
    labels = Y[:120, 0]
    held_out = labels[model.split.rows(120, labels)[1]]
    for label in np.unique(labels):
        share = (held_out == label).sum() / (labels == label).sum()
        assert abs(share - 0.15) < 1.0 / (labels == label).sum()
    assert "precision" in result.stdout and "test rows: 40 rows, accuracy" in result.stdout
    np.savetxt("unknown.csv", [[0.0, 0.0, 3.0], [0.0, 0.0, 4.0]], delimiter=",")
    refused(run("data.csv", "--test", "unknown.csv", *loss), "unknown level", "'4'")


@pytest.mark.parametrize("extra", [[], ["--one-hot"], ["--loss", "softmax_cross_entropy"]])
def test_built_in_samples(run, extra):
    result = run("--held-out", 0.2, "--samples", 50, "--hidden", 4, "--max-iter", 3, *extra)
    assert result.exit_code == 0, result.output
    assert "of 50 rows are held out" in result.stderr
    assert "held-out samples" in result.stdout


def test_files_that_stay_where_they_are(run, monkeypatch):
    """The split is the same, and so are the numbers."""
    np.save("data.npy", np.hstack(table("t.csv", 90, 0)))
    np.save("other.npy", np.hstack(table("t.csv", 40, 1)))
    arguments = ["data.npy", "--hidden", 4, "--max-iter", 4, "--test-fraction", 0.2]
    files = ["data.npy", "--hidden", 4, "--max-iter", 4, "--held-out-file", "other.npy"]
    found = []
    for limit in (0.25, 0.0):
        monkeypatch.setattr("fastggn.apps.cli.tables.MOST_OF_MEMORY", limit)
        for options in (arguments, files):
            result = run(*options)
            assert result.exit_code == 0, result.output
            found.append(model_of())
    for here, there in zip(found[:2], found[2:], strict=True):
        assert here.split == there.split and here.digest == there.digest
        losses = [model.training["validation_loss"] for model in (here, there)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-9)
        np.testing.assert_allclose(here.theta, there.theta, rtol=1e-6, atol=1e-9)
    rms = [model.training["test"]["targets"][0]["rms"] for model in (found[0], found[2])]
    assert rms[0] == pytest.approx(rms[1], rel=1e-6)
    refused(run("data.npy", "--held-out", "late"), "stays in its file", "give a share")
    refused(run("data.npy", "--missing", "drop"), "--missing needs the table in memory")


@pytest.mark.parametrize("kind", ["npy", "h5", "damaged"])
def test_numbers_of_a_file_count_as_float64(tmp_path, monkeypatch, kind):
    """They may have 4 bytes in the file, or be compressed: memory takes more than the disk."""
    rows = np.zeros((500, 4), dtype=np.float32)
    path, needed = tmp_path / f"rows.{'h5' if kind == 'h5' else 'npy'}", 8 * rows.size
    np.save(path.with_suffix(".npy"), rows)
    if kind == "h5":
        h5py = pytest.importorskip("h5py", reason="the extra io is absent")
        with h5py.File(path, "w") as archive:
            for name, part in (("X", rows[:, :3]), ("Y", rows[:, 3:])):
                archive.create_dataset(name, data=part, compression="gzip")
    elif kind == "damaged":  # its size; the reader of the table names the fault
        path.write_bytes(bytes(needed))
    for free, expected in ((4 * needed - 8, True), (4 * needed, False)):
        monkeypatch.setattr("fastggn.apps.cli.tables.available_memory", lambda free=free: free)
        assert stays(str(path)) is expected


def test_a_requeued_job_goes_on(run):
    table("data.csv", 60, 0)
    arguments = ["data.csv", "--held-out", 0.3, "--patience", 8]
    assert run(*arguments, "--out", "whole.npz").exit_code == 0
    files = ["--checkpoint", "run.ckpt", "--resume"]
    assert run(*arguments, *files, "--max-iter", 3).exit_code == 0
    result = run(*arguments, *files)
    assert "early_stopped" in result.stdout
    whole, parts = model_of("whole.npz"), model_of()
    np.testing.assert_array_equal(whole.theta, parts.theta)
    assert whole.training["best_iter"] == parts.training["best_iter"]


def test_options_of_a_config_file(run):
    Path("run.toml").write_text("held-out = 0.2\npatience = 2\nmax_iter = 30\n")
    assert run("--config", "run.toml", "--samples", 50, "--hidden", 4).exit_code == 0
    assert model_of().split.held_out == 0.2 and model_of().training["n_training"] == 40


# --- going on from weights ----------------------------------------------------------------------


def test_training_goes_on_from_a_model(run):
    table("data.csv", 80, 0)
    first = ["data.csv", "--hidden", 4, "--held-out", 0.25, "--seed", 3]
    assert run(*first, "--max-iter", 0, "--out", "a.npz").exit_code == 0
    result = run("data.csv", "--from", "a.npz", "--max-iter", 5, "--out", "b.npz")
    assert result.exit_code == 0, result.output
    assert "the weights are those of a.npz" in result.stderr
    a, b = model_of("a.npz"), model_of("b.npz")
    assert b.training["initial_loss"] == pytest.approx(a.training["loss"], rel=1e-12)
    assert b.training["loss"] < a.training["loss"]
    assert b.split == a.split and b.recipe == a.recipe and b.network.widths == (2, 4, 1)
    table("wrong.csv", 60, 0, header="a,c,y")
    refused(run("wrong.csv", "--from", "a.npz"), "column 'b' is missing")
    refused(run("data.csv", "--from", "a.npz", "--hidden", 5), "--hidden does not go with --from")
    refused(run("data.csv", "--from", "a.npz", "--target", "b"), "--target does not go with --from")
    refused(run("data.csv", "--from", "a.npz", "--out", "a.npz"), "a.npz")


def test_training_goes_on_with_built_in_samples(run):
    first = ["--samples", 40, "--hidden", 4, "--seed", 5]
    assert run(*first, "--max-iter", 2, "--out", "a.npz").exit_code == 0
    for before, after, seed in (("a", "b", 0), ("b", "c", 7)):  # the samples stay those of seed 5
        arguments = ["--max-iter", 3, "--seed", seed, "--out", f"{after}.npz"]
        assert run("--from", f"{before}.npz", *arguments).exit_code == 0
        old, new = (model_of(f"{name}.npz").training for name in (before, after))
        assert new["initial_loss"] == old["loss"] and new["source"] == "four_regions"
    words = "does not go with --from c.npz, which has its own"
    refused(run("--from", "c.npz", "--samples", 50), f"--samples {words}")


def test_training_goes_on_from_torch(run):
    torch = pytest.importorskip("torch", reason="torch is absent: the extra torch")
    X, Y = table("data.csv", 60, 0)
    nn = torch.nn
    module = nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    torch.save(module.state_dict(), "m.pt")
    result = run("data.csv", "--from", "m.pt", "--activation", "tanh", "--no-held-out",
                 "--max-iter", 3)  # fmt: skip
    assert result.exit_code == 0, result.output
    with torch.no_grad():
        loss = 0.5 * float(((module(torch.from_numpy(X)) - torch.from_numpy(Y)) ** 2).mean())
    model = model_of()
    assert model.training["initial_loss"] == pytest.approx(loss, rel=1e-12)
    assert model.training["loss"] < loss and model.recipe.input_names == ("a", "b")
    refused(run("data.csv", "--from", "m.pt"), "--activation")
    refused(run("data.csv", "--from", "m.pt", "--activation", "tanh", "--target", "a,b"), "takes 2")


@pytest.mark.parametrize(("outputs", "loss"), [(3, "softmax_cross_entropy"), (1, "logistic")])
def test_training_goes_on_from_weights_of_a_classifier(run, outputs, loss):
    net = fg.MLP((2, 3, outputs))
    fg.Model.of(net, net.init(seed=0)).export("w.npz")
    rng = np.random.default_rng(0)
    X = rng.random((60, 2))
    kinds = np.array(["a", "b", "c"])[rng.integers(0, max(2, outputs), 60)]
    rows = [f"{x},{y},{kind}" for (x, y), kind in zip(X, kinds, strict=True)]
    Path("kinds.csv").write_text("\n".join(["x,y,kind", *rows]))
    result = run("kinds.csv", "--from", "w.npz", "--max-iter", 2)
    assert result.exit_code == 0, result.output
    model = model_of()
    assert model.loss.name == loss and list(model.classes) == sorted(set(kinds))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--held-out-file", "good.csv"], ["--held-out-file goes with DATA"]),
        (
            ["good.csv", "--held-out-file", "good.csv", "--held-out", "0.1"],
            ["give one of --held-out and --held-out-file"],
        ),
        (["good.csv", "--no-held-out", "--held-out", "0.1"], ["--held-out and --no-held-out"]),
        (["good.csv", "--test", "good.csv", "--test-fraction", "0.1"], ["fraction, not both"]),
        (["good.csv", "--held-out", "1.5"], ["below 1, got 1.5"]),
        (["good.csv", "--held-out", "nan"], ["below 1"]),
        (["good.csv", "--held-out", "0.6", "--test-fraction", "0.6"], ["leave no row"]),
        (["good.csv", "--held-out", "c"], ["there is no column 'c'"]),
        (["good.csv", "--held-out-file", "none.csv"], ["none.csv: there is no such file"]),
        (["good.csv", "--held-out-file", "wide.csv"], ["column 'b' is missing"]),
        (["good.csv", "--held-out-file", "nan.csv"], ["column 'a' (number): 1 missing value"]),
        (["good.csv", "--patience", "3"], ["--patience goes with held-out rows", "--held-out"]),
        (["good.csv", "--held-out-tol", "0.1"], ["--held-out-tol goes with held-out rows"]),
        (["good.csv", "--held-out", "0.2", "--patience", "0"], ["--patience"]),
        (["good.csv", "--posterior", "--hidden", "80,80"], ["--posterior is kept for up to 5000"]),
        (["good.csv", "--from", "none.npz"], ["none.npz"]),
    ],
    ids=lambda value: " ".join(value) if value[0].startswith("-") or len(value) > 1 else "",
)
def test_bad_input(run, arguments, words):
    table("good.csv", 20, 0)
    Path("wide.csv").write_text("a,c,y\n1,2,3\n2,3,4\n")
    Path("nan.csv").write_text("a,b,y\nnan,1,2\n1,1,2\n")
    refused(run(*arguments), *words)
    assert not Path("model.npz").exists()
