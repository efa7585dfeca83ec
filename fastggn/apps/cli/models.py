"""Models for commands: files of ``fastggn train``, and weights from elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from fastggn.apps.cli.progress import plain_warnings
from fastggn.apps.cli.types import NAMES

if TYPE_CHECKING:
    from fastggn.network.mlp import MLP


Model = tuple["MLP", NDArray[np.float64], dict[str, Any]]
F = TypeVar("F", bound=Callable[..., Any])

MODELS = """MODEL is a file of fastggn train, or holds weights from elsewhere, whose activation
--activation names: a state dict of torch (.pt, .pth; read without running code), or plain arrays
W_1, b_1, ... (.npz)."""

TORCH = (".pt", ".pth")
PICKLES = (".pkl", ".pickle", ".joblib", ".sav")

OPTIONS = (
    click.option(
        "--activation", type=NAMES, metavar="NAME",
        help="Of the hidden layers of weights from elsewhere: one for all, or one a layer; "
             "leaky_relu:0.2 for that slope.",
    ),
    click.option("--output-activation", metavar="NAME", help="Of their output layer.  [identity]"),
)  # fmt: skip
L2 = click.option("--l2", type=float, metavar="X", help="The weight decay of their loss.  [0]")


def activation_options(function: F) -> F:
    """Add the options for the activations of weights from elsewhere."""
    for decorate in reversed(OPTIONS):
        function = decorate(function)
    return function


def model_options(function: F) -> F:
    """Add all options for weights from elsewhere, which `read_model` takes."""
    return activation_options(L2(function))


def read_model(
    path: str,
    *,
    activation: tuple[str, ...] | None = None,
    output_activation: str | None = None,
    l2: float | None = None,
) -> Model:
    """Read a model of ``fastggn train``, a state dict of torch, or plain arrays."""
    suffix = Path(path).suffix.lower()
    if suffix in PICKLES:
        raise ValueError(
            f"{path}: pickles run code when they are loaded and are never read; in Python: "
            "net, theta = fg.interchange.from_sklearn(estimator), then fg.save_model"
        )
    if suffix == ".onnx":
        raise ValueError(f"{path}: .onnx files are written (fastggn export), not read")
    given = {"--activation": activation, "--output-activation": output_activation, "--l2": l2}
    with plain_warnings(Console(stderr=True), False):
        return _read(path, suffix, given)


def _read(path: str, suffix: str, given: Mapping[str, Any]) -> Model:
    """Read a model; the suffix and the content of the file decide how."""
    from fastggn.model.files import ModelFileError, load_model

    names, output = given["--activation"], given["--output-activation"]
    if names is not None and len(names) == 1:
        names = names[0]
    if suffix in TORCH:
        from fastggn.model.interchange.state_dict import read_state_dict

        if names is None:
            raise ValueError(f"{path}: a state dict does not tell the activation: --activation")
        net, theta = read_state_dict(path, names, output or "identity")
        return net, theta, _metadata(net, given["--l2"])
    try:
        model = load_model(path)
    except ModelFileError:
        if not holds_weights(path):
            raise
        from fastggn.model.interchange.npz import from_npz

        net, theta = from_npz(path, names, output)
        return net, theta, _metadata(net, given["--l2"])
    for name, value in given.items():
        if value is not None:
            raise ValueError(f"{name} is for weights from elsewhere; {path} holds its own")
    return model


def _metadata(net: MLP, l2: float | None) -> dict[str, Any]:
    classes = [float(k) for k in range(max(2, net.n_outputs))]
    return {"samples": {"classes": classes}, "l2": l2 or 0.0}


def holds_weights(path: str) -> bool:
    """Whether a file is an archive of plain arrays with weights among them."""
    from fastggn.runtime.archive import ArchiveError, read_archive

    try:
        names = read_archive(path)
    except ArchiveError:
        return False
    return any(name.endswith(".weight") or name in ("W_1", "W1", "W_0", "W0") for name in names)
