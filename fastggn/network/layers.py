"""The layers of a network: widths, activations, biases, and the shapes of the weight matrices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.network.activations import Activation, get_activation
from fastggn.runtime.errors import as_float_vector, unknown_name

FloatArray = NDArray[np.float64]

# BLAS counts in 32 bits, and a chunk of sensitivities has up to n_L times 256 columns.
_WIDEST = 2**22


class Layers:
    """The structure of a multi-layer perceptron, as `MLP` documents it."""

    def __init__(
        self,
        widths: Sequence[int],
        activation: str | Activation | Sequence[str | Activation] = "tanh",
        output_activation: str | Activation = "identity",
        bias: str | Sequence[ArrayLike] = "free",
    ) -> None:
        self.widths = _checked_widths(widths)
        self.n_layers = len(self.widths) - 1
        self.activations = (
            *_hidden_activations(activation, self.n_layers - 1),
            get_activation(output_activation),
        )
        self.bias: str | tuple[FloatArray, ...] = _checked_bias(bias, self.widths)
        dummy = 1 if self.has_free_bias else 0
        self._shapes = tuple(
            (self.widths[i + 1], self.widths[i] + dummy) for i in range(self.n_layers)
        )
        self.n_params = sum(n * m for n, m in self._shapes)

    @property
    def n_inputs(self) -> int:
        """Number of inputs n_0."""
        return self.widths[0]

    @property
    def n_outputs(self) -> int:
        """Number of outputs n_L."""
        return self.widths[-1]

    @property
    def has_free_bias(self) -> bool:
        """Whether the biases are trained."""
        return isinstance(self.bias, str) and self.bias == "free"

    @property
    def layer_shapes(self) -> tuple[tuple[int, int], ...]:
        """Shapes (n_l, m_l) of the weight matrices, with a column for a free bias."""
        return self._shapes


def _checked_widths(widths: Sequence[int]) -> tuple[int, ...]:
    """Return the widths as a tuple of positive integers."""
    if isinstance(widths, (str, bytes)) or not hasattr(widths, "__len__"):
        raise TypeError(f"widths must be a sequence of integers, not {widths!r}")
    if len(widths) < 2:
        raise ValueError(f"widths needs at least n_0 and n_L, got {tuple(widths)}")
    for position, width in enumerate(widths):
        if isinstance(width, bool) or not hasattr(width, "__index__"):
            raise TypeError(f"widths[{position}] must be an integer, got {width!r}")
        if width < 1:
            raise ValueError(f"widths[{position}] must be at least 1, got {width}")
        if width > _WIDEST:
            raise ValueError(f"widths[{position}] is {width}; at most {_WIDEST} is supported")
    return tuple(int(width) for width in widths)


def _hidden_activations(
    activation: str | Activation | Sequence[str | Activation], count: int
) -> tuple[Activation, ...]:
    """Return one activation for each hidden layer."""
    if isinstance(activation, (str, Activation)):
        return (get_activation(activation),) * count
    if not isinstance(activation, Sequence):
        raise TypeError(
            "activation must be a name, an Activation or a sequence of them, "
            f"not {type(activation).__name__}"
        )
    listed = tuple(get_activation(a) for a in activation)
    if len(listed) != count:
        raise ValueError(
            f"activation must be one name or one a hidden layer ({count}), got {len(listed)}"
        )
    return listed


def _checked_bias(
    bias: str | Sequence[ArrayLike], widths: tuple[int, ...]
) -> str | tuple[FloatArray, ...]:
    """Return the bias mode, or the fixed vectors."""
    if isinstance(bias, str):
        if bias not in ("free", "none"):
            raise unknown_name("bias", bias, ("free", "none"))
        return bias
    if not isinstance(bias, (Sequence, np.ndarray)):
        raise TypeError(
            f'bias must be "free", "none" or a sequence of vectors, not {type(bias).__name__}'
        )
    vectors = tuple(bias)
    if len(vectors) != len(widths) - 1:
        raise ValueError(f"bias must hold {len(widths) - 1} vectors, got {len(vectors)}")
    return tuple(
        as_float_vector(f"bias[{number}]", vector, width)
        for number, (vector, width) in enumerate(zip(vectors, widths[1:], strict=True))
    )
