"""What is measured in processes of their own: ``python -m bench.children import|train|memory``.

Each prints one line of JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.cases import ROOT

__all__ = ["run"]

WIDTHS = (8, 32, 32, 1)


def run(*arguments: str, environment: dict[str, str] | None = None) -> dict[str, Any]:
    """Run this module in a fresh process, and return what it printed."""
    answer = subprocess.run(
        [sys.executable, "-m", "bench.children", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    return json.loads(answer.stdout.splitlines()[-1])


def _import() -> dict[str, Any]:
    """Time the import of everything behind the public names, after that of what they need."""
    start = time.perf_counter()
    import numba
    import numpy  # noqa: F401
    import scipy.linalg
    import scipy.sparse.linalg  # noqa: F401
    from numba.core import event

    needed = time.perf_counter() - start
    with event.install_recorder("numba:compile") as recorder:
        start = time.perf_counter()
        import fastggn

        # The two estimators are classes of scikit-learn's, an extra: its import is another's.
        estimators = ("GGNClassifier", "GGNRegressor")
        names = [getattr(fastggn, n) for n in fastggn.__all__ if n not in estimators]
        own = time.perf_counter() - start
    compiled = sum(e.is_start for _, e in recorder.buffer)
    return {
        "own": own,
        "needed": needed,
        "compiled": compiled,
        "names": len(names),
        "numba": numba.__version__,
    }


def _train(size: str) -> dict[str, Any]:
    """Time a first short training run, and a second one."""
    import fastggn as fg

    X, Y = fg.data.four_regions(60 if size == "smoke" else 400, seed=0)
    problem = fg.Problem(fg.MLP((2, 20, 20, 1), activation="tanh"), X, Y)
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        fg.train(problem, seed=0, max_iter=5)
        seconds.append(time.perf_counter() - start)
    return {"first": seconds[0], "second": seconds[1]}


def _peak_mib() -> float:
    """Return the largest resident memory of this process so far, in MiB."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024.0
    except OSError:
        pass
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 1024.0)


def _write_samples(folder: str, count: int) -> None:
    """Write normal samples to X.npy and Y.npy, a part at a time."""
    import numpy as np

    rng = np.random.default_rng(0)
    for name, columns in (("X", WIDTHS[0]), ("Y", WIDTHS[-1])):
        out = np.lib.format.open_memmap(
            Path(folder, f"{name}.npy"), mode="w+", dtype=np.float64, shape=(count, columns)
        )
        for start in range(0, count, 50_000):
            part = out[start : start + 50_000]
            part[...] = rng.normal(size=part.shape)
        out.flush()


def _memory(count: int) -> dict[str, Any]:
    """Train an iteration on samples of a file, and report the resident memory at most."""
    import numpy as np

    import fastggn as fg

    with tempfile.TemporaryDirectory() as folder:
        # In another process, whose memory does not count.
        subprocess.run(
            [sys.executable, "-m", "bench.children", "samples", folder, str(count)],
            cwd=ROOT,
            check=True,
        )
        X = np.load(Path(folder, "X.npy"), mmap_mode="r")
        Y = np.load(Path(folder, "Y.npy"), mmap_mode="r")
        problem = fg.Problem(fg.MLP(WIDTHS, "tanh"), X, Y)
        before = _peak_mib()
        start = time.perf_counter()
        result = fg.train(
            problem, seed=0, max_iter=1, method=fg.LevenbergMarquardt(solver="cholesky")
        )
        seconds = time.perf_counter() - start
        del problem, X, Y
    return {
        "peak": _peak_mib(),
        "before": before,
        "seconds": seconds,
        "loss": result.loss,
    }


def main(arguments: list[str]) -> None:
    """Do what the first argument names."""
    what, *rest = arguments
    if what == "samples":
        _write_samples(rest[0], int(rest[1]))
        return
    jobs: dict[str, Any] = {
        "import": _import,
        "train": lambda: _train(rest[0]),
        "memory": lambda: _memory(int(rest[0])),
    }
    print(json.dumps(jobs[what]()))


if __name__ == "__main__":
    main(sys.argv[1:])
