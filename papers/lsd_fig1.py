"""Figure 1 of the loss surface decomposition: the regions of one unit's two weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastggn.analysis.relu.arrangement import realisable_patterns
from fastggn.figures.style import LINES, new_figure

Report = Callable[[str], object]

DEFAULT: dict[str, Any] = {"seed": 0, "samples": [[-1.0, 1.0], [2.0, 1.0], [1.0, 3.0]]}
QUICK: dict[str, Any] = DEFAULT


def run(config: dict[str, Any], report: Report = lambda text: None) -> dict[str, Any]:
    """Return the regions with the angles between which each lies.

    Raises
    ------
    ValueError
        If the samples are not in the plane.
    """
    X = np.asarray(config["samples"], dtype=np.float64)
    if X.ndim != 2 or X.shape[1] != 2:
        raise ValueError(f"samples must be points of the plane, got shape {X.shape}")
    normals = np.arctan2(X[:, 1], X[:, 0])
    rims = np.unique(np.concatenate([normals - np.pi / 2, normals + np.pi / 2]) % (2 * np.pi))
    regions = []
    for low, high in zip(rims, np.append(rims[1:], rims[0] + 2 * np.pi), strict=True):
        middle = 0.5 * (low + high)
        active = X @ np.array([np.cos(middle), np.sin(middle)]) > 0.0
        regions.append(
            {"pattern": _text(active), "from": float(low), "to": float(high),
             "share": float((high - low) / (2 * np.pi))}
        )  # fmt: skip
    found = [_text(row) for row in realisable_patterns(X)]
    report(f"{len(found)} patterns of {2 ** len(X)} are realisable")
    return {
        "config": config,
        "samples": X.tolist(),
        "regions": regions,
        "patterns": found,
        "missing": sorted(set(map(_text, _all(len(X)))) - set(found)),
    }


def summary(result: dict[str, Any]) -> str:
    """Return the patterns and the share of directions that each takes."""
    lines = [
        f"{len(result['patterns'])} of {2 ** len(result['samples'])} patterns have a region; "
        f"missing: {', '.join(result['missing']) or 'none'}"
    ]
    lines += [f"  {r['pattern']}  {100 * r['share']:5.1f} % of all w" for r in result["regions"]]
    return "\n".join(lines)


def plot(result: dict[str, Any]) -> Any:
    """Draw the plane of a unit's two weights, cut by the samples into regions."""
    from matplotlib.patches import Wedge

    figure, axes = new_figure(width=5.2, height=5.0)
    pair = axes[0, 0]
    shades = np.linspace(0.95, 0.65, len(result["regions"]))
    for region, shade in zip(result["regions"], shades, strict=True):
        low, high = region["from"], region["to"]
        degrees = np.degrees([low, high])
        pair.add_patch(Wedge((0.0, 0.0), 3.0, *degrees, color=str(shade), linewidth=0.0))
        middle = 0.5 * (low + high)
        pair.text(0.78 * np.cos(middle), 0.78 * np.sin(middle), region["pattern"], ha="center",
                  va="center", family="monospace", fontsize=11)  # fmt: skip
    for number, x in enumerate(result["samples"], start=1):
        along = np.array([-x[1], x[0]]) / np.hypot(*x)
        pair.plot([-2 * along[0], 2 * along[0]], [-2 * along[1], 2 * along[1]], color="black",
                  linestyle=LINES[(number - 1) % len(LINES)], linewidth=1.4,
                  label=f"$w^T x_{number} = 0$, $x_{number}$ = ({x[0]:g}, {x[1]:g})")  # fmt: skip
    pair.set(xlim=(-1.2, 1.2), ylim=(-1.2, 1.2), xlabel="$w_1$", ylabel="$w_2$", aspect="equal")
    pair.set_title("Regions of one unit, by active samples")
    pair.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2, fontsize=8,
                frameon=False)  # fmt: skip
    return figure


def _text(active: Any) -> str:
    return "".join("01"[int(a)] for a in active)


def _all(n_samples: int) -> Any:
    return (np.arange(2**n_samples)[:, None] >> np.arange(n_samples)[::-1]) & 1
