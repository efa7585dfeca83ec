"""The rank of P(W) over numbers of samples and widths, beside Principle 2 (Shen 2018)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastggn.runtime.threads import max_threads
from papers.phase import RankPhase, plot_phase, rank_phase

# One panel each: activation, scale of the normal weights, and the title.
_PANELS = [
    {"activation": "tanh", "scale": 1.0, "title": "tanh"},
    {"activation": "tanh", "scale": 30.0, "title": "tanh, weights x 30"},
    {"activation": "relu", "scale": 1.0, "title": "ReLU"},
    {"activation": "identity", "scale": 1.0, "title": "identity (linear network)"},
]

DEFAULT: dict[str, Any] = {
    "seed": 0,
    "n_inputs": 2,
    "n_outputs": 1,
    "widths": list(range(1, 25)),
    "samples": list(range(4, 101, 4)),
    "n_draws": 20,
    "panels": _PANELS,
    "n_jobs": None,  # processes; None is one a thread of the budget
}
QUICK: dict[str, Any] = {
    **DEFAULT,
    "widths": [1, 2, 4, 6, 8, 10],
    "samples": [4, 12, 20, 28, 36],
    "n_draws": 3,
    "n_jobs": 1,
}


def run(config: dict[str, Any], report: Callable[[str], None]) -> dict[str, Any]:
    """Compute the ranks, panel by panel.

    Returns
    -------
    dict
        ``config`` and ``panels``, the `RankPhase.to_dict` of each.
    """
    jobs = config["n_jobs"] or max_threads()
    panels = []
    for panel in config["panels"]:

        def line(text: str, title: str = panel["title"]) -> None:
            report(f"{title}: {text}")

        phase = rank_phase(
            (config["n_inputs"], None, config["n_outputs"]),
            config["widths"],
            config["samples"],
            n_draws=config["n_draws"],
            seed=config["seed"],
            activation=panel["activation"],
            scale=panel["scale"],
            n_jobs=jobs,
            report=line,
        )
        panels.append({"title": panel["title"], **phase.to_dict()})
    return {"config": config, "panels": panels}


def _phases(result: dict[str, Any]) -> list[Any]:
    return [
        RankPhase(
            sizes=tuple(panel["sizes"]),
            samples=tuple(panel["samples"]),
            n_params=tuple(panel["n_params"]),
            n_outputs=panel["n_outputs"],
            ranks=np.array(panel["ranks"]),
            largest_rank=np.array(panel["largest_rank"]),
            labels=panel["labels"],
        )
        for panel in result["panels"]
    ]


def plot(result: dict[str, Any]) -> Any:
    """Return the figure: one phase diagram a panel."""
    return plot_phase(_phases(result), [panel["title"] for panel in result["panels"]])


def summary(result: dict[str, Any]) -> str:
    """Return what came out, a line a panel."""
    lines = []
    for panel, phase in zip(result["panels"], _phases(result), strict=True):
        wide = phase.largest_rank == phase.n_outputs * np.array(phase.samples)[:, None]
        largest = (phase.ranks == phase.largest_rank[:, :, None]).mean(axis=2)
        lines.append(
            f"{panel['title']}: where N >= T n_L, rank P = T n_L in "
            f"{100 * largest[wide].mean():.1f} % of the draws; where N < T n_L, rank P = N in "
            f"{100 * largest[~wide].mean():.1f} %; ranks {phase.ranks.min()} to {phase.ranks.max()}"
        )
    return "\n".join(lines)
