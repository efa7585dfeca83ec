"""One judgement of runs to infinity: `train` and `critical_point` agree, and classes are normal."""

import warnings

import numpy as np
import pytest

import fastggn as fg
from fastggn.training.control.infinity import runs_to_infinity

# Words of a report that agree with a run to infinity.
AGREEING = "infinity"


def xor_like(seed, activation, output):
    """XOR with noise at the inputs, and a start of large weights."""
    rng = np.random.default_rng(seed)
    X, Y = fg.data.xor()
    X = np.repeat(X, 5, axis=0) + 0.1 * rng.standard_normal((20, 2))
    net = fg.MLP((2, 3, 1), activation=activation, output_activation=output)
    problem = fg.Problem(net, X, np.repeat(np.reshape(Y, (-1, 1)), 5, axis=0))
    return problem, 2.0 * rng.standard_normal(net.n_params)


@pytest.mark.filterwarnings("ignore::fastggn.FastGGNWarning")
@pytest.mark.parametrize("output", ["identity", "sigmoid"])
@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
@pytest.mark.parametrize(
    ("first", "count"), [(0, 12), pytest.param(12, 25, marks=pytest.mark.slow)]
)
def test_a_run_and_the_report_of_its_end_agree(activation, output, first, count):
    """12 starts of F(2,3,1) each, and 25 more."""
    diverging = 0
    for seed in range(first, first + count):
        problem, start = xor_like(seed, activation, output)
        result = fg.train(problem, start, max_iter=150)
        report = fg.critical_point(problem, result.theta)
        says = report.label == "diverging" or AGREEING in report.reason
        if result.status == "diverging":
            diverging += 1
            assert says, (seed, result.message, str(report))
        elif result.converged and report.label not in ("diverging", "local_minimum"):
            assert not says, (seed, result.message, str(report))
    assert diverging >= count // 2


def noisy_sine(seed):
    rng = np.random.default_rng(seed)
    T = int(rng.integers(20, 60))
    X = rng.standard_normal((T, 2))
    return fg.Problem(fg.MLP((2, 2, 1)), X, np.sin(X[:, 0]) + 0.3 * rng.standard_normal(T))


@pytest.mark.filterwarnings("ignore::fastggn.FastGGNWarning")
def test_no_minimum_and_no_random_point_is_at_infinity():
    """100 random points, 10 fits of noise, and 50 convex problems with their solutions."""
    for seed in range(10):
        problem = noisy_sine(seed)
        rng = np.random.default_rng(seed)
        for _ in range(10):
            assert runs_to_infinity(problem, problem.at(rng.standard_normal(9))) is None
        result = fg.train(problem, seed=seed, max_iter=100)
        if result.status == "converged_gradient":
            assert runs_to_infinity(problem, problem.at(result.theta)) is None
    for seed in range(50):
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((20, 3)) * 10.0 ** rng.uniform(-2, 2, 3)
        classes = rng.integers(0, 2, 20)
        problem = fg.Problem(fg.MLP((3, 1)), X, classes, loss="logistic", l2=1e-3)
        result = fg.train(problem, seed=seed)
        assert result.status != "diverging"
        assert runs_to_infinity(problem, problem.at(result.theta)) is None


def test_separated_classes_are_the_normal_end(recwarn):
    """100 separable sets: no warning, and the advice; those with a wrong label warn or end."""
    kinds = {"logistic": (1, 2), "softmax_cross_entropy": (3, 3)}
    for seed in range(100):
        rng = np.random.default_rng(seed)
        name = ("logistic", "softmax_cross_entropy")[seed % 2]
        outputs, classes = kinds[name]
        Y = rng.integers(0, classes, 30)
        centres = 4.0 * np.array([[1.0, 0.0], [-1.0, 1.0], [-1.0, -1.0]])
        X = centres[Y] + rng.uniform(-1.0, 1.0, (30, 2))
        result = fg.train(fg.Problem(fg.MLP((2, outputs)), X, Y, loss=name), seed=seed)
        assert result.status == "diverging", result.message
        assert "separated" in result.message and "l2" in result.message
    assert not [w for w in recwarn if issubclass(w.category, fg.DivergenceWarning)]


SEPARATIONS = ("all", "some", "none")
METHODS = {
    "lm": "lm",
    "lm, lsqr": fg.LevenbergMarquardt(solver="lsqr"),
    "newton": "newton",
    "newton, lsqr": fg.Newton(solver="lsqr"),
    "lbfgs": "lbfgs",
    "auto": "auto",
}


def classes(rng, kind):
    """Return inputs and labels of 2 or 3 classes that planes separate all, some or none of.

    None: at n + 1 points in general position each class is there, so that no weights improve the
    margins of all. Some: the same on a plane only, and on its sides a class each. The inputs are
    then turned and stretched, which changes none of it.
    """
    n, m = int(rng.integers(1, 4)), int(rng.integers(2, 4))
    mixed = rng.normal(size=(n + 1, n))
    if kind != "none":
        mixed = mixed[:n] if kind == "some" else mixed[:0]
        mixed[:, 0] = 0.0
    X = np.repeat(mixed, m, axis=0)
    y = np.tile(np.arange(m), len(mixed))
    if kind != "none":
        apart = rng.normal(size=(12, n))
        side = np.resize([1.0, -1.0], 12)
        apart[:, 0] = side * rng.uniform(0.1, 2.0, 12)
        X, y = np.vstack([X, apart]), np.append(y, side > 0)
    else:
        X, y = np.vstack([X, rng.normal(size=(8, n))]), np.append(y, rng.integers(0, m, 8))
    turn, _ = np.linalg.qr(rng.normal(size=(n, n)))
    return X @ turn * 10.0 ** rng.uniform(-2.0, 2.0, n), y, m


def end_of_classes(number):
    """Train and judge instance `number`, whose minimum is finite where nothing is separated."""
    rng = np.random.default_rng(number)
    kind, name = SEPARATIONS[number % 3], list(METHODS)[number // 3 % len(METHODS)]
    X, y, m = classes(rng, kind)
    if m == 2:
        problem = fg.Problem(fg.MLP((X.shape[1], 1)), X, y.astype(float), "logistic")
    else:
        problem = fg.Problem(fg.MLP((X.shape[1], m)), X, y, "softmax_cross_entropy")
    start = rng.choice([0.1, 1.0, 100.0]) * rng.normal(size=problem.n_params)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fg.FastGGNWarning)
        result = fg.train(problem, start, method=METHODS[name], max_iter=300)
    report = fg.critical_point(problem, result.theta)
    case = number, kind, name, m, result.status, result.message, str(report)
    if kind == "none":
        assert result.status != "diverging" and report.label != "diverging", case
    else:
        assert not result.converged and "minimum" not in report.label, case
    return result.status


@pytest.mark.parametrize(
    ("first", "count"), [(0, 36), pytest.param(36, 540, marks=pytest.mark.slow)]
)
def test_ends_on_classes_are_true(first, count):
    """Of any method, on classes that are separated, in part, or not."""
    statuses = [end_of_classes(number) for number in range(first, first + count)]
    assert statuses.count("diverging") >= 0.5 * count


@pytest.mark.parametrize("method", ["newton", "lm", "lbfgs", fg.Newton(solver="lsqr")])
def test_a_start_beyond_all_margins_is_at_infinity(method):
    """At such a start the gradient is 0: the run ends before its first step."""
    X = 700.0 * np.array([[-1.0, 0.5], [-2.0, 0.1], [1.0, 0.3], [0.7, -1.0]])
    problem = fg.Problem(fg.MLP((2, 1)), X, np.array([0.0, 0.0, 1.0, 1.0]), "logistic")
    result = fg.train(problem, [5.0, 0.0, 0.0], method=method)
    assert result.status == "diverging" and result.n_iter == 0


def on_a_border(rng):
    """Return a convex problem whose minimum is at weights 0, on a border of classes or by biases.

    Each input is there with both signs and one label, so that the slopes cancel, whatever the
    outputs are; no weights improve both margins, so that the minimum is not at infinity.
    """
    n, m, pairs = int(rng.integers(1, 4)), int(rng.integers(1, 4)), int(rng.integers(1, 6))
    X = rng.normal(size=(pairs, n)) * 10.0 ** rng.uniform(-3.0, 3.0)
    y = np.zeros(pairs, int) if rng.random() < 0.7 else rng.integers(0, max(m, 2), pairs)
    lower = np.arange(m) + rng.uniform(0.1, 0.9, m)  # by which class 0 has the largest output
    bias = "none" if rng.random() < 0.5 else [lower]
    X, y = np.vstack([X, -X]), np.tile(y, 2)
    loss = "logistic" if m == 1 else "softmax_cross_entropy"
    return fg.Problem(fg.MLP((n, m), bias=bias), X, y.astype(float) if m == 1 else y, loss)


@pytest.mark.parametrize(
    ("first", "count"), [(0, 12), pytest.param(12, 120, marks=pytest.mark.slow)]
)
def test_a_border_between_classes_separates_nothing(first, count):
    """Outputs of 0, or equal ones, were taken for outputs inside the first class."""
    for seed in range(first, first + count):
        problem = on_a_border(np.random.default_rng(seed))
        start = np.zeros(problem.n_params)
        report = fg.critical_point(problem, start, seed=seed)
        assert report.label == "global_minimum", (seed, str(report))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", fg.FastGGNWarning)
            warnings.simplefilter("error", fg.DivergenceWarning)
            result = fg.train(problem, start, method=list(METHODS.values())[seed % 6])
        assert result.converged, (seed, str(result))


def test_a_spared_bias_runs_to_infinity_where_one_class_is_there():
    """l2 on the weights bounds them, but no finite bias has the least loss of labels all 1."""
    X = np.random.default_rng(0).normal(size=(6, 2))
    problem = fg.Problem(fg.MLP((2, 1)), X, np.ones(6), "logistic", l2=1e-2, penalize_biases=False)
    assert "minimum" not in fg.critical_point(problem, [0.0, 0.0, 800.0]).label


def test_a_wrong_sample_of_weight_0_hinders_no_separation(recwarn):
    X = np.array([[-2.0], [-1.0], [1.0], [2.0], [-1.5]])
    y, weights = np.array([0.0, 0.0, 1.0, 1.0, 1.0]), np.array([1.0, 1.0, 1.0, 1.0, 0.0])
    for widths in ((1, 1), (1, 2, 1)):
        problem = fg.Problem(fg.MLP(widths), X, y, "logistic", sample_weight=weights)
        result = fg.train(problem, seed=0, max_iter=300)
        assert result.status == "diverging" and "separated" in result.message
    assert not [w for w in recwarn if issubclass(w.category, fg.DivergenceWarning)]


def test_an_infimum_that_is_no_separation_warns():
    """A logistic regression that separates two of three groups only: the third stays wrong."""
    X = np.array([[-1.0, 0.0], [-1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])
    Y = np.array([0.0, 1.0, 1.0, 1.0])
    problem = fg.Problem(fg.MLP((2, 1)), X, Y, loss="logistic")
    with pytest.warns(fg.DivergenceWarning, match="infinity"):
        result = fg.train(problem, [0.1, 0.2, 0.0])
    assert result.status == "diverging" and "separated" not in result.message
    with warnings.catch_warnings():
        warnings.simplefilter("error", fg.DivergenceWarning)
        fg.train(problem.with_l2(1e-3), [0.1, 0.2, 0.0])


@pytest.mark.filterwarnings("ignore::fastggn.FastGGNWarning")
def test_xor_by_two_units_has_no_finite_minimum():
    """All its finite stationary points are saddles (Sprinkhuizen-Kuyper and Boers 1998)."""
    X, Y = fg.data.xor()
    problem = fg.Problem(fg.MLP((2, 2, 1), output_activation="sigmoid"), X, Y)
    for seed in range(12):
        theta = fg.train(problem, seed=seed, max_iter=500).theta
        assert "minimum" not in fg.critical_point(problem, theta).label


ENDS = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0), "softsign": (-1.0, 1.0)}


def end_problem(seed):
    """Return samples of two groups whose targets are the ends of the outputs' range."""
    rng = np.random.default_rng(seed)
    output = str(rng.choice(list(ENDS)))
    low, high = ENDS[output]
    T, hidden = int(rng.integers(4, 12)), int(rng.integers(2, 5))
    side = rng.permutation(np.arange(T) % 2)
    X = np.stack([2.0 * side - 1.0, np.zeros(T)], axis=1) + 0.5 * rng.standard_normal((T, 2))
    loss = str(rng.choice(["squared", "huber", "cauchy"]))
    net = fg.MLP((2, hidden, 1), output_activation=output)
    return fg.Problem(net, X, np.where(side == 1, high, low), loss)


@pytest.mark.filterwarnings("ignore::fastggn.FastGGNWarning")
@pytest.mark.parametrize(
    ("first", "count"), [(0, 24), pytest.param(24, 200, marks=pytest.mark.slow)]
)
def test_targets_at_the_ends_of_a_range_have_no_minimum(first, count):
    """No run converges where larger last weights lower the loss; the report says so too."""
    ended = 0
    for seed in range(first, first + count):
        problem = end_problem(seed)
        result = fg.train(problem, seed=seed, max_iter=300)
        if not result.converged and result.status != "diverging":
            continue
        larger = result.theta.copy()
        problem.network.unpack(larger)[-1] *= 1.5
        falls = problem.loss(larger) < result.loss or result.loss == 0.0
        right = (problem.outputs(result.theta) > np.mean(ENDS[output_of(problem)])) == (
            problem.targets == ENDS[output_of(problem)][1]
        )
        if not (falls and right.all()):
            continue
        ended += 1
        assert result.status == "diverging", (seed, str(result))
        report = fg.critical_point(problem, result.theta)
        assert report.label == "diverging" or AGREEING in report.reason, (seed, str(report))
    assert ended >= 0.5 * count


def output_of(problem):
    return problem.network.activations[-1].name


@pytest.mark.filterwarnings("ignore::fastggn.FastGGNWarning")
def test_xor_by_a_bounded_output():
    """Targets 0 and 1 of a sigmoid: the fit of train and the label of its end are one judgement."""
    X, Y = fg.data.xor()
    Y = (np.asarray(Y) > 0.0).astype(float)
    for seed in range(8):
        problem = fg.Problem(fg.MLP((2, 4, 1), output_activation="sigmoid"), X, Y)
        result = fg.train(problem, seed=seed, max_iter=300)
        if result.loss < 1e-3:
            assert result.status == "diverging" and AGREEING in result.message, str(result)
            report = fg.critical_point(problem, result.theta)
            assert report.label == "diverging" or AGREEING in report.reason, str(report)
        inside = fg.Problem(fg.MLP((2, 4, 1), output_activation="sigmoid"), X, 0.1 + 0.8 * Y)
        assert fg.train(inside, seed=seed, max_iter=300).status != "diverging"
