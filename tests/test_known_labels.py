"""Random critical points whose type is known by proof: no label is false."""

from __future__ import annotations

import time
from collections import Counter

import pytest
from known_labels import FAMILIES, OTHERS, case

import fastggn as fg

HONEST = "degenerate"


def _wrong(numbers, seed=15, families=FAMILIES):
    """Return false labels, and the shares of decidable points and of those left undecided."""
    false, counts = [], Counter()
    for number in numbers:
        point = case(number, seed, families)
        began = time.process_time()
        report = fg.critical_point(point.problem, point.theta, seed=number)
        seconds = time.process_time() - began
        counts["slow"] += seconds > 1.0 and point.problem.n_params <= 20
        counts["decidable"] += point.decidable
        counts["undecided"] += point.decidable and report.label == HONEST
        if report.label != HONEST and report.label not in point.true:
            false.append((number, point.family, report.label, sorted(point.true)))
    return false, counts


@pytest.mark.parametrize("family", list(FAMILIES))
def test_no_label_is_false(family):
    """Five points of each family."""
    place = list(FAMILIES).index(family)
    false, counts = _wrong(range(place, 5 * len(FAMILIES), len(FAMILIES)))
    assert not false
    assert counts["undecided"] <= 1


@pytest.mark.parametrize("family", list(OTHERS))
def test_no_label_of_other_problems_is_false(family):
    """Five points of each family."""
    place = list(OTHERS).index(family)
    false, counts = _wrong(range(place, 5 * len(OTHERS), len(OTHERS)), families=OTHERS)
    assert not false
    assert counts["undecided"] <= 1


@pytest.mark.slow
@pytest.mark.parametrize("family", list(OTHERS))
def test_no_label_is_false_in_a_hundred_of_other_problems(family):
    place, step = list(OTHERS).index(family), len(OTHERS)
    false, counts = _wrong(range(place, 100 * step, step), 16, OTHERS)
    assert not false
    assert counts["undecided"] <= 0.05 * max(counts["decidable"], 1)


# Families of faults that were found: underflowing chains, tiny eigenvalues, higher orders.
FOUND = ("chain", "pitchfork", "near_pitchfork", "split_at_an_end", "spare_unit", "kink_minimum")


@pytest.mark.slow
@pytest.mark.parametrize("family", FOUND)
def test_no_label_is_false_in_a_hundred_of_a_family(family):
    place, step = list(FAMILIES).index(family), len(FAMILIES)
    false, counts = _wrong(range(place, 100 * step, step))
    assert not false
    assert counts["undecided"] <= 0.05 * counts["decidable"]


@pytest.mark.weekly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", [15, 16, 17])
def test_no_label_is_false_in_two_thousand(seed):
    """A hundred points of each family."""
    false, counts = _wrong(range(100 * len(FAMILIES)), seed)
    assert not false
    assert counts["undecided"] <= 0.05 * counts["decidable"]
    assert counts["slow"] <= 4  # compilation of kernels among them
