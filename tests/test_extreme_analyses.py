"""Analyses of inputs, targets and weights of 1e-300 to 1e300: a true report or a clear error."""

import warnings

import numpy as np
import pytest

import fastggn as fg
from fastggn import analysis
from fastggn.analysis import linear

LOSSES = ("squared", "huber", "cauchy", "smooth_lp", "logistic", "softmax_cross_entropy")
SIZES = (-300.0, -160.0, -77.0, -20.0, 0.0, 20.0, 77.0, 155.0, 250.0, 300.0)
HUNDREDS = pytest.mark.parametrize(
    ("first", "count"), [(0, 15), pytest.param(15, 150, marks=pytest.mark.slow)]
)
ANALYSES = {
    "rank_analysis": fg.rank_analysis,
    "jacobian rank": lambda problem, theta: problem.jacobian(theta).rank(),
    "null_space": analysis.null_space,
    "stationarity_split": analysis.stationarity_split,
    "largest_eigenvalues": analysis.largest_eigenvalues,
    "spectral_density": lambda p, theta: analysis.spectral_density(p, theta, probes=2, depth=5),
    "loss_along": lambda p, theta: analysis.loss_along(p, theta, points=5),
    "loss_along the gradient": lambda p, theta: analysis.loss_along(p, theta, "gradient", points=5),
    "loss_plane": lambda p, theta: analysis.loss_plane(p, theta, points=3),
    "effective_width": analysis.effective_width,
    "target_sensitivity": analysis.target_sensitivity,
    "laplace": lambda p, theta: fg.laplace(p, theta, alpha=1.0, beta=1.0),
    "critical_point": fg.critical_point,
    "polish": lambda p, theta: analysis.polish(p, theta, max_iter=5),
    "minimum_at_infinity": analysis.minimum_at_infinity,
    "rank_over_weights": lambda p, theta: analysis.rank_over_weights(p, 2),
    "index_along_gamma": lambda p, theta: analysis.index_along_gamma(p, theta, 1, 1),
}


# Their searches may leave float64, but then end in a verdict.
VERDICTS = ("critical_point", "polish", "minimum_at_infinity")


def extreme(seed):
    """Return a small problem and weights of drawn magnitudes, every third with usual weights."""
    rng = np.random.default_rng(seed)
    loss = str(rng.choice(LOSSES))
    T, h = int(rng.integers(2, 9)), int(rng.integers(1, 4))
    sizes = 10.0 ** rng.choice(SIZES, 3)
    X, Y = sizes[0] * rng.normal(size=(T, 2)), sizes[1] * rng.normal(size=(T, 1))
    if loss == "logistic":
        Y = (Y > 0.0).astype(float)
    if loss == "softmax_cross_entropy":
        Y = np.arange(T) % 3
    net = fg.MLP((2, h, 3 if Y.ndim == 1 else 1), str(rng.choice(["tanh", "relu", "softplus"])))
    weights = rng.normal(size=net.n_params) * (1.0 if seed % 3 else sizes[2])
    return fg.Problem(net, X, Y, loss), weights


@HUNDREDS
@pytest.mark.parametrize("name", ANALYSES)
def test_extreme_data_are_analysed_in_silence(name, first, count):
    """What cannot be computed is refused in words: no warning of NumPy, no other exception."""
    done = 0
    for seed in range(first, first + count):
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            warnings.simplefilter("ignore", fg.FastGGNWarning)
            problem, theta = extreme(seed)
            try:
                str(ANALYSES[name](problem, theta))
                done += 1
            except (ValueError, np.linalg.LinAlgError) as error:
                assert len(str(error)) > 20 and "converge" not in str(error), (seed, error)
                assert name not in VERDICTS or "theta: the loss there" in str(error), (seed, error)
            except RuntimeWarning as leak:
                raise AssertionError(f"instance {seed}: {leak}") from leak
    assert done


def scaled_lstsq(J, e, rank):
    """Return |e| and the share of e outside the range of J, by LAPACK on scaled copies."""
    unit = np.abs(e).max()
    e, J = e / unit, J / np.abs(J).max()
    u = np.linalg.svd(J, full_matrices=False)[0][:, :rank]
    return unit * np.linalg.norm(e), np.linalg.norm(e - u @ (u.T @ e)) / np.linalg.norm(e)


@HUNDREDS
def test_errors_and_ranks_in_any_units(first, count):
    """|eps|, its unseen share, the ranks and the gradient, against scaled copies by LAPACK."""
    for seed in range(first, first + count):
        rng = np.random.default_rng(seed)
        T, m = int(rng.integers(2, 12)), int(rng.integers(1, 3))
        net = fg.MLP((2, int(rng.integers(1, 4)), m))
        X, theta = rng.normal(size=(T, 2)), net.init(rng, "normal")
        unit = 10.0 ** rng.uniform(-290.0, 290.0)
        Y = unit * rng.normal(size=(T, m))
        problem = fg.Problem(net, X, Y)
        net.unpack(theta)[-1][:] *= unit
        with np.errstate(all="raise", under="ignore"):
            report = fg.rank_analysis(problem, theta)
        J, e = problem.jacobian(theta).to_dense(), (problem.outputs(theta) - Y).ravel()
        size, unseen = scaled_lstsq(J, e, report.rank)
        assert report.error_norm == pytest.approx(size, rel=1e-12), seed
        sizes = np.linalg.svd(J / np.abs(J).max(), compute_uv=False)
        clear = (sizes > 1e-12 * sizes[0]).sum(), (sizes > 1e-15 * sizes[0]).sum()
        assert clear[0] <= report.rank <= clear[1], seed
        if sizes[report.rank - 1] > 1e-8 * sizes[0]:  # else the space is known to fewer digits
            assert report.unseen_error == pytest.approx(unseen, abs=1e-6), seed
        sensitivities = problem.layer_sensitivities(theta)
        for layer, psi in zip(report.layers, sensitivities, strict=True):
            ranks = [np.linalg.matrix_rank(p / np.abs(p).max(), tol=1e-12) for p in psi]
            assert layer.psi_total == sum(ranks), seed
        products = (J / np.abs(J).max()).T @ (e / np.abs(e).max())
        gradient = float(np.linalg.norm(products) / T) * float(np.abs(J).max())
        gradient *= float(np.abs(e).max())
        if np.isfinite(gradient) and gradient > 1e-290:
            assert report.certificate.gradient_norm == pytest.approx(gradient, rel=1e-9), seed


@HUNDREDS
def test_linear_networks_in_any_units(first, count):
    """Constructed points keep their label, random ones are not critical, or sizes are refused."""
    refused = 0
    for seed in range(first, first + count):
        rng = np.random.default_rng(seed)
        widths = (3, *rng.integers(1, 4, int(rng.integers(1, 3))).tolist(), 2)
        X = rng.normal(size=(10, 3))
        Y = X @ rng.normal(size=(3, 2)) + 0.3 * rng.normal(size=(10, 2))
        modes = list(range(int(rng.integers(0, min(widths) + 1))))
        usual = linear.classify(linear.construct(X, Y, widths, modes, seed=seed), X, Y)
        a, b = 10.0 ** rng.uniform(-90.0, 90.0, 2)
        with np.errstate(all="raise", under="ignore"):
            if max(abs(np.log10(np.abs(part).max())) for part in (a * X, b * Y)) > 70.0:
                refused += 1
                with pytest.raises(ValueError, match="power of two"):
                    linear.critical_values(a * X, b * Y, widths)
                continue
            weights = linear.construct(a * X, b * Y, widths, modes, seed=seed)
            found = linear.classify(weights, a * X, b * Y)
            values = linear.critical_values(a * X, b * Y, widths) / b / b
            size = (b / a) ** (1.0 / len(weights))
            away = [size * rng.normal(size=w.shape) for w in weights]
            assert linear.classify(away, a * X, b * Y).label == "not_critical", seed
        assert found.label == usual.label, (seed, str(found))
        np.testing.assert_allclose(values, linear.critical_values(X, Y, widths), rtol=1e-9)
    assert refused < count


def test_no_unit_makes_a_gradient_zero():
    """The certificate, and the exact fit: of random points none, of exact fits all."""
    for seed in range(100):
        rng = np.random.default_rng(seed)
        T = int(rng.integers(2, 6))
        net = fg.MLP((2, T, 1))
        X, theta = rng.normal(size=(T, 2)), net.init(rng, "normal")
        unit = 10.0 ** rng.uniform(-140.0, 140.0)
        net.unpack(theta)[-1][:] *= unit
        away = fg.Problem(net, X, unit * rng.normal(size=T))
        report = fg.rank_analysis(away, theta)
        assert not report.certificate.holds and not report.bounds["proposition_4"].applies, seed
        fitted = fg.Problem(net, X, net.predict(theta, X))
        report = fg.rank_analysis(fitted, theta)
        assert report.certificate.holds == report.certificate.full_column_rank, seed
        assert report.bounds["proposition_4"].applies, seed


def test_no_unit_makes_a_point_stationary():
    """Misfits and factors are compared with what they are made of: 100 random points, 100 fits."""
    for seed in range(100):
        rng = np.random.default_rng(seed)
        T, a, b = int(rng.integers(3, 9)), *10.0 ** rng.uniform(-140.0, 140.0, 2)
        net = fg.MLP((2, *rng.integers(1, 4, int(rng.integers(1, 3))), 1))
        X, theta = rng.normal(size=(T, 2)), net.init(rng, "normal")
        layers = net.unpack(theta)
        layers[0][:, :2] /= a
        layers[-1][:] *= b
        away = fg.Problem(net, a * X, b * rng.normal(size=T))
        assert analysis.stationarity_split(away, theta).kind == "not_stationary", seed
        fitted = fg.Problem(net, a * X, net.predict(theta, a * X))
        assert analysis.stationarity_split(fitted, theta).kind == "zero_misfit", seed


def test_no_unit_makes_a_fit_exact():
    """Weights that pass through targets of any size, to eight digits of them."""
    for seed in range(100):
        rng = np.random.default_rng(seed)
        T, unit = int(rng.integers(2, 7)), 10.0 ** rng.uniform(-140.0, 140.0)
        net = fg.MLP((2, T, 2), str(rng.choice(["tanh", "relu", "softplus"])))
        X, Y = rng.normal(size=(T, 2)), unit * rng.normal(size=(T, 2))
        theta = analysis.exact_fit(net, X, Y, seed=seed)
        assert np.abs(net.predict(theta, X) - Y).max() <= 1e-8 * np.abs(Y).max(), seed
