"""Derivatives of a network by its inputs: forward, J, products, Hessians; two oracles."""

import naive
import numpy as np
import pytest

import fastggn as fg
from fastggn.kernels import channel_rows, ggn_expand, ggn_rows
from fastggn.network.channels import ChannelBlock, ChannelPlan, Channels, refuse_rough
from fastggn.network.workspace import Workspace
from fastggn.objective.ggn_tiles import RowTiling

SMOOTH = ("tanh", "sigmoid", "softplus", "bent_identity", "square", "sin", "swish", "gelu")
SIZES = (1, 7, 8, 9, 31)
BOTH = np.array([[0.7, 1.3], [0.9, -0.4], [0.2, 0.6]])  # coefficients, and two derivatives


class SmallTiles(RowTiling):
    """More than one tile for networks of this size."""

    most = 7


class Drawn:
    """A random network with channels, points, a direction and factors."""

    def __init__(self, seed, T=None):
        rng = np.random.default_rng([17, seed])
        depth = int(rng.integers(1, 4))
        n_0, n_L = int(rng.integers(1, 4)), int(rng.integers(1, 4))
        self.widths = (n_0, *(int(n) for n in rng.integers(1, 6, depth)), n_L)
        self.names = [str(rng.choice(SMOOTH)) for _ in range(depth)]
        self.names.append(str(rng.choice(["identity", "identity", "tanh", "square"])))
        kind = ("free", "none", "fixed")[seed % 3]
        fixed = [rng.normal(size=n) for n in self.widths[1:]]
        self.bias = fixed if kind == "fixed" else kind
        self.net = fg.MLP(self.widths, self.names[:-1], self.names[-1], self.bias)
        pairs = [(i, j) for i in range(n_0) for j in range(i, n_0)]
        wanted = [pairs[k] for k in rng.permutation(len(pairs))[: rng.integers(0, 4)]]
        wanted += [(int(i),) for i in rng.permutation(n_0)[: rng.integers(0, 2)]]
        self.channels = Channels(wanted, n_0)
        self.T = int(SIZES[seed % 5]) if T is None else T
        self.X = rng.normal(size=(self.T, n_0))
        self.theta = np.concatenate([0.8 * rng.normal(size=self.net.n_params), BOTH[0]])
        self.v = rng.normal(size=self.theta.size)
        n_out = n_L * len(self.channels) + 2
        self.S = rng.normal(size=(self.T, n_out, int(rng.integers(1, 4))))
        self.u = rng.normal(size=(self.T, n_out))
        self.w = rng.normal(size=(2, self.T, self.S.shape[2]))
        half = rng.normal(size=(self.T, n_out, n_out))
        self.H = half + half.transpose(0, 2, 1)

    def block(self, chunk=8):
        plan = ChannelPlan(self.net, self.T, self.channels, 2, chunk=chunk)
        return ChannelBlock(plan, self.theta, 0, self.X, BOTH, Workspace())


def close(got, want, tol=1e-11):
    scale = max(1.0, np.abs(want).max(initial=0.0))
    np.testing.assert_allclose(got, want, rtol=0, atol=tol * scale)


def dense_rows(block, drawn):
    """All rows of S^T J."""
    psi, tail = block.sensitivities(drawn.S), block.coefficient_columns(drawn.S)
    out = np.full((drawn.T * drawn.S.shape[2], drawn.theta.size), np.nan)
    block.jacobian_rows(psi, tail, 0, drawn.T, out)
    return out


def gram_of(block, drawn):
    """S^T J's Gram matrix by tiles, on and off the diagonal."""
    tiling = SmallTiles(block.plan, block.n_chunks)
    psi, tail = block.sensitivities(drawn.S), block.coefficient_columns(drawn.S)
    lanes = np.full((tiling.n_lanes, tiling.size), np.nan)
    block.add_gram(tiling, psi, tail, True, lanes)
    out = np.zeros((drawn.theta.size,) * 2)
    ggn_rows.expand_rows(tiling.tiles, lanes, 1.0, out)
    ggn_expand.mirror(out, True)
    return out


def summed(add, drawn, *shape):
    lanes = np.zeros((2, *shape, drawn.theta.size))
    add(lanes)
    return lanes.sum(axis=0)


def assert_products_agree(block, drawn, F, J):
    """Every function of a block against the outputs (B, n) and J (B, n, N)."""
    close(block.outputs, F)
    rows = np.einsum("bos,boN->bsN", drawn.S, J).reshape(-1, drawn.theta.size)
    close(dense_rows(block, drawn), rows)
    close(gram_of(block, drawn), rows.T @ rows)
    close(block.tangents(drawn.v[None])[0], J @ drawn.v)
    u = drawn.u[None]
    got = summed(lambda lanes: block.add_backward(u, lanes), drawn, 1)[0]
    close(got, np.einsum("bo,boN->N", drawn.u, J))
    dual = np.full((len(rows),) * 2, np.nan)
    channel_rows.gram_of_rows(dense_rows(block, drawn), 16, dual)
    close(dual, rows @ rows.T)
    psi, w = block.sensitivities(drawn.S), drawn.w
    got = summed(lambda lanes: block.add_transposed_rows(psi, drawn.S, w, lanes), drawn, len(w))
    close(got, w.reshape(len(w), -1) @ rows)


def by_naive(drawn):
    """Outputs and Jacobian with the coefficients' rows and columns, by the textbook."""
    jets = [naive.HIGHER[name] for name in drawn.names]
    known = [naive.Activation(*jet[:3]) for jet in jets]
    network = naive.Network(drawn.widths, known, drawn.bias)
    listed, n = drawn.channels.listed, drawn.net.n_params
    parts = [
        naive.channels_and_jacobian(network, jets, listed, drawn.theta[:n], x) for x in drawn.X
    ]
    F = np.array([np.concatenate([f, BOTH[0]]) for f, _ in parts])
    J = np.zeros((drawn.T, F.shape[1], n + 2))
    J[:, :-2, :n] = [j for _, j in parts]
    J[:, [-2, -1], [n, n + 1]] = BOTH[1]
    return F, J


@pytest.mark.parametrize("seed", range(12))
def test_against_the_textbook(seed):
    """Outputs, rows, Gram matrix, J v and J^T u of random networks."""
    drawn = Drawn(seed)
    assert_products_agree(drawn.block(), drawn, *by_naive(drawn))


@pytest.mark.parametrize("seed", range(12))
def test_second_derivatives_by_differences(seed):
    """The second derivative along a line and H v, from J at two points of the line."""
    drawn, h = Drawn(seed, T=9), 1e-5
    block = drawn.block()
    n = drawn.net.n_params
    got = block.second_tangent(drawn.v)
    hessian = summed(
        lambda lanes: block.add_hessian_product(drawn.v, drawn.u, drawn.H, lanes), drawn
    )

    def moved(sign):
        other = Drawn(seed, T=9)
        other.theta = drawn.theta + sign * h * drawn.v
        step = sign * h * drawn.v[n:]
        bent = np.array([BOTH[0], BOTH[1] + BOTH[2] * step, BOTH[2]])
        plan = ChannelPlan(other.net, 9, other.channels, 2, chunk=8)
        there = ChannelBlock(plan, other.theta, 0, other.X, bent, Workspace())
        tangent = there.tangents(drawn.v[None])[0]
        u = drawn.u + sign * h * np.einsum("boc,bc->bo", drawn.H, block.tangents(drawn.v[None])[0])
        return tangent, summed(lambda lanes: there.add_backward(u[None], lanes), drawn, 1)[0]

    (up, gradient_up), (down, gradient_down) = moved(1.0), moved(-1.0)
    close(got, (up - down) / (2 * h), 1e-6)
    first = block.tangents(drawn.v[None])  # the one that came with the second
    np.testing.assert_array_equal(first, drawn.block().tangents(drawn.v[None]))
    close(block.tangents(2.0 * drawn.v[None]), 2.0 * first)
    close(hessian, (gradient_up - gradient_down) / (2 * h), 1e-6)


def by_jax(drawn):
    """Outputs (B, n), J (B, n, N), and the second derivative along v and H v, by JAX alone."""
    jax = pytest.importorskip("jax", reason="needs the package jax (extra 'test')")
    import jax.numpy as jnp
    from jax_reference import ACTIVATIONS

    n = drawn.net.n_params
    fixed = drawn.bias if not isinstance(drawn.bias, str) else [0.0] * len(drawn.names)

    def network(theta, x):
        start = 0
        for (rows, m), name, b in zip(drawn.net.layer_shapes, drawn.names, fixed, strict=True):
            W = theta[start : start + rows * m].reshape(rows, m)
            start += rows * m
            x = ACTIVATIONS[name](W @ jnp.concatenate([x, jnp.ones(m - x.size)]) - b)
        return x

    def outputs(theta, x):
        parts = [network(theta, x)]
        parts.append(jax.jacfwd(network, 1)(theta, x))
        parts.append(jax.jacfwd(jax.jacfwd(network, 1), 1)(theta, x))
        picked = [
            parts[len(c)][(k, *c)] for k in range(drawn.widths[-1]) for c in drawn.channels.listed
        ]
        shift = theta[n:] - drawn.theta[n:]
        k = BOTH[0] + BOTH[1] * shift + 0.5 * BOTH[2] * shift**2
        return jnp.concatenate([jnp.array(picked), k])

    def every(theta):
        return jax.vmap(lambda x: outputs(theta, x))(drawn.X)

    def along(t):
        return every(drawn.theta + t * drawn.v)

    def loss(theta):
        change = every(theta) - every(drawn.theta)
        return jnp.sum(drawn.u * change) + 0.5 * jnp.einsum("bo,boc,bc", change, drawn.H, change)

    @jax.jit
    def evaluate():
        bend = jax.jacfwd(jax.jacfwd(along))(0.0)
        product = jax.jvp(jax.grad(loss), (drawn.theta,), (drawn.v,))[1]
        return every(drawn.theta), jax.jacfwd(every)(drawn.theta), bend, product

    return [np.asarray(part) for part in evaluate()]


def check_against_jax(seed):
    drawn = Drawn(seed)
    F, J, bend, product = by_jax(drawn)
    for chunk in (None, 8):
        block = drawn.block(chunk)
        assert_products_agree(block, drawn, F, J)
        close(block.second_tangent(drawn.v), bend)
        own = summed(
            lambda lanes, of=block: of.add_hessian_product(drawn.v, drawn.u, drawn.H, lanes), drawn
        )
        close(own, product)


def test_against_jax():
    """One network; `test_sixty_networks_against_jax` has more."""
    check_against_jax(10)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(60))
def test_sixty_networks_against_jax(seed):
    """1e-11 in every function, T in {1, 7, 8, 9, 31}, all kinds of biases, several outputs."""
    check_against_jax(seed)


def test_channels_are_closed_and_sorted():
    """A second derivative brings the value and both first ones; order does not matter."""
    channels = Channels([(1, 0), (2, 2), (0, 1)], 3)
    assert channels.listed == ((), (0,), (1,), (2,), (0, 1), (2, 2))
    assert channels.table.tolist()[4:] == [[2, 1, 2], [2, 3, 3]]
    assert Channels([], 2).listed == ((),)


def test_bad_channels():
    with pytest.raises(ValueError, match="of order 5; .* up to order 2"):
        Channels([(0, 0, 0, 0, 0)], 1)
    with pytest.raises(ValueError, match="input 2 does not exist: the network has 2"):
        Channels([(2,)], 2)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "softsign"])
def test_rough_activations_are_refused(name):
    with pytest.raises(ValueError, match=f"'{name}' of layer 2 has a jump"):
        refuse_rough(fg.MLP((1, 3, 3, 1), ["tanh", name]))


def test_custom_activations_need_four_derivatives():
    """Without the higher ones refused; with them the same bits as the built-in square."""
    f = (lambda z: z * z, lambda z: z + z, lambda z: 2.0 + 0.0 * z, lambda z: 0.0 * z)
    with pytest.raises(ValueError, match="give third_derivative and fourth_derivative"):
        refuse_rough(fg.MLP((1, 3, 1), fg.Activation.custom("mine", *f[:3])))
    with pytest.raises(TypeError, match="give both"):
        fg.Activation.custom("mine", *f)
    mine = fg.Activation.custom("mine", *f, f[3])
    outputs = []
    for activation in (mine, "square"):
        net = fg.MLP((2, 3, 1), activation)
        refuse_rough(net)
        plan = ChannelPlan(net, 5, Channels([(0, 1), (1, 1)], 2))
        X = np.random.default_rng(0).normal(size=(5, 2))
        block = ChannelBlock(plan, net.init(seed=0), 0, X, np.zeros((3, 0)), Workspace())
        outputs.append(block.outputs)
    np.testing.assert_array_equal(*outputs)


@pytest.mark.parametrize(
    "name",
    [*SMOOTH[:-1], pytest.param("gelu", marks=pytest.mark.slow)],  # by mpmath's erf
)
def test_higher_derivatives_in_the_tails(name):
    """Third and fourth derivatives against mpmath, relative to the largest term that cancels."""
    import mpmath

    from fastggn.kernels.higher_activations import activate_higher
    from fastggn.network.activations import ACTIVATIONS

    z = np.concatenate([np.linspace(-30, 30, 31), [-300.0, 300.0, 1e-9]])[None]
    outs = [np.empty_like(z) for _ in range(5)]
    activate_higher(ACTIVATIONS[name].code, 0.0, 0, z, *outs)
    exact = {
        "tanh": mpmath.tanh,
        "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
        "softplus": lambda x: mpmath.log(1 + mpmath.exp(x)),
        "bent_identity": lambda x: (mpmath.sqrt(x * x + 1) - 1) / 2 + x,
        "square": lambda x: x * x,
        "sin": mpmath.sin,
        "swish": lambda x: x / (1 + mpmath.exp(-x)),
        "gelu": lambda x: x * mpmath.ncdf(x),
    }[name]
    with mpmath.workdps(160 if name in ("sigmoid", "softplus") else 320):
        jets = [mpmath.taylor(exact, x, 4) for x in z[0]]
    for order in (3, 4):
        want = np.array([float(jet[order] * mpmath.factorial(order)) for jet in jets])
        scale = np.abs(outs[order - 1][0]) + np.abs(want)
        assert (np.abs(outs[order][0] - want) <= 1e-14 * scale + 1e-300).all()


def test_gram_of_rows():
    rows = np.random.default_rng(0).normal(size=(37, 5))
    out = np.zeros((37, 37))
    channel_rows.gram_of_rows(rows, 16, out)
    close(out, rows @ rows.T)
