"""All rows of the target table, and figures without a target beside them."""

from __future__ import annotations

from bench import assembly, processes, products, ranks, training
from bench.core import Row

__all__ = ["ROWS", "select"]

ROWS: tuple[Row, ...] = (
    *assembly.ROWS,
    *products.ROWS,
    *ranks.ROWS,
    *training.ROWS,
    *processes.ROWS,
)


def select(names: str) -> list[Row]:
    """Return the rows of a comma-separated list of keys or beginnings of keys; "all" is all.

    Raises
    ------
    ValueError
        If a name stands for no row.
    """
    if names == "all":
        return list(ROWS)
    chosen = []
    for name in filter(None, (part.strip() for part in names.split(","))):
        found = [row for row in ROWS if row.key.startswith(name)]
        if not found:
            keys = ", ".join(row.key for row in ROWS)
            raise ValueError(f"no row is called {name!r}; the rows are {keys}")
        chosen += [row for row in found if row not in chosen]
    return chosen
