"""Make the report of a run: all ranks compute, the first one draws and writes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from fastggn.apps.report import pictures
from fastggn.apps.report.findings import Findings, Spectrum, digests_of, findings, spectrum_of
from fastggn.apps.report.notes import SampleNotes
from fastggn.apps.report.page import document
from fastggn.apps.report.sections import Run, sections
from fastggn.figures.style import require_matplotlib
from fastggn.objective.problem import Problem
from fastggn.runtime.atomic_files import check_writable, write_atomically
from fastggn.training.result import TrainResult

EXPECTED_BYTES = 1 << 20


def report(
    problem: Problem,
    result: TrainResult,
    path: str | os.PathLike[str],
    *,
    title: str = "Training report",
    notes: SampleNotes | None = None,
    options: Mapping[str, Any] | None = None,
    command: str | None = None,
    validation: Problem | None = None,
    spectrum: Spectrum | None = None,
) -> None:
    """Write a training run as one self-contained HTML page, without scripts and addresses.

    The page shows the data (shape, scaling, digests), network, options, curves, singular values
    and rank of the Jacobian, residuals or classes, results, versions, and the command that repeats
    the run. A result that is too expensive to compute is named with the reason. All text is
    escaped. The file is replaced in one step: a crash leaves the old file or the new one.

    Parameters
    ----------
    problem : Problem
        All ranks that share its samples must call; the first one writes.
    result : TrainResult
        Result of `train`, also of an interrupted run.
    path : path-like
        File to write.
    title : str
        Title of the page.
    notes : SampleNotes, optional
        Names, scales and classes of the samples.
    options : mapping, optional
        Options of the run.
    command : str, optional
        Command that repeats the run.
    validation : Problem, optional
        Problem of held-out samples, scaled as the samples of `problem`.
    spectrum : Spectrum, optional
        Spectrum of the Jacobian at ``result.theta``; computed by default.

    Raises
    ------
    ImportError
        If matplotlib is absent; the message names the extra.
    ValueError
        If theta or the notes do not fit the problem, or `path` is a folder or a device.
    OSError
        If the file cannot be written; this is tried before any work.

    Examples
    --------
    >>> import os, tempfile
    >>> import fastggn as fg
    >>> X, Y = fg.data.sine(40)
    >>> problem = fg.Problem(fg.MLP((1, 4, 1)), X, Y)
    >>> result = fg.train(problem, seed=0, max_iter=5)
    >>> path = os.path.join(tempfile.mkdtemp(), "report.html")
    >>> fg.report(problem, result, path)
    >>> os.path.getsize(path) > 10000
    True
    """
    known = (notes or SampleNotes()).completed(problem)
    with problem.comm.raise_on_all():
        if problem.comm.rank == 0:
            check_report(path)
    found = findings(problem, result.theta, known)
    spectrum = spectrum or spectrum_of(problem, result.theta)
    digests = digests_of(problem)
    held_out = None if validation is None else findings(validation, result.theta, known)
    with problem.comm.raise_on_all():
        if problem.comm.rank > 0:
            return
        shown = _draw(problem, result, known, found, spectrum)
        facts = dict(options or {})
        run = Run(problem, result, known, found, spectrum, digests, facts, command, held_out)
        page = document(title, sections(title, run, shown))

        def write(stream: Any) -> None:
            stream.write(page)

        write_atomically(path, write)


def check_report(path: str | os.PathLike[str]) -> None:
    """Check, before a run, that its report can be drawn and written.

    Raises
    ------
    ImportError
        If matplotlib is absent.
    ValueError, OSError
        If the file cannot be written.
    """
    require_matplotlib()
    check_writable(path, n_bytes=EXPECTED_BYTES)


def make_pictures(
    problem: Problem,
    result: TrainResult,
    notes: SampleNotes | None = None,
    *,
    spectrum: Spectrum | None = None,
) -> list[pictures.Picture]:
    """Draw the pictures of a report; a picture without a figure has a note with the reason.

    Parameters and errors are those of `report`. All ranks that share the samples must call.
    """
    known = (notes or SampleNotes()).completed(problem)
    found = findings(problem, result.theta, known)
    spectrum = spectrum or spectrum_of(problem, result.theta)
    return _draw(problem, result, known, found, spectrum)


def _draw(
    problem: Problem,
    result: TrainResult,
    notes: SampleNotes,
    found: Findings,
    spectrum: Spectrum,
) -> list[pictures.Picture]:
    return [
        pictures.curve(result),
        pictures.residuals(problem, notes, found),
        pictures.regions(problem, result.theta, notes, found),
        pictures.spectrum(problem, spectrum),
    ]
