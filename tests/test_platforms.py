"""The package works without what only POSIX has."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from patience import HANGS

from fastggn.runtime import platform

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.process
def test_what_users_do_works_without_posix(tmp_path):
    pytest.importorskip("sklearn")
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "without_posix.py"), str(tmp_path)],
        capture_output=True, text=True, timeout=HANGS, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("DONE\n")
    left = [path.name for path in tmp_path.iterdir() if path.suffix in (".tmp", ".fastggn-lock")]
    assert left == []


def test_a_position_of_a_file_is_read_in_both_ways(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(bytes(range(100)))
    descriptor = os.open(tmp_path / "a", os.O_RDONLY)
    for read in (platform._preadv, None):
        monkeypatch.setattr(platform, "_preadv", read)
        buffer = bytearray(10)
        assert platform.read_at(descriptor, memoryview(buffer), 95) == 5
        assert platform.read_at(descriptor, memoryview(buffer)[5:], 20) == 5
        assert list(buffer) == [95, 96, 97, 98, 99, 20, 21, 22, 23, 24]
        assert platform.read_at(descriptor, memoryview(buffer), 100) == 0
    os.close(descriptor)


class Regions:
    """The locks of Windows: regions of bytes, each of one process."""

    LK_NBLCK = 2

    def __init__(self):
        self.taken = set()

    def locking(self, descriptor, mode, count):
        place = os.fstat(descriptor).st_ino, os.lseek(descriptor, 0, os.SEEK_CUR)
        if place in self.taken:
            raise PermissionError(errno.EACCES, "Permission denied")
        self.taken.add(place)


def test_locks_of_regions_where_there_is_no_flock(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", None)
    with open(tmp_path / "a", "wb") as one, open(tmp_path / "a", "rb") as other:
        with pytest.raises(OSError) as raised:
            platform.lock(one.fileno())
        assert raised.value.errno == errno.ENOSYS
        monkeypatch.setitem(sys.modules, "msvcrt", Regions())
        platform.lock(one.fileno())
        with pytest.raises(BlockingIOError):
            platform.lock(other.fileno())
