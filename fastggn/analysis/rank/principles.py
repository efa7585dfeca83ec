"""Shen's design principles (2018, Principles 1, 1.a, 2 to 5), judged with a reason each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fastggn.analysis.plain import plain
from fastggn.analysis.rank.spectrum import FloatArray
from fastggn.network.activations import Activation
from fastggn.network.losses.base import Loss
from fastggn.network.losses.classification import Logistic, SoftmaxCrossEntropy

Status = Literal["pass", "fail", "not_applicable"]


@dataclass(frozen=True)
class Principle:
    """Whether a principle holds.

    Attributes
    ----------
    status : {"pass", "fail", "not_applicable"}
    reason : str
        A sentence.
    """

    status: Status
    reason: str

    @property
    def holds(self) -> bool:
        """Whether the status is "pass"."""
        return self.status == "pass"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return plain(self)


class Principles(dict[str, Principle]):
    """Principles by number, "1" to "5" and "1.a"; an integer finds its principle too."""

    def __missing__(self, number: object) -> Principle:
        if isinstance(number, int) and str(number) in self:
            return self[str(number)]
        raise KeyError(number)


def judged(passed: bool, reason: str) -> Principle:
    """Return a principle that passes or fails."""
    return Principle("pass" if passed else "fail", reason)


def principle_1(loss: Loss, targets: FloatArray | None = None) -> Principle:
    """Judge the loss: differentiable, every stationary point a minimum (Shen, Principle 1)."""
    if isinstance(loss, SoftmaxCrossEntropy) and targets is not None and (targets > 0.0).all():
        return Principle(
            "pass", "the targets lie inside the simplex: every stationary point is an exact fit"
        )
    return judged(*loss.principle_1)


def principle_1a(loss: Loss, first: Principle) -> Principle:
    """Judge the loss's Hessian: nondegenerate at critical points (Shen, Principle 1.a)."""
    # Shen's text says everywhere, which only strictly convex losses meet; Morse: critical points.
    if not first.holds:
        return Principle("fail", f"it includes Principle 1, which fails: {first.reason}")
    return judged(*loss.principle_1a)


def principle_2(n_params: int, n_columns: int) -> Principle:
    """Judge the number of parameters: at least T n_L (Shen, Principle 2)."""
    if n_params >= n_columns:
        return Principle("pass", f"N = {n_params} >= T n_L = {n_columns}")
    return Principle("fail", f"N = {n_params} < T n_L = {n_columns}: P(W) has no full column rank")


def principle_4(
    activations: Sequence[Activation], zeros: int | None = None, gated: bool = False
) -> Principle:
    """Judge the activations: no derivative ever vanishes (Shen, Principle 4)."""
    found = f"; {zeros} of them are 0 at these samples" if zeros else ""
    if gated:
        return Principle("fail", f"gates are derivatives of 0 or 1{found}")
    bad = sorted({a.name for a in activations if a.vanishing_derivative})
    if bad:
        words = "derivatives vanish" if len(bad) > 1 else "derivative vanishes"
        tail = found or ("; none does at these samples" if zeros == 0 else "")
        return Principle("fail", f"the {words} somewhere: {', '.join(bad)}{tail}")
    if zeros:
        return Principle("fail", f"saturated: {zeros} derivatives are 0 in float64")
    names = ", ".join(sorted({a.name for a in activations}))
    return Principle("pass", f"no derivative vanishes: {names}")


def loses_rank(widths: Sequence[int]) -> tuple[int, int, int] | None:
    """Return layers i < j < k in 1..L with n_j > n_i and n_j > n_k, or None for a valley shape."""
    n = list(widths)
    last = len(n) - 1
    for j in range(2, last):
        left = min(range(1, j), key=lambda i: n[i])
        right = min(range(j + 1, last + 1), key=lambda k: n[k])
        if n[j] > max(n[left], n[right]):
            return left, j, right
    return None


def principle_5(widths: Sequence[int]) -> Principle:
    """Judge the widths: valley-shaped from n_1 to n_L (Shen, Principle 5, corrected)."""
    # Shen's (25) compares adjacent layers up to L - 2 only, and misses plateaus. Full-rank weights
    # and nonzero derivatives give rank(Psi_l^(i)) = min(n_l..n_L) for certain if and only if
    # n_j <= max(n_i, n_k) for all 1 <= i < j < k <= L.
    if len(widths) < 4:
        return Principle("not_applicable", "fewer than two hidden layers: there is no interior one")
    found = loses_rank(widths)
    shape = ", ".join(map(str, widths[1:]))
    if found is None:
        return Principle("pass", f"the widths {shape} are valley-shaped")
    i, j, k = found
    return Principle(
        "fail",
        f"layer {j} ({widths[j]} units) is wider than layers {i} ({widths[i]}) and {k} "
        f"({widths[k]}): products of full-rank weights can lose rank",
    )


def stationary_is_global(loss: Loss, targets: FloatArray) -> tuple[bool, str]:
    """Return whether zero gradients of E at all samples make a global minimum, and why."""
    first = principle_1(loss, targets)
    if first.holds:
        return True, "Principle 1"
    if isinstance(loss, (Logistic, SoftmaxCrossEntropy)):
        return False, first.reason
    if loss.convex:
        return True, f"the loss {loss.name} is convex"
    return False, first.reason
