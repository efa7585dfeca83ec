"""Tell a finite stationary point from a point on the way to infinity."""

from __future__ import annotations

import numpy as np

from fastggn.analysis.critical.spectrum import STIFF, Spectrum, dense_spectrum
from fastggn.analysis.critical.surface import Surface, Vector
from fastggn.runtime.rank0 import everywhere
from fastggn.training.step import norm

LONG_PATH = 1.0  # Newton steps of this total length lead to no stationary point nearby
LONGEST = 2.0  # of one step
STEPS = 5
GROWTH = 0.2  # of theta, as a share of the path
FALL = 0.4  # factor of the gradient
SATURATED = 1e-5  # largest derivative of a saturated unit
VISIBLE = 20.0  # |z| at which the derivative is small but no rounding error
# Factors of a saturated unit's weights: inward the gradient must rise by STEEPER each time.
INWARD = (0.85, 0.7)
OUTWARD = (1.5, 2.0, 4.0)
STEEPER = 5.0
UNCANCELLED = 1e-2  # share of its terms that a slope at a proved minimum has at most


def escapes_along_newton(
    surface: Surface, theta: Vector, gradient: Vector, spectrum: Spectrum
) -> str | None:
    """Return why theta is on the way to infinity, or None."""
    # Near a finite stationary point Newton steps shrink with the gradient. Where units saturate,
    # gradient and curvature fall together like exp(-|w|), and the steps keep their length.
    here, path, first = theta, 0.0, norm(gradient)
    for _ in range(STEPS):
        step = -spectrum.solve(gradient, spectrum.floor)
        length = min(norm(step), LONGEST)
        if length < 0.1 * LONG_PATH:
            return None
        path += length
        here = here + step * (length / norm(step))
        spectrum = dense_spectrum(surface, here)
        # A long step disturbs the gradient in the stiff directions: correct it there.
        stiff = max(STIFF * spectrum.norm, spectrum.floor)
        here = here - spectrum.solve(surface.gradient(here), stiff)
        gradient = surface.gradient(here)
        grown, last = norm(here) - norm(theta), norm(gradient)
        if path >= LONG_PATH and grown >= GROWTH * path and last <= FALL * first:
            return (
                "the gradient tends to zero only as theta grows: along Newton steps of length "
                f"{path:.2g} in all it falls from {first:.1e} to {last:.1e}, and |theta| grows "
                f"from {norm(theta):.4g} to {norm(here):.4g}"
            )
    return None


def saturated_unit(surface: Surface, theta: Vector, loss: float) -> str | None:
    """Return why theta is on a plateau at infinity, where Newton steps may see nothing, or None."""
    noise, size = surface.rounding(theta), norm(surface.gradient(theta))
    for layer, unit, smallest in saturated_units(surface, theta):
        # Move inward until an underflowed derivative is visible.
        visible = min(1.0, VISIBLE / smallest)

        def along(
            scale: float, layer: int = layer, unit: int = unit, visible: float = visible
        ) -> Vector:
            out = theta.copy()
            net = surface.problem.network
            net.unpack(out[: net.n_params])[layer][unit] *= scale * visible
            return np.asarray(out)

        start = size if visible == 1.0 else norm(surface.gradient(along(1.0)))
        allowed = noise + max(size, start) * norm(theta)
        if any(abs(surface.loss(along(s)) - loss) > allowed for s in (1.0, *OUTWARD)):
            continue
        if norm(surface.gradient(along(OUTWARD[-1]))) > start + 1e-16:
            continue
        slopes = [norm(surface.gradient(along(s))) for s in INWARD]
        if slopes[0] > STEEPER * start and slopes[1] > STEEPER * slopes[0]:
            return (
                f"unit {unit + 1} of layer {layer + 1} is saturated for all samples: with its "
                f"weights times {INWARD[1] * visible:.2g} the gradient is {slopes[1]:.1e} "
                f"instead of {size:.1e}, with {OUTWARD[-1]:.0f} times them nothing changes"
            )
    return None


def vanishes(surface: Surface, theta: Vector, share: float) -> bool:
    """Return whether slopes are small since their terms are, and not since the terms cancel.

    `share` is the largest share of a slope in its terms. Derivatives of saturated units underflow.
    """
    return share > UNCANCELLED or bool(saturated_units(surface, theta))


@everywhere
def saturated_units(surface: Surface, theta: Vector) -> list[tuple[int, int, float]]:
    """Return (layer, unit, least |z|) of bounded units with a tiny derivative for all samples."""
    net = surface.problem.network
    if not {"sigmoid", "tanh"} & {a.name for a in net.activations}:
        return []
    found = []
    for layer, z in enumerate(surface.preactivations_by_layer(theta)):
        activation = net.activations[layer]
        if activation.name in ("sigmoid", "tanh"):
            steepest = activation.derivative(z).max(axis=1, initial=0.0)
            slopes = surface.comm.largest(steepest)
            nearest = surface.comm.least(np.abs(z).min(axis=1, initial=np.inf))
            for unit in np.flatnonzero(slopes <= SATURATED):
                found.append((layer, int(unit), float(nearest[unit])))
    return found
