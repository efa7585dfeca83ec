"""Figure 3 of the loss surface decomposition: histograms of the subglobal minima."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastggn.analysis.relu.table import loss_table
from fastggn.figures.regions import plot_loss_tables

Report = Callable[[str], object]

DEFAULT: dict[str, Any] = {
    "seed": 0,
    "samples": [[-1.0, 1.0], [2.0, 1.0], [1.0, 3.0]],
    "targets": [1.0, 2.0, 3.0],
    "hidden": [1, 2, 3, 4],
}
QUICK: dict[str, Any] = DEFAULT


def run(config: dict[str, Any], report: Report = lambda text: None) -> dict[str, Any]:
    """Count the subglobal values: of all patterns, realisable ones, and attained minima."""
    X, y = np.array(config["samples"]), np.array(config["targets"])
    tables = []
    for h in config["hidden"]:
        tables.append(loss_table(X, y, h).to_dict())
        report(f"h = {h}: {sum(tables[-1]['realisable'])} realisable regions")
    return {"config": config, "tables": tables}


def summary(result: dict[str, Any]) -> str:
    """Return one table: value, then all / realisable / attained for each h."""
    tables = result["tables"]
    values = sorted({round(value, 9) for table in tables for value in table["values"]})
    names = [n for n in ("all", "realisable", "attained") if tables[0][n] is not None]
    lines = [f"{'value':>8}" + "".join(f"{'h = ' + str(t['n_hidden']):>18}" for t in tables)]
    for value in values:
        cells = []
        for table in tables:
            known = [round(v, 9) for v in table["values"]]
            at = known.index(value) if value in known else None
            counts = [table[n][at] if at is not None else 0 for n in names]
            cells.append("/".join(map(str, counts)))
        lines.append(f"{value:8.4g}" + "".join(f"{cell:>18}" for cell in cells))
    totals = ["/".join(str(sum(table[n])) for n in names) for table in tables]
    lines.append(f"{'total':>8}" + "".join(f"{total:>18}" for total in totals))
    return "\n".join([f"regions: {' / '.join(names)}", *lines])


def plot(result: dict[str, Any]) -> Any:
    """Draw one histogram a number of hidden units."""
    return plot_loss_tables(result["tables"])
