"""Designs judged before training, exact fits, sweeps, and the command line for them."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

import fastggn as fg
from fastggn import analysis
from fastggn.apps.cli import main
from papers.phase import rank_phase

# --- check_design -------------------------------------------------------------------------------


def statuses(design):
    return {name: p.status for name, p in design.principles.items()}


def test_a_sound_design():
    design = fg.check_design((2, 60, 1), T=60, n_L=1)
    assert statuses(design) == {
        "1": "pass", "1.a": "pass", "2": "pass", "4": "pass", "5": "not_applicable"
    }  # fmt: skip
    assert design.passes and design.exact_fit.holds and design.pyramidal.holds
    assert design.wide_layer == 1 and "F(2,60,1)" in str(design)
    assert json.loads(json.dumps(design.to_dict()))["n_params"] == 241


@pytest.mark.parametrize(
    ("widths", "options", "failing"),
    [
        ((2, 5, 1), {"T": 100}, {"2"}),
        ((2, 30, 1), {"T": 20, "activation": "relu"}, {"4"}),
        ((2, 30, 1), {"T": 20, "output_activation": "square"}, {"4"}),
        ((2, 30, 1), {"T": 20, "loss": "huber"}, set()),
        ((2, 30, 3), {"T": 20, "loss": "softmax_cross_entropy"}, {"1", "1.a"}),
        ((2, 10, 20, 10, 1), {"T": 20}, {"5"}),
        ((2, 20, 5, 1), {"T": 20}, set()),
        ((2, 5, 20, 1), {"T": 20}, {"5"}),
        ((2, 1, 2, 2, 1), {"T": 3}, {"5"}),  # a plateau, which Eq. (25) does not see
    ],
)
def test_designs_that_fail(widths, options, failing):
    design = fg.check_design(widths, **options)
    assert {name for name, s in statuses(design).items() if s == "fail"} == failing
    assert design.passes == (not failing)


def test_the_pyramidal_condition():
    """Nguyen and Hein 2017, Theorem 3.8, which Shen's Remark 5 refers to."""
    assert fg.check_design((2, 3, 20, 10, 1), T=21).pyramidal.holds
    assert not fg.check_design((2, 3, 20, 10, 1), T=21, bias="none").pyramidal.holds
    grows = fg.check_design((2, 20, 5, 6, 1), T=20).pyramidal
    assert grows.status == "fail" and "grows" in grows.reason
    assert fg.check_design((2, 1), T=20).pyramidal.status == "not_applicable"


def test_the_design_and_the_point_agree():
    X = np.random.default_rng(0).standard_normal((9, 2))
    for widths, activation, loss in (
        ((2, 3, 4, 2), "relu", "cauchy"),
        ((2, 6, 2), "tanh", "huber"),
    ):
        net = fg.MLP(widths, activation)
        report = fg.rank_analysis(fg.Problem(net, X, X, loss), net.init(0))
        design = fg.check_design(widths, 9, activation=activation, loss=loss)
        for name, status in statuses(design).items():
            assert report.principles[name].status == status


def test_principles_by_number_and_losses_that_are_not_convex():
    """Principle 1.a is judged at critical points: read literally it excludes Shen's own losses."""
    for name in ("cauchy", "blake_zisserman"):
        loss = fg.losses.get_loss(name)
        assert loss.hessian(np.array([[2.0]]), np.zeros((1, 1))) < 0
        design = fg.check_design((2, 5, 1), 5, loss=name)
        assert design.principles["1.a"].status == "pass"
        assert design.principles[2] is design.principles["2"]
        with pytest.raises(KeyError):
            design.principles[3]


def test_bad_designs_are_named():
    with pytest.raises(TypeError, match="T must be an integer"):
        fg.check_design((2, 3, 1), 2.5)
    with pytest.raises(ValueError, match="T must be at least 1"):
        fg.check_design((2, 3, 1), 0)
    with pytest.raises(ValueError, match="n_L is 2"):
        fg.check_design((2, 3, 1), 5, 2)
    with pytest.raises(ValueError, match="did you mean 'tanh'"):
        fg.check_design((2, 3, 1), 5, activation="tanb")
    with pytest.raises(ValueError, match="loss"):
        fg.check_design((2, 3, 1), 5, loss="squard")


# --- exact_fit ----------------------------------------------------------------------------------

RANGES = {
    "identity": (-2.0, 2.0), "sigmoid": (0.05, 0.95), "tanh": (-0.9, 0.9),
    "softsign": (-0.8, 0.8), "softplus": (0.1, 3.0), "bent_identity": (-2.0, 2.0),
    "relu": (0.1, 2.0), "leaky_relu": (-2.0, 2.0), "square": (0.1, 2.0),
}  # fmt: skip


@pytest.mark.parametrize("output", RANGES)
@pytest.mark.parametrize("bias", ["free", "none", "fixed"])
def test_exact_fit_passes_through_every_sample(output, bias):
    rng = np.random.default_rng(1)
    T = 12
    widths = (3, 7, T - 1 if bias == "free" else T, 2)
    vectors = [rng.standard_normal(n) for n in widths[1:]]
    net = fg.MLP(widths, "tanh", output, vectors if bias == "fixed" else bias)
    X, Y = rng.standard_normal((T, 3)), rng.uniform(*RANGES[output], (T, 2))
    theta = analysis.exact_fit(net, X, Y, seed=1)
    assert np.abs(net.predict(theta, X) - Y).max() < 1e-8
    report = fg.rank_analysis(fg.Problem(net, X, Y), theta, gradient_tol=1e-6)
    assert report.bounds["proposition_5"].applies and report.rank == T * 2
    assert report.certificate.holds


def test_exact_fit_of_one_layer_and_of_xor():
    X = np.eye(3)
    theta = analysis.exact_fit(fg.MLP((3, 1), bias="none"), X, [1.0, -2.0, 3.0])
    np.testing.assert_allclose(theta, [1.0, -2.0, 3.0], atol=1e-12)
    X, Y = fg.data.xor()
    for name in ("sigmoid", "tanh"):
        net = fg.MLP((2, 3, 1), name)  # T - 1 units and free biases
        assert np.abs(net.predict(analysis.exact_fit(net, X, Y), X) - Y).max() < 1e-9


def test_exact_fit_is_reproducible():
    net, X = fg.MLP((2, 9, 1)), np.random.default_rng(2).standard_normal((10, 2))
    first, again, other = (analysis.exact_fit(net, X, X[:, 0], seed=s) for s in (3, 3, 4))
    assert (first == again).all() and (first != other).any()


@pytest.mark.parametrize(
    ("net", "X", "Y", "words"),
    [
        (fg.MLP((1, 3, 1)), np.arange(5.0)[:, None], np.arange(5.0), "n_.L-1. >= T - 1"),
        (fg.MLP((1, 5, 1)), np.ones((2, 1)), np.arange(2.0), "1 sets of equal rows"),
        (fg.MLP((1, 5, 1), "identity"), np.arange(5.0)[:, None], np.arange(5.0), "draws has 2"),
        (fg.MLP((1, 5, 1), "tanh", "sigmoid"), np.arange(2.0)[:, None], [0.5, 1.0], r"Y\[1, 0\]"),
        (fg.MLP((1, 5, 1)), np.arange(2.0)[:, None], [0.5], "Y must have shape"),
    ],
)
def test_exact_fit_refuses(net, X, Y, words):
    with pytest.raises(ValueError, match=words):
        analysis.exact_fit(net, X, Y)


def test_exact_fit_refuses_an_unknown_inverse():
    sine = fg.Activation.custom(
        "sine", lambda z: np.sin(z), lambda z: np.cos(z), lambda z: -np.sin(z)
    )
    with pytest.raises(ValueError, match="no inverse"):
        analysis.exact_fit(fg.MLP((1, 3, 1), "tanh", sine), [[0.0], [1.0]], [0.0, 0.5])


# --- sweeps -------------------------------------------------------------------------------------


@pytest.fixture
def problem():
    X = np.random.default_rng(5).standard_normal((8, 2))
    return fg.Problem(fg.MLP((2, 2, 1)), X, X[:, 0] * X[:, 1])


def test_rank_over_training(problem):
    net = problem.network
    thetas = [np.zeros(net.n_params), net.init(0), net.init(1)]
    sweep = analysis.rank_over_training(problem, iter(thetas), iterations=[0, 5, 9])
    assert [r.rank for r in sweep.ranks] == [fg.rank_analysis(problem, t).rank for t in thetas]
    assert sweep.points == (0, 5, 9) and sweep.losses[1] == problem.loss(thetas[1])
    assert "iteration" in str(sweep) and json.loads(json.dumps(sweep.to_dict()))["points"]
    with pytest.raises(ValueError, match="empty"):
        analysis.rank_over_training(problem, [])
    with pytest.raises(ValueError, match="iterations must hold 3"):
        analysis.rank_over_training(problem, thetas, iterations=[1])


def test_rank_trace_follows_a_run(problem):
    trace = analysis.RankTrace(problem, every=2)
    result = fg.train(problem, seed=0, max_iter=7, callbacks=[trace])
    sweep = trace.sweep()
    assert sweep.points == (2, 4, 6)
    assert sweep.losses == tuple(result.history[k - 1].loss for k in sweep.points)
    stops = [fg.train(problem, seed=0, max_iter=k).theta for k in sweep.points]
    assert sweep.ranks == analysis.rank_over_training(problem, stops).ranks
    with pytest.raises(ValueError, match="every"):
        analysis.RankTrace(problem, every=0)


def test_rank_over_weights(problem):
    sweep = analysis.rank_over_weights(problem, 20, seed=3)
    rng = np.random.default_rng(3)
    expected = [
        fg.rank_analysis(problem, problem.network.init(rng, "normal")).rank for _ in range(20)
    ]
    assert [r.rank for r in sweep.ranks] == expected
    assert sum(sweep.counts.values()) == 20
    with pytest.raises(ValueError, match="n_draws"):
        analysis.rank_over_weights(problem, 0)


def test_rank_phase():
    phase = rank_phase((2, None, 1), [1, 3], [2, 5, 13], n_draws=3, seed=1)
    assert phase.n_params == (5, 13) and phase.ranks.shape == (3, 2, 3)
    assert phase.largest_rank.tolist() == [[2, 2], [5, 5], [5, 13]]
    # tanh networks at random weights have the largest rank
    assert (phase.share == 1.0).all()
    assert phase.full_column_rank.tolist() == [[1, 1], [1, 1], [0, 1]]
    assert phase.column_share[2].tolist() == [5 / 13, 1.0]
    linear = rank_phase(lambda n: (2, n, 1), [2, 4], [6], activation="identity")
    assert (linear.ranks == 3).all()
    assert "13" in str(phase) and json.loads(json.dumps(phase.to_dict()))["sizes"] == [1, 3]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (((2, None, 1), [0], [2]), "sizes"),
        (((2, None, 1), [1], []), "T_values"),
        (((2, 3, None), [1, 2], [2]), "one number of outputs"),
    ],
)
def test_rank_phase_refuses(arguments, words):
    with pytest.raises(ValueError, match=words):
        rank_phase(*arguments)


@pytest.mark.slow
def test_rank_phase_in_processes():
    one = rank_phase((2, None, 1), [1, 3], [2, 5], n_draws=2)
    two = rank_phase((2, None, 1), [1, 3], [2, 5], n_draws=2, n_jobs=2)
    assert (one.ranks == two.ranks).all()


def test_pictures(problem):
    pytest.importorskip("matplotlib")
    sweep = analysis.rank_over_weights(problem, 5)
    assert sweep.plot().axes[0].get_ylabel() == "rank"
    phase = rank_phase((2, None, 1), [1, 2], [2, 4], n_draws=1)
    assert phase.plot().axes[0].get_ylabel() == "samples T"


def test_the_experiment_runs_quickly():
    pytest.importorskip("matplotlib")
    import papers as experiments

    module = experiments.load("rank-phase")
    lines = []
    result = module.run({**module.QUICK, "widths": [1, 2, 4], "n_draws": 2}, lines.append)
    assert lines and result == json.loads(json.dumps(result))
    assert [p["title"] for p in result["panels"]][0] == "tanh"
    ranks = {p["title"]: np.array(p["ranks"]) for p in result["panels"]}
    largest = np.array(result["panels"][0]["largest_rank"])
    assert (ranks["tanh"] == largest[:, :, None]).all()
    assert ranks["identity (linear network)"].max() == 3  # n_0 + 1: the map is affine
    hidden = np.array(result["panels"][0]["sizes"])
    n_params = np.array(result["panels"][0]["n_params"])
    # a ReLU unit can be scaled against its output weight: one direction a unit changes nothing
    assert (ranks["ReLU"] <= (n_params - hidden)[None, :, None]).all()
    assert len(module.plot(result).axes) == 5
    assert "tanh" in module.summary(result)


# --- the command line ---------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        return CliRunner().invoke(main, [str(a) for a in arguments])

    return call


def table_csv(path, classes=False):
    rng = np.random.default_rng(6)
    rows = rng.uniform(1.0, 9.0, (25, 2)).round(3)
    target = np.arange(25) % 3 + 4 if classes else (rows[:, 0] * rows[:, 1]).round(3)
    path.write_text(
        "a,b,y\n" + "\n".join(f"{a},{b},{y}" for (a, b), y in zip(rows, target, strict=True))
    )
    return rows, target


def test_rank_of_a_trained_model(run, tmp_path):
    rows, target = table_csv(tmp_path / "a.csv")
    assert run("train", "a.csv", "--hidden", "4", "--max-iter", 5, "--l2", 0.01).exit_code == 0
    result = run("rank", "model.npz", "a.csv", "--json", "r.json", "--plot", "r.png")
    assert result.exit_code == 0, result.output
    assert "rank of P(W)" in result.stdout and "principle 5" in result.stdout
    model = fg.Model.load("model.npz")
    theta = model.theta
    X = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    y = (target - target.mean()) / target.std()
    problem = fg.Problem(model.network, X, y, l2=0.01)
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["rank"] == fg.rank_analysis(problem, theta).rank
    assert report["loss"] + 0.005 * theta @ theta == pytest.approx(model.training["loss"])
    assert (tmp_path / "r.png").stat().st_size > 5000


def test_rank_of_a_model_of_built_in_samples_and_of_classes(run, tmp_path):
    small = ["--hidden", "3", "--max-iter", 2, "--quiet"]
    assert run("train", "--samples", 30, "--seed", 4, *small).exit_code == 0
    result = run("rank", "model.npz", "--json", "r.json")
    assert result.exit_code == 0, result.output
    trained = fg.Model.load("model.npz").training["loss"]
    assert json.loads((tmp_path / "r.json").read_text())["loss"] == pytest.approx(trained)
    table_csv(tmp_path / "c.csv", classes=True)
    assert run("train", "c.csv", "--loss", "softmax_cross_entropy", *small).exit_code == 0
    result = run("rank", "model.npz", "c.csv", "--json", "r.json")
    assert result.exit_code == 0, result.output
    trained = fg.Model.load("model.npz").training["loss"]
    assert json.loads((tmp_path / "r.json").read_text())["loss"] == pytest.approx(trained)


def test_rank_refuses_in_one_line(run, tmp_path):
    table_csv(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("1,2,3,4\n2,3,4,6\n")
    (tmp_path / "c.csv").write_text("a,b,y\n1,2,3\n2,3,7\n")
    small = ["--hidden", "3", "--max-iter", 2, "--quiet"]
    run("train", "a.csv", *small)
    for arguments, words in (
        (("model.npz",), "give DATA"),
        (("missing.npz", "a.csv"), "missing.npz"),
        (("model.npz", "a.csv", "--loss", "squard"), "did you mean 'squared'"),
        (("model.npz", "a.csv", "--json", "none/r.json"), "the folder does not exist"),
    ):
        result = run("rank", *arguments)
        assert result.exit_code == 2, result.output
        assert len(result.stderr.strip().splitlines()) == 1 and words in result.stderr
    result = run("rank", "model.npz", "b.csv")
    assert result.exit_code == 2 and "column 'a' is missing" in result.stderr
    table_csv(tmp_path / "d.csv", classes=True)
    run("train", "d.csv", "--loss", "softmax_cross_entropy", *small)
    result = run("rank", "model.npz", "c.csv")
    assert result.exit_code == 2 and "unknown level" in result.stderr


def test_check_design_command(run, tmp_path):
    result = run("check-design", "--widths", "2,20,1", "--samples", 1000, "--json", "d.json")
    assert result.exit_code == 0, result.output
    assert "N = 81 < T n_L = 1000" in result.stdout and "principle 2" in result.stdout
    assert json.loads((tmp_path / "d.json").read_text())["principles"]["2"]["status"] == "fail"
    result = run("check-design", "--widths", "2,20,1", "--samples", 5, "--activation", "tanb")
    assert result.exit_code == 2 and "did you mean 'tanh'" in result.stderr
    assert run("check-design", "--widths", "2,20,1").exit_code == 2
