"""Statements of papers, verified and redrawn: code of the repository that no wheel holds.

The published figures and tables are computed again by one module an experiment.

Each of these holds

- ``DEFAULT`` and ``QUICK``: the configuration as a dict of plain values (``seed`` among them); the
  first runs in minutes, the second in under a minute on two cores;
- ``run(config, report) -> dict``: the result, of plain values that JSON can hold; `config` has the
  keys of ``DEFAULT``, and ``report(text)`` is called now and then with a line on the progress;
- ``plot(result) -> matplotlib.figure.Figure``: drawn from the result alone;
- ``summary(result) -> str``: what came out, in a few lines of text.

``python -m papers NAME --out DIR`` runs one and writes ``NAME.json`` and ``NAME.png``. The other
modules check single statements: the lemmas on linear networks (`linear_conditions`), the gates of
Corollary 3.2 (`linear_gates`), its sum over paths (`path_sum`), the loss neither convex nor concave
(`linear_convexity`), minima of spin glasses (`spin_glass`), the smallest ranks of XOR
(`xor_ranks`), the rank over widths and samples (`phase`), the Jacobian by the Tracy-Singh product
(`tracy_singh`), weights of full rank as a constraint (`full_rank`).
"""

from __future__ import annotations

import importlib
from types import ModuleType

# The name of an experiment and its module.
NAMES: dict[str, str] = {
    "xor": "xor",
    "shen-fig1a": "shen_fig1a",
    "shen-fig1b": "shen_fig1b",
    "shen-fig1c": "shen_fig1c",
    "rank-phase": "rank_phase",
    "linear": "linear",
    "lsd-fig1": "lsd_fig1",
    "lsd-fig2": "lsd_fig2",
    "lsd-fig3": "lsd_fig3",
    "lsd-table1": "lsd_table1",
    "bayesian": "bayesian",
    "null-space": "null_space",
    "channels": "channels",
    "sharpness": "sharpness",
    "uci": "uci",
}


def load(name: str) -> ModuleType:
    """Return the module of an experiment.

    Raises
    ------
    ValueError
        If there is no experiment of this name; the message lists those that there are.
    """
    if name not in NAMES:
        raise ValueError(f"no experiment is named {name!r}; there are {', '.join(sorted(NAMES))}")
    return importlib.import_module(f"papers.{NAMES[name]}")
