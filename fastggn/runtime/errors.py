"""Warning classes, and the checks that raise a clear error for bad input before any work."""

from __future__ import annotations

import difflib
import functools
import inspect
import math
import operator
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastggn.runtime.synonyms import meaning

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


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


class KernelCacheWarning(FastGGNWarning):
    """The cache of compiled kernels is damaged or cannot be written; kernels are compiled."""


class ScalingWarning(FastGGNWarning):
    """The inputs or targets are badly scaled."""


class UnitsWarning(FastGGNWarning):
    """Many hidden units are saturated or dead at the end of a run."""


def printable(text: str) -> str:
    """Return text with control characters, such as escape sequences, written out."""
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


def suggest(name: str, valid: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the valid name that is meant, or an empty string."""
    names = list(valid)
    close = difflib.get_close_matches(str(name).lower(), names, n=1)
    return meaning(name, names) or (f"; did you mean {close[0]!r}?" if close else "")


def unknown_name(argument: str, name: object, valid: Iterable[str]) -> ValueError:
    """Return the error for an unknown name, with the valid names and the one that is meant."""
    names = list(valid)
    hint = meaning(str(name), names, code=True) or suggest(str(name), names)
    return ValueError(f"{argument} {name!r} is unknown{hint} (valid: {', '.join(names)})")


def refuse_unknown(where: str, given: Iterable[str], valid: Iterable[str]) -> None:
    """Raise ``TypeError`` for keyword arguments that a function does not have, with hints."""
    names = [name for name in valid if name != "self"]
    faults = [
        f"{name!r}{meaning(name, names, code=True) or suggest(name, names)}"
        for name in given
        if name not in names
    ]
    if faults:
        unknown = ", and no argument ".join(faults)
        raise TypeError(f"{where} has no argument {unknown} (arguments: {', '.join(names)})")


def hinted(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function so that an unknown keyword argument says which argument is meant."""
    names = list(inspect.signature(function).parameters)
    where = function.__qualname__.removesuffix(".__init__")

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        refuse_unknown(where, kwargs, names)
        return function(*args, **kwargs)

    return wrapper


def hinted_fields(kind: type[T]) -> type[T]:
    """Decorate a dataclass like `hinted`."""
    setattr(kind, "__init__", hinted(kind.__init__))  # noqa: B010 - mypy refuses the assignment
    return kind


def samples_are_rows(name: str, shape: tuple[int, ...], width: int) -> str:
    """Return advice where the samples stand in the columns of an array, or an empty string."""
    turned = len(shape) == 2 and shape[0] == width < shape[1]
    return f"; samples are rows: pass {name}.T" if turned else ""


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
