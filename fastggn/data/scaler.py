"""One scaling of columns for tables, models, estimators and exports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.data.sources import as_source, in_parts
from fastggn.runtime.comm import SERIAL, Comm
from fastggn.runtime.errors import as_float_vector, check_finite

FloatArray = NDArray[np.float64]

# A column whose values differ by at most so many units in the last place holds no information
# beyond the rounding with which it is stored.
ROUNDING_UNITS = 4.0
SAFE_EXPONENT = 200  # squares of columns within these powers of two are exact without scaling
MOST_POWER = 1000  # of the scale of a constant column
NO_EXPONENT = -2000  # of a column of zeros


class Moments:
    """Mean, deviation and range of columns whose rows come in parts, with weights or without.

    The update of Chan, Golub and LeVeque (1979) never subtracts two large sums, so that columns
    far from zero keep their deviation. The squares are sums of columns divided by an exact power
    of two, so that values near 1e-165 or 1e160 neither vanish nor overflow.
    """

    def __init__(self, n_columns: int, stored: Any = np.float64) -> None:
        self.count = 0.0  # the sum of the weights
        self.mean: FloatArray = np.zeros(n_columns)
        self.least: FloatArray = np.full(n_columns, np.inf)
        self.largest: FloatArray = np.full(n_columns, -np.inf)
        self._squares: FloatArray = np.zeros(n_columns)  # of columns over 2**exponent
        self._exponent: NDArray[np.int64] = np.full(n_columns, NO_EXPONENT)
        self._stored = stored  # the type of the stored values, or one for each column

    def add(self, rows: FloatArray, weights: FloatArray | None = None) -> None:
        """Merge rows, shape (B, n), with weights of shape (B,)."""
        if rows.shape[0] == 0:
            return
        part = Moments(rows.shape[1], self._stored)
        columns = np.array(rows.T, order="C")  # a copy: columns are summed quicker than rows
        part.least, part.largest = columns.min(axis=1), columns.max(axis=1)
        exponent = _exponents(np.maximum(abs(part.least), abs(part.largest)))
        unsafe = (abs(exponent) > SAFE_EXPONENT) & (exponent > NO_EXPONENT)
        part._exponent = np.where(exponent > NO_EXPONENT, 0, NO_EXPONENT)
        if unsafe.any():
            part._exponent, columns = exponent, np.ldexp(columns, -exponent[:, None])
        total = float(columns.shape[1] if weights is None else weights.sum())
        if total > 0.0:
            mean = _sum(columns, weights) / total
            columns -= mean[:, None]
            rest = _sum(columns, weights) / total  # the rounding of the mean
            part.count, part.mean = total, np.ldexp(mean + rest, part._exponent)
            spread = _sum(np.square(columns, out=columns), weights) - np.square(rest) * total
            part._squares = np.maximum(spread, 0.0)
        self.merge(part)

    def merge(self, other: Moments) -> None:
        """Merge the rows of another part."""
        self.least = np.minimum(self.least, other.least)
        self.largest = np.maximum(self.largest, other.largest)
        total = self.count + other.count
        if other.count == 0.0:
            return
        exponent = np.maximum(self._exponent, other._exponent)
        delta = np.ldexp(other.mean, -exponent) - np.ldexp(self.mean, -exponent)
        self.mean = self.mean + np.ldexp(delta, exponent) * (other.count / total)
        self._squares = (
            np.ldexp(self._squares, 2 * (self._exponent - exponent))
            + np.ldexp(other._squares, 2 * (other._exponent - exponent))
            + np.square(delta) * (self.count * (other.count / total))
        )
        self._exponent, self.count = exponent, total

    @property
    def deviation(self) -> FloatArray:
        """The standard deviation of each column, with the sum of the weights as divisor."""
        spread = np.sqrt(self._squares / max(self.count, np.finfo(float).tiny))
        return np.asarray(np.ldexp(spread, self._exponent))

    def scaler(self) -> Scaler:
        """Return the scaling that these columns define."""
        deviation = self.deviation
        with np.errstate(over="ignore"):
            width = self.largest - np.minimum(self.least, self.largest)
        if self.count and not np.isfinite([self.mean, deviation, width]).all():
            raise ValueError("the values are too large to be scaled")
        constant = (self.largest <= self.least) | (self._spread() <= ROUNDING_UNITS)
        constant |= deviation == 0.0
        # In the unit of the column, so that outputs near 0 are near the constant in any unit.
        power = np.where(
            self.mean == 0.0, 0, np.clip(np.frexp(self.mean)[1], -MOST_POWER, MOST_POWER)
        )
        scale = np.where(constant, np.ldexp(1.0, power), deviation)
        return Scaler(self.mean, scale, constant, self.least, self.largest)

    def _spread(self) -> FloatArray:
        """Return the largest difference of two values, in units of the last place as stored."""
        peak = np.maximum(abs(self.least), abs(self.largest))
        stored = self._stored if isinstance(self._stored, Sequence) else [self._stored] * peak.size
        unit = np.array([_unit(value, kind) for value, kind in zip(peak, stored, strict=True)])
        with np.errstate(over="ignore"):
            return np.asarray((self.largest / 2 - self.least / 2) / unit * 2)


@dataclass(frozen=True, eq=False)
class Scaler:
    """Columns as ``(column - mean) / scale``.

    A column is constant if its values differ by at most four units in the last place of the
    largest one, in the type in which they are stored; its scale is the power of two above its
    mean, or 1.

    Attributes
    ----------
    mean, scale : ndarray, shape (n,), float64
    constant : ndarray, shape (n,), bool
    least, largest : ndarray, shape (n,), float64
        The range of each column.
    """

    mean: FloatArray
    scale: FloatArray
    constant: NDArray[np.bool_]
    least: FloatArray
    largest: FloatArray

    @classmethod
    def of(
        cls,
        columns: Any,
        weights: ArrayLike | None = None,
        comm: Comm = SERIAL,
        *,
        stored: Sequence[Any] | None = None,
    ) -> Scaler:
        """Return the scaling that standardises columns.

        Parameters
        ----------
        columns : array_like, shape (T, n)
            An array, or rows of a file, which are read once in parts.
        weights : array_like, shape (T,), optional
            Weights of the rows.
        comm : Comm
            The processes that share the rows.
        stored : sequence of dtype, optional
            The type in which each column was stored, by default the type of `columns`.

        Raises
        ------
        ValueError
            If an entry is NaN or infinite, or a deviation overflows.
        """
        source = as_source("samples", columns, least=0)
        kept = getattr(columns, "dtype", np.float64) if stored is None else stored
        found = Moments(source.shape[1], kept)
        shares = None if weights is None else as_float_vector("weights", weights, source.shape[0])
        first = comm.span(source.shape[0]).start
        with comm.raise_on_all():
            for start, rows in in_parts(source):
                check_finite("samples", rows, first + start)
                found.add(rows, None if shares is None else shares[start : start + len(rows)])
        merged, *others = comm.gather(found)
        for other in others:
            merged.merge(other)
        return merged.scaler()

    @classmethod
    def of_known(
        cls, columns: Any, comm: Comm = SERIAL, *, stored: Sequence[Any] | None = None
    ) -> Scaler:
        """Return the scaling as `of` does; NaN entries of an array (T, n) do not count."""
        gaps = isinstance(columns, np.ndarray) and bool(np.isnan(columns).any())
        if not comm.any(gaps):
            return cls.of(columns, comm=comm, stored=stored)
        known, kept = ~np.isnan(columns), stored or [columns.dtype] * columns.shape[1]
        parts = [
            cls.of(columns[known[:, j], j : j + 1], comm=comm, stored=[kind])
            for j, kind in enumerate(kept)
        ]
        arrays = [[getattr(part, field.name) for part in parts] for field in fields(cls)]
        return cls(*map(np.concatenate, arrays))

    @classmethod
    def at(cls, mean: ArrayLike, scale: ArrayLike) -> Scaler:
        """Return the scaling of known means and scales, with a range of three scales around.

        Parameters
        ----------
        mean, scale : array_like, shape (n,)

        Raises
        ------
        ValueError
            If the shapes differ, an entry is not finite, or a scale is not positive.
        """
        middle = as_float_vector("mean", mean, len(np.atleast_1d(mean)))
        unit = as_float_vector("scale", scale, middle.size)
        if (unit <= 0.0).any():
            raise ValueError(f"scale must be positive, got {unit.min()}")
        nothing = np.zeros(middle.size, dtype=bool)
        return cls(middle, unit, nothing, middle - 3.0 * unit, middle + 3.0 * unit)

    def apply(self, rows: ArrayLike) -> FloatArray:
        """Return rows in scaled units, shape (T, n)."""
        return np.ascontiguousarray((np.asarray(rows) - self.mean) / self.scale)

    def undo(self, rows: ArrayLike) -> FloatArray:
        """Return scaled rows in their own units, shape (T, n)."""
        return np.asarray(np.asarray(rows) * self.scale + self.mean)

    def to_dict(self) -> dict[str, Any]:
        """Return the arrays for a file."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Scaler:
        """Return the scaling of `to_dict`, after checks."""
        mean = as_float_vector("mean", kept["mean"], len(kept["mean"]))
        scale, least, largest = (
            as_float_vector(name, kept[name], mean.size) for name in ("scale", "least", "largest")
        )
        constant = np.asarray(kept["constant"], dtype=bool)
        if (scale <= 0.0).any() or constant.shape != mean.shape:
            raise ValueError("the scales must be positive, one for each column")
        return cls(mean, scale, constant, least, largest)


def same_scale(a: Scaler | None, b: Scaler | None) -> bool:
    """Whether two scalings, or None for none, give the same columns."""
    if a is None or b is None:
        return a is b
    return np.array_equal(a.mean, b.mean) and np.array_equal(a.scale, b.scale)


def _unit(value: float, stored: Any) -> float:
    """Return the unit in the last place of a number in the type in which it is stored."""
    kind = np.dtype(stored)
    return float(np.spacing(kind.type(value) if kind.kind == "f" else np.float64(value)))


def _sum(columns: FloatArray, weights: FloatArray | None) -> FloatArray:
    """Return the sums of columns (n, T), with weights (T,) or without."""
    return np.asarray((columns if weights is None else columns * weights).sum(axis=1))


def _exponents(peak: FloatArray) -> NDArray[np.int64]:
    """Return the exponents of the powers of two above these magnitudes."""
    return np.where(peak > 0.0, np.frexp(peak)[1], NO_EXPONENT).astype(np.int64)
