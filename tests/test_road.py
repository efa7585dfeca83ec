"""The road of the point in one iteration, as docs/architecture.md lists it, against the code."""

import importlib
import re
import sys
from pathlib import Path

import pytest

import fastggn as fg
from fastggn.runtime.errors import hinted
from fastggn.runtime.threads import pooled

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = str(ROOT / "fastggn") + "/"
PAGE = ROOT / "docs" / "architecture.md"
ROOMS = re.findall(r"^\| `(\w+)/` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
STEP = re.compile(r"^\d+\. `([\w/]+\.py):([\w.]+)`", re.MULTILINE)


def place(frame):
    """Return (file, function) of a frame of the package, None for all others."""
    code = frame.f_code
    if not code.co_filename.startswith(PACKAGE) or code.co_name == "wrapper":
        return None  # the wrapper of a decorator belongs to the function that it wraps
    if code.co_filename == PACKAGE + "runtime/cached.py":
        return None  # and the getter of a cached property to that property
    local = frame.f_locals.get("self")
    kinds = type(local).__mro__ if local is not None else ()
    owner = next((kind.__name__ for kind in kinds if code.co_name in vars(kind)), None)
    name = f"{owner}.{code.co_name}" if owner else code.co_name
    return code.co_filename.removeprefix(PACKAGE), name


@pytest.fixture(scope="module")
def calls():
    """The stacks of places at every call of a training of one iteration."""
    problem = fg.Problem(fg.MLP((2, 8, 1)), *fg.data.four_regions(300, seed=0))
    fg.train(
        problem, seed=0, max_iter=1, method=fg.LevenbergMarquardt(solver="cholesky")
    )  # kernels are there afterwards
    stacks = []

    def watch(frame, event, _):
        if event == "call" and place(frame) is not None:
            stack = []
            while frame is not None:
                stack.append(place(frame))
                frame = frame.f_back
            stacks.append([there for there in reversed(stack) if there is not None])

    method = fg.LevenbergMarquardt(solver="cholesky")
    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        fg.train(problem, seed=0, max_iter=1, method=method)
    finally:
        sys.setprofile(before)
    return stacks


def test_the_wrappers_that_are_left_out_are_those_of_decorators():
    assert pooled(len).__code__.co_name == "wrapper"
    assert hinted(len).__code__.co_name == "wrapper"


def test_at_most_six_rooms_down_and_no_climb(calls):
    assert len(ROOMS) == 11
    seen = set()
    for stack in calls:
        levels = [ROOMS.index(file.split("/")[0]) for file, _ in stack if "/" in file]
        assert levels == sorted(levels, reverse=True), stack
        seen.add(len(set(levels)))
    assert max(seen) <= 6


def is_compiled(file, function):
    module = importlib.import_module("fastggn." + file.removesuffix(".py").replace("/", "."))
    return hasattr(getattr(module, function, None), "py_func")


def test_the_page_lists_the_road(calls):
    road = STEP.findall(PAGE.read_text(encoding="utf-8"))
    assert len(road) >= 8
    order = [stack[-1] for stack in calls]
    start = 0
    for step in road:
        if sys.version_info >= (3, 12) and is_compiled(*step):
            continue  # Numba tells sys.monitoring of its calls, no longer sys.setprofile
        assert step in order[start:], f"{step} is not called after the step before it"
        start = order.index(step, start)
    assert {file.split("/")[0] for file, _ in road} >= {
        "training",
        "solvers",
        "objective",
        "kernels",
    }
