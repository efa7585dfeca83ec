"""Models from and for other packages: PyTorch, scikit-learn, ONNX, plain arrays.

A converted model predicts the same: weights in float32 become float64 exactly, and a scaling of
inputs or targets becomes part of the model, which then maps raw inputs to raw outputs. Each package
is an extra that is imported when it is needed; without it a function raises an `ImportError`.
"""

from fastggn.model.interchange.chain import InterchangeWarning, scales
from fastggn.model.interchange.conversions import to_npz, to_onnx, to_sklearn, to_torch
from fastggn.model.interchange.files import SUFFIXES, export
from fastggn.model.interchange.npz import from_npz
from fastggn.model.interchange.onnx import compare_onnx
from fastggn.model.interchange.sklearn import from_sklearn
from fastggn.model.interchange.state_dict import read_state_dict, write_state_dict
from fastggn.model.interchange.torch import from_torch

__all__ = [
    "SUFFIXES",
    "InterchangeWarning",
    "compare_onnx",
    "export",
    "from_npz",
    "from_sklearn",
    "from_torch",
    "read_state_dict",
    "scales",
    "to_npz",
    "to_onnx",
    "to_sklearn",
    "to_torch",
    "write_state_dict",
]
