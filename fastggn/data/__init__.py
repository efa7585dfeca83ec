"""Data: built-in sample sets, tables read from files, and files written safely."""

from fastggn.data.builtin import (
    DATASETS,
    Dataset,
    four_regions,
    four_regions_class,
    friedman1,
    sine,
    xor,
)
from fastggn.data.files import Table, load_table
from fastggn.data.idx import read_idx

__all__ = [
    "DATASETS",
    "Dataset",
    "Table",
    "four_regions",
    "four_regions_class",
    "friedman1",
    "load_table",
    "read_idx",
    "sine",
    "xor",
]
