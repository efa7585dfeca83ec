"""An iteration with ``regularize=Evidence()`` over a plain one, in one process.

``python -m bench.evidence [--quick]`` prints a row a problem: the ratio of the CPU times and of the
times, each the least of `ROUNDS` runs that alternate, and the seconds of a plain iteration.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import numpy as np

import fastggn as fg

# Samples, widths: the target is a ratio of 1.5 from T = 300 to 100,000 and N to 2,000.
PROBLEMS = (
    (300, (8, 10, 1)),
    (300, (8, 60, 20, 1)),
    (1000, (8, 20, 20, 1)),
    (1000, (8, 30, 20, 1)),
    (2000, (8, 60, 20, 1)),
    (10_000, (8, 30, 1)),
    (10_700, (28, 30, 1)),
    (20_000, (8, 60, 20, 1)),
    (100_000, (8, 20, 20, 1)),
    (300, (8, 20, 20, 3)),
    (1000, (8, 30, 20, 3)),
    (10_000, (8, 20, 20, 3)),
)
QUICK = PROBLEMS[:5] + PROBLEMS[9:11]
ITERATIONS, ROUNDS = 20, 3
STOP = fg.Stop(gradient=0.0, step=0.0)


def problem(n_samples: int, widths: Sequence[int]) -> fg.Problem:
    """Return a noisy regression on a random teacher."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_samples, widths[0]))
    teacher = fg.MLP((widths[0], 5, widths[-1]))
    Y = teacher.predict(2.0 * teacher.init(seed=9), X)
    Y = (Y - Y.mean(axis=0)) / Y.std(axis=0) + 0.1 * rng.standard_normal(Y.shape)
    return fg.Problem(fg.MLP(widths), X, Y)


def seconds(samples: fg.Problem, regularize: fg.Evidence | None) -> tuple[float, float]:
    """Return CPU seconds and seconds of an iteration."""
    cpu, start = time.process_time(), time.perf_counter()
    run = fg.train(samples, seed=1, regularize=regularize, max_iter=ITERATIONS, stop=STOP)
    return (time.process_time() - cpu) / run.n_iter, (time.perf_counter() - start) / run.n_iter


def main() -> None:
    """Print the table."""
    print(f"{'T':>8} {'N':>5} {'outputs':>7} {'CPU':>6} {'time':>6} {'plain':>9}")
    for n_samples, widths in QUICK if "--quick" in sys.argv else PROBLEMS:
        samples = problem(n_samples, widths)
        plain, chosen = [], []
        for _ in range(ROUNDS + 1):  # the first round compiles
            plain.append(seconds(samples, None))
            chosen.append(seconds(samples, fg.Evidence()))
        a, b = np.min(plain[1:], axis=0), np.min(chosen[1:], axis=0)
        ratios = f"{b[0] / a[0]:6.2f} {b[1] / a[1]:6.2f}"
        size = f"{n_samples:8d} {samples.n_params:5d} {samples.n_outputs:7d}"
        print(f"{size} {ratios} {a[1]:7.4f} s", flush=True)


if __name__ == "__main__":
    main()
