"""``python -m bench.streaming``: the rate of samples in a file beside that of the same in memory.

The file lies in the page cache: it has just been written and read. Rates are of processor time with
one thread, the least of nine, memory and file in turns: other programs may use the machine.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

NETWORKS = ((16, 32, 32, 1), (4, 8, 1), (63, 4, 1), (300, 10, 1))
N_SAMPLES = 200_000
TURNS = 9


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


def processor_seconds(action):
    start = time.process_time()
    action()
    return time.process_time() - start


def least_in_turns(ways, action):
    """Return name -> the least seconds of its turns, after one that is not counted."""
    taken = {name: [] for name in ways}
    for _ in range(TURNS + 1):
        for name, problem in ways.items():
            taken[name].append(processor_seconds(lambda problem=problem: action(problem)))
    return {name: min(seconds[1:]) for name, seconds in taken.items()}


def measure(widths, n_samples, folder):
    """Return a record for each operation."""
    import fastggn as fg

    net = fg.MLP(widths)
    theta = net.init(seed=0)
    ways = problems(net, n_samples if net.n_inputs < 100 else n_samples // 5, folder)
    operations = {
        "loss": lambda problem: problem.loss(theta),
        "gradient": lambda problem: problem.gradient(theta),
    }
    with fg.threads(1):
        return [
            {"network": widths, "operation": name, "seconds": least_in_turns(ways, action)}
            for name, action in operations.items()
        ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=N_SAMPLES, metavar="T")
    parser.add_argument("--folder", help="where the files are made (about 100 MB); default: /tmp")
    parser.add_argument("--json", metavar="FILE", help="write the measurements")
    arguments = parser.parse_args()
    records = []
    for widths in NETWORKS:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            records += measure(widths, arguments.samples, Path(folder))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(records, indent=1))
    files = [way for way in records[0]["seconds"] if way != "memory"]
    print(f"| network | operation | {' | '.join(files)} |")
    print("|---|---|" + "---|" * len(files))
    for found in records:
        seconds = found["seconds"]
        rates = [f"{100 * seconds['memory'] / seconds[way]:.0f} %" for way in files]
        network = f"F({','.join(map(str, found['network']))})"
        print(f"| {network} | {found['operation']} | {' | '.join(rates)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
