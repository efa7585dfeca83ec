"""The unit of a problem's targets: where it is far from 1, first weights and runs have it too."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fastggn.data.scaler import Moments
from fastggn.data.sources import StreamedTargets
from fastggn.network.losses.base import Loss
from fastggn.network.losses.output_weights import OutputWeighted
from fastggn.network.losses.separable import (
    BlakeZisserman,
    Cauchy,
    Huber,
    SeparableLoss,
    SmoothLp,
    Squared,
)
from fastggn.network.mlp import MLP
from fastggn.objective.column_moments import ColumnMoments
from fastggn.runtime.comm import Comm

FloatArray = NDArray[np.float64]

# Deviations within this factor of 1 have the unit 1: the usual runs stay as they are.
USUAL = 16.0
# A unit has so many binary digits, so that the order of a sum does not change it.
DIGITS = 20
SQUARED = 1e150  # the scale of a loss is squared: numbers up to this one can be
CONSTANT = 1e-13  # deviation over mean: rounding of one repeated value


def output_units(
    net: MLP,
    loss: Loss,
    targets: FloatArray | StreamedTargets,
    weights: FloatArray | None,
    seen: Moments | None,
    comm: Comm,
) -> FloatArray:
    """Return the unit of each output's targets, shape (n_L,): 1 where it is usual (collective).

    `seen` holds the moments of targets in a file, weights those of the samples.
    """
    n = net.n_outputs
    free = net.activations[-1].name == "identity" and isinstance(net.bias, str)
    if not (free and isinstance(loss, SeparableLoss)):
        return np.ones(n)
    if isinstance(targets, np.ndarray):
        own = _moments(targets, weights, n)
    else:
        own = [Moments(n) if seen is None else seen]
    parts = comm.gather(own)
    sizes = []
    for k in range(len(own)):
        whole = Moments(parts[0][k].mean.size)
        for part in parts:
            whole.merge(part[k])
        mean, deviation = np.abs(whole.mean), whole.deviation
        sizes.append(np.where(deviation > CONSTANT * mean, deviation, mean))
    return units_of_sizes(np.concatenate(sizes))


def _moments(targets: FloatArray, weights: FloatArray | None, n: int) -> list[Moments]:
    """Return the moments of all targets, or of each output's where some have no weight."""
    own = targets[:, n:]  # the weights of the targets, if each has its own
    if weights is None and not own.shape[1]:
        seen = ColumnMoments(len(targets))  # of the rows that are taken from a file
        seen.see(0, targets)
        return [Moments(n) if seen.moments is None else seen.moments]
    counted = np.broadcast_to(own > 0.0 if own.shape[1] else True, (len(targets), n))
    if weights is not None:
        counted = counted & (weights[:, None] > 0.0)
    columns = [Moments(1) for _ in range(n)]
    for k, found in enumerate(columns):
        found.add(targets[counted[:, k], k][:, None])
    return columns


def units_of_sizes(sizes: FloatArray) -> FloatArray:
    """Return the sizes with `DIGITS` binary digits, or 1 for usual and impossible ones."""
    usual = (sizes >= 1.0 / USUAL) & (sizes <= USUAL)
    mantissa, exponent = np.frexp(sizes)
    units = np.ldexp(np.round(np.ldexp(mantissa, DIGITS)), exponent - DIGITS)
    return np.where(usual | ~np.isfinite(units) | (units == 0.0), 1.0, units)


def in_unit(loss: Loss, unit: float) -> tuple[Loss, float] | None:
    """Return the loss of residuals over `unit`, and the factor to the loss itself, or None."""
    if isinstance(loss, OutputWeighted):
        found = in_unit(loss.unweighted, unit)
        if found is None or not isinstance(found[0], SeparableLoss):
            return None
        return OutputWeighted(found[0]), found[1]
    if type(loss) is Squared:
        return loss, unit * unit
    kind = type(loss)
    if kind not in (Huber, SmoothLp, Cauchy, BlakeZisserman):
        return None
    name = "delta" if kind is Huber else "scale"
    size = getattr(loss, name) / unit
    if not 1.0 / SQUARED < size < SQUARED:
        return None
    return replace(loss, **{name: size}), unit * unit if kind is Huber else 1.0  # type: ignore[type-var]
