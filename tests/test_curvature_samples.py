"""Sub-sampled curvature: the sample, its system, its growth, and the runs that take it."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from patience import HANGS

import fastggn as fg
from fastggn.kernels import forward
from fastggn.network import workspace
from fastggn.network.workspace import WorkspacePool
from fastggn.objective import sampled
from fastggn.objective.sampled import SampledPoint, draw_rows
from fastggn.solvers.base import Shift
from fastggn.solvers.cholesky import CholeskySolver
from fastggn.training.control import sampling
from fastggn.training.control.sampling import CurvatureSamples
from fastggn.training.fallback import Fallback, System
from fastggn.training.regularisation.evidence import likelihood_of
from fastggn.training.step import Work

LOSSES = ("squared", "softmax_cross_entropy", "cauchy", "huber")
STOP = fg.Stop(gradient=0.0, step=0.0)


def noisy(n_samples, widths=(3, 6, 1), seed=0, **options):
    """Return a problem with noisy targets of a random teacher."""
    rng = np.random.default_rng(seed)
    net = fg.MLP(widths)
    X = rng.standard_normal((n_samples, widths[0]))
    Y = net.predict(2.0 * net.init(seed + 100), X)
    Y = Y / Y.std(axis=0) + 0.1 * rng.standard_normal(Y.shape)
    return fg.Problem(net, X, Y, **options)


def classes(n_samples, widths=(3, 6, 3), seed=0, **options):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n_samples, widths[0]))
    Y = np.abs(X).argmax(axis=1)
    return fg.Problem(fg.MLP(widths), X, Y, loss="softmax_cross_entropy", **options)


def problem_of(loss, n_samples, **options):
    if loss == "softmax_cross_entropy":
        return classes(n_samples, **options)
    return noisy(n_samples, loss=loss, **options)


def sha(theta):
    return hashlib.sha256(theta.tobytes()).hexdigest()


@pytest.mark.parametrize("width", [1, 3, 16])
def test_the_rows_are_distinct_sorted_and_equally_likely(width):
    rng = np.random.default_rng(5)
    for _ in range(50):
        n_samples = int(rng.integers(2 * width, 500))
        count = int(rng.integers(width, n_samples // 2 + 1)) if n_samples > 2 * width else width
        rows = draw_rows(n_samples, count, width, rng)
        assert np.all(np.diff(rows) > 0)
        assert 0 <= rows[0] <= rows[-1] < n_samples
        assert rows.size == max(1, count // width) * width
    hits = np.zeros(101)
    rounds = 3000
    for _ in range(rounds):
        hits[draw_rows(101, 48, width, rng)] += 1
    expected = hits.sum() / 101
    assert hits.sum() == rounds * (48 // width) * width
    # a binomial count, 101 of them: six deviations are once in a million tests
    assert np.abs(hits - expected).max() < 6.0 * np.sqrt(expected)


def test_a_sorted_table_is_sampled_evenly():
    rng = np.random.default_rng(0)
    for width in (1, 16):
        rows = draw_rows(100_000, 1600, width, rng)
        counts = np.histogram(rows, bins=50, range=(0, 100_000))[0]
        assert counts.min() >= 32 - 2 * width
        assert counts.max() <= 32 + 2 * width


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("weighted", [False, True])
def test_the_system_of_a_sample(loss, weighted):
    """(G_m + mu) x = g + l2 theta: G of the sample alone, a naive sum, and g of all samples."""
    rng = np.random.default_rng(3)
    for seed in range(3):
        T, m = 90, 40
        weights = rng.uniform(0.0, 2.0, T) if weighted else None
        whole = problem_of(loss, T, seed=seed, sample_weight=weights, l2=0.01)
        theta = whole.network.init(seed)
        rows = draw_rows(T, m, 1, rng)
        part = SampledPoint(whole.subset(rows), whole.at(theta), WorkspacePool())
        # the matrix of the sample: weighted means over it, from one problem a sample
        shares = np.ones(T) if weights is None else weights
        G = np.zeros((whole.n_params, whole.n_params))
        for row in rows:
            alone = whole.subset([row]).with_l2(0.0)
            G += shares[row] * (alone.ggn(theta) if shares[row] else 0.0)
        G /= shares[rows].sum()
        np.testing.assert_allclose(part.gram(), G, rtol=1e-9, atol=1e-12)
        for damping in (1e-9, 1e-3, 1.0):
            found = CholeskySolver().prepare(part).solve(Shift(damping, part.decay))
            wanted = np.linalg.solve(
                G + (0.01 + damping) * np.eye(G.shape[0]), whole.gradient(theta)
            )
            assert found.ok
            np.testing.assert_allclose(found.step, wanted, rtol=1e-7, atol=1e-9)


def test_the_curvature_along_a_step_is_compared_without_a_product():
    problem = noisy(600)
    theta, damping = problem.network.init(1), 1e-3
    point = problem.at(theta)
    part = SampledPoint(problem.subset(np.arange(0, 600, 4)), point, WorkspacePool())
    s = -CholeskySolver().prepare(part).solve(Shift(damping)).step
    promised, predicted = -point.gradient @ s, point.predicted_decrease(s)
    samples = CurvatureSamples(problem, 150, 0)
    samples.compare(promised, predicted, damping * s @ s)
    wanted = (np.sum(point.matvec(s) ** 2) - np.sum(part.matvec(s) ** 2)) / promised
    assert samples._excess == pytest.approx(sampling.PART * wanted, rel=1e-6)


def judges(problem, theta, count=400, m=300):
    """Return a point, a step of one sample, and judges of it with other samples."""
    point, samples = problem.at(theta), CurvatureSamples(problem, m, 0)
    step = -CholeskySolver().prepare(samples.of(point)).solve(Shift(1e-3, point.decay)).step
    found = []
    for _ in range(count):
        found.append(samples.judge_of(point))
        samples._draws += 1
    return point, step, found


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("weighted", [False, True])
def test_another_sample_tells_what_a_step_promises(loss, weighted, monkeypatch):
    """Over draws the estimate is that of all samples, and its errors are what it says."""
    monkeypatch.setattr(sampling, "FEWEST", 600)
    T = 3000
    weights = np.random.default_rng(1).uniform(0.0, 2.0, T) if weighted else None
    problem = problem_of(loss, T, sample_weight=weights, l2=0.01)
    point, step, found = judges(problem, problem.network.init(1))
    assert {judge.curvature_samples for judge in found} == {600}
    # v^T G v by the matrix of all samples
    exact = step @ point.gram() @ step
    found_ones, errors = np.transpose([judge._curvature_and_error(step) for judge in found])
    assert abs(found_ones.mean() - exact) < 4.0 * found_ones.std() / np.sqrt(len(found))
    # of a fifth of all samples the scatter is 0.9 of that of independent draws
    assert 0.5 < found_ones.std() / np.sqrt(np.mean(errors**2)) < 1.0
    monkeypatch.setattr(sampled, "PRECISE", 1e9)
    promised = -point.gradient @ step - 0.5 * 0.01 * step @ step
    for judge, own in zip(found[:5], found_ones, strict=False):
        assert judge.predicted_decrease(step) == pytest.approx(promised - 0.5 * own, rel=1e-12)


def test_an_estimate_that_is_not_precise_gives_way_to_all_samples(monkeypatch):
    monkeypatch.setattr(sampling, "FEWEST", 1400)
    problem = noisy(3000)
    point, step, (judge, *_) = judges(problem, problem.network.init(1), count=1)
    exact = point.predicted_decrease(step)
    assert 0.0 < abs(judge.predicted_decrease(step) / exact - 1.0) < 0.05
    # a few rows with most of the curvature
    heavy = np.ones(3000)
    heavy[::100] = 1e4
    problem = noisy(3000, sample_weight=heavy)
    point, step, found = judges(problem, problem.network.init(1), count=5)
    for judge in found:
        assert judge.predicted_decrease(step) == point.predicted_decrease(step)


def test_neighbours_of_a_file_are_one_draw_of_the_estimate(tmp_path, monkeypatch):
    """In a sorted file they are nearly the same sample: the error is that of the places."""
    monkeypatch.setattr(sampling, "FEWEST", 1600)
    rng = np.random.default_rng(0)
    x = np.sort(rng.standard_normal(8000))
    np.save(tmp_path / "X.npy", x[:, None])
    problem = fg.Problem(
        fg.MLP((1, 4, 1)), fg.data.open_npy(tmp_path / "X.npy"), np.sin(3.0 * x[:, None])
    )
    theta = problem.network.init(0)
    point, _, found = judges(problem, theta, count=60)
    assert {judge._width for judge in found} == {16}
    v = rng.standard_normal(problem.n_params)
    pairs = np.array([judge._curvature_and_error(v) for judge in found])
    alone = np.var((problem.jacobian(theta) @ v) ** 2)  # of one row
    assert np.mean(pairs[:, 1] ** 2) == pytest.approx(alone * 16 / 1600, rel=0.2)


def test_an_accepted_step_takes_one_pass_over_all_samples(monkeypatch):
    """Loss and gradient of the trial: the rest is samples."""
    monkeypatch.setattr(workspace, "_BLOCK_BYTES", 2**18)  # several blocks: no sweep is kept
    rows, sweep = [0], forward.forward

    def counted(theta, layers, params, biases, samples, *rest):
        rows[-1] += len(samples)
        return sweep(theta, layers, params, biases, samples, *rest)

    monkeypatch.setattr(forward, "forward", counted)
    problem = noisy(20_000)
    run = fg.train(
        problem, seed=0, max_iter=8, stop=STOP,
        method=fg.LevenbergMarquardt(curvature_samples=300),
        callbacks=[lambda record: rows.append(0)],
    )  # fmt: skip
    clean = [
        seen
        for seen, record in zip(rows[1:], run.history[1:], strict=False)
        if record.rejections == 0
    ]
    assert len(clean) >= 3
    assert min(clean) >= 20_000
    assert max(clean) <= 20_000 + 600 + sampling.FEWEST


def test_growth():
    problem = noisy(6000)
    samples = CurvatureSamples(problem, 300, 0)
    for _ in range(3):  # neither slow nor off
        samples.compare(1.0, 0.45, 0.0)
        samples.accepted(0.3, 0.5)
    assert samples.size == 300
    for _ in range(12):  # the curvature of all samples is much larger
        samples.compare(1.0, 0.2, 0.0)
        samples.accepted(0.3, 0.5)
        if samples.size > 300:
            break
    assert samples.size == 600
    # slow progress: a trial of more samples, which does not pay, then one that does
    sizes = []
    for fall in [0.001] * 3 * sampling.PATIENCE + [0.001] * sampling.TRIAL + [0.01] * 5:
        samples.accepted(fall, 1.0)
        sizes.append(samples.size)
    first, second = sampling.PATIENCE - 1, 3 * sampling.PATIENCE + sampling.TRIAL - 1
    assert sizes[:first] == [600] * first
    assert sizes[first : first + 4] == [1200, 1200, 1200, 600]
    assert sizes[first + 4 : second] == [600] * (second - first - 4)
    assert sizes[second:] == [1200] * 6
    samples.accepted(0.99, 1.0)  # an exact fit is near
    samples.accepted(0.99, 1.0)  # more than half are all
    assert samples.whole
    assert samples.of(problem.at(problem.network.init(0))).curvature_samples == 6000


@pytest.mark.parametrize("loss", LOSSES)
def test_few_samples_change_no_bit(loss):
    n = problem_of(loss, 50).n_params
    problem = problem_of(loss, 10 * n // (3 if loss == "softmax_cross_entropy" else 1))
    runs = [
        fg.train(problem, seed=1, max_iter=4, method=method)
        for method in (
            fg.LevenbergMarquardt(solver="cholesky"),
            fg.LevenbergMarquardt(solver="cholesky", curvature_samples="all"),
        )
    ]
    assert sha(runs[0].theta) == sha(runs[1].theta)
    assert [record.curvature_samples for record in runs[0].history] == [None] * 4


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("precision", ["float64", "mixed"])
def test_a_run_reaches_the_loss_of_all_samples(loss, precision):
    problem = problem_of(loss, 3000, l2=1e-4)
    method = {"solver": "cholesky", "precision": precision}
    whole = fg.train(
        problem, seed=2, method=fg.LevenbergMarquardt(**method, curvature_samples="all"),
        max_iter=15, stop=STOP,
    )  # fmt: skip
    part = fg.train(
        problem, seed=2, method=fg.LevenbergMarquardt(**method, curvature_samples=250),
        max_iter=40, stop=fg.Stop(target=1.05 * whole.loss),
    )  # fmt: skip
    assert part.status == "target_reached"
    assert part.history[0].curvature_samples == 250
    assert all(record.solver.startswith("cholesky") for record in part.history)


def test_a_cheap_assembly_takes_all_samples():
    """By pairs of units four outputs cost little more than one: T n_L N^2 = 1.4e8 says too much."""
    regions = fg.Problem(fg.MLP((2, 10, 10, 4)), *fg.data.four_regions(1000, 0, one_hot=True))
    assert regions.n_rows > 20 * regions.n_params
    assert regions.n_rows * regions.n_params**2 > 1e8
    many, few = noisy(9000, widths=(4, 10, 10, 1)), noisy(12 * 433, widths=(8, 16, 16, 1))
    two = noisy(9000, widths=(4, 10, 10, 2))
    # 4 N or a quarter of all, and 8 N rows with several outputs
    for problem, size in ((regions, None), (many, 684), (few, 1299), (two, 728)):
        method = fg.LevenbergMarquardt(solver="cholesky")
        for regularize in (None, fg.Evidence()):
            run = fg.train(problem, seed=0, max_iter=1, method=method, regularize=regularize)
            assert run.history[0].curvature_samples == size


@pytest.mark.parametrize("loss", ["squared", "softmax_cross_entropy"])
def test_a_sample_counts_about_as_all_samples_would(loss):
    """Gamma and log det of 4 N rows, in the mean over draws: 0.4 of the bias at most."""
    problem = problem_of(loss, 2000, l2=1e-3)
    point = problem.at(problem.network.init(1))
    systems = Fallback(problem, "cholesky", needs_minimum_norm=False, patience=2, work=Work())
    wanted = System(systems, point).sums()
    off = np.zeros((2, 2))
    size = 4 * problem.n_params * 2000 // problem.n_rows
    systems.samples = CurvatureSamples(problem, size, 0)
    for _ in range(40):
        system = System(systems, point)
        raw = system._state.sums(point.decay)
        for row, found in zip(off, (raw, system.sums()), strict=True):
            row += found.effective, found.log_determinant
    off = off / 40 - (wanted.effective, wanted.log_determinant)
    assert off[0].max() < -0.01 * wanted.effective
    assert np.all(np.abs(off[1]) < 0.4 * np.abs(off[0])), off


@pytest.mark.parametrize("share", [1.0, 0.3])
def test_the_evidence_of_a_result_is_about_that_of_all_samples(share):
    """Counted on 16 N of 100 N samples, on all where a share of them has all the weight."""
    weights = np.where(np.random.default_rng(3).random(3100) < share, 1.0, 0.0)
    problem = noisy(3100, sample_weight=weights)
    method = fg.LevenbergMarquardt(curvature_samples=int(4 / share) * problem.n_params)
    run = fg.train(problem, seed=0, max_iter=12, regularize=fg.Evidence(), method=method)
    assert run.history[-1].curvature_samples < 1000
    found, point = run.evidence, problem.with_l2(run.evidence.l2).at(run.theta)
    sums = CholeskySolver().prepare(point).sums(point.decay)
    exact = likelihood_of(problem).evidence(
        found.alpha, found.beta, sums, point.data_loss, run.theta
    )
    off = abs(found.effective_parameters / exact.effective_parameters - 1.0)
    assert (0.0 < off < 0.01) if share == 1.0 else (off < 1e-9)
    assert abs(found.log_evidence - exact.log_evidence) < (1.0 if share == 1.0 else 1e-5)


def test_a_count_without_rows_that_weigh_is_that_of_the_sample():
    """Where no drawn row has a leverage, nothing tells how far off the sample is."""
    weights = np.where(np.arange(6000) % 400 == 7, 1.0, 0.0)
    problem = noisy(6000, l2=1.0, sample_weight=weights)
    point = problem.at(problem.network.init(1))
    systems = Fallback(problem, "cholesky", needs_minimum_norm=False, patience=2, work=Work())
    exact = System(systems, point).sums()
    systems.samples = CurvatureSamples(problem, 600, 0)
    for _ in range(12):
        found = System(systems, point).sums()
        assert found.log_determinant == pytest.approx(exact.log_determinant, abs=15.0)


def test_an_exact_fit_ends_on_all_samples():
    rng = np.random.default_rng(0)
    net = fg.MLP((3, 6, 2))
    X, theta = rng.standard_normal((1000, 3)), net.init(1)
    problem = fg.Problem(net, X, net.predict(theta, X))
    run = fg.train(
        problem, theta + 0.05 * rng.standard_normal(theta.size), seed=0, max_iter=30,
        method=fg.LevenbergMarquardt(curvature_samples=160), stop=fg.Stop(target=1e-20),
    )  # fmt: skip
    sizes = [record.curvature_samples for record in run.history]
    assert run.status == "target_reached"
    assert sizes == sorted(sizes)
    assert (sizes[0], sizes[-1]) == (160, 1000)


def test_a_run_that_converges_says_so():
    problem = noisy(2000, widths=(2, 3, 1), l2=1e-3)
    run = fg.train(
        problem, seed=0, max_iter=200, method=fg.LevenbergMarquardt(curvature_samples=100)
    )
    assert run.status == "converged_gradient"
    assert np.linalg.norm(problem.gradient(run.theta)) <= 1e-10


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"held_out": fg.HeldOut(*fg.data.four_regions(100, seed=3), patience=30)},
        {"regularize": fg.Evidence()},
    ],
    ids=["plain", "held out", "evidence"],
)
def test_resumed_in_the_middle_of_growth(tmp_path, options, monkeypatch):
    monkeypatch.setattr(sampling, "FEWEST", 300)  # so that these few samples have a judge,
    monkeypatch.setattr(sampled, "PRECISE", 0.5)  # which decides
    problem = fg.Problem(fg.MLP((2, 6, 1)), *fg.data.four_regions(1500, seed=0))
    keywords = {
        "seed": 4, "max_iter": 16, "stop": STOP, **options,
        "method": fg.LevenbergMarquardt(curvature_samples=120),
    }  # fmt: skip
    whole = fg.train(problem, **keywords)
    sizes = [record.curvature_samples for record in whole.history]
    assert sizes[0] == 120 < sizes[-1]
    keywords["checkpoint"] = fg.Checkpoint(tmp_path / "run.ckpt", resume=True)
    for last in (1, 3, 8, 12, 16):
        with fg.threads(1 + last % 2):
            part = fg.train(
                problem, callbacks=[lambda record, last=last: record.iteration >= last], **keywords
            )
        assert part.n_iter == last
    assert sha(part.theta) == sha(whole.theta)
    assert [record.curvature_samples for record in part.history] == sizes
    assert part.evidence == whole.evidence


def test_draws_follow_from_seed_and_iteration():
    problem = noisy(1500)
    theta = problem.network.init(0)
    method = fg.LevenbergMarquardt(curvature_samples=200)

    def run(seed):
        return sha(fg.train(problem, theta, seed=seed, max_iter=3, method=method).theta)

    assert run(1) == run(1)
    assert run(1) != run(2)
    assert run(None) == run(None)


def test_refusals():
    problem = noisy(300)
    for value, error in (("half", ValueError), (0, ValueError), (1.5, TypeError)):
        with pytest.raises(error, match="curvature_samples"):
            fg.LevenbergMarquardt(curvature_samples=value)
    with pytest.raises(ValueError, match="curvature_samples does not go with batch_size"):
        fg.LevenbergMarquardt(curvature_samples=10, batch_size=10)
    for options in (
        {"method": fg.LevenbergMarquardt(curvature_samples=50, solver="qr")},
        {"method": fg.LevenbergMarquardt(curvature_samples=50), "regularize": fg.NullSpace()},
    ):
        with pytest.raises(ValueError, match="curvature_samples"):
            fg.train(problem, max_iter=1, **options)


@pytest.mark.parametrize("options", [{}, {"regularize": fg.Evidence()}], ids=["plain", "evidence"])
def test_a_sample_without_a_step_is_no_reason_to_stop(monkeypatch, options):
    """A sample that points uphill: all samples come next, with the damping of before."""
    problem = noisy(600)

    def upside_down(self):
        return -self._whole.data_gradient

    monkeypatch.setattr(SampledPoint, "data_gradient", property(upside_down))
    run = fg.train(
        problem, seed=1, max_iter=5, method=fg.LevenbergMarquardt(curvature_samples=200), **options
    )
    assert [record.curvature_samples for record in run.history] == [200, 600, 600, 600, 600]
    assert [record.accepted for record in run.history] == [False, True, True, True, True]
    assert run.history[1].damping < 1.0


def test_a_singular_sample_gives_way_to_all_samples():
    """Only few samples move the third input: a sample without them is singular."""
    rng = np.random.default_rng(1)
    X = rng.standard_normal((800, 3))
    X[:-2, 2] = 0.0
    problem = fg.Problem(fg.MLP((3, 1), bias="none"), X, X @ [[1.0], [2.0], [3.0]])
    method = fg.LevenbergMarquardt(curvature_samples=100, damping=1e-300)
    run = fg.train(problem, np.zeros(3), seed=0, max_iter=3, method=method)
    assert run.loss < 1e-25
    assert run.history[0].curvature_samples == 800


@pytest.mark.slow
def test_a_sorted_file_trains_as_its_shuffled_copy(tmp_path):
    """Iterations to the minimum of all samples, over starts near it: within 5 % in the sum."""
    rng = np.random.default_rng(0)
    net, T = fg.MLP((3, 6, 1)), 8000
    method = fg.LevenbergMarquardt(curvature_samples=512)
    total = {"shuffled": 0, "by an input": 0, "by the target": 0}
    for seed in range(20):
        X, teacher = rng.standard_normal((T, 3)), 2.0 * net.init(seed + 50)
        Y = net.predict(teacher, X) + 0.3 * rng.standard_normal((T, 1))
        start = teacher + 0.1 * rng.standard_normal(teacher.size)
        whole = fg.train(fg.Problem(net, X, Y), start, max_iter=30)
        orders = (np.arange(T), np.argsort(X[:, 0]), np.argsort(Y[:, 0]))
        for name, order in zip(total, orders, strict=True):
            np.save(tmp_path / "X.npy", X[order])
            np.save(tmp_path / "Y.npy", Y[order])
            files = (fg.data.open_npy(tmp_path / file) for file in ("X.npy", "Y.npy"))
            run = fg.train(
                fg.Problem(net, *files), start, seed=seed, max_iter=60, method=method,
                stop=fg.Stop(target=1.0005 * whole.loss),
            )  # fmt: skip
            assert run.status == "target_reached"
            total[name] += run.n_iter
    assert total["by an input"] <= 1.05 * total["shuffled"], total
    assert total["by the target"] <= 1.05 * total["shuffled"], total


def test_a_file_is_read_in_many_places():
    """At least 64 of them, and few rows beside the sample."""
    rng = np.random.default_rng(0)
    given = []

    class Rows:
        def __init__(self, array):
            self.array, self.shape, self.dtype = array, array.shape, array.dtype

        def __getitem__(self, rows):
            given.append(rows)
            return self.array[rows]

    X = Rows(rng.standard_normal((20_000, 2)))
    problem = fg.Problem(fg.MLP((2, 4, 1)), X, rng.standard_normal((20_000, 1)))
    samples = CurvatureSamples(problem, 500, 0)
    point = problem.at(problem.network.init(0))
    given.clear()
    assert samples.of(point).curvature_samples == 500
    assert len(given) >= 100
    assert sum(rows.stop - rows.start for rows in given) < 800


THREADS = """
import hashlib
import numpy as np
import fastggn as fg
rng = np.random.default_rng(0)
X = rng.standard_normal((9000, 4))
Y = np.sin(X[:, :1] + X[:, 1:2]) + 0.1 * rng.standard_normal((9000, 1))
problem = fg.Problem(fg.MLP((4, 10, 10, 1)), X, Y)
for count in (1, 2, 3, 4):
    with fg.threads(count):
        run = fg.train(problem, seed=3, max_iter=12)
    sizes = [record.curvature_samples for record in run.history]
    print(hashlib.sha256(run.theta.tobytes()).hexdigest(), sizes[0])
"""


@pytest.mark.process
def test_the_bits_do_not_depend_on_the_threads():
    done = subprocess.run(
        [sys.executable, "-c", THREADS],
        env={**os.environ, "NUMBA_NUM_THREADS": "4"},
        capture_output=True, text=True, check=True, timeout=HANGS,
    )  # fmt: skip
    lines = done.stdout.split("\n")[:4]
    assert len(set(lines)) == 1
    assert lines[0].endswith(" 684")  # 4 N
