"""Plain arrays: W_1, b_1, W_2, b_2, ... in an .npz file, or as rows of a .csv file."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fastggn.model.interchange.chain import Dense, cast, network_of
from fastggn.model.interchange.names import Names, layers_of, text_of
from fastggn.network.activations import Activation
from fastggn.network.mlp import MLP
from fastggn.runtime.archive import EXPORTED, ArchiveError, read_archive, require_file
from fastggn.runtime.atomic_files import PathLike, write_atomically

ACTIVATIONS = "activations"


def write_npz(path: PathLike, layers: Sequence[Dense], dtype: np.dtype[Any]) -> None:
    """Write W_l (n_l, n_{l-1}), b_l (n_l,) and the names of the activations, without pickles."""
    arrays: dict[str, NDArray[Any]] = {}
    for number, layer in enumerate(layers, start=1):
        arrays[f"W_{number}"] = cast(f"W_{number}", layer.weight, dtype)
        if layer.bias is not None:
            arrays[f"b_{number}"] = cast(f"b_{number}", layer.bias, dtype)
    arrays[ACTIVATIONS] = np.array([text_of(layer.activation) for layer in layers])

    save: Any = np.savez  # its allow_pickle=False is new in NumPy 2.2; here nothing is an object

    def write(stream: BinaryIO) -> None:
        save(stream, **arrays)
        with zipfile.ZipFile(stream, "a") as archive:
            archive.comment = EXPORTED

    write_atomically(path, write)


def from_npz(
    path: PathLike,
    activation: Names | None = None,
    output_activation: str | Activation | None = None,
) -> tuple[MLP, NDArray[np.float64]]:
    """Read a network from plain arrays W_1, b_1, W_2, ...; `load_model` reads model files.

    Parameters
    ----------
    path : path-like
        An ``.npz`` file without pickles: W_l of shape (n_l, n_{l-1}), b_l of shape (n_l,) or
        absent, or arrays under the names of a state dict; optionally ``activations``.
    activation : str, Activation, or sequence of them, optional
        Activation of the hidden layers; by default the names in the file.
    output_activation : str or Activation, optional
        By default the name in the file, else the identity.

    Returns
    -------
    net : MLP
    theta : ndarray, shape (n_params,), float64

    Raises
    ------
    ValueError
        If there is no such file, it holds other arrays, the shapes do not chain, or the activation
        is not known.
    OSError
        If it cannot be opened.
    """
    file = require_file(path)
    arrays = read_archive(file)
    named = arrays.pop(ACTIVATIONS, None)
    try:
        if named is not None:
            if named.ndim != 1 or named.dtype.kind != "U" or named.size == 0:
                raise ValueError("'activations' must hold one name a layer")
            names = [str(name) for name in named]
            activation = names[:-1] if activation is None else activation
            output_activation = names[-1] if output_activation is None else output_activation
        if activation is None:
            if sum(array.ndim == 2 for array in arrays.values()) > 1:
                raise ValueError("the file does not name the activation: give it")
            activation = "identity"  # of no hidden layer
        output = "identity" if output_activation is None else output_activation
        return network_of(*layers_of(arrays, activation, output))
    except ValueError as error:
        raise ArchiveError(f"{file}: {error}") from None


def write_csv(path: PathLike, layers: Sequence[Dense], dtype: np.dtype[Any]) -> None:
    """Write one weight a line: layer, unit (both from 1), input (or ``bias``), value in full."""
    lines = ["layer,unit,input,value"]
    for number, layer in enumerate(layers, start=1):
        weight = cast(f"W_{number}", layer.weight, dtype)
        for unit, row in enumerate(weight, start=1):
            lines += [f"{number},{unit},{j},{value!s}" for j, value in enumerate(row, start=1)]
            if layer.bias is not None:
                bias = cast(f"b_{number}", layer.bias, dtype)[unit - 1]
                lines.append(f"{number},{unit},bias,{bias!s}")
    text = "\n".join(lines) + "\n"
    write_atomically(path, lambda stream: _write_text(stream, text))


def _write_text(stream: BinaryIO, text: str) -> None:
    stream.write(text.encode())
