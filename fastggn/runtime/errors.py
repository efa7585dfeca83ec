"""Warning classes, and the checks that raise a clear error for bad input before any work."""

from __future__ import annotations

import difflib
import math
import operator
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray


class FastGGNWarning(UserWarning):
    """Base class of every warning that the package issues."""


class SingularSystemWarning(FastGGNWarning):
    """A Newton system was singular or indefinite, and another solver replaced it."""


class AscentWarning(FastGGNWarning):
    """An undamped step raised the loss."""


class CheckpointWarning(FastGGNWarning):
    """A checkpoint could not be written, or an older one replaced a damaged one."""


class DivergenceWarning(FastGGNWarning):
    """The weights grow without bound while the loss tends to its infimum."""


class ScalingWarning(FastGGNWarning):
    """The inputs or targets are badly scaled."""


class UnitsWarning(FastGGNWarning):
    """Many hidden units are saturated or dead at the end of a run."""


def printable(text: str) -> str:
    """Return text with control characters, such as escape sequences, written out."""
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


def suggest(name: str, valid: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the nearest valid name, or an empty string."""
    close = difflib.get_close_matches(str(name).lower(), list(valid), n=1, cutoff=0.4)
    return f"; did you mean {close[0]!r}?" if close else ""


def unknown_name(argument: str, name: object, valid: Iterable[str]) -> ValueError:
    """Return the error for an unknown name, with the valid names and the nearest one."""
    names = list(valid)
    return ValueError(
        f"{argument} {name!r} is unknown{suggest(str(name), names)} (valid: {', '.join(names)})"
    )


def check_finite(name: str, array: NDArray[Any], offset: int = 0) -> None:
    """Raise ``ValueError`` naming the first NaN or infinite entry of `array`."""
    finite = np.isfinite(array)
    if finite.all():
        return
    index = np.unravel_index(int(np.argmin(finite)), array.shape)
    value = array[index]
    where = (int(index[0]) + offset, *(int(i) for i in index[1:])) if index else ()
    place = f"[{', '.join(map(str, where))}]" if where else ""
    raise ValueError(f"{name}{place} is {value}; all entries must be finite")


def check_positive(name: str, value: float, *, zero: bool = False) -> float:
    """Return `value` as a float, or raise ``ValueError`` unless it is finite and positive."""
    if isinstance(value, (str, bytes)):
        raise TypeError(f"{name} must be a real number, not {value!r}")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a real number, not {type(value).__name__}") from None
    if not math.isfinite(number) or number < 0 or (number == 0 and not zero):
        raise ValueError(f"{name} must be {'>= 0' if zero else '> 0'} and finite, got {value}")
    return number


def checked_flag(name: str, value: Any) -> bool:
    """Return `value` as a bool, or raise an error."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, not {value!r}")
    return bool(value)


def check_count(name: str, value: Any, least: int) -> int:
    """Return `value` as an integer of at least `least`, or raise an error."""
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, not {type(value).__name__}") from None
    if count < least:
        raise ValueError(f"{name} must be at least {least}, got {count}")
    return count


def as_real(name: str, value: Any) -> NDArray[np.float64]:
    """Return `value` as a float64 array, without a copy if possible."""
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must hold real numbers, got dtype {array.dtype}")
    return array.astype(np.float64, copy=False)


def as_float_vector(name: str, value: Any, size: int) -> NDArray[np.float64]:
    """Return `value` as a new contiguous float64 vector of `size` finite entries."""
    array = as_real(name, value)
    if array.shape != (size,):
        raise ValueError(f"{name} must have shape ({size},), got {array.shape}")
    out = np.array(array, dtype=np.float64, order="C")
    check_finite(name, out)
    return out
