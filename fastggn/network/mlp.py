"""Multi-layer perceptrons: widths, activations, bias, and the ordering of the parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.network.activations import Activation
from fastggn.network.initialisation import SCHEMES
from fastggn.network.layers import Layers
from fastggn.network.workspace import evaluate
from fastggn.runtime.errors import (
    as_float_vector,
    as_real,
    check_finite,
    check_positive,
    samples_are_rows,
    unknown_name,
)

FloatArray = NDArray[np.float64]


class MLP(Layers):
    """A multi-layer perceptron F(n_0, ..., n_L).

    Layer l maps phi_{l-1} to phi_l = sigma_l(z_l). Here z_l is W_l [phi_{l-1}; 1] for a free bias,
    W_l phi_{l-1} without bias, and W_l phi_{l-1} - b_l for a fixed bias (Shen 2018, Eq. 2). The
    network holds no weights: they are a vector `theta` of length `n_params`, ordered by layer from
    the input to the output, then by unit, then by incoming weight with the free bias last.

    Parameters
    ----------
    widths : sequence of int
        n_0 (inputs), the hidden widths, n_L (outputs); at least two, each at least 1.
    activation : str, Activation, or a sequence of them
        One for all hidden layers, or one for each.
    output_activation : str or Activation
        Activation of the output layer.
    bias : {"free", "none"} or sequence of array_like
        ``"free"``: trained; ``"none"``; or fixed vectors b_1..b_L of shapes (n_l,).

    Raises
    ------
    TypeError
        If a width is not an integer.
    ValueError
        If a width is below 1, a name is unknown, or a fixed bias has a wrong shape.

    Examples
    --------
    >>> import fastggn as fg
    >>> net = fg.MLP((2, 20, 1), activation="tanh")
    >>> net.n_params
    81
    """

    def __repr__(self) -> str:
        """Return the call that makes this network."""
        names = [a.name for a in self.activations]
        bias = repr(self.bias) if isinstance(self.bias, str) else "<fixed>"
        return (
            f"MLP({self.widths}, activation={names[:-1]}, output_activation={names[-1]!r}, "
            f"bias={bias})"
        )

    def unpack(self, theta: ArrayLike) -> list[FloatArray]:
        """Return the weight matrices of `theta` as views.

        Parameters
        ----------
        theta : array_like, shape (n_params,)

        Returns
        -------
        list of ndarray, shapes (n_l, m_l)
            Views where `theta` is a float64 array; the last column is the free bias.

        Raises
        ------
        TypeError
            If `theta` does not hold real numbers.
        ValueError
            If `theta` has another shape.
        """
        vector = as_real("theta", theta)
        if vector.shape != (self.n_params,):
            raise ValueError(f"theta must have shape ({self.n_params},), got {vector.shape}")
        layers, start = [], 0
        for n, m in self._shapes:
            layers.append(vector[start : start + n * m].reshape(n, m))
            start += n * m
        return layers

    def pack(self, layers: Sequence[ArrayLike]) -> FloatArray:
        """Return the parameter vector of weight matrices; the inverse of `unpack`.

        Raises
        ------
        TypeError
            If a matrix does not hold real numbers.
        ValueError
            If the number of matrices or a shape is wrong.
        """
        matrices = [as_real(f"W_{number}", w) for number, w in enumerate(layers, start=1)]
        if len(matrices) != self.n_layers:
            raise ValueError(f"layers must hold {self.n_layers} matrices, got {len(matrices)}")
        for number, (w, shape) in enumerate(zip(matrices, self._shapes, strict=True), start=1):
            if w.shape != shape:
                raise ValueError(f"W_{number} must have shape {shape}, got {w.shape}")
        return np.concatenate([w.ravel() for w in matrices])

    def init(
        self,
        seed: int | np.random.Generator | None = None,
        scheme: str = "glorot",
        scale: float = 1.0,
    ) -> FloatArray:
        """Draw initial parameters, shape (n_params,).

        Parameters
        ----------
        seed : int, Generator or None
            The source of randomness; the same integer gives the same parameters.
        scheme : {"glorot", "he", "lecun", "nguyen_widrow", "normal"}
            Glorot uniform, He and LeCun normal (with zero biases), Nguyen and Widrow (for inputs in
            [-1, 1]), or independent normal weights and biases.
        scale : float
            Factor on every entry; the standard deviation for ``"normal"``.

        Raises
        ------
        ValueError
            If the scheme is unknown or the scale is not positive.
        """
        if scheme not in SCHEMES:
            raise unknown_name("scheme", scheme, SCHEMES)
        factor = check_positive("scale", scale)
        rng = np.random.default_rng(seed)
        layers = [
            SCHEMES[scheme](rng, units, inputs, activation.name, self.has_free_bias)
            for (units, inputs), activation in zip(
                zip(self.widths[1:], self.widths[:-1], strict=True), self.activations, strict=True
            )
        ]
        return factor * np.concatenate([w.ravel() for w in layers])

    def predict(self, theta: ArrayLike, X: ArrayLike) -> FloatArray:
        """Return the outputs of the network.

        Parameters
        ----------
        theta : array_like, shape (n_params,)
        X : array_like, shape (T, n_0), or (n_0,) for one sample

        Returns
        -------
        ndarray, shape (T, n_L), or (n_L,)

        Raises
        ------
        TypeError
            If an array does not hold real numbers.
        ValueError
            If a shape is wrong or an entry is NaN or infinite.
        """
        vector = as_float_vector("theta", theta, self.n_params)
        inputs = as_real("X", X)
        single = inputs.ndim == 1
        inputs = np.ascontiguousarray(np.atleast_2d(inputs))
        if inputs.ndim != 2 or inputs.shape[1] != self.n_inputs:
            hint = samples_are_rows("X", inputs.shape, self.n_inputs)
            raise ValueError(f"X must have shape (T, {self.n_inputs}), got {np.shape(X)}{hint}")
        check_finite("X", inputs)
        outputs = evaluate(self, vector, inputs)
        return outputs[0] if single else outputs

    def to_config(self) -> dict[str, Any]:
        """Return a description made of JSON types; `from_config` is its inverse."""
        bias = self.bias if isinstance(self.bias, str) else [b.tolist() for b in self.bias]
        return {
            "widths": list(self.widths),
            "activations": [a.to_config() for a in self.activations],
            "bias": bias,
        }

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], activations: Mapping[str, Activation] | None = None
    ) -> MLP:
        """Make the network of a description of `to_config`.

        Parameters
        ----------
        config : mapping
            With keys ``widths``, ``activations`` (all layers, the output last) and ``bias``.
        activations : mapping of str to Activation, optional
            The custom activations by name; a file cannot hold their code.

        Raises
        ------
        ValueError
            If a key is missing, or a custom activation is not given.
        """
        missing = {"widths", "activations", "bias"} - set(config)
        if missing:
            raise ValueError(f"the network's description lacks {', '.join(sorted(missing))}")
        layers = [Activation.from_config(a, activations) for a in config["activations"]]
        return cls(config["widths"], layers[:-1], layers[-1], config["bias"])
