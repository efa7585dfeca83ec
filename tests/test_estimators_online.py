"""`partial_fit`: damped steps on samples that come in batches."""

import numpy as np
import pytest

import fastggn as fg
from fastggn.apps.sklearn.samples import Samples
from fastggn.apps.sklearn.scaling import Scalers, Seen


@pytest.fixture(scope="module")
def stream():
    X, Y = fg.data.friedman1(4000, seed=1)
    return X, Y[:, 0] if Y.ndim == 2 else Y


def test_one_pass_learns(stream):
    X, y = stream
    model = fg.GGNRegressor(15, random_state=0, batch_size=50)
    for start in range(0, 3000, 300):
        model.partial_fit(X[start : start + 300], y[start : start + 300])
    assert model.n_iter_ == 60 == len(model.loss_curve_)
    assert model.score(X[3000:], y[3000:]) > 0.9
    # Losses of batches before their own steps: an honest course.
    assert np.mean(model.loss_curve_[-10:]) < 0.2 * np.mean(model.loss_curve_[:3])


def test_the_same_samples_again_and_again(stream):
    X, y = stream
    model = fg.GGNRegressor(10, random_state=0)
    for _ in range(60):
        model.partial_fit(X[:300], y[:300])
    fitted = fg.GGNRegressor(10, random_state=0, max_iter=60, tol=1e-2).fit(X[:300], y[:300])
    assert model.score(X[:300], y[:300]) > 0.99 * fitted.score(X[:300], y[:300])


def test_first_batches_of_one_sample(stream):
    X, y = stream
    model = fg.GGNRegressor(5, random_state=0)
    for i in range(5):
        model.partial_fit(X[i : i + 1], y[i : i + 1])
    for start in range(5, 1505, 50):
        model.partial_fit(X[start : start + 50], y[start : start + 50])
    np.testing.assert_allclose(model.input_scaler_.mean, X[:1505].mean(axis=0))
    np.testing.assert_allclose(model.output_scaler_.scale, y[:1505].std())
    assert model.score(X[3000:], y[3000:]) > 0.7


def test_units_do_not_change_the_function():
    rng = np.random.default_rng(0)
    net = fg.MLP((3, 4, 2))
    theta = net.init(0, scheme="normal")
    first, second = (
        Samples(rng.normal(size=(30, 3)) * s + s, rng.normal(size=(30, 2)) * s - 4 * s)
        for s in (2.0, 50.0)
    )
    seen = Seen(first, inputs=True, targets=True)
    before = seen.scalers()
    seen.add(second)
    after = seen.scalers()
    moved = before.carry(net, theta, after)
    points = Samples(rng.normal(size=(7, 3)), np.zeros((7, 2)))

    def outputs(scalers, parameters):
        rows = net.predict(parameters, scalers.scaled(points).X)
        return rows * scalers.targets.scale + scalers.targets.mean

    np.testing.assert_allclose(outputs(after, moved), outputs(before, theta), rtol=1e-12)
    np.testing.assert_allclose(after.carry(net, moved, before), theta, rtol=1e-10, atol=1e-12)
    linear = fg.MLP((3, 2))
    theta = linear.init(1, scheme="normal")
    rows = linear.predict(before.carry(linear, theta, Scalers()), points.X)
    expected = linear.predict(theta, before.scaled(points).X)
    np.testing.assert_allclose(
        rows, expected * before.targets.scale + before.targets.mean, rtol=1e-12
    )


def test_classes_one_after_the_other():
    X, _ = fg.data.four_regions(2000, seed=0)
    names = np.array(["a", "b", "c", "d"])[fg.data.four_regions_class(X) - 1]
    batches = [slice(start, start + 200) for start in range(0, 1400, 200)]
    model = fg.GGNClassifier(15, random_state=0)
    with pytest.raises(ValueError, match="class"):
        fg.GGNClassifier().partial_fit(X[names == "a"], names[names == "a"])
    for rows in batches * 4:
        model.partial_fit(X[rows], names[rows], classes=["d", "a", "b", "c"])
    assert model.score(X[1540:], names[1540:]) > 0.8  # the largest class is 0.56 of them
    with pytest.raises(ValueError, match="differ from those of the first call"):
        model.partial_fit(X[:9], names[:9], classes=["a", "b"])
    with pytest.raises(ValueError, match="not among those known"):
        model.partial_fit(X[:2], ["a", "e"])


def test_goes_on_from_fit(stream):
    X, y = stream
    model = fg.GGNRegressor(8, random_state=0, max_iter=100, tol=0.1).fit(X[:500], y[:500])
    before, theta = model.predict(X[3000:]), model.theta_
    model.partial_fit(X[500:520], y[500:520])
    assert not np.array_equal(theta, model.theta_) and model.result_ is None
    assert model.score(X[3000:], y[3000:]) > 0.8
    assert np.corrcoef(before, model.predict(X[3000:]))[0, 1] > 0.8


def test_refusals(stream):
    X, y = stream
    for parameters in ({"early_stopping": True}, {"regularization": "bayesian"}):
        with pytest.raises(ValueError, match="partial_fit does not go with"):
            fg.GGNRegressor(**parameters).partial_fit(X[:50], y[:50])
    with pytest.raises(AttributeError):
        _ = fg.GGNRegressor(method="newton").partial_fit
