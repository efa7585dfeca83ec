"""State of the parts of a run between two iterations, as data for a checkpoint."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from fastggn.runtime.errors import as_float_vector

# A tree of dicts with string keys; leaves are arrays, numbers, strings, booleans and None.
State = dict[str, Any]


class Resumable:
    """A part of a run that carries something from one iteration to the next.

    `_resumes` names the attributes of which the next iteration depends: parts that are resumable
    themselves, vectors, and plain values. A new object with the same options goes on bit for bit
    after `restore`.
    """

    _resumes: ClassVar[tuple[str, ...]] = ()

    def state(self) -> State:
        """Return the named attributes; nothing writes to the arrays of a state afterwards."""
        return {name.lstrip("_"): _copied(getattr(self, name)) for name in self._resumes}

    def restore(self, state: State) -> None:
        """Set the named attributes; LookupError, TypeError or ValueError where one is wrong."""
        for name in self._resumes:
            own, value = getattr(self, name), state[name.lstrip("_")]
            if isinstance(own, Resumable):
                own.restore(value)
                continue
            if isinstance(own, np.ndarray):
                value = np.array(as_float_vector(name.lstrip("_"), value, own.size))
            elif value is not None and not isinstance(value, (bool, int, float, str)):
                raise TypeError(f"{name.lstrip('_')} must be a plain value, not {value!r:.40}")
            setattr(self, name, value)


def _copied(value: Any) -> Any:
    if isinstance(value, Resumable):
        return value.state()
    return value.copy() if isinstance(value, np.ndarray) else value


class Random(Resumable):
    """A random generator as a part of the run: every part that draws shares it."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def state(self) -> State:
        """Return the state of the bit generator."""
        return dict(self._rng.bit_generator.state)

    def restore(self, state: State) -> None:
        """Continue the stream of numbers where the state was taken."""
        self._rng.bit_generator.state = state
