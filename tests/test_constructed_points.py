"""Points whose narrower network is known: split, added, merged, glued units, and exact channels."""

import naive
import numpy as np
import pytest
from infinity_cases import draw

import fastggn as fg
from fastggn import analysis

KINDS = ("split", "added", "merged", "glued", "channel")
# sigma(-z) = d - c sigma(z), for activations that have such a rule.
FLIPS = {"tanh": 0.0, "sigmoid": 1.0}


class Built:
    """A wide point, written out by hand, and the narrow critical point that it comes from."""

    def __init__(self, seed):
        self.rng = np.random.default_rng([seed, 300])
        self.kind = KINDS[seed % len(KINDS)]
        if self.kind == "channel":
            gated, q = draw(self.rng, 2, 1, ("tanh", "sigmoid")[seed % 2])
            net, theta = gated.theta(q, float(self.rng.choice([0.3, 0.1, 0.01])))
            self.name, self.bias, self.T = net.activations[0].name, "free", 30
            self.narrow = [np.array(w) for w in net.unpack(theta)]
        else:
            self._draw()
        X = self.X = self.rng.standard_normal((self.T, self.narrow[0].shape[1] - self.free))
        bare = self.naive(self.narrow, np.zeros((self.T, self.narrow[-1].shape[0])))
        theta = flat(self.narrow)
        # Residuals orthogonal to the Jacobian: the narrow point is critical.
        basis = np.linalg.qr(bare.jacobian(theta))[0]
        residual = self.rng.standard_normal(bare.Y.size)
        residual -= basis @ (basis.T @ residual)
        self.outputs = bare.outputs(theta)
        self.Y = self.outputs + 0.3 * residual.reshape(bare.Y.shape)
        self.wide = [w.copy() for w in self.narrow]
        getattr(self, f"_{self.kind}")()
        assert X is self.X

    @property
    def free(self):
        return int(self.bias == "free")

    def _draw(self):
        rng = self.rng
        self.name = str(rng.choice(["tanh", "sigmoid", "softplus"]))
        self.bias = str(rng.choice(["free", "none"]))
        deep = rng.random() < 0.4
        widths = [int(rng.integers(1, 4)), *rng.integers(2, 4, 1 + deep), int(rng.integers(1, 3))]
        self.narrow = [
            rng.standard_normal((n, m + self.free))
            for m, n in zip(widths, widths[1:], strict=False)
        ]
        self.T = sum(w.size for w in self.narrow) // widths[-1] + 12

    def naive(self, weights, Y):
        widths = [self.X.shape[1], *(w.shape[0] for w in weights)]
        names = [self.name] * (len(weights) - 1) + ["identity"]
        network = naive.Network(widths, [naive.ACTIVATIONS[n] for n in names], self.bias)
        return naive.Problem(network, self.X, Y, naive.squared())

    def problem(self, weights):
        widths = (self.X.shape[1], *(w.shape[0] for w in weights))
        return fg.Problem(fg.MLP(widths, self.name, bias=self.bias), self.X, self.Y)

    def hidden(self):
        layer = int(self.rng.integers(1, len(self.wide)))
        return layer, int(self.rng.integers(self.wide[layer - 1].shape[0]))

    def append(self, layer, incoming, outgoing):
        n = self.wide[layer - 1].shape[0]
        self.wide[layer - 1] = np.vstack([self.wide[layer - 1], incoming])
        self.wide[layer] = np.insert(self.wide[layer], n, outgoing, axis=1)

    def _split(self):
        for _ in range(int(self.rng.integers(1, 4))):
            layer, unit = self.hidden()
            share, a = self.rng.normal(), self.wide[layer][:, unit].copy()
            self.append(layer, self.wide[layer - 1][unit], (1.0 - share) * a)
            self.wide[layer][:, unit] = share * a

    def _added(self):
        for _ in range(int(self.rng.integers(1, 4))):
            layer, _unit = self.hidden()
            m, n = self.wide[layer - 1].shape[1], self.wide[layer].shape[0]
            constant = {"tanh": 0.0, "sigmoid": 0.5, "softplus": np.log(2.0)}[self.name]
            if self.rng.random() < 0.5 and (self.free or not constant):
                outgoing = self.rng.standard_normal(n)
                self.append(layer, np.zeros(m), outgoing)
                if constant:
                    self.wide[layer][:, -1] -= constant * outgoing
            else:
                self.append(layer, self.rng.standard_normal(m), np.zeros(n))

    def _merged(self):
        layer, unit = self.hidden()
        self.pair = layer, unit
        share, a = self.rng.normal(), self.wide[layer][:, unit].copy()
        flips = FLIPS.get(self.name, 1.0) == 0.0 or (self.name in FLIPS and self.free)
        sign = -1.0 if flips else 1.0
        self.append(layer, sign * self.wide[layer - 1][unit], sign * (1.0 - share) * a)
        self.wide[layer][:, unit] = share * a
        if flips and FLIPS[self.name]:
            self.wide[layer][:, -1] += FLIPS[self.name] * (1.0 - share) * a

    def _glued(self):
        """Put the point and one with its units in another order side by side."""
        order = [self.rng.permutation(w.shape[0]) for w in self.narrow[:-1]]
        share = self.rng.normal()
        first, second = self.narrow, [w.copy() for w in self.narrow]
        for layer, places in enumerate(order):
            second[layer] = second[layer][places]
            n = places.size
            second[layer + 1][:, :n] = second[layer + 1][:, places]
        self.wide = [np.vstack([first[0], second[0]])]
        for a, b in zip(first[1:-1], second[1:-1], strict=True):
            n = a.shape[1] - self.free
            top = np.hstack([a[:, :n], np.zeros((a.shape[0], n)), a[:, n:]])
            low = np.hstack([np.zeros((b.shape[0], n)), b])
            self.wide.append(np.vstack([top, low]))
        a, b = first[-1], second[-1]
        n = a.shape[1] - self.free
        self.wide.append(np.hstack([share * a[:, :n], (1.0 - share) * b[:, :n], a[:, n:]]))

    def _channel(self):
        """Leave the two units of the channel as they are: nothing can be removed."""


def flat(weights):
    return np.concatenate([w.ravel() for w in weights])


def check(seed):
    built = Built(seed)
    narrow, wide = built.problem(built.narrow), built.problem(built.wide)
    theta = flat(built.wide)
    bound = 1e-12 * max(1.0, np.abs(built.outputs).max())
    np.testing.assert_allclose(wide.outputs(theta), built.outputs, atol=bound)
    if built.kind != "added":  # whose new weights may have slopes
        assert np.linalg.norm(wide.gradient(theta)) < 1e-11 * (1.0 + np.abs(theta).max()) ** 2
    # Effective width: of the narrow network, with the same outputs by the textbook's sweep.
    found = analysis.effective_width(wide, theta)
    assert found.widths == narrow.network.widths, (seed, built.kind, str(found))
    reduced = found.network.unpack(found.theta)
    again = built.naive(reduced, built.Y).outputs(found.theta)
    np.testing.assert_allclose(again, built.outputs, atol=bound, err_msg=f"{seed} {built.kind}")
    if built.kind == "merged":
        layer, unit = built.pair
        pair = layer, unit + 1, built.wide[layer - 1].shape[0]
        merged = analysis.merge_units(wide.network, theta, *pair)[1]
        np.testing.assert_allclose(merged, flat(built.narrow), atol=1e-11)
    if built.kind == "channel":
        assert found.steps == ()
    # The index along gamma: of the textbook's Hessian at points split by hand.
    point, rng = flat(built.narrow), built.rng
    built.wide = [w.copy() for w in built.narrow]
    layer, unit = built.hidden()
    gammas = rng.uniform(-1.0, 2.0, 2)
    table = analysis.index_along_gamma(narrow, point, layer, unit + 1, gammas)
    for k, gamma in enumerate(gammas):
        built.wide = [w.copy() for w in built.narrow]
        a = built.wide[layer][:, unit].copy()
        built.append(layer, built.wide[layer - 1][unit], (1.0 - gamma) * a)
        built.wide[layer][:, unit] = gamma * a
        values = np.linalg.eigvalsh(built.naive(built.wide, built.Y).hessian(flat(built.wide)))
        assert np.abs(table.eigenvalues[k] - values).max() <= table.bounds[k], (seed, gamma)
        counts = [np.sum(values > table.bounds[k]), np.sum(values < -table.bounds[k])]
        assert list(table.inertias[k, [0, 2]]) == counts, (seed, gamma)
    return built.kind


@pytest.mark.parametrize("seed", range(10))
def test_constructed_points(seed):
    check(seed)


@pytest.mark.slow
def test_300_constructed_points():
    kinds = [check(seed) for seed in range(10, 310)]
    assert {kind: kinds.count(kind) for kind in KINDS} == dict.fromkeys(KINDS, 60)
