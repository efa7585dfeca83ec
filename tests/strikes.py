"""Ctrl-C at a chosen line of the package."""

import _thread
import contextlib
import signal
import sys
from pathlib import Path

import fastggn as fg

PACKAGE = str(Path(fg.__file__).resolve().parent)
TRACED = (PACKAGE, contextlib.__file__)


class _Signal(int):
    """A signal that arrives when its attribute is read.

    Python looks for signals after a call, at the start of a function and at a jump back. It does
    not do so after the reading of an attribute: the signal waits for the traced line, as a true
    one does.
    """

    arrive = property(_thread.interrupt_main)


class Strike:
    """Trace the lines of the package, and send Ctrl-C at the n-th visit of one of them."""

    def __init__(self, line=None, visit=1):
        self.visits = {}
        self._line, self._left = line, visit
        self.struck = self.heard = False
        self._ctrl_c = _Signal(signal.SIGINT)

    def __call__(self, frame, event, _):
        code = frame.f_code
        if not code.co_filename.startswith(TRACED):
            return None
        if event == "line":
            place = (code.co_filename, frame.f_lineno)
            if self._line is None:
                self.visits[place] = self.visits.get(place, 0) + 1
            elif place == self._line:
                self._left -= 1
                if self._left == 0:
                    self.struck = True
                    sys.settrace(None)  # first: this function would be interrupted itself
                    self._ctrl_c.arrive  # noqa: B018
        return self

    def run(self, work):
        """Do a work, up to the interrupt; `heard` tells whether it came out of it."""
        try:  # an interrupt at the last line comes after the work
            try:
                sys.settrace(self)
                work()
            finally:
                sys.settrace(None)
        except KeyboardInterrupt:
            assert self.struck
            self.heard = True
