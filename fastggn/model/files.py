"""Model files: weights, architecture and metadata, sealed with a checksum."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.model.saving import ModelFileError
from fastggn.network.activations import Activation
from fastggn.network.mlp import MLP
from fastggn.runtime.archive import ArchiveError, plain, read_sealed, write_sealed
from fastggn.runtime.errors import as_float_vector


def save_model(path: str | os.PathLike[str], net: MLP, theta: ArrayLike, **metadata: Any) -> None:
    """Write a network and its weights to a file.

    The file is an ``.npz`` archive without pickles that holds theta, a description of the network
    and the metadata as JSON, under a SHA-256 over all bytes. It is replaced in one step: a crash
    leaves the old file or the new one.

    Parameters
    ----------
    path : path-like
        The file, by convention ``.npz``; no suffix is added.
    net : MLP
        The network. Custom activations are stored by name only.
    theta : array_like, shape (n_params,)
        Its parameters, finite.
    **metadata
        Dicts, lists, strings, numbers, booleans and None. Arrays come back as lists. NaN and
        infinities are kept, in the common extension of JSON.

    Raises
    ------
    TypeError
        If the metadata hold another type, or theta does not hold real numbers.
    ValueError
        If theta has the wrong shape or is not finite, or `path` is a folder or a device.
    OSError
        If the folder is missing or not writable, or the disk is full.

    Examples
    --------
    >>> import os, tempfile
    >>> import fastggn as fg
    >>> net = fg.MLP((2, 3, 1))
    >>> path = os.path.join(tempfile.mkdtemp(), "model.npz")
    >>> fg.save_model(path, net, net.init(seed=0), note="untrained")
    >>> loaded, theta, metadata = fg.load_model(path)
    >>> loaded.widths, theta.shape, metadata
    ((2, 3, 1), (13,), {'note': 'untrained'})
    """
    content = {
        "theta": as_float_vector("theta", theta, net.n_params),
        "network": net.to_config(),
        "metadata": json.loads(json.dumps(metadata, default=plain)),
    }
    write_sealed(path, "model", content)


def load_model(
    path: str | os.PathLike[str], activations: Mapping[str, Activation] | None = None
) -> tuple[MLP, NDArray[np.float64], dict[str, Any]]:
    """Read a file of `save_model`.

    Parameters
    ----------
    path : path-like
    activations : mapping of str to Activation, optional
        The custom activations of the network by name: a file never holds code.

    Returns
    -------
    net : MLP
    theta : ndarray, shape (n_params,), float64
    metadata : dict
        The metadata that `save_model` was given.

    Raises
    ------
    MissingFileError
        If there is no such file (a ``FileNotFoundError`` and a ``ValueError``).
    ModelFileError
        If it is cut, altered, foreign, pickled, of another version, or needs a custom
        activation that is not given (a ``ValueError``).
    OSError
        If it cannot be opened.
    """
    try:
        content = read_sealed(path, "model")
    except ArchiveError as error:
        raise ModelFileError(str(error)) from None
    network, metadata = content.get("network"), content.get("metadata")
    if not isinstance(network, dict) or not isinstance(metadata, dict):
        raise ModelFileError(f"{path}: the file lacks the network or the metadata")
    try:
        net = MLP.from_config(network, activations)
        theta = as_float_vector("theta", content["theta"], net.n_params)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path}: {error}") from error
    return net, theta, metadata
