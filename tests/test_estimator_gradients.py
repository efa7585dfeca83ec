"""`GGNRegressor.fit` with gradients of the targets."""

import numpy as np
import pytest

import fastggn as fg

RNG = np.random.default_rng(0)
X = RNG.uniform((-1, 100), (1, 300), (60, 2))
TEST = RNG.uniform((-1, 100), (1, 300), (500, 2))


def surface(X):
    """Return values and gradients, of very different units."""
    a, b = 3 * X[:, 0], (X[:, 1] - 200) / 40
    y = 1000 * np.sin(a) * np.cos(b)
    return y, np.stack([3000 * np.cos(a) * np.cos(b), -25 * np.sin(a) * np.sin(b)], axis=-1)


def model(**options):
    given = {"hidden_layer_sizes": 15, "alpha": 1e-8, "max_iter": 80, "tol": 0, "random_state": 0}
    return fg.GGNRegressor(**{**given, **options})


@pytest.fixture(scope="module")
def fitted():
    y, gradients = surface(X)
    with pytest.warns(UserWarning):  # it has not settled
        return model().fit(X, y), model().fit(X, y, gradients=gradients)


def test_gradients_lower_the_error(fitted):
    errors = [np.std(one.predict(TEST) - surface(TEST)[0]) for one in fitted]
    assert errors[1] < errors[0] / 3


def test_derivatives_are_in_the_units_of_the_data(fitted):
    y, gradients = surface(X)
    for j, step in enumerate((1e-5, 1e-3)):
        h = step * np.eye(2)[j]
        slopes = (fitted[1].predict(X + h) - fitted[1].predict(X - h)) / (2 * step)
        assert np.std(slopes - gradients[:, j]) < 0.05 * np.std(gradients[:, j])


def test_forms_that_say_the_same():
    y, gradients = surface(X)
    weights = np.ones(60)
    weights[50:] = 0.0
    kept = model(max_iter=5).fit
    with pytest.warns(UserWarning):
        one = kept(X[:50], y[:50], gradients=gradients[:50]).theta_
        other = kept(X, y[:, None], weights, gradients=gradients[:, None]).theta_
        plain = model(max_iter=5, standardize_inputs=False, standardize_outputs=False)
        plain.fit(X, y, gradients=gradients)
        both = model(max_iter=5, early_stopping=True, loss="huber")
        both.fit(X, np.stack([y, 2 * y], axis=-1), gradients=np.stack([gradients] * 2, axis=1))
    np.testing.assert_allclose(one, other, rtol=1e-8)
    assert plain.n_iter_ == 5 and len(both.validation_scores_) == both.n_iter_


def test_refusals():
    y, gradients = surface(X)
    for given, message in (
        (gradients[:3], r"shape \(60, 1, 2\) or \(60, 2\).*got \(3, 2\)"),
        (gradients * np.nan, r"gradients\[0, 0, 0\] is nan"),
    ):
        with pytest.raises(ValueError, match=message):
            model().fit(X, y, gradients=given)
    with pytest.raises(TypeError, match="gradients must hold real numbers"):
        model().fit(X, y, gradients=[["a", "b"]] * 60)
    with pytest.raises(ValueError, match="do not go with regularization='bayesian'"):
        model(regularization="bayesian").fit(X, y, gradients=gradients)
    with pytest.raises(ValueError, match="relu"):
        model(activation="relu").fit(X, y, gradients=gradients)
