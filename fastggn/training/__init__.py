"""Training: the loop, its methods, step control and stopping."""

from fastggn.training.loop import train
from fastggn.training.null_space import NullSpace
from fastggn.training.restarts import RestartsResult, train_restarts
from fastggn.training.result import History, Record, TrainResult

__all__ = [
    "History",
    "NullSpace",
    "Record",
    "RestartsResult",
    "TrainResult",
    "train",
    "train_restarts",
]
