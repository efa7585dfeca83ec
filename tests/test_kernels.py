"""The compiled core against the textbook reference, at every shape of a last chunk.

The tests marked `nojit` are small enough for NUMBA_DISABLE_JIT=1 and need no JAX.
"""

import cases
import naive
import numpy as np
import pytest
from checks import assert_close, assert_operator

import fastggn as fg

TIGHT = 1e-11
tiny = pytest.mark.parametrize("case", cases.tiny_cases(), ids=str)


@pytest.mark.nojit
@tiny
def test_values_and_first_derivatives(case):
    """Outputs, loss, gradient, J and its products."""
    problem, reference, theta = case.problem(), case.naive(), case.theta
    assert_close(case, "outputs", problem.outputs(theta), reference.outputs(theta), TIGHT)
    assert_close(case, "loss", problem.loss(theta), reference.loss(theta), TIGHT)
    assert_close(case, "gradient", problem.gradient(theta), reference.gradient(theta), TIGHT)
    J, want = problem.jacobian(theta), reference.jacobian(theta)
    assert_close(case, "J.to_dense()", J.to_dense(), want, TIGHT)
    assert_close(case, "J.shen_matrix()", J.shen_matrix(), reference.shen_matrix(theta), TIGHT)
    assert_close(case, "J.gram()", J.gram(), want.T @ want, TIGHT)
    assert_close(case, "J.dual_gram()", J.dual_gram(), reference.dual_gram(theta), TIGHT)
    assert_operator(case, "J", J, want)


@pytest.mark.nojit
@tiny
def test_curvature_matrices(case):
    """GGN, dual Gram and exact Hessian, dense and as operators."""
    problem, reference, theta = case.problem(), case.naive(), case.theta
    G, H = reference.ggn(theta), reference.hessian(theta)
    assert_close(case, "ggn", problem.ggn(theta), G, TIGHT)
    assert_close(case, "hessian", problem.hessian(theta), H, TIGHT)
    assert_close(case, "dual_gram", problem.dual_gram(theta), reference.dual_gram(theta), TIGHT)
    assert_operator(case, "ggn_operator", problem.ggn_operator(theta), G)
    assert_operator(case, "hessian_operator", problem.hessian_operator(theta), H)


@pytest.mark.nojit
@tiny
def test_linearisation(case):
    """The rows of the Newton system, its products and its right-hand side."""
    reference, theta = case.naive(), case.theta
    system = case.problem().at(theta)
    blocks = list(system.row_blocks())
    A = np.vstack([block for block, _ in blocks])
    signs = np.ones(len(A)) if system.signs is None else system.signs
    data = reference.ggn(theta) - case.l2 * np.eye(case.n_params)
    assert_close(case, "A^T D A", (A.T * signs) @ A, data)
    assert_close(case, "lin.gram()", system.gram(), data)
    assert_close(case, "lin.dual_gram()", system.dual_gram(), A @ A.T)
    rng = np.random.default_rng(3)
    v, u = rng.standard_normal(case.n_params), rng.standard_normal(len(A))
    assert_close(case, "lin.matvec(v)", system.matvec(v), A @ v)
    assert_close(case, "lin.rmatvec(u)", system.rmatvec(u), A.T @ u)
    gradient = reference.gradient(theta) - case.l2 * theta
    assert_close(case, "lin.data_gradient", system.data_gradient, gradient)
    if system.b is not None:
        assert_close(case, "A^T b", A.T @ system.b, gradient)


@pytest.mark.nojit
@tiny
def test_layers_in_the_order_of_shen(case):
    """Phi_l with its dummy row, samples in columns, and Psi_l of each sample."""
    problem, reference, theta = case.problem(), case.naive(), case.theta
    for name in ("layer_outputs", "layer_sensitivities"):
        got, want = getattr(problem, name)(theta), getattr(reference, name)(theta)
        assert len(got) == len(want) == case.n_layers + (name == "layer_outputs")
        for number, (a, b) in enumerate(zip(got, want, strict=True)):
            assert_close(case, f"{name}[{number}]", a, b, TIGHT)


def _ragged(T, loss, curvature):
    """A (3, 4, 2) network with two activations and T samples."""
    rng = np.random.default_rng(T)
    targets = rng.integers(0, 2, (T, 2)).astype(float)
    return cases.Case(
        id=f"ragged-T{T}-{loss}-{curvature}",
        widths=(3, 4, 3, 2),
        activations=("softplus", "tanh", "identity"),
        bias="free",
        loss=loss,
        loss_options={},
        curvature=curvature,
        X=rng.standard_normal((T, 3)),
        Y=targets,
        targets=targets,
        theta=0.5 * rng.standard_normal(16 + 15 + 8),
        sample_weight=rng.uniform(0.5, 1.5, T),
    )


# The textbook reference takes a second and more for hundreds of samples.
LENGTHS = [
    pytest.param(loss, T, marks=pytest.mark.slow if loss == "cauchy" and T > 31 else ())
    for loss in ("logistic", "cauchy")
    for T in (1, 7, 8, 9, 31, 255, 256, 257, 775)
]


@pytest.mark.parametrize(("loss", "T"), LENGTHS)
def test_every_length_of_the_last_chunk(T, loss):
    """The package's own chunk length, and chunks of 8, at lengths around their multiples."""
    case = _ragged(T, loss, "exact")
    theta, reference = case.theta, case.naive()
    value, gradient = reference.loss(theta), reference.gradient(theta)
    J, G, H = reference.jacobian(theta), reference.ggn(theta), reference.hessian(theta)
    for chunk in (8, None):
        problem = case.problem() if chunk else case.problem(chunk=None)
        name = f"{case} in chunks of {chunk}"
        assert_close(name, "loss", problem.loss(theta), value, TIGHT)
        assert_close(name, "gradient", problem.gradient(theta), gradient, TIGHT)
        assert_close(name, "ggn", problem.ggn(theta), G, TIGHT)
        assert_close(name, "hessian", problem.hessian(theta), H, TIGHT)
        assert_close(name, "dual_gram", problem.dual_gram(theta), J @ J.T, TIGHT)
        assert_close(name, "J", problem.jacobian(theta).to_dense(), J, TIGHT)
        v = np.linspace(-1.0, 1.0, case.n_params)
        assert_close(name, "G v", problem.ggn_operator(theta) @ v, G @ v, TIGHT)
        assert_close(name, "H v", problem.hessian_operator(theta) @ v, H @ v, TIGHT)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("position", [0, 5, -1])
def test_overflow_is_seen_in_every_result(bad, position):
    """Kernels let NaN and infinity through: results are never silently finite."""
    case = _ragged(9, "squared", "psd")
    theta = case.theta.copy()
    theta[position] = 1e308 if np.isinf(bad) else 1.7e308
    X = np.full_like(case.X, 1e3)  # overflows in the first product
    problem = fg.Problem(
        fg.MLP(case.widths, activation=("softplus", "bent_identity")), X, case.Y, _chunk=8
    )
    with np.errstate(all="ignore"):
        assert not np.isfinite(problem.loss(theta))
        assert not np.isfinite(problem.gradient(theta)).all()


def test_naive_sweep_matches_predict():
    """The network's forward pass, chunk by chunk, for more samples than a chunk."""
    case = _ragged(775, "squared", "psd")
    outputs = case.network().predict(case.theta, case.X)
    assert_close(case, "predict", outputs, case.naive().outputs(case.theta), TIGHT)
    assert isinstance(case.naive(), naive.Problem)
