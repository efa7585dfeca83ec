"""What the parts of a run keep from one iteration to the next, as data for a checkpoint."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

# A tree of dicts with string keys; leaves are arrays, numbers, strings, booleans and None.
State = dict[str, Any]


class Stateful(Protocol):
    """A part of a run that carries something from one iteration to the next.

    Between two iterations `state` tells all of it, so that a new object with the same options
    goes on bit for bit after `restore`. The arrays in a state are never written to afterwards:
    a part that changes an array in place must hand out a copy.
    """

    def state(self) -> State:
        """Return what the next iteration depends on."""

    def restore(self, state: State) -> None:
        """Take the state over; LookupError, TypeError or ValueError where it does not fit."""


class Random:
    """A random generator as a part of the run: every part that draws shares it."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def state(self) -> State:
        """Return the state of the bit generator."""
        return dict(self._rng.bit_generator.state)

    def restore(self, state: State) -> None:
        """Continue the stream of numbers where the state was taken."""
        self._rng.bit_generator.state = state


def take(owner: object, *names: str) -> State:
    """Return attributes of `owner` as a state; a leading underscore is left out."""
    return {name.lstrip("_"): getattr(owner, name) for name in names}


def put(owner: object, state: State, *names: str) -> None:
    """Set the attributes that `take` read."""
    for name in names:
        value = state[name.lstrip("_")]
        if value is not None and not isinstance(value, (bool, int, float, str)):
            raise TypeError(f"{name.lstrip('_')} must be a plain value, not {value!r:.40}")
        setattr(owner, name, value)
