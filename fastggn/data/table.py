"""A table of samples: raw columns, their recipe, and the numbers that a network takes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.data.columns import Raw
from fastggn.data.recipe import Recipe
from fastggn.data.sources import as_source, picked_rows
from fastggn.runtime.cached import cached_property
from fastggn.runtime.comm import SERIAL, Comm
from fastggn.runtime.errors import check_finite

DIGEST_ROWS = 4096  # of a block


@dataclass(frozen=True, eq=False)
class Table:
    """Samples with the names and kinds of their columns, from `read_table`.

    Attributes
    ----------
    X : ndarray, shape (T, n_0), float64
        The encoded inputs, not scaled; rows of a file where it is too large for the memory.
    Y : ndarray or None
        Targets (T, n) as numbers, or the labels (T,) of classes from 0; None without targets.
    recipe : Recipe
        How the raw columns became numbers.
    rows : ndarray of int, shape (T,)
        The number of each sample in the source, from 0; rows with missing values may be left out.
    raw : Raw or None
        The columns as they were read.
    source : str
        The name for messages.
    notes : tuple of str
        What was decided while reading, one sentence each.
    series : bool
        Whether the rows follow one another in time: then the end is held out.
    """

    X: Any
    Y: Any
    recipe: Recipe
    rows: NDArray[Any]
    raw: Raw | None = None
    source: str = "the table"
    notes: tuple[str, ...] = ()
    series: bool = False

    @property
    def n_rows(self) -> int:
        """The number of samples, T."""
        return int(self.X.shape[0])

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The labels of the classes; None for a regression."""
        return self.recipe.classes

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the columns of `X`."""
        return self.recipe.input_names

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of the target columns."""
        return self.recipe.target_names

    @property
    def stored(self) -> tuple[list[str], list[str]]:
        """The types in which the columns of `X` and `Y` are stored, for `Scaler.of`."""
        inputs = [c.stored or "float64" for c in self.recipe.inputs for _ in c.inputs]
        return inputs, [c.stored or "float64" for c in self.recipe.targets]

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the SHA-256 of each block of encoded rows, in hex digits."""
        return self.digest_over(SERIAL)

    def digest_over(self, comm: Comm) -> str:
        """Return the digest; each rank reads its share of the blocks.

        Raises
        ------
        ValueError
            If a row of a file holds NaN or infinity; it has the number of the row.
        """
        own = comm.share(-(-self.n_rows // DIGEST_ROWS))
        parts = [part for part in (self.X, self.Y) if part is not None]
        sources = [as_source("rows", part[:, None] if len(part.shape) == 1 else part)
                   for part in parts]  # fmt: skip
        digests = []
        with comm.raise_on_all():
            for start in range(own.start * DIGEST_ROWS, own.stop * DIGEST_ROWS, DIGEST_ROWS):
                block = hashlib.sha256()
                for source in sources:
                    rows = source.rows(start, min(self.n_rows, start + DIGEST_ROWS))
                    if source.streamed:
                        check_finite(f"{self.source}: rows", rows, start)
                    block.update(np.ascontiguousarray(rows, dtype="<f8").tobytes())
                digests.append(block.digest())
        whole = b"".join(digest for part in comm.gather(digests) for digest in part)
        return hashlib.sha256(whole).hexdigest()

    def take(self, index: NDArray[np.intp]) -> Table:
        """Return some samples, in the order of the index; those of a file stay there."""
        index = index.astype(self.rows.dtype, copy=False)  # one array for X and Y
        X = picked_rows(self.X, index)
        Y = None if self.Y is None else picked_rows(self.Y, index)
        raw = None if self.raw is None else self.raw.take(self.rows[index])
        rows = self.rows[index] if raw is None else np.arange(len(index))
        return Table(X, Y, self.recipe, rows, raw, self.source, self.notes, self.series)

    def __len__(self) -> int:
        return self.n_rows

    def __repr__(self) -> str:
        """Return the size, the columns and the target."""
        kinds = ", ".join(f"{c.name} ({c.kind})" for c in self.recipe.inputs[:8])
        more = len(self.recipe.inputs) - 8
        target = ", ".join(self.targets) or "none"
        if self.classes is not None:
            target += f" ({len(self.classes)} classes)"
        tail = f", ... {more} more" if more > 0 else ""
        return (
            f"Table of {self.source}: {self.n_rows} rows, {len(self.inputs)} inputs: "
            f"{kinds}{tail}; target: {target}"
        )
