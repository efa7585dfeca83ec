"""fastggn: second-order training and loss-surface analysis of multilayer perceptrons.

The public names stand in ``__init__.pyi``; each is imported when it is first used, so that
``import fastggn`` and ``fastggn --help`` are quick and start no compiler.
"""

import lazy_loader as _lazy

from fastggn.runtime import forks as _forks  # noqa: F401  # before other threads import the rest
from fastggn.runtime.cores import limit_numba as _limit_numba
from fastggn.runtime.meetings import watch_exit as _watch_exit
from fastggn.runtime.signals import uninterrupted as _uninterrupted

# Numba fixes the size of its pool when it is imported.
_limit_numba()
# A rank that ends before it shares samples tells those that wait for it.
_watch_exit()

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
__getattr__ = _uninterrupted(__getattr__)
