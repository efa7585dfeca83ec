from .chain import InterchangeWarning as InterchangeWarning
from .files import SUFFIXES as SUFFIXES
from .npz import from_npz as from_npz
from .onnx import compare_onnx as compare_onnx
from .onnx_reader import from_onnx as from_onnx
from .sklearn import from_sklearn as from_sklearn, to_sklearn as to_sklearn
from .state_dict import read_state_dict as read_state_dict
from .torch import from_torch as from_torch, to_torch as to_torch
