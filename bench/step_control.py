"""Counts behind docs/decisions/0009-step-control.md: ``python -m bench.step_control``.

Numbers of iterations, assemblies and evaluations, not times: they repeat on any machine up to
rounding. About a minute.
"""

from __future__ import annotations

import contextlib
import statistics
import warnings
from collections.abc import Iterator

import numpy as np

import fastggn as fg
from bench.cases import kin8nm
from bench.core import FULL, Absent
from fastggn.training.control import damping
from fastggn.training.methods import levenberg_marquardt
from fastggn.training.result import TrainResult

SEEDS = 12


@contextlib.contextmanager
def constant(module: object, name: str, value: object) -> Iterator[None]:
    """Set a constant of the step control inside the block."""
    saved = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, saved)


def losses(result: TrainResult) -> np.ndarray:
    """Return the loss at theta0 and after every iteration."""
    return np.array([result.initial_loss, *(record.loss for record in result.history)])


def tail(result: TrainResult) -> float:
    """Return the iterations from a loss of 1e-6 to 1e-20; infinite if it was not reached."""
    found = losses(result)
    if found.min() > 1e-20:
        return np.inf
    return float(np.argmax(found <= 1e-20) - np.argmax(found <= 1e-6))


def order_of_convergence(found: np.ndarray) -> float | None:
    """From the last triple of errors that ends above 100 times the floor."""
    errors = np.sqrt(2.0 * found)
    ends = np.flatnonzero(errors > 100.0 * errors.min())
    if ends.size == 0 or ends[-1] < 2:
        return None
    a, b, c = np.log(errors[ends[-1] - 2 : ends[-1] + 1])
    return float((c - b) / (b - a))


def measure_ggn() -> None:
    """Shen's quadratic convergence: four regions, F(2, 20, 1), bent identity, 20 samples."""
    print("\nggn, alpha = 1, F(2,20,1), bent identity, 20 four-regions samples, 20 seeds")
    net = fg.MLP((2, 20, 1), activation="bent_identity")
    for data_seed in range(3):
        problem = fg.Problem(net, *fg.data.four_regions(20, seed=data_seed))
        iterations, orders = [], []
        for seed in range(20):
            theta = net.init(seed, scheme="normal")
            found = losses(fg.train(problem, theta, method="ggn", stop=fg.Stop(gradient=0.0)))
            if found.min() <= 1e-20:
                iterations.append(int(np.argmax(found <= 1e-20)))
                orders.append(order_of_convergence(found))
        order = statistics.median(o for o in orders if o is not None)
        print(
            f"  data seed {data_seed}: loss <= 1e-20 in {len(iterations)} of 20, order {order:.2f},"
            f" iterations {statistics.median(iterations):g} (median), {max(iterations)} (most)"
        )


def accept_with_fixed_factor(
    self: damping.NielsenDamping, gain: float, before: float, after: float
) -> None:
    """Nielsen's rule with lambda <= loss, whatever came of it: the plain form of the cap."""
    value = self.value * max(1.0 / 3.0, 1.0 - (2.0 * min(gain, 1.0) - 1.0) ** 3)
    self.value = max(min(value, after), self._floor)
    self._growth = 2.0


# What to change of the step control, and whether steps are corrected to second order.
RULES: dict[str, tuple[tuple[object, str, object], bool]] = {
    "Nielsen alone": ((damping, "LOSS_FACTOR", np.inf), False),
    "lambda <= loss": ((damping.NielsenDamping, "accept", accept_with_fixed_factor), False),
    "lambda <= c loss": ((damping, "LOSS_FACTOR", damping.LOSS_FACTOR), False),
    "and geodesic": ((damping, "LOSS_FACTOR", damping.LOSS_FACTOR), True),
}


def teacher(
    widths: tuple[int, ...], n_samples: int, activation: str, near: bool, seed: int
) -> tuple[fg.Problem, np.ndarray]:
    """Return a problem whose targets a network of its widths made, and where to start."""
    rng = np.random.default_rng(seed)
    net = fg.MLP(widths, activation=activation)
    X = rng.standard_normal((n_samples, widths[0]))
    theta = net.init(1000 + seed, scheme="normal")
    problem = fg.Problem(net, X, net.predict(theta, X))
    start = theta + 0.1 * rng.standard_normal(theta.size) if near else net.init(seed)
    return problem, start


TEACHERS = {
    "A: F(3,6,2) tanh, T=200, near": ((3, 6, 2), 200, "tanh", True),
    "B: F(3,6,2) tanh, T=200, anywhere": ((3, 6, 2), 200, "tanh", False),
    "C: F(2,20,1) bent identity, T=20": ((2, 20, 1), 20, "bent_identity", False),
    "D: F(4,8,8,2) tanh, T=60": ((4, 8, 8, 2), 60, "tanh", False),
    "E: F(2,10,1) sigmoid, T=300, near": ((2, 10, 1), 300, "sigmoid", True),
}


def measure_tails() -> None:
    """The end of a fit: with the cap lambda <= c loss, without it, with geodesic acceleration."""
    print(f"\nlm on teacher networks, {SEEDS} seeds: medians of iterations from 1e-6 to 1e-20, of")
    print("all iterations and of all evaluations; runs that did not reach 1e-20 in 150 iterations")
    for name, case in TEACHERS.items():
        print(f"  {name}")
        for rule, (change, geodesic) in RULES.items():
            with constant(*change):
                runs = [
                    fg.train(
                        *teacher(*case, seed), fg.LevenbergMarquardt(geodesic=geodesic),
                        stop=fg.Stop(gradient=0.0, target=1e-20), max_iter=150,
                    )
                    for seed in range(SEEDS)
                ]  # fmt: skip
            tails = [tail(run) for run in runs]
            print(
                f"    {rule:18s} {statistics.median(tails):4g} "
                f"{statistics.median(run.n_iter for run in runs):6g} "
                f"{statistics.median(run.history[-1].evaluations for run in runs):6g}"
                f"   missed {sum(np.isinf(tails))}"
            )


def measure_kin8nm() -> None:
    """To a training mean squared error of 0.045."""
    print("\nlm, kin8nm split 0, F(8,20,20,1), tanh, to a training MSE of 0.045, 8 seeds")
    try:
        case = kin8nm(FULL)
    except Absent as absent:
        print(f"  left out: {absent}")
        return
    problem = case.problem()
    for geodesic in (False, True):
        for share in (1e-3, 1e-2, 1e-1):
            with constant(damping, "INITIAL_SHARE", share):
                runs = [
                    fg.train(
                        problem,
                        seed=seed,
                        method=fg.LevenbergMarquardt(geodesic=geodesic),
                        stop=fg.Stop(target=0.0225),
                    )
                    for seed in range(8)
                ]
            last = [run.history[-1] for run in runs]
            print(
                f"  geodesic {geodesic!s:5}  first lambda {share:g}: assemblies "
                f"{[r.assemblies for r in last]}, factorisations "
                f"{[r.factorisations for r in last]}, "
                f"{sum(run.status == 'target_reached' for run in runs)} of 8 reached it"
            )
    for limit in (0.3, 0.75, 1.5):
        with constant(levenberg_marquardt, "LONGEST_CORRECTION", limit):
            runs = [
                fg.train(
                    problem,
                    seed=seed,
                    method=fg.LevenbergMarquardt(geodesic=True),
                    stop=fg.Stop(target=0.0225),
                )
                for seed in range(8)
            ]
        print(f"  longest correction {limit:g}: {[run.n_iter for run in runs]}")


if __name__ == "__main__":
    warnings.simplefilter("ignore", fg.FastGGNWarning)
    measure_ggn()
    measure_tails()
    measure_kin8nm()
