"""The loss of residuals as a loss of channels and coefficients, term by term."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fastggn.network.channels import ChannelBlock, own_block
from fastggn.network.workspace import Block
from fastggn.objective.bound_terms import BoundTerm
from fastggn.objective.loss_terms import Factor
from fastggn.runtime.cached import cached_property
from fastggn.runtime.comm import Comm

FloatArray = NDArray[np.float64]

_STEP = 1e-4  # of the difference in place of second derivatives that a term does not have


class TermLoss:
    """Weighted value, gradient and curvature of the loss of one term on a block of its points.

    The outputs of a block are the channels (n_L C) and the coefficients (K). With the residuals
    r and D = dr / d outputs, the factor is S = D^T S_loss, of n_S columns.
    """

    def __init__(self, term: BoundTerm, weights: FloatArray, n_samples: int) -> None:
        self._term = term
        self._weights = weights
        self._share = 1.0 / n_samples

    def _arguments(self, block: ChannelBlock) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return points, channels (B, n_L, C) and coefficients (K,)."""
        return block.samples, *self._parts(block, block.outputs)

    @staticmethod
    def _parts(block: ChannelBlock, outputs: FloatArray) -> tuple[FloatArray, FloatArray]:
        plan = block.plan
        channels = outputs[:, : plan.n_direct]
        shaped = channels.reshape(block.size, plan.net.n_outputs, len(plan.channels))
        return shaped, block.coefficients[0]

    def _targets(self, block: ChannelBlock) -> FloatArray:
        return self._term.targets[block.start : block.stop]

    def _share_of(self, block: ChannelBlock, n_axes: int) -> FloatArray:
        weights = self._share * self._weights[block.start : block.stop]
        return weights.reshape(-1, *(1,) * (n_axes - 1))

    def _root_of(self, block: ChannelBlock, n_axes: int) -> FloatArray:
        root = np.sqrt(self._weights[block.start : block.stop])
        return np.asarray(root.reshape(-1, *(1,) * (n_axes - 1)))

    def linearised(self, block: ChannelBlock) -> tuple[FloatArray, FloatArray]:
        """Return r (B, n_r) and D (B, n_r, n_L C + K)."""
        if "linearised" not in block.kept:
            block.kept["linearised"] = self._term.linearise(*self._arguments(block))
        found: tuple[FloatArray, FloatArray] = block.kept["linearised"]
        return found

    def residuals(self, block: ChannelBlock) -> FloatArray:
        """Return r minus the targets, shape (B, n_r)."""
        with np.errstate(all="ignore"):
            return np.asarray(self._residuals(block) - self._targets(block))

    def _residuals(self, block: ChannelBlock) -> FloatArray:
        if "linearised" in block.kept:
            return self.linearised(block)[0]
        return self._term.evaluate(*self._arguments(block))

    def value(self, block: ChannelBlock) -> float:
        """Return the weighted sum of the losses; inf or nan where the outputs overflow."""
        with np.errstate(all="ignore"):
            losses = self._term.loss.value(self._residuals(block), self._targets(block))
            return float((self._share_of(block, 1) * losses).sum())

    def gradient(self, block: ChannelBlock) -> FloatArray:
        """Return the weighted gradients by the outputs, shape (B, n_L C + K)."""
        with np.errstate(all="ignore"):
            r, D = self.linearised(block)
            return np.asarray(np.einsum("br,bro->bo", self._slopes(block, r), D))

    def slopes(self, block: ChannelBlock) -> FloatArray:
        """Return the weighted gradients by the residuals, shape (B, n_r)."""
        with np.errstate(all="ignore"):
            return self._slopes(block, self._residuals(block))

    def _slopes(self, block: ChannelBlock, r: FloatArray) -> FloatArray:
        slopes = self._term.loss.gradient(r, self._targets(block))
        return np.asarray(self._share_of(block, 2) * slopes)

    def hessian(self, block: ChannelBlock) -> FloatArray:
        """Return the weighted Hessians by the outputs, shape (B, n_L C + K, n_L C + K)."""
        with np.errstate(all="ignore"):
            r, D = self.linearised(block)
            targets, loss = self._targets(block), self._term.loss
            curved = np.einsum("bro,brq,bqp->bop", D, loss.hessian(r, targets), D)
            if self._term.linear:
                return np.asarray(self._share_of(block, 3) * curved)
            own = self._term.curvature(*self._arguments(block), loss.gradient(r, targets))
            return np.asarray(self._share_of(block, 3) * (curved + own))

    def factor(self, block: ChannelBlock) -> Factor:
        """Return (S, b, None): (B, n_L C + K, n_S) and (B, n_S), or None where there is no b."""
        with np.errstate(all="ignore"):
            r, D = self.linearised(block)
            S, b = self._term.loss.curvature_factor(r, self._targets(block))
            plain = self._term.loss.unit_hessian
            through = D.transpose(0, 2, 1) if plain else np.einsum("bro,brs->bos", D, S)
            scaled = None if b is None else self._root_of(block, 2) * b
            return self._root_of(block, 3) * through, scaled, None

    def bend(self, block: ChannelBlock, v: FloatArray) -> FloatArray | None:
        """Return S_loss^T d^2 r / dt^2 by the curvature of the residual itself, (B, n_S)."""
        if self._term.linear:
            return None
        tangent = block.tangents(np.ascontiguousarray(v)[None])[0]
        with np.errstate(all="ignore"):
            r, _ = self.linearised(block)
            second = self._second(block, tangent, r.shape[1])
            S, _ = self._term.loss.curvature_factor(r, self._targets(block))
            return np.asarray(self._root_of(block, 2) * np.einsum("brs,br->bs", S, second))

    def _second(self, block: ChannelBlock, tangent: FloatArray, n_r: int) -> FloatArray:
        """Return the second derivative (B, n_r) of r along the outputs' tangent (B, n)."""
        out = np.empty((block.size, n_r))
        for j in range(n_r):
            unit = np.zeros((block.size, n_r))
            unit[:, j] = 1.0
            try:
                curved = self._term.curvature(*self._arguments(block), unit)
            except TypeError:  # a jacobian= with functions that have no rule
                return self._by_difference(block, tangent)
            out[:, j] = np.einsum("bo,bop,bp->b", tangent, curved, tangent)
        return out

    def _by_difference(self, block: ChannelBlock, tangent: FloatArray) -> FloatArray:
        step = _STEP * (1.0 + np.abs(block.outputs).max()) / max(np.abs(tangent).max(), 1e-300)
        K = block.plan.n_coefficients
        slopes = []
        for sign in (1.0, -1.0):
            moved = block.outputs + sign * step * tangent
            channels, k = self._parts(block, moved)
            k = moved[0, moved.shape[1] - K :] if block.size else k
            _, D = self._term.linearise(block.samples, channels, k)
            slopes.append(np.einsum("bro,bo->br", D, tangent))
        return np.asarray((slopes[0] - slopes[1]) / (2.0 * step))

    def rounding(self, block: ChannelBlock) -> FloatArray:
        """Return the rounding of b / eps, shape (B, n_S)."""
        return np.asarray(self._root_of(block, 2) * self.sizes(block))

    def sizes(self, block: ChannelBlock) -> FloatArray:
        """Return |dr / d outputs| |outputs| + |targets|: of r's terms, shape (B, n_r)."""
        with np.errstate(all="ignore"):
            _, D = self.linearised(block)
            sizes = np.einsum("bro,bo->br", np.abs(D), np.abs(block.outputs))
            return np.asarray(sizes + np.abs(self._targets(block)))

    def at_zero(self, n_outputs: int, n_channels: int, k: FloatArray) -> float:
        """Return the weighted sum of the losses of a network that is 0 everywhere."""
        count = self._term.n_samples
        with np.errstate(all="ignore"):
            x = self._term.source.rows(0, count)
            r = self._term.evaluate(x, np.zeros((count, n_outputs, n_channels)), k)
            losses = self._term.loss.value(r, self._term.targets)
            return self._share * float(self._weights @ losses)

    @cached_property
    def n_columns(self) -> int:
        """n_S, the columns of the factor of one point."""
        none = np.zeros((0, self._term.n_residuals))
        return int(self._term.loss.curvature_factor(none, none)[0].shape[2])


class ResidualTerms:
    """The losses of all terms; a block says by its plan to which of them it belongs."""

    signed = False
    identity = False

    def __init__(self, terms: list[TermLoss], at_zero: Callable[[], float]) -> None:
        self._terms = terms
        self._at_zero = at_zero

    def of(self, block: Block) -> TermLoss:
        """Return the loss of a block."""
        return self._terms[own_block(block).plan.term]

    @property
    def columns(self) -> list[int]:
        """n_S of each term."""
        return [term.n_columns for term in self._terms]

    def value(self, block: Block) -> float:
        """See `TermLoss.value`."""
        return self.of(block).value(own_block(block))

    def gradient(self, block: Block) -> FloatArray:
        """See `TermLoss.gradient`."""
        return self.of(block).gradient(own_block(block))

    def hessian(self, block: Block) -> FloatArray:
        """See `TermLoss.hessian`."""
        return self.of(block).hessian(own_block(block))

    def factor(self, block: Block) -> Factor:
        """See `TermLoss.factor`."""
        return self.of(block).factor(own_block(block))

    def bend(self, block: Block, v: FloatArray) -> FloatArray | None:
        """See `TermLoss.bend`."""
        return self.of(block).bend(own_block(block), v)

    def residuals(self, block: Block) -> FloatArray:
        """See `TermLoss.residuals`."""
        return self.of(block).residuals(own_block(block))

    def slopes(self, block: Block) -> FloatArray:
        """See `TermLoss.slopes`."""
        return self.of(block).slopes(own_block(block))

    def sizes(self, block: Block) -> FloatArray:
        """See `TermLoss.sizes`."""
        return self.of(block).sizes(own_block(block))

    def directions(self, block: Block) -> FloatArray:
        """Return D^T, shape (B, n_L C + K, n_r): the factors of the residuals' Jacobian."""
        _, D = self.of(block).linearised(own_block(block))
        return np.asarray(D.transpose(0, 2, 1))

    def of_constants(self, comm: Comm) -> tuple[float, float]:
        """Return twice the loss of a network that is 0, with the coefficients' starts."""
        loss = comm.total(self._at_zero())
        return (loss, loss) if np.isfinite(loss) else (0.0, 0.0)

    def rounding(self, block: Block) -> FloatArray:
        """See `TermLoss.rounding`."""
        return self.of(block).rounding(own_block(block))

    def by_output(self, block: Block) -> FloatArray:
        """Never asked for: residuals have no outputs of their own."""
        raise NotImplementedError

    def b(self, block: Block) -> FloatArray:
        """Never asked for: S is not I."""
        raise NotImplementedError
