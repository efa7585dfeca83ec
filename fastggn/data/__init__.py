"""Data: built-in sample sets, and samples from files."""

from fastggn.data.builtin import (
    DATASETS,
    Dataset,
    four_regions,
    four_regions_class,
    friedman1,
    sine,
    xor,
)
from fastggn.data.convert import convert_table
from fastggn.data.lagged import lagged
from fastggn.data.npy import NpyFile, open_npy
from fastggn.data.scaling import Standardised, split_columns
from fastggn.data.stream import read_parts, stream_table

__all__ = [
    "DATASETS",
    "Dataset",
    "NpyFile",
    "Standardised",
    "convert_table",
    "four_regions",
    "four_regions_class",
    "friedman1",
    "lagged",
    "open_npy",
    "sine",
    "read_parts",
    "split_columns",
    "stream_table",
    "xor",
]
