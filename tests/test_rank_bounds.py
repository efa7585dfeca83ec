"""Shen's propositions on ordinary and degenerate networks, and the counterexamples to them."""

import numpy as np
import pytest
from rank_cases import KINDS, degenerate_problem, random_problem

import fastggn as fg
from fastggn.analysis.rank.principles import loses_rank
from papers.xor_ranks import smallest_xor_ranks


def proved(report):
    """The bounds that are theorems: all but those kept as printed for comparison."""
    return {name: b for name, b in report.bounds.items() if not b.printed}


def check_bounds(report, tally):
    """Fail on a theorem that a network breaks; return whether all its ranks are clear-cut.

    Where singular values lie within rounding of a tolerance (saturated output units, nearly
    always), a numerical rank decides nothing; the report then says "unclear".
    """
    decided = True
    for name, bound in proved(report).items():
        if not bound.applies or bound.actual is None:
            continue
        if bound.verdict == "unclear (rounding)":
            decided = False
            continue
        tally[name] = tally.get(name, 0) + 1
        assert bound.holds, f"{name}: {bound}\n{report}"
    return decided


def exact_targets(problem, theta):
    """The same problem with targets that theta meets."""
    X = problem.read_samples(0, problem.n_samples)[0]
    return fg.Problem(problem.network, X, problem.outputs(theta))


@pytest.mark.slow
def test_bounds_hold_on_a_thousand_networks():
    tally, sharper, decided, index = {}, 0, 0, 0
    while decided < 1000:
        problem, theta = random_problem(np.random.default_rng([1, index]))
        if index % 4 == 0:
            problem = exact_targets(problem, theta)
        report = fg.rank_analysis(problem, theta)
        decided += check_bounds(report, tally)
        b = report.bounds
        assert b["proposition_3_sharper"].value >= b["proposition_3"].value
        assert b["greedy"].value >= b["proposition_2"].value
        sharper += b["sharp"].value == report.rank
        index += 1
    assert index <= 1010  # ranks within rounding are rare
    assert tally["proposition_4_sharper"] >= 250 and tally["proposition_5"] > 300
    assert tally["proposition_6_sharper"] > 50
    assert sharper > 600  # the sharp bound is the rank itself more often than not


@pytest.mark.parametrize("kind", KINDS)
def test_bounds_hold_on_degenerate_networks(kind):
    tally = {}
    for index in range(25):  # 200 in all
        problem, theta = degenerate_problem(np.random.default_rng([2, index]), kind)
        if index % 2:
            problem = exact_targets(problem, theta)
        assert check_bounds(fg.rank_analysis(problem, theta), tally)
    assert tally["sharp"] >= 20
    assert tally["proposition_4_sharper"] >= 8


def test_greedy_is_the_best_basis():
    """The value is that of the brute force over all independent sets of samples."""
    from itertools import combinations

    for index in range(40):
        problem, theta = random_problem(np.random.default_rng([3, index]))
        report = fg.rank_analysis(problem, theta)
        phis, psis = problem.layer_outputs(theta), problem.layer_sensitivities(theta)
        for layer, phi, psi in zip(report.layers, phis, psis, strict=False):
            ranks = [np.linalg.matrix_rank(p) for p in psi]
            best = 0
            for size in range(layer.phi.rank + 1):
                for chosen in combinations(range(problem.n_samples), size):
                    if size == 0 or np.linalg.matrix_rank(phi[:, chosen]) == size:
                        best = max(best, sum(ranks[i] for i in chosen))
            assert layer.greedy == best


def test_equation_23_can_be_negative():
    """Shen 2018, Eq. (23): true, but of no use for wide layers."""
    net = fg.MLP((1, 4, 1), bias="none")
    X = np.linspace(1.0, 2.0, 5)[:, None]
    problem = fg.Problem(net, X, X)
    bound = fg.rank_analysis(problem, net.init(0, "normal")).bounds["proposition_2_layer_1"]
    assert bound.value == 4 * 1 + 5 * 1 - 5 * 4 and bound.value < 0 and bound.holds


@pytest.mark.parametrize(
    ("widths", "weights"),
    [
        # Eq. (25) "for l <= L - 2" does not reach the last interior layer.
        ((2, 1, 2, 1), ([[1.0, 1.0]], [[1.0], [0.0]], [[0.0, 1.0]])),
        # Eq. (25) compares adjacent layers and does not see plateaus.
        ((2, 1, 2, 2, 1), ([[1.0, 1.0]], [[1.0], [0.0]], np.eye(2), [[0.0, 1.0]])),
    ],
)
def test_principle_5_as_printed_is_not_enough(widths, weights):
    """Shen 2018, Principle 5 and Remark 4: full-rank weights, and yet Psi_1 = 0."""
    net = fg.MLP(widths, bias="none")
    X = np.random.default_rng(0).standard_normal((4, 2))
    problem = fg.Problem(net, X, X[:, :1])
    theta = net.pack([np.array(w) for w in weights])
    report = fg.rank_analysis(problem, theta)
    L = net.n_layers
    printed = range(2, L - 1) if len(widths) == 4 else range(2, L)
    assert all(widths[k] <= max(widths[k - 1], widths[k + 1]) for k in printed)
    assert report.principles["3"].holds and report.principles["4"].holds
    assert report.layers[0].psi == {0: 4}
    assert report.principles["5"].status == "fail"
    assert loses_rank(widths) is not None


def test_valley_shaped_widths_keep_the_rank():
    """The corrected Principle 5: sufficient for all full-rank weights."""
    rng = np.random.default_rng(5)
    checked = 0
    while checked < 200:
        widths = tuple(int(w) for w in rng.integers(1, 5, int(rng.integers(3, 6))))
        if loses_rank(widths) is not None:
            continue
        # small integers: products cancel exactly where they can
        weights = [
            rng.integers(-1, 2, (n, m)).astype(float)
            for m, n in zip(widths, widths[1:], strict=False)
        ]
        if any(np.linalg.matrix_rank(w) < min(w.shape) for w in weights):
            continue
        net = fg.MLP(widths, "identity", bias="none")
        X = rng.standard_normal((2, widths[0]))
        problem = fg.Problem(net, X, np.zeros((2, widths[-1])))
        report = fg.rank_analysis(problem, net.pack(weights))
        for k, layer in enumerate(report.layers, start=1):
            assert layer.psi == {min(widths[k:]): 2}
        checked += 1


def test_no_network_has_full_column_rank_for_all_weights():
    """Shen 2018, Theorem 1, Propositions 1 and 5: "for all W" cannot be met."""
    rng = np.random.default_rng(6)
    net = fg.MLP((3, 6, 2))
    X, Y = rng.standard_normal((5, 3)), rng.standard_normal((5, 2))
    problem = fg.Problem(net, X, Y)
    theta = net.init(0, "normal")
    assert fg.rank_analysis(problem, theta).rank == 10
    assert fg.rank_analysis(problem, 0.0 * theta).rank == 2
    # W_1 = 0: the hidden outputs are the same at every sample
    first, second = (w.copy() for w in net.unpack(theta))
    flat = fg.rank_analysis(problem, net.pack([0.0 * first, second]))
    assert flat.layers[1].phi.rank == 1
    # full-rank W_1 (in Shen's notation n_1 > n_0 columns) with two equal columns, n_1 = T
    net = fg.MLP((3, 5, 2), bias="none")
    problem = fg.Problem(net, X, Y)
    first, second = (w.copy() for w in net.unpack(net.init(0, "normal")))
    first[4] = first[3]
    report = fg.rank_analysis(problem, net.pack([first, second]))
    assert report.layers[0].weights.full and report.layers[1].phi.rank < 5
    assert not report.bounds["proposition_5"].applies


# --- XOR: smallest attainable ranks -------------------------------------------------------------


def logit(p):
    return np.log(p / (1.0 - p))


def xor_problem(n_1, activation="sigmoid"):
    X, Y = fg.data.xor()
    return fg.Problem(fg.MLP((2, n_1, 1), activation), X, Y)


def proposition_6_counterexample():
    """Invertible augmented W_1, and hidden outputs of rank 2: F(2,3,1)."""
    g = np.array([-0.5, -0.15, 0.15, 0.5])
    rows = [[0.0, 0.0, 0.7]]
    for b in (0.6, 0.95):
        z = logit(0.5 + b * g)  # odd in g, so that it is affine in the four inputs
        rows.append([z[2] - z[0], z[1] - z[0], z[0]])
    return np.array(rows), np.array([[0.0, 0.0, 0.0, 0.4]])


def test_proposition_6_as_printed_is_wrong():
    """Shen 2018, Eqs. (31)-(32): all hypotheses met, rank 2 < n_1 n_2 = 3."""
    problem = xor_problem(3)
    W_1, W_2 = proposition_6_counterexample()
    np.testing.assert_allclose(
        np.linalg.svd(W_1, compute_uv=False), [6.86, 0.574, 0.185], rtol=1e-2
    )
    report = fg.rank_analysis(problem, problem.network.pack([W_1, W_2]))
    printed, right = report.bounds["proposition_6"], report.bounds["proposition_6_sharper"]
    assert report.rank == report.layers[1].phi.rank == 2
    assert printed.applies and printed.value == 3 and printed.verdict == "violated"
    assert right.applies and right.value == 2 and right.holds


def test_proposition_6_second_argument_is_redundant():
    """n_1 (n_0 + n_2 - T [+ 1]) <= n_1 n_2 wherever its case can occur."""
    for index in range(100):
        rng = np.random.default_rng([7, index])
        n_0, n_1, n_2, T = (int(k) for k in rng.integers(1, 7, 4))
        X = rng.integers(-1, 2, (T, n_0)).astype(float)
        rank = np.linalg.matrix_rank(np.hstack([X, np.ones((T, 1))]))
        for case in (0, 1):
            if rank == n_0 + case:
                assert n_1 * (n_0 + n_2 - T + case) <= n_1 * n_2


# any weights, augmented W_l of full rank, w_2 without bias not 0
SMALLEST = {1: (1, 1, 3), 2: (1, 2, 3), 3: (1, 2, 3), 4: (1, 2, 3)}


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
@pytest.mark.parametrize("n_1", SMALLEST)
def test_smallest_ranks_of_xor_are_attained(n_1, activation):
    """Shen 2018, Section 5.1, says at least 2 for F(2,2,1) and at least 3 for F(2,3,1)."""
    table = smallest_xor_ranks(n_1, activation)
    assert tuple(row.rank for row in table) == SMALLEST[n_1]
    assert tuple(row.at_least for row in table) == SMALLEST[n_1]
    assert {row.paper for row in table} == {{2: 2, 3: 3}.get(n_1)}
    problem = xor_problem(n_1, activation)
    reports = [fg.rank_analysis(problem, row.theta) for row in table]
    assert all(layer.weights.full for layer in reports[1].layers)
    assert reports[2].layers[1].weights_core.rank == 1
    # the second row block: 0 where w_2 = 0, else 3 or more; never 1, as the paper has it
    assert [r.layers[0].block.rank for r in reports] == [0, 0, 3]
    for row in table:
        assert row.rank == np.linalg.matrix_rank(problem.jacobian(row.theta).to_dense())


def test_smallest_ranks_refuse():
    with pytest.raises(ValueError, match="n_hidden"):
        smallest_xor_ranks(0)
    with pytest.raises(ValueError, match="activation"):
        smallest_xor_ranks(2, "relu")


@pytest.mark.parametrize("n_1", SMALLEST)
def test_no_smaller_ranks_of_xor(n_1):
    problem = xor_problem(n_1)
    net, rng = problem.network, np.random.default_rng(8)
    for index in range(150):
        # small integers: units coincide, vanish and saturate the same way
        theta = rng.integers(-1, 2, net.n_params).astype(float)
        if index % 3 == 0:
            net.unpack(theta)[1][:, :-1] = 0.0
        report = fg.rank_analysis(problem, theta)
        acts = report.layers[1].weights_core.rank > 0
        full = all(layer.weights.full for layer in report.layers)
        lowest = max(1, 3 if acts else 1, min(2, n_1) if full else 1)
        assert report.rank >= lowest
        assert report.bounds["proposition_6_sharper"].holds
    assert all(fg.rank_analysis(problem, net.init(k, "normal")).rank == 4 for k in range(100))


def test_unmet_hypotheses_are_named():
    """A ReLU network with equal inputs and more hidden units than samples."""
    X = np.array([[0.0], [0.0], [1.0]])
    net = fg.MLP((1, 4, 1), "relu")
    theta = net.init(0)
    report = fg.rank_analysis(fg.Problem(net, X, X, "huber"), theta)
    printed = report.bounds["proposition_6"]
    unmet = [h.text for h in printed.hypotheses if not h.met]
    assert not printed.applies and printed.verdict == "not applicable"
    assert unmet[0] == "n_2 <= n_1 <= T" and "fails: 4" in unmet[1]
    assert unmet[2] == "no two inputs are equal" and len(unmet) == 3
    assert all(text in printed.holds_if for text in unmet)
    assert "no two inputs are equal" in str(report)
    fifth = report.bounds["proposition_5"]
    assert [h.met for h in fifth.hypotheses] == [False, True]
    assert report.bounds["sharp"].holds


def test_a_jacobian_of_zeros():
    """No biases and no inputs: rank 0, and the error is all unseen."""
    net = fg.MLP((2, 2, 1), bias="none")
    problem = fg.Problem(net, np.zeros((3, 2)), [1.0, 2.0, 3.0])
    report = fg.rank_analysis(problem, net.init(0))
    assert report.rank == 0 and report.unseen_error == 1.0 and np.isnan(report.gap)
    assert report.bounds["sharp"].value == 0 and not report.certificate.holds
    assert report.certificate.gradient_norm == 0.0
    assert "rank of P(W)" in str(report)
    pytest.importorskip("matplotlib")
    assert report.plot().axes


# --- Proposition 4 and the Hessian --------------------------------------------------------------


def test_proposition_4_needs_an_exact_fit():
    """Shen 2018, Eqs. (28)-(29): away from eps = 0 the rank can be anything up to N."""
    net = fg.MLP((1, 3, 1), bias="none")
    problem = fg.Problem(net, [[0.4]], [[2.0]])
    theta = net.init(1, "normal")
    report = fg.rank_analysis(problem, theta)
    assert not report.bounds["proposition_4"].applies
    assert report.bounds["proposition_4"].verdict == "not applicable"
    assert np.linalg.matrix_rank(problem.hessian(theta)) == 6 > 1


@pytest.mark.parametrize("loss", ["squared", "cauchy", "huber", "blake_zisserman", "smooth_lp"])
def test_rank_of_the_hessian_at_an_exact_fit(loss):
    rng = np.random.default_rng(9)
    for widths, T in (((2, 3, 2), 4), ((1, 2, 1), 12), ((2, 2, 3), 3)):
        net = fg.MLP(widths)
        X, theta = rng.standard_normal((T, widths[0])), net.init(rng, "normal")
        problem = fg.Problem(net, X, net.predict(theta, X), loss)
        bound = fg.rank_analysis(problem, theta).bounds["proposition_4_sharper"]
        assert bound.applies and bound.holds
        eigenvalues = np.linalg.eigvalsh(problem.hessian(theta))
        assert bound.actual == int((eigenvalues > 1e-14 * eigenvalues[-1]).sum())
