"""Compiled kernels on the disk: a sealed file for each function and signature, never served stale.

Numba's own cache numbers the files of a function in an index. Two processes that start on an
empty folder can give one number to two signatures, and a truncated index ends the program. Here
a file's name follows from what it holds, it appears in one step, and it carries its SHA-256 and
that of the source of every kernel: an edit in one file makes those that call it stale as well.
"""

import hashlib
import os
import re
import secrets
import stat
import sys
import tempfile
import warnings
from functools import lru_cache
from pathlib import Path

import llvmlite
import numba

from fastggn.runtime.errors import KernelCacheWarning
from fastggn.runtime.forks import LocalLock
from fastggn.runtime.notices import notify
from fastggn.runtime.platform import cache_home, owned_by, rename, set_mode, user_name

KIND = b"fastggn kernel "
MAGIC = KIND + b"2\n"
HERE = Path(__file__).resolve().parent
PRIVATE = f"fastggn-{user_name()}"
# Set by batch systems and by the launchers of MPI programs.
JOB_VARIABLES = (
    "SLURM_JOB_ID",
    "PBS_JOBID",
    "LSB_JOBID",
    "OMPI_COMM_WORLD_RANK",
    "PMI_RANK",
    "PMIX_RANK",
    "MV2_COMM_WORLD_RANK",
)

_lock = LocalLock()
_state = {"warned": False, "folder": None, "off": False, "first": True}


class Damaged(Exception):
    """A file of the cache is not what was written."""


def in_job(environment=os.environ):
    """Return whether a batch system or an MPI launcher started this process."""
    return any(name in environment for name in JOB_VARIABLES)


def folders(environment=os.environ):
    """Return the folders that are searched, in order, and those of them that may be written.

    NUMBA_CACHE_DIR alone where it is set. Otherwise ``__pycache__`` beside the kernels, the
    user's cache folder, and a private folder below the one for temporary files; in a job only
    this last one is written, for the others may lie on a file system that all nodes share.
    """
    place = f"kernels-{hashlib.sha256(str(HERE).encode()).hexdigest()[:16]}"
    if numba.config.CACHE_DIR:
        only = Path(numba.config.CACHE_DIR) / place
        return [only], [only]
    beside = HERE / "__pycache__"
    local = Path(tempfile.gettempdir()) / PRIVATE / place
    home = cache_home(environment)
    lasting = [beside]
    if os.path.isabs(home):  # without HOME and an entry for the user it stays "~"
        lasting.append(Path(home) / "fastggn" / place)
    if in_job(environment):
        return [local, *lasting], [local]
    return [*lasting, local], [*lasting, local]


class KernelCache:
    """The cache of one dispatcher, in the place of Numba's own.

    `to_bytes` and `from_bytes` are those of `fastggn.kernels.compiler`.
    """

    def __init__(self, function, to_bytes, from_bytes):
        self._to_bytes, self._from_bytes = to_bytes, from_bytes
        self._name = f"{function.__module__.rpartition('.')[2]}.{function.__qualname__}"
        self._name = re.sub(r"[^\w.]", "", self._name)

    @property
    def cache_path(self):
        """The first folder that is searched."""
        return str(folders()[0][0])

    def load_overload(self, sig, target_context):
        """Return the compiled function for a signature, or None where no sound file holds it."""
        name = self._file_name(sig, target_context.codegen())
        for folder in folders()[0]:
            try:
                # What it holds is code: a folder that others can write to is not read.
                if not _is_safe(folder):
                    continue
                content = _read(folder / name)
                payload = _unseal(content)
                if payload is not None:
                    _state["first"] = False
                    return self._from_bytes(target_context, payload)
            except OSError:
                continue
            except Exception as error:
                _warn(
                    f"the kernel cache {folder} holds a damaged file ({name}: {error}); "
                    "the kernel is compiled again"
                )
        _announce()
        return None

    def save_overload(self, sig, data):
        """Write the compiled function to the first folder that takes it."""
        if data.lifted or data.library.has_dynamic_globals:
            raise RuntimeError(f"kernel {self._name} cannot be kept on the disk")
        name = self._file_name(sig, data.codegen)
        content = _seal(self._to_bytes(data))
        while not _state["off"]:
            folder = _writable_folder()
            if folder is None:
                return
            try:
                _write(folder, name, content)
                return
            except OSError as error:
                _switch_off(f"{folder} cannot be written ({error.strerror or error})")

    def flush(self):
        """Do nothing: no index is held that `recompile` would have to write."""

    def _file_name(self, sig, codegen):
        version = (sys.implementation.cache_tag, numba.__version__, llvmlite.__version__)
        key = repr((sig, codegen.magic_tuple(), version))
        return f"{self._name}-{hashlib.sha256(key.encode()).hexdigest()[:24]}.fgk"


def _announce():
    """Say, before the first kernel is compiled, that a cache without kernels is filled."""
    with _lock:
        first, _state["first"] = _state["first"], False
    if first and not any(map(_holds_kernels, folders()[0])):
        notify("compiling the kernels, once; later runs start at once")


def _holds_kernels(folder):
    """Whether a folder holds a kernel of these sources."""
    start = len(MAGIC) + 64
    try:
        files = list(folder.glob("*.fgk"))
        return any(file.read_bytes()[start : start + 64] == _stamp() for file in files)
    except OSError:
        return False


@lru_cache(maxsize=1)
def _stamp():
    """Return the SHA-256 of all kernels' sources, where there are any."""
    digest = hashlib.sha256()
    for path in sorted(HERE.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest().encode()


def _seal(payload):
    body = _stamp() + payload
    return MAGIC + hashlib.sha256(body).hexdigest().encode() + body


def _unseal(content):
    """Return the payload; None where it belongs to other sources, or has another format."""
    start = len(MAGIC)
    if content.startswith(KIND) and content[len(KIND) : start] not in (b"", MAGIC[len(KIND) :]):
        return None
    if not content.startswith(MAGIC) or len(content) < start + 128:
        raise Damaged("it is cut short or not a kernel")
    digest, body = content[start : start + 64], content[start + 64 :]
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise Damaged("its checksum is wrong")
    return body[64:] if body[:64] == _stamp() else None


def _writable_folder():
    """Return the folder to write to, found and made at the first call."""
    with _lock:
        if _state["folder"] is not None or _state["off"]:
            return _state["folder"]
    reasons = []
    for folder in folders()[1]:
        try:
            _make(folder)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            reasons.append(f"{folder}: {error.strerror or error}")
            continue
        _state["folder"] = folder
        return folder
    _switch_off(f"no folder can be written ({'; '.join(reasons)})")
    return None


def _make(folder):
    """Make a folder; one below that for temporary files is for this user alone."""
    if folder.parent.name == PRIVATE:
        folder.parent.mkdir(mode=0o700, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    if not _is_safe(folder):
        raise PermissionError(0, "it belongs to another user, or others can write to it")


def _is_safe(folder):
    """Return whether the private folder around this one is ours alone; others always are safe."""
    if folder.parent.name != PRIVATE:
        return True
    found = os.lstat(folder.parent)
    return stat.S_ISDIR(found.st_mode) and owned_by(found)


def _read(file):
    """Return the content of a file of this user, of root, or of the owner of the package."""
    with open(file, "rb") as stream:
        found = os.fstat(stream.fileno())
        if not owned_by(found, 0, os.stat(HERE).st_uid):
            raise Damaged(f"it belongs to user {found.st_uid}, or others can write to it")
        return stream.read()


def _write(folder, name, content):
    temporary = folder / f".{name}.{os.getpid()}.{secrets.token_hex(6)}.tmp"
    try:
        with open(temporary, "xb") as stream:
            set_mode(stream.fileno(), temporary, 0o644)
            stream.write(content)
        rename(temporary, folder / name)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _switch_off(reason):
    _state["off"], _state["folder"] = True, None
    _warn(f"compiled kernels are not kept: {reason}. Set NUMBA_CACHE_DIR to a folder of your own")


def _warn(message):
    """Issue the one warning of this process."""
    with _lock:
        if _state["warned"]:
            return
        _state["warned"] = True
    warnings.warn(message, KernelCacheWarning, stacklevel=2)
