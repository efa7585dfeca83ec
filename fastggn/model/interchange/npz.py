"""Plain arrays W_1, b_1, W_2, b_2, ... of an .npz file as models."""

from __future__ import annotations

from fastggn.model.interchange.chain import network_of
from fastggn.model.interchange.facts import FACTS, described
from fastggn.model.interchange.names import ACTIVATIONS, Names, layers_of
from fastggn.model.model import Model
from fastggn.network.activations import Activation
from fastggn.runtime.archive import ArchiveError, read_archive, require_file
from fastggn.runtime.atomic_files import PathLike


def from_npz(
    path: PathLike,
    activation: Names | None = None,
    output_activation: str | Activation | None = None,
) -> Model:
    """Read a model from plain arrays W_1, b_1, W_2, ...; `Model.load` reads model files.

    Parameters
    ----------
    path : path-like
        An ``.npz`` file without pickles: W_l of shape (n_l, n_{l-1}), b_l of shape (n_l,) or
        absent, or arrays under the names of a state dict; optionally ``activations``, and the
        names of ``inputs``, ``targets``, ``classes`` and the ``loss`` (squared by default).
    activation : str, Activation, or sequence of them, optional
        Activation of the hidden layers; by default the names in the file.
    output_activation : str or Activation, optional
        By default the name in the file, else the identity.

    Returns
    -------
    Model

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
    texts = {name: arrays.pop(name) for name in (ACTIVATIONS, *FACTS) if name in arrays}
    try:
        for name, array in texts.items():
            if array.ndim != 1 or array.dtype.kind != "U" or array.size == 0:
                raise ValueError(f"{name!r} must hold names")
        facts = {name: array.tolist() for name, array in texts.items()}
        names = facts.pop(ACTIVATIONS, None)
        if names is not None:
            activation = names[:-1] if activation is None else activation
            output_activation = names[-1] if output_activation is None else output_activation
        if activation is None:
            if sum(array.ndim == 2 for array in arrays.values()) > 1:
                raise ValueError("the file does not name the activation: give it")
            activation = "identity"  # of no hidden layer
        output = "identity" if output_activation is None else output_activation
        net, theta = network_of(*layers_of(arrays, activation, output))
        return Model(net, theta, *described(net.n_inputs, net.n_outputs, facts))
    except ValueError as error:
        raise ArchiveError(f"{file}: {error}") from None
