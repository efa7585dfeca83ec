"""Rows measured in fresh processes: resident memory, import, the first training run."""

from __future__ import annotations

import functools
import os
import statistics
import tempfile
from typing import Any

from bench import children
from bench.core import SMOKE, Outcome, Row, Timing

__all__ = ["ROWS"]


def _counts(size: str) -> tuple[int, int, int]:
    """Return few samples, those of the row `memory`, and many."""
    return (2_000, 4_000, 8_000) if size == SMOKE else (100_000, 1_000_000, 10_000_000)


@functools.cache
def _report(count: int) -> dict[str, Any]:
    """Return what `children` reports of so many samples, with the kernels in the cache."""
    children.run("memory", "100")  # fills it: the compiler needs memory too
    return children.run("memory", str(count))


def peak_memory(size: str) -> Outcome:
    """The resident memory of a process that trains on samples in a file, at most."""
    count = _counts(size)[1]
    report = _report(count)
    note = f"T={count}, one LM iteration in {report['seconds']:.1f} s; imports included"
    return Outcome(report["peak"], note=note)


def memory_growth(size: str) -> Outcome:
    """The growth of that memory from few samples to a hundred times as many.

    Pages of the mapped file count as resident while the kernel keeps them, and are given back
    after each part, so that nothing is taken off for the samples.
    """
    peaks = {count: _report(count)["peak"] for count in _counts(size)}
    few, *_, many = peaks
    note = ", ".join(f"{peak:.0f} MiB at T={count}" for count, peak in peaks.items())
    return Outcome(100.0 * (peaks[many] / peaks[few] - 1.0), note=f"peak {note}")


def import_time(size: str) -> Outcome:
    """The import of fastggn on top of NumPy's, SciPy's and Numba's."""
    reports = [children.run("import") for _ in range(1 if size == SMOKE else 4)]
    seconds = [report["own"] for report in reports]
    compiled = max(report["compiled"] for report in reports)
    needed = statistics.median(report["needed"] for report in reports)
    note = (
        f"all public names but the two of scikit-learn; {compiled} functions compiled; "
        f"what it needs took {needed:.2f} s"
    )
    value = statistics.median(seconds)
    timing = Timing("import", value, min(seconds), len(seconds))
    return Outcome(value, timing, note=note)


@functools.lru_cache(maxsize=2)
def _first_runs(size: str) -> dict[str, list[dict[str, Any]]]:
    """Return what `children` reports of `train` with no cached kernels, and with all."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "NUMBA_CACHE_DIR": folder}
        cold = [children.run("train", size, environment=environment)]
        count = 1 if size == SMOKE else 3
        warm = [children.run("train", size, environment=environment) for _ in range(count)]
    return {"cold": cold, "warm": warm}


def first_train(size: str, cache: str) -> Outcome:
    """The first call of `train` in a process."""
    reports = _first_runs(size)[cache]
    seconds = [report["first"] for report in reports]
    value = statistics.median(seconds)
    second = statistics.median(report["second"] for report in reports)
    note = f"5 LM iterations, F(2,20,20,1); the second run in the process {second:.3f} s"
    return Outcome(value, Timing("train", value, min(seconds), len(seconds)), note=note)


ROWS = [
    Row(
        "memory",
        "peak memory, F(8,32,32,1), T=1e6 from a memmap",
        "<=",
        400.0,
        "MiB",
        measure=peak_memory,
    ),
    Row(
        "memory-growth",
        "peak memory from T=1e5 to 1e7",
        "<=",
        10.0,
        "%",
        measure=memory_growth,
    ),
    Row(
        "import",
        "`import fastggn` over NumPy, SciPy and Numba",
        "<=",
        0.4,
        "s",
        measure=import_time,
    ),
    Row(
        "train-cold",
        "first `train` in a process, cache cold",
        "<=",
        20.0,
        "s",
        measure=functools.partial(first_train, cache="cold"),
    ),
    Row(
        "train-warm",
        "first `train` in a process, cache warm",
        "<=",
        1.5,
        "s",
        measure=functools.partial(first_train, cache="warm"),
    ),
]
