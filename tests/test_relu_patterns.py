"""Realisable activation patterns, against linear programmes over all 2^T patterns."""

import itertools
from math import comb

import numpy as np
import pytest
from scipy.optimize import linprog

from fastggn import analysis


def brute_force(X, strict, bias=False):
    """Return the patterns by one linear programme each (Definition 2.1, or all w . x_i != 0)."""
    X = np.asarray(X, dtype=float)
    X = np.hstack([X, np.ones((len(X), 1))]) if bias else X
    X = X / np.where((norm := np.linalg.norm(X, axis=1)) > 0, norm, 1.0)[:, None]
    found = []
    for pattern in itertools.product((0, 1), repeat=len(X)):
        rows, right = [], []
        for x, a in zip(X, pattern, strict=True):
            if strict and not x.any():
                if a:
                    break
                continue
            rows.append(-x if a else x)
            right.append(-1e-6 if a or strict else 0.0)
        else:
            box = [(-1.0, 1.0)] * X.shape[1]
            if not rows or linprog(np.zeros(X.shape[1]), rows, right, bounds=box).status == 0:
                found.append(pattern)
    return np.array(found, dtype=bool)


def cover(T, n):
    return 2 * sum(comb(T - 1, k) for k in range(n))


@pytest.mark.parametrize("seed", range(50))
def test_generic_samples_have_covers_count(seed):
    rng = np.random.default_rng(seed)
    T, n = int(rng.integers(1, 25)), int(rng.integers(1, 5))
    X = rng.standard_normal((T, n))
    for bias in (False, True):
        found = analysis.realisable_patterns(X, bias=bias)
        assert found.dtype == np.bool_ and found.shape == (cover(T, n + bias), T)
        assert len(np.unique(found, axis=0)) == len(found)
        # No boundary of generic samples has a pattern of its own, save the origin's.
        loose = analysis.realisable_patterns(X, bias=bias, strict=False)
        assert {row.tobytes() for row in loose} == {row.tobytes() for row in found} | {bytes(T)}


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_brute_force_agrees_on_degenerate_samples(seed, strict):
    """Small integers: samples that are parallel, opposite, dependent, equal and zero."""
    rng = np.random.default_rng(seed)
    T, n = int(rng.integers(2, 7)), int(rng.integers(1, 4))
    X = rng.integers(-1, 2, size=(T, n))
    for bias in (False, True):
        np.testing.assert_array_equal(
            analysis.realisable_patterns(X, bias=bias, strict=strict),
            brute_force(X, strict, bias),
        )


def test_two_definitions_differ_for_opposite_samples():
    X = [[1, 0], [-1, 0], [0, 1]]
    assert len(analysis.realisable_patterns(X)) == 4
    assert len(analysis.realisable_patterns(X, strict=False)) == 6


def test_a_zero_sample_is_never_active():
    X = [[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]
    for strict in (True, False):
        found = analysis.realisable_patterns(X, strict=strict)
        assert len(found) == 4 and not found[:, 1].any()
    # With a bias it is a sample like the others: three in general position in three dimensions.
    assert len(analysis.realisable_patterns(X, bias=True)) == 8
    np.testing.assert_array_equal(analysis.realisable_patterns([[0.0], [0.0]]), [[0, 0]])


def test_the_papers_three_samples():
    """x_3 = 5/3 x_1 + 4/3 x_2, so that 001 and 110 do not occur (Figures 1 and 3)."""
    X = [[-1, 1], [2, 1], [1, 3]]
    for strict in (True, False):
        found = analysis.realisable_patterns(X, strict=strict).astype(int)
        assert {"".join(map(str, row)) for row in found} == {
            "000",
            "010",
            "011",
            "100",
            "101",
            "111",
        }


def test_samples_of_lower_rank_and_of_any_scale():
    """A plane in space has the plane's patterns, also where rounding lifts samples out of it."""
    rng = np.random.default_rng(0)
    plane, frame = rng.standard_normal((9, 2)), rng.standard_normal((2, 3))
    found = analysis.realisable_patterns(plane @ frame)
    np.testing.assert_array_equal(found, analysis.realisable_patterns(plane))
    sizes = 10.0 ** rng.uniform(-300, 300, (9, 1))
    np.testing.assert_array_equal(found, analysis.realisable_patterns(sizes * plane))


def test_rounding_does_not_make_regions():
    """0.1 + 0.2 is not 0.3 in floating point; the two samples are one all the same."""
    X = [[0.1 + 0.2, 1.0], [0.3, 1.0], [1.0, 0.0]]
    assert len(analysis.realisable_patterns(X)) == 4


def test_each_pattern_is_met_by_random_weights():
    """All patterns that 20,000 random weights show are found, and in the plane all are shown."""
    rng = np.random.default_rng(1)
    X = rng.standard_normal((7, 2))
    seen = np.unique(X @ rng.standard_normal((2, 20000)) > 0, axis=1).T
    np.testing.assert_array_equal(np.unique(seen, axis=0), analysis.realisable_patterns(X))


def test_many_samples_are_fast():
    X = np.random.default_rng(2).standard_normal((60, 3))
    assert len(analysis.realisable_patterns(X, bias=True)) == cover(60, 4)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros(3), "shape"),
        (np.zeros((0, 2)), "shape"),
        ([[0.0, np.nan]], r"X\[0, 1\]"),
        (np.random.default_rng(0).standard_normal((2000, 4)), "rays"),
    ],
)
def test_bad_samples_are_refused(X, message):
    with pytest.raises(ValueError, match=message):
        analysis.realisable_patterns(X)
    with pytest.raises(TypeError, match="X must hold real numbers"):
        analysis.realisable_patterns([["a"]])
