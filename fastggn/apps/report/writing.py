"""Make the report of a model: all ranks compute, the first one draws and writes."""

from __future__ import annotations

import importlib.resources
import importlib.util
import os
import re
from collections.abc import Mapping
from typing import Any

from fastggn.apps.info import configuration
from fastggn.apps.report import pictures
from fastggn.apps.report.findings import (
    Findings,
    Spectrum,
    digests_of,
    findings,
    model_of,
    parts_of,
    spectrum_of,
)
from fastggn.apps.report.rows import contents_of
from fastggn.figures.style import require_matplotlib
from fastggn.model.model import Model
from fastggn.objective.kinds import check_samples
from fastggn.objective.problem import Problem
from fastggn.runtime.atomic_files import check_writable, write_atomically
from fastggn.runtime.version import __version__

EXPECTED_BYTES = 1 << 20
ABSENT = "a report needs jinja2: install the extra with pip install 'fastggn[plot]'"
# Facts of this machine that do not help to repeat the run on another one.
LEFT_OUT = ("available memory (bytes)", "cache folder")
# Characters that HTML cannot hold, and marks that reorder or hide their neighbours, by which a name
# could pass for another one.
FORBIDDEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\u200e\u200f\u202a-\u202e\u2066-\u2069"
    + "".join(chr(0x10000 * plane + last) for plane in range(17) for last in (0xFFFE, 0xFFFF))
    + "]"
)


def report(
    source: Model | Problem,
    data: Any,
    path: str | os.PathLike[str],
    *,
    title: str = "Training report",
    options: Mapping[str, Any] | None = None,
    command: str | None = None,
    facts: Mapping[str, str] | None = None,
    held_out: Problem | None = None,
    spectrum: Spectrum | None = None,
) -> None:
    """Write a training run as one self-contained HTML page, without scripts and addresses.

    The page shows the data (shape, scaling, digests), network, options, curves, singular values
    and rank of the Jacobian, errors or classes of the training, held-out and test rows, versions,
    and the command that repeats the run. A result that is too expensive to compute is named with
    the reason. All text is escaped. The file is replaced in one step: a crash leaves the old file
    or the new one.

    Parameters
    ----------
    source : Model or Problem
        A model, or the problem of a run on arrays. All ranks that share its samples must call; the
        first one writes.
    data : Table, path-like, frame, mapping, or TrainResult
        For a model its table, which is split as in the training, or its problems by the name of
        the part: training, held-out, test. For a problem the result of `train`, also of an
        interrupted run.
    path : path-like
        File to write.
    title : str
        Title of the page.
    options : mapping, optional
        Options of the run.
    command : str, optional
        Command that repeats the run.
    facts : mapping of str to str, optional
        Further rows of the table of the data, such as the SHA-256 of the file.
    held_out : Problem, optional
        The held-out samples of a problem.
    spectrum : Spectrum, optional
        Spectrum of the Jacobian of the training rows; computed by default.

    Raises
    ------
    ImportError
        If matplotlib or jinja2 is absent; the message names the extra.
    ValueError
        If the data do not fit the model, or `path` is a folder or a device.
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
    model, parts = _contents(source, data, held_out)
    problem = next(iter(parts.values()))
    with problem.comm.raise_on_all():
        if problem.comm.rank == 0:
            check_report(path)
    found = {name: findings(part, model) for name, part in parts.items()}
    spectrum = spectrum or spectrum_of(problem, model.theta)
    known = {**(facts or {}), **digests_of(problem)}
    with problem.comm.raise_on_all():
        if problem.comm.rank > 0:
            return
        page = render(
            **contents_of(model, problem, found, known),
            title=title,
            rank=spectrum.rank,
            reason=spectrum.reason,
            pictures=_draw(problem, model, found, spectrum),
            options=_given(options or {}),
            command=command,
        )

        def write(stream: Any) -> None:
            stream.write(page)

        write_atomically(path, write)


def check_report(path: str | os.PathLike[str]) -> None:
    """Check, before a run, that its report can be drawn and written.

    Raises
    ------
    ImportError
        If matplotlib or jinja2 is absent.
    ValueError, OSError
        If the file cannot be written.
    """
    require_matplotlib()
    if importlib.util.find_spec("jinja2") is None:
        raise ImportError(ABSENT)
    check_writable(path, n_bytes=EXPECTED_BYTES)


def make_pictures(
    source: Model | Problem,
    data: Any,
    *,
    held_out: Problem | None = None,
    spectrum: Spectrum | None = None,
) -> list[pictures.Picture]:
    """Draw the pictures of a report; a picture without a figure has a note with the reason.

    Parameters and errors are those of `report`. All ranks that share the samples must call.
    """
    model, parts = _contents(source, data, held_out)
    problem = next(iter(parts.values()))
    found = {name: findings(part, model) for name, part in parts.items()}
    return _draw(problem, model, found, spectrum or spectrum_of(problem, model.theta))


def render(**contents: Any) -> bytes:
    """Return the page of these contents, all text escaped.

    Raises
    ------
    ImportError
        If jinja2 is absent; the message names the extra.
    """
    try:
        import jinja2
    except ImportError as error:
        raise ImportError(ABSENT) from error
    import importlib.metadata

    environment = jinja2.Environment(
        autoescape=True,
        finalize=_printable,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = importlib.resources.files("fastggn.apps.report").joinpath("page.html").read_text("utf-8")
    versions = {**configuration(), "matplotlib": importlib.metadata.version("matplotlib")}
    versions["fastggn"] = __version__  # also where it was never installed
    shown = _given({k: v for k, v in versions.items() if k not in LEFT_OUT})
    return (
        environment.from_string(text)
        .render(**contents, versions=shown, version=__version__)
        .encode("utf-8")
    )


def _contents(
    source: Model | Problem, data: Any, held_out: Problem | None
) -> tuple[Model, dict[str, Problem]]:
    if isinstance(source, Model):
        return source, parts_of(source, data)
    instead = "draw its run by result.plot(), its ranks by rank_analysis(...).plot()"
    check_samples(source, "report", instead)
    further = {} if held_out is None else {"held-out": held_out}
    return model_of(source, data), {"training": source, **further}


def _draw(
    problem: Problem, model: Model, found: Mapping[str, Findings], spectrum: Spectrum
) -> list[pictures.Picture]:
    return [
        pictures.curve(model),
        pictures.residuals(model, found),
        pictures.regions(model, found, problem.gated),
        pictures.spectrum(problem, spectrum),
    ]


def _printable(value: Any) -> Any:
    """Replace the characters of a text, but not of markup, that a page must not hold."""
    if hasattr(value, "__html__"):
        return value
    return FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", str(value))


def _given(options: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the options that have a value, sequences as one line."""
    return [
        (name, ", ".join(map(str, value)) if isinstance(value, (tuple, list)) else value)
        for name, value in options.items()
        if value is not None
    ]
