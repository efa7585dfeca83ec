"""Tell a finite stationary point from a point on the way to infinity."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastggn.analysis.critical.spectrum import STIFF, Spectrum, spectrum_near
from fastggn.analysis.critical.surface import Surface, Vector
from fastggn.runtime.rank0 import everywhere
from fastggn.training.control.separation import CLASSES
from fastggn.training.step import norm

LONG_PATH = 1.0  # Newton steps of this total length lead to no stationary point nearby
LONGEST = 2.0  # of one step
STEPS = 5
GROWTH = 0.2  # of theta, as a share of the path
FALL = 0.4  # factor of the gradient
SATURATED = 1e-5  # largest derivative of a saturated unit
# A derivative of exp(-20) is small, but no rounding error: at this |z|, by the rates of decay.
VISIBLE = 20.0
DECAYS = {"sigmoid": 1.0, "tanh": 2.0}
# Factors of a saturated unit's weights: inward the gradient must rise by STEEPER each time.
INWARD = (0.85, 0.7)
OUTWARD = (1.5, 2.0, 4.0)
STEEPER = 5.0
UNCANCELLED = 1e-2  # share of its terms that a slope at a proved minimum has at most
# Activations with tails, and a slope there, or of a loss on classes, that no Hessian shows. It
# matters where a step of this length along a null vector moves its unit by this share.
TAILED = ("sigmoid", "tanh", "softplus", "swish", "gelu")
LOST, STEP, MOVED = 1e-10, 1e-2, 1e-6
# Shares of theta from which the way to infinity may be seen, after so many corrections in the stiff
# directions. On it the loss falls to at most this share of its height above that of theta.
NEARER, CORRECTIONS = (0.85, 0.7, 0.5), 2
SAME = 0.7


def escapes_along_newton(
    surface: Surface, theta: Vector, gradient: Vector, spectrum: Spectrum
) -> str | None:
    """Return why theta is on the way to infinity, or None."""
    found = _escape(surface, theta, gradient, spectrum)
    if found is None:
        return None
    path, end, last = found
    return (
        "the gradient tends to zero only as theta grows: along Newton steps of length "
        f"{path:.2g} in all it falls from {norm(gradient):.1e} to {last:.1e}, and |theta| grows "
        f"from {norm(theta):.4g} to {norm(end):.4g}"
    )


def _escape(
    surface: Surface, theta: Vector, gradient: Vector, spectrum: Spectrum
) -> tuple[float, Vector, float] | None:
    """Return the length of a path to infinity, its end, and the gradient's norm there, or None."""
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
        seen = spectrum_near(surface, here, None)
        if seen is None:
            return None
        spectrum = seen
        # A long step disturbs the gradient in the stiff directions: correct it there.
        here = _corrected(surface, here, spectrum)
        gradient = surface.gradient(here)
        grown, last = norm(here) - norm(theta), norm(gradient)
        if path >= LONG_PATH and grown >= GROWTH * path and last <= FALL * first:
            return path, here, last
    return None


def _corrected(surface: Surface, theta: Vector, spectrum: Spectrum) -> Vector:
    stiff = max(STIFF * spectrum.norm, spectrum.floor)
    return theta - spectrum.solve(surface.gradient(theta), stiff)


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


def seen_from_nearer(surface: Surface, theta: Vector, loss: float) -> str | None:
    """Return why theta, where slopes are lost, lies on the way to infinity, or None."""
    if surface.bounded:
        return None
    size, noise = norm(surface.gradient(theta)), surface.rounding(theta)
    for share in NEARER:
        near, seen = share * theta, spectrum_near(surface, share * theta, None)
        for _ in range(CORRECTIONS):
            near = theta if seen is None else _corrected(surface, near, seen)
            seen = spectrum_near(surface, near, None)
        above, gradient = surface.both(near)
        found = None if seen is None else _escape(surface, near, gradient, seen)
        if found is None or not norm(gradient) > STEEPER * size:
            continue
        fallen = surface.loss(found[1])
        if loss - noise <= fallen <= loss + SAME * (above - loss) + noise:
            return (
                f"near {share:.2g} theta, where slopes can be seen, the gradient is "
                f"{norm(gradient):.1e} and tends to zero only as theta grows, while the loss falls "
                f"to that of theta, {loss * surface.worth:.6g}"
            )
    return None


def vanishes(surface: Surface, theta: Vector, share: float, null: Vector) -> bool:
    """Return whether slopes are small since their terms are, and not since the terms cancel.

    `share` is the largest share of a slope, beyond its rounding, in its terms, and `null` a random
    null vector of the Hessian. Derivatives of saturated units underflow.
    """
    if share > UNCANCELLED or saturated_units(surface, theta):
        return True
    return _moves_lost_slopes(surface, theta, null)


@everywhere
def _moves_lost_slopes(surface: Surface, theta: Vector, null: Vector) -> bool:
    """Return whether a null vector moves units at samples where their slopes are lost."""
    lost = _lost_slopes(surface, theta)
    if not surface.comm.any(any(bool(mask.any()) for mask in lost)):
        return False
    here = surface.preactivations_by_layer(theta)
    there = surface.preactivations_by_layer(theta + STEP * null)
    if _on_classes(surface) == "softmax_cross_entropy":  # which sees differences only
        here[-1], there[-1] = here[-1] - here[-1].mean(axis=0), there[-1] - there[-1].mean(axis=0)
    moved = [
        mask & (np.abs(b - a) > MOVED * STEP * (1.0 + np.abs(a)))
        for mask, a, b in zip(lost, here, there, strict=True)
    ]
    return surface.comm.any(any(bool(mask.any()) for mask in moved))


def _lost_slopes(surface: Surface, theta: Vector) -> list[NDArray[np.bool_]]:
    """Return layer by layer at which samples no Hessian shows the slopes of a unit."""
    problem, found = surface.problem, []
    for layer, z in enumerate(surface.preactivations_by_layer(theta)):
        activation = problem.network.activations[layer]
        gated = problem.gated and layer < problem.network.n_layers - 1
        tailed = activation.name in TAILED and not gated
        slopes = np.abs(activation.derivative(z)) if tailed else np.ones_like(z)
        found.append(slopes <= LOST)
    if _on_classes(surface):
        outputs = problem.outputs(surface.weights(theta))
        slopes = np.abs(problem.loss_function.gradient(outputs, problem.loss_targets)).T
        if _on_classes(surface) == "softmax_cross_entropy":
            slopes = np.broadcast_to(slopes.max(axis=0), slopes.shape)
        found[-1] = found[-1] | (slopes <= LOST)
    return [mask & surface.used for mask in found]


def _on_classes(surface: Surface) -> str:
    """Return the name of a loss on classes, else an empty text."""
    name = surface.problem.loss_function.name.removeprefix("weighted ")
    return name if name in CLASSES else ""


@everywhere
def saturated_units(surface: Surface, theta: Vector) -> list[tuple[int, int, float]]:
    """Return (layer, unit, least decay) of bounded units with tiny derivatives for all samples."""
    net = surface.problem.network
    if not set(DECAYS) & {a.name for a in net.activations}:
        return []
    found = []
    for layer, z in enumerate(surface.preactivations_by_layer(theta)):
        activation = net.activations[layer]
        if activation.name in DECAYS:
            steepest = activation.derivative(z).max(axis=1, initial=0.0)
            slopes = surface.comm.largest(steepest)
            nearest = surface.comm.least(np.abs(z).min(axis=1, initial=np.inf))
            for unit in np.flatnonzero(slopes <= SATURATED):
                decay = DECAYS[activation.name] * float(nearest[unit])
                found.append((layer, int(unit), decay))
    return found
