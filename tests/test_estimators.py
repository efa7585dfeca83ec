"""Estimators: scikit-learn's own checks, and what they do not look at."""

import math
import pickle
import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
from patience import HANGS
from scipy.sparse import csc_matrix, csr_matrix
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris, load_wine, make_multilabel_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.utils.estimator_checks import parametrize_with_checks

import fastggn as fg
from fastggn.apps.sklearn import fitting
from fastggn.training.result import STATUSES

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 3)) * [1.0, 30.0, 0.01] + [0.0, 500.0, -2.0]
Z = (X - X.mean(axis=0)) / X.std(axis=0)
y = 40.0 + 7.0 * np.sin(Z[:, 0]) + Z[:, 1] * Z[:, 2]
LABELS = np.where(y > 43, "high", np.where(y > 37, "middle", "low"))
QUICK = {"hidden_layer_sizes": 6, "random_state": 0, "max_iter": 30}

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def noise(seed):
    """Numbers that do not depend on the order of the tests."""
    return np.random.default_rng(seed).standard_normal(120)


@parametrize_with_checks([fg.GGNRegressor(4), fg.GGNClassifier(4)])
@pytest.mark.filterwarnings("ignore::fastggn.DivergenceWarning")  # one class has all the weight
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.process
def test_absent_scikit_learn_names_the_extra():
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "import fastggn\n"
        "try:\n    fastggn.GGNRegressor\n"
        "except ImportError as error:\n    print(error)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=HANGS
    )
    assert "pip install 'fastggn[sklearn]'" in run.stdout


def test_fit_is_train_on_standardised_data():
    model = fg.GGNRegressor(**QUICK, alpha=0.3).fit(X, y)
    T = len(y)
    s = (y - y.mean()) / y.std()
    problem = fg.Problem(fg.MLP((3, 6, 1)), Z, s, l2=0.3 / T, penalize_biases=False)
    assert model.loss_ == pytest.approx(problem.loss(model.theta_), rel=1e-12)
    seed = int(np.random.RandomState(0).randint(np.iinfo(np.int32).max))
    result = fg.train(problem, seed=seed, method="auto", max_iter=30)
    assert model.loss_ == pytest.approx(result.loss, rel=1e-6)
    predicted = y.mean() + y.std() * problem.network.predict(result.theta, Z)[:, 0]
    np.testing.assert_allclose(model.predict(X), predicted, rtol=1e-6)


def test_loss_and_layers_are_those_of_mlp_regressor():
    two = np.column_stack([y, Z[:, 0] ** 2])
    model = fg.GGNRegressor(**QUICK, alpha=0.5).fit(X, two)
    targets = model.output_scaler_.apply(two)
    peer = MLPRegressor(hidden_layer_sizes=6, activation="tanh", max_iter=1, solver="lbfgs")
    peer.fit(Z, targets)
    peer.coefs_, peer.intercepts_ = model.coefs_, model.intercepts_
    np.testing.assert_allclose(peer.predict(Z), model.output_scaler_.apply(model.predict(X)))
    error = 0.5 * np.mean((peer.predict(Z) - targets) ** 2)
    penalty = 0.5 * 0.5 / len(y) * sum(float(np.sum(w**2)) for w in model.coefs_)
    assert model.loss_ == pytest.approx(error + penalty, rel=1e-12)
    assert model.loss_ == pytest.approx(model.result_.loss / 2, rel=1e-14)
    assert (model.n_layers_, model.n_outputs_, model.out_activation_) == (3, 2, "identity")
    assert model.best_loss_ == min(model.loss_curve_) and len(model.loss_curve_) == model.n_iter_


@pytest.mark.parametrize("kind", ["regressor", "two classes", "three classes", "labels"])
@pytest.mark.filterwarnings("ignore::fastggn.UnitsWarning")  # targets near 40, not scaled
def test_objective_is_that_of_scikit_learn_at_the_same_coefficients(kind):
    targets = {
        "regressor": np.column_stack([y, Z[:, 0] ** 2]),
        "two classes": y > 40,
        "three classes": LABELS,
        "labels": np.column_stack([y > 40, y > 42]).astype(int),
    }[kind]
    ours, theirs = (
        (fg.GGNRegressor, MLPRegressor)
        if kind == "regressor"
        else (fg.GGNClassifier, MLPClassifier)
    )
    peer = theirs(
        hidden_layer_sizes=(4, 3),
        activation="tanh",
        solver="lbfgs",
        alpha=2.0,
        max_iter=7,
        random_state=0,
    )
    peer.fit(Z, targets)  # its loss_ is the objective at its coefs_
    model = ours((4, 3), alpha=2.0, standardize_inputs=False, max_iter=1, random_state=0)
    if kind == "regressor":
        model.set_params(standardize_outputs=False)
    model.set_params(warm_start=True).fit(Z, targets)
    layers = [np.vstack([w, b]).T for w, b in zip(peer.coefs_, peer.intercepts_, strict=True)]
    model.model_ = replace(model.model_, theta=model.net_.pack(layers))
    model.set_params(max_iter=1).fit(Z, targets)
    share = 2 if kind == "regressor" else 1
    assert model.result_.initial_loss / share == pytest.approx(peer.loss_, rel=1e-12)


def test_shapes_of_targets():
    one = fg.GGNRegressor(**QUICK).fit(X, y[:, None])
    assert one.predict(X).shape == (120,)
    two = fg.GGNRegressor(**QUICK).fit(X, np.column_stack([y, -y]))
    np.testing.assert_allclose(two.predict(X)[:, 0], -two.predict(X)[:, 1], atol=3.0)
    with pytest.raises(ValueError, match="2 columns"):
        one.partial_fit(X, np.column_stack([y, y]))
    linear = fg.GGNRegressor((), alpha=0.0, random_state=0).fit(X, X @ [1.0, 2.0, 3.0])
    np.testing.assert_allclose(linear.predict(X), X @ [1.0, 2.0, 3.0], rtol=1e-9)


def test_weights_count_samples():
    weights = np.random.default_rng(1).integers(0, 4, size=120)
    weighted = fg.GGNRegressor(**QUICK).fit(X, y, sample_weight=weights)
    repeated = fg.GGNRegressor(**QUICK).fit(X.repeat(weights, axis=0), y.repeat(weights))
    np.testing.assert_allclose(weighted.predict(X), repeated.predict(X), rtol=1e-6)
    assert weighted.loss_ == pytest.approx(repeated.loss_, rel=1e-7)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_classes_are_all_labels_whatever_their_weight(early_stopping):
    """scikit-learn's convention; a sample of weight 0 does not move the fit."""
    quick = {**QUICK, "early_stopping": early_stopping}
    weights = (LABELS != max(LABELS)).astype(float)
    model = fg.GGNClassifier(**quick).fit(X, LABELS, sample_weight=weights)
    linear = LogisticRegression().fit(X, LABELS, sample_weight=weights)
    np.testing.assert_array_equal(model.classes_, linear.classes_)
    assert (model.predict(X) != max(LABELS)).all()
    assert model.predict_proba(X)[:, -1].max() < 0.1
    moved = np.where(weights[:, None] > 0.0, X, X + 1.0)
    other = fg.GGNClassifier(**quick).fit(moved, LABELS, sample_weight=weights)
    np.testing.assert_array_equal(model.theta_, other.theta_)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    ("first", "count"), [(0, 20), pytest.param(20, 100, marks=pytest.mark.slow)]
)
def test_no_weight_0_changes_the_classes_or_the_fit(first, count):
    """Random labels, as numbers or words, some of them with weights of 0 only."""
    for seed in range(first, first + count):
        rng = np.random.default_rng(seed)
        n_classes, T = int(rng.integers(2, 6)), int(rng.integers(20, 60))
        names = np.array(["a", "bb", "c", "d", "e"]) if seed % 2 else np.array([7, -1, 3, 0, 12])
        labels = np.append(names[:n_classes], names[rng.integers(0, n_classes, T - n_classes)])
        weights = rng.integers(0, 3, T) * (labels != names[0])
        if len(set(labels[weights > 0])) < 2 and n_classes > 2:
            continue
        inputs = rng.normal(size=(T, 3))
        model = fg.GGNClassifier(2, max_iter=3, random_state=seed)
        model.fit(inputs, labels, sample_weight=weights)
        np.testing.assert_array_equal(model.classes_, np.unique(labels))
        assert model.predict_proba(inputs).shape == (T, n_classes)
        moved = inputs + np.where(weights > 0, 0.0, rng.normal(size=T))[:, None]
        other = clone(model).fit(moved, labels, sample_weight=weights)
        np.testing.assert_array_equal(model.theta_, other.theta_)


@pytest.mark.parametrize(
    ("parameters", "error", "words"),
    [
        ({"hidden_layer_sizes": (3, 0)}, ValueError, r"hidden_layer_sizes\[1\] must be at least 1"),
        ({"hidden_layer_sizes": "20"}, TypeError, "hidden_layer_sizes must be"),
        ({"activation": "tan"}, ValueError, "did you mean 'tanh'"),
        ({"alpha": -1.0}, ValueError, "alpha must be"),
        ({"solver": "lbfgs"}, ValueError, "`method` names the optimiser"),
        ({"method": "sgd"}, ValueError, "method 'sgd' is unknown"),
        ({"loss": "squared_eror"}, ValueError, "did you mean 'squared_error'"),
        ({"loss": "softmax_cross_entropy"}, ValueError, "loss"),
        ({"regularization": "bayes"}, ValueError, "did you mean 'bayesian'"),
        ({"regularization": "bayesian", "early_stopping": True}, ValueError, "early_stopping"),
        ({"n_restarts": 0}, ValueError, "n_restarts must be at least 1"),
        ({"max_iter": -1}, ValueError, "max_iter"),
        ({"validation_fraction": 1.0}, ValueError, "validation_fraction"),
        ({"early_stopping": True, "validation_fraction": 1e-6}, ValueError, "sets aside less"),
        ({"tol": "small"}, TypeError, "tol must be"),
        ({"n_iter_no_change": 1.5}, TypeError, "n_iter_no_change"),
        ({"batch_size": 0}, ValueError, "batch_size"),
    ],
)
def test_bad_parameters(parameters, error, words):
    with pytest.raises(error, match=words):
        fg.GGNRegressor(**parameters).fit(X, y)


def test_bad_data():
    with pytest.raises(ValueError, match=r"weights must be >= 0"):
        fg.GGNRegressor().fit(X, y, sample_weight=-np.ones(120))
    with pytest.raises(ValueError, match="return_std=True needs"):
        fg.GGNRegressor(**QUICK).fit(X, y).predict(X, return_std=True)


def test_scikit_learns_names():
    logistic = fg.GGNRegressor(**QUICK, activation="logistic").fit(X, y)
    assert [a.name for a in logistic.net_.activations] == ["sigmoid", "identity"]
    mixed = fg.GGNRegressor((4, 3), ["relu", "logistic"], random_state=0, max_iter=2).fit(X, y)
    assert [a.name for a in mixed.net_.activations] == ["relu", "sigmoid", "identity"]
    robust = fg.GGNRegressor(**QUICK, loss=fg.losses.Huber(0.5)).fit(X, y)
    assert clone(robust).loss is not None and robust.score(X, y) > 0.8


def test_plateau_ends_a_run():
    model = fg.GGNRegressor(**{**QUICK, "max_iter": 1000}, tol=1e-2).fit(X, y + noise(0))
    assert model.result_.status == "converged_loss" and model.n_iter_ < 1000
    last = np.array(model.loss_curve_[-11:])
    assert (last[1:] > (1 - 1e-2) * np.minimum.accumulate(last)[:-1]).all()
    with pytest.warns(ConvergenceWarning, match="max_iter=3"):
        fg.GGNRegressor(**{**QUICK, "max_iter": 3}).fit(X, y)


def test_early_stopping_restores_the_best():
    noisy = y + 5.0 * noise(0)
    model = fg.GGNRegressor(
        20,
        random_state=0,
        early_stopping=True,
        n_iter_no_change=5,
        validation_fraction=0.3,
        alpha=0.0,
    ).fit(X, noisy)
    assert model.result_.status == "early_stopped"
    best = model.result_.best_iter
    assert best < model.n_iter_ == len(model.validation_scores_)
    # R^2 of one output is a function of the validation loss: both have their optimum there.
    assert int(np.argmax(model.validation_scores_)) == best - 1
    assert model.best_validation_score_ == max(model.validation_scores_)
    np.testing.assert_array_equal(model.theta_, model.result_.best_theta)
    endless = clone(model).set_params(n_iter_no_change=math.inf, max_iter=12).fit(X, noisy)
    assert endless.n_iter_ == 12
    np.testing.assert_array_equal(endless.theta_, endless.result_.best_theta)


def test_early_stopping_of_classes_and_labels():
    model = fg.GGNClassifier(**QUICK, early_stopping=True, validation_fraction=0.3)
    model.fit(X, LABELS, sample_weight=np.ones(120))
    assert 0.5 < model.best_validation_score_ <= 1.0
    several = np.column_stack([y > 40, y > 42]).astype(int)
    assert model.fit(X, several).best_validation_score_ > 0.3


def test_restarts_keep_the_best():
    alone = [
        fg.GGNRegressor(3, random_state=seed, max_iter=40).fit(X, y).loss_ for seed in range(4)
    ]
    assert len(set(alone)) == 4
    model = fg.GGNRegressor(3, random_state=0, max_iter=40, n_restarts=4).fit(X, y)
    assert model.loss_ <= alone[0]  # its first run starts where that one did
    hasty = fg.GGNRegressor(3, random_state=0, max_time=1e-6, n_restarts=50).fit(X, y)
    assert hasty.n_iter_ <= 1


@pytest.mark.parametrize("starts", [1, 3])
@pytest.mark.parametrize("kind", ["numbers", "classes"])
def test_an_estimator_is_a_fit(kind, starts):
    """Split, scales, starts and the choice among them are those of `fg.fit`: the same bits."""
    noisy = y + 2.0 * noise(0)
    targets = noisy if kind == "numbers" else LABELS
    estimator = fg.GGNRegressor if kind == "numbers" else fg.GGNClassifier
    model = estimator(
        6, method="lm", alpha=0.0, tol=0.0, max_iter=25, n_restarts=starts, random_state=0,
        early_stopping=True, validation_fraction=0.2, n_iter_no_change=5,
    ).fit(X, targets)  # fmt: skip
    seed = int(np.random.RandomState(0).randint(np.iinfo(np.int32).max))
    method = fg.LevenbergMarquardt() if kind == "numbers" else fg.LevenbergMarquardt(geodesic=False)
    loss = "auto" if kind == "numbers" else "softmax_cross_entropy"
    other, result = fg.fit(
        (X, targets), 6, held_out=0.2, patience=5, loss=loss, seed=seed, starts=starts,
        method=method, max_iter=25,
    )  # fmt: skip
    assert (model.result_.status, model.n_iter_) == (result.status, result.n_iter)
    np.testing.assert_array_equal(model.theta_, other.theta)
    np.testing.assert_array_equal(model.predict(X), other.predict(X))


def test_ctrl_c_in_a_later_start_ends_the_fit(monkeypatch):
    """The best start may be an earlier one, which ended by itself."""
    real, calls = fitting.train, []

    def train(*args, **options):
        result = real(*args, **options)
        calls.append(result.loss)
        later = {"status": "interrupted", "loss": np.inf} if len(calls) == 2 else {}
        return replace(result, **later)

    monkeypatch.setattr(fitting, "train", train)
    estimator = fg.GGNRegressor(3, max_iter=5, random_state=0, n_restarts=4)
    with pytest.raises(KeyboardInterrupt, match="after 1 of 4 starts"):
        estimator.fit(X, y)
    assert len(calls) == 2 and estimator.result_.loss == calls[0]


def test_warm_start_goes_on():
    model = fg.GGNRegressor(**{**QUICK, "max_iter": 4}, warm_start=True).fit(X, y)
    first = model.loss_
    again = model.fit(X, y)
    assert again.result_.initial_loss == pytest.approx(first, rel=1e-12)
    assert again.loss_ < first
    # New samples have other units; the function must be the same at the start.
    part = slice(0, 60)
    before = model.predict(X[part])
    scale = y[part].std()
    error = 0.5 * np.mean((before - y[part]) ** 2) / scale**2
    model.set_params(alpha=0.0, max_iter=1).fit(X[part], y[part])
    assert model.result_.initial_loss == pytest.approx(error, rel=1e-10)
    with pytest.raises(ValueError, match="warm_start goes on with the network"):
        model.set_params(hidden_layer_sizes=7).fit(X, y)


def test_random_state():
    a, b = (fg.GGNRegressor(**QUICK).fit(X, y) for _ in range(2))
    np.testing.assert_array_equal(a.theta_, b.theta_)
    c = fg.GGNRegressor(**{**QUICK, "random_state": np.random.RandomState(3)}).fit(X, y)
    assert not np.array_equal(a.theta_, c.theta_)


@pytest.mark.parametrize("method", ["newton", "adam", "bp", "ggn"])
def test_methods(method):
    noisy = y + noise(0)
    model = fg.GGNRegressor(4, method=method, random_state=0, max_iter=25, batch_size=None)
    if method == "adam":
        model.set_params(batch_size=32)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", fg.FastGGNWarning)  # "ggn" ascends, and says so
        model.fit(X, noisy)
    assert np.isfinite(model.predict(X)).all()
    assert not hasattr(model, "partial_fit")


def test_mini_batches_of_fit():
    model = fg.GGNRegressor(**QUICK, batch_size=1000).fit(X, y)  # more than there are samples
    assert model.score(X, y) > 0.9


def test_pickles():
    for model in (
        fg.GGNRegressor(**QUICK, regularization="bayesian").fit(X, y),
        fg.GGNClassifier(**QUICK).fit(X, LABELS),
    ):
        other = pickle.loads(pickle.dumps(model))
        np.testing.assert_array_equal(other.predict(X), model.predict(X))
        assert other.result_.message == model.result_.message
    deviation = pickle.loads(pickle.dumps(fg.GGNRegressor(**QUICK, regularization="bayesian")))
    assert deviation.get_params()["regularization"] == "bayesian"


def test_bayesian():
    D, t = load_diabetes(return_X_y=True)
    model = fg.GGNRegressor(8, regularization="bayesian", random_state=0).fit(D, t)
    mean, std = model.predict(D, return_std=True)
    np.testing.assert_array_equal(mean, model.predict(D))
    residual = t - mean
    assert 0.9 < np.mean(np.abs(residual) < 2 * std) < 1.0
    evidence = model.result_.evidence
    assert 0 < evidence.effective_parameters < evidence.n_params
    assert model.alpha_ == pytest.approx(evidence.alpha / evidence.beta, rel=1e-10)
    # In units of the targets: ten times the targets, ten times the deviation.
    large = fg.GGNRegressor(8, regularization="bayesian", random_state=0).fit(D, 10 * t)
    np.testing.assert_allclose(large.predict(D[:5], return_std=True)[1], 10 * std[:5], rtol=1e-6)


@pytest.mark.parametrize("labels", [y > 40, LABELS, np.column_stack([y > 40, y > 42]).astype(int)],
                         ids=["two", "three", "several"])  # fmt: skip
def test_probabilities_are_those_of_the_model(labels):
    """Moderated after a Bayesian fit, by the formula of MacKay, and of the one network without."""
    for penalty in (None, "bayesian"):
        model = fg.GGNClassifier(**QUICK, regularization=penalty).fit(X, labels)
        p = model.predict_proba(X)
        if labels.ndim == 1:  # a table of `model_` has one column of classes
            np.testing.assert_array_equal(p, model.model_.predict_proba(X))
        np.testing.assert_allclose(np.exp(model.predict_log_proba(X)), p, rtol=1e-12, atol=1e-300)
        F = model.net_.predict(model.theta_, model.input_scaler_.apply(X))
        if penalty == "bayesian":
            variance = model.posterior_.predictive_variance(model.input_scaler_.apply(X))
            F = F / np.sqrt(1.0 + np.pi * variance / 8.0)
        if F.shape[1] == 3:
            truth = np.exp(F) / np.exp(F).sum(axis=1, keepdims=True)
        else:
            truth = 1.0 / (1.0 + np.exp(-F))
            truth = truth if labels.ndim == 2 else np.hstack([1.0 - truth, truth])
        np.testing.assert_allclose(p, truth, rtol=1e-9, atol=1e-12)


def test_penalty_by_validation():
    noisy = y + 5.0 * noise(0)
    model = fg.GGNRegressor(
        6, regularization="validation", random_state=0, max_iter=15, method="newton"
    ).fit(X, noisy)
    path = model.weight_decay_path_
    assert model.result_.best_validation_loss == min(path["validation_losses"])
    assert path["l2"] == path["grid"][int(np.argmin(path["validation_losses"]))]
    assert model.alpha_ == pytest.approx(path["l2"] * 120)
    free = fg.GGNRegressor(6, alpha=0.0, random_state=0, max_iter=15, method="newton")
    assert model.score(X, y) > free.fit(X, noisy).score(X, y)


@pytest.mark.parametrize(
    "labels",
    [
        LABELS,
        LABELS.astype(object),
        y > 40,
        np.where(y > 40, -7, 3),
        np.where(y > 43, 2, np.where(y > 37, -1, 10)),
        np.where(y > 40, 0.0, 1.0),
        LABELS.tolist(),
    ],
    ids=["str", "object", "bool", "negative", "three ints", "float", "list"],
)
def test_labels_of_any_type(labels):
    model = fg.GGNClassifier(**QUICK).fit(X, labels)
    labels = np.asarray(labels)
    np.testing.assert_array_equal(model.classes_, np.unique(labels))
    predicted = model.predict(X)
    assert predicted.dtype == model.classes_.dtype and np.mean(predicted == labels) > 0.95
    p = model.predict_proba(X)
    assert p.shape == (120, len(model.classes_))
    np.testing.assert_allclose(p.sum(axis=1), 1.0)
    np.testing.assert_array_equal(model.classes_[p.argmax(axis=1)], predicted)
    np.testing.assert_allclose(np.exp(model.predict_log_proba(X)), p, atol=1e-15)
    assert model.out_activation_ == ("softmax" if len(model.classes_) > 2 else "logistic")
    chosen = p[np.arange(120), np.searchsorted(model.classes_, labels)]
    penalty = 0.5 * model.alpha_ / 120 * sum(float(np.sum(w**2)) for w in model.coefs_)
    assert model.loss_ == pytest.approx(-np.log(chosen).mean() + penalty, rel=1e-9)


def test_two_classes_by_softmax():
    model = fg.GGNClassifier(**QUICK, loss="softmax_cross_entropy").fit(X, y > 40)
    assert model.n_outputs_ == 2 and model.score(X, y > 40) > 0.95
    with pytest.raises(ValueError, match="exclude each other"):
        model.fit(X, np.column_stack([y > 40, y > 42]).astype(int))


def test_several_labels():
    A, B = make_multilabel_classification(n_samples=80, n_features=5, n_classes=3, random_state=0)
    model = fg.GGNClassifier(**QUICK).fit(A, B)
    assert model.score(A, B) > 0.7 and model.predict_proba(A).shape == (80, 3)
    assert model.predict_log_proba(A).max() <= 0.0


def test_classes_that_do_not_do():
    with pytest.raises(ValueError, match="1 class"):
        fg.GGNClassifier().fit(X, np.ones(120))
    model = fg.GGNClassifier(**QUICK, warm_start=True).fit(X, LABELS)
    with pytest.raises(ValueError, match="not among those known"):
        model.fit(X, np.where(y > 40, "high", "other"))


def test_iris_with_names():
    data = load_iris(as_frame=True)
    names = data.target_names[data.target]
    model = fg.GGNClassifier(5, random_state=0).fit(data.data, names)
    assert list(model.feature_names_in_) == list(data.data.columns)
    assert model.score(data.data, names) > 0.97


@pytest.mark.parametrize("labels", [y > 40, LABELS, np.column_stack([y > 40, y > 42]).astype(int)])
def test_decision_function_and_sparse_inputs(labels):
    model = fg.GGNClassifier(**QUICK).fit(X, labels)
    found, p = model.decision_function(X), model.predict_proba(X)
    if found.ndim == 1:
        np.testing.assert_allclose(1.0 / (1.0 + np.exp(-found)), p[:, 1], rtol=1e-10)
        two = fg.GGNClassifier(**QUICK, loss="softmax_cross_entropy").fit(X, labels)
        margin = np.diff(two.predict_log_proba(X), axis=1)[:, 0]
        np.testing.assert_allclose(two.decision_function(X), margin, rtol=1e-8, atol=1e-8)
    elif labels.ndim == 2:
        np.testing.assert_array_equal(found > 0.0, model.predict(X) == 1)
    else:
        np.testing.assert_array_equal(model.classes_[found.argmax(axis=1)], model.predict(X))
    sparse = fg.GGNClassifier(**QUICK).fit(csr_matrix(X), labels)
    np.testing.assert_array_equal(sparse.theta_, model.theta_)
    np.testing.assert_array_equal(sparse.predict(csc_matrix(X)), model.predict(X))


WARNED = {
    "failed": "failed", "damping_limit": "no minimum", "max_time": "max_time",
    "max_iter": "max_iter",
}  # fmt: skip
# Of `diverging` the training itself has warned where it is not the normal end.
SILENT = {"diverging", "early_stopped", "target_reached"} | {
    f"converged_{what}" for what in ("gradient", "loss", "step")
}


@pytest.mark.parametrize("status", sorted({*STATUSES} - {"interrupted"}))
def test_every_end_that_is_no_convergence_warns(monkeypatch, status):
    ends_with(monkeypatch, status)
    estimator = fg.GGNRegressor(3, max_iter=5, random_state=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        estimator.fit(np.eye(4), np.arange(4.0))
    told = [str(w.message) for w in caught if issubclass(w.category, ConvergenceWarning)]
    assert len(told) == (status in WARNED) and (status in WARNED or status in SILENT)
    assert all(WARNED[status] in message for message in told)


def test_fitted_classes_are_the_normal_end():
    """Wine, of which all held-out samples are right: no warning of divergence."""
    inputs, labels = load_wine(return_X_y=True)
    model = fg.GGNClassifier(5, alpha=0.0, random_state=0, max_iter=500, tol=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", fg.DivergenceWarning)
        model.fit(inputs[::2], labels[::2])
    assert model.score(inputs[1::2], labels[1::2]) > 0.95
    assert model.result_.status == "diverging" and "l2" in model.result_.message


def test_an_interrupted_fit_ends_the_search_around_it(monkeypatch):
    ends_with(monkeypatch, "interrupted")
    estimator = fg.GGNRegressor(3, max_iter=5, random_state=0)
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(np.eye(4), np.arange(4.0))
    assert estimator.predict(np.eye(4)).shape == (4,)  # the state is safe


def ends_with(monkeypatch, status):
    """Let every training of an estimator end with this status."""
    real = fitting.train

    def train(*args, **options):
        return replace(real(*args, **options), status=status)

    monkeypatch.setattr(fitting, "train", train)
