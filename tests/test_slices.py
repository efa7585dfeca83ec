"""The loss along lines and over planes, against losses computed one by one."""

import numpy as np
import pytest

import fastggn as fg
from fastggn import analysis


@pytest.fixture(scope="module")
def problem():
    X, Y = fg.data.four_regions(40, seed=1)
    return fg.Problem(fg.MLP((2, 5, 4, 1)), X, Y)


@pytest.fixture(scope="module")
def theta(problem):
    return problem.network.init(seed=3)


def textbook_loss(problem, theta, X, Y):
    return float(np.square(problem.network.predict(theta, X) - Y).sum() / (2 * len(X)))


def textbook_filter(net, theta, d):
    """Li et al. (2018), Section 4: d_i |theta_i| / |d_i|, a filter being a unit."""
    out, start = np.zeros_like(d), 0
    for units, inputs in net.layer_shapes:
        for _ in range(units):
            part = slice(start, start + inputs)
            out[part] = d[part] / np.linalg.norm(d[part]) * np.linalg.norm(theta[part])
            start += inputs
    return out


def test_loss_along_a_given_direction(problem, theta):
    X, Y = fg.data.four_regions(40, seed=1)
    d = np.random.default_rng(0).standard_normal(problem.n_params)
    line = analysis.loss_along(problem, theta, d, extent=(-0.5, 2.0), points=6)
    assert np.allclose(line.steps, [-0.5, 0.0, 0.5, 1.0, 1.5, 2.0]) and line.steps[1] == 0.0
    losses = [textbook_loss(problem, theta + a * d, X, Y) for a in line.steps]
    np.testing.assert_allclose(line.losses, losses, rtol=1e-13)
    assert line.loss == line.losses[1] == problem.loss(theta)
    assert np.array_equal(line.direction, d)


def test_slope_and_curvature_are_derivatives(problem, theta):
    line = analysis.loss_along(problem, theta, points=3)
    d, h = line.direction, 1e-4
    low, middle, high = (problem.loss(theta + a * d) for a in (-h, 0.0, h))
    assert line.slope == pytest.approx((high - low) / (2 * h), rel=1e-5)
    assert line.curvature == pytest.approx((high - 2 * middle + low) / h**2, rel=1e-3)
    np.testing.assert_allclose(
        line.quadratic, line.loss + line.slope * line.steps + line.curvature * line.steps**2 / 2
    )


def test_random_directions_are_scaled_unit_by_unit(problem, theta):
    net = problem.network
    d = np.random.default_rng(5).standard_normal(net.n_params)
    np.testing.assert_allclose(
        analysis.filter_normalised(net, theta, d), textbook_filter(net, theta, d), rtol=1e-14
    )
    line = analysis.loss_along(problem, theta, seed=5, points=2)
    np.testing.assert_allclose(line.direction, textbook_filter(net, theta, d), rtol=1e-14)
    assert "unit by unit" in line.label
    raw = analysis.loss_along(problem, theta, seed=5, points=2, normalise=False)
    assert np.array_equal(raw.direction, d)
    units = zip(net.unpack(theta), net.unpack(line.direction), strict=True)
    for weights, moves in units:
        assert np.allclose(np.linalg.norm(weights, axis=1), np.linalg.norm(moves, axis=1))


def test_a_unit_without_weights_stays(problem, theta):
    net = problem.network
    layers = [w.copy() for w in net.unpack(theta)]
    layers[0][2] = 0.0
    d = analysis.filter_normalised(net, net.pack(layers), np.ones(net.n_params))
    assert not net.unpack(d)[0][2].any() and net.unpack(d)[0][1].all()


def test_scaled_layers_of_a_relu_network_have_the_same_line():
    """Li et al. (2018), Section 4: W_1 c and W_2 / c are the same network, and look the same."""
    X, Y = fg.data.four_regions(30)
    net = fg.MLP((2, 6, 1), activation="relu", bias="none")
    problem = fg.Problem(net, X, Y)
    W = net.unpack(net.init(seed=0))
    scaled = net.pack([W[0] * 100.0, W[1] / 100.0])
    lines = [analysis.loss_along(problem, t, seed=2, points=7) for t in (net.pack(W), scaled)]
    np.testing.assert_allclose(lines[0].losses, lines[1].losses, rtol=1e-12)
    lines = [
        analysis.loss_along(problem, t, seed=2, points=7, normalise=False)
        for t in (net.pack(W), scaled)
    ]
    assert not np.allclose(lines[0].losses, lines[1].losses, rtol=0.1)


def test_gradient_and_eigenvectors(problem, theta):
    g = problem.gradient(theta)
    line = analysis.loss_along(problem, theta, "gradient", points=2)
    np.testing.assert_allclose(line.direction, -g / np.linalg.norm(g))
    assert line.slope == pytest.approx(-np.linalg.norm(g))
    values = np.linalg.eigvalsh(problem.hessian(theta))
    for name, value in (("lowest", values[0]), ("highest", values[-1])):
        line = analysis.loss_along(problem, theta, name, points=2)
        assert line.curvature == pytest.approx(value, rel=1e-8)
        assert np.linalg.norm(line.direction) == pytest.approx(1.0)


def test_eigenvectors_without_a_matrix(problem, theta, monkeypatch):
    dense = [
        analysis.loss_along(problem, theta, n, points=2).direction for n in ("lowest", "highest")
    ]
    monkeypatch.setattr("fastggn.analysis.slices.MOST_DENSE", 0)
    free = [
        analysis.loss_along(problem, theta, n, points=2).direction for n in ("lowest", "highest")
    ]
    np.testing.assert_allclose(free, dense, atol=1e-6)


def test_loss_between_two_points(problem, theta):
    end = problem.network.init(seed=9)
    line = analysis.loss_between(problem, theta, end, extent=(0.0, 1.0), points=3)
    middle = problem.loss(theta + 0.5 * (end - theta))
    assert list(line.losses) == pytest.approx([problem.loss(theta), middle, problem.loss(end)])
    with pytest.raises(ValueError, match="the same point"):
        analysis.loss_between(problem, theta, theta)


def test_loss_plane(problem, theta):
    rng = np.random.default_rng(1)
    d, e = rng.standard_normal((2, problem.n_params))
    plane = analysis.loss_plane(
        problem, theta, (d, e), extent=((-1.0, 1.0), (0.0, 3.0)), points=(3, 4)
    )
    assert plane.losses.shape == (4, 3)
    for row, b in enumerate((0.0, 1.0, 2.0, 3.0)):
        for column, a in enumerate((-1.0, 0.0, 1.0)):
            assert plane.losses[row, column] == problem.loss(theta + a * d + b * e)
    assert plane.cosine == pytest.approx(d @ e / np.linalg.norm(d) / np.linalg.norm(e))
    outside = rng.standard_normal(problem.n_params)
    outside -= np.linalg.lstsq(np.array([d, e]).T, outside, rcond=None)[0] @ np.array([d, e])
    a, b, distance = plane.coordinates(theta + 0.3 * d - 2.0 * e + outside)
    assert (a, b) == pytest.approx((0.3, -2.0))
    assert distance == pytest.approx(np.linalg.norm(outside))


def test_planes_of_names(problem, theta):
    plane = analysis.loss_plane(problem, theta, points=3)
    assert plane.losses[1, 1] == problem.loss(theta)
    assert "direction 1" in plane.labels[0] and "direction 2" in plane.labels[1]
    assert not np.allclose(*plane.directions)
    plane = analysis.loss_plane(problem, theta, ("lowest", "highest"), points=2)
    assert abs(plane.cosine) < 1e-10


def test_reports_are_plain(problem, theta):
    import json

    line = analysis.loss_along(problem, theta, points=3)
    plane = analysis.loss_plane(problem, theta, points=3)
    assert json.loads(json.dumps(line.to_dict()))["losses"] == line.losses.tolist()
    assert json.loads(json.dumps(plane.to_dict()))["losses"] == plane.losses.tolist()
    assert f"{line.slope:.4e}" in str(line) and "lowest loss" in str(plane)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"direction": "north"}, "direction 'north' is unknown"),
        ({"direction": np.ones(3)}, "direction must have shape"),
        ({"direction": np.zeros(44)}, "direction is zero"),
        ({"extent": -1.0}, "extent must be positive"),
        ({"extent": (2.0, 1.0)}, "increasing"),
        ({"extent": np.inf}, "extent"),
        ({"points": 1}, "points must be at least 2"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_lines(problem, theta, arguments, message):
    assert problem.n_params == 44
    with pytest.raises(ValueError, match=message):
        analysis.loss_along(problem, theta, **arguments)


def test_bad_kinds_of_arguments(problem, theta):
    with pytest.raises(TypeError, match="points must be an integer"):
        analysis.loss_along(problem, theta, points=3.5)
    with pytest.raises(TypeError, match="extent"):
        analysis.loss_along(problem, theta, extent=None)
    with pytest.raises(ValueError, match="a pair"):
        analysis.loss_plane(problem, theta, "random")
    with pytest.raises(ValueError, match="parallel"):
        analysis.loss_plane(problem, theta, (np.ones(44), -2.0 * np.ones(44)))
    with pytest.raises(ValueError, match="theta must have shape"):
        analysis.loss_along(problem, np.ones(2))


def test_a_zero_gradient_has_no_direction():
    X, Y = fg.data.xor()
    problem = fg.Problem(fg.MLP((2, 2, 1)), X, 0.0 * Y)
    with pytest.raises(ValueError, match="direction is zero"):
        analysis.loss_along(problem, np.zeros(problem.n_params), "gradient")
