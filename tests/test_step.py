"""The 2-norm that every test of a run uses, near the limits of the numbers."""

import math

import numpy as np
import pytest

from fastggn.training.step import norm


@pytest.mark.parametrize("size", [1e-300, 1e-160, 1e-141, 1e-139, 1.0, 1e139, 1e141, 1e160, 1e300])
def test_norm(size):
    vector = size * np.array([3.0, -4.0, 0.0, 12.0])
    with np.errstate(all="raise"):
        found = norm(vector)
    assert found == pytest.approx(13.0 * size, rel=1e-15)


def test_norm_of_what_is_no_number():
    assert norm(np.zeros(3)) == norm(np.zeros(0)) == 0.0
    assert norm(np.array([1.0, -np.inf])) == np.inf
    assert math.isnan(norm(np.array([1.0, np.nan])))
