"""Hidden units of a network that come and go, and those that change nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.network.activations import Activation
from fastggn.network.mlp import MLP
from fastggn.runtime.errors import as_float_vector, check_count

FloatArray = NDArray[np.float64]
Seen = tuple[FloatArray, FloatArray, FloatArray]
Step = tuple[str, bool] | None

# sigma(-z) = -sigma(z)
ODD = ("identity", "tanh", "softsign", "sin")
# sigma(c z) = c**degree sigma(z), for c > 0
DEGREES = {"identity": 1, "relu": 1, "leaky_relu": 1, "square": 2}
EVEN = ("square",)
MARGIN = 1.0  # of pre-activations of ReLU units that stay on their linear side
PROBES = 64  # inputs at which changes are measured where no samples are given
ROUNDING = 1e-14  # of the largest term of a layer above


@dataclass
class Parts:
    """The matrices of a network, in which units come and go."""

    weights: list[FloatArray]
    activations: Sequence[Activation]
    bias: list[FloatArray] | None  # of a network with fixed biases
    free: bool

    @classmethod
    def of(cls, net: MLP, theta: ArrayLike) -> Parts:
        """Return the parts of a network."""
        point = as_float_vector("theta", theta, net.n_params)
        fixed = None if isinstance(net.bias, str) else [np.array(b) for b in net.bias]
        weights = [np.array(w) for w in net.unpack(point)]
        return cls(weights, net.activations, fixed, net.has_free_bias)

    def network(self) -> tuple[MLP, FloatArray]:
        """Return the network of the parts, and its parameters."""
        core = int(self.free)
        widths = (self.weights[0].shape[1] - core, *(w.shape[0] for w in self.weights))
        bias = self.bias if self.bias is not None else "free" if self.free else "none"
        *hidden, output = self.activations
        net = MLP(widths, hidden, output, bias)
        return net, net.pack(self.weights)

    def check(self, layer: int, unit: int) -> int:
        """Return the index of a unit."""
        last = len(self.weights) - 1
        if not 1 <= check_count("layer", layer, 1) <= last:
            raise ValueError(f"layer must be a hidden layer, 1 to {last}, got {layer}")
        width = self.weights[layer - 1].shape[0]
        if not 1 <= check_count("unit", unit, 1) <= width:
            raise ValueError(f"unit must be 1 to {width} in layer {layer}, got {unit}")
        return unit - 1

    def append(
        self, layer: int, incoming: FloatArray, outgoing: FloatArray, bias: float | None
    ) -> None:
        """Add a last unit to a layer."""
        below, above = self.weights[layer - 1], self.weights[layer]
        self.weights[layer - 1] = np.vstack([below, incoming])
        self.weights[layer] = np.insert(above, below.shape[0], outgoing, axis=1)
        if self.bias is not None and bias is not None:
            self.bias[layer - 1] = np.append(self.bias[layer - 1], bias)

    def remove(self, layer: int, unit: int) -> None:
        """Remove a unit, whose output is lost."""
        self.weights[layer - 1] = np.delete(self.weights[layer - 1], unit, axis=0)
        self.weights[layer] = np.delete(self.weights[layer], unit, axis=1)
        if self.bias is not None:
            self.bias[layer - 1] = np.delete(self.bias[layer - 1], unit)

    def can_take_constants(self, layer: int) -> bool:
        """Whether the layer above has a bias that can take a constant."""
        return self.free or self.bias is not None

    def fold_constant(self, layer: int, values: FloatArray, sign: float = 1.0) -> None:
        """Add values, shape (n_{l+1},), to the pre-activations of the layer above."""
        if self.free:
            self.weights[layer][:, -1] += sign * values
        elif self.bias is not None:
            self.bias[layer] = self.bias[layer] - sign * values  # a fixed bias is subtracted
        else:
            raise ValueError(
                "the unit's output at weights 0 is not 0, and there is no bias to take it back"
            )

    def fold(self, layer: int, unit: int, kept: int, factor: float, constant: float) -> None:
        """Replace a unit by factor times a kept one plus a constant."""
        outgoing = self.weights[layer][:, unit].copy()
        self.weights[layer][:, kept] += factor * outgoing
        if constant:
            self.fold_constant(layer, constant * outgoing)
        self.remove(layer, unit)

    def rows(self, layer: int) -> FloatArray:
        """Return the incoming weights of the units of a layer, every kind of bias last."""
        weights = self.weights[layer - 1]
        if self.bias is None:
            return weights
        return np.column_stack([weights, -self.bias[layer - 1]])

    def relation(
        self, layer: int, kept: int, unit: int, tolerance: float
    ) -> tuple[float, float, str] | None:
        """Return (c, d, word) with sigma_unit = c sigma_kept + d for every input, or None."""
        rows, name = self.rows(layer), self._name(layer)
        w, v = rows[unit], rows[kept]
        size = max(np.abs(w).max(), np.abs(v).max())
        if np.abs(w - v).max() <= tolerance * size:
            return 1.0, 0.0, "a copy"
        if np.abs(w + v).max() <= tolerance * size:
            if name in ODD or name in EVEN:
                return (-1.0 if name in ODD else 1.0), 0.0, "a sign-flipped copy"
            if name == "sigmoid" and self.can_take_constants(layer):
                return -1.0, 1.0, "a sign-flipped copy"
        if name in DEGREES and v @ v > 0.0:
            ratio = float(w @ v / (v @ v))
            if np.abs(w - ratio * v).max() <= tolerance * np.abs(w).max():
                if ratio > 0.0 or name in ("identity", "square"):
                    return ratio ** DEGREES[name], 0.0, f"{ratio:.4g} times a copy"
        return None

    def _name(self, layer: int) -> str:
        return str(self.activations[layer - 1].name)

    def outputs(self, X: FloatArray, layer: int) -> tuple[FloatArray, FloatArray]:
        """Return pre-activations and outputs of a hidden layer, shapes (T, n_l)."""
        values = z = X
        for number in range(1, layer + 1):
            weights = self.weights[number - 1]
            core = weights[:, :-1] if self.free else weights
            z = values @ core.T + (weights[:, -1] if self.free else 0.0)
            if self.bias is not None:
                z = z - self.bias[number - 1]
            values = np.asarray(self.activations[number - 1](z))
        return z, values

    def shrink(self, X: FloatArray, tolerance: float) -> Step:
        """Remove one unit, or one group of linear units; return why, and if for every input."""
        probes = np.random.default_rng(0).standard_normal((PROBES, X.shape[1]))
        for layer in range(1, len(self.weights)):
            seen = self._seen(X if X.shape[0] else probes, layer, tolerance)
            step = (
                self._unused(seen, layer, tolerance)
                or self._copy(seen, layer, tolerance)
                or self._constant(seen, layer, tolerance, bool(X.shape[0]))
                or self._linear(X, layer, tolerance)
            )
            if step is not None:
                return step
        return None

    def _seen(self, X: FloatArray, layer: int, tolerance: float) -> Seen:
        """Return outputs (T, n), sizes of outgoing weights, and changes that do not count above.

        Large outgoing weights may cancel (channels to infinity): their shares then say nothing.
        """
        values, above = self.outputs(X, layer)[1], self.outputs(X, layer + 1)[0]
        sizes = np.abs(self.weights[layer][:, : values.shape[1]]).max(axis=0)
        rounding = ROUNDING * float((sizes * np.abs(values).max(axis=0)).max())
        return values, sizes, (tolerance * float(np.abs(above).max()) + rounding) / sizes

    def _unused(self, seen: Seen, layer: int, tolerance: float) -> Step:
        values, sizes, leeway = seen
        small = (sizes <= tolerance * sizes.max()) & (np.abs(values).max(axis=0) <= leeway)
        for unit in np.flatnonzero(small | (sizes == 0.0))[::-1]:
            if self._drop(layer, int(unit)):
                return f"unit {unit + 1} of layer {layer} has no outgoing weights", True
        return None

    def _drop(self, layer: int, unit: int) -> bool:
        """Remove a unit; the last one of a layer keeps its place, but not the units below it."""
        incoming = self.weights[layer - 1]
        if incoming.shape[0] > 1:
            self.remove(layer, unit)
            return True
        below = 1 if layer == 1 else self.weights[layer - 2].shape[0]
        if below == 1 or not incoming[:, :below].any():
            return False
        incoming[:], self.weights[layer][:, unit] = 0.0, 0.0
        return True

    def _copy(self, seen: Seen, layer: int, tolerance: float) -> Step:
        values, _, leeway = seen
        for unit, kept in self._parallel(layer, tolerance):
            c, d, word = self.relation(layer, kept, unit, tolerance) or (0.0, 0.0, "")
            change = np.abs(values[:, unit] - c * values[:, kept] - d).max()
            if word and change <= leeway[unit]:
                self.fold(layer, unit, kept, c, d)
                return f"unit {unit + 1} of layer {layer} is {word} of unit {kept + 1}", True
        return None

    def _parallel(self, layer: int, tolerance: float) -> list[tuple[int, int]]:
        """Return pairs of units whose incoming weights are about parallel, the last unit first."""
        rows = self.rows(layer)
        sizes = np.abs(rows).max(axis=1, keepdims=True)
        rows = np.column_stack([rows / np.where(sizes > 0.0, sizes, 1.0), sizes == 0.0])
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        cosines = np.tril(np.abs(rows @ rows.T), -1)
        pairs = np.argwhere(cosines > 1.0 - max(1e-6, 10.0 * tolerance))
        return [
            (int(unit), int(kept)) for unit, kept in pairs[np.argsort(-pairs[:, 0], kind="stable")]
        ]

    def _constant(self, seen: Seen, layer: int, tolerance: float, sampled: bool) -> Step:
        values, _, leeway = seen
        core = self.weights[layer - 1][:, : (-1 if self.free else None)]
        middle = 0.5 * (values.max(axis=0) + values.min(axis=0))
        spread = values.max(axis=0) - middle
        flat = spread <= np.minimum(leeway, tolerance * float(np.abs(values).max()))
        for unit in np.flatnonzero(flat if sampled else ~core.any(axis=1))[::-1]:
            constant = float(middle[unit])
            if constant and not self.can_take_constants(layer):
                continue
            everywhere, outgoing = not core[unit].any(), self.weights[layer][:, unit].copy()
            if not self._drop(layer, int(unit)):
                continue
            if constant:
                self.fold_constant(layer, constant * outgoing)
            word = f"constant, {constant:.6g}" if constant else "dead"
            where = "" if everywhere else " at all samples"
            return f"unit {unit + 1} of layer {layer} is {word}{where}", everywhere
        return None

    def _linear(self, X: FloatArray, layer: int, tolerance: float) -> Step:
        """Replace units that are linear at all samples by as few as their sum needs."""
        name = self._name(layer)
        if not self.free or name not in ("identity", "relu", "leaky_relu"):
            return None
        if name != "identity" and not X.shape[0]:
            return None
        z = self.outputs(X, layer)[0]
        linear = np.ones(z.shape[1], bool) if name == "identity" else (z > 0.0).all(axis=0)
        group = np.flatnonzero(linear)
        weights, above = self.weights[layer - 1], self.weights[layer]
        product = above[:, group] @ weights[group, :-1]
        if not np.isfinite(product).all():
            return None
        left, values, right = np.linalg.svd(product, full_matrices=False)
        rank = int(np.count_nonzero(values > tolerance * max(values.max(initial=0.0), 1e-300)))
        if rank >= group.size or (rank == 0 and group.size == weights.shape[0]):
            return None
        self.fold_constant(layer, above[:, group] @ weights[group, -1])
        inputs = X if layer == 1 else self.outputs(X, layer - 1)[1]
        for k in range(rank):
            bias = 0.0 if name == "identity" else MARGIN - float((inputs @ right[k]).min())
            outgoing = left[:, k] * values[k]
            self.append(layer, np.append(right[k], bias), outgoing, None)
            self.fold_constant(layer, bias * outgoing, sign=-1.0)
        for unit in group[::-1]:
            self.remove(layer, int(unit))
        listed = ", ".join(str(unit + 1) for unit in group)
        where = "" if name == "identity" else " at all samples"
        text = f"units {listed} of layer {layer} are linear{where}: {rank} do the same"
        return text, name == "identity"
