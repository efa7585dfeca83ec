"""Networks that the tests of the exchange with other packages send to and fro."""

import numpy as np

import fastggn as fg
from fastggn.data.scaler import Scaler

ARCHITECTURES = ((3, 1), (2, 7, 1), (4, 6, 5, 3))
SLOPE = 0.137  # of the leaky ReLU: no float32 number
ACTIVATIONS = (
    "identity",
    "sigmoid",
    "tanh",
    "softsign",
    "softplus",
    "bent_identity",
    "relu",
    "leaky_relu",
    "square",
    "sin",
    "swish",
)
TOLERANCE = {"float64": 1e-12, "float32": 1e-6}


def activation(name):
    return fg.activations.leaky_relu(SLOPE) if name == "leaky_relu" else name


def network(widths, name, bias="free", output="identity"):
    """A network and its theta; a list of names is one a hidden layer."""
    rng = np.random.default_rng([len(widths), *widths])
    names = name if isinstance(name, str) else [activation(n) for n in name]
    if bias == "fixed":
        bias = [rng.standard_normal(n) for n in widths[1:]]
    single = activation(names) if isinstance(names, str) else names
    net = fg.MLP(widths, single, activation(output), bias)
    theta = np.concatenate([rng.standard_normal(n * m) / np.sqrt(m) for n, m in net.layer_shapes])
    return net, theta


def samples(n, dtype="float64", T=40):
    """Inputs of different sizes, among them large ones that saturate a unit, in float64.

    In float32 the weighted sum of large inputs is rounded by more than an output may differ:
    there they are less large, and exact.
    """
    rng = np.random.default_rng(n)
    X = rng.standard_normal((T, n))
    X[: T // 4] *= 30.0 if dtype == "float64" else 2.0
    return X.astype(dtype).astype(np.float64)


def scaling(n, seed=0, far=40.0):
    rng = np.random.default_rng([n, seed])
    return far * rng.standard_normal(n), rng.uniform(0.5, 9.0, n)


def model_of(net, theta, inputs=None, targets=None, loss="squared", classes=None):
    """The model of a network, with pairs (mean, scale)."""
    scalers = (None if pair is None else Scaler.at(*pair) for pair in (inputs, targets))
    keywords = dict(zip(("input_scaler", "target_scaler"), scalers, strict=True))
    return fg.Model.of(net, theta, loss, classes, **keywords)


def parts(model):
    return model.network, model.theta


def raw_outputs(net, theta, X, inputs, targets):
    """What a network trained on scaled samples gives for raw ones."""
    mean, scale = targets
    return net.predict(theta, (X - inputs[0]) / inputs[1]) * scale + mean


def difference(found, expected):
    """The largest difference, in units of the largest output."""
    found = np.asarray(found, dtype=np.float64).reshape(expected.shape)
    return np.abs(found - expected).max() / (np.abs(expected).max() or 1.0)
