"""Rows on training: an iteration, and the time to a loss, beside other programs."""

from __future__ import annotations

import functools
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

import fastggn as fg
from bench import cases, peers
from bench.cases import Case
from bench.core import PAUSE, SMOKE, Absent, Outcome, Pair, Row, Side, Timing, relative_difference
from fastggn.training.methods.named import make_method

__all__ = ["ROWS", "time_to_mse"]

THREADS = peers.THREADS
# Damping of the rows on one iteration: large enough for one trial an iteration on both sides.
DAMPING = 0.25
# Mean squared errors of the race on kin8nm, and seconds after which a competitor is stopped.
MSE = {"full": 0.045, "smoke": 0.4}
LIMIT = {"full": 20.0, "smoke": 3.0}
# torch-levenberg-marquardt is the fastest peer; the others run in fewer seeds, and less long.
SLOW_SEEDS, SLOW_SHARE = 2, 0.6
# Gradient descent of the four-regions rows: the best of 0.03, 0.1, 0.3, 1 and 3 that descends.
BP_ALPHA = 0.3
# Undamped steps of full length leave the region where the system has full rank at once.
ALPHA = {"bp": BP_ALPHA, "ggn": 1e-4}
BP_COUNT = 20_760  # iterations of Shen's run by backpropagation (2018, Section 6)
RACERS: dict[str, Callable[[Case, float, float], float | None]] = {
    "torch-levenberg-marquardt": peers.torch_lm_seconds,
    "least_squares": peers.least_squares_seconds,
    "scikit-learn L-BFGS": peers.lbfgs_seconds,
}


def precision(mixed: bool) -> Literal["float64", "mixed"]:
    """Return the option of Levenberg-Marquardt for mixed precision."""
    return "mixed" if mixed else "float64"


def _never(target: float | None = None, **options: Any) -> dict[str, Any]:
    """Return options of a run that only `max_iter` or a loss ends."""
    return {"stop": fg.Stop(gradient=0.0, step=0.0, loss=0.0, target=target), **options}


def iteration_against_torch(
    size: str, make: Callable[[str], Case], count: int, mixed: bool = False
) -> Pair:
    """A Levenberg-Marquardt iteration against torch-levenberg-marquardt's, mean of `count`.

    The peer's damping is held where both start: its own rule would cost it trials.
    """
    case = make(size)
    method = fg.LevenbergMarquardt(
        solver="cholesky",
        damping=DAMPING,
        geodesic=False,
        precision=precision(mixed),
        curvature_samples="all",  # as the peer
    )
    problem, peer = case.problem(), peers.TorchLM(case, DAMPING, decrease=1.0)

    def ours(iterations: int = count) -> Any:
        return fg.train(problem, case.theta, method, **_never(max_iter=iterations))

    def difference() -> float:
        peer.restart()
        return relative_difference(ours(1).theta, peer.steps(1))

    with fg.threads(THREADS):
        trials = count + sum(record.rejections for record in ours().history)
    peer.restart()
    theirs = sum(peer.step()[1] for _ in range(count))
    return Pair(
        Side("fastggn", lambda _: ours(), lambda: None, threads=THREADS, scale=1 / count),
        Side(
            "torch-levenberg-marquardt",
            lambda _: peer.steps(count),
            peer.restart,
            scale=1 / count,
            max_calls=2 if case.widths[0] == 64 else None,
            warm=False,
        ),
        difference,
        1e-4 if mixed else 1e-8,
        rounds=3,
        note=f"{case.name}; {count} iterations took {trials} trials, the peer's {theirs}, "
        f"on {peer.threads} threads",
    )


def _our_seconds(case: Case, target: float, limit: float, mixed: bool) -> float | None:
    """Time `train` to the target; the first call of a process is left out."""
    problem = case.problem()
    with fg.threads(THREADS):
        start = time.perf_counter()
        result = fg.train(
            problem,
            case.theta,
            fg.LevenbergMarquardt(precision=precision(mixed)),
            **_never(target / 2.0, max_iter=10_000, max_time=limit),
        )
        seconds = time.perf_counter() - start
    return seconds if result.loss <= target / 2.0 else None


def _warm_up(case: Case) -> None:
    """Compile what the race needs: a few iterations in each precision there is."""
    problem = case.problem()
    with fg.threads(THREADS):
        fg.train(problem, case.theta, max_iter=2)
        fg.train(problem, case.theta, fg.LevenbergMarquardt(precision="mixed"), max_iter=2)


@functools.lru_cache(maxsize=2)
def _races(size: str) -> dict[str, list[float | None]]:
    """Return the seconds of every racer to the target, a seed after another."""
    target, limit = MSE[size], LIMIT[size]
    taken: dict[str, list[float | None]] = {name: [] for name in RACERS}
    taken |= {"fastggn": [], "fastggn mixed": []}
    _warm_up(cases.kin8nm(size))
    for seed in range(1 if size == SMOKE else 5):
        case = cases.kin8nm(size, seed)
        for name, race in RACERS.items():
            slow = name != "torch-levenberg-marquardt"
            if slow and seed >= SLOW_SEEDS:
                continue
            try:
                time.sleep(PAUSE)
                taken[name].append(race(case, target, _limit(name, size)))
            except Absent:
                taken.pop(name, None)
        for name, mixed in (("fastggn", False), ("fastggn mixed", True)):
            try:
                time.sleep(PAUSE)
                taken[name].append(_our_seconds(case, target, limit, mixed))
            except Absent:
                continue
    return taken


def _limit(name: str, size: str) -> float:
    """Return the seconds after which a racer is stopped."""
    return LIMIT[size] * (1.0 if name == "torch-levenberg-marquardt" else SLOW_SHARE)


def _bounded(seconds: float, limit: float) -> str:
    return f"> {limit:g} s" if np.isinf(seconds) else f"{seconds:.2f} s"


def _median(seconds: list[float | None]) -> float:
    return statistics.median(np.inf if s is None else s for s in seconds)


def time_to_mse(size: str, mixed: bool) -> Outcome:
    """The time to a training error, median over seeds, against the best peer's."""
    taken = dict(_races(size))
    name = "fastggn mixed" if mixed else "fastggn"
    mine = {key: taken.pop(key) for key in ("fastggn", "fastggn mixed")}[name]
    medians = {key: _median(seconds) for key, seconds in taken.items() if seconds}
    if not medians:
        raise Absent("none of the peers is installed")
    best = min(medians, key=lambda key: medians[key])
    texts = [
        f"{key} {_bounded(m, _limit(key, size))} ({len(taken[key])} seeds)"
        for key, m in medians.items()
    ]
    absent = [key for key in RACERS if key not in taken]
    texts += [f"{key} absent" for key in absent]
    ours = _median(mine)
    reached = [s for s in mine if s is not None]
    if np.isinf(ours) or np.isinf(medians[best]):
        return Outcome(None, note=f"not available: the target was not reached; {', '.join(texts)}")
    timings = (
        Timing(name, ours, min(reached), len(mine)),
        Timing(best, medians[best], min(s for s in taken[best] if s is not None), len(taken[best])),
    )
    note = f"MSE {MSE[size]}, {len(mine)} seeds, medians; " + ", ".join(texts)
    return Outcome(medians[best] / ours, *timings, note)


def _run(problem: Any, case: Case, method: str, count: int) -> Any:
    """Do `count` iterations of a method, whatever the loss does; "ggn/qr" names the solver."""
    name, _, solver = method.partition("/")
    given: dict[str, Any] = {"solver": solver} if solver else {}
    if name in ALPHA:
        given["step" if name == "ggn" else "rate"] = ALPHA[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fg.errors.FastGGNWarning)
        return fg.train(problem, case.theta, make_method(name, given), **_never(max_iter=count))


def iteration_against_bp(size: str, method: str, count: int) -> Pair:
    """An iteration of ours over one of gradient descent in PyTorch; below 1 is faster."""
    case = cases.four_regions(size)
    problem, descend = case.problem(), peers.torch_bp(case, BP_ALPHA)
    iterations = count if size != SMOKE else 5

    def difference() -> float:
        """Compare the descents: the methods themselves are different ones."""
        return relative_difference(_run(problem, case, "bp", 5).history[-1].loss, descend(5))

    # The row's figure is what an iteration of ours costs in descents: the sides change places.
    mine = Side("PyTorch BP", lambda: descend(iterations), scale=1 / iterations)
    other = Side(
        method,
        lambda: _run(problem, case, method, iterations),
        threads=THREADS,
        scale=1 / iterations,
    )
    with fg.threads(THREADS):
        solvers = {record.solver for record in _run(problem, case, method, iterations).history}
    note = f"{case.name}, {iterations} iterations, solved by {', '.join(sorted(solvers))}"
    return Pair(mine, other, difference, 1e-10, note=note)


def time_to_bp_loss(size: str, method: str = "lm") -> Outcome:
    """The time to the loss that gradient descent ends at, over the descent's time."""
    case = cases.four_regions(size)
    problem, descend = case.problem(), peers.torch_bp(case, BP_ALPHA)
    count = BP_COUNT if size != SMOKE else 50
    descend(10)
    start = time.perf_counter()
    loss = descend(count)
    theirs = time.perf_counter() - start
    taken, result = [], None
    with fg.threads(THREADS):
        _run(problem, case, method, 3)
        for _ in range(3):
            time.sleep(PAUSE)
            start = time.perf_counter()
            result = fg.train(problem, case.theta, method, **_never(loss, max_iter=1000))
            taken.append(time.perf_counter() - start)
    assert result is not None
    note = f"{method}: {result.n_iter} iterations to the loss {loss:.4g} of {count} descents"
    if result.loss > loss:
        return Outcome(None, note=f"not available: not reached; {note}")
    ours = statistics.median(taken)
    timings = (
        Timing(method, ours, min(taken), len(taken)),
        Timing("PyTorch BP", theirs, theirs, 1),
    )
    return Outcome(ours / theirs, *timings, note)


def mnist_by_batches(size: str) -> Outcome:
    """Seconds a pass of stochastic Levenberg-Marquardt where no matrix of size N would fit."""
    X, labels = cases.mnist("train")
    if size == SMOKE:
        X, labels = X[:400], labels[:400]
    net = fg.MLP((784, 512, 256, 10) if size != SMOKE else (784, 8, 10), "tanh")
    problem = fg.Problem(net, X, labels, "softmax_cross_entropy")
    options = _never(max_iter=4, max_time=300.0, seed=0)
    method = fg.LevenbergMarquardt(batch_size=100)
    with fg.threads(THREADS):
        result = fg.train(problem, net.init(seed=0), method, **options)
        images, digits = cases.mnist("t10k")
        right = float(np.mean(net.predict(result.theta, images).argmax(axis=1) == digits))
    ends = [0.0, *(record.seconds for record in result.history)]
    passes = [
        after - before
        for before, after, record in zip(ends, ends[1:], result.history, strict=False)
        if record.accepted
    ]
    if not passes:
        return Outcome(None, note="not available: no pass over the samples was accepted")
    note = (
        f"N={net.n_params}, T={X.shape[0]}, batches of 100 by the dual; loss "
        f"{result.initial_loss:.3f} to {result.loss:.4f}, {100 * right:.2f} % of the test digits "
        f"right after {len(passes)} passes and {result.seconds:.0f} s, "
        f"{result.n_iter - len(passes)} passes broken off while the damping was sought"
    )
    value = statistics.median(passes)
    return Outcome(value, Timing("fastggn", value, min(passes), len(passes)), note=note)


def _rows() -> list[Row]:
    rows = []
    what = "one LM iteration against torch-levenberg-marquardt"
    kin8nm = functools.partial(iteration_against_torch, make=cases.kin8nm, count=5)
    rows.append(Row("lm-kin8nm", f"{what}, kin8nm F(8,20,20,1)", ">=", 4.0, build=kin8nm))
    build: Any = functools.partial(kin8nm, mixed=True)
    rows.append(Row("lm-kin8nm-mixed", "the same, mixed precision", ">=", 6.0, build=build))
    build = functools.partial(iteration_against_torch, make=cases.digits, count=2)
    rows.append(Row("lm-digits", f"{what}, digits F(64,32,10)", ">=", 25.0, build=build))
    build = functools.partial(iteration_against_torch, make=cases.four_regions, count=10)
    rows.append(Row("lm-regions", f"{what}, F(2,10,10,4)", ">=", 10.0, build=build))
    what = "time to an MSE of 0.045, kin8nm, against the best peer"
    for key, mixed, target in (("mse", False, 8.0), ("mse-mixed", True, 12.0)):
        measure: Any = functools.partial(time_to_mse, mixed=mixed)
        title = f"{what}{', mixed precision' if mixed else ''}"
        rows.append(Row(key, title, ">=", target, measure=measure))
    for method, count in (("ggn/cholesky", 20), ("ggn/qr", 20), ("lm", 20), ("bp", 200)):
        build = functools.partial(iteration_against_bp, method=method, count=count)
        title = f"one {method} iteration over one BP iteration of PyTorch, F(2,10,10,4)"
        goal: Any = {"sense": "<=", "target": 4.0} if method == "ggn/cholesky" else {}
        rows.append(Row(f"bp-{method.replace('/', '-')}", title, build=build, **goal))
    title = f"time to the loss of {BP_COUNT} BP iterations, over BP's time"
    rows.append(Row("bp-time", title, "<=", 1 / 50, measure=time_to_bp_loss))
    title = "one pass of LM on MNIST, F(784,512,256,10), mini-batches"
    rows.append(Row("mnist", title, "", None, "s", measure=mnist_by_batches))
    return rows


ROWS = _rows()
