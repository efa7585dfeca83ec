"""Curves, residuals, classes, regions, lines, planes: what is drawn is what is given."""

import numpy as np
import pytest

import fastggn as fg
from fastggn import analysis
from fastggn.figures.curves import compare_curves, plot_curves
from fastggn.figures.decisions import plot_decisions, plot_output
from fastggn.figures.residuals import confusion_matrix, plot_confusion, plot_residuals
from fastggn.figures.style import plain, save


@pytest.fixture(scope="module")
def result():
    X, Y = fg.data.four_regions(40)
    return fg.train(fg.Problem(fg.MLP((2, 4, 1)), X, Y), seed=0, max_iter=12)


def line(ax, label):
    (found,) = [entry for entry in ax.get_lines() if entry.get_label() == label]
    return np.asarray(found.get_xdata(), float), np.asarray(found.get_ydata(), float)


def labels(figure):
    return [(ax.get_xlabel(), ax.get_ylabel()) for ax in figure.axes]


def drawn(figure):
    """Lay it out: mistakes in texts and scales show only then."""
    figure.draw_without_rendering()
    return figure


# --- training curves ----------------------------------------------------------------------------


def test_curves_hold_the_history(result):
    figure = drawn(result.plot())
    assert [y for _, y in labels(figure)] == [
        "loss", "norm of the gradient", "damping", "gain ratio"
    ]  # fmt: skip
    assert {x for x, _ in labels(figure)} == {"iteration"}
    x, y = line(figure.axes[0], "training")
    assert list(x) == list(range(13))
    assert list(y) == [result.initial_loss] + [r.loss for r in result.history]
    for ax, name in zip(figure.axes[1:3], ("gradient_norm", "damping"), strict=True):
        (curve,) = ax.get_lines()
        assert list(curve.get_ydata()) == [r[name] for r in result.history]
        assert ax.get_yscale() == "log"
    gains = np.array([r.gain_ratio for r in result.history])
    dots = figure.axes[3].get_lines()[0]
    inside = (gains >= -1) & (gains <= 2)
    assert list(dots.get_ydata()) == list(gains[inside])


def test_curves_of_a_method_without_damping():
    X, Y = fg.data.xor()
    result = fg.train(
        fg.Problem(fg.MLP((2, 3, 1)), X, Y), method=fg.GradientDescent(rate=0.1), max_iter=5
    )
    assert [y for _, y in labels(drawn(result.plot()))] == ["loss", "norm of the gradient"]


def test_validation_rejections_and_far_gains(result):
    records = [{**r.to_dict(), "validation_loss": 2.0 * r.loss} for r in result.history]
    records[4].update(accepted=False, gain_ratio=-7.0)
    records[5]["gain_ratio"] = 9.0
    records[0]["validation_loss"] = None
    figure = drawn(plot_curves(records))
    _, y = line(figure.axes[0], "validation")
    assert np.isnan(y[0]) and list(y[1:]) == [2.0 * r.loss for r in result.history[1:]]
    x, y = line(figure.axes[0], "no step accepted")
    assert list(x) == [5.0] and list(y) == [records[4]["loss"]]
    edges = {
        (entry.get_marker(), *entry.get_xdata(), *entry.get_ydata())
        for entry in figure.axes[3].get_lines() if len(entry.get_xdata()) == 1
    }  # fmt: skip
    assert {("v", 5.0, -1.0), ("^", 6.0, 2.0)} <= edges


def test_curves_of_columns_and_of_frames(result):
    columns = {"loss": [r.loss for r in result.history], "iteration": list(range(1, 13))}
    _, expected = line(plot_curves(result.history).axes[0], "training")
    _, found = line(plot_curves(columns).axes[0], "training")
    assert list(found) == list(expected)

    pandas = pytest.importorskip("pandas", reason="the extra sklearn brings pandas")
    frame = result.history.to_frame()
    assert frame.index.name == "iteration"
    for given in (frame, pandas.DataFrame(columns)):
        x, found = line(plot_curves(given).axes[0], "training")
        assert list(x) == columns["iteration"] and list(found) == list(expected)


def test_curves_of_restarts():
    X, Y = fg.data.xor()
    runs = fg.train_restarts(fg.Problem(fg.MLP((2, 3, 1)), X, Y), 2, seed=4, max_iter=4)
    ax = drawn(runs.plot()).axes[0]
    for seed in (4, 5):
        assert list(line(ax, f"seed {seed}")[1]) == [r.loss for r in runs.results[seed].history]


def test_the_lowest_validation_loss_is_marked():
    X, Y = fg.data.four_regions(60)
    net = fg.MLP((2, 6, 1))
    held_out = (X[40:], Y[40:])
    problem = fg.Problem(net, X[:40], Y[:40])
    result = fg.train(problem, seed=0, max_iter=10, held_out=fg.HeldOut(*held_out, patience=None))
    figure = drawn(result.plot())
    assert set(line(figure.axes[0], "lowest validation")[0]) == {result.best_iter}
    _, y = line(figure.axes[0], "validation")
    assert list(y) == [r.validation_loss for r in result.history]


def test_a_loss_of_zero_stands_at_the_foot():
    figure = drawn(plot_curves({"loss": [1.0, 0.1, 0.0]}))
    _, y = line(figure.axes[0], "training")
    assert list(y) == pytest.approx([1.0, 0.1, 0.01])
    assert any("foot" in text.get_text() for text in figure.axes[0].texts)


def test_a_negative_loss_is_linear():
    assert drawn(plot_curves({"loss": [1.0, -0.1]})).axes[0].get_yscale() == "linear"


def test_several_runs(result):
    other = [{**r.to_dict(), "loss": 3.0 * r.loss} for r in result.history]
    figure = drawn(compare_curves({"a": result.history, "b": other}))
    for label, factor in (("a", 1.0), ("b", 3.0)):
        _, y = line(figure.axes[0], label)
        assert list(y) == [factor * r.loss for r in result.history]
    styles = {(c.get_linestyle(), c.get_marker()) for c in figure.axes[0].get_lines()}
    assert len(styles) == 2  # told apart without colour


def test_nothing_to_draw():
    with pytest.raises(ValueError, match="history is empty"):
        plot_curves([])
    with pytest.raises(ValueError, match="runs is empty"):
        compare_curves({})


# --- residuals and classes ----------------------------------------------------------------------


def test_residuals_of_several_outputs():
    rng = np.random.default_rng(0)
    Y, error = rng.normal(size=(200, 2)), rng.normal(size=(200, 2)) * [0.1, 2.0]
    figure = drawn(plot_residuals(Y, Y - error, names=("mass (kg)", "cost ($)")))
    assert labels(figure) == [
        ("mass (kg)", "prediction"), ("residual of mass (kg)", "samples"),
        (r"cost (\$)", "prediction"), (r"residual of cost (\$)", "samples"),
    ]  # fmt: skip
    for k in range(2):
        dots, histogram = figure.axes[2 * k], figure.axes[2 * k + 1]
        assert list(dots.get_lines()[0].get_xdata()) == list(Y[:, k])
        np.testing.assert_allclose(dots.get_lines()[0].get_ydata(), (Y - error)[:, k])
        assert sum(bar.get_height() for bar in histogram.patches) == 200
        quantiles = [entry.get_xdata()[0] for entry in histogram.get_lines()]
        np.testing.assert_allclose(quantiles, np.quantile(error[:, k], [0.05, 0.5, 0.95]))
        rms = np.sqrt(np.square(error[:, k]).mean())
        assert f"{rms:.3g}" in histogram.get_title()


def test_many_outputs_show_the_worst_six():
    Y = np.random.default_rng(0).normal(size=(50, 9))
    figure = drawn(plot_residuals(Y, Y + np.arange(9)))
    assert [x for x, _ in labels(figure)[::2]] == [f"target {k}" for k in range(3, 9)]
    assert "6 of 9" in figure.get_suptitle()


@pytest.mark.parametrize("residual", [0.0, 1e-300, 3.0])
def test_constant_residuals(residual):
    Y = np.linspace(0.0, 1.0, 9)
    figure = drawn(plot_residuals(Y, Y - residual))
    assert sum(bar.get_height() for bar in figure.axes[1].patches) == 9


def test_bad_residuals():
    with pytest.raises(ValueError, match="must fit"):
        plot_residuals(np.ones(3), np.ones(4))
    with pytest.raises(ValueError, match=r"outputs\[1, 0\] is nan"):
        plot_residuals(np.ones(2), [1.0, np.nan])
    with pytest.raises(ValueError, match="not empty"):
        plot_residuals([], [])
    with pytest.raises(ValueError, match="one an output"):
        plot_residuals(np.ones(2), np.ones(2), names=("a", "b"))


def test_confusion():
    true, given = np.array([0, 0, 1, 2, 2, 2]), np.array([0, 1, 1, 2, 2, 0])
    counts = confusion_matrix(true, given, 3)
    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 2]]
    figure = drawn(plot_confusion(counts, ("a", "b", "$c$")))
    ax = figure.axes[0]
    assert [t.get_text() for t in ax.texts] == list("110010102")
    np.testing.assert_allclose(ax.images[0].get_array(), counts / [[2], [1], [3]])
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b", r"\$c\$"]
    assert "4 of 6" in ax.get_title()
    assert labels(figure)[0] == ("class given by the network", "class of the sample")


def test_a_class_without_samples_and_many_classes():
    drawn(plot_confusion([[0, 0], [1, 2]]))
    figure = drawn(plot_confusion(np.eye(30, dtype=int)))
    assert not figure.axes[0].texts


def test_bad_confusion():
    with pytest.raises(ValueError, match="0..1"):
        confusion_matrix([0, 2], [0, 1], 2)
    with pytest.raises(ValueError, match="integers"):
        confusion_matrix([0.5], [0], 2)
    with pytest.raises(ValueError, match="must fit"):
        confusion_matrix([0, 1], [0], 2)
    with pytest.raises(ValueError, match="square"):
        plot_confusion(np.ones((2, 3)))
    with pytest.raises(ValueError, match="name 2 classes"):
        plot_confusion(np.eye(2), ("a",))


# --- regions and outputs ------------------------------------------------------------------------


def test_the_true_decision_has_the_true_regions():
    """The network's boundaries, taken from the picture, are the circles of radius 1, 2, 3."""
    from matplotlib.contour import QuadContourSet

    X, _ = fg.data.four_regions(400)
    true = fg.data.four_regions_class(X) - 1

    def decide(points):
        return fg.data.four_regions_class(points) - 1

    figure = drawn(plot_decisions(decide, X, true, classes="1234", circles=(1, 2, 3)))
    ax = figure.axes[0]
    assert labels(figure) == [("x_0", "x_1")] and ax.get_aspect() == 1.0
    for k in range(4):
        x, y = line(ax, f"class {k + 1}")
        assert np.array_equal(np.stack([x, y], axis=1), X[true == k])
    assert not [e for e in ax.get_lines() if str(e.get_label()).startswith("wrong")]
    circles = [e for e in ax.get_lines() if len(e.get_xdata()) == 361]
    radii = [np.hypot(*np.asarray(e.get_data(), float)) for e in circles]
    np.testing.assert_allclose(radii, np.array([[1], [2], [3]]) * np.ones(361))
    edges = [c for c in ax.collections if isinstance(c, QuadContourSet) and not c.filled]
    corners = np.concatenate([p.vertices for c in edges for p in c.get_paths()])
    distance = np.hypot(*corners.T)
    nearest = np.abs(distance[:, None] - [1.0, 2.0, 3.0]).min(axis=1)
    assert nearest.max() < 0.03  # a cell of the grid
    markers = {e.get_marker() for e in ax.get_lines() if str(e.get_label()).startswith("class")}
    assert len(markers) == 4


def test_wrong_samples_are_crossed():
    X = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 0.0]])
    figure = drawn(plot_decisions(lambda p: np.zeros(len(p), int), X, np.array([0, 1, 0])))
    x, y = line(figure.axes[0], "wrong (1)")
    assert (*x, *y) == (1.0, 1.0)


def test_ten_classes_have_ten_looks():
    X = np.random.default_rng(0).uniform(size=(40, 2))
    figure = drawn(plot_decisions(lambda p: np.zeros(len(p), int), X, np.arange(40) % 10))
    classes = [e for e in figure.axes[0].get_lines() if str(e.get_label()).startswith("class")]
    assert len({(e.get_marker(), e.get_markerfacecolor()) for e in classes}) == 10


def test_many_samples_leave_the_regions_visible(monkeypatch):
    monkeypatch.setattr("fastggn.figures.decisions.MOST_IN_REGIONS", 10)
    X = np.random.default_rng(0).uniform(size=(25, 2))
    labels = np.zeros(25, int)
    labels[[4, 9]] = 1
    figure = drawn(plot_decisions(lambda p: np.zeros(len(p), int), X, labels))
    shown = {text.get_text() for text in figure.axes[0].get_legend().get_texts()}
    assert {"wrong (2)", "dots: 1 sample of 3"} <= shown  # every wrong one is crossed
    assert len(line(figure.axes[0], "wrong (2)")[0]) == 2
    assert len(line(figure.axes[0], "class 0")[0]) == 8  # of 0, 3, ..., 24, without 9


def test_output_of_one_and_two_inputs():
    X = np.linspace(-1, 1, 11)[:, None]
    figure = drawn(plot_output(lambda p: 2.0 * p[:, 0], X, X[:, 0], names=["t (s)"], target="v"))
    assert labels(figure) == [("t (s)", "v")]
    x, y = line(figure.axes[0], "network")
    assert np.array_equal(y, 2.0 * x) and x[0] < -1 and x[-1] > 1
    x, y = line(figure.axes[0], "samples")
    assert np.array_equal(x, X[:, 0]) and np.array_equal(y, X[:, 0])
    X2, Y = fg.data.four_regions(30)
    figure = drawn(plot_output(lambda p: p.sum(axis=1), X2, Y[:, 0], target="class"))
    assert labels(figure)[0] == ("x_0", "x_1") and figure.axes[1].get_ylabel() == "class"


def test_bad_regions():
    with pytest.raises(ValueError, match=r"shape \(T, 2\)"):
        plot_decisions(len, np.ones((3, 3)), [0, 0, 0])
    with pytest.raises(ValueError, match="labels must be 3 integers"):
        plot_decisions(len, np.ones((3, 2)), [0, 0])
    with pytest.raises(ValueError, match="1 or 2"):
        plot_output(len, np.ones((3, 3)), np.ones(3))
    with pytest.raises(ValueError, match=r"labels must be in 0..0"):
        plot_decisions(len, np.ones((2, 2)), [0, 1], classes=("a",))


# --- lines and planes ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def problem():
    X, Y = fg.data.four_regions(30)
    return fg.Problem(fg.MLP((2, 3, 1)), X, Y)


def test_line_plots_hold_losses_and_model(problem, tmp_path):
    theta = problem.network.init(seed=0)
    found = analysis.loss_along(problem, theta, points=11)
    figure = found.plot(path=str(tmp_path / "line.png"))
    assert (tmp_path / "line.png").read_bytes().startswith(b"\x89PNG")
    x, y = line(figure.axes[0], "loss")
    assert np.array_equal(x, found.steps) and np.array_equal(y, found.losses)
    _, y = line(figure.axes[0], "second-order model at step 0")
    assert np.array_equal(y[y == y], found.quadratic[y == y])
    x, y = line(figure.axes[0], f"step 0: loss {found.loss:.4g}")
    assert (*x, *y) == (0.0, found.loss)
    assert labels(figure)[0] == (f"step along d ({found.label})", "loss")


def test_line_on_given_axes_with_an_overflow(problem):
    from dataclasses import replace

    from matplotlib.figure import Figure

    ax = Figure().subplots()
    found = analysis.loss_along(problem, problem.network.init(seed=0), points=5)
    losses = found.losses.copy()
    losses[0] = np.inf
    assert replace(found, losses=losses).plot(ax=ax) is ax.figure
    assert np.isnan(line(ax, "loss")[1][0]) and np.isfinite(ax.get_ylim()).all()


def test_plane_plots_hold_losses_and_marks(problem):
    theta = problem.network.init(seed=0)
    plane = analysis.loss_plane(problem, theta, points=(9, 7))
    walk = [theta + a * plane.directions[0] + 0.5 * plane.directions[1] for a in (-0.5, 0.0, 0.5)]
    figure = drawn(plane.plot(marks={"walk": walk, "one": walk[0]}))
    ax = figure.axes[0]
    x, y = line(ax, "walk")
    np.testing.assert_allclose(x, [-0.5, 0.0, 0.5], atol=1e-12)
    np.testing.assert_allclose(y, 0.5)
    assert (*line(ax, "theta")[0], *line(ax, "theta")[1]) == (0.0, 0.0)
    assert ax.get_xlabel() == f"step along d ({plane.labels[0]})"
    assert figure.axes[1].get_ylabel() == "loss"
    low, high = figure.axes[1].get_ylim()
    assert high == pytest.approx(plane.losses.max())
    assert low >= plane.losses.min()
    with pytest.raises(ValueError, match="theta must have shape"):
        plane.plot(marks={"x": np.ones(2)})


def test_flat_and_overflowing_planes(problem):
    from dataclasses import replace

    plane = analysis.loss_plane(problem, problem.network.init(seed=0), points=4)
    drawn(replace(plane, losses=np.full((4, 4), 2.0)).plot())
    drawn(replace(plane, losses=np.zeros((4, 4))).plot())
    partly = plane.losses.copy()
    partly[0, 0] = np.nan
    drawn(replace(plane, losses=partly).plot())
    with pytest.raises(ValueError, match="no loss on the plane is finite"):
        replace(plane, losses=np.full((4, 4), np.inf)).plot()


# --- files and texts ----------------------------------------------------------------------------


def test_names_are_made_safe_for_matplotlib():
    assert plain("a $x$\n\x00b") == r"a \$x\$  b"
    assert len(plain("x" * 500)) == 40


def test_saving(result, tmp_path):
    result.plot(path=str(tmp_path / "a.png"))
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    figure = plot_curves({"loss": [1.0, 0.5]})
    for name, head in (
        ("a.png", b"\x89PNG"),
        ("a.pdf", b"%PDF"),
        ("a.svg", b"<?xml"),
        ("a", b"\x89PNG"),
    ):
        save(figure, tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(head)
    with pytest.raises(ValueError, match="no picture is written as .docx"):
        save(figure, tmp_path / "a.docx")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "a.pdf", "a.png", "a.svg"]


def test_without_matplotlib(monkeypatch):
    import sys

    from fastggn.figures.style import require_matplotlib

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"fastggn\[plot\]"):
        plot_curves({"loss": [1.0]})
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"fastggn\[plot\]"):
        require_matplotlib()
