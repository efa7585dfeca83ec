"""Subglobal minima of one-hidden-layer ReLU networks, and whether they are attained."""

import itertools
import time
from math import comb

import numpy as np
import pytest
from scipy.optimize import linprog
from test_relu_patterns import brute_force

import fastggn as fg
from fastggn import analysis

# The example of Figures 1 and 3.
X3 = np.array([[-1.0, 1.0], [2.0, 1.0], [1.0, 3.0]])
Y3 = np.array([1.0, 2.0, 3.0])

# value: (all, realisable, attained) for h = 1, 2, 3, 4.
TABLE = {
    0.0: [(0, 0, 0), (24, 14, 10), (336, 144, 126), (3360, 1070, 1014)],
    0.16: [(1, 1, 1), (3, 3, 3), (7, 7, 7), (15, 15, 15)],
    0.5: [(1, 1, 0), (9, 5, 3), (49, 19, 16), (225, 65, 61)],
    2.0: [(1, 1, 0), (9, 5, 3), (49, 19, 16), (225, 65, 61)],
    2.5: [(1, 0, 0), (3, 0, 0), (7, 0, 0), (15, 0, 0)],
    4.5: [(1, 0, 0), (9, 2, 2), (49, 12, 12), (225, 50, 50)],
    5.0: [(1, 1, 1), (3, 3, 3), (7, 7, 7), (15, 15, 15)],
    6.5: [(1, 1, 1), (3, 3, 3), (7, 7, 7), (15, 15, 15)],
    7.0: [(1, 1, 1), (1, 1, 1), (1, 1, 1), (1, 1, 1)],
}


def network(n, h, bias):
    return fg.MLP((n, h, 1), "relu", bias="free" if bias else "none")


def dense_design(X, patterns, bias):
    """Return the design matrix of Eq. (4), column by column."""
    columns = []
    for a in np.asarray(patterns, dtype=float):
        columns += [a * x for x in X.T]
        if bias:
            columns.append(a)
    if bias:
        columns.append(np.ones(len(X)))
    return np.column_stack(columns)


def dense_loss(X, y, patterns, bias):
    D = dense_design(X, patterns, bias)
    residual = y - D @ np.linalg.lstsq(D, y, rcond=None)[0]
    return 0.5 * residual @ residual


def is_attained(X, y, patterns, bias):
    """One linear programme for each choice of signs of v in {+, -, 0}: the textbook's way."""
    D = dense_design(X, patterns, bias)
    fitted = D @ np.linalg.lstsq(D, y, rcond=None)[0]
    rows = np.hstack([X, np.ones((len(X), 1))]) if bias else X
    d, h = rows.shape[1], len(patterns)
    for signs in itertools.product((1, -1, 0), repeat=h):
        cost = np.zeros(D.shape[1] + 1)
        cost[-1] = -1.0
        upper, equal = [], [np.append(row, 0.0) for row in D]
        right = list(fitted)
        for j, sign in enumerate(signs):
            place = slice(j * d, (j + 1) * d)
            if sign == 0:
                for k in range(place.start, place.stop):
                    equal.append(np.eye(1, D.shape[1] + 1, k)[0])
                    right.append(0.0)
                continue
            for x, a in zip(rows, patterns[j], strict=True):
                if x.any():
                    row = np.zeros(D.shape[1] + 1)
                    row[place], row[-1] = -sign * (1 if a else -1) * x, 1.0
                    upper.append(row)
        bounds = [(None, None)] * D.shape[1] + [(None, 1.0)]
        answer = linprog(
            cost, upper or None, np.zeros(len(upper)) if upper else None, equal, right, bounds
        )
        if answer.status == 0 and answer.x[-1] > 1e-6:
            return True
    return False


def sweep(X):
    """Return the patterns in the plane: those between neighbouring boundary angles."""
    angles = np.sort(
        np.concatenate([np.arctan2(X[:, 1], X[:, 0]) + k for k in (-np.pi / 2, np.pi / 2)])
        % (2 * np.pi)
    )
    middle = 0.5 * (angles + np.append(angles[1:], angles[0] + 2 * np.pi))
    return {
        tuple(bool(a) for a in row)
        for row in np.stack([np.cos(middle), np.sin(middle)], 1) @ X.T > 0
    }


@pytest.mark.parametrize("h", [1, 2, 3, 4])
def test_the_table_of_three_samples(h):
    table = analysis.loss_table(X3, Y3, h)
    found = {
        round(value, 9): counts
        for value, *counts in zip(
            table.values, table.formal, table.realisable, table.attained, strict=True
        )
    }
    wanted = {value: list(rows[h - 1]) for value, rows in TABLE.items() if any(rows[h - 1])}
    assert found == wanted
    totals = [int(column.sum()) for column in (table.formal, table.realisable, table.attained)]
    assert totals == [8**h, 6**h, (4, 28, 192, 1232)[h - 1]]


@pytest.mark.parametrize(("T", "h"), [(T, h) for T in range(1, 13) for h in range(1, 12 // T + 1)])
def test_brute_force_over_all_patterns_agrees(T, h):
    """Every T h <= 12: values and counts of all and of realisable patterns, up to order."""
    rng = np.random.default_rng(100 * T + h)
    X, y = rng.standard_normal((T, 2)), rng.standard_normal(T)
    single = list(itertools.product((False, True), repeat=T))
    wanted = {
        multiset: dense_loss(X, y, multiset, False)
        for multiset in itertools.combinations_with_replacement(single, h)
    }
    everything = list(analysis.enumerate_subglobal_minima(X, y, h, which="all"))
    assert sum(record.multiplicity for record in everything) == 2 ** (T * h)
    assert len(everything) == len(wanted)
    for record in everything:
        key = tuple(sorted(tuple(map(bool, row)) for row in record.patterns))
        assert record.loss == pytest.approx(wanted[key], rel=1e-9, abs=1e-12)
    cells = sweep(X)
    if T <= 7:
        assert cells == {tuple(map(bool, row)) for row in brute_force(X, strict=True)}
    records = list(analysis.enumerate_subglobal_minima(X, y, h))
    keys = [tuple(sorted(tuple(map(bool, row)) for row in r.patterns)) for r in records]
    assert set(keys) == {key for key in wanted if set(key) <= cells}
    assert len(keys) == len(set(keys)) == comb(len(cells) + h - 1, h)
    for key, record in zip(keys, records, strict=True):
        assert record.loss == pytest.approx(wanted[key], rel=1e-9, abs=1e-12)
    # Attained means the same in the formal enumeration.
    assert sum(r.attained for r in everything) == sum(r.attained for r in records)


CASES = [(6, 2, 1, True), (5, 2, 2, False), (4, 1, 2, True), (3, 2, 2, True), (4, 2, 3, False)]


@pytest.mark.parametrize(("T", "n", "h", "bias"), CASES)
@pytest.mark.parametrize("degenerate", [False, True])
def test_attained_agrees_with_all_linear_programmes(T, n, h, bias, degenerate):
    rng = np.random.default_rng(T + 10 * n + 100 * h)
    if degenerate:
        X, y = rng.integers(-1, 3, (T, n)).astype(float), rng.integers(-2, 3, T).astype(float)
    else:
        X, y = rng.standard_normal((T, n)), rng.standard_normal(T)
    records = list(analysis.enumerate_subglobal_minima(X, y, h, bias))
    for record in records[:: 1 + len(records) // 30]:
        assert record.attained == is_attained(X, y, record.patterns, bias), str(record)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("seed", [0, 1, pytest.param(2, marks=pytest.mark.slow)])
def test_attained_minima_are_stationary_local_minima(seed, bias):
    """At every record's point: inside the region, gradient zero, Hessian without a negative."""
    rng = np.random.default_rng(seed)
    T, n, h = (5, 2, 2) if bias else (7, 2, 2)
    X, y = rng.standard_normal((T, n)), rng.standard_normal(T)
    if seed == 0:
        X, y = np.round(X), np.round(2 * y)  # with dependent samples
    problem = fg.Problem(network(n, h, bias), X, y)
    count = 0
    for record in analysis.enumerate_subglobal_minima(X, y, h, bias, "attained"):
        place = analysis.region_of(X, y, record.theta, bias)
        assert place.interior
        np.testing.assert_array_equal(place.patterns, record.patterns)
        scale = np.linalg.norm(problem.jacobian(record.theta).to_dense()) * np.linalg.norm(y) / T
        assert T * problem.loss(record.theta) == pytest.approx(record.loss, rel=1e-7, abs=1e-9)
        assert np.linalg.norm(problem.gradient(record.theta)) <= 1e-8 * scale
        eigenvalues = np.linalg.eigvalsh(problem.hessian(record.theta))
        assert eigenvalues[0] >= -1e-8 * max(eigenvalues[-1], 1.0)
        count += 1
    assert count >= 2


def test_points_of_all_attained_minima_of_the_example():
    problem = fg.Problem(network(2, 3, False), X3, Y3)
    for record in analysis.enumerate_subglobal_minima(X3, Y3, 3, which="attained"):
        assert analysis.region_of(X3, Y3, record.theta).interior
        assert 3 * problem.loss(record.theta) == pytest.approx(record.loss, abs=1e-9)
        assert np.linalg.norm(problem.gradient(record.theta)) <= 1e-8


@pytest.mark.parametrize(
    ("h", "bias"),
    [
        (1, False),
        pytest.param(2, False, marks=pytest.mark.slow),
        pytest.param(3, False, marks=pytest.mark.slow),
        pytest.param(2, True, marks=pytest.mark.slow),
    ],
)
def test_critical_point_confirms_every_attained_minimum(h, bias):
    """Stationary, and never a saddle: all of the example, and all of a random problem."""
    rng = np.random.default_rng(2)
    X, y = (rng.standard_normal((4, 2)), rng.standard_normal(4)) if bias else (X3, Y3)
    problem = fg.Problem(network(2, h, bias), X, y)
    records = list(analysis.enumerate_subglobal_minima(X, y, h, bias, "attained"))
    least = min(record.loss for record in records)
    for record in records:
        report = fg.critical_point(problem, record.theta)
        assert report.label in {"global_minimum", "local_minimum", "degenerate"}, str(report)
        assert report.gradient_norm <= report.gradient_tolerance
        if report.label == "global_minimum":
            assert record.loss <= least + 1e-9
    assert len(records) >= 4


# A dead unit, or two units of one pattern, make every system singular: nothing to be told.
@pytest.mark.filterwarnings("ignore::fastggn.runtime.errors.SingularSystemWarning")
@pytest.mark.parametrize("bias", [False, True])
def test_random_trainings_end_at_listed_values_or_at_boundaries(bias):
    """200 trainings: at a listed minimum inside its region, or on a face, flagged and listed.

    On a kink the method's smooth model stops making progress above the least loss of the face;
    what it stops at is a point of a face that the enumeration lists.
    """
    rng = np.random.default_rng(7)
    X, y, h = (X3, Y3, 2) if not bias else (*_line(rng), 1)
    problem = fg.Problem(network(X.shape[1], h, bias), X, y)
    minima = [r.loss for r in analysis.enumerate_subglobal_minima(X, y, h, bias, "attained")]
    records = analysis.enumerate_subglobal_minima(X, y, h, bias, "boundary")
    faces = [r.loss for r in records if r.boundary]
    inside = 0
    for _ in range(100):
        start = rng.standard_normal(problem.n_params)
        result = fg.train(problem, start, max_iter=300, stop=fg.Stop(gradient=1e-13))
        place = analysis.region_of(X, y, result.theta, bias, tolerance=1e-6)
        inside += place.interior
        value = place.loss if place.interior else place.subglobal_loss
        listed = minima if place.interior else faces
        assert min(abs(value - other) for other in listed) <= 1e-9, str(place)
        if place.interior:  # Corollary 2.7
            assert place.loss == pytest.approx(place.subglobal_loss, abs=1e-9)
        else:
            assert place.loss >= place.subglobal_loss - 1e-9
    assert inside >= 80


def _line(rng):
    X = np.sort(rng.standard_normal((5, 1)), axis=0)
    return X, rng.standard_normal(5)


def test_boundary_records_lie_on_faces():
    """Each point is on a boundary, has the loss of the record, and no less is on its face."""
    problem = fg.Problem(network(2, 2, False), X3, Y3)
    records = list(analysis.enumerate_subglobal_minima(X3, Y3, 2, which="boundary"))
    assert len(records) == comb(13 + 1, 2) - comb(6 + 1, 2)
    attained = [r for r in records if r.attained]
    assert attained and all(r.boundary for r in attained)
    for record in attained:
        place = analysis.region_of(X3, Y3, record.theta)
        assert not place.interior
        assert 3 * problem.loss(record.theta) == pytest.approx(record.loss, abs=1e-9)
        assert place.subglobal_loss == pytest.approx(record.loss, abs=1e-9)


@pytest.mark.filterwarnings("ignore::fastggn.runtime.errors.SingularSystemWarning")
@pytest.mark.slow
def test_twelve_samples_in_seconds():
    """T = 12, n = 3, h = 2 without bias: 134 patterns, 9045 regions, far below a minute."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((12, 3)), rng.standard_normal(12)
    began = time.process_time()
    records = list(analysis.enumerate_subglobal_minima(X, y, 2))
    assert time.process_time() - began < 60.0
    assert len(records) == comb(134 + 1, 2)
    attained = [r for r in records if r.attained]
    best = min(attained, key=lambda r: r.loss)
    problem = fg.Problem(network(3, 2, False), X, y)
    ends = [fg.train(problem, seed=seed, max_iter=200).loss * 12 for seed in range(20)]
    assert best.loss <= min(ends) + 1e-9


def test_an_enumeration_goes_on_where_it_was_cut_off():
    whole = list(analysis.enumerate_subglobal_minima(X3, Y3, 3))
    assert [r.index for r in whole] == list(range(56))
    rest = list(analysis.enumerate_subglobal_minima(X3, Y3, 3, start=whole[20].index + 1))
    assert [r.to_dict() for r in rest] == [r.to_dict() for r in whole[21:]]


def test_progress_and_laziness():
    seen = []
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((30, 3)), rng.standard_normal(30)
    records = analysis.enumerate_subglobal_minima(X, y, 3, progress=lambda *p: seen.append(p))
    assert records.total == comb(872 + 2, 3)  # 110 millions: never all at once
    first = list(itertools.islice(records, 600))
    assert [r.index for r in first] == list(range(600))
    assert seen == [(256, records.total), (512, records.total)]


@pytest.mark.process
def test_processes_give_the_same_records():
    one = [r.to_dict() for r in analysis.enumerate_subglobal_minima(X3, Y3, 4, which="all")]
    two = analysis.enumerate_subglobal_minima(X3, Y3, 4, which="all", n_jobs=2)
    assert [r.to_dict() for r in two] == one


def test_subglobal_minimum_solves_the_normal_equations():
    """Eqs. (6)-(7): residuals orthogonal to a_ij x_i; v_j = 1 attains it; minimum norm."""
    rng = np.random.default_rng(3)
    for trial in range(60):
        T, n, h = rng.integers(1, 8), rng.integers(1, 4), rng.integers(1, 4)
        bias = bool(trial % 2)
        X, y = rng.standard_normal((T, n)), rng.standard_normal(T)
        patterns = rng.random((h, T)) < 0.5
        found = analysis.subglobal_minimum(X, y, patterns, bias)
        D = dense_design(X, patterns, bias)
        best = np.linalg.pinv(D) @ y
        np.testing.assert_allclose(found.parameters, best, atol=1e-10 * (1 + np.abs(best).max()))
        assert found.loss == pytest.approx(dense_loss(X, y, patterns, bias), abs=1e-12)
        assert found.rank == np.linalg.matrix_rank(D)
        assert found.unique == (found.rank == D.shape[1])
        problem = analysis.gated_problem(X, y, patterns, bias)
        assert T * problem.loss(found.theta) == pytest.approx(found.loss, abs=1e-12)
        assert np.abs(D.T @ (y - found.fitted)).max() <= 1e-10


def test_output_bias_is_a_column_of_its_own():
    X, y = np.array([[1.0], [2.0], [4.0]]), np.array([3.0, 5.0, 9.0])
    found = analysis.subglobal_minimum(X, y, np.ones((1, 3)), bias=False, output_bias=True)
    np.testing.assert_allclose(found.parameters, [2.0, 1.0])
    assert found.loss < 1e-25 and found.theta is None and found.condition > 1
    assert analysis.subglobal_minimum(X, y, np.ones((1, 3))).n_columns == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": [1.0, 2.0]}, r"y must have shape \(3,\)"),
        ({"y": [1.0, np.inf, 0.0]}, r"y\[1\] is inf"),
        ({"h": 0}, "h must be at least 1"),
        ({"which": "realizable"}, "did you mean 'realisable'"),
        ({"start": -1}, "start"),
        ({"n_jobs": 0}, "n_jobs"),
    ],
)
def test_bad_arguments_are_refused_before_any_work(change, message):
    given = {"X": X3, "y": Y3, "h": 1, **change}
    with pytest.raises(ValueError, match=message):
        analysis.enumerate_subglobal_minima(**given)
    with pytest.raises(TypeError, match="h must be an integer"):
        analysis.enumerate_subglobal_minima(X3, Y3, 1.5)
    with pytest.raises(ValueError, match="at most 20 samples"):
        analysis.enumerate_subglobal_minima(np.ones((21, 1)), np.ones(21), 1, which="all")
    for patterns, text in (([[1, 0]], "shape"), ([[2, 0, 1]], "0 and 1")):
        with pytest.raises(ValueError, match=text):
            analysis.subglobal_minimum(X3, Y3, patterns)
