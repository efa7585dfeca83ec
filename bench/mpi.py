"""``python -m bench.mpi``: scaling over MPI ranks, measured here and modelled for 1,024.

Launches itself under mpiexec with 1, 2 and 4 ranks of one thread: strong scaling (the samples are
shared) and weak scaling (each rank has as many). Every operation of the communicator is counted,
with its bytes. The model adds, to the measured compute time a sample and the factorisation, the
time of these messages on a stated network.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import scipy.linalg

WIDTHS = (10, 32, 32, 1)
STRONG, WEAK = 16_000, 4_000  # samples of all ranks, and of one
REPEATS = 5
ITERATIONS = 7

# The network of the model: 100 Gb/s with one rank a node, and what adds two received vectors.
LATENCY, BANDWIDTH, ADDITION = 2e-6, 12.5e9, 2e9  # s, bytes/s, additions/s
MODELLED = (1, 16, 64, 256, 1024)


def count_messages():
    """Let the communicator count calls and bytes of its reductions, and of small messages."""
    from fastggn.runtime import mpi

    counts = Counter()
    plain = {name: getattr(mpi.MpiComm, name) for name in ("sum", "broadcast", "agree", "gather")}

    def counted(name):
        def call(self, value):
            counts[f"{name} calls"] += 1
            n_bytes = getattr(value, "nbytes", 64)
            counts[f"{name} bytes"] += n_bytes
            counts["longest"] = max(counts["longest"], n_bytes)
            return plain[name](self, value)

        return call

    for name in plain:
        setattr(mpi.MpiComm, name, counted(name))
    return counts


def timed(comm, action):
    """Return the least time of the slowest rank, in seconds."""
    action()
    best = math.inf
    for _ in range(REPEATS):
        comm.Barrier()
        start = time.perf_counter()
        action()
        best = min(best, comm.allreduce(time.perf_counter() - start, max_of()))
    return best


def max_of():
    from mpi4py import MPI

    return MPI.MAX


def worker(n_samples):
    """Time the parts of an iteration on this rank's share; rank 0 prints them."""
    from mpi4py import MPI

    import fastggn as fg

    counts = count_messages()
    comm = MPI.COMM_WORLD
    net = fg.MLP(WIDTHS)
    first, last = (n_samples * (comm.rank + i) // comm.size for i in (0, 1))
    rng = np.random.default_rng(comm.rank)
    X = rng.standard_normal((last - first, WIDTHS[0]))
    Y = np.sin(X.sum(axis=1))
    problem = fg.Problem(net, X, Y, l2=1e-6, comm=comm)
    theta = net.init(seed=0)
    v = np.random.default_rng(1).standard_normal(net.n_params)
    gram = problem.ggn(theta)
    gram.flat[:: net.n_params + 1] += 1.0

    def messages(action):
        counts.clear()
        action()
        return dict(counts)

    def iterations(solver, count, **options):
        return lambda: fg.train(
            problem,
            theta,
            method=fg.LevenbergMarquardt(solver=solver),
            max_iter=count,
            stop=fg.Stop(step=0.0),
            **options,
        )

    lin = problem.at(theta)
    operations = {
        "gradient": lambda: problem.at(theta).gradient,
        "ggn": lambda: problem.ggn(theta),
        "pair of products": lambda: lin.rmatvec(lin.matvec(v)),
        "every rank factors": lambda: every_rank_factors(problem.comm, gram),
        "rank 0 factors": lambda: one_factors(problem.comm, gram),
        "reduction": lambda: problem.comm.sum(np.zeros(gram.size // 2)),
        "small message": lambda: [problem.comm.total(1.0) for _ in range(100)],
    }
    found = {"ranks": comm.size, "samples": n_samples, "n_params": net.n_params}
    found["seconds"] = {name: timed(comm, action) for name, action in operations.items()}
    two, four = messages(iterations("cholesky", 2)), messages(iterations("cholesky", 4))
    found["iteration"] = {key: (four[key] - two.get(key, 0)) / 2 for key in four}
    found["pair"] = messages(operations["pair of products"])
    found["iteration"]["longest"] = four.get("longest", 0)
    found["seconds"]["lm iteration"] = min(iteration_time(comm, problem, theta) for _ in range(3))
    if comm.rank == 0:
        print("FOUND", json.dumps(found))


def one_factors(comm, gram):
    """Let rank 0 factor alone, and the others wait for the solution of one system."""
    step = np.zeros(gram.shape[0])
    if comm.rank == 0:
        factor = scipy.linalg.cho_factor(gram, lower=True, check_finite=False)
        step = scipy.linalg.cho_solve(factor, np.ones(gram.shape[0]))
    comm.broadcast(step)


def every_rank_factors(comm, gram):
    """Let each rank factor and solve, and take rank 0's solution: what the package does."""
    factor = scipy.linalg.cho_factor(gram, lower=True, check_finite=False)
    comm.broadcast(scipy.linalg.cho_solve(factor, np.ones(gram.shape[0])))


def iteration_time(comm, problem, theta):
    """Return the least time between two records of a run without rejected steps."""
    import fastggn as fg

    run = fg.train(
        problem, theta, method=fg.LevenbergMarquardt(solver="cholesky"), max_iter=ITERATIONS
    )
    pairs = zip(run.history, run.history[1:], strict=False)
    own = min(new.seconds - old.seconds for old, new in pairs if new.rejections == 0)
    return comm.allreduce(own, max_of())


def launch(ranks, samples):
    """Return what `worker` prints."""
    beside = str(Path(sys.executable).parent)
    mpiexec = shutil.which("mpiexec", path=beside) or shutil.which("mpiexec")
    if mpiexec is None:
        raise SystemExit("mpiexec is absent: pip install 'fastggn[mpi]'")
    command = [mpiexec, "-n", str(ranks), sys.executable, "-m", "bench.mpi", "--worker"]
    single = dict.fromkeys(("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    done = subprocess.run(
        [*command, str(samples)],
        env={**os.environ, **single},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    return json.loads(line.removeprefix("FOUND "))


def large_message(n_bytes, ranks):
    """Return the seconds of a reduction and a broadcast of a long vector on the stated network.

    Reduction by recursive halving and gather, broadcast by scatter and ring (Thakur, Rabenseifner
    and Gropp 2005): each moves the vector about twice past every rank.
    """
    if ranks == 1:
        return 0.0
    steps = math.log2(ranks)
    share = (ranks - 1) / ranks
    moved = 4 * share * n_bytes / BANDWIDTH
    return (3 * steps + ranks - 1) * LATENCY + moved + share * n_bytes / 8 / ADDITION


def small_message(n_bytes, ranks):
    """Return the seconds of a reduction and a broadcast by binomial trees."""
    return 2 * math.log2(ranks) * (LATENCY + n_bytes / BANDWIDTH) if ranks > 1 else 0.0


def model(single, shared, samples, ranks, cores):
    """Return (compute, factorisation, messages) of one LM iteration, in seconds.

    Compute: an assembly, the gradient, and the four products of a step with its correction.
    """
    seconds = single["seconds"]
    factor = seconds["every rank factors"] / cores  # once: the correction has the same damping
    parts = seconds["ggn"] + seconds["gradient"] + 4 * seconds["pair of products"]
    per_sample = parts / single["samples"]
    calls = shared["iteration"]
    panels, vector = calls["longest"], 8 * single["n_params"]
    vectors = (calls["sum bytes"] + calls["broadcast bytes"] - panels) / vector
    every = sum(calls[f"{name} calls"] for name in ("sum", "broadcast", "agree", "gather"))
    sent = large_message(panels, ranks) + vectors * small_message(vector, ranks)
    sent += (every - 1 - vectors) * small_message(8, ranks)
    return per_sample * samples / ranks / cores, factor, sent


def table(rows, head):
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def measured(results):
    """Return the table of one kind of scaling."""
    rows = []
    for found in results:
        cells = [str(found["ranks"]), f"{found['samples']:,}"]
        for name in ("gradient", "ggn", "pair of products", "lm iteration"):
            seconds, first = found["seconds"][name], results[0]["seconds"][name]
            cells.append(f"{1e3 * seconds:.1f} ms ({first / seconds:.2f})")
        rows.append(cells)
    head = ("ranks", "samples", "gradient", "GGN", "J v and J^T u", "LM iteration")
    return table(rows, head)


def factorisations(results):
    """Return the table of the redundant factorisation beside that of rank 0 alone."""
    rows = []
    for found in results:
        every, one = (found["seconds"][f"{who} factors"] for who in ("every rank", "rank 0"))
        share = every / found["seconds"]["lm iteration"]  # its correction uses the same factor
        cells = [str(found["ranks"]), *(f"{1e3 * t:.1f} ms" for t in (every, one))]
        rows.append([*cells, f"{100 * share:.0f} %"])
    return table(rows, ("ranks", "every rank factors", "rank 0 factors", "share of an iteration"))


def predicted(single, shared, samples_of, cores):
    rows, first = [], None
    for ranks in MODELLED:
        parts = model(single, shared, samples_of(ranks), ranks, cores)
        total = sum(parts)
        work = samples_of(ranks) / total
        first = first or work
        cells = [f"{ranks:,}", f"{samples_of(ranks):,}", *(f"{1e3 * part:.2f}" for part in parts)]
        rows.append([*cells, f"{1e3 * total:.2f}", f"{100 * work / first / ranks:.0f} %"])
    head = ("ranks", "samples", "compute, ms", "Cholesky, ms", "messages, ms", "sum, ms", "share")
    return table(rows, head)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker", type=int, metavar="T", help="run as a rank")
    parser.add_argument("--json", metavar="FILE", help="write the measurements")
    arguments = parser.parse_args()
    if arguments.worker is not None:
        worker(arguments.worker)
        return 0
    ranks = (1, 2, 4)
    strong = [launch(p, STRONG) for p in ranks]
    weak = [launch(p, WEAK * p) for p in ranks]
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({"strong": strong, "weak": weak}, indent=1))
    single, shared = strong[0], strong[1]
    print(f"network {WIDTHS}, N = {single['n_params']}, one thread a rank, {os.cpu_count()} cores")
    print("\nStrong scaling (in brackets: time on 1 rank over time)\n")
    print(measured(strong))
    print("\nWeak scaling\n")
    print(measured(weak))
    print("\nOne factorisation and solution, strong scaling\n")
    print(factorisations(strong))
    print("\nMessages of an LM iteration:", json.dumps(shared["iteration"]))
    print("Messages of J v and J^T u:", json.dumps(shared["pair"]))
    print(f"Cholesky: {1e3 * single['seconds']['every rank factors']:.1f} ms")
    for cores in (1, 16):
        print(f"\nModel, {cores} cores a rank: weak, 100,000 samples a rank\n")
        print(predicted(single, shared, lambda p: 100_000 * p, cores))
        print(f"\nModel, {cores} cores a rank: strong, 10,000,000 samples\n")
        print(predicted(single, shared, lambda p: 10_000_000, cores))
    return 0


if __name__ == "__main__":
    sys.exit(main())
