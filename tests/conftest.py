"""Settings of the whole test run, and the data that several modules use."""

import contextlib
import functools
import gc
import os
import signal
import warnings
import zlib
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

try:
    import fcntl
except ImportError:  # Windows: each worker compiles all kernels that it needs
    fcntl = None

# Numba and JAX read these once, when they are first imported. The pool has four threads, so that
# tests of several threads run on any machine; all other tests see one (`one_thread`).
os.environ.setdefault("NUMBA_NUM_THREADS", "4")
os.environ.setdefault("JAX_ENABLE_X64", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import fastggn as fg  # noqa: E402
from fastggn.runtime.cores import available_cores  # noqa: E402

gc.disable()  # until all is collected
# How long examples take says something of other programs.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
ROOT = Path(__file__).resolve().parent.parent
TIERS = {"process", "slow", "weekly"}
# Seconds that a test of the default tier may take.
LIMIT = 5.0


def pytest_xdist_auto_num_workers(config):
    """Start as many workers as a container's quota or a batch job allows."""
    return available_cores()


def pytest_configure(config):
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in the background of a shell's script
        signal.signal(signal.SIGINT, signal.default_int_handler)
    compiled = os.environ.get("NUMBA_DISABLE_JIT", "0") in ("", "0")
    if fcntl and compiled and hasattr(config, "workerinput"):
        config.pluginmanager.register(KernelLocks())


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """Write a test's group into its id, where the scheduler of pytest-xdist reads it, and sort.

    Its release 3.8 writes it to an attribute that pytest 9.2 does not have.
    """
    if config.getoption("loadgroup", False):
        for item in items:
            mark = item.get_closest_marker("xdist_group")
            if mark and not item.nodeid.endswith(f"@{mark.args[0]}"):
                item._id = type(item._id).parse(f"{item.nodeid}@{mark.args[0]}")
        # Long tests first: at the end of a run no worker waits long for another.
        items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_collection_finish(session):
    # Modules stay: the garbage collector need not look at their objects hundreds of times.
    gc.freeze()
    gc.enable()


class KernelLocks:
    """Lets one worker compile a kernel; the others that need it wait, and load it from the disk."""

    def __init__(self):
        from fastggn.kernels import cache

        folder = cache.folders()[1][0]
        folder.mkdir(parents=True, exist_ok=True)
        self.file = (folder / "tests.lock").open("w")
        kernels = cache.KernelCache
        self.load, self.save = kernels.load_overload, kernels.save_overload
        kernels.load_overload = lambda *arguments: self.load_or_lock(*arguments)
        kernels.save_overload = lambda *arguments: self.save_and_unlock(*arguments)

    def lock(self, how, kernel, signature, codegen):
        """One byte of the file stands for the kernel."""
        byte = zlib.crc32(kernel._file_name(signature, codegen).encode())
        with contextlib.suppress(OSError):  # two that wait for each other: both compile
            fcntl.lockf(self.file, how, 1, byte)

    def load_or_lock(self, kernel, signature, context):
        found = self.load(kernel, signature, context)
        if found is None:
            self.lock(fcntl.LOCK_EX, kernel, signature, context.codegen())
            found = self.load(kernel, signature, context)
            if found is not None:
                self.lock(fcntl.LOCK_UN, kernel, signature, context.codegen())
        return found

    def save_and_unlock(self, kernel, signature, data):
        try:
            self.save(kernel, signature, data)
        finally:
            self.lock(fcntl.LOCK_UN, kernel, signature, data.codegen)

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_teardown(self):
        """What could not be compiled blocks nobody."""
        fcntl.lockf(self.file, fcntl.LOCK_UN)


def pytest_terminal_summary(terminalreporter):
    """List the tests of the default tier that take too long."""
    seconds = defaultdict(float)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if hasattr(report, "duration") and not TIERS & set(report.keywords):
                seconds[report.nodeid] += report.duration
    late = sorted((s, name) for name, s in seconds.items() if s > LIMIT)
    if late:
        title = f"default tier: {len(late)} tests took more than {LIMIT:g} s"
        terminalreporter.section(title)
        for s, name in reversed(late):
            terminalreporter.line(f"{s:6.1f} s  {name}")


@pytest.fixture(autouse=True)
def own_warnings_are_errors():
    """A test expects each warning of ours, or is marked to ignore it; the marks go before this."""
    warnings.filterwarnings("error", category=fg.FastGGNWarning, append=True)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Mask Numba's threads to one: the cores belong to the other workers of the run."""
    import numba

    numba.set_num_threads(1)


@pytest.fixture(scope="session")
def quick(tmp_path_factory):
    """A function that runs the quick version of an experiment, once for all tests of a worker."""
    from quick import run_quick

    return functools.cache(lambda name: run_quick(name, tmp_path_factory.mktemp(name)))


@pytest.fixture(scope="session")
def kin8nm():
    """Split 0, standardised, F(8, 20, 20, 1)."""
    parent = os.environ.get("FASTGGN_DATA")
    folder = (Path(parent) if parent else ROOT.parent / "shared" / "data") / "uci" / "kin8nm"
    if not folder.is_dir():
        pytest.skip("the UCI data set kin8nm is absent (FASTGGN_DATA names the data folder)")
    table = np.loadtxt(folder / "data.txt")
    features, target, train = (
        np.loadtxt(folder / f"index_{name}.txt").astype(int).ravel()
        for name in ("features", "target", "train_0")
    )
    table = table[train]
    table = (table - table.mean(axis=0)) / table.std(axis=0)
    return fg.Problem(fg.MLP((8, 20, 20, 1)), table[:, features], table[:, target])
