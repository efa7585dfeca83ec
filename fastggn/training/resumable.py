"""State of the parts of a run between two iterations, as data for a checkpoint."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from fastggn.runtime.errors import as_float_vector

# A tree of dicts with string keys; leaves are arrays, numbers, strings, booleans and None.
State = dict[str, Any]


class Resumable:
    """A part of a run with a state between two iterations.

    `_resumes` names the attributes of this state: resumable parts, vectors, and plain values. A
    new object with the same options continues bit for bit after `restore`.
    """

    _resumes: ClassVar[tuple[str, ...]] = ()

    def state(self) -> State:
        """Return the named attributes, with arrays that nobody changes afterwards."""
        return {name.lstrip("_"): _copied(getattr(self, name)) for name in self._resumes}

    def restore(self, state: State) -> None:
        """Set the named attributes, or raise LookupError, TypeError or ValueError."""
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
    """The random generator that all parts of a run share."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def state(self) -> State:
        """Return the state of the bit generator."""
        return dict(self._rng.bit_generator.state)

    def restore(self, state: State) -> None:
        """Continue the random numbers from the state."""
        self._rng.bit_generator.state = state
