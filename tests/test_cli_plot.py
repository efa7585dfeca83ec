"""``fastggn plot``: each kind of picture, from the model file alone or with its data."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import fastggn as fg
from fastggn.apps.cli import history, main
from fastggn.model.history import kept_history


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two models: of the built-in samples, and of a table."""
    path = tmp_path_factory.mktemp("plot")
    rng = np.random.default_rng(0)
    X = rng.uniform(size=(40, 2)) * [100.0, 1.0]
    table = np.column_stack([X, 5.0 * X[:, 0] - 200.0 * X[:, 1] + rng.normal(size=40)])
    head = "area (m2),age,price ($)"
    np.savetxt(path / "houses.csv", table, delimiter=",", header=head, comments="")
    for arguments in (
        ("--samples", "40", "--out", "four.npz"),
        ("houses.csv", "--out", "houses.npz", "--history", "h.jsonl", "--starts", "2"),
    ):
        files = [str(path / a) if "." in a else a for a in arguments]
        result = CliRunner().invoke(
            main, ["train", "--hidden", "4", "--max-iter", "6", "-q", *files]
        )
        assert result.exit_code == 0, result.output
    return path


@pytest.fixture
def figure(folder, monkeypatch):
    """Run the command; return the figure that it saved, and the result."""

    def call(*arguments):
        monkeypatch.chdir(folder)
        saved = []

        def save(drawn, path):
            drawn.draw_without_rendering()
            saved.append((drawn, path))

        with monkeypatch.context() as patch:
            patch.setattr("fastggn.figures.style.save", save)
            result = CliRunner().invoke(main, ["plot", *map(str, arguments)])
        assert result.exit_code == 0, result.output
        ((drawn, path),) = saved
        assert path == arguments[-1]
        return drawn

    return call


def axis(ax):
    return ax.get_xlabel(), ax.get_ylabel()


def curve(ax, label):
    (found,) = [entry for entry in ax.get_lines() if entry.get_label() == label]
    return np.asarray(found.get_xdata(), float), np.asarray(found.get_ydata(), float)


def test_curve_of_what_the_model_keeps(figure, folder):
    drawn = figure("four.npz", "--kind", "curve", "--out", "a.png")
    model = fg.Model.load(folder / "four.npz")
    training = model.training
    x, y = curve(drawn.axes[0], "training")
    assert list(x) == list(range(7)) and y[0] == training["initial_loss"]
    assert y[-1] == training["loss"] and len(drawn.axes) == 4
    assert model.history["loss"] == list(y[1:])


def test_curve_of_a_history_file(figure, folder):
    drawn = figure("houses.npz", "--kind", "curve", "--history", "h.jsonl", "--out", "a.png")
    records = [json.loads(text) for text in (folder / "h.jsonl").read_text().splitlines()]
    for seed in (0, 1):
        _, y = curve(drawn.axes[0], f"seed {seed}")
        assert list(y) == [r["loss"] for r in records if r["seed"] == seed]


def test_residuals_are_in_the_units_of_the_file(figure, folder):
    drawn = figure("houses.npz", "houses.csv", "--kind", "residuals", "-o", "a.png")
    assert axis(drawn.axes[0]) == (r"price (\$)", "prediction")
    table = np.loadtxt(folder / "houses.csv", delimiter=",", skiprows=1)
    dots = drawn.axes[0].get_lines()[1]
    np.testing.assert_allclose(dots.get_xdata(), table[:, 2], rtol=1e-12)
    predicted = fg.Model.load(folder / "houses.npz").predict(folder / "houses.csv")
    np.testing.assert_allclose(dots.get_ydata(), predicted, rtol=1e-10)


def test_output_over_the_inputs_of_the_file(figure, folder):
    drawn = figure("houses.npz", "houses.csv", "--kind", "regions", "-o", "a.png")
    assert axis(drawn.axes[0]) == ("area (m2)", "age")
    assert drawn.axes[1].get_ylabel() == r"price (\$)"
    table = np.loadtxt(folder / "houses.csv", delimiter=",", skiprows=1)
    samples = drawn.axes[0].get_lines()[0]
    np.testing.assert_allclose(samples.get_data(), table[:, :2].T, rtol=1e-12)


def test_regions_and_confusion_of_four_regions(figure):
    drawn = figure("four.npz", "--kind", "regions", "--out", "a.png")
    assert axis(drawn.axes[0]) == ("x0", "x1")
    radius = np.hypot(*curve(drawn.axes[0], "true boundary"))
    np.testing.assert_allclose(radius, 1.0)
    drawn = figure("four.npz", "--kind", "residuals", "--out", "a.png")
    assert axis(drawn.axes[0])[0] == "class given by the network"
    assert sum(int(text.get_text()) for text in drawn.axes[0].texts) == 40


def test_held_out_samples_are_not_those_of_the_training(folder, monkeypatch):
    from fastggn.apps.cli.models import model_parts, model_problem

    monkeypatch.chdir(folder)
    arguments = ["--hidden", "4", "--max-iter", "6", "-q", "--out", "held.npz", "--seed", "5"]
    fraction = ["--samples", "40", "--held-out", "0.25"]
    assert CliRunner().invoke(main, ["train", *arguments, *fraction]).exit_code == 0
    model = fg.Model.load("held.npz")
    parts = model_parts(model, None)
    sizes = {name: part.n_samples for name, part in parts.items()}
    assert sizes == {"training": 30, "held-out": 10}
    loss = parts["held-out"].loss(model.theta)
    assert loss == pytest.approx(model.training["validation_loss"], rel=1e-12)
    problem = model_problem(model, None)
    assert problem.loss(model.theta) == pytest.approx(model.training["loss"], rel=1e-12)


def test_spectrum(figure, folder):
    drawn = figure("four.npz", "--kind", "spectrum", "--out", "a.png")
    model = fg.Model.load(folder / "four.npz")
    values = model.problem(fg.data.four_regions(40)).jacobian(model.theta).singular_values()
    np.testing.assert_allclose(drawn.axes[0].get_lines()[0].get_ydata(), values)


def test_lines_and_planes(figure, folder):
    model = fg.Model.load(folder / "four.npz")
    problem, theta = model.problem(fg.data.four_regions(40)), model.theta
    options = ("--extent", 0.5, "--points", 7, "--seed", 3)
    drawn = figure("four.npz", "--kind", "line", *options, "--out", "a.png")
    expected = fg.analysis.loss_along(problem, theta, extent=0.5, points=7, seed=3)
    np.testing.assert_allclose(curve(drawn.axes[0], "loss")[1], expected.losses)
    drawn = figure("four.npz", "--kind", "plane", *options, "--direction", "lowest,highest",
                   "--out", "a.png")  # fmt: skip
    assert "lowest eigenvector" in axis(drawn.axes[0])[0]
    assert "highest eigenvector" in axis(drawn.axes[0])[1]


def test_weights_from_elsewhere(figure, folder):
    net = fg.MLP((2, 4, 1))
    theta = net.init(seed=0)
    arrays = {}
    for number, W in enumerate(net.unpack(theta), start=1):
        arrays |= {f"W_{number}": W[:, :-1], f"b_{number}": W[:, -1]}
    np.savez(folder / "plain.npz", **arrays)
    X, Y = fg.data.four_regions(40)
    np.savez(folder / "regions_data.npz", X=X, Y=Y)
    drawn = figure("plain.npz", "regions_data.npz", "--activation", "tanh", "--kind", "residuals",
                   "--out", "a.png")  # fmt: skip
    dots = drawn.axes[0].get_lines()[1]
    np.testing.assert_allclose(dots.get_ydata(), net.predict(theta, X)[:, 0], rtol=1e-12)


def test_a_picture_is_written(folder, monkeypatch):
    monkeypatch.chdir(folder)
    for name, head in (("x.png", b"\x89PNG"), ("x.pdf", b"%PDF")):
        result = CliRunner().invoke(main, ["plot", "four.npz", "--kind", "curve", "-o", name])
        assert result.exit_code == 0 and Path(name).read_bytes().startswith(head)
        assert result.stdout == f"{name}: curve\n"


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["none.npz", "--kind", "curve"], "no such file"),
        (["four.npz", "--kind", "curv"], "'curv'; did you mean 'curve'"),
        (["four.npz"], "--kind"),
        (["houses.npz", "--kind", "residuals"], "give DATA"),
        (["four.npz", "--kind", "eigenvalues"], "not stand at a critical point"),
        (["four.npz", "--kind", "line", "--direction", "up"], "'up' is unknown"),
        (["four.npz", "--kind", "line", "--direction", "lowest,highest"], "one name"),
        (["four.npz", "--kind", "plane", "--direction", "a,b,c"], "one or two names"),
        (["four.npz", "--kind", "line", "--extent", "-1"], "extent must be positive"),
        (["four.npz", "--kind", "curve", "--history", "houses.csv"], "line 1 is no record"),
        (["bare.npz", "--kind", "curve"], "keeps no history"),
        (["wide.npz", "wide.npy", "--kind", "regions"], "has 3 inputs"),
        (["four.npz", "--kind", "line", "--history", "h.jsonl"], "goes with --kind curve"),
        (["four.npz", "--kind", "spectrum", "--points", 9], "--kind line or plane, not with spec"),
    ],
)
def test_bad_input(folder, monkeypatch, arguments, words):
    monkeypatch.chdir(folder)
    net = fg.MLP((2, 3, 1))
    fg.Model.of(net, net.init(seed=0)).save("bare.npz")
    wide = fg.MLP((3, 1))
    fg.Model.of(wide, wide.init(seed=0)).save("wide.npz")
    np.save("wide.npy", np.random.default_rng(0).normal(size=(5, 4)))
    result = CliRunner().invoke(main, ["plot", *map(str, arguments), "--out", "never.png"])
    assert result.exit_code == 2 and words in result.stderr, result.output
    assert len(result.stderr.strip().splitlines()) == 1
    assert not Path("never.png").exists()


def test_the_cost_of_eigenvalues_is_told(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr("fastggn.apps.cli.critical_point.seconds_of_call", lambda call: 1e5)
    arguments = ["four.npz", "--kind", "eigenvalues", "--out", "never.png"]
    result = CliRunner().invoke(main, ["plot", *arguments])
    assert result.exit_code == 2 and "all eigenvalues of 17 parameters" in result.stderr
    assert "take fewer samples, or set a limit by --max-time" in result.stderr


@pytest.mark.parametrize(
    "name, words", [("a.docx", "no picture is written as .docx"), ("no/a.png", "does not exist")]
)
def test_bad_pictures_are_refused_before_the_work(folder, monkeypatch, name, words):
    monkeypatch.chdir(folder)
    monkeypatch.setattr("fastggn.apps.cli.plot.read_model", lambda *a, **k: pytest.fail("too late"))
    result = CliRunner().invoke(main, ["plot", "four.npz", "--kind", "curve", "-o", name])
    assert result.exit_code == 2 and words in result.stderr


def test_a_long_history_is_thinned():
    problem = fg.Problem(fg.MLP((1, 1)), np.ones((2, 1)), np.ones((2, 1)))
    records = fg.train(
        problem, method=fg.GradientDescent(rate=1e-6), max_iter=1203, stop=fg.Stop(step=0.0)
    ).history
    kept = kept_history(records)
    assert len(kept["loss"]) == 500
    assert kept["iteration"][0] == 1 and kept["iteration"][-1] == 1203
    assert {b - a for a, b in zip(kept["iteration"], kept["iteration"][1:], strict=False)} <= {2, 3}
    assert "damping" not in kept and "validation_loss" not in kept
    assert kept_history([]) == {} and len(kept_history(records[:1])["loss"]) == 1


def test_a_torn_last_line_of_a_history(tmp_path):
    path = tmp_path / "h.jsonl"
    path.write_text('{"seed": 0, "iteration": 1, "loss": 2.0}\n{"seed": 0, "iter')
    assert history.read_history(str(path)) == {0: [{"seed": 0, "iteration": 1, "loss": 2.0}]}
    path.write_text("")
    with pytest.raises(ValueError, match="the history is empty"):
        history.read_history(str(path))


def test_a_model_file_shows_its_parts_by_the_names_of_the_columns(figure, folder):
    """The table of the training is split as then, and its columns may stand in another order."""
    rng = np.random.default_rng(1)
    size, age = rng.uniform(30, 200, 90), rng.uniform(0, 50, 90)
    table = np.column_stack([age, 1e3 * size, size])
    np.savetxt(folder / "b.csv", table, delimiter=",", header="age,price,size", comments="")
    model, result = fg.fit(
        folder / "b.csv", target="price", hidden=(3,), seed=0, test=0.2, max_iter=5
    )
    model.save(folder / "fitted.npz")
    drawn = figure("fitted.npz", "b.csv", "--kind", "residuals", "--out", "a.png")
    for ax, (name, part) in zip(drawn.axes, model.parts(folder / "b.csv").items(), strict=False):
        assert ax.get_title().startswith(f"{name}: {part.n_rows} rows")
        np.testing.assert_allclose(ax.get_lines()[1].get_ydata(), model.predict(part), rtol=1e-9)
    drawn = figure("fitted.npz", "--kind", "curve", "--out", "a.png")
    mark = f"lowest held-out loss (iteration {result.best_iter})"
    assert set(curve(drawn.axes[0], mark)[0]) == {result.best_iter}
    x, y = curve(drawn.axes[0], "held-out")
    assert x[0] == 0 and y[0] == result.initial_validation_loss
    drawn = figure("fitted.npz", "b.csv", "--kind", "line", "--points", 3, "--out", "a.png")
    assert curve(drawn.axes[0], "loss")[1][1] == pytest.approx(result.loss, rel=1e-12)
    other = np.column_stack([size, age, 1e3 * size])[:60]
    np.savetxt(folder / "c.csv", other, delimiter=",", header="size,age,price", comments="")
    drawn = figure("fitted.npz", "c.csv", "--kind", "residuals", "--out", "a.png")
    assert drawn.axes[0].get_title().startswith("data: 60 rows")
    np.testing.assert_allclose(drawn.axes[0].get_lines()[1].get_xdata(), other[:, 2])
