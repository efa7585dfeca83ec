"""The one place that opens outputs: nothing that a user may miss is replaced without ``--force``.

Each output has a kind, and replaces a file of this kind only: by its seal, or by a mark that
fastggn writes into it. A file without a mark counts as foreign.
"""

from __future__ import annotations

import json
import mmap
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from fastggn.runtime.archive import EXPORTED, SEAL, SEAL_LENGTH
from fastggn.runtime.atomic_files import check_writable, write_atomically
from fastggn.runtime.version import __version__

STDOUT = "-"
WRITTEN_BY = f"fastggn {__version__}"
PICTURES = ("curve", "residuals", "regions", "spectrum")  # files of --plot-dir, as .png
HEAD = 4096  # bytes that hold a mark at the start of a file

View = mmap.mmap
Identity = tuple[object, ...]


@dataclass(frozen=True)
class Output:
    """A file that a command writes.

    Attributes
    ----------
    name : str
        The option or the argument, as in messages.
    path : str
    kind : str
        A key of `KINDS`: a file of this kind is replaced without a question.
    """

    name: str
    path: str
    kind: str

    def __str__(self) -> str:
        """Return the name and the path."""
        return f"{self.name} {self.path}"


def check_outputs(
    inputs: Mapping[str, str], outputs: Sequence[Output], force: bool = False
) -> None:
    """Check, before any work, that a command may write its outputs.

    Two names are one file where they lead to one file by symbolic links, hard links or another
    spelling. A checkpoint has companions: ``NAME.previous``, ``NAME.seedN`` and
    ``.NAME.fastggn-lock``.

    Parameters
    ----------
    inputs : mapping of str to str
        Paths that the command reads, by their option or argument.
    outputs : sequence of Output
    force : bool
        Whether an output may replace an input or a foreign file.

    Raises
    ------
    ValueError
        If two outputs share a file; without `force` also if an output is an input, or would replace
        a file of another kind; or if an output is a folder or a device. It names every such file.
    OSError
        If an output cannot be written.
    """
    written = [_Files(output) for output in outputs if output.path != STDOUT]
    faults = []
    for number, files in enumerate(written):
        faults += [
            f"{files.output} and {other.output} are the same file: give two names"
            for other in written[:number]
            if files.meets(other)
        ]
        if force:
            continue
        own = [
            f"{files.output} would replace {name} {path}, which is read: give another name, or "
            "--force to replace it"
            for name, path in inputs.items()
            if path != STDOUT and files.holds(path)
        ]
        faults += own or files.foreign()
    if faults:
        raise ValueError("; ".join(faults))
    for files in written:
        if files.output.kind != "folder":
            check_writable(files.output.path)


def write_report(path: str, content: Mapping[str, Any]) -> None:
    """Write a report as JSON with the mark of fastggn, or print it where the path is ``-``."""
    text = json.dumps({"written_by": WRITTEN_BY, **content}, indent=1) + "\n"
    if path == STDOUT:
        print(text, end="")
        return

    def write(stream: BinaryIO) -> None:
        stream.write(text.encode())

    write_atomically(path, write)


class _Files:
    """The files of one output: its own and its companions."""

    def __init__(self, output: Output) -> None:
        self.output = output
        self._path = Path(os.path.realpath(output.path))
        self._folder = self._path if output.kind == "folder" else self._path.parent
        names = COMPANIONS.get(output.kind, "{}")
        self._pattern = re.compile(names.format(re.escape(self._path.name)))
        self._present = [self._path]
        if output.kind in COMPANIONS and self._folder.is_dir():
            self._present += [file for file in self._folder.iterdir() if self._takes(file.name)]
        self._identities = {_identity(file) for file in self._present}

    def holds(self, path: str | os.PathLike[str]) -> bool:
        """Whether a path leads to one of the files."""
        real = Path(os.path.realpath(path))
        if _identity(real) in self._identities:
            return True
        return _identity(real.parent) == _identity(self._folder) and self._takes(real.name)

    def meets(self, other: _Files) -> bool:
        """Whether two outputs share a file."""
        shared = self._identities & other._identities
        return bool(shared) or self.holds(other._path) or other.holds(self._path)

    def foreign(self) -> list[str]:
        """Return a complaint about each file that is of another kind than the output."""
        faults = []
        for file in dict.fromkeys(self._present):
            kind = "picture" if self.output.kind == "folder" else self.output.kind
            kind = "lock" if file.name.endswith(".fastggn-lock") else kind
            if file.is_file() and not _is_of(file, kind):
                beside = "" if file == self._path else f" (there is {file})"
                words = f"would replace a file that is no {KINDS[kind][0]} of fastggn"
                if kind == "table":
                    words = "exists, and a table does not tell who wrote it"
                faults.append(
                    f"{self.output}{beside} {words}: give another name, or --force to replace it"
                )
        return faults

    def _takes(self, name: str) -> bool:
        return self._pattern.fullmatch(name) is not None


# Names beside an output that belong to it, in the place of {} its own name.
COMPANIONS = {
    "checkpoint": r"{0}(\.seed\d+)?(\.previous)?|\.{0}(\.seed\d+)?\.fastggn-lock",
    "folder": "(" + "|".join(PICTURES) + r")\.png",
}


def _identity(path: Path) -> Identity:
    """Return what two names of one file share, also of a file that is yet to be written."""
    try:
        found = os.stat(path)
    except OSError:
        if path == path.parent:
            return (str(path),)
        return (*_identity(path.parent), path.name)
    return (found.st_dev, found.st_ino)


def _is_of(file: Path, kind: str) -> bool:
    """Whether a file is empty or carries the mark of a kind."""
    with open(file, "rb") as stream:
        if os.fstat(stream.fileno()).st_size == 0:
            return True
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as view:
            return KINDS[kind][1](view)


def _sealed(kind: str) -> Callable[[View], bool]:
    def test(view: View) -> bool:
        if not view[-SEAL_LENGTH:].startswith(SEAL):
            return False
        return view.rfind(f'"format": "fastggn-{kind}"'.encode()) >= 0

    return test


def _begins(pattern: bytes) -> Callable[[View], bool]:
    return lambda view: re.match(pattern, view[:HEAD], re.DOTALL) is not None


def _picture(view: View) -> bool:
    # PNG, PDF, SVG, EPS; the mark of a PDF stands near its end.
    marks = (b"Software\0", b"/Creator (", b"<dc:title>", b"%%Creator: ")
    return any(view.find(mark + b"fastggn ") >= 0 for mark in marks)


def _export(view: View) -> bool:
    # ONNX names its producer at the start; a zip archive has a comment at its end.
    head = view[:HEAD]
    return (
        b"\x12\x07fastggn" in head[:32]
        or view[-len(EXPORTED) :] == EXPORTED
        or head.startswith(b"layer,unit,input,value\n")
    )


# What an output is, and the test of its mark.
KINDS: dict[str, tuple[str, Callable[[View], bool]]] = {
    "model": ("model", _sealed("model")),
    "checkpoint": ("checkpoint", _sealed("checkpoint")),
    "lock": ("lock", _begins(rb'\{"host": ')),
    "history": ("history", _begins(rb'\{"seed": ')),
    "report": ("JSON report", _begins(rb'\{\s*"written_by": "fastggn ')),
    "page": ("HTML page", _begins(rb'.*<meta name="generator" content="fastggn ')),
    "picture": ("picture", _picture),
    "export": ("exported model", _export),
    "table": ("table", lambda view: False),  # a table has no place for a mark
}
