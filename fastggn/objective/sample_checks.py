"""Checks of targets, weights, gates and row indices, and of the agreement of all ranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.data.sources import StreamedTargets, is_streamed
from fastggn.network.losses.base import Loss
from fastggn.network.mlp import MLP
from fastggn.runtime.comm import Comm
from fastggn.runtime.errors import as_float_vector, unknown_name

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


def prepared_targets(
    loss: Loss,
    Y: Any,
    n_samples: int,
    n_outputs: int,
    also: Callable[[int, NDArray[Any]], None] | None = None,
) -> FloatArray | StreamedTargets:
    """Return checked targets: an array, or rows of a file after one pass with `also`."""
    if not is_streamed(Y):
        return loss.prepare_targets(Y, n_samples, n_outputs)
    if np.dtype(Y.dtype).kind not in "fiub":
        raise TypeError(f"Y must hold real numbers, got dtype {Y.dtype}")
    if not 1 <= len(Y.shape) <= 2 or Y.shape[0] != n_samples:
        raise ValueError(
            f"Y must have one row for each of the {n_samples} samples, got shape {tuple(Y.shape)}"
        )
    targets = StreamedTargets(Y, lambda rows, count: loss.prepare_targets(rows, count, n_outputs))
    targets.check(also)
    return targets


def checked_weights(weights: ArrayLike | None, n_samples: int) -> FloatArray | None:
    """Return the sample weights of this process, non-negative, or None."""
    if weights is None:
        return None
    checked = as_float_vector("sample_weight", weights, n_samples)
    if (checked < 0).any():
        index = int(np.argmax(checked < 0))
        raise ValueError(f"sample_weight[{index}] is {checked[index]}; weights must be >= 0")
    return checked


def balance(shares: FloatArray, comm: Comm) -> None:
    """Divide weights by target, in place, by their mean over all ranks."""
    total = comm.total(float(shares.sum()))
    if not 0.0 < total < np.inf:
        raise ValueError("sample_weight is zero for every target, or its sum overflows")
    # All weights equal to one give the objective without weights.
    shares *= comm.total(float(shares.size)) / total


def checked_rows(rows: ArrayLike, n_samples: int) -> NDArray[np.intp]:
    """Return the indices of samples from indices or a mask."""
    array = np.asarray(rows)
    if array.dtype == np.bool_ and array.shape == (n_samples,):
        array = np.flatnonzero(array)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"rows must be a vector of indices, not empty, got {array.shape}")
    if array.dtype.kind not in "iu":
        raise TypeError(
            f"rows must hold integers, or be a mask of shape ({n_samples},), "
            f"got dtype {array.dtype} of shape {array.shape}"
        )
    outside = (array < -n_samples) | (array >= n_samples)
    if outside.any():
        first = int(np.argmax(outside))
        raise ValueError(f"rows[{first}] is {array[first]}, out of range for {n_samples} samples")
    return array.astype(np.intp)


def checked_gates(gates: Sequence[ArrayLike], net: MLP, n_samples: int) -> BoolArray:
    """Return the gates of all hidden layers side by side, shape (T, hidden units)."""
    layers = [np.asarray(g) for g in gates]
    if len(layers) != net.n_layers - 1:
        raise ValueError(f"gates must hold {net.n_layers - 1} arrays, got {len(layers)}")
    for number, (layer, width) in enumerate(zip(layers, net.widths[1:], strict=False)):
        if layer.shape != (n_samples, width):
            raise ValueError(
                f"gates[{number}] must have shape ({n_samples}, {width}), got {layer.shape}"
            )
        if layer.dtype.kind not in "fiub":
            raise TypeError(f"gates[{number}] must hold 0 and 1, got dtype {layer.dtype}")
        if not np.isin(layer, (0, 1)).all():
            raise ValueError(f"gates[{number}] must hold 0 and 1 only")
    joined = np.concatenate(layers, axis=1) if layers else np.zeros((n_samples, 0))
    return np.ascontiguousarray(joined, dtype=np.bool_)


def check_kinds(net: MLP, curvature: str) -> None:
    """Raise unless `net` is a network, and the name of the curvature of the loss is valid."""
    if not isinstance(net, MLP):
        raise TypeError(f"net must be an MLP, not {type(net).__name__}")
    if curvature not in ("psd", "exact"):
        raise unknown_name("curvature", curvature, ("psd", "exact"))


def shared_parts(
    net: MLP, loss: Loss, weights: FloatArray | None, gates: BoolArray | None
) -> dict[str, object]:
    """Return the parts of a problem on which all ranks agree."""
    given = {"sample_weight": weights is not None, "gates": gates is not None}
    return {"call": "Problem", "net": net.to_config(), "loss": loss.to_config(), **given}


def check_total(comm: Comm, weights: FloatArray | None) -> None:
    """Check that the sum of the weights of all ranks is valid."""
    if weights is None:
        return
    total = comm.total(weights.sum())
    if total == 0:
        raise ValueError("sample_weight is zero for every sample")
    if not np.isfinite(total):
        raise ValueError("the sum of sample_weight overflows")
