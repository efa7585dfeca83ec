"""Versions, threading layer, BLAS, threads and cache folder."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import Any

import numba
import threadpoolctl

from fastggn.kernels.cache import folders
from fastggn.runtime.cores import available_cores
from fastggn.runtime.memory import available_memory
from fastggn.runtime.threads import how_layer_waits, max_threads, thread_count, threading_layer

_PACKAGES = ("fastggn", "numba", "llvmlite", "numpy", "scipy", "threadpoolctl")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def configuration() -> dict[str, Any]:
    """Return versions, threads, BLAS libraries, memory (bytes) and the kernel cache as a dict."""
    waiting = how_layer_waits()  # starts the layer
    blas = [
        f"{library['internal_api']} {library['version']} ({library['num_threads']} threads)"
        for library in threadpoolctl.threadpool_info()
        if library["user_api"] == "blas"
    ]
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        **{package: _version(package) for package in _PACKAGES},
        "threading layer": threading_layer() or "none",
        "waiting": waiting,
        "cores (bound, quota, job)": available_cores(),
        "threads": thread_count(),
        "threads, at most": max_threads(),
        "blas": blas,
        "available memory (bytes)": available_memory(),
        "cache folder": str(folders()[0][0]),
        "compiler": "off" if numba.config.DISABLE_JIT else "on",
    }


def show_config() -> None:
    """Print versions, threading layer, BLAS, threads and cache folder, a line each."""
    for key, value in configuration().items():
        text = ", ".join(value) if isinstance(value, list) else value
        print(f"{key:<26} {text}")
