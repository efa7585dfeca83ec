"""Run rows and write them down: ``python -m bench``.

With ``--json FILE`` the run is added to those of FILE, and the report is of all runs in FILE: of
each row it has the run with the median figure, and the figures of all.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path
from typing import Any

from bench import machine, plots
from bench.cases import ROOT
from bench.core import FULL, SMOKE, Outcome, Row, Timing
from bench.peers import blas_threads
from bench.rows import select

__all__ = ["main", "measure", "middle", "render"]

Results = list[tuple[Row, Outcome]]
# Cores' worth of other processes from which on a row is marked, and measured once more.
BUSY = 0.1
SECOND_TRY = 15.0  # seconds later
PROCESS_KEYS = ("import", "train-cold", "train-warm")


def measure(rows: list[Row], size: str) -> Results:
    """Measure rows in order, saying on the standard error stream how far it is."""
    results: Results = []
    with blas_threads():
        for number, row in enumerate(rows, 1):
            start = time.perf_counter()
            outcome = _watched(row, size, results[-1][1] if results else None)
            results.append((row, outcome))
            seconds = time.perf_counter() - start
            value = _value(row, outcome)
            print(f"[{number}/{len(rows)}] {row.key}: {value} ({seconds:.0f} s)", file=sys.stderr)
    return results


def _watched(row: Row, size: str, before: Outcome | None) -> Outcome:
    """Measure a row and what other processes did meanwhile; of two tries keep the quieter.

    Only pairs get a second try. The other rows may answer from what a row before them measured:
    then they take no time, and what disturbed that row, disturbed them.
    """
    tries = []
    for wait in (0.0, SECOND_TRY):
        time.sleep(wait)
        start, bystanders = time.perf_counter(), machine.Bystanders()
        outcome = row.run(size)
        others = bystanders.share()
        if row.build is None and time.perf_counter() - start < 0.1 and before is not None:
            others = before.others
        tries.append(replace(outcome, others=others))
        if size == SMOKE or row.build is None or not (others or 0.0) > BUSY:
            break
    return min(tries, key=lambda outcome: outcome.others or 0.0)


def middle(runs: list[Results]) -> Results:
    """Return the rows of all runs with the outcome of the median figure, and all figures."""
    if len(runs) == 1:
        return runs[0]
    found = []
    for row, first in runs[0]:
        outcomes = [outcome for run in runs for other, outcome in run if other.key == row.key]
        values = [outcome.value for outcome in outcomes if outcome.value is not None]
        if len(values) < len(runs):
            found.append((row, next((o for o in outcomes if o.value is None), first)))
            continue
        kept = outcomes[values.index(statistics.median_low(values))]
        figures = "runs: " + ", ".join(_value(row, outcome) for outcome in outcomes)
        found.append((row, replace(kept, note="; ".join(filter(None, (figures, kept.note))))))
    return found


def _with_earlier(results: Results, path: Path) -> list[Results]:
    """Add a run to those of a file; return all of them, of the rows that this one has."""
    runs = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    runs.append({row.key: asdict(outcome) for row, outcome in results})
    path.write_text(json.dumps(runs, indent=1), encoding="utf-8")
    return [[(row, _outcome(run[row.key])) for row, _ in results if row.key in run] for run in runs]


def _outcome(fields: dict[str, Any]) -> Outcome:
    sides = {name: fields[name] and Timing(**fields[name]) for name in ("ours", "peer")}
    return Outcome(**{**fields, **sides})


def _value(row: Row, outcome: Outcome) -> str:
    if outcome.value is None:
        return "failed" if outcome.failed else "not available"
    space = "" if row.unit in ("x", "%") else " "
    return f"{outcome.value:.3g}{space}{row.unit}"


def _target(row: Row) -> str:
    if row.target is None:
        return "-"
    space = "" if row.unit in ("x", "%") else " "
    return f"{row.sense} {row.target:g}{space}{row.unit}"


def _verdict(row: Row, outcome: Outcome) -> str:
    met = row.met(outcome.value)
    if met is None:
        return "-"
    return "met" if met else "**missed**"


def _seconds(timing: Timing | None) -> str:
    if timing is None:
        return "-"
    return f"{timing.label}: {_length(timing.median)} ({_length(timing.minimum)})"


def _length(seconds: float) -> str:
    if seconds >= 1.0:
        return f"{seconds:.2f} s"
    if seconds >= 1e-3:
        return f"{1e3 * seconds:.3g} ms"
    return f"{1e6 * seconds:.3g} us"


def _disturbance(outcome: Outcome) -> str:
    if not (outcome.others or 0.0) > BUSY:
        return ""
    return f"**disturbed**: other processes kept {outcome.others:.1f} cores busy"


def _table(results: Results) -> list[str]:
    lines = [
        "| row | figure | target | | one side, median (minimum) | other side | remarks |",
        "|---|---|---|---|---|---|---|",
    ]
    for row, outcome in results:
        cells = (
            f"{row.title} (`{row.key}`)",
            _value(row, outcome),
            _target(row),
            _verdict(row, outcome),
            _seconds(outcome.ours),
            _seconds(outcome.peer),
            "; ".join(filter(None, (outcome.note, _disturbance(outcome)))),
        )
        lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    return lines


def render(results: Results, size: str, *, pictures: bool = False, n_runs: int = 1) -> str:
    """Return the report as Markdown."""
    with_target = [(r, o) for r, o in results if r.target is not None]
    verdicts = [row.met(outcome.value) for row, outcome in with_target]
    missed = [row.key for (row, _), met in zip(with_target, verdicts, strict=True) if met is False]
    unavailable = [row.key for row, outcome in results if outcome.value is None]
    lines = [
        "# Results",
        "",
        f"Written by `python -m bench --size {size}`, {date.today().isoformat()}. "
        + (f"The medians of {n_runs} complete runs. " if n_runs > 1 else "")
        + "What each row is and how to repeat it: `docs/performance.md`.",
        "",
    ]
    if size == SMOKE:
        lines += ["These are smoke sizes: they show that the rows run, not how fast.", ""]
    disturbed = sum(bool(_disturbance(outcome)) for _, outcome in results)
    if disturbed:
        lines += [
            f"The machine was not idle: {disturbed} of {len(results)} rows are marked as "
            "disturbed, and their figures are not to be relied upon.",
            "",
        ]
    lines += ["| | |", "|---|---|"]
    lines += [f"| {key} | {text} |" for key, text in machine.facts().items()]
    lines += [
        "",
        f"Targets: {verdicts.count(True)} met, {len(missed)} missed"
        + (f" ({', '.join(missed)})" if missed else "")
        + f", {verdicts.count(None)} not measured.",
        "",
    ]
    if unavailable:
        lines += [f"Not available: {', '.join(unavailable)}; the remarks say why.", ""]
    run = [(r, o) for r, o in results if r.key not in PROCESS_KEYS]
    start = [(r, o) for r, o in results if r.key in PROCESS_KEYS]
    lines += ["## Run time and memory", "", *_table(run), ""]
    if start:
        lines += ["## Import and compile time, in fresh processes", "", *_table(start), ""]
    if pictures:
        lines += ["Pictures of the same run: `docs/images/`.", ""]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Measure, write the report and the pictures; return 0, 1 if a row failed, 2 for bad input."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--size", choices=(SMOKE, FULL), default=FULL)
    parser.add_argument("--rows", default="all", metavar="KEYS", help="beginnings of keys, a,b,c")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "RESULTS.md")
    parser.add_argument("--images", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--no-plots", action="store_true")
    parser.add_argument("--json", type=Path, help="earlier runs, to which this one is added")
    options = parser.parse_args(arguments)
    try:
        rows = select(options.rows)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    results = measure(rows, options.size)
    drawn = options.rows == "all" and not options.no_plots
    if drawn:
        with blas_threads():
            reason = plots.draw(options.images, options.size)
        if reason is not None:
            drawn = False
            print(f"no pictures: {reason}", file=sys.stderr)
    runs = [results] if options.json is None else _with_earlier(results, options.json)
    text = render(middle(runs), options.size, pictures=drawn, n_runs=len(runs))
    options.out.write_text(text, encoding="utf-8")
    print(f"{options.out.name} written", file=sys.stderr)
    return int(any(outcome.failed for _, outcome in results))
