"""scikit-learn's perceptrons from and to networks."""

import warnings

import numpy as np
import pytest
from interchange_cases import (
    ARCHITECTURES,
    difference,
    model_of,
    network,
    parts,
    raw_outputs,
    samples,
    scaling,
)

import fastggn as fg

pytest.importorskip("sklearn", reason="scikit-learn is absent: the extra sklearn")
pd = pytest.importorskip("pandas", reason="pandas is absent: the extra sklearn")
from sklearn.base import clone  # noqa: E402
from sklearn.compose import TransformedTargetRegressor  # noqa: E402
from sklearn.exceptions import ConvergenceWarning  # noqa: E402
from sklearn.neural_network import MLPClassifier, MLPRegressor  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import MinMaxScaler, StandardScaler  # noqa: E402

NAMES = {"identity": "identity", "logistic": "sigmoid", "tanh": "tanh", "relu": "relu"}


def fitted(kind, hidden, activation, X, y):
    estimator = kind(
        hidden_layer_sizes=hidden, activation=activation, solver="lbfgs", max_iter=8, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return estimator.fit(X, y)


def softmax(Z):
    e = np.exp(Z - Z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("widths", ARCHITECTURES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_regressors_both_ways(name, widths):
    X = samples(widths[0])
    y = np.sin(X[:, :1] + np.arange(widths[-1]))
    estimator = fitted(MLPRegressor, widths[1:-1], name, X, y if widths[-1] > 1 else y[:, 0])
    net, theta = parts(fg.interchange.from_sklearn(estimator))
    assert net.widths == widths and {a.name for a in net.activations[:-1]} <= {NAMES[name]}
    assert difference(estimator.predict(X), net.predict(theta, X)) < 1e-12
    back = fg.interchange.to_sklearn(model_of(net, theta))
    if len(widths) > 2:
        assert back.activation == name
    assert back.hidden_layer_sizes == widths[1:-1]
    for one, other in zip(back.coefs_ + back.intercepts_,
                          estimator.coefs_ + estimator.intercepts_, strict=True):  # fmt: skip
        np.testing.assert_array_equal(one, other)
    assert back.predict(X).shape == estimator.predict(X).shape
    np.testing.assert_array_equal(back.predict(X), estimator.predict(X))
    again, vector = parts(fg.interchange.from_sklearn(back))
    assert (vector == theta).all() and again.bias == net.bias


@pytest.mark.parametrize("bias", ("free", "none", "fixed"))
def test_biases_and_scalings_of_a_regressor(bias):
    net, theta = network((3, 5, 4, 2), "tanh", bias)
    inputs, targets = scaling(3), scaling(2, 1)
    X = samples(3)
    estimator = fg.interchange.to_sklearn(model_of(net, theta, inputs, targets))
    expected = raw_outputs(net, theta, X, inputs, targets)
    assert difference(estimator.predict(X), expected) < 1e-12
    plain = fg.interchange.to_sklearn(model_of(net, theta))
    assert difference(plain.predict(X), net.predict(theta, X)) < 1e-12


def test_float32_weights_are_exact():
    X = samples(2).astype(np.float32)
    estimator = fitted(MLPRegressor, (4,), "tanh", X, X[:, 0])
    net, theta = parts(fg.interchange.from_sklearn(estimator))
    assert theta.dtype == np.float64
    assert difference(estimator.predict(X), net.predict(theta, X)) < 1e-6
    np.testing.assert_array_equal(net.unpack(theta)[0][:, :-1], estimator.coefs_[0].T)


@pytest.mark.parametrize("labels", (["no", "yes"], ["c", "a", "b"], [7, 3, 5, 4]), ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_classifiers_from_sklearn(name, labels):
    X = samples(2)
    y = np.array(labels)[np.arange(len(X)) % len(labels)]
    estimator = fitted(MLPClassifier, (5, 4), name, X, y)
    net, theta = parts(fg.interchange.from_sklearn(estimator))
    scores = net.predict(theta, X)
    probabilities = estimator.predict_proba(X)
    if len(labels) == 2:
        assert net.n_outputs == 1
        np.testing.assert_allclose(1 / (1 + np.exp(-scores[:, 0])), probabilities[:, 1], atol=1e-12)
    else:
        np.testing.assert_allclose(softmax(scores), probabilities, atol=1e-12)
    model = fg.interchange.from_sklearn(estimator)
    assert list(model.classes) == list(estimator.classes_)
    np.testing.assert_allclose(model.predict_proba(X), probabilities, atol=1e-12)
    np.testing.assert_array_equal(model.predict(X), estimator.predict(X))
    back = fg.interchange.to_sklearn(model)
    np.testing.assert_array_equal(back.predict_proba(X), probabilities)
    np.testing.assert_array_equal(back.predict(X), estimator.predict(X))
    assert (back.classes_ == estimator.classes_).all()
    assert back.score(X, y) == estimator.score(X, y)


@pytest.mark.parametrize("bias", ("free", "none"))
@pytest.mark.parametrize(
    "labels", (["no", "yes"], ["yes", "no"], ["c", "a", "b"], [7, 3, 5, 4], [True, False]), ids=str
)
def test_classifiers_to_sklearn(labels, bias):
    """Labels in the order of the outputs, whatever scikit-learn's own order."""
    net, theta = network((3, 6, len(labels)), "relu", bias)
    inputs = scaling(3)
    X = samples(3)
    labels = [str(label) if isinstance(label, bool) else label for label in labels]
    model = model_of(net, theta, inputs, loss="softmax_cross_entropy", classes=labels)
    estimator = fg.interchange.to_sklearn(model)
    scores = net.predict(theta, (X - inputs[0]) / inputs[1])
    expected = np.array(labels)[scores.argmax(axis=1)]
    np.testing.assert_array_equal(estimator.predict(X), expected)
    columns = [list(estimator.classes_).index(label) for label in labels]
    np.testing.assert_allclose(estimator.predict_proba(X)[:, columns], softmax(scores), atol=1e-12)


@pytest.mark.parametrize("output", ("identity", "sigmoid"))
@pytest.mark.parametrize("labels", (["no", "yes"], ["yes", "no"], [0, 1]), ids=str)
def test_one_output_for_two_classes(labels, output):
    net, theta = network((3, 6, 1), "tanh", output=output)
    X = samples(3)
    estimator = fg.interchange.to_sklearn(model_of(net, theta, None, None, "logistic", labels))
    score = net.predict(theta, X)[:, 0]
    second = score if output == "sigmoid" else 1.0 / (1.0 + np.exp(-score))
    column = list(estimator.classes_).index(labels[1])
    np.testing.assert_allclose(estimator.predict_proba(X)[:, column], second, atol=1e-12)


def test_several_labels():
    X = samples(2)
    estimator = fitted(MLPClassifier, (4,), "tanh", X, (X > 0.0).astype(int))
    model = fg.interchange.from_sklearn(estimator)
    net, theta = parts(model)
    assert (model.predict(X) == estimator.predict(X)).all()
    found = 1.0 / (1.0 + np.exp(-net.predict(theta, X)))
    np.testing.assert_allclose(found, estimator.predict_proba(X), atol=1e-12)


def test_an_estimator_goes_on_and_can_be_cloned():
    net, theta = network((2, 3, 1), "tanh")
    estimator = fg.interchange.to_sklearn(model_of(net, theta))
    assert clone(estimator).hidden_layer_sizes == (3,)
    X = samples(2)
    before = estimator.coefs_[0].copy()
    estimator.partial_fit(X, X[:, 0])
    assert 0.0 < np.abs(estimator.coefs_[0] - before).max() < 0.01  # a small step from there
    assert estimator.n_iter_ == 1


@pytest.mark.parametrize(
    "arguments, classes, message",
    [
        (((2, 3, 1), "softplus"), None, "one activation .* identity, sigmoid, tanh, relu"),
        (((2, 3, 4, 1), ["tanh", "relu"]), None, "the network has tanh, relu"),
        (((2, 3, 1), "tanh", "free", "sigmoid"), None, "identity output .* not 'sigmoid'"),
        (((2, 3, 1), "tanh", "free", "tanh"), [0, 1], "must be scores"),
        (((2, 3, 2), "tanh", "free", "sigmoid"), [0, 1], "must be scores"),
    ],
)
def test_what_scikit_learn_has_not(arguments, classes, message):
    net, theta = network(*arguments)
    loss = "squared" if classes is None else "softmax_cross_entropy"
    loss = "logistic" if classes and net.n_outputs == 1 else loss
    with pytest.raises(ValueError, match=message):
        fg.interchange.to_sklearn(model_of(net, theta, loss=loss, classes=classes))


def test_pipelines_keep_scales_and_names():
    """StandardScaler steps, scaled targets and column names become parts of the model."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"area": rng.uniform(30, 200, 60), "age": rng.uniform(1e6, 1e6 + 9, 60)})
    price = 1000.0 * frame["area"] + 5e4
    network = MLPRegressor(
        hidden_layer_sizes=4, activation="tanh", solver="lbfgs", max_iter=20, random_state=0
    )
    steps = make_pipeline(StandardScaler(), "passthrough", StandardScaler(with_std=False), network)
    estimator = TransformedTargetRegressor(steps, transformer=StandardScaler())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator.fit(frame, price)
    model = fg.interchange.from_sklearn(estimator)
    assert model.recipe.input_names == ("area", "age")
    found = model.predict(frame[["age", "area"]])  # by name
    np.testing.assert_allclose(found, estimator.predict(frame), rtol=1e-9)
    ours = make_pipeline(StandardScaler(), fg.GGNRegressor(3, random_state=0, max_iter=5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        ours.fit(frame, price)
    inner = fg.interchange.from_sklearn(ours)
    np.testing.assert_allclose(inner.predict(frame.to_numpy()), ours.predict(frame), rtol=1e-9)
    with pytest.raises(TypeError, match="'minmaxscaler' is a MinMaxScaler; only a StandardScaler"):
        fg.interchange.from_sklearn(make_pipeline(MinMaxScaler(), network))
    with pytest.raises(ValueError, match="step 'standardscaler' is not fitted"):
        fg.interchange.from_sklearn(make_pipeline(StandardScaler(), network))
    with pytest.raises(ValueError, match="TransformedTargetRegressor is not fitted"):
        fg.interchange.from_sklearn(TransformedTargetRegressor(network))


def test_what_cannot_be_read():
    with pytest.raises(TypeError, match="estimator must be an MLPRegressor .* not int"):
        fg.interchange.from_sklearn(3)
    with pytest.raises(ValueError, match="the MLPRegressor is not fitted"):
        fg.interchange.from_sklearn(MLPRegressor())
    estimator = fitted(MLPRegressor, (2,), "tanh", samples(2), samples(2)[:, 0])
    estimator.out_activation_ = "exp"  # of its Poisson loss
    with pytest.raises(ValueError, match="output 'exp' cannot be converted"):
        fg.interchange.from_sklearn(estimator)
