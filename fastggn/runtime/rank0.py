"""Rank 0 decides alone, and calls on the others for sums over the samples.

An analysis of many small decisions (eigenvalues, searches, certificates) is the same program in
one process and over ranks: work on the samples is a task, which all ranks carry out together
when rank 0 comes to it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from fastggn.runtime.comm import Comm

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class _Message:
    """A message of rank 0 to the others: a task, the result, or the reason why there is none."""

    task: Callable[..., Any] | None = None
    args: tuple[Any, ...] = ()
    keywords: dict[str, Any] | None = None
    result: Any = None
    error: str | None = None


class Led(Protocol):
    """The subject of the tasks: it knows its team, and is the same on every rank."""

    @property
    def team(self) -> Team: ...  # noqa: D102


L = TypeVar("L", bound=Led)


class Team:
    """The ranks of one analysis."""

    def __init__(self, comm: Comm) -> None:
        self._comm = comm
        self._leading = False  # whether this is rank 0, and the others wait for a task

    def lead(self, led: L, decide: Callable[[], R]) -> R:
        """Return the result of `decide` on rank 0; the other ranks take part in its tasks."""
        if self._comm.size == 1:
            return decide()
        if self._comm.rank > 0:
            found: R = self._follow(led)
            return found
        self._leading = True
        try:
            result = decide()
        except Exception as error:
            if self._leading:  # else the others are inside a task, and fail or are ended
                self._leading = False
                self._comm.agree(_Message(error=f"{type(error).__name__}: {error}"))
            raise
        self._leading = False
        self._comm.agree(_Message(result=result))
        return result

    def _follow(self, led: Any) -> Any:
        """Carry out the tasks of rank 0, until it has its result."""
        while True:
            message = self._comm.agree(_Message())
            if message.error is not None:
                raise ValueError(f"rank 0: {message.error}")
            if message.task is None:
                return message.result
            message.task(led, *message.args, **(message.keywords or {}))

    def call(
        self, task: Callable[..., R], named: Callable[..., R], *args: Any, **keywords: Any
    ) -> R:
        """Carry out a task on all ranks; `named` is the function that can be pickled."""
        if not self._leading:
            return task(*args, **keywords)
        self._leading = False  # tasks inside this one are part of it
        self._comm.agree(_Message(named, args[1:], keywords))
        result = task(*args, **keywords)
        self._leading = True
        return result


def everywhere(task: Callable[Concatenate[L, P], R]) -> Callable[Concatenate[L, P], R]:
    """Make a task of a function of the module or of a method: all ranks carry it out together."""

    @functools.wraps(task)
    def call(led: L, /, *args: P.args, **keywords: P.kwargs) -> R:
        return led.team.call(task, call, led, *args, **keywords)

    return call
