"""Times of processes on a machine where other programs run: what these take away is taken off."""

import contextlib
import os
import subprocess
import time
from pathlib import Path

# Seconds after which a process that takes some seconds on an idle machine hangs: a limit that only
# ends a run of the tests, and says nothing of speed.
HANGS = 1000.0


def _schedule(pid):
    """Return, for each thread, nanoseconds on a core and nanoseconds of waiting for one."""
    found = {}
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):  # it has just ended
                ran, waited, _ = map(int, (task / "schedstat").read_text().split())
                found[task.name] = ran, waited
    return found


class Stopwatch:
    """Measures the seconds until a process ends, less those that its threads waited for a core."""

    def __init__(self, process):
        self._process = process
        self._began = time.monotonic()
        self._before = self._read()
        self._now = dict(self._before)

    def _read(self):
        return _schedule(self._process.pid) | _schedule(os.getpid())

    def end(self):
        """Wait for the end; return the output, the errors and the seconds."""
        while True:
            try:
                out, err = self._process.communicate(timeout=0.05)
                break
            except subprocess.TimeoutExpired:
                self._now |= self._read()
                if time.monotonic() - self._began > HANGS:
                    raise
        self._now |= _schedule(os.getpid())
        seconds = time.monotonic() - self._began
        nothing = 0, 0
        waited = sum(
            both[1] - self._before.get(thread, nothing)[1] for thread, both in self._now.items()
        )
        return out, err, seconds - 1e-9 * waited


def mark():
    """Note the time, where the process that has started this one asks for it."""
    if os.environ.get("MARKS"):
        with open(os.environ["MARKS"], "a", encoding="ascii") as stream:
            stream.write(f"{time.monotonic()}\n")


def last_mark(file):
    """Return the last time of all that was noted, or None."""
    with contextlib.suppress(FileNotFoundError):
        return max(map(float, Path(file).read_text(encoding="ascii").split()))
    return None


def let_work(process, seconds):
    """Wait until a process has used so many seconds of processor time from now on."""
    before = sum(ran for ran, _ in _schedule(process.pid).values())
    end = time.monotonic() + (HANGS if before else seconds)  # without /proc the clock has to do
    while time.monotonic() < end and process.poll() is None:
        if before and sum(r for r, _ in _schedule(process.pid).values()) - before > 1e9 * seconds:
            return
        time.sleep(0.01)
