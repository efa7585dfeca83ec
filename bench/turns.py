"""Our side of the rows in this checkout and in another: ``python -m bench.turns OTHER [KEYS]``.

A process in each checkout measures a row in turns with the other one, ROUNDS times after a turn to
warm up. A turn in which other programs ran is done again; one of less than 0.1 s is not judged, and
has 0 in the last column. The figure is the median time here over the median time there. The other
checkout needs rows of the same keys and names. `bp-time` compares our seconds to BP's loss, which
each checkout seeks once; `train-warm` is three processes a turn.
"""

from __future__ import annotations

import functools
import json
import math
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 5
SECONDS = 0.3  # the calls of a turn
NOISE = 0.15  # cores' worth of other programs in a turn that counts
TRIES = 4
# They measure a peer, or what another row measures too; of the rest, KEYS may be beginnings.
LEFT_OUT = "-torch -jax mse mse-mixed mnist train-cold growth in-T".split()


def _side(row: Any) -> Any:
    """Return a function of nothing that returns the seconds of a turn, or a row's value."""
    if row.key == "train-warm":
        return _first_train
    if row.key == "bp-time":
        _descend_once()
    if row.build is None:
        return lambda: _value(row.measure("full"))
    pair = row.build("full")
    side = pair.peer if row.key.startswith("bp-") else pair.ours  # these rows compare with BP
    side.turn(1)
    calls = int(min(max(SECONDS / side.turn(1)[0], 1), 20))

    def turn() -> float:
        side.turn(1)  # the workers leave cores to other programs, and the other checkout was one
        return float(side.scale * statistics.median(side.turn(calls)))

    return turn


def _first_train() -> float:
    """Return the seconds of the first `train` in a process; the row would keep them."""
    from bench import children

    return statistics.median(children.run("train", "full")["first"] for _ in range(3))


def _descend_once() -> None:
    """Let BP's descents, 12 seconds, be those of the first turn."""
    from bench import peers

    make, kept = peers.torch_bp, {}
    peers.torch_bp = lambda *given: kept.setdefault("bp", functools.cache(make(*given)))


def _value(outcome: Any) -> float:
    return float(outcome.value if outcome.ours is None else outcome.ours.median)


def _serve() -> None:
    """Answer each line: the key of a row builds it, an empty line is a turn."""
    from bench.machine import Bystanders
    from bench.rows import select

    print(json.dumps([row.key for row in select("all")]), flush=True)
    turn: Any = None
    for key in map(str.strip, sys.stdin):
        bystanders, value = Bystanders(), None
        if key:
            turn = None  # free the memory of the row before
            turn = _side(select(key)[0])
        else:
            value = turn()
        print(json.dumps([bystanders.share(), value]), flush=True)


class _Checkout:
    """A process that measures in one checkout."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", __file__, "serve"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.keys: list[str] = self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def ask(self, key: str = "") -> tuple[float, Any]:
        """Build a row, or do a turn; return the cores that others kept busy, and the value."""
        assert self._process.stdin is not None
        print(key, file=self._process.stdin, flush=True)
        others, value = self._answer()
        return others or 0.0, value

    def quiet_turn(self) -> tuple[float, float]:
        """Return the quietest of some turns: others' cores, and the value."""
        turns = []
        for _ in range(TRIES):
            turns.append(self.ask())
            if turns[-1][0] <= NOISE:
                break
            time.sleep(1.0)
        return min(turns)

    def end(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def main(arguments: list[str]) -> int:
    """Print a table in Markdown, a row at a time; return 2 for bad input."""
    if not arguments or not (Path(arguments[0]) / "bench" / "rows.py").is_file():
        print(__doc__, file=sys.stderr)
        return 2
    asked = arguments[1].split(",") if len(arguments) > 1 else []
    both = [_Checkout(ROOT), _Checkout(Path(arguments[0]).resolve())]
    print("| row | here | there | here / there | others, cores |\n|---|---|---|---|---|")
    for key in both[0].keys:
        wanted = any(map(key.startswith, asked)) if asked else not key.endswith(tuple(LEFT_OUT))
        if key not in both[1].keys or not wanted:
            continue
        for checkout in both:
            checkout.ask(key)
        for checkout in both:
            checkout.ask()  # compiles
        turns = [[checkout.quiet_turn() for checkout in both] for _ in range(ROUNDS)]
        here, there = (statistics.median(turn[k][1] for turn in turns) for k in (0, 1))
        others = max(turn[k][0] for turn in turns for k in (0, 1))
        ratio = here / there if there else math.nan
        print(f"| {key} | {here:.4g} | {there:.4g} | {ratio:.2f} | {others:.2f} |")
        sys.stdout.flush()
    for checkout in both:
        checkout.end()
    return 0


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        _serve()
    else:
        sys.exit(main(sys.argv[1:]))
