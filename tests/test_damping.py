"""NielsenDamping: its rule, the cap by the loss, and its limits."""

import numpy as np
import pytest

from fastggn.training.control.damping import CEILING, INITIAL_SHARE, LOSS_FACTOR, NielsenDamping

LARGE = 1e9  # a loss that never caps


@pytest.fixture
def damping():
    d = NielsenDamping()
    d.start(100.0)
    return d


def test_starts_at_a_share_of_the_curvature(damping):
    assert damping.value == pytest.approx(INITIAL_SHARE * 100.0)
    assert damping.started


def test_starts_at_the_value_given():
    d = NielsenDamping(0.3)
    assert not d.started
    d.start(100.0)
    assert d.value == 0.3


@pytest.mark.parametrize("curvature", [0.0, np.nan, np.inf])
def test_starts_without_a_curvature(curvature):
    d = NielsenDamping()
    d.start(curvature)
    assert d.value == INITIAL_SHARE


@pytest.mark.parametrize(
    ("gain", "factor"), [(1.0, 1 / 3), (2.0, 1 / 3), (0.5, 1.0), (0.25, 1.125), (1e-9, 2.0)]
)
def test_nielsen_factor(damping, gain, factor):
    before = damping.value
    damping.accept(gain, LARGE, LARGE)
    assert damping.value == pytest.approx(factor * before)


def test_rejections_double_their_growth_until_a_step_is_accepted(damping):
    start = damping.value
    for expected in (2.0, 8.0, 64.0):
        assert damping.reject()
        assert damping.value == pytest.approx(expected * start)
    damping.accept(0.5, LARGE, LARGE)
    before = damping.value
    damping.reject()
    assert damping.value == pytest.approx(2.0 * before)


def test_no_more_than_the_loss_after_an_accepted_step(damping):
    damping.accept(1.0, 1e-3, 1e-8)
    assert damping.value == pytest.approx(LOSS_FACTOR * 1e-8)


def test_cap_rises_where_it_caused_rejections_and_falls_with_good_steps(damping):
    damping.accept(1.0, 1e-5, 1e-6)  # capped at 1e-6
    for _ in range(3):
        damping.reject()
    accepted = damping.value
    damping.accept(0.5, 1e-6, 9e-7)
    assert damping.value == pytest.approx(accepted / 1e-6 * 9e-7)
    for _ in range(20):
        damping.accept(1.0, 9e-7, 9e-7)
    assert damping.value <= 9e-7


def test_never_zero(damping):
    damping.accept(1.0, 1e-3, 0.0)
    assert damping.value > 0.0


def test_ceiling(damping):
    rejections = 0
    while damping.reject():
        rejections += 1
        assert rejections < 20
    assert damping.value > CEILING * 100.0
