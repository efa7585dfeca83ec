"""Export of a model in the format of the suffix of the file."""

from __future__ import annotations

import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fastggn.model.interchange.chain import Dense, as_dtype, cast, raw_chain
from fastggn.model.interchange.extras import require
from fastggn.model.interchange.facts import facts_of
from fastggn.model.interchange.names import ACTIVATIONS, KEPT, text_of
from fastggn.model.interchange.onnx import write_onnx
from fastggn.runtime.archive import EXPORTED
from fastggn.runtime.atomic_files import PathLike, write_atomically
from fastggn.runtime.errors import suggest

SUFFIXES = (".onnx", ".pt", ".pth", ".npz", ".csv")
Facts = Mapping[str, Sequence[str]]


def export(
    path: PathLike, model: Any, dtype: Any = "float64", *, probabilities: bool = False
) -> None:
    """Write a model for other programs; see `Model.export`."""
    file = Path(path)
    suffix = file.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{file}: {_fault(suffix)} (known: {', '.join(SUFFIXES)})")
    kind = as_dtype(dtype)
    if suffix == ".onnx":
        write_onnx(path, model, kind, probabilities=probabilities)
        return
    if probabilities:
        raise ValueError(f"{file}: probabilities go with .onnx; other formats hold the layers")
    _FOLDED[suffix](path, raw_chain(model, kind), kind, facts_of(model))


def write_npz(path: PathLike, layers: Sequence[Dense], dtype: np.dtype[Any], facts: Facts) -> None:
    """Write W_l (n_l, n_{l-1}), b_l (n_l,), the activations and the facts, without pickles."""
    arrays: dict[str, NDArray[Any]] = {}
    for number, layer in enumerate(layers, start=1):
        arrays[f"W_{number}"] = cast(f"W_{number}", layer.weight, dtype)
        if layer.bias is not None:
            arrays[f"b_{number}"] = cast(f"b_{number}", layer.bias, dtype)
    arrays[ACTIVATIONS] = np.array([text_of(layer.activation) for layer in layers])
    arrays |= {name: np.array(values) for name, values in facts.items()}

    save: Any = np.savez  # its allow_pickle=False is new in NumPy 2.2; here nothing is an object

    def write(stream: BinaryIO) -> None:
        save(stream, **arrays)
        with zipfile.ZipFile(stream, "a") as archive:
            archive.comment = EXPORTED

    write_atomically(path, write)


def write_state_dict(
    path: PathLike, layers: Sequence[Dense], dtype: np.dtype[Any], facts: Facts
) -> None:
    """Write layers as the state dict of ``Sequential(Linear, activation, Linear, ...)``."""
    torch = require("torch", "torch", f"{path}: writing it")
    tensors: OrderedDict[str, Any] = OrderedDict()
    for k, layer in enumerate(layers):
        place = f"{2 * k}"  # the activations stand between the layers
        weight = cast(f"{place}.weight", layer.weight, dtype)
        tensors[f"{place}.weight"] = torch.from_numpy(weight)
        if layer.bias is not None:
            tensors[f"{place}.bias"] = torch.from_numpy(cast(f"{place}.bias", layer.bias, dtype))
    names = [text_of(layer.activation) for layer in layers]
    setattr(tensors, KEPT, {ACTIVATIONS: names, **facts})

    def write(stream: BinaryIO) -> None:
        torch.save(tensors, stream)
        with zipfile.ZipFile(stream, "a") as archive:
            archive.comment = EXPORTED

    write_atomically(path, write)


def write_csv(path: PathLike, layers: Sequence[Dense], dtype: np.dtype[Any], _: Facts) -> None:
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


_FOLDED = {".pt": write_state_dict, ".pth": write_state_dict, ".npz": write_npz, ".csv": write_csv}


def _fault(suffix: str) -> str:
    if not suffix:
        return "the name needs a suffix, which says what is written"
    return f"unknown kind of file {suffix!r}{suggest(suffix, SUFFIXES)}"
