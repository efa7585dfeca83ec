"""Losses: derivatives and accuracy against mpmath, factors, targets, custom losses, names."""

import json
import warnings

import mpmath
import naive
import numpy as np
import pytest

from fastggn.network import losses
from fastggn.network.losses import LOSSES, get_loss, loss_from_config
from fastggn.network.losses.base import Loss
from fastggn.network.losses.classification import Logistic, SoftmaxCrossEntropy
from fastggn.network.losses.output_weights import WeightedSquares
from fastggn.network.losses.separable import (
    BlakeZisserman,
    Cauchy,
    Huber,
    SmoothLp,
    Squared,
    row_sums,
)

pytestmark = pytest.mark.nojit

# Each separable loss with E(r) of one residual, written for many digits.
SEPARABLE = [
    (Squared(), lambda r: r * r / 2),
    (Squared(scale=0.3), lambda r: (r / mpmath.mpf(0.3)) ** 2 / 2),
    (Huber(), lambda r: r * r / 2 if abs(r) <= 1 else abs(r) - mpmath.mpf(1) / 2),
    (Huber(delta=0.25), lambda r: r * r / 2 if abs(r) <= 0.25 else (abs(r) - 0.125) / 4),
    (Cauchy(), lambda r: mpmath.log(1 + r * r)),
    (Cauchy(scale=2.5), lambda r: mpmath.log(1 + (r / 2.5) ** 2)),
    (BlakeZisserman(), lambda r: _blake_zisserman(r, 0.1, 1.0)),
    (BlakeZisserman(epsilon=1e-20, scale=0.5), lambda r: _blake_zisserman(r, 1e-20, 0.5)),
    (SmoothLp(), lambda r: _smooth_lp(r, 1.0, 0.1, 1.0)),
    (SmoothLp(p=0.7, epsilon=1e-3, scale=0.5), lambda r: _smooth_lp(r, 0.7, 1e-3, 0.5)),
    (SmoothLp(p=1.8, epsilon=2.0), lambda r: _smooth_lp(r, 1.8, 2.0, 1.0)),
]
SEPARABLE_LOSSES = [loss for loss, _ in SEPARABLE]
ALL = [*SEPARABLE_LOSSES, SoftmaxCrossEntropy(), Logistic()]
CONVEX = [loss for loss in ALL if loss.convex]
ROBUST = [loss for loss in SEPARABLE_LOSSES if not isinstance(loss, Squared)]


def _blake_zisserman(r, epsilon, scale):
    e = mpmath.mpf(epsilon)
    return mpmath.log(1 + e) - mpmath.log(mpmath.exp(-((r / mpmath.mpf(scale)) ** 2)) + e)


def _smooth_lp(r, p, epsilon, scale):
    e, half = mpmath.mpf(epsilon), mpmath.mpf(p) / 2
    return ((r / mpmath.mpf(scale)) ** 2 + e) ** half - e**half


def identify(loss):
    return repr(loss) if isinstance(loss, losses.SeparableLoss) else loss.name


def residuals():
    """Residuals of both signs from 1e-12 to 1e4."""
    rng = np.random.default_rng(5)
    sizes = 10.0 ** np.concatenate([rng.uniform(-12, 0, 20), rng.uniform(-1, 1, 40), [1.5, 4.0]])
    return sizes * rng.choice([-1.0, 1.0], sizes.size)


def draw(loss, seed=0, size=40, spread=3.0):
    """Outputs and prepared targets (size, 3) of a kind that suits the loss."""
    rng = np.random.default_rng(seed)
    F = spread * rng.standard_normal((size, 3))
    if isinstance(loss, SoftmaxCrossEntropy):
        Y = rng.integers(0, 3, size)
    elif isinstance(loss, Logistic):
        Y = rng.integers(0, 2, (size, 3))
    else:
        Y = spread * rng.standard_normal((size, 3))
    return F, loss.prepare_targets(Y, size, 3)


def product(S, d=None):
    """S diag(d) S^T of every sample."""
    return (S if d is None else S * d[:, None, :]) @ S.transpose(0, 2, 1)


# --- values and derivatives -----------------------------------------------------------------


@pytest.mark.parametrize(("loss", "exact"), SEPARABLE, ids=map(identify, SEPARABLE_LOSSES))
def test_separable_against_mpmath(loss, exact):
    """Value and gradient to 2e-13 relative down to r = 1e-12; the Hessian to 2e-13 of f''(0)."""
    r = residuals()
    F, Y = r[:, None], np.zeros((r.size, 1))
    with mpmath.workdps(400):  # exp(-u^2) beside epsilon
        want = np.array(
            [[float(mpmath.diff(exact, mpmath.mpf(x), n)) for n in range(3)] for x in r.tolist()]
        )
    top = abs(float(loss.hessian(np.zeros((1, 1)), np.zeros((1, 1)))[0, 0, 0]))
    assert np.allclose(loss.value(F, Y), want[:, 0], rtol=2e-13, atol=0)
    assert np.allclose(loss.gradient(F, Y)[:, 0], want[:, 1], rtol=2e-13, atol=1e-300)
    assert np.allclose(loss.hessian(F, Y)[:, 0, 0], want[:, 2], rtol=2e-13, atol=2e-13 * top)


@pytest.mark.parametrize("loss", SEPARABLE_LOSSES, ids=identify)
def test_separable_sums_over_outputs(loss):
    """The value adds up over the outputs, and the Hessian is diagonal."""
    F, Y = draw(loss)
    columns = [(F[:, [c]], Y[:, [c]]) for c in range(3)]
    assert np.allclose(loss.value(F, Y), sum(loss.value(f, y) for f, y in columns), rtol=1e-14)
    H = np.zeros((40, 3, 3))
    for c, (f, y) in enumerate(columns):
        H[:, c, c] = loss.hessian(f, y)[:, 0, 0]
        assert np.array_equal(loss.gradient(F, Y)[:, [c]], loss.gradient(f, y))
    assert np.array_equal(loss.hessian(F, Y), H)


def _cross_entropy(y):
    def value(*f):
        entropy = sum(v * mpmath.log(v) for v in y if v > 0)
        total = mpmath.log(sum(mpmath.exp(v) for v in f))
        return total - sum(a * b for a, b in zip(y, f, strict=True)) + entropy

    return value


def _logistic(y):
    def value(*f):
        return sum(mpmath.log(1 + mpmath.exp(a)) - b * a for a, b in zip(f, y, strict=True))

    return value


@pytest.mark.parametrize(
    ("loss", "exact", "targets"),
    [
        (SoftmaxCrossEntropy(), _cross_entropy, [[1, 0, 0], [0, 0, 1], [0.25, 0.5, 0.25]]),
        (Logistic(), _logistic, [[1, 0, 0], [1, 1, 0], [0, 1, 1]]),
    ],
    ids=["softmax", "logistic"],
)
def test_logits_against_mpmath(loss, exact, targets):
    """Value, gradient and Hessian to 1e-12, relative ones where the fit is almost exact."""
    outputs = [[0.3, -1.2, 2.0], [45.0, -3.0, 1.0], [2.0, 2.0, 2.0], [-30.0, 20.0, 25.0]]
    F, Y = np.repeat(outputs, 3, axis=0), np.tile(np.array(targets, dtype=float), (4, 1))
    value, gradient, hessian = loss.value(F, Y), loss.gradient(F, Y), loss.hessian(F, Y)
    unit = [tuple(int(i == c) for i in range(3)) for c in range(3)]
    hard = (Y == np.round(Y)).all(axis=1)
    with mpmath.workdps(120):
        for i in range(len(F)):
            f = tuple(mpmath.mpf(v) for v in F[i].tolist())
            E = exact([mpmath.mpf(v) for v in Y[i].tolist()])
            atol = 0.0 if hard[i] else 1e-14
            assert np.isclose(value[i], float(E(*f)), rtol=1e-13, atol=atol)
            for c in range(3):
                want = float(mpmath.diff(E, f, unit[c]))
                assert np.isclose(gradient[i, c], want, rtol=1e-12, atol=atol)
                for k in range(3):
                    order = tuple(a + b for a, b in zip(unit[c], unit[k], strict=True))
                    want = float(mpmath.diff(E, f, order))
                    assert np.isclose(hessian[i, c, k], want, rtol=1e-12, atol=1e-35)


@pytest.mark.parametrize("loss", SEPARABLE_LOSSES, ids=identify)
def test_zero_at_an_exact_fit(loss):
    """E and its gradient are exactly 0 at r = 0, and the loss is positive elsewhere."""
    Y = np.array([[0.1, -7.3], [1e4, 1e-4]])
    assert (loss.value(Y, Y) == 0.0).all()
    assert (loss.gradient(Y, Y) == 0.0).all()
    assert (loss.value(Y + 1e-9, Y) > 0.0).all()


def test_zero_at_an_exact_fit_of_soft_targets():
    """The entropy of the target is subtracted: 0 to rounding, never negative."""
    Y = np.random.default_rng(0).dirichlet(np.ones(4), 200)
    value = SoftmaxCrossEntropy().value(np.log(Y), Y)
    assert (value >= 0.0).all()
    assert value.max() < 1e-14
    assert np.abs(SoftmaxCrossEntropy().gradient(np.log(Y), Y)).max() < 1e-15


@pytest.mark.parametrize("loss", ALL, ids=identify)
def test_large_outputs(loss):
    """Outputs of +-1e4: everything finite, and no warning."""
    F = np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4], [1e4, 1e4, 1e4], [-1e4, -1e4, -1e4]])
    Y = loss.prepare_targets(
        [0, 1, 2, 0] if "softmax" in loss.name else np.eye(3)[[0, 1, 2, 0]], 4, 3
    )
    with np.errstate(over="raise", invalid="raise", divide="raise"), warnings.catch_warnings():
        warnings.simplefilter("error")
        results = [loss.value(F, Y), loss.gradient(F, Y), loss.hessian(F, Y)]
        results += [*loss.signed_factor(F, Y)]
        S, b = loss.curvature_factor(F, Y)
    results += [S] + ([] if b is None else [b])
    assert all(np.isfinite(result).all() for result in results)
    if loss.name in ("softmax_cross_entropy", "logistic"):
        assert loss.value(F, Y)[0] == (0.0 if "softmax" in loss.name else np.log(2.0))


def test_blake_zisserman_loses_far_outliers():
    """The documented limit: the gradient underflows to 0 beyond about 27.3 scales."""
    loss = BlakeZisserman(scale=2.0)
    r = np.array([[2 * 27.0], [2 * 27.4], [1e200]])
    gradient = loss.gradient(r, np.zeros((3, 1)))[:, 0]
    assert gradient[0] > 0.0
    assert (gradient[1:] == 0.0).all()
    assert np.isfinite(loss.hessian(r, np.zeros((3, 1)))).all()


# --- curvature ------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ALL, ids=identify)
def test_convex_is_true(loss):
    """Random Hessians have a negative eigenvalue exactly if the loss is not convex."""
    F, Y = draw(loss, size=300, spread=4.0)
    H = loss.hessian(F, Y)
    lowest = np.linalg.eigvalsh(H).min()
    assert (lowest >= -1e-12 * np.abs(H).max()) == loss.convex


@pytest.mark.parametrize("loss", CONVEX, ids=identify)
def test_square_root(loss):
    """S S^T is the Hessian."""
    F, Y = draw(loss)
    H = loss.hessian(F, Y)
    assert np.allclose(product(loss.hessian_sqrt(F, Y)), H, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("loss", [x for x in ALL if not x.convex], ids=identify)
def test_square_root_refused_where_indefinite(loss):
    """Near a fit it exists; an outlier makes it a ValueError naming the sample."""
    Y = np.zeros((3, 2))
    F = np.full((3, 2), 1e-3)
    assert np.allclose(product(loss.hessian_sqrt(F, Y)), loss.hessian(F, Y), rtol=1e-12)
    F[1, 1] = 8.0
    with pytest.raises(ValueError, match="indefinite at sample 1"):
        loss.hessian_sqrt(F, Y)


@pytest.mark.parametrize("loss", ALL, ids=identify)
def test_training_curvature_gives_the_gradient(loss):
    """S b = gradient, to 1e-13 relative."""
    F, Y = draw(loss)
    S, b = loss.curvature_factor(F, Y)
    gradient = loss.gradient(F, Y)
    assert np.allclose((S @ b[:, :, None])[:, :, 0], gradient, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize(
    "loss", [Squared(scale=0.3), SoftmaxCrossEntropy(), Logistic()], ids=identify
)
def test_training_curvature_is_the_hessian(loss):
    """For these the training curvature is the exact one."""
    F, Y = draw(loss)
    S, _ = loss.curvature_factor(F, Y)
    assert np.allclose(product(S), loss.hessian(F, Y), rtol=1e-13, atol=1e-16)


@pytest.mark.parametrize("loss", ROBUST, ids=identify)
def test_reweighted_curvature(loss):
    """S S^T = diag(gradient / r), and its limit E''(0) at r = 0."""
    F, Y = draw(loss)
    S, _ = loss.curvature_factor(F, Y)
    weight = loss.gradient(F, Y) / (F - Y)
    assert np.allclose(product(S), weight[:, :, None] * np.eye(3), rtol=1e-12, atol=1e-300)
    S, b = loss.curvature_factor(Y, Y)
    assert np.allclose(product(S), loss.hessian(Y, Y), rtol=1e-14)
    assert (b == 0.0).all()


@pytest.mark.parametrize("loss", ALL, ids=identify)
def test_signed_factor(loss):
    """S diag(d) S^T is the exact Hessian, d being -1, 0 or 1."""
    F, Y = draw(loss)
    S, d = loss.signed_factor(F, Y)
    H = loss.hessian(F, Y)
    assert np.allclose(product(S, d), H, rtol=1e-12, atol=1e-15 * np.abs(H).max())
    assert np.isin(d, [-1.0, 0.0, 1.0]).all()
    assert (d < 0.0).any() != loss.convex


@pytest.mark.parametrize("loss", ALL, ids=identify)
def test_unit_hessian_is_true(loss):
    """The flag says whether the Hessian is the identity."""
    F, Y = draw(loss)
    assert loss.unit_hessian == np.array_equal(
        loss.hessian(F, Y), np.broadcast_to(np.eye(3), (40, 3, 3))
    )


@pytest.mark.parametrize(
    "loss", [*ALL, WeightedSquares(Squared(0.3), np.array([1e-3, 1, 9]))], ids=identify
)
def test_output_weights_are_those_of_the_hessian(loss):
    """They are given where the Hessian of each sample is a multiple of one diagonal matrix."""
    F, Y = draw(loss)
    hessians = loss.hessian(F, Y)
    first = hessians[:, :1, :1]
    largest = int(np.argmax(np.abs(first)))
    diagonal = np.diag(hessians[largest].diagonal())
    alike = np.allclose(hessians * first[largest], diagonal * first)
    assert (loss.output_weights is not None) == alike
    if alike:
        w = np.broadcast_to(loss.output_weights, 3)
        np.testing.assert_allclose(diagonal.diagonal() * w[0], w * first[largest, 0, 0], rtol=1e-12)


@pytest.mark.parametrize(("gap", "exists"), [(35.0, True), (38.0, False), (900.0, False)])
@pytest.mark.parametrize("name", ["softmax_cross_entropy", "logistic"])
def test_no_right_hand_side_when_the_true_class_underflows(name, gap, exists):
    """b is None once it would exceed 1e8 for one sample; S stays valid."""
    loss = get_loss(name)
    F = np.array([[0.5, 0.0, 0.1], [gap, 0.0, 0.0]])
    Y = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    S, b = loss.curvature_factor(F, Y)
    assert np.allclose(product(S), loss.hessian(F, Y), rtol=1e-13, atol=0)
    assert (b is not None) == exists
    if exists:
        got = (S @ b[:, :, None])[:, :, 0]
        assert np.allclose(got, loss.gradient(F, Y), rtol=1e-8)


def test_softmax_root_near_an_exact_fit():
    """sqrt(q) (1 - q) keeps its relative accuracy where q rounds to 1."""
    S = SoftmaxCrossEntropy().hessian_sqrt(np.array([[45.0, -3.0, 1.0]]), np.eye(3)[:1])
    assert np.isclose(S[0, 0, 0], np.exp(-44.0) + np.exp(-48.0), rtol=1e-12, atol=0)


def test_right_hand_side_with_vanishing_other_classes():
    """Probabilities that underflow do no harm where the target is 0 too."""
    F = np.array([[1e4, 0.0, -1e4]])
    S, b = SoftmaxCrossEntropy().curvature_factor(F, np.array([[1.0, 0.0, 0.0]]))
    assert (b == 0.0).all()
    assert (S == 0.0).all()


@pytest.mark.parametrize("loss", ALL, ids=identify)
def test_principles(loss):
    """What the loss says of Principles 1 and 1.a, checked where it is checkable."""
    says_1, says_1a = loss.principle_1[0], loss.principle_1a[0]
    assert loss.principle_1[1] and loss.principle_1a[1]
    expected = {
        "softmax_cross_entropy": (False, False),
        "logistic": (False, True),
    }
    assert (says_1, says_1a) == expected.get(loss.name, (True, True))
    if says_1:  # the gradient points away from the fit: no other stationary point
        r = residuals()[np.abs(residuals()) < 12.0, None]
        assert (loss.gradient(r, 0 * r) * r > 0.0).all()
        assert loss.hessian(np.zeros((1, 1)), np.zeros((1, 1)))[0, 0, 0] > 0.0


# --- targets --------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [[2, 0, 1], np.array([2.0, 0.0, 1.0]), [[2], [0], [1]]])
def test_labels(labels):
    """Labels, also whole floats or one column, become rows of the identity."""
    Y = SoftmaxCrossEntropy().prepare_targets(labels, 3, 3)
    assert np.array_equal(Y, np.eye(3)[[2, 0, 1]])
    assert Y.dtype == np.float64


def test_boolean_labels():
    """True is class 1, False class 0."""
    Y = SoftmaxCrossEntropy().prepare_targets(np.array([True, False]), 2, 2)
    assert np.array_equal(Y, [[0.0, 1.0], [1.0, 0.0]])


def test_soft_targets_are_normalised():
    """Sums that are 1 in float32 only are made 1; the caller's array is left alone."""
    given = np.random.default_rng(1).dirichlet(np.ones(3), 50).astype(np.float32)
    before = given.copy()
    Y = SoftmaxCrossEntropy().prepare_targets(given, 50, 3)
    assert np.abs(Y.sum(axis=1) - 1.0).max() < 1e-15
    assert np.array_equal(given, before)


@pytest.mark.parametrize("Y", [[1, 2, 3], [[1.0], [2.0], [3.0]], np.array([1, 2, 3], "f4")])
def test_one_output(Y):
    """A vector does for one output; the result is float64 of two dimensions."""
    got = Squared().prepare_targets(Y, 3, 1)
    assert np.array_equal(got, [[1.0], [2.0], [3.0]])
    assert got.dtype == np.float64


@pytest.mark.parametrize(
    ("name", "Y", "n_outputs", "error", "message"),
    [
        ("squared", [1.0, 2.0], 2, ValueError, r"shape \(2, 2\) for 2 samples and 2 outputs"),
        ("squared", [1.0, 2.0, 3.0], 1, ValueError, r"\(2, 1\) or \(2,\)"),
        ("squared", [[1.0], [np.nan]], 1, ValueError, r"Y\[1, 0\] is nan"),
        ("squared", [1.0, -np.inf], 1, ValueError, r"Y\[1\] is -inf"),
        ("squared", ["a", "b"], 1, TypeError, "must hold real numbers"),
        ("squared", [1j, 2], 1, TypeError, "must hold real numbers"),
        ("squared", np.array([1, None]), 1, TypeError, "dtype object"),
        ("softmax_cross_entropy", [0, 3], 3, ValueError, r"Y\[1\] is 3; labels are .* 0 to 2"),
        ("softmax_cross_entropy", [-1, 0], 3, ValueError, r"Y\[0\] is -1"),
        ("softmax_cross_entropy", [0.0, 0.5], 3, ValueError, r"Y\[1\] is 0.5"),
        ("softmax_cross_entropy", [0.0, np.nan], 3, ValueError, r"Y\[1\] is nan"),
        ("softmax_cross_entropy", [0, 1, 2], 3, ValueError, r"shape \(2,\) with labels"),
        ("softmax_cross_entropy", [[1, 0], [0, 1]], 3, ValueError, r"or \(2, 3\)"),
        ("softmax_cross_entropy", [[1, 0], [0.5, 0.4]], 2, ValueError, r"Y\[1\] sums to 0.9"),
        ("softmax_cross_entropy", [[1, 0], [1.5, -0.5]], 2, ValueError, r"Y\[1, 1\] is -0.5"),
        ("softmax_cross_entropy", [0, 0], 1, ValueError, "at least 2 outputs"),
        ("logistic", [0.0, 0.5], 1, ValueError, r"Y\[1, 0\] is 0.5; .* 0 or 1"),
        ("logistic", [[0, 1], [-1, 1]], 2, ValueError, r"Y\[1, 0\] is -1"),
    ],
)
def test_bad_targets(name, Y, n_outputs, error, message):
    """One error a case, with the first bad index."""
    with pytest.raises(error, match=message):
        get_loss(name).prepare_targets(Y, 2, n_outputs)


def test_decision():
    """Largest output for softmax, sign for one logistic output, nothing for the others."""
    F = np.array([[1.0, 3.0], [2.0, -1.0]])
    assert np.array_equal(SoftmaxCrossEntropy().decision(F), [1, 0])
    assert np.array_equal(Logistic().decision(np.array([[-0.1], [0.2]])), [0, 1])
    assert Logistic().decision(F) is None
    assert Squared().decision(F) is None


# --- custom losses --------------------------------------------------------------------------


class Quartic:
    """(r_1^2 + r_2^2)^2 / 4: a coupled Hessian, positive semi-definite, singular at 0."""

    def value(self, F, Y):
        return ((F - Y) ** 2).sum(axis=1) ** 2 / 4

    def gradient(self, F, Y):
        r = F - Y
        return (r**2).sum(axis=1, keepdims=True) * r

    def hessian(self, F, Y):
        r = F - Y
        square = (r**2).sum(axis=1)[:, None, None]
        return square * np.eye(r.shape[1]) + 2 * r[:, :, None] * r[:, None, :]

    def hessian_sqrt(self, F, Y):
        return np.linalg.cholesky(self.hessian(F, Y))


class Saddle(Loss):
    """A subclass with the three needed methods: E = r_1^2 / 2 - r_2^2 / 2, indefinite."""

    name = "saddle"

    @property
    def convex(self):
        return False

    def value(self, F, Y):
        r = F - Y
        return (r[:, 0] ** 2 - r[:, 1] ** 2) / 2

    def gradient(self, F, Y):
        return (F - Y) * [1.0, -1.0]

    def hessian(self, F, Y):
        return np.broadcast_to(np.diag([1.0, -1.0]), (len(F), 2, 2)).copy()


def two_outputs(size=20):
    rng = np.random.default_rng(2)
    return rng.standard_normal((size, 2)), rng.standard_normal((size, 2))


def test_custom_object_is_completed():
    """Everything that the object lacks is derived from its four methods."""
    loss = get_loss(Quartic())
    F, Y = two_outputs()
    H = Quartic().hessian(F, Y)
    S, b = loss.curvature_factor(F, Y)
    assert np.allclose(product(S), H, rtol=1e-12)
    assert np.allclose((S @ b[:, :, None])[:, :, 0], Quartic().gradient(F, Y), rtol=1e-10)
    assert np.allclose(product(*loss.signed_factor(F, Y)), H, rtol=1e-12, atol=1e-13)
    assert np.array_equal(loss.value(F, Y), Quartic().value(F, Y))
    assert (loss.name, loss.convex, loss.unit_hessian) == ("Quartic", True, False)
    assert loss.principle_1 == (False, "not stated for this loss")
    assert loss.decision(F) is None
    assert np.array_equal(loss.prepare_targets([[1, 2]], 1, 2), [[1.0, 2.0]])


def test_custom_object_may_say_more():
    """Declared attributes and optional methods are used."""

    class Full(Quartic):
        name = "full"
        convex = False
        principle_1 = True
        principle_1a = (False, "singular at 0")

        def curvature_factor(self, F, Y):
            return np.ones((len(F), 2, 1)), None

        def signed_factor(self, F, Y):
            return np.ones((len(F), 2, 1)), -np.ones((len(F), 1))

        def decision(self, F):
            return np.zeros(len(F), dtype=int)

        def prepare_targets(self, Y, T, n_outputs):
            return np.zeros((T, n_outputs))

    loss = get_loss(Full())
    F, Y = two_outputs(3)
    assert (loss.name, loss.convex) == ("full", False)
    assert loss.principle_1 == (True, "as the loss declares")
    assert loss.principle_1a == (False, "singular at 0")
    assert loss.curvature_factor(F, Y)[0].shape == (3, 2, 1)
    assert (loss.signed_factor(F, Y)[1] == -1.0).all()
    assert np.array_equal(loss.decision(F), [0, 0, 0])
    assert np.array_equal(loss.prepare_targets("anything", 3, 2), np.zeros((3, 2)))


def test_gradient_outside_the_range_has_no_right_hand_side():
    """A singular Hessian whose range lacks the gradient: S, and None for b."""

    class Linear(Quartic):
        def gradient(self, F, Y):
            return np.ones_like(F)

        def hessian(self, F, Y):
            return np.tile(np.diag([1.0, 0.0]), (len(F), 1, 1))

        def hessian_sqrt(self, F, Y):
            return self.hessian(F, Y)

    S, b = get_loss(Linear()).curvature_factor(*two_outputs(4))
    assert np.array_equal(product(S), np.tile(np.diag([1.0, 0.0]), (4, 1, 1)))
    assert b is None


def test_derived_right_hand_side_is_bounded():
    """A b of 1e9 would drown the others in rounding: None. One of 1e7 is returned."""

    class Flat(Quartic):
        root = 1e-9

        def gradient(self, F, Y):
            return np.ones_like(F)

        def hessian_sqrt(self, F, Y):
            return np.tile(np.diag([1.0, self.root]), (len(F), 1, 1))

    flat = Flat()
    assert get_loss(flat).curvature_factor(*two_outputs(4))[1] is None
    flat.root = 1e-7
    assert np.allclose(get_loss(flat).curvature_factor(*two_outputs(4))[1], [1.0, 1e7])


def test_subclass_is_completed():
    """The training curvature of an indefinite loss is the positive part of its Hessian."""
    loss = get_loss(Saddle())
    assert isinstance(loss, Saddle)
    F, Y = two_outputs(5)
    S, b = loss.curvature_factor(F, Y)
    assert np.allclose(product(S), np.diag([1.0, 0.0]))
    assert b is None
    assert np.allclose(product(*loss.signed_factor(F, Y)), np.diag([1.0, -1.0]))
    with pytest.raises(ValueError, match="'saddle' is indefinite at sample 0"):
        loss.hessian_sqrt(F, Y)


@pytest.mark.parametrize("spoil", [lambda a: a[..., None], lambda a: a[1:]], ids=["ndim", "size"])
@pytest.mark.parametrize("method", ["value", "gradient", "hessian", "hessian_sqrt"])
def test_custom_shapes_are_checked(method, spoil):
    """A wrong shape is a ValueError that names the loss and the method."""
    bad, right = Quartic(), getattr(Quartic(), method)
    setattr(bad, method, lambda F, Y: spoil(right(F, Y)))
    with pytest.raises(ValueError, match=f"{method} of the loss 'Quartic' must return shape"):
        getattr(get_loss(bad), method)(*two_outputs())


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (object(), TypeError, "lacks value, gradient, hessian, hessian_sqrt"),
        (Quartic, TypeError, "not the class Quartic"),
        (Cauchy, TypeError, "not the class Cauchy"),
        (None, TypeError, "NoneType lacks"),
        ("hubert", ValueError, "'hubert' is unknown; did you mean 'huber'"),
    ],
)
def test_bad_loss(given, error, message):
    """Unknown names meet a suggestion; objects are told what they lack."""
    with pytest.raises(error, match=message):
        get_loss(given)


# --- names, parameters, configurations ------------------------------------------------------


@pytest.mark.parametrize("name", LOSSES)
def test_names(name):
    """Each name gives its loss with default scales."""
    assert get_loss(name).name == name
    assert get_loss(name).to_config()["name"] == name


@pytest.mark.parametrize("loss", SEPARABLE_LOSSES, ids=identify)
def test_config_round_trip(loss):
    """Through JSON and back, scales included."""
    assert loss_from_config(json.loads(json.dumps(loss.to_config()))) == loss


def test_config_of_custom_and_unknown():
    """Custom losses come back by name; unknown names and parameters are errors."""
    config = get_loss(Quartic()).to_config()
    assert loss_from_config(config, {"Quartic": Quartic()}).name == "Quartic"
    with pytest.raises(ValueError, match="'Quartic' is not stored"):
        loss_from_config(config)
    with pytest.raises(ValueError, match="did you mean 'cauchy'"):
        loss_from_config({"name": "cauchi"})
    with pytest.raises(ValueError, match="scala"):
        loss_from_config({"name": "cauchy", "scala": 1.0})


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Squared(scale=0.0), ValueError, "scale must be > 0"),
        (lambda: Cauchy(scale=-1.0), ValueError, "scale must be > 0"),
        (lambda: Cauchy(scale=np.nan), ValueError, "scale must be > 0 and finite"),
        (lambda: Cauchy(scale="a"), TypeError, "scale must be a real number"),
        (lambda: Huber(delta=np.inf), ValueError, "delta must be > 0 and finite"),
        (lambda: BlakeZisserman(epsilon=0.0), ValueError, "epsilon must be > 0"),
        (lambda: SmoothLp(p=2.0), ValueError, r"p must be in \(0, 2\)"),
        (lambda: SmoothLp(p=0.0), ValueError, "p must be > 0"),
        (lambda: SmoothLp(epsilon=0.0), ValueError, "epsilon must be > 0"),
    ],
)
def test_bad_parameters(make, error, message):
    """One error a case, naming the parameter."""
    with pytest.raises(error, match=message):
        make()


# --- kernels of the losses on classes ---------------------------------------------------------


def one_by_one(loss, F, Y):
    """Values, gradients and Hessians of the textbook, sample by sample."""
    textbook = naive.LOSSES[loss.name]()
    pairs = list(zip(F, Y, strict=True))
    return tuple(
        np.array([getattr(textbook, part)(f, y) for f, y in pairs]).reshape(len(F), *shape)
        for part, shape in (("value", ()), ("gradient", F.shape[1:]), ("hessian", 2 * F.shape[1:]))
    )


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 130])
@pytest.mark.parametrize("n", [1, 2, 3, 17])
@pytest.mark.parametrize("loss", [SoftmaxCrossEntropy(), Logistic()], ids=["softmax", "logistic"])
def test_losses_on_classes_against_the_textbook(loss, n, count):
    """Ragged numbers of samples, labels and probabilities, ties among the logits."""
    if n == 1 and loss.name == "softmax_cross_entropy":
        n = 4
    rng = np.random.default_rng(count + n)
    F = np.round(3.0 * rng.standard_normal((count, n)), 1)
    if loss.name == "logistic":
        Y = rng.integers(0, 2, (count, n)).astype(float)
    else:
        Y = np.eye(n)[rng.integers(0, n, count)]
        Y[::3] = rng.dirichlet(np.ones(n), len(Y[::3]))
    values, gradients, hessians = one_by_one(loss, F, Y)
    np.testing.assert_allclose(loss.value(F, Y), values, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(loss.gradient(F, Y), gradients, rtol=1e-12, atol=1e-14)
    S, b = loss.curvature_factor(F, Y)
    np.testing.assert_allclose(S @ S.transpose(0, 2, 1), hessians, rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(np.einsum("bij,bj->bi", S, b), gradients, rtol=1e-11, atol=1e-13)
    # In any order of memory, and the argument as it was.
    before = F.copy()
    np.testing.assert_array_equal(loss.gradient(np.asfortranarray(F), Y), loss.gradient(F, Y))
    np.testing.assert_array_equal(F, before)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("loss", [SoftmaxCrossEntropy(), Logistic()], ids=["softmax", "logistic"])
def test_what_is_not_finite_spreads(loss, place, bad):
    """A NaN or an infinite logit makes the loss of its sample NaN or infinite, and no other's."""
    F = np.random.default_rng(0).standard_normal((70, 3))
    Y = np.tile(np.eye(3)[0], (70, 1))
    clean = loss.value(F, Y), loss.gradient(F, Y)
    F[66, place] = bad
    with np.errstate(all="ignore"):
        value, gradient = loss.value(F, Y), loss.gradient(F, Y)
    sure = loss.name == "logistic" and bad == np.inf and place == 0  # right beyond all doubt
    assert np.isfinite(value[66]) == sure
    if np.isnan(bad):
        assert np.isnan(gradient[66, place])
    if loss.name == "softmax_cross_entropy":
        assert np.isnan(loss.curvature_factor(F, Y)[0][66]).any()
    others = np.arange(70) != 66
    np.testing.assert_array_equal(value[others], clean[0][others])
    np.testing.assert_array_equal(gradient[others], clean[1][others])


@pytest.mark.parametrize("method", ["value", "gradient", "value_and_gradient", "curvature_factor"])
@pytest.mark.parametrize("loss", [SoftmaxCrossEntropy(), Logistic()], ids=["softmax", "logistic"])
def test_targets_of_another_shape_are_refused(loss, method):
    """The kernels would read beyond the end of an array."""
    F = np.zeros((4, 3))
    cases = [(F, np.zeros((4, 2))), (F, np.zeros((3, 3))), (F, np.zeros(4)), (F[:, :0], F[:, :0])]
    for F, Y in cases:
        if loss.name == "logistic" and method == "curvature_factor":
            continue  # NumPy's
        with pytest.raises(ValueError, match="one shape"):
            getattr(loss, method)(F, Y)


@pytest.mark.parametrize("columns", [1, 2, 4, 7, 8, 9])
def test_sums_over_columns_have_the_bits_of_those_over_rows(columns):
    terms = np.random.default_rng(columns).standard_normal((500, columns))
    np.testing.assert_array_equal(row_sums(terms), terms.sum(axis=1))
