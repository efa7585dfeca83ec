"""Built-in sample sets."""

import numpy as np
import pytest

import fastggn as fg
from fastggn.data.builtin import DATASETS


def test_four_regions_classes_follow_the_radius():
    X, Y = fg.data.four_regions(T=2000, seed=3)
    assert X.shape == (2000, 2) and Y.shape == (2000, 1)
    assert X.dtype == Y.dtype == np.float64
    radius = np.hypot(X[:, 0], X[:, 1])
    expected = 1 + (radius > 1).astype(int) + (radius > 2) + (radius > 3)
    np.testing.assert_array_equal(Y[:, 0], expected)
    assert np.abs(X).max() < 4


def test_four_regions_are_uniform_in_the_square():
    X, Y = fg.data.four_regions(T=200_000, seed=0)
    areas = np.pi * np.array([1, 3, 5, 0]) / 64
    areas[3] = 1 - areas.sum()
    shares = [(Y == label).mean() for label in (1, 2, 3, 4)]
    np.testing.assert_allclose(shares, areas, atol=5e-3)
    np.testing.assert_allclose(X.mean(axis=0), 0, atol=0.02)


def test_four_regions_one_hot_matches_the_scalar_classes():
    X, Y = fg.data.four_regions(T=100, seed=5)
    X_again, one_hot = fg.data.four_regions(T=100, seed=5, one_hot=True)
    np.testing.assert_array_equal(X, X_again)
    assert one_hot.shape == (100, 4)
    np.testing.assert_array_equal(one_hot.argmax(axis=1) + 1, Y[:, 0])
    np.testing.assert_array_equal(one_hot.sum(axis=1), 1)


def test_four_regions_class_on_the_circles_is_the_inner_one():
    points = [[0, 0], [1, 0], [0, -2], [3, 0], [3, 3]]
    np.testing.assert_array_equal(fg.data.four_regions_class(points), [1, 1, 2, 3, 4])
    with pytest.raises(ValueError, match=r"shape \(T, 2\)"):
        fg.data.four_regions_class([1.0, 2.0])


@pytest.mark.parametrize("name", ["four_regions", "sine", "friedman1"])
def test_the_seed_decides(name):
    make = DATASETS[name].make
    first, again, other = make(T=7, seed=1), make(T=7, seed=1), make(T=7, seed=2)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize(
    ("keywords", "error", "match"),
    [
        ({"T": 0}, ValueError, "T must be at least 1, got 0"),
        ({"T": -3}, ValueError, "T must be at least 1"),
        ({"T": 2.5}, TypeError, "T must be an integer, not float"),
        ({"T": True}, TypeError, "T must be an integer, not bool"),
        ({"seed": -1}, ValueError, "seed must be at least 0"),
        ({"seed": "a"}, TypeError, "seed must be an integer, not str"),
    ],
)
@pytest.mark.parametrize("name", ["four_regions", "sine", "friedman1"])
def test_bad_arguments(name, keywords, error, match):
    with pytest.raises(error, match=match):
        DATASETS[name].make(**keywords)


def test_xor():
    X, Y = fg.data.xor()
    assert X.shape == (4, 2) and Y.shape == (4, 1)
    np.testing.assert_array_equal(Y[:, 0], np.logical_xor(X[:, 0], X[:, 1]))


def test_sine_and_its_noise():
    X, Y = fg.data.sine(T=50, seed=0)
    np.testing.assert_allclose(Y, np.sin(np.pi * X), rtol=1e-15)
    _, noisy = fg.data.sine(T=20_000, seed=0, noise=0.3)
    X, clean = fg.data.sine(T=20_000, seed=0)
    assert abs((noisy - clean).std() - 0.3) < 0.01
    with pytest.raises(ValueError, match="noise must be >= 0"):
        fg.data.sine(noise=-1.0)


def test_friedman1():
    X, Y = fg.data.friedman1(T=1000, seed=0)
    assert X.shape == (1000, 5) and Y.shape == (1000, 1)
    assert X.min() >= 0 and X.max() < 1
    x = X[17]
    expected = 10 * np.sin(np.pi * x[0] * x[1]) + 20 * (x[2] - 0.5) ** 2 + 10 * x[3] + 5 * x[4]
    np.testing.assert_allclose(Y[17, 0], expected, rtol=1e-14)


def test_the_catalogue_is_right():
    for dataset in DATASETS.values():
        X, Y = dataset.make(**({"T": 40, "seed": 0} if dataset.options else {}))
        assert X.ndim == Y.ndim == 2 and X.shape[0] == Y.shape[0]
        if dataset.classes:
            assert set(np.unique(Y)) <= set(dataset.classes)
