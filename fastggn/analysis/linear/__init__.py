"""Deep linear networks in closed form (Kawaguchi 2016, with corrections).

Samples are rows: X (T, d_x), Y (T, d_y). Weights are ``[W_1, ..., W_{H+1}]``, W_k of shape
(d_k, d_{k-1}); the loss is half the sum of squares of ``X W_1^T ... W_{H+1}^T - Y``.
"""

import lazy_loader as _lazy

from fastggn.runtime.signals import uninterrupted as _uninterrupted

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
__getattr__ = _uninterrupted(__getattr__)
