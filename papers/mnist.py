"""The MNIST digits, from IDX files that the user has."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from papers.idx import read_idx

__all__ = ["FILES", "find_folder", "load_digits"]

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")


def find_folder(folder: str | None = None) -> Path:
    """Return the folder of the training files.

    Parameters
    ----------
    folder : str, optional
        None looks for ``mnist/`` in the folder that FASTGGN_DATA names, else in ``shared/data``
        beside the working folder or beside the checkout.

    Raises
    ------
    FileNotFoundError
        If the files are not there; the message names them.
    """
    if folder is not None:
        places = [Path(folder)]
    elif os.environ.get("FASTGGN_DATA"):
        places = [Path(os.environ["FASTGGN_DATA"]) / "mnist"]
    else:
        checkout = Path(__file__).resolve().parents[1]
        parents = (Path.cwd(), Path.cwd().parent, checkout.parent)
        places = [parent / "shared" / "data" / "mnist" for parent in parents]
    for place in places:
        if all(_path(place, name) for name in FILES):
            return place
    raise FileNotFoundError(
        f"the MNIST training files {' and '.join(FILES)} (each plain or .gz) are not in "
        f"{', '.join(dict.fromkeys(map(str, places)))}: set the experiment's 'folder', or "
        "FASTGGN_DATA to the folder that holds mnist/"
    )


def load_digits(
    folder: Path, samples: int | None = None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return training images (T, 784), scaled to [0, 1], and their labels (T,).

    Parameters
    ----------
    folder : Path
        As `find_folder` returned it.
    samples : int, optional
        Take the first ones only.

    Raises
    ------
    ValueError
        If a file is damaged, or the two do not belong together.
    """
    images, labels = (read_idx(_path(folder, name) or folder / name) for name in FILES)
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise ValueError(
            f"{folder}: images of shape {images.shape} do not go with labels of shape "
            f"{labels.shape}"
        )
    count = len(images) if samples is None else samples
    X = images[:count].reshape(len(images[:count]), -1) / 255.0
    return X, labels[:count].astype(np.int64)


def _path(folder: Path, name: str) -> Path | None:
    """Return the path of a file, plain or compressed, or None."""
    for candidate in (folder / name, folder / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    return None
