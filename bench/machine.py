"""What the figures were measured on: processor, versions, threads, BLAS."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from pathlib import Path

import threadpoolctl

from bench import peers
from fastggn.runtime.threads import threading_layer

__all__ = ["Bystanders", "facts"]

_DISTRIBUTIONS = (
    "numpy",
    "scipy",
    "numba",
    "llvmlite",
    "torch",
    "torch-levenberg-marquardt",
    "jax",
    "scikit-learn",
)
# Variables that change which BLAS kernels run, or on how many cores.
_VARIABLES = (
    "OPENBLAS_CORETYPE",
    "OPENBLAS_L2_SIZE",
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NUMBA_CPU_NAME",
    "NUMBA_THREADING_LAYER",
)


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _instructions() -> str:
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        return "unknown"
    return next((name for name in ("avx512f", "avx2", "avx") if name in flags), "no AVX")


def _memory() -> str:
    try:
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return "unknown"
    return f"{pages / 2**30:.0f} GiB"


def _versions() -> str:
    found = [f"Python {platform.python_version()}"]
    for name in _DISTRIBUTIONS:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{name} absent")
    return ", ".join(found)


def _blas() -> str:
    found = {
        f"{library['internal_api']} {library['version']}, "
        f"{library.get('architecture', 'unknown')} kernels"
        for library in threadpoolctl.threadpool_info()
        if library["user_api"] == "blas"
    }
    return "; ".join(sorted(found))


class Bystanders:
    """The share of the cores that other processes take, from the making of this object on."""

    def __init__(self) -> None:
        self._start = self._times()

    def _times(self) -> tuple[float, float, float] | None:
        """Return seconds: wall clock, work of all processes, of this one and its children."""
        try:
            line = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0]
        except OSError:
            return None
        user, nice, system, _idle, _wait, interrupt, soft = (int(n) for n in line.split()[1:8])
        busy = (user + nice + system + interrupt + soft) / os.sysconf("SC_CLK_TCK")
        return time.monotonic(), busy, sum(os.times()[:4])

    def share(self) -> float | None:
        """Return 0 for an idle machine, 1 for one core's worth; None where it is not known."""
        now = self._times()
        if now is None or self._start is None:
            return None
        wall, busy, own = (b - a for a, b in zip(self._start, now, strict=True))
        # In less time a step of the system's count, 0.01 s, would look like a busy core.
        return max(0.0, (busy - own) / wall) if wall > 0.1 else None


def facts() -> dict[str, str]:
    """Return what the report says of the machine: no names, no paths."""
    variables = [f"{name}={os.environ[name]}" for name in _VARIABLES if name in os.environ]
    missing = [f"{name} ({reason})" for name, reason in peers.absences().items()]
    return {
        "processor": f"{_processor()}, {_cores()} cores, {_instructions()}",
        "memory": _memory(),
        "system": platform.system(),
        "versions": _versions(),
        "BLAS": _blas(),
        "threads": f"{peers.THREADS} (fastggn: Numba's {threading_layer() or 'default'} "
        f"layer; peers: their own)",
        "environment": ", ".join(variables) or "none of the variables that change BLAS is set",
        "absent peers": ", ".join(missing) or "none",
    }
