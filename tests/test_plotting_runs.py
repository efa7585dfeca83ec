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
    _, y = line(figure.axes[0], "held-out")
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
    mark = f"lowest held-out loss (iteration {result.best_iter})"
    assert set(line(figure.axes[0], mark)[0]) == {result.best_iter}
    x, y = line(figure.axes[0], "held-out")
    assert list(y[1:]) == [r.validation_loss for r in result.history]
    start = net.predict(net.init(seed=0), held_out[0]) - held_out[1]
    assert x[0] == 0 and y[0] == pytest.approx(0.5 * np.square(start).mean(), rel=1e-12)


def test_the_lowest_validation_loss_of_a_kept_history():
    kept = {"iteration": [1, 3, 5, 7], "loss": [4.0, 3.0, 2.0, 1.0],
            "validation_loss": [3.0, 1.5, 1.0, 2.0]}  # fmt: skip
    assert set(line(plot_curves(kept).axes[0], "lowest held-out loss (iteration 5)")[0]) == {5}
    figure = plot_curves(kept, initial_validation_loss=0.5)
    assert set(line(figure.axes[0], "lowest held-out loss (iteration 0)")[0]) == {0}


def test_nothing_lies_over_the_data(result):
    """Legends stand below the axes, and no two labels of an axis overlap."""
    rng = np.random.default_rng(0)
    Y = 1e5 * rng.normal(size=(80, 1))
    X = rng.uniform(size=(80, 2))
    parts = {"training": (X, Y[:, 0]), "test": (X, Y[:, 0])}
    for figure in (
        result.plot(),
        plot_residuals({"training": (Y, 0.9 * Y), "test": (Y[:9], Y[:9])}, names=["price ($)"]),
        plot_output(lambda p: 1e5 * p.sum(axis=1), parts),
        plot_confusion({"training": np.eye(3, dtype=int)}, ["setosa", "versicolor", "virginica"]),
    ):
        drawn(figure)
        boxes = [ax.get_window_extent() for ax in figure.axes]
        for legend in figure.legends:
            assert not any(legend.get_window_extent().overlaps(box) for box in boxes)
        assert not any(ax.get_legend() for ax in figure.axes)
        for ax in figure.axes:
            for axis in (ax.xaxis, ax.yaxis):
                low, high = sorted(axis.get_view_interval())
                ticks = [t for t in axis.get_major_ticks() if low <= t.get_loc() <= high]
                texts = [t.label1 if t.label1.get_visible() else t.label2 for t in ticks]
                shown = [text.get_window_extent() for text in texts if text.get_text()]
                pairs = zip(shown, shown[1:], strict=False)
                assert not any(one.overlaps(other) for one, other in pairs)


def test_a_loss_of_zero_stands_at_the_foot():
    figure = drawn(plot_curves({"loss": [1.0, 0.1, 0.0]}))
    _, y = line(figure.axes[0], "training")
    assert list(y) == pytest.approx([1.0, 0.1, 0.01])
    assert "foot" in figure.axes[0].get_title("left")


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


def test_residuals_of_several_outputs_and_parts():
    rng = np.random.default_rng(0)
    Y, error = rng.normal(size=(200, 2)), rng.normal(size=(200, 2)) * [0.1, 2.0]
    parts = {"training": (Y[:150], (Y - error)[:150]), "test": (Y[150:], (Y - error)[150:])}
    figure = drawn(plot_residuals(parts, names=("mass (kg)", "cost ($)")))
    assert labels(figure) == [
        ("mass (kg)", "prediction"), ("mass (kg)", "prediction"), ("error of mass (kg)", "rows"),
        (r"cost (\$)", "prediction"), (r"cost (\$)", "prediction"), (r"error of cost (\$)", "rows"),
    ]  # fmt: skip
    for k in range(2):
        *panels, histogram = figure.axes[3 * k : 3 * k + 3]
        for ax, (name, (y, f)) in zip(panels, parts.items(), strict=True):
            dots = ax.get_lines()[1]
            assert np.array_equal(dots.get_xdata(), y[:, k])
            assert np.array_equal(dots.get_ydata(), f[:, k])
            r2 = 1.0 - np.square(y - f)[:, k].sum() / np.square(y - y.mean(axis=0))[:, k].sum()
            rms = np.sqrt(np.square(y - f)[:, k].mean())
            assert ax.get_title() == (
                f"{name}: {len(y)} rows\nR\N{SUPERSCRIPT TWO} {r2:.4f}, rms error {rms:.5g}"
            )
            assert ax.get_xlim() == ax.get_ylim() == panels[0].get_xlim()
        bars = [sum(bar.get_height() for bar in part) for part in histogram.containers]
        assert bars == [150, 50]
        (zero,) = histogram.get_lines()
        assert set(zero.get_xdata()) == {0.0}
    counts = np.histogram(error[:150, 0], 11, (error[:, 0].min(), error[:, 0].max()))[0]
    assert [bar.get_height() for bar in figure.axes[2].containers[0]] == list(counts)
    named = [text.get_text() for text in figure.legends[0].get_texts()]
    assert named == ["prediction = target", "no error", "training", "test"]


def test_one_output_of_three_parts_is_a_square():
    Y = np.linspace(0.0, 1.0, 9)
    figure = drawn(plot_residuals(dict.fromkeys(("training", "held-out", "test"), (Y, Y))))
    assert figure.axes[0].get_gridspec().get_geometry() == (2, 2)


def test_many_samples_are_drawn_as_density(monkeypatch):
    monkeypatch.setattr("fastggn.figures.residuals.DENSE", 100)
    monkeypatch.setattr("fastggn.figures.decisions.DENSE", 100)
    rng = np.random.default_rng(0)
    Y, few = rng.normal(size=150), rng.normal(size=20)
    figure = drawn(plot_residuals({"training": (Y, Y), "test": (few, few)}))
    (cells,) = figure.axes[0].collections
    assert cells.get_array().sum() == 150 and cells.get_array().min() == 1
    assert not figure.axes[1].collections and len(figure.axes[1].get_lines()) == 2
    assert figure.axes[-1].get_ylabel() == "rows in a cell"
    X = rng.uniform(size=(150, 1))
    figure = drawn(plot_output(lambda p: p[:, 0], {"training": (X, Y)}))
    assert figure.axes[0].collections[0].get_array().sum() == 150


def test_unknown_targets_are_left_out():
    Y = np.array([[1.0, np.nan], [2.0, np.nan], [4.0, np.nan]])
    figure = drawn(plot_residuals({"training": (Y, np.ones((3, 2)))}))
    titles = [ax.get_title() for ax in figure.axes]
    assert titles[0].startswith("training: 3 rows") and titles[2] == "training: 0 rows"


def test_many_outputs_show_the_worst_six():
    Y = np.random.default_rng(0).normal(size=(50, 9))
    figure = drawn(plot_residuals({"training": (Y, Y + np.arange(9))}))
    assert [x for x, _ in labels(figure)[::2]] == [f"target {k}" for k in range(3, 9)]
    assert "6 of 9" in figure.get_suptitle()


@pytest.mark.parametrize("residual", [0.0, 1e-300, 3.0])
def test_constant_residuals(residual):
    Y = np.linspace(0.0, 1.0, 9)
    figure = drawn(plot_residuals({"training": (Y, Y - residual)}))
    assert sum(bar.get_height() for bar in figure.axes[1].patches) == 9
    one = drawn(plot_residuals({"training": ([2.0, 2.0], [2.0, 2.0 + residual])}))
    assert "R\N{SUPERSCRIPT TWO} undefined" in one.axes[0].get_title()


def test_bad_residuals():
    with pytest.raises(ValueError, match="must fit"):
        plot_residuals({"a": (np.ones(3), np.ones(4))})
    with pytest.raises(ValueError, match=r"outputs\[1, 0\] is nan"):
        plot_residuals({"a": (np.ones(2), [1.0, np.nan])})
    with pytest.raises(ValueError, match=r"targets\[1, 0\] is inf"):
        plot_residuals({"a": ([1.0, np.inf], np.ones(2))})
    with pytest.raises(ValueError, match="not empty"):
        plot_residuals({"a": ([], [])})
    with pytest.raises(ValueError, match="parts is empty"):
        plot_residuals({})
    with pytest.raises(ValueError, match="one an output"):
        plot_residuals({"a": (np.ones(2), np.ones(2))}, names=("a", "b"))


def test_confusion():
    true, given = np.array([0, 0, 1, 2, 2, 2]), np.array([0, 1, 1, 2, 2, 0])
    counts = confusion_matrix(true, given, 3)
    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 2]]
    figure = drawn(plot_confusion({"training": counts, "test": counts}, ("a", "b", "$c$")))
    ax = figure.axes[0]
    assert figure.axes[1].get_title() == "test: 4 of 6 right (66.67 %)"
    assert [t.get_text() for t in ax.texts] == list("110010102")
    np.testing.assert_allclose(ax.images[0].get_array(), counts / [[2], [1], [3]])
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b", r"\$c\$"]
    assert "4 of 6" in ax.get_title()
    assert labels(figure)[0] == ("class given by the network", "class of the sample")


def test_a_class_without_samples_and_many_classes():
    drawn(plot_confusion({"training": [[0, 0], [1, 2]]}))
    figure = drawn(plot_confusion({"training": np.eye(30, dtype=int)}))
    assert not figure.axes[0].texts


def test_bad_confusion():
    with pytest.raises(ValueError, match="0..1"):
        confusion_matrix([0, 2], [0, 1], 2)
    with pytest.raises(ValueError, match="integers"):
        confusion_matrix([0.5], [0], 2)
    with pytest.raises(ValueError, match="must fit"):
        confusion_matrix([0, 1], [0], 2)
    with pytest.raises(ValueError, match="square"):
        plot_confusion({"training": np.ones((2, 3))})
    with pytest.raises(ValueError, match="name 2 classes"):
        plot_confusion({"training": np.eye(2)}, ("a",))
    with pytest.raises(ValueError, match="parts is empty"):
        plot_confusion({})


# --- regions and outputs ------------------------------------------------------------------------


def test_the_true_decision_has_the_true_regions():
    """The network's boundaries, taken from the picture, are the circles of radius 1, 2, 3."""
    from matplotlib.contour import QuadContourSet

    X, _ = fg.data.four_regions(400)
    true = fg.data.four_regions_class(X) - 1

    def decide(points):
        return fg.data.four_regions_class(points) - 1

    figure = drawn(
        plot_decisions(decide, {"training": (X, true)}, classes="1234", circles=(1, 2, 3))
    )
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


def first(points):
    return np.zeros(len(points), int)


def test_wrong_samples_are_crossed_part_by_part():
    X = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 0.0]])
    known = np.array([0, 1, 0])
    figure = drawn(plot_decisions(first, {"training": (X, known), "test": (X[1:], known[1:])}))
    for label in ("wrong: 1 of 3 training", "wrong: 1 of 2 test"):
        x, y = line(figure.axes[0], label)
        assert (*x, *y) == (1.0, 1.0)
    crosses = [e for e in figure.axes[0].get_lines() if str(e.get_label()).startswith("wrong")]
    assert len({e.get_marker() for e in crosses}) == 2


def test_ten_classes_have_ten_looks():
    X = np.random.default_rng(0).uniform(size=(40, 2))
    figure = drawn(plot_decisions(first, {"training": (X, np.arange(40) % 10)}))
    classes = [e for e in figure.axes[0].get_lines() if str(e.get_label()).startswith("class")]
    assert len({(e.get_marker(), e.get_markerfacecolor()) for e in classes}) == 10


def test_many_samples_leave_the_regions_visible(monkeypatch):
    monkeypatch.setattr("fastggn.figures.decisions.MOST_DOTS", 10)
    X = np.random.default_rng(0).uniform(size=(25, 2))
    labels = np.zeros(25, int)
    labels[[4, 9]] = 1
    figure = drawn(plot_decisions(first, {"training": (X, labels)}))
    shown = {text.get_text() for text in figure.axes[0].get_legend().get_texts()}
    wrong = "wrong: 2 of 25 training"
    assert {wrong, "dots: one sample of 3"} <= shown  # every wrong one is crossed
    assert len(line(figure.axes[0], wrong)[0]) == 2
    assert len(line(figure.axes[0], "class 0")[0]) == 8  # of 0, 3, ..., 24, without 9


def test_output_of_one_and_two_inputs():
    X = np.linspace(-1, 1, 11)[:, None]
    parts = {"training": (X, X[:, 0]), "test": (X[:3], X[:3, 0])}
    figure = drawn(plot_output(lambda p: 2.0 * p[:, 0], parts, names=["t (s)"], target="v"))
    assert labels(figure) == [("t (s)", "v")]
    x, y = line(figure.axes[0], "network")
    assert np.array_equal(y, 2.0 * x) and x[0] < -1 and x[-1] > 1
    for name, (inputs, targets) in parts.items():
        x, y = line(figure.axes[0], name)
        assert np.array_equal(x, inputs[:, 0]) and np.array_equal(y, targets)
    X2, Y = fg.data.four_regions(30)
    parts = {"training": (X2[:20], Y[:20, 0]), "test": (X2[20:], Y[20:, 0])}
    figure = drawn(plot_output(lambda p: p.sum(axis=1), parts, target="class"))
    assert labels(figure)[0] == ("x_0", "x_1") and figure.axes[1].get_ylabel() == "class"
    for name, (inputs, _) in parts.items():
        assert np.array_equal(line(figure.axes[0], name), inputs.T)


def test_bad_regions():
    with pytest.raises(ValueError, match=r"shape \(T, 2\)"):
        plot_decisions(len, {"a": (np.ones((3, 3)), [0, 0, 0])})
    with pytest.raises(ValueError, match="labels must be 3 integers"):
        plot_decisions(len, {"a": (np.ones((3, 2)), [0, 0])})
    with pytest.raises(ValueError, match="1 or 2"):
        plot_output(len, {"a": (np.ones((3, 3)), np.ones(3))})
    with pytest.raises(ValueError, match="Y must have shape"):
        plot_output(len, {"a": (np.ones((3, 2)), np.ones(2))})
    with pytest.raises(ValueError, match=r"labels must be in 0..0"):
        plot_decisions(len, {"a": (np.ones((2, 2)), [0, 1])}, classes=("a",))
    for draw in (plot_decisions, plot_output):
        with pytest.raises(ValueError, match="parts is empty"):
            draw(len, {})


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
