"""Equations solved by `ResidualProblem`, against exact solutions: what the tutorials claim."""

import re
import runpy
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

import fastggn as fg

TUTORIALS = Path(__file__).resolve().parent.parent / "docs" / "tutorials"
pytestmark = pytest.mark.timeout(7200)


def starts(few, all_starts):
    """Run a test in the tier slow from a few starts, and in the tier weekly from all."""
    tiers = pytest.mark.slow, pytest.mark.weekly
    return [pytest.param(*c, marks=m) for c, m in zip((few, all_starts), tiers, strict=True)]


def exact(x):
    return np.sin(np.pi * x[:, 0]) * np.sin(np.pi * x[:, 1])


def poisson(width):
    """Return the problem of Mueller and Zeinhofer (2023), 900 and 120 points."""
    side, s = (np.arange(30) + 0.5) / 30, np.arange(30) / 30
    inside = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    edges = (s, 0 * s), (0 * s + 1, s), (1 - s, 0 * s + 1), (0 * s, 1 - s)
    boundary = np.concatenate([np.column_stack(edge) for edge in edges])
    terms = [
        fg.Term(inside, lambda x, u: u.d("x", "x") + u.d("y", "y") + 2 * np.pi**2 * exact(x)),
        fg.Term(boundary, lambda x, u: u.value, weight=100.0),
    ]
    return fg.ResidualProblem(fg.MLP((2, width, 1)), terms, inputs=("x", "y"))


@pytest.mark.parametrize(
    ("width", "seeds", "bound"),
    starts((32, 3, 2e-6), (32, 10, 2e-6)) + starts((60, 1, 5e-7), (60, 3, 5e-7)),
)
def test_poisson(width, seeds, bound):
    """Median of the starts; each run takes at most a minute of an idle machine's two cores."""
    problem = poisson(width)
    points = np.random.default_rng(1).random((10_000, 2))
    errors = []
    for seed in range(seeds):
        began = time.process_time()
        result = fg.train(problem, seed=seed, max_iter=400)
        seconds = (time.process_time() - began) / 2
        values = problem.network.predict(problem.weights(result.theta), points)[:, 0]
        errors.append(np.linalg.norm(values - exact(points)) / np.linalg.norm(exact(points)))
        print(f"F(2,{width},1), seed {seed}: {errors[-1]:.1e}, {result.n_iter}, {seconds:.0f} s")
        assert seconds < 60
    assert np.median(errors) <= bound


def run(name, monkeypatch):
    """Return what a tutorial has computed."""
    monkeypatch.setenv("MPLBACKEND", "Agg")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Agg shows nothing
        return runpy.run_path(str(TUTORIALS / name))


@pytest.mark.slow
def test_the_page():
    """All its Python: Poisson in 15 lines at most, and a rod whose fit is as good as the noise."""
    text = (TUTORIALS.parent / "equations.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len([line for line in blocks[0].splitlines() if line.strip()]) <= 15
    names = {}
    exec(compile(blocks[0], "equations.md[0]", "exec"), names)
    wanted = exact(names["inside"])
    error = np.linalg.norm(names["u"][:, 0] - wanted) / np.linalg.norm(wanted)
    print(f"the page: {error:.1e}")
    assert error <= 2e-6
    for number, code in enumerate(blocks[1:], 1):
        exec(compile(code, f"equations.md[{number}]", "exec"), names)
    assert abs(names["kappa"] - 0.05) < 2.5 * names["error"] < 0.002
    assert 120.0 < names["found"].loss < 180.0


@pytest.mark.parametrize("seeds", starts(((),), ((1, 2),)))
def test_burgers(monkeypatch, seeds):
    """The tutorial's start, and two others."""
    names = run("7_burgers.py", monkeypatch)
    errors = [names["error"](names["result"].theta)]
    for seed in seeds:
        result = fg.train(names["problem"], seed=seed, max_iter=names["result"].n_iter)
        errors.append(names["error"](result.theta))
    print("Burgers:", " ".join(f"{error:.1e}" for error in errors))
    assert max(errors) <= 3e-5


@pytest.mark.slow
def test_standard_errors_of_rates(monkeypatch):
    found = run("8_unknown_rates.py", monkeypatch)
    assert np.size(found["ratios"]) == 80 and 0.6 < found["rms"] < 1.5


@pytest.mark.slow
def test_gradients_as_data(monkeypatch):
    errors = run("9_energies_and_forces.py", monkeypatch)["errors"]
    assert (np.divide(errors[False], errors[True]) >= 3.0).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["poisson", "burgers", "rates", "surface"])
def test_peers_minimise_the_same(name):
    """The objective that L-BFGS and Adam get in JAX, and its gradient."""
    pytest.importorskip("jax", reason="jax is absent: the extra test")
    from bench import equation_peers

    problem = equation_peers.study(name).problem
    theta = problem.init(seed=1)
    jax, loss = equation_peers.objective(problem)
    value, gradient = jax.jit(jax.value_and_grad(loss))(theta)
    assert float(value) == pytest.approx(problem.loss(theta), rel=1e-11)
    own = problem.gradient(theta)
    np.testing.assert_allclose(gradient, own, rtol=0, atol=1e-10 * np.abs(own).max())
