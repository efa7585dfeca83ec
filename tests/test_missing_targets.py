"""Targets that nobody measured ("don't care"): no part in scales, loss and errors, on request."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.io import savemat

import fastggn as fg
from fastggn.apps.cli import main
from fastggn.apps.report.findings import findings
from fastggn.data.scaler import Scaler
from fastggn.model.checks import target_weights
from fastggn.runtime.comm import Comm

NAMES = ("a", "b", "y", "z", "w")


def table_of(seed, T=90, gaps=0.3, whole=True):
    """Inputs (T, 2) and targets (T, 3) in different units, of which some are NaN, and the mask."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1, 1, (T, 2)) * [3.0, 1e4] + [50.0, 0.0]
    u = (X - X.mean(axis=0)) / X.std(axis=0)
    Y = np.column_stack([np.sin(u[:, 0]), 1e5 + 1e3 * u[:, 0] * u[:, 1], 1e-6 * u[:, 1] ** 2])
    Y += 0.05 * Y.std(axis=0) * rng.standard_normal(Y.shape)
    known = rng.random(Y.shape) >= gaps
    if whole:  # each row has a target
        known[np.arange(T), rng.integers(0, 3, T)] = True
    return X, np.where(known, Y, np.nan), known, Y


def mapping(X, Y):
    return dict(zip(NAMES, [*X.T, *Y.T], strict=True))


def write(path, X, Y):
    rows = [",".join("" if np.isnan(v) else repr(float(v)) for v in r) for r in np.hstack([X, Y])]
    Path(path).write_text("\n".join([",".join(NAMES), *rows]) + "\n")


def read(X, Y, **keywords):
    keywords = {"missing_targets": "ignore", **keywords}
    return fg.read_table(mapping(X, Y), ["y", "z", "w"], **keywords)


@pytest.mark.parametrize("seed", range(3))
def test_a_fit_is_one_to_the_known_targets(seed):
    """By the formula: means over the known values, and the loss over the known targets alone."""
    X, Y, known, _ = table_of(seed)
    table = read(X, Y)
    np.testing.assert_array_equal(np.isnan(table.Y), ~known)
    counts = (~known).sum(axis=0)
    words = [f"target {n!r}: {c} of 90 values are missing and do not count"
             for n, c in zip("yzw", counts, strict=True)]  # fmt: skip
    assert list(table.notes) == words
    model, result = fg.fit(table, 5, seed=seed, held_out=0, max_iter=12)
    scaler = model.target_scaler
    np.testing.assert_allclose(scaler.mean, np.nanmean(Y, axis=0), rtol=1e-12)
    np.testing.assert_allclose(scaler.scale, np.nanstd(Y, axis=0), rtol=1e-9)
    np.testing.assert_array_equal(scaler.least, np.nanmin(Y, axis=0))
    F = model.network.predict(result.theta, model.input_scaler.apply(X))
    error = np.where(known, F - scaler.apply(Y), 0.0)
    # (T n_L / K) / T, K known targets: the mean over the rows of half the squares.
    assert result.loss == pytest.approx(0.5 * np.square(error).sum() * 3 / known.sum(), rel=1e-10)
    # What stands in the place of a missing target has no effect.
    weights = known.astype(float)
    filled = fg.Problem(model.network, model.input_scaler.apply(X),
                        np.where(known, scaler.apply(Y), 7.0), sample_weight=weights)  # fmt: skip
    other = fg.train(filled, model.network.init(seed), seed=seed, max_iter=12)
    np.testing.assert_allclose(model.theta, other.theta, rtol=1e-6)
    assert model.training["notes"][:3] == words


@pytest.mark.parametrize("seed", range(3))
def test_errors_are_those_of_the_known_targets(seed, tmp_path):
    X, Y, known, true = table_of(seed)
    model, _ = fg.fit(read(X, Y), 5, seed=0, max_iter=10, test=0.1)
    metrics = model.evaluate(mapping(X, Y))  # the model knows the rule
    predicted = model.predict(X)
    assert predicted.shape == (90, 3) and np.isfinite(predicted).all()
    scaled = []
    for j, found in enumerate(metrics.targets):
        own = known[:, j]
        error = predicted[own, j] - true[own, j]
        scaled.append(np.square(error / model.target_scaler.scale[j]).sum())
        assert found["count"] == own.sum() and isinstance(found["count"], int)
        assert found["rms"] == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-9)
        assert found["mae"] == pytest.approx(np.abs(error).mean(), rel=1e-9)
        assert found["r2"] == pytest.approx(1 - np.mean(error**2) / true[own, j].var(), rel=1e-8)
    assert metrics.loss == pytest.approx(0.5 * sum(scaled) * 3 / known.sum(), rel=1e-10)
    assert "count" in str(metrics).splitlines()[1] and json.dumps(metrics.to_dict())
    weights = np.random.default_rng(seed).uniform(0.5, 2.0, 90)
    weighed = model.evaluate(mapping(X, Y), sample_weight=weights)
    assert "weights" in str(weighed).splitlines()[1]  # their sum is no number of rows
    weighed = weighed.targets[1]
    own = known[:, 1]
    square = np.square(predicted[own, 1] - true[own, 1])
    assert weighed["rms"] == pytest.approx(np.sqrt(np.average(square, weights=weights[own])))
    # The table of the training, read again, has the same parts; so has the report.
    parts = model.parts(mapping(X, Y))
    assert list(parts) == ["training", "held-out", "test"]
    found = findings(model.problem(parts["training"]), model)
    expected = model.evaluate(parts["training"])
    np.testing.assert_allclose(found.rms, [t["rms"] for t in expected.targets], rtol=1e-9)
    np.testing.assert_allclose(found.r2, [t["r2"] for t in expected.targets], rtol=1e-7)
    model.save(tmp_path / "m.npz")
    again = fg.Model.load(tmp_path / "m.npz")
    assert again.evaluate(mapping(X, Y)) == metrics


def test_weights_of_rows_and_of_targets_go_with_gaps():
    X, Y, known, _ = table_of(5)
    rows = np.random.default_rng(0).uniform(0.5, 2.0, 90)
    table, options = read(X, Y), {"hidden": 3, "seed": 0, "max_iter": 4, "held_out": 0}
    model, by_row = fg.fit(table, sample_weight=rows, **options)
    _, by_target = fg.fit(table, sample_weight=rows[:, None].repeat(3, 1), **options)
    np.testing.assert_array_equal(by_row.theta, by_target.theta)
    F = model.network.predict(by_row.theta, model.input_scaler.apply(X))
    share = known * rows[:, None]
    error = np.where(known, F - model.target_scaler.apply(Y), 0.0)
    loss = 0.5 * (share * error**2).sum() * 3 / share.sum()
    assert by_row.loss == pytest.approx(loss, rel=1e-10)
    with pytest.raises(ValueError, match=r"sample_weight must have shape \(90,\) or \(90, 3\)"):
        fg.fit(table, sample_weight=np.ones((90, 2)), **options)


def test_rows_without_any_target_are_left_out():
    X, Y, known, _ = table_of(1, whole=False)
    none = ~known.any(axis=1)
    assert none.sum() > 0
    table = read(X, Y)
    np.testing.assert_array_equal(table.rows, np.flatnonzero(~none))
    assert f"{none.sum()} of 90 rows are left out: values are missing" in table.notes
    model, _ = fg.fit(table, 3, seed=0, max_iter=3)
    assert model.evaluate(mapping(X, Y)).n_rows == 90 - none.sum()
    assert model.predict(mapping(X, Y)).shape == (90, 3)  # each row has inputs
    # Of one target, or of classes, this is to leave the rows out.
    one = {"a": X[:, 0], "b": X[:, 1], "y": Y[:, 0]}
    ignored, dropped = (fg.read_table(one, missing_targets=rule) for rule in ("ignore", "drop"))
    np.testing.assert_array_equal(ignored.Y, dropped.Y)
    kinds = np.where(known[:, 0], np.where(X[:, 0] > 50, "late", "early"), None)
    classes = fg.read_table({"a": X[:, 0], "k": kinds}, missing_targets="ignore")
    assert classes.classes == ("early", "late") and classes.n_rows == known[:, 0].sum()


def test_missing_targets_are_an_error_by_default():
    X, Y, known, _ = table_of(2)
    with pytest.raises(fg.TableError) as caught:
        read(X, Y, missing_targets=None)
    assert len(caught.value.faults) == 3
    for words in ("missing_targets='drop' leaves these rows out", "missing_targets='ignore' takes"):
        assert words in str(caught.value)
    complete = known.all(axis=1)
    for rule in ({"missing": "drop"}, {"missing_targets": "drop"}, {"missing_targets": "drop",
                 "missing": "impute"}):  # fmt: skip
        found = read(X, Y, **{"missing_targets": None, **rule})
        np.testing.assert_array_equal(found.rows, np.flatnonzero(complete))
    with pytest.raises(fg.TableError, match="3 faults"):
        read(X, Y, missing="drop", missing_targets="error")
    with pytest.raises(ValueError, match="did you mean 'ignore'"):
        read(X, Y, missing_targets="ignor")
    # Gaps in the inputs have their own rule.
    holes = X.copy()
    holes[:7, 0] = np.nan
    with pytest.raises(fg.TableError, match="'a' .* 7 missing values.*missing='impute' fills"):
        read(holes, Y)
    imputed = read(holes, Y, missing="impute")
    assert imputed.n_rows == 90 and imputed.inputs == ("a", "a is missing", "b")
    np.testing.assert_array_equal(np.isnan(imputed.Y), ~known)
    dropped = read(holes, Y, missing="drop")
    np.testing.assert_array_equal(dropped.rows, np.arange(7, 90))


def test_a_level_that_only_fills_gaps_stays():
    """The most frequent level may stand in left-out rows alone."""
    kind = np.array(["a"] * 6 + ["b"] * 2 + ["c"] * 2 + [None] * 2, dtype=object)
    y = np.array([np.nan] * 6 + list(range(6)))
    table = fg.read_table({"kind": kind, "y": y}, missing="impute", missing_targets="drop")
    assert table.inputs == ("kind=b", "kind=c", "kind is missing")
    np.testing.assert_array_equal(table.X[-1], [0.0, 0.0, 1.0])


def test_a_complete_model_counts_the_known_targets_of_another_table():
    X, _, known, true = table_of(3)
    model, _ = fg.fit((X, true), 3, seed=0, max_iter=5)
    holes = np.where(known, true, np.nan)
    with pytest.raises(fg.TableError, match="leave these rows out, or train or evaluate with"):
        model.evaluate((X, holes))
    found = model.evaluate(fg.read_table((X, holes), missing_targets="ignore"))
    assert [t["count"] for t in found.targets] == known.sum(axis=0).tolist()
    strict = fg.read_table((X, holes), missing_targets="drop")
    assert model.evaluate(strict).n_rows == known.all(axis=1).sum()


def test_what_cannot_be_done_with_gaps_is_refused_in_words():
    X, Y, _, _ = table_of(4)
    table = read(X, Y)
    with pytest.raises(ValueError, match="no missing targets: give one weight a row, or leave"):
        fg.fit(table, 3, posterior=True, max_iter=2)
    late = np.full(90, np.nan)
    late[-2:] = 1.0, 2.0
    data = {"a": X[:, 0], "y": Y[:, 0], "z": late}
    found = fg.read_table(data, ["y", "z"], missing_targets="ignore")
    with pytest.raises(fg.TableError, match="'z' has no known value in the .* training rows"):
        fg.fit(found, 3, held_out=np.flatnonzero(np.isin(found.rows, [88, 89])), max_iter=2)
    with pytest.raises(fg.TableError, match="target 'z': it holds no value"):
        fg.read_table({**data, "z": np.full(90, np.nan)}, ["y", "z"], missing_targets="ignore")

    class Own(fg.losses.Loss):
        """Not a sum over the outputs, as far as anyone knows."""

        name = "own"
        value = gradient = hessian = None

    with pytest.raises(ValueError, match="need a loss that sums over the outputs, not own"):
        fg.fit(table, 3, loss=Own(), max_iter=2)


@pytest.mark.parametrize("loss", ["huber", "cauchy", "smooth_lp", "blake_zisserman"])
def test_robust_losses_take_gaps(loss):
    X, Y, known, _ = table_of(6)
    model, result = fg.fit(read(X, Y), 3, loss=loss, seed=0, held_out=0, max_iter=5)
    assert model.evaluate(mapping(X, Y)).loss == pytest.approx(result.loss, rel=1e-10)


def test_complete_targets_give_the_same_bits_with_the_rule():
    X, _, _, true = table_of(7)
    plain, _ = fg.fit(read(X, true, missing_targets=None), 3, seed=0, max_iter=5)
    ruled, _ = fg.fit(read(X, true), 3, seed=0, max_iter=5)
    np.testing.assert_array_equal(plain.theta, ruled.theta)
    fg.fit(read(X, true), 2, seed=0, max_iter=2, posterior=True)  # nothing is missing
    scaler = Scaler.of_known(true)
    np.testing.assert_array_equal(scaler.scale, Scaler.of(true).scale)


def test_ranks_agree_on_gaps():
    """One rank has a gap: all of them weigh their targets, as the objective is one."""

    class Team(Comm):
        def any(self, flag):
            return True

    loss = fg.losses.Squared()
    assert target_weights(np.zeros((4, 2)), None, loss, None) is None
    np.testing.assert_array_equal(target_weights(np.zeros((4, 2)), None, loss, Team()), 1.0)
    rows = np.arange(4.0)
    found = target_weights(np.array([[0.0, np.nan]] * 4), rows, loss, Team())
    np.testing.assert_array_equal(found, np.column_stack([rows, np.zeros(4)]))


def test_files_of_matlab_have_the_same_gaps(tmp_path):
    """NaN of MATLAB has another sign bit; a table is the same by every way."""
    X, Y, _, _ = table_of(8)
    negative = np.where(np.isnan(Y), np.copysign(np.nan, -1.0), Y)
    savemat(tmp_path / "t.mat", {"X": X, "Y": negative})
    np.savez(tmp_path / "t.npz", X=X, Y=Y)
    write(tmp_path / "t.csv", X, Y)
    rule = {"missing_targets": "ignore"}
    tables = [fg.read_table(tmp_path / f"t.{kind}", **rule) for kind in ("mat", "npz")]
    tables.append(fg.read_table(tmp_path / "t.csv", ["y", "z", "w"], **rule))
    assert len({table.digest for table in tables}) == 1
    for table in tables:
        np.testing.assert_array_equal(table.Y, Y)


# Commands.


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        return CliRunner().invoke(main, [str(a) for a in arguments])

    return call


TRAIN = ("train", "t.csv", "--target", "y,z,w", "--hidden", 3, "--max-iter", 8)


def test_the_commands(run, monkeypatch):
    X, Y, known, true = table_of(9)
    write("t.csv", X, Y)
    refused = run(*TRAIN)
    assert refused.exit_code == 2 and refused.stderr.count("--missing-targets ignore") == 3
    assert "missing_targets" not in refused.stderr
    result = run(*TRAIN, "--missing-targets", "ignore", "--test-fraction", 0.1)
    assert result.exit_code == 0, result.output
    for name, count in zip("yzw", (~known).sum(axis=0), strict=True):
        assert f"target {name!r}: {count} of 90 values are missing and do not" in result.stderr
    assert "nan" not in result.stdout and "count" in result.stdout
    model, _ = fg.fit(read(X, Y), 3, seed=0, max_iter=8, test=0.1)
    np.testing.assert_array_equal(fg.Model.load("model.npz").theta, model.theta)
    assert run("predict", "model.npz", "t.csv", "-o", "p.csv").exit_code == 0
    found = np.loadtxt("p.csv", delimiter=",", skiprows=1)
    np.testing.assert_allclose(found, model.predict(X), rtol=1e-12)
    expected = model.evaluate(mapping(X, Y)).to_dict()
    for rows in (20_000, 7):
        monkeypatch.setattr("fastggn.apps.cli.evaluate.MOST_ROWS", rows)
        errors = json.loads(run("evaluate", "model.npz", "t.csv", "--json").stdout)
        assert errors["loss"] == pytest.approx(expected["loss"], rel=1e-10)
        for own, other in zip(errors["targets"], expected["targets"], strict=True):
            assert own == {**other, **{k: pytest.approx(other[k]) for k in ("rms", "mae", "r2")}}


def test_a_complete_model_evaluates_a_table_with_gaps(run):
    X, Y, known, true = table_of(10)
    write("t.csv", X, true)
    write("gaps.csv", X, Y)
    assert run(*TRAIN).exit_code == 0
    refused = run("evaluate", "model.npz", "gaps.csv")
    assert refused.exit_code == 2 and "evaluate with --missing-targets ignore" in refused.stderr
    found = run("evaluate", "model.npz", "gaps.csv", "--missing-targets", "ignore", "--json")
    counts = [t["count"] for t in json.loads(found.stdout)["targets"]]
    assert counts == known.sum(axis=0).tolist()
    dropped = run("evaluate", "model.npz", "gaps.csv", "--missing-targets", "drop", "--json")
    assert json.loads(dropped.stdout)["n_rows"] == known.all(axis=1).sum()
    wrong = run("evaluate", "model.npz", "t.csv", "--missing-targets", "igno")
    assert wrong.exit_code == 2 and "did you mean" in wrong.stderr


def test_pictures_and_the_report_leave_gaps_out(run):
    pytest.importorskip("matplotlib", reason="the extra plot is absent")
    X, Y, _, _ = table_of(11)
    write("t.csv", X, Y)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        result = run(*TRAIN, "--missing-targets", "ignore", "--report", "run.html")
        assert result.exit_code == 0, result.output
        for kind in ("residuals", "regions"):
            drawn = run("plot", "model.npz", "t.csv", "--kind", kind, "--out", f"{kind}.png")
            assert drawn.exit_code == 0, drawn.output
    assert "do not count" in Path("run.html").read_text()
