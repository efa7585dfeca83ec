"""Inputs and targets in other units: the same bits for powers of two, the same status for others.

Random tables with one generator for each kind of end; the base of a comparison is the same table
in its own units.
"""

import numpy as np
import pytest
from click.testing import CliRunner

import fastggn as fg
from fastggn.apps.cli import main
from fastggn.data.scaler import Scaler

# A constant target is fitted to the last bit, where systems become singular.
pytestmark = pytest.mark.filterwarnings("ignore::fastggn.FastGGNWarning")

ENDS = {
    "exact": ("converged_gradient", {"hidden": 3, "activation": "identity", "held_out": 0}),
    "noise": ("early_stopped", {"hidden": 8, "patience": 3, "max_iter": 200}),
    "short": ("max_iter", {"hidden": 4, "max_iter": 3}),
    "constant": (None, {"hidden": 2, "held_out": 0, "max_iter": 60}),
    "target": ("target_reached", {"hidden": 4, "stop": fg.Stop(target=0.05)}),
    "classes": (None, {"hidden": 3, "held_out": 0, "l2": 1e-3}),
    "evidence": (None, {"hidden": 2, "held_out": 0, "regularize": fg.Evidence()}),
}


def table_of(end, seed):
    """Inputs and targets of a table whose training has this end."""
    rng = np.random.default_rng((seed, list(ENDS).index(end)))
    X = rng.standard_normal((80, 3)) * rng.uniform(0.5, 3.0, 3) + rng.uniform(-2, 2, 3)
    y = X @ rng.uniform(-1, 1, 3) + 0.7
    if end in ("noise", "short", "target", "evidence"):
        y = np.sin(y) + (0.02 if end == "target" else 0.3) * rng.standard_normal(80)
    if end == "constant":
        y = np.full(80, 2.5)
    if end == "classes":
        y = np.where(y + rng.standard_normal(80) > np.median(y), "high", "low")
    return X, y


def scaled(X, y, exponents, base):
    """The table in other units, a power of the base for each column."""
    factors = float(base) ** np.asarray(exponents)
    return X * factors[:-1], y if y.dtype.kind == "U" else y * factors[-1]


@pytest.mark.parametrize("end", list(ENDS))
@pytest.mark.parametrize("seed", range(2))
def test_powers_of_ten_end_with_the_same_status(end, seed):
    status, options = ENDS[end]
    X, y = table_of(end, seed)
    options = {"seed": seed, **options}
    _, first = fg.fit((X, y), **options)
    assert status in (None, first.status)
    rng = np.random.default_rng(seed)
    for exponents in (*rng.integers(-12, 13, (3, 4)), (-9, 9, 0, 12), (9, -9, 3, -12)):
        model, result = fg.fit(scaled(X, y, exponents, 10), **options)
        assert result.status == first.status, f"{exponents}: {result.message}; {first.message}"


@pytest.mark.parametrize("end", list(ENDS))
def test_powers_of_two_give_the_same_bits_of_every_run(end):
    X, y = table_of(end, 5)
    options = {"seed": 5, **ENDS[end][1]}
    base, first = fg.fit((X, y), **options)
    for exponents in ((30, -7, 100, -40), (-300, 200, 1, 250)):
        table = scaled(X, y, exponents, 2)
        model, result = fg.fit(table, **options)
        assert (result.status, result.n_iter) == (first.status, first.n_iter)
        np.testing.assert_array_equal(model.theta, base.theta)
        found, expected = model.predict(table[0]), base.predict(X)
        if y.dtype.kind != "U":
            expected = np.ldexp(expected, exponents[-1])
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("value", [3e-9, 1.0, -7e15])
def test_a_constant_target_is_predicted_in_any_unit(value):
    X = table_of("constant", 1)[0]
    model, result = fg.fit((X, np.full(80, value)), 4, seed=0, max_iter=60)
    np.testing.assert_allclose(model.predict(X), value, rtol=1e-6)


@pytest.mark.parametrize("method", ["lm", "newton", "lbfgs", "auto"])
def test_train_through_the_scalers(method):
    """Arrays, a network, a problem: the way of experts, with the same scalers."""
    net, statuses = fg.MLP((3, 4, 1)), set()
    X, y = table_of("noise", 11)
    for exponents in ((0, 0, 0, 0), (6, -11, 2, 8), (-12, 12, -3, -9)):
        A, b = scaled(X, y[:, None], exponents, 10)
        problem = fg.Problem(net, Scaler.of(A).apply(A), Scaler.of(b).apply(b), l2=1e-3)
        statuses.add(fg.train(problem, method=method, seed=0, max_iter=900).status)
    assert len(statuses) == 1 and statuses <= {"converged_gradient", "converged_step",
                                               "converged_loss"}  # fmt: skip


@pytest.mark.parametrize("exponents", [(8, -6, 3, 11), (-10, 4, 9, -12)])
def test_the_command_ends_with_the_same_status(tmp_path, monkeypatch, exponents):
    monkeypatch.chdir(tmp_path)
    lines = []
    for table in (table_of("noise", 3), scaled(*table_of("noise", 3), exponents, 10)):
        rows = np.column_stack(table)
        np.savetxt("t.csv", rows, delimiter=",", header="a,b,c,y", comments="", fmt="%.17g")
        words = ["train", "t.csv", "--hidden", "8", "--patience", "3"]
        result = CliRunner().invoke(main, words)
        assert result.exit_code == 0, result.output
        lines.append(next(x for x in result.stdout.splitlines() if x.startswith("status")))
    assert lines[0].split(":")[0] == lines[1].split(":")[0]
