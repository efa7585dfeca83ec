"""The table at the end of a run, and the line at its start."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from fastggn.apps.cli.outcome import with_options
from fastggn.runtime.errors import printable

if TYPE_CHECKING:
    from fastggn.apps.cli.options import Settings
    from fastggn.apps.cli.samples import Prepared
    from fastggn.apps.report.findings import Findings, Spectrum
    from fastggn.model.model import Model
    from fastggn.network.mlp import MLP
    from fastggn.objective.problem import Problem
    from fastggn.training.regularisation.evidence import EvidenceEstimate
    from fastggn.training.result import TrainResult


# A QR of all rows of J takes about 2 T n_L N^2 operations: here a few seconds.
MOST_RANK_OPERATIONS = 5e10
MOST_LISTED = 6  # errors


def network_name(net: MLP) -> str:
    """Return the network in the notation of the papers, with its hidden activations."""
    widths = ",".join(map(str, net.widths))
    hidden = list(dict.fromkeys(a.name for a in net.activations[:-1]))
    return f"F({widths})" + (f", {'/'.join(hidden)}" if hidden else "")


def opening(settings: Settings, prepared: Prepared) -> list[str]:
    """Return the lines on the network, the samples and the method, and the notes of the table."""
    problem = prepared.problems["training"]
    source = Path(prepared.samples.source).name
    line = (
        f"{network_name(problem.network)}, {problem.n_params} parameters; "
        f"{source}, {problem.n_samples} samples; "
        f"{problem.loss_function.name} loss, method {settings.method}"
    )
    notes = prepared.model.training["notes"]
    return [line, *(f"  {with_options(note)}" for note in notes)]


def print_summary(
    settings: Settings,
    prepared: Prepared,
    model: Model,
    result: TrainResult,
    written: Iterable[tuple[str, str]] = (),
    spectrum: Spectrum | None = None,
) -> None:
    """Print the outcome of a run as a table; `written` are kinds and paths of further files."""
    from fastggn.apps.report.findings import findings

    problem = prepared.problems["training"]
    loss = problem.loss_function.name
    source = Path(prepared.samples.source).name
    rows = [
        ("network", f"{network_name(problem.network)} ({problem.n_params} parameters)"),
        ("samples", f"{source} ({problem.n_samples})"),
        ("loss", f"{result.loss:.6e} ({loss}, from {result.initial_loss:.3e})"),
        ("gradient norm", f"{result.gradient_norm:.3e}"),
    ]
    if result.best_validation_loss is not None:
        lowest = f"{result.best_validation_loss:.6e} at its lowest, after iteration"
        rows.append(("held-out loss", f"{lowest} {result.best_iter}"))
    for name, part in prepared.problems.items():
        rows += _errors(name, findings(part, model), model)
    if result.evidence is not None:
        rows += _evidence(result.evidence, model.target_scaler is not None)
    rows += [
        ("iterations", str(result.n_iter)),
        ("time", f"{result.seconds:.2f} s"),
        ("solver", f"{result.solver}: {result.solver_reason}"),
        ("rank of the Jacobian", _rank(problem, result, spectrum)),
        ("status", f"{result.status}: {result.message}"),
        ("model", settings.out),
        *written,
    ]
    print_rows(rows)
    if prepared.test is not None and problem.comm.rank == 0:
        print(f"\ntest rows: {model.evaluate(prepared.test)}")


def _errors(name: str, found: Findings, model: Model) -> list[tuple[str, str]]:
    """Return the rows about the errors on a part of the samples."""
    where = f"of {found.n_samples} {name} samples"
    if found.n_right is not None:
        return [("accuracy", f"{100 * found.n_right / found.n_samples:.2f} % {where}")]
    if model.loss.name == "logistic":  # logits have no error in units
        return []
    names = model.recipe.target_names
    units = "" if model.target_scaler is None else ", in the units of the target"
    words = [f"{rms:.6g} (R2 {r2:.4f})" for rms, r2 in zip(found.rms, found.r2, strict=True)]
    if len(words) > 1:
        words = [f"{target} {own}" for target, own in zip(names, words, strict=True)]
    more = len(words) - MOST_LISTED
    text = ", ".join(words[:MOST_LISTED]) + (f" and {more} more" if more > 0 else "")
    return [("rms error", f"{text} {where}{units}")]


def _evidence(found: EvidenceEstimate, scales: bool) -> list[tuple[str, str]]:
    """Return the rows about the evidence, with beta in the units of the network."""
    scaled = ", scaled targets" if scales else ""
    betas = found.betas or (found.beta,)
    noise = ", ".join(f"{beta:.4g}" for beta in betas[:MOST_LISTED])
    noise += f" and {len(betas) - MOST_LISTED} more" if len(betas) > MOST_LISTED else ""
    return [
        (
            "effective parameters",
            f"{found.effective_parameters:.1f} of {found.n_params} "
            f"({found.n_observations} observations)",
        ),
        ("alpha, beta", f"{found.alpha:.4g} (prior), {noise} (noise{scaled})"),
        ("weight decay", f"{found.l2:.3e}"),
        ("log evidence", f"{found.log_evidence:.6g}"),
    ]


def print_rows(rows: Iterable[tuple[str, str]]) -> None:
    """Print pairs of a name and a value to the standard output stream."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(printable(name), printable(value))
    Console(highlight=False, markup=False).print(table)


def _rank(problem: Problem, result: TrainResult, spectrum: Spectrum | None) -> str:
    """Return the rank of the Jacobian and its largest possible value, if it is cheap enough."""
    n_rows, n_params = problem.n_samples * problem.n_outputs, problem.n_params
    if 2.0 * n_rows * n_params * min(n_rows, n_params) > MOST_RANK_OPERATIONS:
        return "not computed for a problem of this size: fastggn rank MODEL does at any"
    if spectrum is not None and spectrum.rank is not None:
        rank = spectrum.rank.rank
    else:
        rank = problem.jacobian(result.theta).rank()
    return f"{rank} of {min(n_rows, n_params)} (T n_L = {n_rows}, N = {n_params})"
