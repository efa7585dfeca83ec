"""Rank 0 decides alone, and calls the other ranks for sums over the samples.

An analysis with many small decisions (eigenvalues, searches, certificates) is the same program in
one process and over ranks. Work on the samples is a task, which all ranks do together when rank 0
calls it.
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
    """A message of rank 0 to the others: a task, a result, or an error."""

    task: Callable[..., Any] | None = None
    args: tuple[Any, ...] = ()
    keywords: dict[str, Any] | None = None
    result: Any = None
    error: str | None = None


class Led(Protocol):
    """The object of the tasks, the same on every rank, with its team."""

    @property
    def team(self) -> Team: ...  # noqa: D102


L = TypeVar("L", bound=Led)


class Team:
    """The ranks of one analysis."""

    def __init__(self, comm: Comm) -> None:
        self._comm = comm
        self._leading = False  # whether this is rank 0 while the others wait for a task

    def lead(self, led: L, decide: Callable[[], R]) -> R:
        """Return the result of `decide` on rank 0; the other ranks share its tasks."""
        if self._comm.size == 1:
            return decide()
        if self._comm.rank > 0:
            found: R = self._follow(led)
            return found
        self._leading = True
        try:
            result = decide()
        except Exception as error:
            if self._leading:  # otherwise the others are inside a task, and end too
                self._leading = False
                self._comm.agree(_Message(error=f"{type(error).__name__}: {error}"))
            raise
        self._leading = False
        self._comm.agree(_Message(result=result))
        return result

    def _follow(self, led: Any) -> Any:
        """Do the tasks of rank 0, until it sends its result."""
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
        """Do a task on all ranks; `named` is the function that can be pickled."""
        if not self._leading:
            return task(*args, **keywords)
        self._leading = False  # nested tasks are part of this task
        self._comm.agree(_Message(named, args[1:], keywords))
        result = task(*args, **keywords)
        self._leading = True
        return result


def everywhere(task: Callable[Concatenate[L, P], R]) -> Callable[Concatenate[L, P], R]:
    """Make a function or a method a task, which all ranks do together."""

    @functools.wraps(task)
    def call(led: L, /, *args: P.args, **keywords: P.kwargs) -> R:
        return led.team.call(task, call, led, *args, **keywords)

    return call
