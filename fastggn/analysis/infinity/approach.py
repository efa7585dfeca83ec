"""How the loss of finite networks exceeds that of their limit: predicted from the limit alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from fastggn.analysis.infinity.families import FAR, TAILS, Family, Group
from fastggn.network.activations import Activation

FloatArray = NDArray[np.float64]

STRAIGHT = 1e-12  # sigma'' that counts as zero
LEVEL = 1e-7  # share of a sum in its terms that counts as zero
SIDE = 1e-9  # of the largest: smaller derivatives have no side
STEP = 1e-3  # of differences of sigma''


@dataclass(frozen=True)
class Approach:
    """What is foreseen of the loss above the limit.

    The order is the power of eps, or the decay exponent times eps for saturated units. `excess` is
    None where the limit alone does not tell it (exact fits); `obstacle` says why there is
    no minimum.
    """

    order: float
    excess: Callable[[FloatArray], float] | None
    obstacle: str = ""


def third_derivative(sigma: Activation, z: FloatArray) -> FloatArray:
    """Return sigma''' by differences of sigma''."""
    a, b, c, d = (sigma.second_derivative(z + h * STEP) for h in (-2.0, -1.0, 1.0, 2.0))
    return np.asarray((a - 8.0 * b + 8.0 * c - d) / (12.0 * STEP))


def foresee(family: Family, p: FloatArray, exact: bool) -> Approach:
    """Return how the loss approaches that of a limit network with vanishing gradient."""
    if family.kind == "saturation":
        return _saturation(family, p)
    slopes = _slopes_above(family, p)
    if family.kind == "exponential":
        return _tails(family, p, slopes, exact)
    sizes, curved = [], False
    for group, slope in zip(family.groups, slopes, strict=True):
        size, obstacle, bent = _expansion(family, group, p, slope)
        if obstacle and not exact:
            return Approach(1.0, None, obstacle)
        sizes.append(size)
        curved = curved or bent
    if exact:
        return Approach(2.0 if curved else 4.0, None)
    coefficients = np.array(sizes)
    if (coefficients <= 0.0).any():
        return Approach(2.0, None, "the loss rises towards infinity")
    return Approach(2.0, lambda eps: float(coefficients @ eps**2))


def _slopes_above(family: Family, p: FloatArray) -> list[FloatArray]:
    """Return dL / dz of the layer above each group, shape (T, n_{l+1}), in the limit network."""
    problem, sweep = family.problem, family.sweep(p)
    weights = np.asarray(problem.relative_weights) / problem.n_samples
    residuals = problem.loss_function.gradient(sweep.outputs, problem.loss_targets)
    residuals = residuals * weights[:, None]
    sent = sweep.sent_back(residuals[:, None, :])
    return [sent[group.layer + 1][:, 0] for group in family.groups]


def _expansion(
    family: Family, group: Group, p: FloatArray, slope: FloatArray
) -> tuple[float, str, bool]:
    """Return the coefficient of eps^2, an obstacle, and whether the outputs change by O(eps)."""
    sigma, inputs = family.activation(group), family.sweep(p).inputs[group.layer]
    if family.kind == "channel":
        first, second, above, other = family.parts(group)
        offset = 0.0 if family.fixed is None else family.fixed[group.layer][group.units[0]]
        z, q = inputs @ p[first] - offset, inputs @ p[second]
        change = sigma.second_derivative(z) * q**2 * (slope @ p[above]) / 8.0
        change += third_derivative(sigma, z) * q**3 * (slope @ p[other]) / 24.0
        return float(change.sum()), "", False
    core, column = family.core(group), family.parts(group)[1]
    q, along = inputs[:, : core.size] @ p[core], slope @ p[column]
    b = np.array([family.offset(p, group)])
    bent = abs(float(sigma.second_derivative(b)[0])) > STRAIGHT
    # With a free bias the unit may bend to either side, which lowers the loss in one of them.
    bend = along * q**2
    if family.net.has_free_bias or bent:
        if abs(bend.sum()) > LEVEL * np.abs(bend).sum():
            return 0.0, f"{group} lowers the loss where it bends", bent
    return float((along * q**3).sum() * third_derivative(sigma, b)[0] / 6.0), "", bent


def _tails(family: Family, p: FloatArray, slopes: list[FloatArray], exact: bool) -> Approach:
    """Foresee the next term of the tails, of order eps."""
    sizes = []
    for group, slope in zip(family.groups, slopes, strict=True):
        row, column = family.parts(group)
        *_, rate, following = TAILS[family.activation(group).name]
        squared = np.exp(2.0 * rate * (family.sweep(p).inputs[group.layer] @ p[row]))
        sizes.append(following * float((slope @ p[column]) @ squared))
    coefficients = np.array(sizes)
    if exact:
        return Approach(2.0, None)
    if (coefficients <= 0.0).any():
        return Approach(1.0, None, "the loss rises towards infinity")
    return Approach(1.0, lambda eps: float(coefficients @ eps))


def _saturation(family: Family, p: FloatArray) -> Approach:
    """Foresee that each sample that comes into reach of a saturated unit raises the loss."""
    slopes, parts, nearest = _slopes_above(family, p), [], np.inf
    for group, slope in zip(family.groups, slopes, strict=True):
        if group.layer > 0:
            return Approach(1.0, None, f"{group} has inputs that may change")
        row, column = family.parts(group)
        sigma, inputs = family.activation(group), family.sweep(p).inputs[group.layer]
        z, weight = inputs @ p[row], slope @ p[column]
        signs = np.sign(z)
        if not (np.abs(z) > 0.0).all():
            return Approach(1.0, None, f"{group} has samples on its boundary")
        raising = -weight * signs  # > 0: a sample that comes into reach raises the loss
        obstacle = _falls(signs[:, None] * inputs, raising, str(group))
        if obstacle:
            return Approach(1.0, None, obstacle)
        parts.append((sigma, z, weight, sigma(signs * FAR)))
        steep = 2.0 if sigma.name == "tanh" else 1.0
        near = np.abs(z)[raising > SIDE * np.abs(raising).max()]
        nearest = min(nearest, steep * float(near.min(initial=np.inf)))

    def excess(eps: FloatArray) -> float:
        total = 0.0
        for (sigma, z, weight, end), e in zip(parts, eps, strict=True):
            total += float(weight @ (sigma(z / e) - end))
        return total

    return Approach(float(nearest), excess)


def _falls(margins: FloatArray, raising: FloatArray, unit: str) -> str:
    """Return an obstacle unless samples that lower the loss stay behind those that raise it.

    A sample stays behind where its margin is a sum, with weights >= 0, of others' margins, in which
    the raising ones have a weight above 1: it is then larger than the smallest of theirs.
    """
    largest = np.abs(margins).max(axis=0)
    margins = margins / np.where(largest > 0.0, largest, 1.0)  # the programme drops small entries
    small = SIDE * float(np.abs(raising).max(initial=0.0))
    good, bad = raising > small, np.flatnonzero(raising < -small)
    if not good.any():
        return f"no sample holds {unit} back"
    for i in bad:
        others = np.flatnonzero(np.arange(raising.size) != i)
        cost = -good[others].astype(float)
        found = scipy.optimize.linprog(
            cost, A_eq=margins[others].T, b_eq=margins[i], bounds=(0.0, 100.0)
        )
        if found.status != 0 or -found.fun <= 1.0 + 1e-6:
            return f"{unit} lowers the loss where sample {i + 1} comes into reach"
    return ""
