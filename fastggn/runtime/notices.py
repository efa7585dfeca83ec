"""Words about slow work, for a program that shows them to its user."""

from __future__ import annotations

from collections.abc import Callable

_listener: list[Callable[[str], object]] = []


def listen(show: Callable[[str], object] | None) -> None:
    """Let `show` have each notice from now on; None: nobody."""
    _listener[:] = [] if show is None else [show]


def notify(text: str) -> None:
    """Give a notice to the listener, if there is one."""
    for show in _listener:
        show(text)
