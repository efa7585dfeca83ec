"""Dates in text: year, month and day in one order for all cells of a column."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

DAY = np.timedelta64(86_400_000_000, "us")
NOTHING = np.datetime64("NaT", "us")
NO_TIME = -(10**15)
ORDERS = ("ymd", "dmy", "mdy")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DATE = re.compile(
    r"(\d{1,4})([-/. ])(\d{1,2}|[A-Za-z]{3})\2(\d{1,4})"
    r"(?:[T ]+(\d{1,2}):(\d{2})(?::(\d{2})(\.\d{1,9})?)?)?"
    r"\s*(Z|UTC|[+-]\d{2}:?\d{2})?"
)


def read_dates(
    cells: Sequence[Any], blank: NDArray[np.bool_], counts: NDArray[np.intp], order: str
) -> tuple[NDArray[np.datetime64], str, str]:
    """Return the date of each cell (NaT for none), the order of the parts, and a fault or ""."""
    dates = np.full(len(cells), NOTHING)
    texts = [(j, str(cell).strip()) for j, cell in enumerate(cells) if not blank[j]]
    for j, _ in texts:
        if hasattr(cells[j], "year"):  # a date of Python, in an Excel file or a frame
            dates[j] = np.datetime64(cells[j], "us")
    found = [(j, match) for j, text in texts if np.isnat(dates[j])
             and (match := DATE.fullmatch(text)) is not None]  # fmt: skip
    rows = np.array([j for j, _ in found], dtype=np.intp)
    if counts[rows].sum() * 2 < counts[~blank].sum():
        return dates, order, ""  # other cells are no dates either
    parts = _Parts([match for _, match in found])
    read = {o: parts.dates(o) for o in ([order] if order else ORDERS)}
    sizes = {o: int(counts[rows[~np.isnat(read[o])]].sum()) for o in read}
    best = max(sizes, key=lambda o: sizes[o])
    if sizes[best] == 0:
        return dates, order, parts.short_year() if found else ""
    unsure = len(read) > 1 and best != "ymd" and sizes["dmy"] == sizes["mdy"]
    if unsure and not np.array_equal(read["dmy"], read["mdy"], equal_nan=True):
        return dates, order, (
            f"such as {found[0][1][0]!r} may begin with the day or with the month: write "
            "them as 2020-04-03"
        )  # fmt: skip
    dates[rows] = read[best]
    return dates, order if unsure else best, ""


class _Parts:
    """The parts of texts that look like dates."""

    def __init__(self, matches: Sequence[re.Match[str]]) -> None:
        self._texts = [m[0] for m in matches]
        self._sizes = np.array([(len(m[1]), len(m[4])) for m in matches])
        self._first = np.array([int(m[1]) for m in matches])
        self._last = np.array([int(m[4]) for m in matches])
        self._middle = np.array([_month(m[3]) for m in matches])
        self._word = np.array([m[3].isalpha() for m in matches])
        self._dots = np.array([m[2] == "." for m in matches])
        self._clock = np.array([_clock(m) for m in matches])

    def dates(self, order: str) -> NDArray[np.datetime64]:
        """Return the dates in one order of the parts, NaT for a text without a date."""
        year, month, day = (self._first, self._middle, self._last)
        good = (self._sizes[:, 0] == 4) & (self._sizes[:, 1] <= 2)
        if order != "ymd":
            year, day = day, year
            good = (self._sizes[:, 1] == 4) & (self._sizes[:, 0] <= 2)
        if order == "mdy":  # dots separate day, month and year
            month, day = day, month
            good &= ~self._word & ~self._dots
        good &= (month >= 1) & (month <= 12) & (day >= 1) & (year >= 1) & (self._clock != NO_TIME)
        months = np.where(good, (year - 1970) * 12 + month - 1, 0).astype("datetime64[M]")
        days = months.astype("datetime64[D]") + np.where(good, day - 1, 0)
        good &= days.astype("datetime64[M]") == months
        moments = days.astype("datetime64[us]") + self._clock.astype("timedelta64[us]")
        return np.where(good, moments, NOTHING)

    def short_year(self) -> str:
        """Return the fault of dates whose year has two digits, or an empty string."""
        short = (self._sizes <= 2).all(axis=1) & (self._middle >= 1) & (self._middle <= 31)
        if not short.all():
            return ""
        return f"such as {self._texts[0]!r} have a year of two digits: write them as 2020-04-03"


def _month(text: str) -> int:
    if text.isdigit():
        return int(text)
    name = text.lower()
    return MONTHS.index(name) + 1 if name in MONTHS else 0


def _clock(match: re.Match[str]) -> int:
    """Return microseconds since midnight in UTC, `NO_TIME` for no time of a day."""
    hours, minutes, seconds = (int(match[k] or 0) for k in (5, 6, 7))
    if hours > 23 or minutes > 59 or seconds > 59:
        return NO_TIME
    moment = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000
    moment += round(float(match[8] or 0) * 1e6)
    zone = match[9] or "Z"
    if zone[0] not in "+-":
        return moment
    shift = (int(zone[1:3]) * 60 + int(zone[-2:])) * 60_000_000
    return moment - shift if zone[0] == "+" else moment + shift


def days_since(dates: NDArray[np.datetime64], first: np.datetime64) -> NDArray[np.float64]:
    """Return days since a date, NaN for a missing one."""
    days = (dates - first) / DAY
    return np.asarray(np.where(np.isnat(dates), np.nan, days), dtype=np.float64)
