"""Models from and for other packages: PyTorch, scikit-learn, ONNX, plain arrays.

`MLP` has the methods: ``from_torch``, ``from_sklearn``, ``from_npz``, ``to_torch``,
``to_sklearn``, ``to_onnx`` and ``to_npz``; see `conversions`. Each package is imported when it
is needed.
"""

from fastggn.model.interchange.chain import InterchangeWarning, scales
from fastggn.model.interchange.files import SUFFIXES, export
from fastggn.model.interchange.onnx import compare_onnx
from fastggn.model.interchange.state_dict import read_state_dict, write_state_dict

__all__ = [
    "SUFFIXES",
    "InterchangeWarning",
    "compare_onnx",
    "export",
    "read_state_dict",
    "scales",
    "write_state_dict",
]
