"""The files of a command: types of its parameters, and the check of its outputs."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import click

from fastggn.apps.cli.outcome import bad_input
from fastggn.apps.cli.ranks import team_of
from fastggn.apps.cli.types import ParamType
from fastggn.apps.outputs import Output, check_outputs


class InputFile(ParamType):
    """A path that a command reads."""

    name = "file"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """Return the path as text."""
        return str(value)


class OutputFile(InputFile):
    """A path that a command writes; `kind` is a key of `fastggn.apps.outputs.KINDS`."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """Return the path as text."""
        path = str(value)
        if self.kind == "picture" and not os.path.splitext(path)[1]:
            words = "the name of a picture needs a suffix, which says its format: .png, .pdf, .svg"
            self.fail(f"{path}: {words}", param, ctx)
        return path


INPUT = InputFile()
FORCE = click.option(
    "--force", is_flag=True, help="Replace also a file that fastggn did not write, or an input."
)
JSON = click.option(
    "--json", "json_file", type=OutputFile("report"), metavar="FILE",
    help="Write the report as JSON; - prints it.",
)  # fmt: skip


def checked_outputs(command: Callable[..., int]) -> Callable[..., int]:
    """Wrap a command so that its outputs are checked before any work, and add ``--force``.

    Inputs and outputs are the parameters of the types `InputFile` and `OutputFile`.
    """

    @functools.wraps(command)
    def run(*context: Any, force: bool, **options: Any) -> int:
        with bad_input():
            if team_of(options.get("mpi", False)).rank == 0:
                check_outputs(*_files(click.get_current_context()), force)
        return command(*context, **options)

    return FORCE(run)


def _files(ctx: click.Context) -> tuple[dict[str, str], list[Output]]:
    """Return the inputs by name, and the outputs."""
    inputs, outputs = {}, []
    for param in ctx.command.params:
        path = ctx.params.get(str(param.name))
        if path is None or not isinstance(param.type, InputFile):
            continue
        name = str(param.human_readable_name).strip("[]")
        if isinstance(param, click.Option):
            name = max(param.opts, key=len)
        if isinstance(param.type, OutputFile):
            outputs.append(Output(name, path, param.type.kind))
        else:
            inputs[name] = path
    return inputs, outputs
