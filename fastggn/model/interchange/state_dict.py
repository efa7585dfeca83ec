"""State dicts of PyTorch in files, read without running code."""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.model.interchange.chain import network_of
from fastggn.model.interchange.extras import require
from fastggn.model.interchange.facts import described
from fastggn.model.interchange.names import (
    ACTIVATIONS,
    KEPT,
    Names,
    layers_of,
    refuse_normalisation,
)
from fastggn.model.model import Model
from fastggn.network.activations import Activation
from fastggn.runtime.archive import ArchiveError, require_file
from fastggn.runtime.atomic_files import PathLike

# Where training scripts put the state dict inside a larger dictionary.
WRAPPERS = ("state_dict", "model_state_dict")


def read_state_dict(
    path: PathLike,
    activation: Names | None = None,
    output_activation: str | Activation | None = None,
) -> Model:
    """Read a model from a file of ``torch.save(model.state_dict(), path)``.

    The file is loaded with ``weights_only=True``: it can hold tensors and plain containers, and
    no code in it runs.

    Parameters
    ----------
    path : path-like
        The file. The state dict may also stand under ``state_dict`` or ``model_state_dict``.
    activation : str, Activation, or sequence of them, optional
        Activation of the hidden layers: a name, ``leaky_relu:0.2`` for another slope than 0.01,
        an `Activation`, or one for each layer. Only a file of `Model.export` contains it.
    output_activation : str or Activation, optional
        By default the one of a file of `Model.export`, else the identity.

    Returns
    -------
    Model
        The stored weights in float64, exactly, with free biases, or without biases if the file
        has none; from a file of `Model.export` also the names of columns and classes.

    Raises
    ------
    MissingFileError
        If there is no such file.
    ArchiveError
        If it is no file of torch, holds other objects than tensors or other layers than linear
        ones, or the shapes do not chain (a ``ValueError``).
    ImportError
        If torch is not installed (extra ``torch``).
    """
    file = require_file(path)
    torch = require("torch", "torch", f"{file}: reading it")
    content = _load(torch, file)
    for key in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    try:
        facts = dict(getattr(content, KEPT, {}))
        names = facts.pop(ACTIVATIONS, None)
        if activation is None:
            if names is None:
                raise ValueError("a state dict does not tell the activation: give it")
            activation = names[:-1]
        output = output_activation or (names[-1] if names else "identity")
        arrays = arrays_of(torch, content, file.stat().st_size)
        net, theta = network_of(*layers_of(arrays, activation, output))
        return Model(net, theta, *described(net.n_inputs, net.n_outputs, facts))
    except (TypeError, ValueError) as error:
        raise ArchiveError(f"{file}: {error}") from None


def _check_archive(file: Path) -> None:
    """Refuse files that torch reads in other ways, or that claim more bytes than they have."""
    size = file.stat().st_size
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, struct.error, ValueError, NotImplementedError) as error:
        raise ArchiveError(
            f"{file}: not a file of torch.save, of torch 1.6 or newer ({_first_line(error)})"
        ) from None
    if any(member.filename.rpartition("/")[2] == "constants.pkl" for member in members):
        raise ArchiveError(
            f"{file}: a TorchScript archive, which holds code; save the weights alone: "
            "torch.save(model.state_dict(), path)"
        )
    if sum(member.file_size for member in members) > size:
        raise ArchiveError(f"{file}: claims more bytes than it has, or is compressed")


def _load(torch: Any, file: Path) -> Any:
    """Load a file without running code."""
    _check_archive(file)
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ArchiveError(
            f"{file}: holds Python objects other than tensors, which are never loaded, or is "
            f"damaged; save the weights alone: torch.save(model.state_dict(), path) "
            f"({_first_line(error)})"
        ) from None
    except (
        RuntimeError, ValueError, LookupError, EOFError, AttributeError, TypeError, SyntaxError,
        MemoryError, OverflowError, AssertionError, ImportError, OSError, struct.error,
        zipfile.BadZipFile,
    ) as error:  # fmt: skip
        # Damaged files: torch has no one error for them.
        raise ArchiveError(
            f"{file}: not a readable state dict of torch ({_first_line(error)})"
        ) from None


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].strip()[:200]


def arrays_of(
    torch: Any, content: Any, most_bytes: int | None = None
) -> dict[str, NDArray[np.float64]]:
    """Return the tensors of a state dict as float64 arrays."""
    if not isinstance(content, Mapping):
        raise TypeError(
            f"expected a state dict, a mapping of names to tensors, got {type(content).__name__}"
        )
    refuse_normalisation(content)
    arrays = {}
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise TypeError(
                f"expected a state dict, a mapping of names to tensors; {name!r} holds "
                f"{type(tensor).__name__}"
            )
        arrays[name] = array_of(torch, name, tensor, most_bytes)
        if most_bytes is not None:  # tensors may share their bytes, and each becomes an array
            most_bytes -= tensor.numel() * tensor.element_size()
    return arrays


def array_of(
    torch: Any, name: str, tensor: Any, most_bytes: int | None = None
) -> NDArray[np.float64]:
    """Return a tensor as a float64 array; float16, bfloat16 and float32 convert exactly."""
    if not tensor.is_floating_point() or tensor.layout != torch.strided or tensor.is_meta:
        raise TypeError(
            f"{name!r} must be a dense tensor of real numbers, got {tensor.dtype} "
            f"({tensor.layout}, on {tensor.device})"
        )
    if most_bytes is not None and tensor.numel() * tensor.element_size() > most_bytes:
        raise ValueError(f"{name!r} claims shape {tuple(tensor.shape)}, more than the file holds")
    return np.asarray(tensor.detach().to(device="cpu", dtype=torch.float64).numpy())
