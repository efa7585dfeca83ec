"""Seeded random networks and problems for the tests: plain data, and what builds objects of it.

A `Case` holds names and arrays only. `case.problem()` makes the package's objects and
`case.naive()` those of the textbook reference; `jax_reference.evaluate(case)` reads the data.
Draws stay away from the points where a derivative jumps (ReLU, softsign, Huber).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import naive
import numpy as np
import pytest

CHUNK = 8
SAMPLES = (1, 2, 7, 8, 9, 31)
MAX_PARAMS = 300
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
)
LOSSES = (
    ("squared", {}),
    ("squared", {"scale": 0.7}),
    ("softmax_cross_entropy", {}),
    ("logistic", {}),
    ("cauchy", {"scale": 0.6}),
    ("blake_zisserman", {"epsilon": 0.1, "scale": 1.3}),
    ("smooth_lp", {"p": 0.7, "epsilon": 0.05}),
    ("smooth_lp", {"p": 1.5, "epsilon": 0.2}),
    ("huber", {"delta": 0.8}),
)
BIASES = ("free", "none", "fixed")


@dataclass(frozen=True)
class Case:
    """One network with its samples, loss and point `theta`; see `fastggn.Problem`.

    `activations` has one name a layer, the output's last. `bias` is "free", "none" or a tuple
    of vectors. `targets` (T, n_L) are floats; `Y` is what the user passes (labels or targets).
    """

    id: str
    widths: tuple[int, ...]
    activations: tuple[str, ...]
    bias: Any
    loss: str
    loss_options: dict[str, float]
    curvature: str
    X: np.ndarray
    Y: np.ndarray
    targets: np.ndarray
    theta: np.ndarray
    sample_weight: np.ndarray | None = None
    l2: float = 0.0
    gates: list[np.ndarray] | None = field(default=None)

    def __str__(self) -> str:
        return self.id

    @property
    def n_samples(self) -> int:
        return len(self.X)

    @property
    def n_layers(self) -> int:
        return len(self.widths) - 1

    @property
    def n_params(self) -> int:
        return len(self.theta)

    def naive(self) -> naive.Problem:
        """The textbook reference's problem."""
        network = naive.Network(
            self.widths, [naive.ACTIVATIONS[name] for name in self.activations], self.bias
        )
        return naive.Problem(
            network,
            self.X,
            self.targets,
            naive.LOSSES[self.loss](**self.loss_options),
            self.sample_weight,
            self.l2,
            self.gates,
            self.curvature,
        )

    def network(self) -> Any:
        """The package's network."""
        import fastggn as fg

        names = [sine() if name == "sine" else name for name in self.activations]
        return fg.MLP(
            self.widths, activation=names[:-1], output_activation=names[-1], bias=self.bias
        )

    def problem(self, chunk: int = CHUNK, **changes: Any) -> Any:
        """The package's problem, in chunks of 8 samples; `changes` replace arguments."""
        import fastggn as fg

        arguments: dict[str, Any] = {
            "X": self.X,
            "Y": self.Y,
            "loss": package_loss(self.loss, self.loss_options),
            "sample_weight": self.sample_weight,
            "l2": self.l2,
            "gates": self.gates,
            "curvature": self.curvature,
            "_chunk": chunk,
        }
        arguments.update(changes)
        X, Y = arguments.pop("X"), arguments.pop("Y")
        return fg.Problem(self.network(), X, Y, **arguments)


@functools.cache
def sine() -> Any:
    """A user's activation: the sine."""
    from fastggn.network import activations

    # np.* rather than math.*: the same functions serve scalars, arrays and the compiler
    return activations.Activation.custom(
        "sine", lambda z: np.sin(z), lambda z: np.cos(z), lambda z: -np.sin(z)
    )


class LogCosh:
    """A user's loss by the protocol: log cosh of each residual, summed over the outputs."""

    def value(self, F, Y):
        return np.log(np.cosh(F - Y)).sum(axis=1)

    def gradient(self, F, Y):
        return np.tanh(F - Y)

    def hessian(self, F, Y):
        return _diagonal(1.0 / np.cosh(F - Y) ** 2)

    def hessian_sqrt(self, F, Y):
        return _diagonal(1.0 / np.cosh(F - Y))


def _diagonal(d):
    out = np.zeros((*d.shape, d.shape[1]))
    np.einsum("ijj->ij", out)[:] = d
    return out


def package_loss(name: str, options: dict[str, float]) -> Any:
    """The package's loss: by name where it has no options."""
    from fastggn.network import losses

    if name == "log_cosh":
        return LogCosh()
    if not options:
        return name
    classes = {
        "squared": "Squared",
        "cauchy": "Cauchy",
        "blake_zisserman": "BlakeZisserman",
        "smooth_lp": "SmoothLp",
        "huber": "Huber",
    }
    return getattr(losses, classes[name])(**options)


# --- drawing --------------------------------------------------------------------------------


def _count(widths, bias):
    dummy = 1 if bias == "free" else 0
    return sum((m + dummy) * n for m, n in zip(widths[:-1], widths[1:], strict=True))


def _draw_widths(rng, n_layers, bias, classes, widest):
    """Widths with at most MAX_PARAMS parameters; one hidden (or input) layer `widest` wide."""
    while True:
        top = int(rng.choice([4, 6, 9]))
        widths = [int(rng.integers(1, top + 1)) for _ in range(n_layers + 1)]
        widths[-1] = int(rng.integers(2 if classes else 1, 5))
        if widest:
            widths[int(rng.integers(0, n_layers))] = widest
        if _count(widths, bias) <= MAX_PARAMS:
            return tuple(widths)


def _draw_targets(rng, loss, outputs, exact):
    """What the user passes and the float targets, for the given outputs (T, n_L)."""
    T, n_L = outputs.shape
    if loss == "softmax_cross_entropy":
        labels = rng.integers(0, n_L, T)
        if rng.random() < 0.3:
            soft = rng.dirichlet(np.ones(n_L), T)
            return soft, soft
        onehot = np.eye(n_L)[labels]
        return (labels, onehot) if rng.random() < 0.6 else (onehot, onehot)
    if loss == "logistic":
        Y = rng.integers(0, 2, (T, n_L)).astype(float)
    else:
        Y = outputs + rng.choice([0.3, 1.0, 3.0]) * rng.standard_normal((T, n_L))
        if exact and T > 1:
            Y[T // 2] = outputs[T // 2]  # residuals that vanish, up to rounding
    return (Y[:, 0] if n_L == 1 and rng.random() < 0.5 else Y), Y


def _usable(case: Case) -> bool:
    """Whether the first layer still acts, and nothing lies near a jump of a derivative."""
    problem = case.naive()
    samples = problem.samples(case.theta)
    if not any(sample.psi[1].any() for sample in samples):
        return False  # dead ReLU units or shut gates
    for sample in samples:
        for k in range(1, case.n_layers + 1):
            gated = case.gates is not None and k < case.n_layers
            kinked = case.activations[k - 1] in ("relu", "leaky_relu", "softsign")
            if kinked and not gated and np.abs(sample.z[k]).min() < 1e-4:
                return False
    if case.loss == "huber":
        r = np.abs(problem.outputs(case.theta) - case.targets)
        return bool(np.abs(r - case.loss_options["delta"]).min() > 1e-4)
    return True


def _draw_theta(rng, widths, bias):
    """Weights of standard deviation 1 / sqrt(fan in), biases of 0.4."""
    parts = []
    for m, n in zip(widths[:-1], widths[1:], strict=True):
        W = rng.standard_normal((n, m)) / np.sqrt(m)
        b = 0.4 * rng.standard_normal((n, 1))
        parts.append((np.hstack([W, b]) if bias == "free" else W).ravel())
    return np.concatenate(parts)


def _draw(index, rng, n_layers, T, loss, hidden, output, bias_kind, curvature, extras):
    """One case; `extras` = (weighted, l2, gated, exact fit of a sample, widest layer)."""
    weighted, l2, gated, exact, widest = extras
    name, options = loss
    widths = _draw_widths(rng, n_layers, bias_kind, name == "softmax_cross_entropy", widest)
    pool = [hidden, *rng.choice(ACTIVATIONS, 2)] if index % 3 == 0 else [hidden]
    activations = (*(str(rng.choice(pool)) for _ in range(n_layers - 1)), output)
    if n_layers > 1:
        activations = (hidden, *activations[1:])
    bias: Any = bias_kind
    if bias_kind == "fixed":
        bias = tuple(0.4 * rng.standard_normal(n) for n in widths[1:])
    weight = rng.uniform(0.2, 2.0, T) if weighted else None
    if weight is not None and T > 2:
        weight[int(rng.integers(T))] = 0.0
    gates = [rng.integers(0, 2, (T, n)).astype(float) for n in widths[1:-1]] if gated else None
    theta = _draw_theta(rng, widths, bias_kind)
    X = rng.standard_normal((T, widths[0]))
    network = naive.Network(widths, [naive.ACTIVATIONS[a] for a in activations], bias)
    bare = naive.Problem(network, X, X, naive.squared(), gates=gates)
    Y, targets = _draw_targets(rng, name, bare.outputs(theta), exact)
    label = (
        f"{index:02d}-{'x'.join(map(str, widths))}-T{T}-{'+'.join(activations)}-{bias_kind}-{name}"
        f"-{curvature}{'-w' if weighted else ''}{'-l2' if l2 else ''}{'-gates' if gated else ''}"
    )
    fields = (widths, activations, bias, name, options, curvature, X, Y, targets, theta)
    return Case(label, *fields, sample_weight=weight, l2=l2, gates=gates)


def _balanced(rng, values, n):
    """`n` values, each as often as the others, in random order."""
    order = rng.permutation(np.resize(np.arange(len(values)), n))
    return [values[i] for i in order]


@functools.cache
def random_cases(n: int = 72, seed: int = 11) -> tuple[Case, ...]:
    """`n` random cases in which every value of every axis occurs about equally often."""
    rng = np.random.default_rng(seed)
    losses = _balanced(rng, LOSSES, n)
    axes = zip(
        _balanced(rng, (1, 2, 3, 4, 5), n),
        _balanced(rng, SAMPLES, n),
        losses,
        _balanced(rng, ACTIVATIONS, n),
        _balanced(rng, ("identity", *ACTIVATIONS), n),
        _balanced(rng, BIASES, n),
        _balanced(rng, ("psd", "exact"), n),
        strict=True,
    )
    extras = zip(
        _balanced(rng, (True, False), n),
        _balanced(rng, (0.0, 0.3, 0.0), n),
        _balanced(rng, (True, False, False, False), n),
        _balanced(rng, (True, False, False), n),
        _balanced(rng, (0, 0, 0, 0, 0, 17, 40), n),
        strict=True,
    )
    out = []
    for index, (axis, extra) in enumerate(zip(axes, extras, strict=True)):
        extra = (*extra[:2], extra[2] and axis[0] > 1, *extra[3:])
        stream = np.random.default_rng([seed, index])
        while True:
            case = _draw(index, stream, *axis, extra)
            if _usable(case):
                break
        out.append(case)
    return tuple(out)


@functools.cache
def user_cases() -> tuple[Case, ...]:
    """Cases with the user's own activation and loss."""
    out = []
    for index, (widths, T, curvature) in enumerate(
        [((3, 5, 4, 2), 9, "psd"), ((2, 7, 1), 8, "exact")]
    ):
        rng = np.random.default_rng([12, index])
        activations = (*("sine",) * (len(widths) - 2), "identity")
        targets = rng.standard_normal((T, widths[-1]))
        out.append(
            Case(
                id=f"{90 + index}-user-{'x'.join(map(str, widths))}-T{T}-{curvature}",
                widths=widths,
                activations=activations,
                bias="free",
                loss="log_cosh",
                loss_options={},
                curvature=curvature,
                X=rng.standard_normal((T, widths[0])),
                Y=targets,
                targets=targets,
                theta=_draw_theta(rng, widths, "free"),
                sample_weight=rng.uniform(0.2, 2.0, T),
                l2=0.1,
            )
        )
    return tuple(out)


@functools.cache
def tiny_cases() -> tuple[Case, ...]:
    """Six small cases, one for each number of samples, cheap enough without the compiler."""
    losses = [LOSSES[k] for k in (0, 2, 4, 8, 3, 6)]
    hidden = ("tanh", "softplus", "relu", "bent_identity", "softsign", "sigmoid")
    out = []
    for index, T in enumerate(SAMPLES):
        rng = np.random.default_rng([13, index])
        extras = (index % 2 == 1, 0.2 * (index % 3), index in (1, 3), index == 2, 0)
        while True:
            case = _draw(
                80 + index, rng, 2 + index % 2, T, losses[index], hidden[index],
                "tanh" if index == 4 else "identity", BIASES[index % 3],
                "exact" if index in (2, 4) else "psd", extras,
            )  # fmt: skip
            if case.n_params <= 40 and _usable(case):
                break
        out.append(case)
    return tuple(out)


def each_case(cases: Any, every: int = 1) -> Any:
    """Run a test on each case, by default on one of `every`, and on the others in the tier slow.

    One worker has all tests of a case and its reference.
    """
    params = []
    for number, case in enumerate(cases):
        marks = [pytest.mark.xdist_group(case.id)]
        if number % every:
            marks.append(pytest.mark.slow)
        params.append(pytest.param(case, id=case.id, marks=marks))
    return pytest.mark.parametrize("case", params)
