"""Signals at bad moments: while a kernel is loaded, and while other signals are given back."""

import signal
import subprocess
import sys

import pytest

from fastggn.kernels.jit import DISABLED
from fastggn.runtime.signals import StopSignals, deferred_signals, deferred_stops

pytestmark = pytest.mark.process

if not hasattr(signal, "SIGALRM"):
    pytest.skip("signals of POSIX", allow_module_level=True)

# LLVM asks Python for the machine code of each kernel that is loaded. An exception in the answer
# would be lost, with the code: the kernel would then be called at address 0.
LOADING = """
import signal
from numba.core.codegen import CPUCodeLibrary

answer, bad = CPUCodeLibrary._object_getbuffer_hook.__func__, False

def interrupted(cls, module):
    if bad:
        signal.raise_signal(signal.SIGINT)
    return answer(cls, module)

CPUCodeLibrary._object_getbuffer_hook = classmethod(interrupted)

import fastggn as fg
X, Y = fg.data.four_regions(40, seed=0)
problem = fg.Problem(fg.MLP((2, 4, 1)), X, Y)
theta = problem.network.init(seed=0)
for step in (problem.loss, problem.gradient, problem.ggn):
    bad = True
    try:
        step(theta)
    except KeyboardInterrupt:
        print("interrupted")
    bad = False
    step(theta)
"""


@pytest.mark.skipif(DISABLED, reason="the compiler is off (NUMBA_DISABLE_JIT=1)")
def test_a_signal_while_a_kernel_is_loaded_comes_after_it():
    done = subprocess.run([sys.executable, "-c", LOADING], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["interrupted"] * 3
    assert "ignored" not in done.stderr


@pytest.fixture
def heard():
    """The signals that a handler of this test received, and those that made it raise."""
    numbers = []

    def handler(number, frame):
        numbers.append(number)
        if number == signal.SIGINT:
            raise KeyboardInterrupt

    names = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    previous = {number: signal.signal(number, handler) for number in names}
    yield numbers
    for number, before in previous.items():
        signal.signal(number, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGALRM])
def test_signals_come_at_the_end_of_the_block(heard, number):
    with deferred_signals():
        signal.raise_signal(number)
        signal.raise_signal(number)
        assert heard == []
    assert heard == [number, number]


def test_blocks_inside_one_another(heard):
    with deferred_signals():
        with deferred_signals():
            signal.raise_signal(signal.SIGTERM)
        assert heard == []
    assert heard == [signal.SIGTERM]


@pytest.mark.parametrize(
    ("block", "printed"), [("deferred_stops", "inside\n"), ("deferred_signals", "")]
)
def test_a_signal_that_nobody_handles_has_its_default_effect(block, printed):
    """A file that is being written is finished before; a kernel is not."""
    code = (
        f"import signal; from fastggn.runtime.signals import {block}\n"
        f"with {block}():\n"
        "    signal.raise_signal(signal.SIGUSR1); print('inside', flush=True)\n"
        "print('after')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == -signal.SIGUSR1 and done.stdout == printed


def test_handlers_of_other_languages_stay():
    """Python takes one that C installed after its start for the default."""
    code = (
        "import faulthandler, signal; from fastggn.runtime.signals import deferred_signals\n"
        "faulthandler.register(signal.SIGUSR1)\n"
        "with deferred_signals():\n"
        "    pass\n"
        "signal.raise_signal(signal.SIGUSR1); print('after')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == "after\n"
    assert "most recent call first" in done.stderr


def test_no_signal_is_lost_where_a_handler_raises(heard):
    with pytest.raises(KeyboardInterrupt), deferred_signals():
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
            signal.raise_signal(number)
    assert heard == [signal.SIGTERM, signal.SIGINT, signal.SIGALRM]


def test_a_second_signal_interrupts_only_until_the_run_stops():
    with StopSignals() as stop:
        signal.raise_signal(signal.SIGUSR1)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        assert stop(None)  # the last iteration has ended: what is left is to save
        signal.raise_signal(signal.SIGTERM)
        stop.release()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)


def test_all_signals_of_a_file_come_at_its_end(heard):
    with deferred_stops():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGALRM)
        assert heard == []
    assert sorted(heard) == sorted([signal.SIGTERM, signal.SIGALRM])


def test_all_signals_are_given_back_when_one_of_them_raises(heard, monkeypatch):
    """SIGINT comes when its own handler is back and the others are not."""
    give, before = signal.signal, signal.getsignal(signal.SIGTERM)

    def give_and_interrupt(number, handler):
        replaced = give(number, handler)
        if number == signal.SIGINT and handler is before:
            monkeypatch.setattr(signal, "signal", give)
            signal.raise_signal(signal.SIGINT)
        return replaced

    monkeypatch.setattr(signal, "signal", give_and_interrupt)
    with pytest.raises(KeyboardInterrupt), deferred_signals():
        pass
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        assert signal.getsignal(number) is before
    assert heard == [signal.SIGINT]


# C code of an import answers an interrupt by an error of its own; so does this module of Numba.
IMPORTING = """
import importlib.abc, signal, sys

class Interrupting(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "numba.core.types":
            sys.meta_path.remove(self)
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                raise ImportError("numba failed to import") from None

sys.meta_path.insert(0, Interrupting())
import fastggn as fg
try:
    {call}
except KeyboardInterrupt:
    print("interrupted")
print(fg.train(fg.Problem(fg.MLP((1, 1)), [[0.0], [1.0]], [0.0, 1.0]), seed=0).status)
"""


@pytest.mark.parametrize(
    "call", ["fg.train", "fg.GGNRegressor", "fg.analysis.polish", "fg.analysis.linear.construct"]
)
def test_an_interrupt_inside_the_import_of_a_first_call_comes_after_it(call):
    code = IMPORTING.format(call=call)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["interrupted", "converged_gradient"]


FIRST_CALL = """
import os, signal, sys, threading, time
import numpy

def strike():
    time.sleep(float(sys.argv[1]))
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=strike, daemon=True).start()
try:
    import fastggn as fg
    X, Y = fg.data.four_regions(40, seed=0)
    while True:
        if fg.train(fg.Problem(fg.MLP((2, 3, 1)), X, Y), seed=0).status == "interrupted":
            raise KeyboardInterrupt
except KeyboardInterrupt:
    print("interrupted")
"""


def test_a_first_call_is_interrupted_at_any_moment():
    for moment in ("0.25", "0.75", "1.25", "1.75", "2.25", "2.75"):
        done = subprocess.run(
            [sys.executable, "-c", FIRST_CALL, moment], capture_output=True, text=True
        )
        assert (done.returncode, done.stdout.split()) == (0, ["interrupted"]), (moment, done.stderr)
