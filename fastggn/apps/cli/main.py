"""The program ``fastggn``: its commands and exit codes."""

from __future__ import annotations

import functools
import sys
import traceback
from collections.abc import Sequence
from typing import Any, TextIO, cast

import click

from fastggn.apps.cli.convert import convert
from fastggn.apps.cli.critical_point import critical_point
from fastggn.apps.cli.evaluate import evaluate
from fastggn.apps.cli.export import export
from fastggn.apps.cli.info import info
from fastggn.apps.cli.landscape import landscape
from fastggn.apps.cli.outcome import INTERRUPTED, STOPPED_EARLY, report, say
from fastggn.apps.cli.plot import plot
from fastggn.apps.cli.predict import predict
from fastggn.apps.cli.progress import Lasting
from fastggn.apps.cli.rank import check_design, rank
from fastggn.apps.cli.train import train
from fastggn.apps.cli.warmup import warmup
from fastggn.runtime.notices import listen
from fastggn.runtime.signals import ignore_signals
from fastggn.runtime.version import __version__

HELP = """Train multilayer perceptrons with second-order methods, and study their loss surfaces.

\b
Exit codes:
  0  done: converged, or the iterations asked for are used up
  1  internal error, or the model could not be saved
  2  bad input
  3  stopped early by a signal or the time limit, with the state saved
  130  interrupted or out of time, with nothing to save"""


class OneLineErrors(click.Command):
    """A command that turns each failure into one line and an exit code."""

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
        quiet = {"-q", "--quiet"} & set(given)
        if args is None and sys.stderr is not None:
            sys.stderr = cast(TextIO, Lasting(sys.stderr))
        listen(None if quiet else functools.partial(say, err=True))
        try:
            code = super().main(
                given, prog_name or "fastggn", complete_var, standalone_mode=False, **extra
            )
        except (Exception, KeyboardInterrupt) as error:
            if {"-v", "--verbose"} & set(given):
                say(traceback.format_exc().rstrip(), err=True)
            code = report(error)
        if args is None and code in (STOPPED_EARLY, INTERRUPTED):
            # A job script reads the code: a late second signal must not change it.
            ignore_signals()
        if not standalone_mode:
            return code
        sys.exit(code if isinstance(code, int) else 0)


class Program(OneLineErrors, click.Group):
    """A group of commands with this handling of errors."""


@click.group(
    cls=Program,
    help=HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with: fastggn train   (four regions, under a minute, writes model.npz)",
)
@click.version_option(__version__, prog_name="fastggn")
def main() -> None:
    """Hold the commands."""


main.add_command(train)
main.add_command(predict)
main.add_command(evaluate)
main.add_command(critical_point)
main.add_command(convert)
main.add_command(export)
main.add_command(info)
main.add_command(plot)
main.add_command(rank)
main.add_command(check_design)
main.add_command(landscape)
main.add_command(warmup)
