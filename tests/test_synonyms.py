"""The words of MATLAB, Keras, PyTorch and scikit-learn meet the name that is meant here."""

import pytest

import fastggn as fg
from fastggn.network.activations import ACTIVATIONS
from fastggn.network.losses import LOSSES, get_loss
from fastggn.runtime.synonyms import SYNONYMS
from fastggn.training.methods.named import METHODS


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("tansig", "tanh"),
        ("logsig", "sigmoid"),
        ("LogSig", "sigmoid"),
        ("logistic", "sigmoid"),
        ("purelin", "identity"),
        ("linear", "identity"),
        ("poslin", "relu"),
        ("elliotsig", "softsign"),
        ("tahn", "tanh"),
    ],
)
def test_activations(word, meant):
    with pytest.raises(ValueError, match=f"did you mean '{meant}'"):
        fg.MLP((1, 2, 1), activation=word)


@pytest.mark.parametrize("word", ["satlins", "satlin", "hardlim", "radbas", "mish"])
def test_activations_without_counterpart(word):
    with pytest.raises(
        ValueError, match=r"there is no built-in activation.*fg\.Activation"
    ) as error:
        fg.MLP((1, 2, 1), activation=word)
    assert "did you mean" not in str(error.value)


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("mse", "squared"),
        ("sse", "squared"),
        ("mean_squared_error", "squared"),
        ("crossentropy", "softmax_cross_entropy"),
        ("categorical_crossentropy", "softmax_cross_entropy"),
        ("binary_crossentropy", "logistic"),
        ("mae", "smooth_lp"),
    ],
)
def test_losses(word, meant):
    with pytest.raises(ValueError, match=f"did you mean '{meant}'"):
        get_loss(word)


@pytest.fixture(scope="module")
def problem():
    X, Y = fg.data.four_regions(20, seed=0)
    return fg.Problem(fg.MLP((2, 3, 1)), X, Y)


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("trainlm", "did you mean 'lm'"),
        ("trainbr", r"here it is method='lm', regularize=fg\.Evidence\(\)"),
        ("traingd", "did you mean 'bp'"),
        ("traingdm", r"here it is method=fg\.GradientDescent\(rate=\.\.\., momentum=\.\.\.\)"),
        ("trainscg", "did you mean 'lbfgs'"),
        ("L-BFGS-B", "did you mean 'lbfgs'"),
        ("levenberg-marquardt", "did you mean 'lm'"),
    ],
)
def test_methods(problem, word, hint):
    with pytest.raises(ValueError, match=hint):
        fg.train(problem, method=word)


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("epochs", "did you mean 'max_iter'"),
        ("maxit", "did you mean 'max_iter'"),
        ("max_itr", "did you mean 'max_iter'"),
        ("time", "did you mean 'max_time'"),
        ("goal", r"here it is stop=fg\.Stop\(target="),
        ("min_grad", r"here it is stop=fg\.Stop\(gradient="),
        ("mu", r"here it is method=fg\.LevenbergMarquardt\(damping="),
        ("solver", r"here it is method=fg\.LevenbergMarquardt\(solver="),
        ("momentum", r"here it is method=fg\.GradientDescent\(rate=\.\.\., momentum="),
        ("learning_rate", r"here it is method=fg\.Adam\(rate="),
        ("max_fail", r"here it is held_out=fg\.HeldOut\(X, Y, patience="),
        ("validation_data", "did you mean 'held_out'"),
        ("resume", r"here it is checkpoint=fg\.Checkpoint\(path, resume=True\)"),
        ("n_jobs", r"here it is with fg\.threads\(n\)"),
        ("nonsense", r"no argument 'nonsense' \(arguments: problem, theta0"),
    ],
)
def test_arguments_of_train(problem, word, hint):
    with pytest.raises(TypeError, match=hint):
        fg.train(problem, **{word: 5})


def test_every_unknown_argument_is_named(problem):
    with pytest.raises(TypeError, match="'epochs'; did you mean 'max_iter'.* no argument 'goal'"):
        fg.train(problem, epochs=5, goal=0.0)


@pytest.mark.parametrize(
    ("make", "hint"),
    [
        (
            lambda: fg.LevenbergMarquardt(mu=1.0),
            "Marquardt has no argument 'mu'; did you mean 'damping'",
        ),
        (lambda: fg.LevenbergMarquardt(mu_max=1e10), "no such option: the gain ratio"),
        (
            lambda: fg.GaussNewton(damping=1.0),
            r"here it is method=fg\.LevenbergMarquardt\(damping=",
        ),
        (lambda: fg.GaussNewton(lr=1.0), "did you mean 'step'"),
        (lambda: fg.Adam(lr=1.0), "did you mean 'rate'"),
        (lambda: fg.Stop(goal=1.0), "did you mean 'target'"),
        (lambda: fg.Stop(tol=1.0), "did you mean 'loss'"),
        (lambda: fg.HeldOut([1], [1], max_fail=6), "did you mean 'patience'"),
        (lambda: fg.Evidence(unit=1), "Evidence has no argument 'unit'"),
    ],
)
def test_arguments_of_objects(make, hint):
    with pytest.raises(TypeError, match=hint):
        make()


def test_a_valid_name_is_no_synonym():
    """Else a name of ours would be unreachable, or explained by another one."""
    for word in SYNONYMS:
        assert word == word.lower()
        assert word not in METHODS and word not in ACTIVATIONS
        assert word not in LOSSES or word == "logistic"
