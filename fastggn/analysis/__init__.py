"""Analysis of loss surfaces: ranks, critical points, null spaces, ReLU regions, linear networks."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
