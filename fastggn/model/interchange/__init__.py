"""Models from and for other packages: PyTorch, scikit-learn, ONNX, plain arrays.

A converted model predicts the same: weights in float32 become float64 exactly, and an export maps
encoded inputs to outputs in the units of the targets. Each package is an extra that is imported
when it is needed; without it a function raises an `ImportError`.
"""

import lazy_loader as _lazy

# `Model` exports through this package, and the readers here make a `Model`.
__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
