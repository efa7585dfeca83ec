"""``python -m papers``: compute a published figure or table again."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import numpy as np
from rich.console import Console

from fastggn.apps.cli.main import OneLineErrors
from fastggn.apps.cli.outcome import BadInput, SaveError, bad_input
from fastggn.apps.cli.progress import plain_warnings
from fastggn.apps.cli.summary import print_rows
from fastggn.apps.info import configuration
from fastggn.figures.style import new_figure, save
from fastggn.runtime.atomic_files import check_writable, write_atomically
from fastggn.runtime.errors import unknown_name
from fastggn.runtime.threads import threads as thread_budget
from papers import NAMES, load

HELP = """Compute a published figure or table again: write DIR/NAME.json and DIR/NAME.png.

\b
Examples:
  python -m papers --list
  python -m papers shen-fig1a --out results
  python -m papers shen-fig1b --out results --quick
  python -m papers shen-fig1a --out results --seed 3 --set init=glorot

The JSON file holds the configuration, the versions of the packages, the seconds taken and the
result. A number that is not finite stands in it as null."""

# What the files need at least, so that a full disk is found before the work.
EXPECTED_BYTES = 1 << 20
VERSIONS = ("fastggn", "numpy", "scipy", "numba")
COMMAND = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@dataclass(frozen=True)
class Request:
    """What was asked for, checked: the experiment, its configuration and its two files."""

    name: str
    module: ModuleType
    config: dict[str, Any]
    json_path: Path
    png_path: Path
    n_threads: int | None
    was_set: bool


@click.command(cls=OneLineErrors, help=HELP, context_settings=COMMAND)
@click.argument("name", required=False, metavar="[NAME]")
@click.option("--out", "-o", metavar="DIR", help="Folder of the two files; made if missing.")
@click.option("--list", "listing", is_flag=True, help="List the experiments.")
@click.option("--quick", is_flag=True, help="A small version that takes less than a minute.")
@click.option("--seed", type=click.IntRange(min=0), metavar="N", help="Seed of the experiment.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a value of the configuration (JSON, or text); may be given repeatedly.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    metavar="N",
    help="Threads, and processes, at most.  [default: all cores]",
)
@click.option("--quiet", "-q", is_flag=True, help="Print errors only.")
@click.option("--verbose", "-v", is_flag=True, help="Print where an error came from.")
def main(
    name: str | None,
    out: str | None,
    listing: bool,
    quick: bool,
    seed: int | None,
    settings: tuple[str, ...],
    threads: int | None,
    quiet: bool,
    verbose: bool,
) -> int:
    """Run an experiment and write its result and its figure."""
    if listing:
        _list()
        return 0
    with bad_input():
        request = _prepare(name, out, quick, seed, settings, threads)
    console = Console(stderr=True, quiet=quiet)
    with plain_warnings(console, quiet):
        result, seconds = _run(request, console)
        figure = _write(request, result, seconds)
    if not quiet:
        click.echo(request.module.summary(result))
        print_rows(
            [
                ("time", f"{seconds:.1f} s"),
                ("result", str(request.json_path)),
                ("figure", f"{request.png_path} ({figure})"),
            ]
        )
    return 0


def _list() -> None:
    """Print each experiment with the first line of its module's docstring."""
    rows = [(name, (load(name).__doc__ or "").strip().splitlines()[0]) for name in sorted(NAMES)]
    print_rows(rows)


def _prepare(
    name: str | None,
    out: str | None,
    quick: bool,
    seed: int | None,
    settings: tuple[str, ...],
    n_threads: int | None,
) -> Request:
    """Check everything that can be checked before the work; a ValueError says what is wrong."""
    if name is None:
        raise ValueError(f"give the NAME of an experiment: {', '.join(sorted(NAMES))}")
    module = load(name)
    if out is None:
        raise ValueError("--out DIR is missing: the folder for the result and the figure")
    config = dict(module.QUICK if quick else module.DEFAULT)
    if seed is not None:
        config["seed"] = seed
    for setting in settings:
        _set(config, setting)
    new_figure()  # matplotlib missing: found now, not after minutes
    with thread_budget(n_threads):
        pass
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.{ending}" for ending in ("json", "png")]
    for path in paths:
        check_writable(path, EXPECTED_BYTES)
    return Request(name, module, config, paths[0], paths[1], n_threads, bool(settings))


def _set(config: dict[str, Any], setting: str) -> None:
    """Change one value of the configuration; its kind must stay what it was."""
    key, equals, text = setting.partition("=")
    key = key.strip()
    if not equals:
        raise ValueError(f"--set {setting}: give KEY=VALUE")
    if key not in config:
        raise unknown_name("--set key", key, sorted(config))
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    old = config[key]
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if isinstance(old, str) and not isinstance(value, str):
        value = text
    kind = list if isinstance(old, (list, tuple)) else type(old)
    if old is not None and type(value) is not kind:
        raise ValueError(f"--set {key} must be like {json.dumps(old)} (JSON), got {text!r}")
    config[key] = value


def _run(request: Request, console: Console) -> tuple[dict[str, Any], float]:
    """Return the result as the JSON file will hold it, and the seconds it took."""
    start = time.perf_counter()
    reports = 0

    def show(text: str) -> None:
        line = f"{request.name}: {text}  ({time.perf_counter() - start:.0f} s)"
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    def report(text: str) -> None:
        nonlocal reports
        reports += 1
        show(text)

    show("starting (the first run compiles the kernels)")
    with _refused(request, lambda: reports > 0), thread_budget(request.n_threads):
        result = request.module.run(dict(request.config), report)
    seconds = time.perf_counter() - start
    # The figure and the summary are made from what the file holds, so that it is enough.
    plain: dict[str, Any] = json.loads(_to_json(result))
    return plain, seconds


@contextmanager
def _refused(request: Request, started: Callable[[], bool]) -> Iterator[None]:
    """Turn a refusal before any progress into bad input, where --set may have led to it."""
    try:
        yield
    except (FileNotFoundError, ImportError) as error:  # always the user's to mend
        if started():
            raise
        raise BadInput(f"{request.name}: {error}") from error
    except (ValueError, TypeError) as error:  # without --set, one of the program
        if started() or not request.was_set or isinstance(error, np.linalg.LinAlgError):
            raise
        raise BadInput(f"{request.name} with --set: {error}") from error


def _write(request: Request, result: dict[str, Any], seconds: float) -> str:
    """Write both files, the result first; return the size of the picture."""
    versions = configuration()
    document = {
        "experiment": request.name,
        "config": request.config,
        "versions": {name: versions[name] for name in VERSIONS},
        "threads": request.n_threads or versions["threads"],
        "seconds": round(seconds, 3),
        "result": result,
    }
    try:
        text = _to_json(document).encode() + b"\n"
        write_atomically(request.json_path, lambda stream: _put(stream, text))
        figure = request.module.plot(result)
        picture = io.BytesIO()
        save(figure, picture)
        write_atomically(request.png_path, lambda stream: _put(stream, picture.getvalue()))
    except OSError as error:
        raise SaveError(str(error)) from error
    width, height = (round(150 * inches) for inches in figure.get_size_inches())
    return f"{width} x {height}, {len(picture.getvalue()) // 1000} kB"


def _put(stream: Any, content: bytes) -> None:
    stream.write(content)


def _to_json(value: Any) -> str:
    return json.dumps(_plain(value), allow_nan=False, indent=1)


def _plain(value: Any) -> Any:
    """Return NumPy values as JSON types, and numbers that are not finite as None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


if __name__ == "__main__":
    main(prog_name="python -m papers")
