"""The parts of the Hessian, their largest eigenvalues along a run, and their spectral density."""

import numpy as np
import pytest

import fastggn as fg
from fastggn import analysis

LOSSES = ("squared", "huber", "softmax_cross_entropy")


def problem_of(loss="squared", widths=(3, 6, 4, 2), T=60, seed=0, l2=0.01):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((T, widths[0]))
    if loss == "softmax_cross_entropy":
        Y = rng.integers(0, widths[-1], T)
    else:
        Y = np.sin(X @ rng.standard_normal((widths[0], widths[-1])))
    problem = fg.Problem(fg.MLP(widths), X, Y, loss, l2=l2)
    return problem, problem.network.init(seed=seed)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_parts_add_up(loss):
    problem, theta = problem_of(loss)
    H, G = problem.hessian(theta), problem.ggn(theta)
    unit = np.eye(problem.n_params)
    for part, dense in {"H": H, "G": G, "S": H - G}.items():
        operator = analysis.curvature(problem, theta, part)
        np.testing.assert_allclose(operator @ unit, dense, atol=1e-13 * np.abs(H).max())
        values, vectors = analysis.largest_eigenvalues(problem, theta, part, 3)
        np.testing.assert_allclose(values, np.linalg.eigvalsh(dense)[::-1][:3], rtol=1e-7)
        np.testing.assert_allclose(dense @ vectors, vectors * values, atol=1e-6 * values[0])
    with pytest.raises(ValueError, match="part 'F' is unknown"):
        analysis.curvature(problem, theta, "F")
    with pytest.raises(ValueError, match="count must be at most"):
        analysis.largest_eigenvalues(problem, theta, count=1000)


def test_largest_eigenvalues_along_a_run():
    problem, theta = problem_of(widths=(3, 8, 5, 2))
    thetas, trace = {}, analysis.CurvatureTrace(problem, every=3)

    def keep(record):
        thetas[record.iteration] = np.array(record.theta)

    fg.train(problem, theta, max_iter=12, callbacks=[keep, trace])
    assert trace.iterations == [3, 6, 9, 12]
    for k, iteration in enumerate(trace.iterations):
        H, G = problem.hessian(thetas[iteration]), problem.ggn(thetas[iteration])
        for part, dense in {"H": H, "G": G, "S": H - G}.items():
            exact = np.linalg.eigvalsh(dense)[-1]
            assert abs(trace.values[part][k] - exact) <= 1e-6 * abs(exact)
    axes = trace.plot(rate=0.5).axes[0]
    assert {line.get_label() for line in axes.get_lines()} == {
        "Hessian H", "Gauss-Newton matrix G", "S = H - G", "2 / rate = 4"
    }  # fmt: skip


@pytest.mark.parametrize("part", [pytest.param("H", marks=pytest.mark.slow), "G"])
def test_density_against_the_dense_spectrum(part):
    problem, theta = problem_of(widths=(8, 24, 12, 2), T=150, l2=0.0)
    theta = fg.train(problem, theta, max_iter=5).theta
    assert problem.n_params > 500
    dense = problem.hessian(theta) if part == "H" else problem.ggn(theta)
    exact = np.linalg.eigvalsh(dense)
    found = analysis.spectral_density(problem, theta, part, depth=200 if part == "H" else 100)
    # Between eigenvalues, outside the peak at 0 that the depth does not resolve.
    points = 0.5 * (exact[1:] + exact[:-1])
    points = points[np.abs(points) > 1e-3 * exact[-1]]
    shares = np.searchsorted(exact, points) / exact.size
    assert np.abs(found.cumulative(points) - shares).max() < 0.02
    assert found.weights.sum() == pytest.approx(1.0)
    grid = np.linspace(exact[0] - 1, exact[-1] + 1, 4001)
    area = found.density(grid, 0.05).sum() * (grid[1] - grid[0])
    assert area == pytest.approx(1.0, abs=1e-3)
    title = found.plot().axes[0].get_title()
    assert ("Fisher" in title) == (part == "G") and f"N = {problem.n_params}" in title


def test_gradient_descent_ends_at_the_edge_of_stability():
    """The sharpness rises to 2 / rate and stays there (Cohen et al. 2021)."""
    X = np.linspace(-1, 1, 20)[:, None]
    problem = fg.Problem(fg.MLP((1, 20, 1)), X, np.sin(5 * X))
    rate = 0.3
    trace = analysis.CurvatureTrace(problem, parts=("H",), every=500)
    method = fg.GradientDescent(rate=rate)
    stop = fg.Stop(gradient=0.0, step=0.0, loss=0.0)
    fg.train(problem, seed=0, method=method, max_iter=14_000, stop=stop, callbacks=[trace])
    sharpness = np.array(trace.values["H"])
    assert sharpness.min() < 0.8 * 2 / rate
    assert np.median(sharpness[-6:]) == pytest.approx(2 / rate, rel=0.03)
