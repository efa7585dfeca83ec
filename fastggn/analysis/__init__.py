"""Analysis of loss surfaces: ranks, critical points, null spaces, ReLU regions, linear networks."""

import lazy_loader as _lazy

from fastggn.runtime.signals import uninterrupted as _uninterrupted

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
__getattr__ = _uninterrupted(__getattr__)
