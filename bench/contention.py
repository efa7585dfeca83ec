"""An iteration beside another program: ``python -m bench.contention [rounds [way ...]]``.

A process for each way of waiting, or for each situation ("situations": all of them), trains four
networks in turns, on the idle machine and beside a program of one thread that never rests. A turn
in which further programs ran is done again. With ``--keep FILE`` the turns are kept there, and a
later call goes on after them.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from bench.cases import ROOT
from fastggn.runtime.cores import FreeCores, read_processors

NETWORKS = (
    ((8, 50, 1), 1030),
    ((2, 10, 10, 4), 1000),
    ((8, 20, 20, 1), 7373),  # kin8nm
    ((2, 20, 20, 1), 400),
)
# The variables of each way, and whether the workers leave cores to other programs.
WAYS: dict[str, tuple[dict[str, str], bool]] = {
    "spinning": ({}, False),
    "passive": ({"OMP_WAIT_POLICY": "passive"}, False),
    "10,000 spins": ({"GOMP_SPINCOUNT": "10000"}, False),
    "workqueue": ({"NUMBA_THREADING_LAYER": "workqueue"}, False),
    "tbb": ({"NUMBA_THREADING_LAYER": "tbb"}, True),
    "default": ({}, True),
}
# Where a program may find itself: all with the default way of waiting.
SITUATIONS = (
    "after BLAS",  # a product by BLAS's own threads before each run
    "libgomp first",  # another library has started OpenMP
    "Python threads",  # two train at once
    "forked",  # a child of a process that has trained
    "spawned",
    "joblib",  # two processes train at once
    "quota",  # one core by a control group
    "quota, numba first",  # and Numba imported before fastggn, for all cores
)
VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "NUMBA_THREADING_LAYER")
TURN = 0.4  # seconds of training
ITERATIONS = 20
# Ends with this program, however that ends.
BUSY = "import os; parent = os.getppid()\nwhile os.getppid() == parent: pass"
NOISE = 0.12  # cores that further programs may use in a turn
TRIES = 8


def _train(index: int, situation: str = "") -> tuple[float, list[float]]:
    """Train for a turn; return what others used of the cores, and seconds an iteration."""
    import fastggn as fg

    matrix = np.ones((800, 800))

    widths, samples = NETWORKS[index]
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(samples, widths[0])), rng.normal(size=(samples, widths[-1]))
    problem = fg.Problem(fg.MLP(widths, "tanh"), X, Y)
    never: dict[str, Any] = {"stop": fg.Stop(gradient=0.0, step=0.0, loss=0.0)}
    taken: list[float] = []
    before, end = read_processors(), time.perf_counter() + TURN
    while time.perf_counter() < end:
        if situation == "after BLAS":
            matrix @ matrix
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", fg.errors.FastGGNWarning)
            result = fg.train(problem, seed=0, max_iter=ITERATIONS, **never)
        taken.append((time.perf_counter() - start) / result.n_iter)
    after = read_processors()
    if before is None or before.idle is None or after is None or after.idle is None:
        return 0.0, taken
    used = after.idle - before.idle + after.own - before.own
    return after.cores - used / (after.clock - before.clock), taken


def _serve(polite: bool, situation: str) -> None:
    """Answer each line, the index of a network, by what `_train` returns."""
    if not polite:
        FreeCores.count = lambda _: sys.maxsize  # type: ignore[method-assign]
    run = _in_situation(situation)
    for line in sys.stdin:
        print(json.dumps(run(int(line))), flush=True)


def _in_situation(situation: str) -> Callable[[int], tuple[float, list[float]]]:
    """Return `_train` in a situation; where several processes train, others are not measured."""
    if situation == "libgomp first":
        from sklearn.cluster import KMeans

        KMeans(2, n_init=1).fit(np.random.default_rng(0).normal(size=(20_000, 4)))
    if situation == "quota, numba first":
        importlib.import_module("numba")
    if situation in ("forked", "spawned"):
        if situation == "forked":
            _train(0)
        pool = multiprocessing.get_context({"forked": "fork"}.get(situation, "spawn")).Pool(1)
        return lambda index: (0.0, pool.apply(_train, (index,))[1])
    if situation == "joblib":
        import joblib

        both = joblib.Parallel(n_jobs=2)
        return lambda index: (0.0, both(joblib.delayed(_train)(index) for _ in "ab")[0][1])
    if situation == "Python threads":
        threads = ThreadPoolExecutor(2)
        return lambda index: next(threads.map(_train, (index, index)))
    return lambda index: _train(index, situation)


class _Quota:
    """A control group of one core; `place` is its file of processes."""

    def __init__(self) -> None:
        base = Path("/sys/fs/cgroup")
        two = (base / "cgroup.controllers").exists()
        place = base if two else base / "cpu"
        self._folder = Path(tempfile.mkdtemp(prefix="fastggn-bench-", dir=place))
        if two:
            (self._folder / "cpu.max").write_text("100000 100000")
        else:
            (self._folder / "cpu.cfs_quota_us").write_text("100000")
        self.place = self._folder / "cgroup.procs"

    def end(self) -> None:
        """Remove the group, whose processes have ended."""
        self._folder.rmdir()


def _processor_time(process: int | None) -> float:
    """Return the seconds that a process has run; 0 for none."""
    if process is None:
        return 0.0
    return 1e-9 * int(Path(f"/proc/{process}/schedstat").read_text().split()[0])


class _Child:
    """A process that waits in one way, or is in one situation."""

    def __init__(self, way: str) -> None:
        variables, polite = WAYS.get(way, WAYS["default"])
        situation = way if way in SITUATIONS else ""
        clean = {k: v for k, v in os.environ.items() if k not in VARIABLES}
        self._quota = _Quota() if way.startswith("quota") else None
        enter = f"echo $$ > {self._quota.place}; " if self._quota else ""
        serve = [sys.executable, "-m", "bench.contention", "serve", str(int(polite)), situation]
        self._process = subprocess.Popen(
            ["sh", "-c", f"{enter}exec {shlex.join(serve)}"],
            cwd=ROOT,
            env={**clean, **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def turn(self, index: int, other: int | None = None) -> tuple[float, list[float]]:
        """Return the cores that further programs used, and the seconds an iteration of each run.

        `other` is the number of the process whose work is known.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        time.sleep(0.05)
        start, before = time.perf_counter(), _processor_time(other)
        print(index, file=self._process.stdin, flush=True)
        cores, seconds = json.loads(self._process.stdout.readline())
        known = (_processor_time(other) - before) / (time.perf_counter() - start)
        return float(cores) - known, list(seconds)

    def quiet_turn(self, index: int, other: int | None) -> list[float]:
        """Return the seconds of a turn in which no further program ran, if there is one."""
        for _ in range(TRIES):
            cores, seconds = self.turn(index, other)
            if cores <= NOISE:
                break
        else:
            print(f"further programs used {cores:.2f} cores", file=sys.stderr)
        return seconds

    def end(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        if self._quota is not None:
            self._quota.end()


Turns = dict[tuple[int, bool, str], list[list[float]]]


def _kept(file: Path | None) -> Turns:
    """Return the turns in a file, if there is one."""
    if file is None or not file.exists():
        return {}
    return {(i, busy, way): turns for i, busy, way, turns in json.loads(file.read_text())}


def _keep(file: Path | None, turns: Turns) -> None:
    if file is not None:
        new = file.with_name(f"{file.name}.new")
        new.write_text(json.dumps([[*key, found] for key, found in turns.items()]))
        new.replace(file)


def _children(ways: list[str]) -> dict[str, _Child]:
    """Return the processes of the ways that this machine allows."""
    children = {}
    for way in ways:
        try:
            children[way] = _Child(way)
        except OSError as error:
            print(f"{way}: {error}", file=sys.stderr)
    return children


def _measure(rounds: int, ways: list[str], file: Path | None) -> Turns:
    """Return the seconds an iteration: of each run of each turn."""
    children, seconds = _children(ways), _kept(file)
    for child in children.values():
        for index in range(len(NETWORKS)):
            child.turn(index)  # compiles, and starts the workers
    for number in range(rounds):
        for busy in (False, True):
            other = subprocess.Popen([sys.executable, "-c", BUSY]) if busy else None
            for index in range(len(NETWORKS)):
                for way, child in children.items():
                    turns = seconds.setdefault((index, busy, way), [])
                    if len(turns) <= number:
                        turns.append(child.quiet_turn(index, other and other.pid))
            if other is not None:
                other.kill()
                other.wait()
            _keep(file, seconds)
    for child in children.values():
        child.end()
    return seconds


def _median(turns: list[list[float]]) -> float:
    """Return milliseconds: the median of the runs of all turns."""
    return 1e3 * statistics.median(seconds for turn in turns for seconds in turn)


def main(rounds: int, ways: list[str], file: Path | None = None) -> None:
    """Print a row for each network and way; "first" is the first run of a turn."""
    found = _measure(rounds, ways, file)
    print("| network | T | way | idle, ms | busy, ms | first, ms | busy / idle |")
    print("|---|---|---|---|---|---|---|")
    for index, (widths, samples) in enumerate(NETWORKS):
        for way in ways:
            if (index, True, way) not in found:
                continue
            idle, busy = (_median(found[index, other, way]) for other in (False, True))
            first = _median([turn[:1] for turn in found[index, True, way]])
            name = f"F({','.join(map(str, widths))}) | {samples:,} | {way}"
            print(f"| {name} | {idle:.2f} | {busy:.2f} | {first:.2f} | {busy / idle:.1f} |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        _serve(bool(int(sys.argv[2])), sys.argv[3])
    else:
        words, kept = sys.argv[1:], None
        if "--keep" in words:
            place = words.index("--keep")
            kept = Path(words[place + 1])
            del words[place : place + 2]
        asked = [
            way for word in words[1:] for way in (SITUATIONS if word == "situations" else [word])
        ]
        main(int(words[0]) if words else 3, asked or list(WAYS), kept)
