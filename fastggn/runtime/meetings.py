"""Ranks that call different operations, or leave the program, are told so and do not wait for ever.

Before each operation the ranks compare a number for it in one small reduction. A rank that ends
takes part in that comparison a last time, from the exit of its interpreter.
"""

from __future__ import annotations

import array
import atexit
import sys
import time
import zlib
from collections.abc import Iterable
from types import FrameType
from typing import Any

from fastggn.runtime.platform import at_fork, give_way

# Fruitless tests before a waiting rank gives its core to others, and seconds before it sleeps.
_TESTS = 200
_AWAKE = 0.005
# Seconds for which a rank that ends waits for rank 0, which may never have imported this package.
_PATIENCE = 5.0
_WORDS = 200  # characters of a value in a message
_JOINS, _LEAVES = 0, 1
_END = "the end of the program"

_meetings: list[Meeting] = []
_joined: list[Any] = []  # the communicator of all processes, when it has a meeting


class UnequalCalls(RuntimeError):
    """The ranks do not make the same calls: all of them raise this."""


class Meeting:
    """The comparisons of a communicator that no other part of the program uses."""

    def __init__(self, comm: Any) -> None:
        from mpi4py import MPI

        self._comm = comm
        self._largest = MPI.MAX
        self._own = array.array("q", (0, 0))
        self._found = array.array("q", (0, 0))
        self._parted = ""  # why no further operation is possible
        _meetings.append(self)

    def compare(self, name: str, size: int = 0) -> None:
        """Raise on all ranks unless all of them call this operation on as many numbers."""
        if self._parted:
            raise UnequalCalls(self._parted)
        wait(self._post(zlib.crc32(b"%s %d" % (name.encode(), size)) + 1))
        if self._found[0] != -self._found[1]:
            numbers = f" of {size} number{'s' * (size != 1)}" if size else ""
            raise UnequalCalls(self._differences(f"{_entry()} ({name}{numbers})"))

    def leave(self) -> Any:
        """Take part a last time, and return the request."""
        return None if self._parted else self._post(0)

    def part(self) -> None:
        """Let the others know, after `leave`, unless all leave."""
        if self._found[0] != -self._found[1]:
            self._differences(_END)

    def _post(self, code: int) -> Any:
        self._own[0], self._own[1] = code, -code
        return self._comm.Iallreduce(self._own, self._found, op=self._largest)

    def _differences(self, own: str) -> str:
        """Return what each rank does, which all ranks exchange here."""
        every = self._comm.allgather(own)
        message = f"the ranks of comm do not make the same calls: {differences(every)}"
        if _END in every:
            self._parted = message
        return message


def differences(values: Iterable[str]) -> str:
    """Return each value with its ranks, from the values in rank order; "" if all are equal."""
    found: dict[str, list[int]] = {}
    for rank, value in enumerate(values):
        found.setdefault(value, []).append(rank)
    parts = [f"{value[:_WORDS]} on {_named(ranks)}" for value, ranks in found.items()]
    return ", ".join(parts) if len(parts) > 1 else ""


def _named(ranks: list[int]) -> str:
    if len(ranks) == 1:
        return f"rank {ranks[0]}"
    if len(ranks) > 4:
        return f"ranks {', '.join(map(str, ranks[:3]))} and {len(ranks) - 3} others"
    return f"ranks {', '.join(map(str, ranks[:-1]))} and {ranks[-1]}"


def wait(request: Any, until: float = float("inf")) -> bool:
    """Return whether a request was done in time; a long wait leaves the core to other programs."""
    for _ in range(_TESTS):
        if request.Test():
            return True
    began = time.monotonic()
    while not request.Test():
        spent = time.monotonic() - began
        if spent > until:
            return False
        if spent < _AWAKE:
            give_way()
        else:  # at most a hundredth of the wait itself
            time.sleep(min(0.01 * spent, 0.01))
    return True


def join(comm: Any) -> None:
    """Meet all ranks on a communicator of the user, or raise if one has left the program."""
    heard = array.array("q", (_JOINS,))
    wait(_spread(comm, _JOINS, heard))
    if heard[0] == _JOINS:
        wait(_collect(comm, _JOINS, answers := bytearray(comm.size)))
        left = answers.find(_LEAVES)
        wait(_spread(comm, _JOINS if left < 0 else left + 1, heard))
    if heard[0] != _JOINS:
        raise RuntimeError(f"rank {heard[0] - 1} of comm has left the program before this call")
    if comm == sys.modules["mpi4py.MPI"].COMM_WORLD:
        _joined.append(comm)


# The messages of these two go from or to rank 0 directly, and need no rank between.
def _spread(comm: Any, what: int, heard: array.array[int]) -> Any:
    sent = array.array("q", [what] * comm.size) if comm.rank == 0 else None
    return comm.Iscatterv(sent, heard, root=0)


def _collect(comm: Any, what: int, answers: bytearray) -> Any:
    return comm.Igatherv(bytearray([what]), answers if comm.rank == 0 else None, root=0)


def _entry() -> str:
    """Return the name of the function by which the program entered this package."""
    frame: FrameType | None = sys._getframe(1)
    name = "an operation"
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if module.startswith("fastggn.") and not module.startswith("fastggn.runtime."):
            name = frame.f_code.co_name
            if name == "__init__":
                name = type(frame.f_locals.get("self")).__name__
        frame = frame.f_back
    return name


def _leave() -> None:
    """Tell the ranks that wait, or will, that this one ends; then wait for the ends of all."""
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is None or not mpi.Is_initialized() or mpi.Is_finalized():
        return
    # All are told before the first wait: a rank may be behind in another communicator.
    leaving = [(meeting, meeting.leave()) for meeting in _meetings]
    if not _joined and mpi.COMM_WORLD.size > 1:
        _leave_strangers(mpi.COMM_WORLD)
    for meeting, request in leaving:
        if request is not None:
            wait(request)
            meeting.part()


def _leave_strangers(world: Any) -> None:
    """Leave a word for a later `join` of the others, who may never have imported this package."""
    heard = array.array("q", (_JOINS,))
    request = _spread(world, 1, heard)
    if world.rank > 0:
        wait(_collect(world, _LEAVES, bytearray()), _PATIENCE)
    wait(request, _PATIENCE)


def watch_exit() -> None:
    """Call `_leave` at the exit of the interpreter, not in the children of forks."""
    atexit.register(_leave)
    at_fork(after_in_child=lambda: atexit.unregister(_leave))
