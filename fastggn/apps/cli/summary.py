"""The table at the end of a run, and the line at its start."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fastggn.apps.cli.options import Settings
    from fastggn.apps.cli.sample_set import Samples
    from fastggn.apps.report.findings import Spectrum
    from fastggn.network.mlp import MLP
    from fastggn.objective.problem import Problem
    from fastggn.training.regularisation.evidence import EvidenceEstimate
    from fastggn.training.result import TrainResult

    Array = NDArray[np.float64]


# A QR of all rows of J takes about 2 T n_L N^2 operations: here a few seconds.
MOST_RANK_OPERATIONS = 5e10


def network_name(net: MLP) -> str:
    """Return the network in the notation of the papers, with its hidden activations."""
    widths = ",".join(map(str, net.widths))
    hidden = list(dict.fromkeys(a.name for a in net.activations[:-1]))
    return f"F({widths})" + (f", {'/'.join(hidden)}" if hidden else "")


def opening(settings: Settings, samples: Samples, problem: Problem) -> str:
    """Return the line that describes the network, the samples and the method."""
    part = samples.held_out
    held_out = "" if part is None else f" and {part.n_samples} held out"
    return (
        f"{network_name(problem.network)}, {problem.n_params} parameters; "
        f"{samples.name}, {problem.n_samples} samples{held_out}; "
        f"{settings.loss} loss, method {settings.method}"
    )


def print_summary(
    settings: Settings,
    samples: Samples,
    problem: Problem,
    result: TrainResult,
    accuracy: float | None,
    held_out: Array | None = None,
    written: Iterable[tuple[str, str]] = (),
    spectrum: Spectrum | None = None,
) -> None:
    """Print the outcome of a run as a table; `written` are kinds and paths of further files."""
    rows = [
        ("network", f"{network_name(problem.network)} ({problem.n_params} parameters)"),
        ("samples", f"{samples.name} ({problem.n_samples})"),
        ("loss", f"{result.loss:.6e} ({settings.loss}, from {result.initial_loss:.3e})"),
        ("gradient norm", f"{result.gradient_norm:.3e}"),
    ]
    if accuracy is not None:
        rows.append(("accuracy", f"{100 * accuracy:.2f} % of the training samples"))
    if (errors := samples.rms_errors(problem.outputs(result.theta))) is not None:
        units = "" if samples.scale_Y is None else ", in the units of the target"
        rows.append(("rms error", f"{_listed(samples, errors)}{units}"))
    if samples.held_out is not None and held_out is not None:
        rows += _validation(samples.held_out, result, held_out)
    if result.evidence is not None:
        rows += _evidence(result.evidence, samples)
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


def _validation(held_out: Samples, result: TrainResult, outputs: Array) -> list[tuple[str, str]]:
    """Return the rows about the held-out samples for the saved model."""
    rows = [
        (
            "validation loss",
            f"{result.best_validation_loss:.6e} at its lowest, after iteration {result.best_iter}",
        )
    ]
    if (accuracy := held_out.accuracy(outputs)) is not None:
        rows.append(
            ("", f"accuracy {100 * accuracy:.2f} % of {held_out.n_samples} held-out samples")
        )
    if (errors := held_out.rms_errors(outputs)) is not None:
        words = _listed(held_out, errors)
        rows.append(("", f"rms error {words} on {held_out.n_samples} held-out samples"))
    return rows


def _listed(samples: Samples, errors: Array) -> str:
    from fastggn.apps.report.notes import listed_errors

    return listed_errors(samples.targets, errors)


def _evidence(found: EvidenceEstimate, samples: Samples) -> list[tuple[str, str]]:
    """Return the rows about the evidence, with beta in the units of the network."""
    scaled = "" if samples.scale_Y is None else ", scaled targets"
    return [
        (
            "effective parameters",
            f"{found.effective_parameters:.1f} of {found.n_params} "
            f"({found.n_observations} observations)",
        ),
        ("alpha, beta", f"{found.alpha:.4g} (prior), {found.beta:.4g} (noise{scaled})"),
        ("weight decay", f"{found.l2:.3e}"),
        ("log evidence", f"{found.log_evidence:.6g}"),
    ]


def print_rows(rows: Iterable[tuple[str, str]]) -> None:
    """Print pairs of a name and a value to the standard output stream."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value)
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
