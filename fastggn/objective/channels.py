"""The channels of a network and the coefficients of an equation, as its residual reads them.

A channel is a tuple of input indices: () the value of the outputs, (0,) the first derivative by
input 0, (0, 1) the mixed second one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import NDArray

from fastggn.network.channels import MOST, Channel
from fastggn.runtime.errors import suggest

FloatArray = NDArray[np.float64]
Read = Callable[[int, Channel], Any]


@dataclass(frozen=True)
class Names:
    """What a residual may name: inputs, outputs and coefficients."""

    inputs: tuple[str, ...] | None
    n_inputs: int
    n_outputs: int
    coefficients: tuple[str, ...]

    def channel(self, by: Iterable[Any]) -> Channel:
        """Return the channel of the derivative by these inputs, names or indices, sorted.

        Raises
        ------
        ValueError
            If an input is unknown, or the order is higher than 2.
        """
        by = tuple(by)
        found = tuple(sorted(self._input(one) for one in by))
        if len(found) > MOST:
            raise ValueError(
                f"u.d({', '.join(map(repr, by))}) is a derivative of order {len(by)}: there are "
                f"channels up to order {MOST}; write an equation of higher order as a system, "
                "with an output for each lower derivative"
            )
        return found

    def _input(self, one: Any) -> int:
        if isinstance(one, str):
            known = self.inputs or ()
            if one in known:
                return known.index(one)
            valid = f"valid: {', '.join(known)}" if known else "the problem has no inputs= names"
            several = len(one) > 1 and all(letter in known for letter in one)
            meant = f"; write u.d({', '.join(map(repr, one))})" if several else suggest(one, known)
            raise ValueError(f"input {one!r} is unknown{meant} ({valid})")
        if isinstance(one, (int, np.integer)) and not isinstance(one, bool):
            if 0 <= one < self.n_inputs:
                return int(one)
            raise ValueError(f"input {one} is out of range for {self.n_inputs} inputs")
        raise ValueError(f"an input is a name or an index, not {type(one).__name__}")

    def said(self, channel: Channel, output: int | None = None) -> str:
        """Return a channel as a residual writes it."""
        u = "u" if output is None or self.n_outputs == 1 else f"u[{output}]"
        names = self.inputs or range(self.n_inputs)
        by = ", ".join(repr(names[i]) for i in channel)
        return f"{u}.d({by})" if channel else f"{u}.value"


class Channels(NDArrayOperatorsMixin):
    """The second argument u of a residual: values and derivatives of the network's outputs.

    ``u.value`` and ``u.d("x", "y")`` (inputs by name or index) are arrays of shape (B,); with
    several outputs ``u[o].value`` and ``u[o].d("x")`` are those of output o.
    """

    def __init__(self, names: Names, read: Read, output: int | None = None) -> None:
        self._names, self._read = names, read
        self._output = 0 if names.n_outputs == 1 else output

    @property
    def value(self) -> Any:
        """The output, shape (B,)."""
        return self._get(())

    def d(self, *by: str | int) -> Any:
        """Return the derivative of the output by one or two inputs, shape (B,)."""
        if not by:
            raise ValueError('u.d() names no input: write u.d("x"), or u.value')
        return self._get(self._names.channel(by))

    def __getitem__(self, output: int) -> Channels:
        """Return the channels of one output."""
        n = self._names.n_outputs
        if self._output is not None and n > 1:
            raise ValueError(f"u[{self._output}][{output}]: an output has one index")
        if not isinstance(output, (int, np.integer)) or not 0 <= output < n:
            raise ValueError(f"u[{output!r}]: the network has the outputs 0 to {n - 1}")
        return Channels(self._names, self._read, int(output))

    def _get(self, channel: Channel) -> Any:
        if self._output is None:
            said = self._names.said(channel)
            n = self._names.n_outputs
            raise ValueError(
                f"{said}: the network has {n} outputs, write {said.replace('u', 'u[0]', 1)}"
            )
        return self._read(self._output, channel)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"u has no {name!r}: it has u.value, u.d(...) and, by output, u[o]")

    def __array_ufunc__(self, ufunc: np.ufunc, *_: Any, **__: Any) -> Any:
        """Refuse u itself as an operand."""
        one = "u" if self._output is None or self._names.n_outputs == 1 else f"u[{self._output}]"
        raise TypeError(f"np.{ufunc.__name__} of {one}: an array of numbers is {one}.value")


class Coefficients(Mapping[str, Any]):
    """The third argument k of a residual: the coefficients of the equation by name."""

    def __init__(self, names: tuple[str, ...], values: Any) -> None:
        self._names, self._values = names, values
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            valid = f"valid: {', '.join(self._names)}" if self._names else "the problem has none"
            raise ValueError(
                f"coefficient {name!r} is unknown{suggest(name, self._names)} ({valid})"
            )
        self.read.add(name)
        return self._values[self._names.index(name)]

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f'k has no {name!r}: a coefficient is k["{name}"]')

    def __iter__(self) -> Any:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
