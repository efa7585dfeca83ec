"""Shallow oracles, the null space of the GGN, and the sensitivity to targets."""

import json
import tracemalloc

import naive
import numpy as np
import pytest
import scipy.linalg
from checks import assert_close
from naive_shallow import Shallow, commutation, vec

import fastggn as fg
from fastggn import analysis
from fastggn.solvers.null_space import DenseNullSpace, ReflectedNullSpace

SMOOTH = ("tanh", "sigmoid", "softplus", "bent_identity", "square", "identity")


def shallow(rng, activation=None, widths=None, d=None, exact=False):
    """A random shallow problem without biases: the package's, and the closed form."""
    n, r, m = widths or rng.integers(1, 5, 3)
    d = d or int(rng.integers(1, 7))
    activation = activation or rng.choice(SMOOTH)
    net = fg.MLP((n, r, m), activation=str(activation), bias="none")
    W0, W1 = rng.standard_normal((r, n)), rng.standard_normal((m, r))
    X = rng.standard_normal((n, d))
    sigma = naive.ACTIVATIONS[str(activation)]
    Y = W1 @ sigma.sigma(W0 @ X) if exact else rng.standard_normal((m, d))
    return fg.Problem(net, X.T, Y.T), net.pack([W0, W1]), Shallow(W0, W1, X, Y, sigma)


# --- Theorem 1, Lemmas 2 to 4 -----------------------------------------------------------------


@pytest.mark.parametrize("activation", SMOOTH)
def test_closed_form_of_shallow_networks(activation):
    rng = np.random.default_rng(list(SMOOTH).index(activation))
    for trial in range(10):
        problem, theta, closed = shallow(rng, activation)
        case, T, order = f"{activation} {trial}", problem.n_samples, closed.package_order()
        both = np.concatenate([vec(g) for g in closed.gradient()])
        assert_close(case, "loss", T * problem.loss(theta), closed.loss())
        assert_close(case, "gradient", T * problem.gradient(theta), both[order])
        gn = closed.gauss_newton()[np.ix_(order, order)]
        full = closed.hessian()[np.ix_(order, order)]
        assert_close(case, "ggn", T * problem.ggn(theta), gn)
        assert_close(case, "hessian", T * problem.hessian(theta), full, 1e-9)


def test_errata_of_lemmas_3_and_4():
    """I_n for I_m in (46), K^(n,r) for K^(m,r) in (52): the printed shapes do not even fit."""
    _, _, c = shallow(np.random.default_rng(0), "tanh", (3, 2, 4), 5)
    assert (
        np.kron(c.S @ c.S.T, np.eye(c.n)).shape != c.gauss_newton()[: c.m * c.r, : c.m * c.r].shape
    )
    with pytest.raises(ValueError):
        np.kron(c.R.T, np.eye(c.r)) @ commutation(c.n, c.r)
    # Where n = m they fit and differ in nothing: the error is one of dimensions only.
    V = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(commutation(2, 3) @ vec(V), vec(V.T))
    np.testing.assert_allclose(c.rest(), c.rest().T, atol=1e-12)


# --- Theorem 2 --------------------------------------------------------------------------------


def test_theorem_2_with_its_erratum():
    """sigma' for sigma in Eq. 11: the printed equations have null spaces of a wrong dimension."""
    rng, wrong = np.random.default_rng(1), 0
    for _ in range(60):
        problem, theta, c = shallow(rng, rng.choice(["tanh", "sigmoid", "softplus"]), exact=True)
        order = c.package_order()
        np.testing.assert_allclose(c.corrected_theorem_2(), c.gauss_newton(), atol=1e-10)
        null = analysis.null_space(problem, theta)
        rank = np.linalg.matrix_rank(c.jacobian())
        assert null.dimension == c.r * (c.m + c.n) - rank
        basis = np.empty_like(null.basis)
        basis[order] = null.basis
        # Characterisation: What_1 S + W_1 (sigma' o What_0 X) = 0.
        for direction in basis.T:
            V1 = direction[: c.m * c.r].reshape(c.m, c.r, order="F")
            V0 = direction[c.m * c.r :].reshape(c.r, c.n, order="F")
            moved = V1 @ c.S + c.W1 @ (c.S1 * (V0 @ c.X))
            assert np.abs(moved).max() < 1e-9
        dimension = c.printed_theorem_2()
        wrong += dimension.shape[1] - np.linalg.matrix_rank(dimension) != null.dimension
    assert wrong > 20


def test_first_layer_split_and_equation_19():
    """The coupled W_1 is -W_1 (sigma' o What_0 X) S^+; sigma' o What_0 X = 0 gives W_1 = 0."""
    rng = np.random.default_rng(2)
    strictly_larger = 0
    for _ in range(30):
        problem, theta, c = shallow(rng, "tanh", exact=True)
        null = analysis.null_space(problem, theta)
        split = null.first_layer_split()
        k = split.first.shape[0]
        assert k + split.later.shape[0] == null.dimension
        assert split.later.shape[0] == c.m * (c.r - np.linalg.matrix_rank(c.S))
        assert null.layer_alone[1] == split.later.shape[0]
        assert null.layer_dimensions[0] == k
        for first, coupled in zip(split.first, split.coupled, strict=True):
            want = -c.W1 @ (c.S1 * (first @ c.X)) @ np.linalg.pinv(c.S)
            scale = 1.0 + np.abs(want).max()
            assert np.abs(coupled.reshape(c.m, c.r) - want).max() < 1e-6 * scale
        if np.linalg.matrix_rank(c.S) == c.d:  # then every What_0 has its What_1
            assert k == c.r * c.n
        still = np.stack([vec(c.S1 * (V.reshape(c.r, c.n) @ c.X)) for V in np.eye(c.r * c.n)])
        strictly_larger += null.dimension > c.r * c.n - np.linalg.matrix_rank(still)
    assert strictly_larger > 15  # the paper's condition is sufficient, not necessary


def test_errata_of_equations_12_and_19():
    """sigma' o What_0 X = 0 makes What_1 zero; (S S^T)^-1 does not exist for r > d."""
    net = fg.MLP((2, 3, 1), activation="relu", bias="none")
    W0, W1 = np.array([[1.0, 0.5], [-1.0, -1.0], [1.0, 1.0]]), np.ones((1, 3))
    X = np.array([[1.0, 2.0], [0.5, 1.0]])
    theta = net.pack([W0, W1])
    problem = fg.Problem(net, X, net.predict(theta, X))
    split = analysis.null_space(problem, theta).first_layer_split()
    assert split.first.shape[0] == 6  # rank S < d here, but every What_0 is admissible
    asleep = np.zeros((3, 2))
    asleep[1] = [0.6, 0.8]  # the unit that is asleep at both samples
    weights = np.einsum("knm,nm->k", split.first, asleep)
    assert np.linalg.norm(weights) == pytest.approx(1.0)  # a null direction by itself
    np.testing.assert_allclose(weights @ split.coupled, 0.0, atol=1e-12)
    S = np.maximum(W0 @ X.T, 0.0)
    assert np.linalg.matrix_rank(S @ S.T) < 3


def test_a_zero_eigenvalue_without_a_manifold_of_minima():
    """sigma = 1 + z^2, x = (1, 2), y = (1, 1): the unique minimiser near it, Hessian diag(2, 0)."""
    sigma = fg.Activation.custom(
        "one_plus_square", lambda z: 1.0 + z * z, lambda z: 2.0 * z, lambda z: 2.0
    )
    net = fg.MLP((1, 1, 1), activation=sigma, bias="none")
    problem = fg.Problem(net, [[1.0], [2.0]], [[1.0], [1.0]])
    theta = net.pack([[[0.0]], [[1.0]]])
    np.testing.assert_allclose(2 * problem.hessian(theta), np.diag([0.0, 2.0]), atol=1e-14)
    assert analysis.null_space(problem, theta).dimension == 1
    angles = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    for radius in (1e-1, 1e-2):
        for angle in angles:
            step = radius * np.array([np.cos(angle), np.sin(angle)])
            assert problem.loss(theta + step) > 0.0


@pytest.mark.slow
def test_dimension_on_300_zero_misfit_problems():
    """N - rank J, any depth and bias; principal angles to the dense SVD below 1e-7."""
    rng, largest, deep, done, trial = np.random.default_rng(3), 0.0, 0, 0, 0
    while done < 300:
        trial += 1
        layers = int(rng.integers(2, 5))
        widths = tuple(int(w) for w in rng.integers(1, 5, layers + 1))
        bias = ("free", "none")[trial % 2]
        names = [str(a) for a in rng.choice(["tanh", "sigmoid", "softplus", "relu"], layers - 1)]
        net = fg.MLP(widths, activation=names, bias=bias)
        theta = rng.standard_normal(net.n_params)
        X = rng.standard_normal((int(rng.integers(1, 9)), widths[0]))
        problem = fg.Problem(net, X, net.predict(theta, X))
        null = analysis.null_space(problem, theta)
        J = problem.jacobian(theta).to_dense()
        s = np.linalg.svd(J, compute_uv=False)
        tol = np.finfo(float).eps * max(J.shape) * s[0]
        if ((s > 0.5 * tol) & (s < 1e3 * tol)).any():  # no rank is right there
            continue
        done, deep = done + 1, deep + (layers > 2)
        assert null.loss < 1e-28
        assert null.dimension == net.n_params - np.linalg.matrix_rank(J), trial
        np.testing.assert_allclose(null.basis.T @ null.basis, np.eye(null.dimension), atol=1e-12)
        if null.dimension and s[s > tol].size and s[s > tol][-1] > 1e-6 * s[0]:
            dense = scipy.linalg.null_space(J)
            largest = max(largest, scipy.linalg.subspace_angles(null.basis, dense).max())
    assert deep > 150 and trial < 330
    assert 0.0 < largest < 1e-7


def test_family_of_linear_factors():
    """(W_1 B, B^-1 W_0): its tangents W_1 A, -A W_0 are the null space of a linear network."""
    rng = np.random.default_rng(4)
    net = fg.MLP((4, 3, 4), activation="identity", bias="none")
    X, W0, W1 = (
        rng.standard_normal((9, 4)),
        rng.standard_normal((3, 4)),
        rng.standard_normal((4, 3)),
    )
    theta = net.pack([W0, W1])
    problem = fg.Problem(net, X, net.predict(theta, X))
    B = np.eye(3) + 0.3 * rng.standard_normal((3, 3))
    moved = net.pack([np.linalg.inv(B) @ W0, W1 @ B])
    np.testing.assert_allclose(problem.outputs(moved), problem.outputs(theta), atol=1e-12)
    null = analysis.null_space(problem, theta)
    assert null.dimension == 9
    tangents = np.stack([net.pack([-A @ W0, W1 @ A]) for A in np.eye(9).reshape(9, 3, 3)]).T
    assert scipy.linalg.subspace_angles(tangents, null.basis).max() < 1e-7


def test_reflectors_are_a_basis():
    """Of fewer rows than parameters, dependent ones too, against the singular vectors of R."""
    for trial in range(24):
        rng = np.random.default_rng([5, trial])
        widths = (int(rng.integers(1, 5)), int(rng.integers(6, 12)), int(rng.integers(1, 4)))
        T = int(rng.integers(1, 6))
        X = rng.standard_normal((T, widths[0]))
        X[T // 2 :] = X[: T - T // 2] if trial % 3 == 0 else X[T // 2 :]
        net = fg.MLP(widths)
        problem, theta = fg.Problem(net, X, np.zeros((T, widths[-1]))), net.init(rng, "normal")
        few, dense = ReflectedNullSpace(problem.at(theta)), DenseNullSpace(problem.at(theta))
        assert few.n_rows == dense.n_rows and few.found.rank == dense.found.rank
        basis = few.basis
        np.testing.assert_allclose(basis.T @ basis, np.eye(few.n_rows), atol=1e-13)
        np.testing.assert_allclose(basis @ basis.T, dense.basis @ dense.basis.T, atol=1e-9)
        np.testing.assert_allclose(np.concatenate(list(few.blocks())), basis.T, atol=1e-15)
        rows = few.into_row_basis()
        both = rows @ rows.T + basis @ basis.T
        np.testing.assert_allclose(both, np.eye(net.n_params), atol=1e-13)
        v = rng.standard_normal(net.n_params)
        null = analysis.null_space(problem, theta)
        np.testing.assert_allclose(null.project(v), basis @ (basis.T @ v), atol=1e-12)
        np.testing.assert_allclose(null.coordinates(v), basis.T @ v, atol=1e-12)
        np.testing.assert_allclose(null.apply(v[: null.dimension]), basis @ v[: null.dimension])
        # the dimensions by layer, from a basis of the null space itself
        start = 0
        for (n, m), reach, alone in zip(
            net.layer_shapes, null.layer_dimensions, null.layer_alone, strict=True
        ):
            stop = start + n * m
            inside, outside = basis[start:stop], np.concatenate([basis[:start], basis[stop:]])
            start = stop
            assert reach == np.linalg.matrix_rank(inside, tol=1e-7)
            assert alone == null.dimension - np.linalg.matrix_rank(outside, tol=1e-7)
    with pytest.raises(ValueError, match="v must have shape"):
        null.project(v[:-1])


def test_memory_of_few_rows():
    """Some two arrays of rows x parameters, where a basis would take 19."""
    net = fg.MLP((3, 40, 49, 1))
    X = np.random.default_rng(0).standard_normal((110, 3))
    problem, theta = fg.Problem(net, X, X[:, 0]), net.init(0)
    analysis.null_space(problem, theta)
    tracemalloc.start()
    null = analysis.null_space(problem, theta)
    null.project(theta)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # 1.5 at 500 x 8,961, where the buffers of fixed size count for little
    assert peak < 2.3 * 110 * net.n_params * 8, peak / (110 * net.n_params * 8)


def test_report(tmp_path):
    problem, theta, _ = shallow(np.random.default_rng(5), "tanh", (2, 4, 1), 3, exact=True)
    report = analysis.null_space(problem, theta)
    assert json.loads(json.dumps(report.to_dict()))["dimension"] == report.dimension
    assert f"dimension {report.dimension}" in str(report)
    assert [p.shape for p in report.layers()] == [
        (report.dimension, 4, 2),
        (report.dimension, 1, 4),
    ]
    report.plot().savefig(tmp_path / "s.png")
    assert analysis.null_space(problem, theta, tol=1e9).dimension == problem.n_params
    with pytest.raises(ValueError, match="tol"):
        analysis.null_space(problem, theta, tol=-1.0)
    X = problem.layer_outputs(theta)[0].T
    exact = fg.Problem(problem.network, X, problem.targets, "cauchy", curvature="exact")
    with pytest.raises(ValueError, match="exact"):
        analysis.null_space(exact, theta)


# --- sensitivity to targets -------------------------------------------------------------------


def overparametrised(seed=0):
    rng = np.random.default_rng(seed)
    net = fg.MLP((2, 6, 1))
    theta = net.init(seed, scheme="normal")
    X = rng.standard_normal((8, 2))
    return net, X, theta, fg.Problem(net, X, net.predict(theta, X))


@pytest.mark.parametrize("gamma", [1.0, np.inf])
def test_response_is_what_training_again_gives(gamma):
    net, X, theta, problem = overparametrised()
    rng = np.random.default_rng(1)
    regularizer = fg.NullSpace(gamma)
    response = analysis.target_sensitivity(problem, theta, regularizer=regularizer)
    J = problem.jacobian(theta).to_dense()
    np.testing.assert_allclose(response.theta_response, np.linalg.pinv(J), atol=1e-6)
    np.testing.assert_allclose(response.prediction_response, np.eye(8), atol=1e-8)
    dY = 1e-5 * rng.standard_normal((8, 1))
    moved, stop = fg.Problem(net, X, problem.targets + dY), fg.Stop(gradient=1e-14)
    again = fg.train(moved, theta, method="newton", regularize=regularizer, stop=stop)
    want = response.theta_response @ dY.ravel()
    assert np.linalg.norm(again.theta - theta - want) < 1e-2 * np.linalg.norm(want)


def test_theta_is_no_function_of_the_targets_without_the_regulariser():
    net, X, theta, problem = overparametrised()
    fresh = np.random.default_rng(2).standard_normal((5, 2))
    plain = analysis.target_sensitivity(problem, theta, X_new=fresh)
    assert plain.undetermined == net.n_params - 8
    assert plain.theta_norm == np.inf and plain.new_norm == np.inf
    assert plain.prediction_norm == pytest.approx(1.0, abs=1e-6)
    with_it = analysis.target_sensitivity(problem, theta, regularizer=fg.NullSpace(), X_new=fresh)
    assert with_it.undetermined == 0
    s = np.linalg.svd(problem.jacobian(theta).to_dense(), compute_uv=False)
    assert with_it.theta_norm == pytest.approx(1.0 / s[-1], rel=1e-6)
    assert np.isfinite(with_it.new_norm)
    # l2 determines theta too, at the price of predictions that no longer follow the targets.
    ridge = fg.Problem(net, X, problem.targets, l2=1e-2)
    at = fg.train(ridge, theta, method="newton", stop=fg.Stop(gradient=1e-12)).theta
    damped = analysis.target_sensitivity(ridge, at)
    assert damped.undetermined == 0 and damped.theta_norm < with_it.theta_norm
    follows = np.linalg.svd(damped.prediction_response, compute_uv=False)
    assert follows[-1] < 0.5
    assert "undetermined" in str(plain)
    assert json.loads(json.dumps(plain.to_dict()))["theta_norm"] is None


def test_response_with_weights_and_a_scale():
    """Finite differences at a regular minimum with a misfit."""
    rng = np.random.default_rng(3)
    net, X = fg.MLP((2, 2, 2), bias="none"), rng.standard_normal((12, 2))
    Y, w = rng.standard_normal((12, 2)), rng.uniform(0.5, 2.0, 12)
    loss = fg.losses.Squared(scale=0.7)

    def minimiser(targets, start):
        problem = fg.Problem(net, X, targets, loss, sample_weight=w, l2=1e-2)
        return problem, fg.train(
            problem, start, method="newton", stop=fg.Stop(gradient=1e-13)
        ).theta

    problem, theta = minimiser(Y, net.init(0))
    report = analysis.target_sensitivity(problem, theta)
    dY = rng.standard_normal((12, 2))
    t = 1e-5
    ends = [minimiser(Y + s * t * dY, theta)[1] for s in (1, -1)]
    want = (ends[0] - ends[1]) / (2 * t)
    got = report.theta_response @ dY.ravel()
    assert np.linalg.norm(got - want) < 1e-5 * np.linalg.norm(want)


def test_sensitivity_refuses_other_losses():
    _, X, theta, problem = overparametrised()
    other = fg.Problem(problem.network, X, problem.targets, "cauchy")
    with pytest.raises(ValueError, match="squared"):
        analysis.target_sensitivity(other, theta)
    with pytest.raises(TypeError, match="NullSpace"):
        analysis.target_sensitivity(problem, theta, regularizer=1.0)
