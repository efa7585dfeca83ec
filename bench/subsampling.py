"""Curvature from some of the samples against all of them, in one process.

``python -m bench.subsampling [--quick]`` prints, for F(8, 20, 20, 1): an iteration at T = 10^6 over
one pass for loss and gradient, and over an iteration on all samples; the times to the loss of the
teacher plus 2 % on four problems, and at T = 20, 40 and 100 N. ``--ends`` prints, in place of all
this, the losses of whole runs: no times, so that other programs do not disturb it.
"""

from __future__ import annotations

import statistics
import sys
import time

import numpy as np

import fastggn as fg
from fastggn.runtime.threads import threads
from fastggn.training.result import TrainResult

WIDTHS = (8, 20, 20, 1)
PROBLEMS = ("noise", "outliers", "softmax", "duplicates")
# The loss to reach, over that of the teacher; the iterations of a run at most, to that and in all.
REACHED, ITERATIONS, WHOLE = 1.02, 150, 20
STOP = fg.Stop(gradient=0.0, step=0.0)
# A whole run ends where an iteration gains no more than this share of the loss.
SETTLED = fg.Stop(loss=1e-5)


def problem(kind: str, n_samples: int, seed: int) -> tuple[fg.Problem, float]:
    """Return noisy samples of a random teacher, and its loss on them."""
    rng = np.random.default_rng(100 + seed)
    n_outputs = 3 if kind == "softmax" else 1
    X = rng.standard_normal((n_samples, WIDTHS[0]))
    teacher = fg.MLP((WIDTHS[0], 10, 10, n_outputs))
    F = teacher.predict(2.0 * teacher.init(seed=seed), X)
    F = (F - F.mean(axis=0)) / F.std(axis=0)
    if kind == "duplicates":
        copies = n_samples // 20
        origin = rng.integers(copies, n_samples, copies)
        X[:copies], F[:copies] = X[origin], F[origin]
    net = fg.MLP((*WIDTHS[:-1], n_outputs))
    if kind == "softmax":
        F *= 4.0
        Y = np.argmax(F + rng.gumbel(size=F.shape), axis=1)
        samples = fg.Problem(net, X, Y, loss="softmax_cross_entropy")
    else:
        Y = F + 0.1 * rng.standard_normal(F.shape)
        if kind == "outliers":
            Y[rng.random(n_samples) < 0.05] *= 5.0
        samples = fg.Problem(net, X, Y, loss="cauchy" if kind == "outliers" else "squared")
    floor = float(np.mean(samples.loss_function.value(F, samples.targets)))
    return samples, floor


def run(samples: fg.Problem, curvature: str, seed: int, **options: object) -> TrainResult:
    """Train with the curvature of all samples or of some."""
    method = fg.LevenbergMarquardt(curvature_samples=curvature, solver="cholesky")
    return fg.train(samples, seed=seed, method=method, **options)


def measure_iteration(n_samples: int) -> None:
    """Print the least time of an iteration, over a pass and over that on all samples."""
    samples, _ = problem("noise", n_samples, 0)
    theta = samples.network.init(0)

    def once() -> float:
        start = time.perf_counter()
        with threads():
            samples.at(theta).evaluate()
        return time.perf_counter() - start

    once()
    passes = [once() for _ in range(3)]
    found = {}
    for curvature, iterations in (("auto", 12), ("all", 3)):
        seconds = [0.0, *(r.seconds for r in run(samples, curvature, 0, stop=STOP,
                                                 max_iter=iterations).history)]  # fmt: skip
        found[curvature] = float(np.min(np.diff(seconds)[1:]))
        passes.append(once())
    least = min(passes)
    print(
        f"T = {n_samples:,}: pass {least:.3f} s, iteration {found['auto']:.3f} s "
        f"({found['auto'] / least:.2f} passes), on all samples {found['all']:.3f} s "
        f"({found['all'] / found['auto']:.1f} times as long)",
        flush=True,
    )


def measure_times(kind: str, n_samples: int, seeds: range) -> list[float]:
    """Print and return the ratios of the times to the teacher's loss plus 2 %."""
    ratios = []
    for seed in seeds:
        samples, floor = problem(kind, n_samples, seed)
        if not ratios:
            run(samples, "auto", seed, max_iter=1)  # the kernels are there afterwards
        seconds, text = {}, ""
        for curvature in ("auto", "all"):
            stop = fg.Stop(gradient=0.0, step=0.0, target=REACHED * floor)
            start = time.perf_counter()
            end = run(samples, curvature, seed, stop=stop, max_iter=ITERATIONS)
            seconds[curvature] = time.perf_counter() - start
            share = sum(r.curvature_samples or n_samples for r in end.history) / n_samples
            text += (
                f"  {curvature}: {seconds[curvature]:7.2f} s, {end.n_iter:3d} iterations, "
                f"{share:5.1f} assemblies, loss {end.loss / floor:.4f}"
            )
        ratios.append(seconds["all"] / seconds["auto"])
        print(f"T = {n_samples:9,} {kind:10} seed {seed} {ratios[-1]:6.2f}{text}", flush=True)
    return ratios


def end_of(kind: str, n_samples: int, seed: int) -> float:
    """Print the losses of whole runs, and return by which share that on some samples is higher."""
    samples, floor = problem(kind, n_samples, seed)
    ends = {}
    for curvature in ("auto", "all"):
        ends[curvature] = run(samples, curvature, seed, stop=SETTLED, max_iter=WHOLE)
    excess = ends["auto"].loss / ends["all"].loss - 1.0
    text = (f"  {c}: {end.loss / floor:.5f}, {end.n_iter} iterations" for c, end in ends.items())
    print(f"{kind:10} seed {seed} {excess:+8.3%}", *text, flush=True)
    return excess


def measure_ends(n_samples: int, seeds: range) -> None:
    """Print how many of the runs that no target ends do so with a higher loss on some samples."""
    excesses = [end_of(kind, n_samples, seed) for seed in seeds for kind in PROBLEMS]
    worse = sum(excess > 0.01 for excess in excesses)
    print(f"{worse} of {len(excesses)} end worse by more than 1 %, the worst {max(excesses):+.3%}")


def main() -> None:
    """Print the rows."""
    quick = "--quick" in sys.argv
    if "--ends" in sys.argv:
        measure_ends(20_000 if quick else 100_000, range(1 if quick else 5))
        return
    n = fg.MLP(WIDTHS).n_params
    for multiple in (21, 40, 100):
        ratios = measure_times("noise", multiple * n, range(2 if quick else 10))
        slower = sum(ratio < 0.95 for ratio in ratios)
        print(f"T = {multiple} N: median {statistics.median(ratios):.2f}, {slower} slower by 5 %")
    every: list[float] = []
    for kind in PROBLEMS:
        every += measure_times(kind, 100_000, range(1 if quick else 5))
    print(f"T = 100,000: median {statistics.median(every):.2f}, least {min(every):.2f}")
    measure_iteration(200_000 if quick else 1_000_000)
    if not quick:
        measure_times("noise", 1_000_000, range(1))


if __name__ == "__main__":
    main()
