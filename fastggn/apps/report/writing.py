"""Make the report of a run: gather on all ranks, draw and write on the first."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastggn.apps.report import pictures
from fastggn.apps.report.findings import Findings, Spectrum, digests_of, findings, spectrum_of
from fastggn.apps.report.notes import SampleNotes
from fastggn.apps.report.page import document
from fastggn.apps.report.sections import Run, sections
from fastggn.figures.style import require_matplotlib
from fastggn.objective.problem import Problem
from fastggn.runtime.atomic_files import check_writable, write_atomically

if TYPE_CHECKING:
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
    """Write a training run as one HTML page that needs nothing outside it.

    Data (shape, scaling, digests), network, options, curves, singular values and rank of the
    Jacobian, residuals or classes, results, versions, and the command that repeats the run. What
    is too dear to compute is named with the reason. There is no script and no address in the
    page; what is given here as text is escaped. It is written in one step: a crash leaves the
    old file or the new one.

    Parameters
    ----------
    problem : Problem
        Where its samples are shared by several ranks, all of them must call; the first writes.
    result : TrainResult
        Of `train`, also of a run that was interrupted.
    path : path-like
        The file to write.
    title : str
        Of the page.
    notes : SampleNotes, optional
        Names, scales and classes of the samples.
    options : mapping, optional
        What the run was asked for.
    command : str, optional
        What repeats the run.
    validation : Problem, optional
        Of samples that were held out, scaled as those of `problem`.
    spectrum : Spectrum, optional
        Of the Jacobian at ``result.theta``; computed where it is not given.

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
    """Check that a report could be drawn and written, before the work.

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
    """Return the pictures of a report; those that cannot be drawn have a reason in their place.

    Parameters
    ----------
    problem : Problem
        Where its samples are shared by several ranks, all of them must call.
    result : TrainResult
    notes : SampleNotes, optional
    spectrum : Spectrum, optional
        Of the Jacobian at ``result.theta``; computed where it is not given.

    Raises
    ------
    ImportError
        If matplotlib is absent.
    ValueError
        If theta or the notes do not fit the problem.
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
