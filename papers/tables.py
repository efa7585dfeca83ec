"""Regression tables with fixed splits: the UCI sets of a folder, and built-in samples."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastggn.data.builtin import friedman1

FloatArray = NDArray[np.float64]
BUILT_IN = ("friedman1",)


@dataclass(frozen=True)
class Split:
    """One split of a table, inputs and target standardised by its training samples.

    Attributes
    ----------
    X, y : ndarray, shapes (T, n_0), (T,)
        Training samples.
    X_test, y_test : ndarray
        Test samples, by the same scales.
    unit : float
        The standard deviation of the target: errors times it are in the target's units.
    """

    X: FloatArray
    y: FloatArray
    X_test: FloatArray
    y_test: FloatArray
    unit: float


def find_table(name: str, folder: str | None = None) -> Path:
    """Return the folder of a UCI set: ``data.txt`` and the indices of columns and splits.

    Parameters
    ----------
    name : str
        Such as "yacht".
    folder : str, optional
        The folder that holds ``uci/``; None looks for it where FASTGGN_DATA says, else in
        ``shared/data`` beside the working folder or beside the checkout.

    Raises
    ------
    FileNotFoundError
        If it is not there; the message names the places.
    """
    folder = folder or os.environ.get("FASTGGN_DATA")
    if folder:
        parents = [Path(folder)]
    else:
        checkout = Path(__file__).resolve().parents[1]
        beside = (Path.cwd(), Path.cwd().parent, checkout.parent)
        parents = [parent / "shared" / "data" for parent in beside]
    for parent in parents:
        if (parent / "uci" / name / "data.txt").is_file():
            return parent / "uci" / name
    places = ", ".join(dict.fromkeys(str(parent / "uci" / name) for parent in parents))
    raise FileNotFoundError(
        f"the data set {name!r} (data.txt, index_features.txt, ...) is not in {places}: set the "
        "experiment's 'folder', or FASTGGN_DATA, to the folder that holds uci/"
    )


def load_split(name: str, split: int, seed: int, folder: str | None = None) -> Split:
    """Return a split of a set by its name.

    Parameters
    ----------
    name : str
        A UCI set, or a built-in one of 100 training and 500 test samples.
    split : int
        From 0.
    seed : int
        Draws built-in samples.
    folder : str, optional
        As for `find_table`.
    """
    if name in BUILT_IN:
        X, Y = friedman1(600, noise=1.0, seed=1000 * seed + split)
        target = Y[:, 0] if Y.ndim == 2 else Y
        rows = np.arange(600)
        return _scaled(X, target, rows[:100], rows[100:])
    place = find_table(name, folder)
    table = np.loadtxt(place / "data.txt")
    features, target, train, test = (
        np.loadtxt(place / f"index_{part}.txt").astype(int).ravel()
        for part in ("features", "target", f"train_{split}", f"test_{split}")
    )
    return _scaled(table[:, features], table[:, target[0]], train, test)


def _scaled(X: FloatArray, y: FloatArray, train: NDArray[np.intp], test: NDArray[np.intp]) -> Split:
    scale = X[train].std(axis=0)
    inputs = (X - X[train].mean(axis=0)) / np.where(scale > 0.0, scale, 1.0)
    unit = float(y[train].std())
    targets = (y - y[train].mean()) / unit
    return Split(inputs[train], targets[train], inputs[test], targets[test], unit)
