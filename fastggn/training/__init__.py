"""Training: the loop, its methods, step control and stopping."""

from fastggn.training.loop import train
from fastggn.training.result import Record, TrainResult

__all__ = ["Record", "TrainResult", "train"]
