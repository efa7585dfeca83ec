"""The rule for numerical ranks: the same at any number of samples, and true."""

import numpy as np
import pytest
from rank_cases import EPS

import fastggn as fg
from fastggn import analysis
from fastggn.kernels.spectrum import numerical_rank, thin_svd
from fastggn.kernels.tsqr import StreamingQR
from fastggn.solvers.base import Shift
from fastggn.solvers.choice import get_solver

PRIME = 2**31 - 1


def exact_rank(matrix):
    """The rank modulo a prime of an integer matrix: a lower bound on the rank, often equal."""
    rows, rank = [[int(x) % PRIME for x in row] for row in matrix], 0
    for column in range(matrix.shape[1]):
        pivot = next((i for i in range(rank, len(rows)) if rows[i][column]), None)
        if pivot is None:
            continue
        rows[rank], rows[pivot] = rows[pivot], rows[rank]
        inverse = pow(rows[rank][column], PRIME - 2, PRIME)
        for i in range(rank + 1, len(rows)):
            factor = rows[i][column] * inverse % PRIME
            if factor:
                pairs = zip(rows[i], rows[rank], strict=True)
                rows[i] = [(a - factor * b) % PRIME for a, b in pairs]
        rank += 1
    return rank


def integers_of_known_rank(rng):
    """A product of integer factors, and its rank: proved by both bounds."""
    rank = int(rng.integers(1, 6))
    n, rows = int(rng.integers(rank, 9)), int(rng.integers(rank, 14))
    while True:
        factors = rng.integers(-9, 10, (rows, rank)), rng.integers(-9, 10, (rank, n))
        product = factors[0] @ factors[1]
        if exact_rank(product) == rank:
            return product.astype(float), rank


def linear_problem(X):
    """A network whose Jacobian is X."""
    net = fg.MLP((X.shape[1], 1), bias="none")
    return fg.Problem(net, X, X.sum(axis=1)), np.zeros(X.shape[1])


@pytest.mark.parametrize("repeats", [1, 10, 1000])
def test_known_ranks(repeats):
    """120 integer matrices, rows and columns scaled by powers of two, each row repeated."""
    for seed in range(120):
        rng = np.random.default_rng([21, seed])
        A, rank = integers_of_known_rank(rng)
        if seed % 3:
            A = A * 2.0 ** rng.integers(-9, 10, A.shape[1])
        if seed % 3 == 2:
            A = A * 2.0 ** rng.integers(-9, 10, (A.shape[0], 1))
        qr = StreamingQR(A.shape[1])
        qr.fold(np.repeat(A, repeats, axis=0))
        s = thin_svd(qr.r)[1]
        found = numerical_rank(s)
        assert found.rank == rank and found.certain_rank == rank, seed
        assert (s[rank:] <= 5.0 * EPS * s[0]).all()


def test_every_report_says_the_same_of_repeated_samples():
    for seed in range(12):
        rng = np.random.default_rng([22, seed])
        A, rank = integers_of_known_rank(rng)
        for repeats in (1, 10, 1000 if seed % 4 == 0 else 100):
            problem, theta = linear_problem(np.repeat(A, repeats, axis=0))
            report = fg.rank_analysis(problem, theta)
            null = analysis.null_space(problem, theta)
            assert report.rank == report.certain_rank == rank
            assert {layer.block.rank for layer in report.layers} == {rank}
            assert {layer.phi.rank for layer in report.layers} == {rank}
            assert report.layers[0].greedy == rank
            assert problem.jacobian(theta).rank() == rank
            assert (null.rank, null.dimension) == (rank, A.shape[1] - rank)
            state = get_solver("qr").prepare(problem.at(theta))
            assert state.solve(Shift(0.0)).rank == rank
            assert analysis.rank_over_training(problem, [theta]).ranks[0].rank == rank


def test_a_small_singular_value_is_undecided_at_any_number_of_samples():
    """Rank 3, which version 1 called 2 once each row stood a hundred times."""
    A = np.random.default_rng(0).integers(-9, 10, (10, 3)) * [1.0, 1.0, 2.0**-44]
    assert exact_rank(A * [1.0, 1.0, 2.0**44]) == 3
    margins = []
    for repeats in (1, 100, 10_000):
        problem, theta = linear_problem(np.repeat(A, repeats, axis=0))
        report = fg.rank_analysis(problem, theta)
        assert (report.rank, report.certain_rank) == (3, 2)
        assert problem.jacobian(theta).rank() == 3
        assert analysis.null_space(problem, theta).rank == 3
        assert "undecided between 2 and 3" in str(report)
        assert "undecided between 2 and 3" in str(analysis.null_space(problem, theta))
        assert report.to_dict()["certain_rank"] == 2
        margins.append(report.margin)
    np.testing.assert_allclose(margins, margins[0], rtol=0.1)
    assert 1.0 < margins[0] < 100.0


def test_the_shape_of_the_tree_follows_from_the_rows_alone():
    """The same bits in whatever blocks the rows come, and with whatever number of workers."""
    rng = np.random.default_rng(3)
    A, b = rng.standard_normal((9001, 7)), rng.standard_normal((9001, 2))
    whole = StreamingQR(7, 2)
    whole.fold(A, b)
    for threads, block in enumerate((1, 100, 256, 3000), start=1):
        with fg.threads(threads):
            parts = StreamingQR(7, 2)
            for i in range(0, len(A), block):
                parts.fold(A[i : i + block], b[i : i + block])
        assert np.array_equal(parts.r, whole.r) and np.array_equal(parts.c, whole.c)
        assert np.array_equal(parts.rest, whole.rest) and parts.n_rows == 9001


def test_rounding_of_the_fold_does_not_grow():
    """400,000 rows of rank 3: one chain of blocks left singular values of 10 eps s_max."""
    rng = np.random.default_rng(5)
    A = (rng.integers(-9, 10, (400_000, 3)) @ rng.integers(-9, 10, (3, 8))).astype(float)
    qr = StreamingQR(8)
    qr.fold(A)
    s = thin_svd(qr.r)[1]
    assert s[3] <= 3.0 * EPS * s[0]


def longdouble_jacobian(net, theta, X):
    """J of a tanh network with free biases and one linear output, in extended precision."""
    layers = [w.astype(np.longdouble) for w in net.unpack(theta)]
    phis = [X.astype(np.longdouble)]
    slopes = []
    for w in layers[:-1]:
        out = np.tanh(np.hstack([phis[-1], np.ones((len(X), 1))]) @ w.T)
        phis.append(out)
        slopes.append(1 - out * out)
    psi, parts = np.ones((len(X), 1), np.longdouble), []
    for index in range(len(layers) - 1, -1, -1):
        phi = np.hstack([phis[index], np.ones((len(X), 1))])
        parts.insert(0, (psi[:, :, None] * phi[:, None, :]).reshape(len(X), -1))
        if index:
            psi = (psi @ layers[index][:, :-1]) * slopes[index - 1]
    return np.hstack(parts)


@pytest.mark.skipif(np.finfo(np.longdouble).eps > 1e-18, reason="longdouble is float64 here")
def test_entry_errors_are_those_of_the_entries():
    """Those against extended precision, within a factor of ten and never above three times."""
    for seed in range(40):
        rng = np.random.default_rng([23, seed])
        widths = [int(w) for w in rng.integers(1, 30, int(rng.integers(2, 6)))] + [1]
        net = fg.MLP(widths, "tanh")
        theta = net.init(rng, "normal", float(rng.choice([0.3, 1.0, 3.0])))
        X = rng.standard_normal((60, widths[0]))
        jacobian = fg.Problem(net, X, np.zeros(60)).jacobian(theta)
        exact = longdouble_jacobian(net, theta, X)
        off = np.linalg.norm((jacobian.to_dense() - exact).astype(float))
        foreseen = jacobian.entry_errors().norm
        assert foreseen / 10.0 < off < 3.0 * foreseen


def test_entry_errors_do_not_overflow():
    net = fg.MLP((2, 3, 1), "identity")
    problem = fg.Problem(net, np.array([[1.0, 2.0], [3.0, 5.0]]), np.zeros(2))
    theta = np.full(net.n_params, 1e150)
    assert np.isfinite(problem.jacobian(theta).entry_errors().norm)
    assert problem.jacobian(theta).rank() == 2
