"""The bits that 31 training runs end with, for a comparison of two versions.

``python -m bench.bits --json FILE`` stores of each run the SHA-256 of theta after 20 iterations,
theta after the first step, and the loss after 20. ``--against FILE`` compares a run with such a
file: equal bits, or the differences of these two numbers. The script calls public names only, so
that it measures another checkout of the same interface too:
``PYTHONPATH=OTHER python bench/bits.py --against FILE``.
Bits are those of one machine and one set of libraries.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["compare", "main"]

ITERATIONS = 20
STOPPED = 7  # where the resumed run was interrupted
RANKS = (1, 2, 3, 4)
# The most that a reordered sum may change: theta after a step, and the loss after all of them.
STEP_BOUND, LOSS_BOUND = 1e-13, 1e-8
STEP_BOUNDS = {"mixed": 1e-5}  # its matrix is a sum in float32
# No run may stop early.
ENDLESS = {"gradient": 0.0, "step": 0.0, "loss": 0.0}


@dataclass(frozen=True)
class Case:
    """A network, samples, and the options of `Problem` and `train`."""

    widths: tuple[int, ...] = (8, 20, 20, 1)
    n_samples: int = 1500
    net: dict[str, Any] = field(default_factory=dict)
    problem: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    weighted: bool = False
    gated: bool = False
    repeated: bool = False  # the last input is a copy of the first: J has a null space

    def samples(self) -> tuple[Any, Any, dict[str, Any]]:
        """Return X, Y, and the options of `Problem` that have an entry for each sample."""
        rng = np.random.default_rng(7)
        X = rng.normal(size=(self.n_samples, self.widths[0]))
        if self.repeated:
            X[:, -1] = X[:, 0]
        mixed = X @ rng.normal(size=(self.widths[0], self.widths[-1])) / self.widths[0] ** 0.5
        Y = np.sin(2.0 * mixed) + 0.3 * rng.normal(size=mixed.shape)
        loss = self.problem.get("loss")
        if loss == "softmax_cross_entropy":
            Y = Y.argmax(axis=1)
        elif loss == "logistic":
            Y = (Y > 0.0).astype(np.float64)
        more: dict[str, Any] = {}
        if self.weighted:
            more["sample_weight"] = rng.uniform(0.5, 2.0, self.n_samples)
        if self.gated:
            more["gates"] = [rng.integers(0, 2, (self.n_samples, n)) for n in self.widths[1:-1]]
        return X, Y, more


@dataclass(frozen=True)
class LogCosh:
    """A user's loss: log cosh of each residual."""

    def value(self, F: Any, Y: Any) -> Any:
        return np.log(np.cosh(F - Y)).sum(axis=1)

    def gradient(self, F: Any, Y: Any) -> Any:
        return np.tanh(F - Y)

    def hessian(self, F: Any, Y: Any) -> Any:
        return (1.0 / np.cosh(F - Y) ** 2)[:, :, None] * np.eye(F.shape[1])

    def hessian_sqrt(self, F: Any, Y: Any) -> Any:
        return (1.0 / np.cosh(F - Y))[:, :, None] * np.eye(F.shape[1])


LARGE = Case(problem={"l2": 1e-4})
SHARED = Case((4, 10, 8, 2), 600, problem={"l2": 1e-3}, weighted=True)


def cases() -> dict[str, Case]:
    """Return the cases that this process runs by itself, by name."""
    import fastggn as fg

    sine = fg.Activation.custom(
        "sine", lambda z: np.sin(z), lambda z: np.cos(z), lambda z: -np.sin(z)
    )
    small, deep = (4, 8, 1), (3, 7, 6, 5, 2)
    decay = {"l2": 1e-3}
    return {
        "lm": LARGE,
        "ggn": Case(
            small,
            400,
            {"activation": "softplus"},
            {"l2": 1e-2},
            {"method": fg.GaussNewton(step=0.5)},
        ),
        "newton": Case(deep, 300, {"activation": "sigmoid"}, decay, {"method": "newton"}),
        "newton-lsqr": Case(
            (4, 9, 2),
            300,
            {"activation": "softplus"},
            {"loss": "blake_zisserman", **decay},
            {"method": fg.Newton(solver="lsqr")},
        ),
        "auto": Case((6, 18, 18, 1), 700, {}, {"l2": 5e-2}, {"method": "auto"}),
        "bp": Case(
            deep,
            300,
            {"activation": "bent_identity"},
            decay,
            {"method": fg.GradientDescent(rate=0.05, momentum=0.9)},
        ),
        "adam": Case(deep, 300, {}, {}, {"method": fg.Adam(batch_size=64)}, weighted=True),
        "dual": Case(
            (4, 20, 20, 1), 60, {}, {"l2": 1e-2}, {"method": fg.LevenbergMarquardt(solver="dual")}
        ),
        "qr": Case(
            deep,
            300,
            {"activation": "softsign"},
            decay,
            {"method": fg.LevenbergMarquardt(solver="qr")},
            weighted=True,
        ),
        "lsqr": Case(
            (4, 10, 8, 2),
            300,
            {"activation": "relu"},
            decay,
            {"method": fg.LevenbergMarquardt(solver="lsqr")},
            gated=True,
        ),
        "softmax_cross_entropy": Case(
            (8, 12, 5), 500, {}, {"loss": "softmax_cross_entropy", **decay}
        ),
        "logistic": Case((5, 8, 3), 500, {"activation": "sigmoid"}, {"loss": "logistic", **decay}),
        "cauchy-exact": Case(
            deep, 300, {}, {"loss": "cauchy", "curvature": "exact", **decay}, weighted=True
        ),
        "smooth_lp-spared-biases": Case(
            (4, 10, 8, 1), 400, {}, {"loss": "smooth_lp", "l2": 1e-2, "penalize_biases": False}
        ),
        "huber": Case(
            (4, 10, 2),
            400,
            {"activation": "leaky_relu", "output_activation": "tanh"},
            {"loss": "huber", **decay},
            weighted=True,
        ),
        "custom": Case(deep, 300, {"activation": sine}, {"loss": LogCosh(), **decay}),
        "batches": Case(
            (4, 10, 8, 1), 600, {}, decay, {"method": fg.LevenbergMarquardt(batch_size=200)}
        ),
        "not-geodesic": Case(
            (4, 30, 1),
            500,
            {"activation": "square"},
            {"l2": 1e-2},
            {"method": fg.LevenbergMarquardt(geodesic=False)},
        ),
        "mixed": Case(
            (6, 16, 16, 2),
            800,
            {},
            {"l2": 3e-2},
            {"method": fg.LevenbergMarquardt(precision="mixed")},
        ),
        "bayesian": Case((4, 10, 1), 300, {}, {}, {"regularize": fg.Evidence()}),
        "bayesian-units": Case((4, 10, 1), 300, {}, {}, {"regularize": fg.Evidence(per="unit")}),
        "null-space": Case(
            small, 300, {}, {}, {"regularize": fg.NullSpace(1.0, "objective")}, repeated=True
        ),
    }


def make_problem(case: Case, *, folder: Path | None = None, comm: Any = None) -> Any:
    """Return the problem: of arrays, of files in a folder, or of this rank's share."""
    import fastggn as fg

    X, Y, more = case.samples()
    if folder is not None:
        np.save(folder / "X.npy", X)
        np.save(folder / "Y.npy", Y)
        X, Y = fg.data.open_npy(folder / "X.npy"), fg.data.open_npy(folder / "Y.npy")
    if comm is not None:
        rank, size = comm.Get_rank(), comm.Get_size()
        mine = slice(len(X) * rank // size, len(X) * (rank + 1) // size)
        X, Y, more = X[mine], Y[mine], {name: value[mine] for name, value in more.items()}
        more["comm"] = comm
    return fg.Problem(fg.MLP(case.widths, **case.net), X, Y, **case.problem, **more)


def train(problem: Any, *, n_threads: int | None = None, **options: Any) -> dict[str, Any]:
    """Train and return what is stored of the run."""
    import fastggn as fg

    first: list[list[float]] = []

    def keep(record: Any) -> None:
        if record.iteration == 1:
            first.append(record.theta.tolist())

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        defaults = {"max_iter": ITERATIONS, "stop": fg.Stop(**ENDLESS), "seed": 0}
        with fg.threads(n_threads):
            result = fg.train(problem, callbacks=[keep], **{**defaults, **options})
    return {
        "sha256": hashlib.sha256(result.theta.tobytes()).hexdigest(),
        "first": first[0] if first else [],
        "loss": result.loss,
        "iterations": result.n_iter,
        "status": result.status,
    }


def resumed(folder: Path) -> dict[str, Any]:
    """Stop the large run, and go on from its checkpoint with a problem made anew."""
    import fastggn as fg

    options = {"checkpoint": fg.Checkpoint(folder / "run.npz", every=5, resume=True)}
    begun = train(make_problem(LARGE), max_iter=STOPPED, **options)
    ended = train(make_problem(LARGE), **options)
    return {**ended, "first": begun["first"]}


def over_ranks(size: int) -> dict[str, Any]:
    """Start so many ranks of this file, and return what the first one printed."""
    beside = str(Path(sys.executable).parent)
    mpiexec = shutil.which("mpiexec", path=beside) or shutil.which("mpiexec")
    if mpiexec is None:
        raise SystemExit("mpiexec is not here: pip install 'fastggn[mpi]'")
    import fastggn as fg

    tree = str(Path(fg.__file__).parent.parent)  # the package that this process measures
    answer = subprocess.run(
        [mpiexec, "-n", str(size), sys.executable, __file__, "--as-rank"],
        env={**os.environ, "PYTHONPATH": tree, "NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    lines = [line for line in answer.stdout.splitlines() if line.startswith("{")]
    if answer.returncode != 0 or not lines:
        raise SystemExit(f"{size} ranks failed:\n{answer.stderr}")
    return dict(json.loads(lines[-1]))


def as_rank() -> int:
    """Train on this rank's share of the samples; the first rank prints the outcome."""
    from mpi4py import MPI

    found = train(make_problem(SHARED, comm=MPI.COMM_WORLD))
    if MPI.COMM_WORLD.Get_rank() == 0:
        print(json.dumps(found), flush=True)
    return 0


def runs(folder: Path) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Yield the name of each run and the function that makes it."""
    for name, case in cases().items():
        yield name, lambda case=case: train(make_problem(case), n_threads=1, **case.train)
    for count in (2, 3, 4):
        yield f"threads-{count}", lambda count=count: train(make_problem(LARGE), n_threads=count)
    yield "resumed", lambda: resumed(folder)
    yield "file", lambda: train(make_problem(LARGE, folder=folder), n_threads=1)
    for size in RANKS:
        yield f"ranks-{size}", lambda size=size: over_ranks(size)


def compare(name: str, found: dict[str, Any], before: dict[str, Any]) -> tuple[str, bool]:
    """Return a line about one run, and whether it differs by no more than a reordered sum."""
    if found["sha256"] == before["sha256"]:
        return "equal bits", True
    theta, known = np.array(found["first"]), np.array(before["first"])
    if theta.shape != known.shape:
        return "another number of parameters", False
    step = float(np.abs(theta - known).max() / np.abs(known).max())
    loss = abs(found["loss"] - before["loss"]) / abs(before["loss"])
    line = f"theta after step 1 differs by {step:.1e}, the loss after {ITERATIONS} by {loss:.1e}"
    return line, bool(step <= STEP_BOUNDS.get(name, STEP_BOUND) and loss <= LOSS_BOUND)


def main(arguments: list[str] | None = None) -> int:
    """Run all cases; the status is 1 where a comparison failed."""
    parser = argparse.ArgumentParser(description="The bits of 31 training runs.")
    parser.add_argument("--json", type=Path, help="store the outcome here")
    parser.add_argument("--against", type=Path, help="compare with an outcome stored before")
    parser.add_argument("--as-rank", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # four threads on two cores
    if options.as_rank:
        return as_rank()
    os.environ["NUMBA_NUM_THREADS"] = "4"
    before = json.loads(options.against.read_text()) if options.against else {}
    outcome: dict[str, Any] = {}
    failed = set(before)
    with tempfile.TemporaryDirectory() as folder:
        for name, run in runs(Path(folder)):
            found = outcome[name] = run()
            line = f"{found['sha256'][:16]} {found['iterations']:3d} {found['loss']:.12e}"
            if before:
                line, good = (
                    compare(name, found, before[name]) if name in before else ("new", False)
                )
                failed = failed - {name} if good else failed | {name}
            print(f"{name:24} {line}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(outcome, indent=1))
    if before:
        same = sum(outcome[n]["sha256"] == before[n]["sha256"] for n in outcome if n in before)
        print(f"{same} of {len(before)} equal; beyond the bounds: {', '.join(sorted(failed)) or 0}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
