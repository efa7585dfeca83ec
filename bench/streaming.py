"""``python -m bench.streaming``: the rate of samples in a file beside that of the same in memory.

The file lies in the page cache: it has just been written and read. Memory and file take turns, so
that what else the machine does falls on both; the ratio of the least times and that of the medians
are printed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

NETWORKS = ((16, 32, 32, 1), (63, 4, 1))
N_SAMPLES = 400_000


def problems(net, n_samples, folder):
    """Return the ways to hold the same samples: name -> Problem."""
    import fastggn as fg

    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_samples, net.n_inputs))
    Y = np.sin(X[:, :1])
    for name, array in {"X": X, "Y": Y, "table": np.column_stack([X, Y])}.items():
        np.save(folder / f"{name}.npy", array)
    x, y = (fg.data.open_npy(folder / f"{name}.npy") for name in "XY")
    left, right = fg.data.split_columns(fg.data.open_npy(folder / "table.npy"))
    return {
        "memory": fg.Problem(net, X, Y),
        "X.npy and Y.npy": fg.Problem(net, x, y),
        "one table": fg.Problem(net, left, right),
        "one table, scaled": fg.Problem(net, fg.data.Standardised(left), right),
        "mapped": fg.Problem(net, np.load(folder / "X.npy", mmap_mode="r"), y),
    }


def operations(theta, small):
    """Return what is timed: name -> (function of a problem, how often).

    A whole iteration of a larger network assembles its matrix for seconds: the reading is lost
    in it.
    """
    import fastggn as fg

    def iteration(problem):
        return fg.train(
            problem,
            theta,
            max_iter=1,
            method=fg.LevenbergMarquardt(solver="cholesky"),
            stop=fg.Stop(gradient=0.0),
        )

    passes = {
        "loss": (lambda problem: problem.loss(theta), 15),
        "gradient": (lambda problem: problem.gradient(theta), 15),
    }
    return {**passes, "LM iteration": (iteration, 3)} if small else passes


def seconds(action):
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def interleaved(ways, action, repeats):
    """Return name -> seconds of each turn, after one that is not counted."""
    taken = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, problem in ways.items():
            spent = seconds(lambda problem=problem: action(problem))
            if turn:
                taken[name].append(spent)
    return taken


def measure(widths, n_samples, folder):
    """Return a record for each operation and way."""
    import fastggn as fg

    net = fg.MLP(widths)
    ways = problems(net, n_samples, folder)
    theta = net.init(seed=0)
    records = []
    for operation, (action, repeats) in operations(theta, net.n_params < 500).items():
        taken = interleaved(ways, action, repeats)
        least, middle = min(taken["memory"]), statistics.median(taken["memory"])
        for name, turns in taken.items():
            records.append(
                {
                    "network": widths,
                    "operation": operation,
                    "samples in": name,
                    "least ms": 1e3 * min(turns),
                    "median ms": 1e3 * statistics.median(turns),
                    "rate of least": least / min(turns),
                    "rate of medians": middle / statistics.median(turns),
                }
            )
    return records


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=N_SAMPLES, metavar="T")
    parser.add_argument("--folder", help="where the files are made (about 700 MB); default: /tmp")
    parser.add_argument("--json", metavar="FILE", help="write the measurements")
    arguments = parser.parse_args()
    records = []
    for widths in NETWORKS:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            records += measure(widths, arguments.samples, Path(folder))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(records, indent=1))
    print(f"{arguments.samples:,} samples, {os.cpu_count()} cores")
    print("rate: of the file over that of memory, from the least times and from the medians\n")
    print("| network | operation | samples in | least | median | rate |")
    print("|---|---|---|---|---|---|")
    for found in records:
        network = f"F({','.join(map(str, found['network']))})"
        rate = f"{100 * found['rate of least']:.0f}, {100 * found['rate of medians']:.0f} %"
        print(
            f"| {network} | {found['operation']} | {found['samples in']} | "
            f"{found['least ms']:.1f} ms | {found['median ms']:.1f} ms | {rate} |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
