"""Exit codes and their exceptions."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import click
import numpy as np

from fastggn.runtime.errors import printable

DONE = 0
INTERNAL_ERROR = 1
BAD_INPUT = 2
STOPPED_EARLY = 3
INTERRUPTED = 130  # Ctrl-C, or the time limit, without a state: the convention of shells


class BadInput(click.UsageError):
    """A request that cannot be fulfilled; the message says what is accepted."""

    exit_code = BAD_INPUT


class OutOfTime(KeyboardInterrupt):
    """The time limit of a command; the message names it."""


class SaveError(click.ClickException):
    """A trained model that could not be written to its file."""

    exit_code = INTERNAL_ERROR


@contextlib.contextmanager
def bad_input() -> Iterator[None]:
    """Turn errors of the checks of arguments and files into `BadInput`."""
    try:
        yield
    except (np.linalg.LinAlgError, BrokenPipeError):  # not caused by input
        raise
    except MemoryError as error:
        raise BadInput(f"not enough memory: {error}") from error
    except OSError as error:
        # Without the number: "x.npz: Permission denied".
        named = error.filename is not None and error.strerror is not None
        words = f"{error.filename}: {error.strerror}" if named else str(error)
        raise BadInput(words) from error
    except (ValueError, TypeError, ImportError) as error:
        raise BadInput(str(error)) from error


def say(text: str, err: bool = False) -> None:
    """Print text with names that others chose."""
    click.echo(printable(text), err=err)


def exit_code(status: str) -> int:
    """Return the exit code of a run with this status and a saved state."""
    if status in ("interrupted", "max_time"):
        return STOPPED_EARLY
    return INTERNAL_ERROR if status == "failed" else DONE


def report(error: BaseException, place: str = "") -> int:
    """Print one line about an error, after its `place`, and return the exit code."""
    cause = _interrupt_in(error)
    if cause is not None:
        say(f"fastggn: {str(cause) or 'interrupted'}: there is nothing to save", err=True)
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


def _interrupt_in(error: BaseException | None) -> KeyboardInterrupt | None:
    """Return the interrupt behind an error: click and some imports raise another in its place."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, KeyboardInterrupt):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def _print_error(message: str) -> None:
    lines = [" ".join(line.split()) for line in message.splitlines() or [message]]
    # The faults of a table stand below each other.
    between = "\n  " if re.search(r": \d+ faults:", lines[0]) else " "
    text = between.join(printable(line) for line in lines if line)
    click.echo(f"fastggn: error: {text}", err=True)
