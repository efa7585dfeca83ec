"""`fit` and `Model`: from a table to predictions, and files of models."""

import os
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import cases
import numpy as np
import pytest
from interchange_cases import model_of, network
from patience import HANGS

import fastggn as fg
from fastggn.data.scaler import Scaler
from fastggn.runtime.archive import read_sealed, write_sealed

ROOT = Path(__file__).resolve().parent.parent
RNG = np.random.default_rng(0)
AREA, ROOMS = RNG.uniform(30, 200, 120), RNG.integers(1, 7, 120).astype(float)
KIND = RNG.choice(["flat", "house", "shed"], 120)
HOUSES = {
    "area": AREA,
    "rooms": ROOMS,
    "kind": KIND,
    "price": 1000 * AREA * (1 + 0.1 * ROOMS) * np.where(KIND == "house", 1.2, 1.0),
}
SIZES = {
    "area": AREA,
    "rooms": ROOMS,
    "size": np.where(AREA > 140, "large", np.where(AREA > 80, "middle", "small")),
}
QUICK = {"hidden": 4, "seed": 0, "max_iter": 15}


@pytest.fixture(scope="module")
def houses():
    return fg.fit(HOUSES, target="price", **QUICK)[0]


@pytest.fixture(scope="module")
def sizes():
    return fg.fit(SIZES, target="size", **QUICK)[0]


def test_raw_in_and_raw_out_by_name(houses):
    assert houses.recipe.input_names == ("area", "rooms", "kind=house", "kind=shed")
    found = houses.predict(HOUSES)
    assert found.shape == (120,) and np.corrcoef(found, HOUSES["price"])[0, 1] > 0.99
    shuffled = {name: HOUSES[name] for name in ("kind", "area", "rooms")}
    np.testing.assert_array_equal(houses.predict({**shuffled, "owner": ["x"] * 120}), found)
    with pytest.raises(fg.TableError, match="column 'area' is missing"):
        houses.predict({"kind": KIND, "rooms": ROOMS})
    with pytest.raises(fg.TableError, match="unknown level 'hut'"):
        houses.predict({"kind": ["hut"], "rooms": [1.0], "area": [50.0]})
    with pytest.raises(ValueError, match="predict_proba needs a model of classes"):
        houses.predict_proba(HOUSES)
    with pytest.raises(ValueError, match="needs a posterior"):
        houses.predict(HOUSES, std=True)


def test_fit_is_train_on_scaled_columns(houses):
    split = houses.parts(HOUSES)
    assert {name: part.n_rows for name, part in split.items()} == {"training": 102, "held-out": 18}
    problem = houses.problem(split["training"])
    held = houses.problem(split["held-out"], l2=0.0)
    result = fg.train(problem, seed=0, max_iter=15, held_out=held)
    np.testing.assert_array_equal(houses.theta, result.theta)
    X = split["training"].X
    np.testing.assert_allclose(houses.input_scaler.apply(X).std(axis=0), 1.0)
    assert list(houses.parts({**HOUSES, "price": HOUSES["price"] + 1.0})) == ["data"]


def test_evaluate_in_units_of_the_target(houses):
    found = houses.evaluate(HOUSES)
    error = houses.predict(HOUSES) - HOUSES["price"]
    (target,) = found.targets
    assert target["name"] == "price" and found.n_rows == 120
    assert target["rms"] == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-12)
    assert target["mae"] == pytest.approx(np.mean(np.abs(error)), rel=1e-12)
    assert target["r2"] == pytest.approx(1 - np.mean(error**2) / HOUSES["price"].var(), rel=1e-9)
    assert "price" in str(found) and found.to_dict()["targets"][0]["rms"] == target["rms"]
    weights = np.random.default_rng(1).integers(0, 3, 120)
    again = houses.evaluate(HOUSES, sample_weight=weights)
    repeated = houses.evaluate({k: np.repeat(v, weights) for k, v in HOUSES.items()})
    for key in ("rms", "mae", "r2"):
        assert again.targets[0][key] == pytest.approx(repeated.targets[0][key], rel=1e-10)
    assert again.loss == pytest.approx(repeated.loss, rel=1e-12)
    with pytest.raises(ValueError, match="weights must be >= 0"):
        houses.evaluate(HOUSES, -np.ones(120))
    with pytest.raises(ValueError, match="zero for every sample"):
        houses.evaluate(HOUSES, np.zeros(120))


def test_classes(sizes):
    labels = sizes.predict(SIZES)
    p = sizes.predict_proba(SIZES)
    assert list(sizes.classes) == ["large", "middle", "small"]
    np.testing.assert_array_equal(sizes.classes[p.argmax(axis=1)], labels)
    found = sizes.evaluate(SIZES)
    truth = SIZES["size"]
    assert found.accuracy == np.mean(labels == truth)
    chosen = p[np.arange(120), np.searchsorted(sizes.classes, truth)]
    assert found.log_loss == pytest.approx(-np.log(chosen).mean(), rel=1e-9)
    for entry in found.classes:
        given, called = truth == entry["label"], labels == entry["label"]
        assert entry["count"] == given.sum()
        assert entry["recall"] == pytest.approx((given & called).sum() / given.sum())
        assert entry["precision"] == pytest.approx((given & called).sum() / called.sum())
    assert np.sum(found.confusion) == 120 and "accuracy" in str(found)
    weighed = sizes.evaluate(SIZES, np.full(120, 0.5))
    assert weighed.accuracy == pytest.approx(found.accuracy)
    # A sum of weights is no number of rows.
    heads = [str(metrics).splitlines()[1].split() for metrics in (found, weighed)]
    assert [head[1] for head in heads] == ["count", "weights"]
    with pytest.raises(ValueError, match="std=True is for numbers"):
        sizes.predict(SIZES, std=True)


def test_labels_that_may_stand_together():
    net, theta = network((2, 4, 3), "tanh")
    model = model_of(net, theta, loss="logistic")
    X = np.random.default_rng(1).normal(size=(30, 2))
    given = (X[:, :1] > [-0.5, 0.0, 0.5]).astype(float)
    found = model.predict(X)
    assert found.shape == (30, 3) and set(np.unique(found)) <= {0, 1}
    np.testing.assert_array_equal(model.predict_proba(X) > 0.5, found == 1)
    metrics = model.evaluate((X, given))
    assert metrics.accuracy == np.mean((found == given).all(axis=1)) and metrics.confusion == ()
    assert [c["count"] for c in metrics.classes] == given.sum(axis=0).tolist()


def test_classes_of_numbers_keep_their_order():
    """The labels 2 and 10 are in numeric order in the estimators, not in that of their texts."""
    net, theta = network((2, 3, 3), "tanh")
    model = model_of(net, theta, loss="softmax_cross_entropy", classes=[-1, 2, 10])
    X = np.random.default_rng(1).normal(size=(40, 2))
    labels = model.predict(X)
    assert labels.dtype.kind == "i" and len(set(labels.tolist())) > 1
    assert model.evaluate((X, labels)).accuracy == 1.0


def test_two_classes_by_one_output():
    two = {**SIZES, "size": np.where(AREA > 100, "yes", "no")}
    model, _ = fg.fit(two, target="size", loss="logistic", **QUICK)
    assert model.network.n_outputs == 1
    p = model.predict_proba(two)
    np.testing.assert_allclose(p.sum(axis=1), 1.0)
    assert np.mean(model.predict(two) == two["size"]) > 0.9
    with pytest.raises(ValueError, match="needs two classes, got 3"):
        fg.fit(SIZES, target="size", loss="logistic", **QUICK)
    with pytest.raises(ValueError, match="needs classes: read the table with categorical"):
        fg.fit(HOUSES, target="price", loss="logistic", **QUICK)


def test_posterior(tmp_path):
    noise = np.random.default_rng(1).normal(0, 5000, 120)
    noisy = {**HOUSES, "price": HOUSES["price"] + noise}
    model, result = fg.fit(noisy, target="price", posterior=True, **QUICK)
    assert result.evidence is not None and model.l2 == result.evidence.l2
    mean, deviation = model.predict(noisy, std=True)
    np.testing.assert_array_equal(mean, model.predict(noisy))
    assert 0.85 < np.mean(np.abs(mean - noisy["price"]) < 2 * deviation) <= 1.0
    model.save(tmp_path / "m.npz")
    again = fg.Model.load(tmp_path / "m.npz").predict(noisy, std=True)
    np.testing.assert_array_equal(again[0], mean)
    np.testing.assert_allclose(again[1], deviation, rtol=1e-9)
    with pytest.raises(ValueError, match="a posterior is kept for up to 5000 parameters"):
        fg.fit(noisy, (80, 80), target="price", posterior=True)


def test_posterior_of_classes():
    model, _ = fg.fit(SIZES, target="size", posterior=True, **QUICK)
    p = model.predict_proba(SIZES)
    np.testing.assert_allclose(p.sum(axis=1), 1.0)
    sharp = replace(model, posterior=None).predict_proba(SIZES)
    assert p.max(axis=1).mean() < sharp.max(axis=1).mean()  # moderated
    chosen = p[np.arange(120), np.searchsorted(model.classes, SIZES["size"])]
    assert model.evaluate(SIZES).log_loss == pytest.approx(-np.log(chosen).mean(), rel=1e-9)


def test_what_a_model_tells(houses, sizes):
    assert repr(houses).startswith("Model F(4,4,1): area, rooms, kind -> price; squared loss, max")
    assert "size (3 classes)" in repr(sizes)
    assert houses.training["notes"][-1] == "18 of 120 rows are held out"
    assert houses.training["n_training"] == 102 and houses.versions["fastggn"] == fg.__version__
    assert len(houses.history["loss"]) == 15


# The rows that are held out.


def test_forms_of_held_out():
    mask = np.arange(120) % 4 == 0
    fold = {**HOUSES, "fold": mask.astype(float)}
    models = [
        fg.fit(HOUSES, target="price", held_out=mask, **QUICK)[0],
        fg.fit(HOUSES, target="price", held_out=np.flatnonzero(mask), **QUICK)[0],
        fg.fit(fold, target="price", held_out="fold", **QUICK)[0],
    ]
    for model in models:
        np.testing.assert_array_equal(model.theta, models[0].theta)
        held = model.parts(HOUSES)["held-out"]
        np.testing.assert_array_equal(held.Y[:, 0], HOUSES["price"][mask])
    table = fg.read_table(fold, target="price")
    with pytest.raises(ValueError, match=r"'fold' is an input too: .* drop=\['fold'\]"):
        fg.fit(table, held_out="fold")
    dropped = fg.read_table(fold, target="price", drop=["fold"])
    again = fg.fit(dropped, held_out="fold", **QUICK)[0]
    np.testing.assert_array_equal(again.theta, models[0].theta)


@pytest.mark.parametrize(
    ("held_out", "error", "words"),
    [
        (1.0, ValueError, "at least 0 and below 1"),
        (True, TypeError, "must be a share, row numbers, a mask"),
        ([0.5, 0.2], TypeError, "must be a share, row numbers, a mask"),
        ([500], ValueError, "row 500 of 120 rows"),
        (np.ones(120, dtype=bool), ValueError, "chooses 120 of 120 rows"),
        ("nothing", ValueError, "there is no column 'nothing'"),
    ],
)
def test_bad_held_out(held_out, error, words):
    with pytest.raises(error, match=words):
        fg.fit(HOUSES, target="price", held_out=held_out, **QUICK)


def test_nothing_held_out_is_told():
    few = {name: values[:20] for name, values in HOUSES.items()}
    with pytest.warns(fg.FastGGNWarning, match="held out; 145 parameters face 20 equations"):
        model, _ = fg.fit(few, 24, target="price", seed=0, max_iter=2)
    assert model.split is None and list(model.parts(few)) == ["training"]
    with warnings.catch_warnings():
        warnings.simplefilter("error", fg.FastGGNWarning)
        model, _ = fg.fit(HOUSES, 2, target="price", held_out=0, seed=0, max_iter=2)
    note = "nothing is held out; 13 parameters face 120 equations"
    assert model.training["notes"][-1] == note


def test_weights_and_first_weights():
    rng = np.random.default_rng(3)
    X, Y = rng.standard_normal((80, 2)), rng.standard_normal((80, 2))
    weights = rng.uniform(0, 2, (80, 2))
    rows = rng.permutation(80)[:20]
    rest = np.setdiff1d(np.arange(80), rows)
    options = dict(hidden=3, seed=4, max_iter=5, held_out=rows)
    model, result = fg.fit((X, Y), sample_weight=weights, init="he", **options)
    problem = model.problem((X[rest], Y[rest]), sample_weight=weights[rest])
    watched = model.problem((X[rows], Y[rows]), sample_weight=weights[rows])
    held_out = fg.HeldOut(watched, patience=20)
    start = model.network.init(4, "he")
    same = fg.train(problem, start, seed=4, max_iter=5, held_out=held_out)
    assert np.array_equal(result.theta, same.theta)
    by_row, _ = fg.fit((X, Y), sample_weight=weights[:, 0], theta0=start, **options)
    both, _ = fg.fit((X, Y), sample_weight=weights[:, :1].repeat(2, 1), init="he", **options)
    np.testing.assert_allclose(by_row.theta, both.theta, rtol=1e-8)
    several, _ = fg.fit((X, Y), init="he", starts=2, **options)
    assert not np.array_equal(several.theta, model.theta)
    with pytest.raises(ValueError, match="one row for each of the 80 rows"):
        fg.fit((X, Y), sample_weight=weights[:30], **options)
    with pytest.raises(ValueError, match="scheme"):
        fg.fit((X, Y), init="best", **options)


def test_a_test_part_and_starts():
    model, result = fg.fit(HOUSES, target="price", test=0.1, starts=3, **QUICK)
    parts = model.parts(HOUSES)
    sizes = {name: part.n_rows for name, part in parts.items()}
    assert sum(sizes.values()) == 120 and sizes["test"] in (12, 13)
    alone = fg.fit(HOUSES, target="price", test=0.1, **QUICK)[1]
    assert result.best_validation_loss <= alone.best_validation_loss
    with pytest.raises(ValueError, match="starts must be at least 1"):
        fg.fit(HOUSES, target="price", starts=0)


# Mistakes.


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (([[1.0, 2.0]] * 9, np.ones(9)), TypeError, r"hidden must be .* fg.fit\(\(X, y\)\)"),
        ((HOUSES, "price"), TypeError, "target='price'"),
        ((HOUSES, (3, 0)), ValueError, r"hidden\[1\] must be at least 1"),
        (({"a": [1.0], "b": [2.0]},), ValueError, "1 row; a fit needs at least 2"),
        (({"a": [1.0, 2.0], "b": ["x", "x"]},), ValueError, "target 'b' has one class, 'x'"),
        (({"a": [1.0, np.nan], "b": [2.0, 3.0]},), ValueError, "column 'a' .* 1 missing value"),
    ],
)
def test_mistakes(arguments, error, words):
    with pytest.raises(error, match=words):
        fg.fit(*arguments)


def test_mistakes_with_tables():
    table = fg.read_table(HOUSES, target="price")
    with pytest.raises(ValueError, match="give target= to read_table"):
        fg.fit(table, target="area")
    with pytest.raises(TypeError, match="epochs"):
        fg.fit(table, 2, epochs=5)


def test_targets_outside_a_bounded_output():
    with pytest.raises(ValueError, match=r"'price' runs from .* 'sigmoid' from 0 to 1"):
        fg.fit(HOUSES, 2, target="price", output_activation="sigmoid")
    share = {"x": AREA, "y": (AREA - AREA.min()) / (AREA.max() - AREA.min())}
    model, _ = fg.fit(share, 2, target="y", output_activation="sigmoid", seed=0, max_iter=20)
    assert model.target_scaler is None and 0.0 < model.predict(share).min() < 0.2


@pytest.mark.filterwarnings("ignore::fastggn.SingularSystemWarning")  # at the exact fit
def test_notes_on_columns():
    table = {"a": AREA, "same": np.full(120, 7.0), "grade": ROOMS}
    model, _ = fg.fit(table, 2, seed=0, max_iter=2)
    assert "input 'same' is constant in the training rows" in model.training["notes"]
    advice = "target 'grade' holds 6 different whole numbers: if they are classes, read the table"
    assert any(note.startswith(advice) for note in model.training["notes"])
    flat, _ = fg.fit({"a": AREA, "b": np.full(120, 3.0)}, 2, seed=0, max_iter=5)
    assert "target 'b' is constant in the training rows" in flat.training["notes"]
    np.testing.assert_allclose(flat.predict({"a": AREA}), 3.0, atol=1e-3)
    assert np.isnan(flat.evaluate({"a": AREA, "b": np.full(120, 3.0)}).targets[0]["r2"])


def test_powers_of_two_give_the_same_bits():
    """Inputs and targets in other units: the same bits of the scaled predictions."""
    base, _ = fg.fit((np.column_stack([AREA, ROOMS]), HOUSES["price"]), **QUICK)
    expected = base.predict(np.column_stack([AREA, ROOMS]))
    for a, b, c in ((2.0**20, 2.0**-30, 2.0**7), (2.0**-400, 2.0**300, 2.0**-500)):
        X = np.column_stack([a * AREA, b * ROOMS])
        model, _ = fg.fit((X, c * HOUSES["price"]), **QUICK)
        np.testing.assert_array_equal(model.theta, base.theta)
        np.testing.assert_array_equal(model.predict(X), c * expected)


def test_powers_of_ten_end_alike():
    statuses, errors = set(), []
    for factor in (1e-12, 1.0, 1e9):
        X = factor * np.column_stack([AREA, ROOMS])
        model, result = fg.fit((X, HOUSES["price"] / factor), **QUICK)
        statuses.add((result.status, result.n_iter))
        errors.append(np.abs(model.predict(X) * factor / HOUSES["price"] - 1).max())
    assert len(statuses) == 1
    np.testing.assert_allclose(errors, errors[1], rtol=1e-3)


# Files.


@pytest.mark.parametrize("bias", ["free", "none", [[1.0, 2.0, 3.0, 4.0], [0.5, -0.1]]])
def test_round_trip(tmp_path, bias):
    net = fg.MLP((3, 4, 2), "softplus", "sigmoid", bias)
    scaler = Scaler.at([1.0, 2.0, 3.0], [0.1, 1.0, 10.0])
    model = fg.Model.of(net, net.init(seed=1), input_scaler=scaler)
    model.save(tmp_path / "m.npz")
    again = fg.Model.load(tmp_path / "m.npz")
    np.testing.assert_array_equal(again.theta, model.theta)
    assert again.network.to_config() == net.to_config() and again.loss.name == "squared"
    X = np.random.default_rng(1).normal(size=(5, 3))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))


def test_all_facts_survive(houses, sizes, tmp_path):
    for model, table in ((houses, HOUSES), (sizes, SIZES)):
        model.save(tmp_path / "m.npz")
        again = fg.Model.load(tmp_path / "m.npz")
        np.testing.assert_array_equal(again.predict(table), model.predict(table))
        assert again.recipe == model.recipe and again.split == model.split
        assert again.training == model.training and again.digest == model.digest
        assert {k: list(v) for k, v in again.history.items()} == dict(model.history)
        assert repr(again) == repr(model)
        assert str(again.evaluate(table)) == str(model.evaluate(table))
        again.save(tmp_path / "n.npz")  # the same model gives the same bytes
        assert (tmp_path / "n.npz").read_bytes() == (tmp_path / "m.npz").read_bytes()


class Absolute:
    """A loss of the user."""

    name = "absolute"
    convex = True

    def value(self, F, Y):
        return 0.5 * ((F - Y) ** 2).sum(axis=1)

    def gradient(self, F, Y):
        return F - Y

    def hessian(self, F, Y):
        return np.broadcast_to(np.eye(F.shape[1]), (len(F), F.shape[1], F.shape[1]))

    def hessian_sqrt(self, F, Y):
        return self.hessian(F, Y)


def test_custom_functions_are_given_at_loading(tmp_path):
    sine = cases.sine()
    model, _ = fg.fit(
        HOUSES, 2, target="price", activation=sine, loss=Absolute(), seed=0, max_iter=2
    )
    path = tmp_path / "m.npz"
    model.save(path)
    with pytest.raises(fg.ModelFileError, match="custom activation 'sine' is not stored"):
        fg.Model.load(path)
    with pytest.raises(fg.ModelFileError, match="custom loss 'absolute' is not stored"):
        fg.Model.load(path, activations={"sine": sine})
    again = fg.Model.load(path, activations={"sine": sine}, losses={"absolute": Absolute()})
    np.testing.assert_array_equal(again.predict(HOUSES), model.predict(HOUSES))


PREDICT = """
import sys, numpy as np, fastggn as fg
model = fg.Model.load(sys.argv[1])
with np.load(sys.argv[2]) as file:
    rows = dict(file)
np.save(sys.argv[3], model.predict(rows))
"""


@pytest.mark.process
def test_a_new_process_predicts_the_same_bits(houses, tmp_path):
    houses.save(tmp_path / "m.npz")
    np.savez(tmp_path / "rows.npz", **{k: HOUSES[k] for k in ("kind", "area", "rooms")})
    arguments = [str(tmp_path / name) for name in ("m.npz", "rows.npz", "out.npy")]
    subprocess.run(
        [sys.executable, "-c", PREDICT, *arguments],
        check=True,
        timeout=HANGS,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), houses.predict(HOUSES))


@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_every_damage_is_an_error(houses, tmp_path, count):
    """Changed bytes and cuts: the seal finds each before anything is read."""
    houses.save(tmp_path / "m.npz")
    data = (tmp_path / "m.npz").read_bytes()
    path = tmp_path / "damaged.npz"
    rng = np.random.default_rng(1)
    for position in rng.integers(len(data), size=count):
        changed = bytearray(data)
        changed[position] ^= 1 << rng.integers(8)
        path.write_bytes(changed)
        with pytest.raises(fg.ModelFileError, match=r"damaged\.npz"):
            fg.Model.load(path)
    for length in rng.integers(len(data), size=count // 3):
        path.write_bytes(data[:length])
        with pytest.raises(fg.ModelFileError, match=r"damaged\.npz"):
            fg.Model.load(path)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"network": None}, r"m\.npz"),
        ({"network": {"widths": [3, 4, 2]}}, "lacks activations, bias"),
        ({"recipe": {"inputs": []}}, "lacks 'targets'|lacks"),
        ({"theta": np.ones(5)}, "theta must have shape"),
        ({"theta": np.full(25, np.inf)}, r"theta\[0\] is inf"),
        ({"loss": {"name": "cubed"}}, "loss 'cubed' is unknown"),
        ({"training": 3}, r"m\.npz"),
        ({"input_scaler": {"mean": [0.0]}}, "lacks"),
    ],
)
def test_a_sealed_file_with_wrong_parts(houses, tmp_path, change, match):
    path = tmp_path / "m.npz"
    houses.save(path)
    write_sealed(path, "model", {**read_sealed(path, "model"), **change})
    with pytest.raises(fg.ModelFileError, match=match):
        fg.Model.load(path)


def test_foreign_and_missing_files(tmp_path):
    np.savez(tmp_path / "foreign.npz", theta=np.ones(3))
    (tmp_path / "text.npz").write_text("not a zip file " * 20)
    (tmp_path / "empty.npz").write_bytes(b"")
    write_sealed(tmp_path / "sealed.npz", "checkpoint", {"a": np.ones(2)})
    for name in ("foreign", "text", "empty", "sealed"):
        with pytest.raises(fg.ModelFileError, match=f"{name}.npz"):
            fg.Model.load(tmp_path / f"{name}.npz")
    with pytest.raises(FileNotFoundError, match="no such file; did you mean 'empty.npz'"):
        fg.Model.load(tmp_path / "emtpy.npz")
    with pytest.raises(ValueError, match="this is a folder"):
        fg.Model.load(tmp_path)


def test_parts_that_do_not_belong_together():
    net, theta = network((2, 3, 1), "tanh")
    with pytest.raises(ValueError, match=r"theta must have shape \(13,\)"):
        fg.Model.of(net, theta[:3])
    recipe = fg.Model.of(net, theta).recipe
    with pytest.raises(ValueError, match="the recipe has 2 inputs, the network takes 3"):
        wide = fg.MLP((3, 1))
        fg.Model(wide, wide.init(0), fg.losses.get_loss("squared"), recipe)
    with pytest.raises(ValueError, match="the targets need 3 outputs, the network has 1"):
        fg.Model.of(net, theta, "softmax_cross_entropy", ["a", "b", "c"])


WRITER = """
import sys, numpy as np
from fastggn.runtime.archive import write_sealed
k = 0
while True:
    k += 1
    write_sealed(sys.argv[1], "model", {"theta": np.full(20_000, float(k))})
    print(k, flush=True)
"""


@pytest.mark.process
def test_a_kill_during_a_save_leaves_a_whole_file(tmp_path):
    path = tmp_path / "model.npz"
    rng = np.random.default_rng(0)
    for _ in range(4):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        writer.stdout.readline()
        time.sleep(rng.uniform(0, 0.05))
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        theta = read_sealed(path, "model")["theta"]
        assert theta.shape == (20_000,) and (theta == theta[0]).all()


def test_a_training_is_never_lost_with_its_posterior(monkeypatch):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 2))
    with pytest.raises(ValueError, match="no likelihood"):
        fg.fit((X, X[:, 0]), 3, loss="huber", posterior=True, max_iter=10**9)

    def fail(*arguments):
        raise MemoryError("no room")

    monkeypatch.setattr("fastggn.model.fit.laplace", fail)
    with pytest.warns(fg.FastGGNWarning, match="no posterior: no room"):
        model, result = fg.fit((X, X[:, 0]), 3, posterior=True, max_iter=5, seed=0)
    assert model.posterior is None and model.predict(X).shape == (60,)


def test_patience():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((80, 2))
    data = X, np.sin(X[:, 0]) + rng.standard_normal(80)
    _, early = fg.fit(data, 10, patience=1, max_iter=60, seed=0)
    _, whole = fg.fit(data, 10, patience=None, max_iter=60, seed=0)
    assert early.status == "early_stopped" and early.n_iter < 60
    assert whole.status != "early_stopped"
