"""The program ``fastggn``: its commands and what its exit codes mean."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from typing import Any

import click

from fastggn.apps.cli.convert import convert
from fastggn.apps.cli.critical_point import critical_point
from fastggn.apps.cli.export import export
from fastggn.apps.cli.info import info
from fastggn.apps.cli.landscape import landscape
from fastggn.apps.cli.outcome import INTERNAL_ERROR, INTERRUPTED, STOPPED_EARLY, BadInput, SaveError
from fastggn.apps.cli.plot import plot
from fastggn.apps.cli.rank import check_design, rank
from fastggn.apps.cli.train import train
from fastggn.apps.cli.warmup import warmup
from fastggn.runtime.signals import ignore_signals
from fastggn.runtime.version import __version__

HELP = """Train multilayer perceptrons with second-order methods, and study their loss surfaces.

\b
Exit codes:
  0  done: converged, or the iterations asked for are used up
  1  internal error, or the model could not be saved
  2  bad input
  3  stopped early by a signal or the time limit, with the state saved"""


class OneLineErrors(click.Command):
    """A command that turns every failure into one line and an exit code."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command line; see `click.Command.main`."""
        given = list(sys.argv[1:] if args is None else args)
        try:
            code = super().main(
                given, prog_name or "fastggn", complete_var, standalone_mode=False, **extra
            )
        except Exception as error:
            if {"-v", "--verbose"} & set(given):
                traceback.print_exc()
            code = report(error)
        except KeyboardInterrupt:
            click.echo("fastggn: interrupted before there was anything to save", err=True)
            code = INTERRUPTED
        if args is None and code == STOPPED_EARLY:
            # A job script acts upon the code: a late second signal must not change it.
            ignore_signals()
        if not standalone_mode:
            return code
        sys.exit(code if isinstance(code, int) else 0)


class Program(OneLineErrors, click.Group):
    """A group of commands with one line and an exit code for every failure."""


def report(error: BaseException, place: str = "") -> int:
    """Print one line about an error, after the `place` it came from, and return the exit code."""
    if isinstance(error, (click.Abort, KeyboardInterrupt)):  # click's name for an interrupt
        click.echo("fastggn: interrupted before there was anything to save", err=True)
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):  # the reader of our output has gone
        return INTERNAL_ERROR
    if isinstance(error, click.exceptions.NoArgsIsHelpError):  # a command and nothing after it
        click.echo(error.format_message(), err=True)
        return error.exit_code
    if isinstance(error, click.UsageError) and not isinstance(error, BadInput):
        path = error.ctx.command_path if error.ctx else "fastggn"
        _print_error(f"{place}{error.format_message()} (see: {path} --help)")
        return error.exit_code
    if isinstance(error, (click.ClickException, SaveError)):
        _print_error(f"{place}{error}")
        return error.exit_code
    _print_error(f"{place}internal error: {type(error).__name__}: {error} (--verbose shows where)")
    return INTERNAL_ERROR


def _print_error(message: str) -> None:
    click.echo(f"fastggn: error: {' '.join(message.split())}", err=True)


@click.group(
    cls=Program,
    help=HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with: fastggn train   (four regions, under a minute, writes model.npz)",
)
@click.version_option(__version__, prog_name="fastggn")
def main() -> None:
    """Hold the commands; the docstring of a group would be its help page."""


main.add_command(train)
main.add_command(critical_point)
main.add_command(convert)
main.add_command(export)
main.add_command(info)
main.add_command(plot)
main.add_command(rank)
main.add_command(check_design)
main.add_command(landscape)
main.add_command(warmup)
