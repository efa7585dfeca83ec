"""Ranks of the Jacobian and its parts, the certificate, principles, equal inputs."""

import json

import numpy as np
import pytest
from cases import random_cases
from rank_cases import ACTIVATIONS, KINDS, counted, degenerate_problem, random_problem

import fastggn as fg
from fastggn import analysis


def mixed_problems(count):
    """Ordinary and degenerate problems in turn."""
    for index in range(count):
        rng = np.random.default_rng([4, index])
        if index % 3 == 2:
            yield degenerate_problem(rng, KINDS[index % len(KINDS)])
        else:
            yield random_problem(rng)


def test_ranks_are_those_of_the_dense_matrices():
    """TSQR against LAPACK's singular values, on 200 cases."""
    for problem, theta in mixed_problems(200):
        report = fg.rank_analysis(problem, theta)
        J = problem.jacobian(theta).to_dense()
        assert report.rank == counted(J, report.jacobian) == problem.jacobian(theta).rank()
        s = np.linalg.svd(J, compute_uv=False)
        np.testing.assert_allclose(
            report.singular_values, s, rtol=0, atol=1e-13 * max(s[0], 1e-300)
        )
        net, stop = problem.network, 0
        phis, psis = problem.layer_outputs(theta), problem.layer_sensitivities(theta)
        for layer, phi, psi, W in zip(report.layers, phis, psis, net.unpack(theta), strict=False):
            n, m = W.shape
            core = net.widths[layer.number - 1]
            assert layer.block.rank == counted(J[:, stop : stop + n * m], layer.block)
            assert layer.phi.rank == counted(phi, layer.phi)
            assert layer.phi_core.rank == counted(phi[:core], layer.phi_core)
            assert layer.weights.rank == counted(W)
            assert layer.weights_core.rank == counted(W[:, :core])
            ranks, counts = np.unique([counted(p) for p in psi], return_counts=True)
            assert layer.psi == dict(zip(ranks.tolist(), counts.tolist(), strict=True))
            stop += n * m
        assert report.outputs.rank == counted(phis[-1], report.outputs)


def test_streaming_equals_dense_when_there_are_many_samples(monkeypatch):
    """Blocks of a few samples: every factorisation goes through the streaming QR."""
    monkeypatch.setattr("fastggn.objective.layer_blocks._BYTES", 20_000)
    rng = np.random.default_rng(10)
    net = fg.MLP((3, 6, 4, 2))
    X = rng.standard_normal((700, 3))
    X[300:] = X[:400]
    weight = rng.uniform(0.0, 2.0, 700)
    weight[::7] = 0.0
    problem = fg.Problem(net, X, rng.standard_normal((700, 2)), sample_weight=weight)
    theta = net.init(0)
    layers = net.unpack(theta)
    layers[1][3] = 0.0
    layers[2][:, 3] = 0.0
    theta = net.pack(layers)
    report = fg.rank_analysis(problem, theta)
    J = problem.jacobian(theta).to_dense()
    s = np.linalg.svd(J, compute_uv=False)
    np.testing.assert_allclose(report.singular_values, s, atol=1e-12 * s[0])
    assert report.rank == np.linalg.matrix_rank(J) < problem.n_params
    assert report.duplicates.samples == 600
    assert check_unseen(problem, theta, report)


def weighted_errors(problem, theta):
    errors = problem.loss_function.gradient(problem.outputs(theta), problem.targets)
    return problem.relative_weights[:, None] * errors


def check_unseen(problem, theta, report):
    eps = weighted_errors(problem, theta).ravel()
    on = np.repeat(problem.relative_weights > 0, problem.n_outputs)
    J = problem.jacobian(theta).to_dense()[on]
    u, s, _ = np.linalg.svd(J, full_matrices=False)
    if ((s > report.tolerance / 2) & (s < 100 * report.tolerance)).any():
        return False  # rounding chooses the space
    u = u[:, s > report.tolerance]
    unseen = eps[on] - u @ (u.T @ eps[on])
    assert report.error_norm == pytest.approx(np.linalg.norm(eps))
    if report.error_norm > 0:
        assert report.unseen_error == pytest.approx(
            np.linalg.norm(unseen) / np.linalg.norm(eps), abs=1e-9
        )
    return True


def test_unseen_error_is_the_residual_of_the_pseudo_inverse():
    cases = mixed_problems(60)
    checked = [check_unseen(*case, fg.rank_analysis(*case)) for case in cases]
    assert len(checked) == 60 and sum(checked) >= 50


def test_unseen_error_is_not_the_gradient():
    """At W = 0 the network sees the mean error alone."""
    X, Y = fg.data.xor()
    net = fg.MLP((2, 2, 1))
    report = fg.rank_analysis(fg.Problem(net, X, Y), np.zeros(net.n_params))
    assert report.rank == 1
    assert report.unseen_error == pytest.approx(np.sqrt(0.5))


@pytest.mark.parametrize("case", random_cases()[:24], ids=str)
def test_layers_block_by_block(case, monkeypatch):
    """What the analysis reads is what the textbook computes, also block by block."""
    monkeypatch.setattr("fastggn.objective.layer_blocks._BYTES", 3000)
    problem, naive = case.problem(), case.naive()
    samples = naive.samples(case.theta)
    for part in problem.layer_blocks(case.theta):
        for i in range(part.start, part.stop):
            for k in range(len(part.inputs)):
                at = i - part.start
                np.testing.assert_allclose(part.inputs[k][at], samples[i].inputs[k + 1], atol=1e-12)
                np.testing.assert_allclose(
                    part.derivatives[k][at], samples[i].first[k + 1], atol=1e-12
                )
                np.testing.assert_allclose(
                    part.sensitivities[k][at], samples[i].psi[k + 1], atol=1e-11, rtol=1e-11
                )
    rows = np.concatenate([b.jacobian_rows() for b in problem.layer_blocks(case.theta)])
    np.testing.assert_allclose(rows, problem.jacobian(case.theta).to_dense(), atol=1e-12)


# --- certificate --------------------------------------------------------------------------------


def test_certificate_of_an_exact_fit():
    rng = np.random.default_rng(11)
    net = fg.MLP((2, 6, 2))
    X, Y = rng.standard_normal((5, 2)), rng.standard_normal((5, 2))
    theta = analysis.exact_fit(net, X, Y)
    report = fg.rank_analysis(fg.Problem(net, X, Y), theta)
    assert report.certificate.holds and report.certificate.full_column_rank
    assert report.loss < 1e-16
    assert report.certificate.error_bound >= 0.999 * report.error_norm
    assert "global minimum" in str(report)


def test_certificate_refuses():
    X, Y = fg.data.xor()
    net = fg.MLP((2, 3, 1), "sigmoid")
    problem = fg.Problem(net, X, Y)
    # zero gradient (J = 1/4 in the paper's units), but rank 1: a saddle, not a minimum
    theta = np.zeros(net.n_params)
    theta[-1] = 0.5
    saddle = fg.rank_analysis(problem, theta).certificate
    assert saddle.gradient_norm < 1e-15 and not saddle.full_column_rank and not saddle.holds
    assert "rank 1 < 4" in saddle.reason
    away = fg.rank_analysis(problem, net.init(0)).certificate
    assert away.full_column_rank and not away.holds and "data gradient" in away.reason


def test_certificate_looks_at_samples_of_nonzero_weight_and_the_data_alone():
    rng = np.random.default_rng(12)
    net = fg.MLP((2, 3, 1))
    X, Y = rng.standard_normal((6, 2)), rng.standard_normal((6, 1))
    theta = analysis.exact_fit(net, X[:4], Y[:4])
    weight = np.array([1.0, 2.0, 3.0, 1.0, 0.0, 0.0])
    problem = fg.Problem(net, X, Y, sample_weight=weight, l2=0.1)
    report = fg.rank_analysis(problem, theta)
    assert report.certificate.holds
    assert report.error_norm < 1e-7 and np.linalg.norm(problem.gradient(theta)) > 1e-3


def test_certificate_needs_the_right_loss():
    net = fg.MLP((1, 4, 1))
    X, Y = np.linspace(-1, 1, 4)[:, None], np.array([0, 1, 1, 0])
    theta = analysis.exact_fit(net, X, 80.0 * (2 * Y - 1))
    report = fg.rank_analysis(fg.Problem(net, X, Y, "logistic"), theta)
    assert report.certificate.gradient_norm < 1e-30
    assert not report.certificate.holds and "not attained" in report.certificate.reason


# --- principles ---------------------------------------------------------------------------------


def test_principles_at_a_point():
    X = np.random.default_rng(13).standard_normal((9, 2))
    net = fg.MLP((2, 3, 4, 1), ("relu", "tanh"))
    layers = [w.copy() for w in net.unpack(net.init(0))]
    layers[0][1] = [0.0, 0.0, -1.0]  # a dead unit
    layers[1][:, :-1] = 1.0
    problem = fg.Problem(net, X, X[:, :1], "huber")
    report = fg.rank_analysis(problem, net.pack(layers))
    status = {name: p.status for name, p in report.principles.items()}
    assert status == {
        "1": "pass", "1.a": "pass", "2": "pass", "3": "fail", "4": "fail", "5": "fail"
    }  # fmt: skip
    assert "W_1 has rank 1 of 2" in report.principles["3"].reason or (
        "W_2 has rank 1 of 3" in report.principles["3"].reason
    )
    zeros = report.layers[0].zero_derivatives
    assert zeros >= 9 and f"{zeros} of them are 0" in report.principles["4"].reason


def test_principle_3_leaves_the_bias_out():
    X, Y = fg.data.xor()
    net = fg.MLP((2, 2, 1))
    theta = np.zeros(net.n_params)
    theta[[2, 5, 8]] = 1.0
    report = fg.rank_analysis(fg.Problem(net, X, Y), theta)
    assert report.principles["3"].status == "fail"
    assert "W_2 has rank 0 of 1" in report.principles["3"].reason


def test_saturation_fails_principle_4():
    net = fg.MLP((1, 1, 1), "sigmoid")
    theta = np.array([1.0, 0.0, 1.0, 0.0])
    report = fg.rank_analysis(fg.Problem(net, [[2000.0], [1.0]], [[0.0], [1.0]]), theta)
    assert report.principles["4"].status == "fail"
    assert "saturated: 1" in report.principles["4"].reason
    assert not report.bounds["proposition_6_sharper"].applies


def test_softmax_obeys_principle_1_inside_the_simplex_only():
    net = fg.MLP((1, 2, 2))
    X = np.array([[0.0], [1.0]])
    soft = fg.Problem(net, X, [[0.3, 0.7], [0.5, 0.5]], "softmax_cross_entropy")
    hard = fg.Problem(net, X, [0, 1], "softmax_cross_entropy")
    theta = net.init(0)
    assert fg.rank_analysis(soft, theta).principles["1"].status == "pass"
    assert fg.rank_analysis(hard, theta).principles["1"].status == "fail"
    assert fg.rank_analysis(soft, theta).principles["1.a"].status == "fail"


# --- equal inputs -------------------------------------------------------------------------------


def conflicting(loss, targets, weight=None, n_outputs=1):
    X = np.array([[0.0], [1.0], [-0.0], [2.0], [1.0], [0.0]])
    net = fg.MLP((1, 2, n_outputs))
    problem = fg.Problem(net, X, targets, loss, sample_weight=weight)
    return fg.rank_analysis(problem, net.init(0)).duplicates


def least(loss, targets, weights):
    """The least weighted loss over one common output, by a fine grid."""
    F = np.linspace(-3.0, 3.0, 60001)[:, None]
    total = 0.0
    for y, w in zip(targets, weights, strict=True):
        total = total + w * loss.value(F, np.full_like(F, y))
    return total.min()


Y6 = np.array([1.0, 0.0, -1.0, 5.0, 0.0, 0.4])


@pytest.mark.parametrize("name", ["squared", "huber", "smooth_lp"])
def test_loss_floor_of_conflicting_targets(name):
    """Samples 0, 2, 5 share an input with three targets; 1 and 4 share both."""
    weight = np.array([1.0, 1.0, 2.0, 1.0, 1.0, 3.0])
    found = conflicting(name, Y6, weight)
    assert (found.groups, found.samples, found.conflicting) == (2, 5, 1)
    assert found.examples == ((0, 2, 5),)
    loss = fg.losses.get_loss(name)
    expected = least(loss, Y6[[0, 2, 5]], weight[[0, 2, 5]]) / weight.sum()
    assert found.floor == pytest.approx(expected, rel=1e-6)


def test_loss_floor_of_classes():
    labels = np.array([1, 0, 0, 1, 0, 0])
    entropy = -(np.log(1 / 3) + 2 * np.log(2 / 3)) / 6
    assert conflicting("softmax_cross_entropy", labels, n_outputs=2).floor == pytest.approx(entropy)
    assert conflicting("logistic", labels).floor == pytest.approx(entropy)


def test_loss_floor_is_said_to_be_missing():
    found = conflicting("cauchy", Y6)
    assert found.conflicting == 1 and found.floor is None and "cauchy" in found.reason


def test_a_sample_of_zero_weight_makes_no_conflict():
    weight = np.array([1.0, 1.0, 0.0, 1.0, 1.0, 0.0])
    found = conflicting("squared", Y6, weight)
    assert found.groups == 2 and found.conflicting == 0 and found.floor == 0.0


@pytest.mark.filterwarnings("ignore::fastggn.SingularSystemWarning")
def test_training_stays_above_the_floor():
    X = np.array([[0.0], [0.0], [1.0], [0.5]])
    Y = np.array([0.0, 1.0, 1.0, -1.0])
    problem = fg.Problem(fg.MLP((1, 5, 1)), X, Y)
    result = fg.train(problem, seed=0, max_iter=200)
    floor = fg.rank_analysis(problem, result.theta).duplicates.floor
    assert floor == pytest.approx(2 * 0.125 / 4)
    assert floor * (1 - 1e-12) <= result.loss < floor + 1e-9


def test_equal_inputs_with_other_gates_are_no_duplicates():
    net = fg.MLP((1, 2, 1), "relu")
    gates = [np.array([[1, 0], [0, 1], [1, 0]])]
    problem = fg.Problem(net, np.ones((3, 1)), [0.0, 1.0, 2.0], gates=gates)
    found = fg.rank_analysis(problem, net.init(0)).duplicates
    assert found.samples == 2 and found.examples == ((0, 2),)


def test_many_duplicates_at_once():
    rng = np.random.default_rng(14)
    X = rng.integers(0, 4, (4000, 3)).astype(float)
    Y = rng.standard_normal((4000, 2))
    net = fg.MLP((3, 2, 2))
    found = fg.rank_analysis(fg.Problem(net, X, Y), net.init(0)).duplicates
    unique, inverse, counts = np.unique(X, axis=0, return_inverse=True, return_counts=True)
    inverse = inverse.ravel()
    assert found.groups == (counts > 1).sum() == found.conflicting
    means = np.array([Y[inverse == k].mean(axis=0) for k in range(len(unique))])
    assert found.floor == pytest.approx(0.5 * ((Y - means[inverse]) ** 2).sum() / 4000)


# --- the report ---------------------------------------------------------------------------------


def test_report_as_text_json_and_picture():
    pytest.importorskip("matplotlib")
    problem, theta = degenerate_problem(np.random.default_rng(15), "zero layer")
    report = fg.rank_analysis(problem, theta)
    text = str(report)
    for words in ("rank of P(W)", "tolerance", "gap", "principle 1.a", "proposition_3", "Phi_L"):
        assert words in text
    assert max(len(line) for line in text.splitlines()) < 260
    again = json.loads(json.dumps(report.to_dict()))
    assert again["rank"] == report.rank
    assert again["bounds"]["sharp"]["value"] == report.bounds["sharp"].value
    figure = report.plot()
    assert "singular value" in figure.axes[0].get_ylabel()


def test_tolerance_of_the_user():
    net = fg.MLP((2, 5, 1))
    X = np.random.default_rng(16).standard_normal((30, 2))
    problem = fg.Problem(net, X, X[:, :1])
    theta = net.init(0)
    s = fg.rank_analysis(problem, theta).singular_values
    report = fg.rank_analysis(problem, theta, tol=0.5 * (s[3] + s[4]))
    assert report.rank == 4 == problem.jacobian(theta).rank(0.5 * (s[3] + s[4]))
    assert report.gap == pytest.approx(s[3] / s[4])


def test_bad_input_is_named():
    net = fg.MLP((1, 2, 1))
    problem = fg.Problem(net, [[0.0], [1.0]], [0.0, 1.0])
    theta = net.init(0)
    with pytest.raises(TypeError, match="problem must be a fastggn.Problem"):
        fg.rank_analysis(net, theta)
    with pytest.raises(ValueError, match="theta must have shape"):
        fg.rank_analysis(problem, theta[:-1])
    with pytest.raises(ValueError, match="tol must be >= 0"):
        fg.rank_analysis(problem, theta, tol=-1.0)
    with pytest.raises(ValueError, match="gradient_tol"):
        fg.rank_analysis(problem, theta, gradient_tol=np.nan)
    idle = fg.Problem(net, [[0.0], [1.0]], [0.0, 1.0], sample_weight=[0.0, 1.0]).subset([0])
    with pytest.raises(ValueError, match="non-zero weight"):
        fg.rank_analysis(idle, theta)
    square = fg.MLP((1, 2, 1), "square")
    with pytest.raises(np.linalg.LinAlgError, match="not finite at samples 0"):
        fg.rank_analysis(
            fg.Problem(square, [[0.0], [1.0]], [0.0, 1.0]), np.full(square.n_params, 1e200)
        )


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation(name):
    net = fg.MLP((2, 4, 2), name)
    X = np.random.default_rng(17).standard_normal((12, 2))
    problem = fg.Problem(net, X, X)
    theta = net.init(0, "normal")
    report = fg.rank_analysis(problem, theta)
    assert report.rank == counted(problem.jacobian(theta).to_dense(), report.jacobian)
