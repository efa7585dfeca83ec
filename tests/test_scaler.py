"""One scaling: what is constant, exact powers of two, parts, weights, ranks."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from fastggn.data.scaler import Moments, Scaler

RNG = np.random.default_rng(0)


def column(values):
    return np.asarray(values, dtype=np.float64)[:, None]


@pytest.mark.parametrize(
    ("values", "constant"),
    [
        (1e9 + 0.01 * RNG.normal(size=100_000), False),
        (np.full(100_000, 0.1), True),
        (0.1 + np.spacing(0.1) * RNG.integers(0, 3, 1000), True),  # rounding only
        (0.1 + np.spacing(0.1) * RNG.integers(0, 40, 1000), False),
        (1.7e18 + 1e9 * np.arange(1000), False),  # time stamps in ns, a second apart
        (1.7e18 + np.arange(500), True),  # closer than float64 can tell
        (np.zeros(10), True),
        (1e-165 * RNG.normal(size=100), False),
        (1e160 * RNG.normal(size=100), False),
        (5e-324 * np.arange(100), False),
        (np.r_[np.zeros(99), 1e-300], False),
    ],
)
def test_the_one_rule_for_constant_columns(values, constant):
    found = Scaler.of(column(values))
    assert bool(found.constant[0]) is constant
    scaled = found.apply(column(values))
    if constant:
        mantissa, _ = np.frexp(found.scale[0])  # a power of two, of the size of the values
        assert mantissa == 0.5 and abs(values).max() <= found.scale[0]
        assert found.scale[0] <= 2.0 * abs(values).max() or not values.any()
    else:
        rounding = float(np.spacing(abs(values).max()) / found.scale[0])
        assert abs(scaled.mean()) <= rounding + 1e-12
        assert abs(scaled.std() - 1.0) <= rounding + 1e-9


def test_the_stored_type_decides():
    steps = np.random.default_rng(1).integers(0, 4, 500)
    values = np.float32(1e6) + np.spacing(np.float32(1e6)) * steps
    narrow = values.astype(np.float32)[:, None]
    assert Scaler.of(narrow).constant.all()
    assert not Scaler.of(narrow.astype(np.float64)).constant.any()
    both = np.hstack([narrow, narrow]).astype(np.float64)
    assert Scaler.of(both, stored=["float32", "float64"]).constant.tolist() == [True, False]


@settings(max_examples=60, deadline=None)
@given(st.integers(-900, 900), st.integers(0, 99))
def test_powers_of_two_change_no_bit_of_the_scaled_values(power, seed):
    rows = np.random.default_rng(seed).normal(3.0, 1.0, size=(50, 2))
    rows = np.hstack([rows, np.full((50, 1), -2.7)])  # and a constant column
    plain, moved = Scaler.of(rows), Scaler.of(np.ldexp(rows, power))
    np.testing.assert_array_equal(moved.scale, np.ldexp(plain.scale, power))
    np.testing.assert_array_equal(moved.mean, np.ldexp(plain.mean, power))
    np.testing.assert_array_equal(moved.apply(np.ldexp(rows, power)), plain.apply(rows))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=5), st.floats(-200, 150), st.integers(0, 99)
)
def test_parts_and_ranks_give_the_moments_of_the_whole(sizes, exponent, seed):
    rows = np.random.default_rng(seed).normal(5.0, 2.0, size=(sum(sizes), 3))
    rows = (rows + [0, 1e3, 0]) * 10.0**exponent
    rows[:, 2] = 0.0
    merged = Moments(3)
    for part in np.split(rows, np.cumsum(sizes)[:-1]):
        own = Moments(3)
        own.add(part)
        merged.merge(own)
    whole = Scaler.of(rows)
    found = merged.scaler()
    np.testing.assert_allclose(found.mean, whole.mean, rtol=1e-13)
    np.testing.assert_allclose(found.scale, whole.scale, rtol=1e-12)
    if len(rows) > 1:
        peak = abs(rows).max(axis=0)[:2]
        np.testing.assert_allclose(
            whole.scale[:2], peak * np.std(rows[:, :2] / peak, axis=0), rtol=1e-11
        )
    assert whole.constant[2]


def test_a_part_of_zeros_keeps_small_values():
    moments = Moments(1)
    moments.add(np.zeros((4, 1)))
    moments.add(column([1e-170, 3e-170]))
    assert not moments.scaler().constant[0]
    np.testing.assert_allclose(moments.deviation, np.std([0, 0, 0, 0, 1, 3]) * 1e-170, rtol=1e-12)


def test_weights_count_rows():
    rows = np.random.default_rng(1).normal(size=(6, 2))
    weights = np.array([1.0, 2, 0, 3, 1, 1])
    found, repeated = (
        Scaler.of(rows, weights),
        Scaler.of(np.repeat(rows, weights.astype(int), axis=0)),
    )
    np.testing.assert_allclose(found.mean, repeated.mean, rtol=1e-14)
    np.testing.assert_allclose(found.scale, repeated.scale, rtol=1e-13)


def test_undo_and_files():
    rows = np.random.default_rng(1).normal(7.0, 3.0, size=(20, 2))
    found = Scaler.of(rows)
    np.testing.assert_allclose(found.undo(found.apply(rows)), rows, rtol=1e-14)
    again = Scaler.from_dict(found.to_dict())
    np.testing.assert_array_equal(again.apply(rows), found.apply(rows))
    for wrong in ({"scale": [0.0, 1.0]}, {"mean": [np.nan, 0.0]}, {"constant": [True]}):
        with pytest.raises(ValueError):
            Scaler.from_dict({**found.to_dict(), **wrong})
    with pytest.raises(ValueError, match=r"samples\[3, 1\] is nan"):
        Scaler.of(np.where(np.arange(20)[:, None] * [0, 1] == 3, np.nan, rows))
    with pytest.raises(ValueError, match="too large"):
        Scaler.of(column([1.7e308, -1.7e308]))
