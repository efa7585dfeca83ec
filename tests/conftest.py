"""Settings of the whole test run, and the data that several modules use."""

import os
from pathlib import Path

import numpy as np
import pytest

import fastggn as fg

# JAX reads these once, when it is first imported.
os.environ.setdefault("JAX_ENABLE_X64", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def kin8nm():
    """Split 0, standardised, F(8, 20, 20, 1)."""
    parent = os.environ.get("FASTGGN_DATA")
    folder = (Path(parent) if parent else ROOT.parent / "shared" / "data") / "uci" / "kin8nm"
    if not folder.is_dir():
        pytest.skip("the UCI data set kin8nm is absent (FASTGGN_DATA names the data folder)")
    table = np.loadtxt(folder / "data.txt")
    features, target, train = (
        np.loadtxt(folder / f"index_{name}.txt").astype(int).ravel()
        for name in ("features", "target", "train_0")
    )
    table = table[train]
    table = (table - table.mean(axis=0)) / table.std(axis=0)
    return fg.Problem(fg.MLP((8, 20, 20, 1)), table[:, features], table[:, target])
