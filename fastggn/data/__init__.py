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
from fastggn.data.files import Table, load_table
from fastggn.data.lagged import lagged
from fastggn.data.npy import NpyFile, open_npy
from fastggn.data.scaling import Standardised, split_columns
from fastggn.data.stream import read_parts, stream_table

__all__ = [
    "DATASETS",
    "Dataset",
    "NpyFile",
    "Standardised",
    "Table",
    "convert_table",
    "four_regions",
    "four_regions_class",
    "friedman1",
    "lagged",
    "load_table",
    "open_npy",
    "read_parts",
    "sine",
    "split_columns",
    "stream_table",
    "xor",
]
