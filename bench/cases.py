"""The networks and samples of the benchmarks."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastggn as fg
from bench.core import SMOKE, Absent
from papers.mnist import read_idx

__all__ = ["ROOT", "Case", "digits", "four_regions", "kin8nm", "mnist", "random_case"]

ROOT = Path(__file__).resolve().parent.parent
FloatArray = NDArray[np.float64]

# name: (widths, samples) at the size of the target table, and at the smoke size
SHAPES: dict[str, tuple[tuple[tuple[int, ...], int], tuple[tuple[int, ...], int]]] = {
    "digits": (((64, 32, 10), 1797), ((16, 8, 5), 200)),
    "few-rows": (((20, 60, 70, 1), 100), ((4, 20, 20, 1), 20)),
    "large-rank": (((8, 65, 125, 1), 5000), ((4, 20, 20, 1), 300)),
    "multi": (((20, 64, 64, 4), 4096), ((5, 12, 12, 4), 300)),
    "multi-products": (((20, 64, 64, 4), 8000), ((5, 12, 12, 4), 300)),
    "null-space": (((8, 65, 125, 1), 500), ((4, 20, 20, 1), 50)),
    "scalar": (((8, 32, 32, 1), 20000), ((4, 10, 10, 1), 600)),
    "wide": (((10, 512, 512, 1), 2000), ((4, 40, 40, 1), 100)),
}


@dataclass(frozen=True)
class Case:
    """A network with tanh units, samples, and parameters to start from."""

    widths: tuple[int, ...]
    X: FloatArray
    Y: FloatArray
    theta: FloatArray

    @property
    def name(self) -> str:
        """F(widths), T = samples."""
        widths = ",".join(map(str, self.widths))
        return f"F({widths}), T={self.X.shape[0]}"

    def problem(self, loss: str = "squared") -> Any:
        """Return the problem; for cross-entropy the targets are the largest output's label."""
        labels = self.Y.argmax(axis=1) if loss == "softmax_cross_entropy" else self.Y
        return fg.Problem(fg.MLP(self.widths, "tanh"), self.X, labels, loss)


def _case(widths: tuple[int, ...], X: FloatArray, Y: FloatArray, seed: int = 0) -> Case:
    return Case(widths, X, Y, fg.MLP(widths, "tanh").init(seed=seed))


def random_case(name: str, size: str) -> Case:
    """Return one of `SHAPES` with normal samples."""
    widths, n_samples = SHAPES[name][size == SMOKE]
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_samples, widths[0]))
    return _case(widths, X, rng.normal(size=(n_samples, widths[-1])))


def digits(size: str) -> Case:
    """Return scikit-learn's digits, inputs in 0..1, targets one-hot."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise Absent("scikit-learn, which has the digits, is not installed") from error
    X, labels = load_digits(return_X_y=True)
    X, Y = X / 16.0, np.eye(10)[labels]
    if size == SMOKE:
        return _case((64, 4, 10), X[:300], Y[:300])
    return _case((64, 32, 10), X, Y)


def four_regions(size: str) -> Case:
    """Return Shen's four regions with one-hot targets (2018, Section 6)."""
    X, Y = fg.data.four_regions(200 if size == SMOKE else 1000, seed=0, one_hot=True)
    return _case((2, 10, 10, 4), X, Y)


def _data_folder(*parts: str) -> Path:
    """Return a folder of data sets, in $FASTGGN_DATA or beside the repository."""
    parent = os.environ.get("FASTGGN_DATA")
    folder = (Path(parent) if parent else ROOT.parent / "shared" / "data").joinpath(*parts)
    if not folder.is_dir():
        raise Absent(f"the data set {parts[-1]} is not here (see docs/performance.md)")
    return folder


@functools.cache
def _kin8nm_split() -> tuple[FloatArray, FloatArray]:
    """Return the training samples of split 0, standardised."""
    folder = _data_folder("uci", "kin8nm")
    table = np.loadtxt(folder / "data.txt")
    index = {
        name: np.loadtxt(folder / f"index_{name}.txt").astype(int).ravel()
        for name in ("features", "target", "train_0")
    }
    table = table[index["train_0"]]
    table = (table - table.mean(axis=0)) / table.std(axis=0)
    return table[:, index["features"]].copy(), table[:, index["target"]].copy()


def kin8nm(size: str, seed: int = 0) -> Case:
    """Return split 0 of kin8nm, training samples only, for F(8,20,20,1)."""
    X, Y = _kin8nm_split()
    if size == SMOKE:
        return _case((8, 5, 1), X[:400], Y[:400], seed)
    return _case((8, 20, 20, 1), X, Y, seed)


def mnist(part: str) -> tuple[FloatArray, NDArray[np.int64]]:
    """Return the images (T, 784), in 0..1, and labels of "train" or "t10k"."""
    folder = _data_folder("mnist")
    images = read_idx(folder / f"{part}-images-idx3-ubyte.gz")
    labels = read_idx(folder / f"{part}-labels-idx1-ubyte.gz")
    return images.reshape(-1, 784) / 255.0, labels.astype(np.int64)
