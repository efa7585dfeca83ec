"""Export of a network in the format of the suffix of the file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from fastggn.model.interchange.chain import as_dtype, raw_chain, scales
from fastggn.model.interchange.conversions import to_onnx
from fastggn.model.interchange.npz import write_csv, write_npz
from fastggn.model.interchange.state_dict import write_state_dict
from fastggn.network.mlp import MLP
from fastggn.runtime.atomic_files import PathLike
from fastggn.runtime.errors import suggest

_FOLDED = {".pt": write_state_dict, ".pth": write_state_dict, ".npz": write_npz, ".csv": write_csv}
SUFFIXES = (".onnx", *_FOLDED)


def export(
    path: PathLike,
    net: MLP,
    theta: ArrayLike,
    metadata: Mapping[str, Any] | None = None,
    dtype: Any = "float64",
    *,
    probabilities: bool = False,
) -> None:
    """Write a model for other programs: raw inputs in, raw outputs out.

    Parameters
    ----------
    path : path-like
        ``.onnx``; ``.pt`` or ``.pth`` (a state dict of ``Sequential(Linear, activation, ...)``);
        ``.npz`` (W_1, b_1, ..., and the names of the activations); ``.csv`` (a weight a line).
    net : MLP
    theta : array_like, shape (n_params,)
    metadata : mapping, optional
        The metadata of `load_model`. Their scaling becomes part of the model; an ``.onnx`` file
        also keeps the names of the columns and the classes.
    dtype : str or dtype
        float64 or float32.
    probabilities : bool
        Let an ``.onnx`` model end in the softmax or the sigmoids of its loss
        (softmax_cross_entropy or logistic).

    Raises
    ------
    ValueError
        If the suffix is unknown, the format cannot hold the network, or an entry is too large
        for the type.
    OSError
        If the file cannot be written.
    ImportError
        If an extra is missing.

    Examples
    --------
    >>> import os, tempfile
    >>> import fastggn as fg
    >>> from fastggn import interchange
    >>> net = fg.MLP((2, 3, 1))
    >>> path = os.path.join(tempfile.mkdtemp(), "weights.npz")
    >>> interchange.export(path, net, net.init(seed=0))
    >>> interchange.from_npz(path)[0]
    MLP((2, 3, 1), activation=['tanh'], output_activation='identity', bias='free')
    """
    file = Path(path)
    suffix = file.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{file}: {_fault(suffix)} (known: {', '.join(SUFFIXES)})")
    known = metadata or {}
    kind = as_dtype(dtype)
    scaling = scales(known)
    if suffix == ".onnx":
        link = _link(known) if probabilities else None
        to_onnx(
            net, theta, path, kind, **scaling, probabilities=link, properties=_properties(known)
        )
        return
    if probabilities:
        raise ValueError(f"{file}: probabilities go with .onnx; other formats hold the layers")
    _FOLDED[suffix](path, raw_chain(net, theta, **scaling, dtype=kind), kind)


def _link(metadata: Mapping[str, Any]) -> str:
    """Return the function from the outputs of a classifier to probabilities."""
    loss = metadata.get("loss")
    name = loss.get("name") if isinstance(loss, Mapping) else None
    links = {"softmax_cross_entropy": "softmax", "logistic": "sigmoid"}
    if name not in links:
        raise ValueError(
            f"probabilities need a model of the loss {' or '.join(links)}, not of {name}"
        )
    return links[name]


def _properties(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Return the facts about the samples for an .onnx file, as JSON."""
    samples = metadata.get("samples")
    known = samples if isinstance(samples, Mapping) else {}
    kept = {key: known.get(key) for key in ("inputs", "targets", "classes")}
    return {key: json.dumps(value) for key, value in kept.items() if value is not None}


def _fault(suffix: str) -> str:
    if not suffix:
        return "the name needs a suffix, which says what is written"
    return f"unknown kind of file {suffix!r}{suggest(suffix, SUFFIXES)}"
