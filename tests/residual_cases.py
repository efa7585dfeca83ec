"""Problems of equations with a textbook twin: residuals and J, one parameter at a time."""

import naive
import numpy as np

import fastggn as fg

WIDTHS = (2, 3, 1)
LISTED = [(), (0,), (1,), (0, 0), (0, 1)]


def equation(x, u, k):
    return u.d("x", "x") + k["a"] * u.d("x", "y") * u.value - k["b"] * np.sin(x[:, 0]), u.d("y")


class Case:
    """Equations and data for F(2,3,1) with two coefficients, one of them bounded from below."""

    def __init__(self, seed, *, scale=False, l2=0.0, loss="squared", T=(9, 14)):
        rng = np.random.default_rng([29, seed])
        self.X = [rng.normal(size=(count, 2)) for count in T]
        self.Y = rng.normal(size=T[1])
        self.dY = rng.normal(size=T[1])
        self.weights = (2.0, 0.5)
        self.own = rng.uniform(0.5, 2.0, T[0])
        terms = [
            fg.Term(self.X[0], equation, weight=2.0, sample_weight=self.own, loss=loss),
            fg.Term(self.X[1], targets=self.Y, derivatives={("y",): self.dY}, weight={(): 0.5}),
        ]
        terms[1].weight = {(): 0.5, ("y",): 1.0}
        self.problem = fg.ResidualProblem(
            fg.MLP(WIDTHS),
            terms,
            inputs=("x", "y"),
            coefficients={"a": 0.7, "b": (0.4, 0.1, None)},
            scale=scale,
            l2=l2,
        )
        self.theta = self.problem.init(seed) + 0.3 * rng.normal(size=self.problem.n_params)

    def channels(self, theta, X):
        """Channels (B, 5) in raw units, and their derivatives by the weights (B, 5, n)."""
        theta = np.asarray(theta)
        network = naive.Network(WIDTHS, [naive.Activation(*naive.HIGHER[name][:3])
                                         for name in ("tanh", "identity")], "free")  # fmt: skip
        jets = [naive.HIGHER["tanh"], naive.HIGHER["identity"]]
        scaler = self.problem.input_scaler
        mean, width = (0.0, np.ones(2)) if scaler is None else (scaler.mean, scaler.scale)
        factors = np.array([np.prod([1.0 / width[i] for i in c]) for c in LISTED])
        own = theta[: self.problem.network.n_params]
        parts = [
            naive.channels_and_jacobian(network, jets, LISTED, own, x) for x in (X - mean) / width
        ]
        return (
            np.array([f * factors for f, _ in parts]),
            np.array([j * factors[:, None] for _, j in parts]),
        )

    def residuals(self, theta):
        """Residuals, their Jacobian (M, N), and the share of each in the objective."""
        theta = np.asarray(theta)
        n = self.problem.network.n_params
        a, b = theta[n], 0.1 + np.log1p(np.exp(theta[n + 1]))
        slope = 1.0 / (1.0 + np.exp(-theta[n + 1]))
        u, du = self.channels(theta, self.X[0])
        first = u[:, 3] + a * u[:, 4] * u[:, 0] - b * np.sin(self.X[0][:, 0])
        rows = du[:, 3] + a * (u[:, 4, None] * du[:, 0] + u[:, 0, None] * du[:, 4])
        tail = np.stack([u[:, 4] * u[:, 0], -slope * np.sin(self.X[0][:, 0])], axis=1)
        J = [np.hstack([rows, tail]), np.hstack([du[:, 2], 0.0 * tail])]
        r = [first, u[:, 2]]
        v, dv = self.channels(theta, self.X[1])
        zero = np.zeros((len(v), 2))
        root = np.sqrt(0.5)
        r += [root * (v[:, 0] - self.Y), v[:, 2] - self.dY]
        J += [np.hstack([root * dv[:, 0], zero]), np.hstack([dv[:, 2], zero])]
        own, T = 2.0 * self.own / self.own.sum(), len(v)
        shares = np.concatenate([np.repeat(own, 2), np.full(2 * T, 1.0 / T)])
        together = [np.stack(pair, axis=1) for pair in ((r[0], r[1]), (r[2], r[3]))]
        rows = [np.stack(pair, axis=1) for pair in ((J[0], J[1]), (J[2], J[3]))]
        flat = np.concatenate([part.reshape(-1) for part in together])
        return flat, np.concatenate([part.reshape(-1, theta.size) for part in rows]), shares

    def gradient(self, theta):
        """The gradient of the data term with squared losses."""
        r, J, shares = self.residuals(theta)
        return (shares * r) @ J

    def curvature(self, theta):
        """The Gauss-Newton matrix of the data term."""
        _, J, shares = self.residuals(theta)
        return (J.T * shares) @ J


def decay(T=24, noise=0.02, seed=0, loss="squared", **options):
    """u' = -k u with noisy data of exp(-1.5 t)."""
    t = np.linspace(0.0, 2.0, T)[:, None]
    rng = np.random.default_rng([31, seed])
    data = np.exp(-1.5 * t[:, 0]) + noise * rng.normal(size=T)
    terms = [
        fg.Term(t, lambda x, u, k: u.d("t") + k["k"] * u.value),
        fg.Term(t, targets=data, loss=loss),
    ]
    return fg.ResidualProblem(
        fg.MLP((1, 4, 1)), terms, inputs=["t"], coefficients={"k": 1.0}, **options
    )


def fitted_twins(T=30, seed=0):
    """The same fit of values as a `Problem` and as a `ResidualProblem`, and a start."""
    rng = np.random.default_rng([37, seed])
    X = rng.uniform(-1.0, 1.0, (T, 1))
    Y = np.sin(3.0 * X[:, 0]) + 0.1 * rng.normal(size=T)
    net = fg.MLP((1, 5, 1))
    twin = fg.ResidualProblem(net, [fg.Term(X, targets=Y)])
    return fg.Problem(net, X, Y), twin, net.init(seed)
