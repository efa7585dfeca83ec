"""The report and the pictures of ``fastggn train``."""

from __future__ import annotations

import hashlib
import os
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from fastggn.apps.cli.options import Settings
from fastggn.apps.cli.outcome import SaveError
from fastggn.apps.outputs import STDOUT
from fastggn.runtime.atomic_files import check_writable

if TYPE_CHECKING:
    from fastggn.apps.cli.samples import Prepared
    from fastggn.apps.report.findings import Spectrum
    from fastggn.model.model import Model


# A repeated run starts afresh, with all options on its command line.
NOT_REPEATED = ("resume", "config", "quiet", "verbose")
MOST_HASHED = 2 * 2**30  # bytes
PICTURE_BYTES = 1 << 19


class Pages:
    """The report and the pictures of one run: checked before the run, written after it."""

    def __init__(self, ctx: click.Context, settings: Settings, prepared: Prepared) -> None:
        self._settings = settings
        self._problems = prepared.problems
        self._problem = prepared.problems["training"]
        self._source = prepared.samples.source
        self._command = repeating(ctx, settings, self._problem.comm.size)
        self._failure = ""
        self.written: list[tuple[str, str]] = []
        self.spectrum: Spectrum | None = None  # of the Jacobian, once something was written

    def check(self) -> None:
        """Check that the report and the pictures can be drawn and written; make the folder."""
        settings = self._settings
        if settings.report is not None:
            from fastggn.apps.report.writing import check_report

            check_report(settings.report)
        if settings.plot_dir is not None:
            from fastggn.figures.style import require_matplotlib

            require_matplotlib()
            Path(settings.plot_dir).mkdir(parents=True, exist_ok=True)
            check_writable(Path(settings.plot_dir) / "curve.png", n_bytes=PICTURE_BYTES)

    def write(self, model: Model) -> None:
        """Write the report and the pictures; all ranks that share the samples take part."""
        settings = self._settings
        if settings.report is None and settings.plot_dir is None:
            return
        from fastggn.apps.report.findings import spectrum_of

        try:
            self.spectrum = spectrum_of(self._problem, model.theta)
            if settings.report is not None:
                self._write_report(model, settings.report)
            if settings.plot_dir is not None:
                self._write_pictures(model, settings.plot_dir)
        except OSError as error:
            self._failure = f"{error}; the model is in {settings.out}"
        except KeyboardInterrupt:
            click.echo("fastggn: interrupted: the report is not written", err=True)
            raise

    def complain(self) -> None:
        """Raise `SaveError` if a file could not be written."""
        if self._failure:
            raise SaveError(f"the report could not be written: {self._failure}")

    def _write_report(self, model: Model, path: str) -> None:
        from fastggn.apps.report.writing import report

        report(
            model,
            self._problems,
            path,
            title=f"fastggn train: {Path(self._source).name}",
            options={name: v for name, v in asdict(self._settings).items() if v != ()},
            command=self._command,
            facts=self._facts(),
            spectrum=self.spectrum,
        )
        self.written.append(("report", path))

    def _write_pictures(self, model: Model, folder: str) -> None:
        from fastggn.apps.report.writing import make_pictures
        from fastggn.figures.style import save

        pictures = make_pictures(model, self._problems, spectrum=self.spectrum)
        if self._problem.comm.rank > 0:
            return
        names = []
        for picture in pictures:
            if picture.figure is not None:
                save(picture.figure, Path(folder) / f"{picture.name}.png")
                names.append(f"{picture.name}.png")
        self.written.append(("pictures", f"{folder}: {', '.join(names)}"))

    def _facts(self) -> dict[str, str]:
        data = self._settings.data
        if data in (None, STDOUT) or self._problem.comm.rank > 0:
            return {}
        return {"SHA-256 of the file": _file_digest(data)}


def _file_digest(path: str) -> str:
    size = os.path.getsize(path)
    if size > MOST_HASHED:
        return f"not computed: the file holds {size / 2**30:.1f} GiB"
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def repeating(ctx: click.Context, settings: Settings, n_ranks: int = 1) -> str:
    """Return the command that repeats the run, with the options of a TOML file spelled out."""
    words = ["fastggn", "train"]
    data: list[str] = []
    for param in ctx.command.params:
        source = ctx.get_parameter_source(str(param.name))
        value = getattr(settings, str(param.name), None)
        if source is ParameterSource.DEFAULT or value is None or param.name in NOT_REPEATED:
            continue
        if isinstance(param, click.Argument):
            data = [str(value)]
        else:
            words += _option(param, value)
    # A name that starts with a dash would count as an option.
    words += ["--", *data] if data and data[0].startswith("-") else data
    if n_ranks > 1:
        words = ["mpiexec", "-n", str(n_ranks), *words]
    return shlex.join(words)


def _option(param: click.Parameter, value: Any) -> list[str]:
    name = max(param.opts, key=len)
    if isinstance(value, bool):
        off = max(param.secondary_opts, key=len, default="")
        return [name if value else off] if value or off else []
    items = value if isinstance(value, tuple) else (value,)
    # A name with a comma stands in quotes.
    several = isinstance(value, tuple)
    text = ",".join(f'"{v}"' if several and "," in str(v) else str(v) for v in items)
    return [name, text or "none"]  # no hidden layers
