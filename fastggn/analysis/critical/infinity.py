"""Tell a finite stationary point from a point on the way to infinity."""

from __future__ import annotations

import numpy as np

from fastggn.analysis.critical.spectrum import Spectrum, dense_spectrum
from fastggn.analysis.critical.surface import Surface, Vector
from fastggn.training.moves import norm

__all__ = ["escapes_along_newton", "flat_at_infinity"]

# A Newton step this long, however small the gradient, finds no stationary point nearby ...
LONG_STEP = 0.1
# ... and no longer steps are taken. Over so many of them the gradient must fall by this factor
# each, while the steps stay long and theta grows.
LONGEST = 2.0
STEPS = 5
FALL = 0.7
# Scales by which the weights are multiplied towards the origin, and away from it.
INWARD = (0.7, 0.85)
OUTWARD = (1.2, 1.5, 2.0, 4.0)
STEEPER = 10.0


def escapes_along_newton(
    surface: Surface, theta: Vector, gradient: Vector, spectrum: Spectrum
) -> str | None:
    """Return why theta is on the way to infinity, or None.

    At a finite stationary point the Newton step for gradient = 0 is about as short as the
    gradient is small, and further steps shrink. Where units saturate, gradient and curvature
    fall together, like exp(-|w|): the steps keep a length of order 1 for ever, and gradient = 0
    is met at infinity only. Both are seen by taking a few of the steps.
    """
    here, size, first = theta, norm(gradient), norm(gradient)
    step = -spectrum.solve(gradient)
    for _ in range(STEPS):
        length = norm(step)
        if not length >= LONG_STEP:
            return None
        here = here + step * min(1.0, LONGEST / length)
        gradient = surface.gradient(here)
        if not norm(gradient) <= FALL * size:
            return None
        size = norm(gradient)
        step = -dense_spectrum(surface, here).solve(gradient)
    if norm(here) <= norm(theta) + LONG_STEP:
        return None
    return (
        f"the gradient tends to zero only as theta grows: over {STEPS} Newton steps it falls "
        f"from {first:.1e} to {size:.1e}, |theta| grows from {norm(theta):.4g} to "
        f"{norm(here):.4g}, and the steps do not shrink"
    )


def flat_at_infinity(surface: Surface, theta: Vector, loss: float) -> str | None:
    """Return why theta is on a plateau at infinity, or None.

    Where everything has saturated to the last digit, Newton steps see nothing. Then the weights
    into bounded units are scaled: towards the origin the gradient rises steeply and the loss
    changes, away from it the loss stays what it is, within rounding, and no gradient returns.
    """
    net = surface.problem.network
    saturating = [a.name in ("sigmoid", "tanh") for a in net.activations]
    if not any(saturating):
        return None
    noise, size = surface.rounding(theta), norm(surface.gradient(theta))
    for chosen in _choices(saturating):
        ray = [_scaled(surface, theta, chosen, s) for s in (*INWARD, *OUTWARD)]
        outward = ray[len(INWARD) :]
        if any(abs(surface.loss(x) - loss) > noise for x in outward):
            continue
        if norm(surface.gradient(outward[-1])) > size + 1e-16:
            continue
        slopes = [norm(surface.gradient(x)) for x in ray[: len(INWARD)]]
        rises = slopes[1] > STEEPER * size and slopes[0] > STEEPER * slopes[1]
        if rises and abs(surface.loss(ray[0]) - loss) > noise:
            return (
                f"units are saturated: with the weights of layer {chosen[0] + 1} times "
                f"{INWARD[0]} the gradient is {slopes[0]:.1e} instead of {size:.1e}, with "
                f"{OUTWARD[-1]} times them the loss is the same within rounding"
            )
    return None


def _choices(saturating: list[bool]) -> list[tuple[int, ...]]:
    layers = tuple(index for index, bounded in enumerate(saturating) if bounded)
    return [(index,) for index in layers] + ([layers] if len(layers) > 1 else [])


def _scaled(surface: Surface, theta: Vector, chosen: tuple[int, ...], scale: float) -> Vector:
    """Return theta with the weights of the chosen layers scaled."""
    out = theta.copy()
    layers = surface.problem.network.unpack(out)
    for index in chosen:
        layers[index] *= scale
    return np.asarray(out)
