"""Types of options on the command line and in a TOML file."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

import click

from fastggn.runtime.errors import suggest

if TYPE_CHECKING:
    ParamType = click.ParamType[Any]
else:
    ParamType = click.ParamType  # generic from click 8.3 on only


class Widths(ParamType):
    """Hidden widths: ``20,20``, a list in TOML, or ``none``."""

    name = "widths"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, ...]:
        """Return the widths as a tuple of positive integers."""
        if isinstance(value, str):
            value = [] if value.strip().lower() in ("", "none") else value.split(",")
        items = value if isinstance(value, (list, tuple)) else [value]
        try:
            widths = tuple(int(item) for item in items)
        except (TypeError, ValueError):
            self.fail(f"{value!r}: give widths such as 20,20, or none", param, ctx)
        if any(width < 1 for width in widths):
            self.fail(f"{', '.join(map(str, widths))}: a width must be at least 1", param, ctx)
        return widths


class Names(ParamType):
    """One name, or several separated by commas; a list in TOML."""

    name = "name"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, ...]:
        """Return the names as a tuple."""
        items = value.split(",") if isinstance(value, str) else value
        names = tuple(str(item).strip() for item in items)
        if not all(names):
            self.fail("there is an empty name", param, ctx)
        return names


class Columns(ParamType):
    """Columns by name or number, separated by commas, in quotes if they hold one; a TOML list."""

    name = "columns"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str | int, ...]:
        """Return the columns as a tuple."""
        if isinstance(value, str):
            names = next(csv.reader([value], skipinitialspace=True), [])
            return tuple(name.strip() for name in names)
        return tuple(value) if isinstance(value, (list, tuple)) else (value,)


class Share(ParamType):
    """A share of the rows, or the name of a column."""

    name = "share"

    def convert(self, value: Any, param: Any, ctx: Any) -> float | str:
        """Return a number as float, and anything else as text."""
        try:
            return float(value)
        except ValueError:
            return str(value)


class Every(ParamType):
    """A number of iterations or a time; in TOML a whole number or text."""

    name = "interval"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """Return the text for `train`."""
        return str(value)


class OneOf(ParamType):
    """One of some names; a wrong one gets the nearest."""

    name = "name"

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """Return the name."""
        if value not in self._names:
            self.fail(f"{value!r}{suggest(value, self._names)} ({', '.join(self._names)})",
                      param, ctx)  # fmt: skip
        return str(value)


EVERY = Every()
WIDTHS = Widths()
NAMES = Names()
TARGET = Columns()
SHARE = Share()

_LISTS: dict[type[ParamType], tuple[type, ...]] = {
    Widths: (int,),
    Names: (str,),
    Columns: (str, int),
}


def toml_fault(param: click.Parameter, value: Any) -> str:
    """Return the expected kind of a value in a TOML file, or an empty string if the value fits."""
    # Click would convert in silence: 10.5 to 10 iterations, true to 1.
    if isinstance(param, click.Option) and param.is_flag:
        return "" if isinstance(value, bool) else "true or false"
    items = _LISTS.get(type(param.type))
    if items is not None:
        listed = value if isinstance(value, list) else [value]
        good = all(_is(item, (*items, str)) for item in listed)
        return "" if good else f"a list of {' or '.join(_WORDS[item] for item in items)}"
    if isinstance(param.type, Every):
        return "" if _is(value, (int, str)) else "whole numbers or text"
    if isinstance(param.type, Share):
        return "" if _is(value, (float, int, str)) else "a number or text"
    expected = _expected(param.type)
    return "" if _is(value, expected) else f"{_WORDS[expected[0]]}"


_WORDS = {int: "whole numbers", float: "a number", str: "text"}


def _expected(kind: ParamType) -> tuple[type, ...]:
    if isinstance(kind, click.types.IntParamType):
        return (int,)
    if isinstance(kind, click.types.FloatParamType):
        return (float, int)
    return (str,)


def _is(value: object, kinds: tuple[type, ...]) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)
