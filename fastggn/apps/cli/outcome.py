"""Exit codes and their exceptions."""

from __future__ import annotations

import ast
import contextlib
import errno
import re
import shlex
from collections.abc import Iterator

import click
import numpy as np

from fastggn.runtime.errors import printable

DONE = 0
INTERNAL_ERROR = 1
BAD_INPUT = 2
STOPPED_EARLY = 3
INTERRUPTED = 130  # Ctrl-C, or the time limit, without a state: the convention of shells

# Arguments of Python in messages, which are options here.
ARGUMENT = re.compile(
    r"\b(missing|missing_targets|drop|categorical|decimal|encoding|header)"
    r"=(\[.*?\]|'.*?'|True|False)"
    r"|\b(held_out|test)=(\d[\d.e-]*)"
)


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
        words = f"{error.filename}: {error.strerror}" if named else error.strerror or str(error)
        raise BadInput(words) from error
    except (ValueError, TypeError, ImportError) as error:
        raise BadInput(with_options(str(error))) from error


def with_options(message: str) -> str:
    """Return a message with the arguments of `read_table` as the options that they are here."""
    return ARGUMENT.sub(_as_option, message)


def _as_option(found: re.Match[str]) -> str:
    """Return an argument of Python as the option of the same name."""
    if found[3]:
        return f"--{'held-out' if found[3] == 'held_out' else 'test-fraction'} {found[4]}"
    name = found[1].replace("_", "-")
    try:
        value = ast.literal_eval(found[2])
    except (SyntaxError, ValueError):  # text of the user
        return found[0]
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    items = value if isinstance(value, list) else [value]
    words = ",".join(f'"{item}"' if "," in str(item) else str(item) for item in items)
    return f"--{name} {shlex.quote(words)}"


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
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:  # of the standard output
        _print_error(f"{place}{error.strerror}: the output is cut")
        return INTERNAL_ERROR
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
