"""Models as files."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import fastggn as fg
from fastggn.model.files import ModelFileError
from fastggn.runtime.archive import read_sealed, write_sealed

ROOT = Path(__file__).resolve().parent.parent


def net_and_theta(**keywords):
    net = fg.MLP((3, 4, 2), **keywords)
    return net, net.init(seed=1)


@pytest.mark.parametrize("bias", ["free", "none", [[1.0, 2.0, 3.0, 4.0], [0.5, -0.1]]])
def test_round_trip(tmp_path, bias):
    net, theta = net_and_theta(activation="softplus", output_activation="sigmoid", bias=bias)
    path = tmp_path / "model.npz"
    fg.save_model(path, net, theta, note="a note", scale=np.float64(0.1), shifts=np.arange(3))
    loaded, theta_again, metadata = fg.load_model(path)
    np.testing.assert_array_equal(theta_again, theta)
    assert theta_again.dtype == np.float64
    assert loaded.to_config() == net.to_config()
    assert metadata == {"note": "a note", "scale": 0.1, "shifts": [0, 1, 2]}
    X = np.random.default_rng(0).standard_normal((5, 3))
    np.testing.assert_array_equal(loaded.predict(theta_again, X), net.predict(theta, X))


def test_activations_by_layer_and_slope_survive(tmp_path):
    from fastggn.network.activations import leaky_relu

    net = fg.MLP((2, 3, 4, 1), activation=["tanh", leaky_relu(0.2)])
    fg.save_model(tmp_path / "a.npz", net, net.init(seed=0))
    loaded, _, _ = fg.load_model(tmp_path / "a.npz")
    assert loaded.activations == net.activations


def cube(z):
    return z**3


def cube_1(z):
    return 3 * z**2


def cube_2(z):
    return 6 * z


def test_custom_activations_are_given_at_loading(tmp_path):
    cubic = fg.Activation.custom("cubic", cube, cube_1, cube_2)
    net = fg.MLP((2, 3, 1), activation=cubic)
    path = tmp_path / "custom.npz"
    fg.save_model(path, net, net.init(seed=0))
    with pytest.raises(ValueError, match="cubic"):
        fg.load_model(path)
    loaded, theta, _ = fg.load_model(path, activations={"cubic": cubic})
    X = np.ones((2, 2))
    np.testing.assert_array_equal(loaded.predict(theta, X), net.predict(theta, X))


def test_the_same_model_gives_the_same_bytes(tmp_path):
    net, theta = net_and_theta()
    fg.save_model(tmp_path / "a.npz", net, theta, b=1, a=2)
    fg.save_model(tmp_path / "b.npz", net, theta, a=2, b=1)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.parametrize(
    ("theta", "error", "match"),
    [
        (np.ones(3), ValueError, r"theta must have shape \(26,\)"),
        (np.full(26, np.nan), ValueError, "nan"),
        (["a"] * 26, TypeError, "real numbers"),
    ],
)
def test_bad_theta(tmp_path, theta, error, match):
    net, _ = net_and_theta()
    with pytest.raises(error, match=match):
        fg.save_model(tmp_path / "a.npz", net, theta)
    assert os.listdir(tmp_path) == []


def test_metadata_must_be_plain(tmp_path):
    net, theta = net_and_theta()
    with pytest.raises(TypeError, match="metadata cannot hold a object"):
        fg.save_model(tmp_path / "a.npz", net, theta, thing=object())
    with pytest.raises(TypeError, match="metadata cannot hold a ndarray"):
        fg.save_model(tmp_path / "a.npz", net, theta, thing=np.array([None]))
    assert os.listdir(tmp_path) == []


def saved(tmp_path):
    path = tmp_path / "model.npz"
    net, theta = net_and_theta()
    fg.save_model(path, net, theta, note="a note")
    return path


def test_every_position_of_damage(tmp_path):
    data = saved(tmp_path).read_bytes()
    path = tmp_path / "damaged.npz"
    for position in range(0, len(data), 3):
        flipped = bytearray(data)
        flipped[position] ^= 0x41
        path.write_bytes(flipped)
        with pytest.raises(ModelFileError, match=r"damaged\.npz"):
            fg.load_model(path)
        path.write_bytes(data[:position])
        with pytest.raises(ModelFileError, match=r"damaged\.npz"):
            fg.load_model(path)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"network": None}, "lacks the network"),
        ({"metadata": []}, "lacks the network or the metadata"),
        ({"network": {"widths": [3, 4, 2]}}, "lacks activations, bias"),
        ({"network": {"widths": 3, "activations": [], "bias": "free"}}, r"model\.npz"),
        ({"network": {"widths": [3, 4, 2], "activations": [1, 2], "bias": "free"}}, "model"),
    ],
)
def test_a_sealed_file_with_a_wrong_header(tmp_path, change, match):
    path = saved(tmp_path)
    write_sealed(path, "model", {**read_sealed(path, "model"), **change})
    with pytest.raises(ModelFileError, match=match):
        fg.load_model(path)


def test_a_sealed_file_with_a_wrong_theta(tmp_path):
    for theta in (np.ones(5), np.full(26, np.inf), np.array(["x"] * 26)):
        path = saved(tmp_path)
        write_sealed(path, "model", {**read_sealed(path, "model"), "theta": theta})
        with pytest.raises(ModelFileError, match="theta"):
            fg.load_model(path)


def test_foreign_and_missing_files(tmp_path):
    np.savez(tmp_path / "foreign.npz", theta=np.ones(3))
    (tmp_path / "text.npz").write_text("not a zip file " * 20)
    (tmp_path / "empty.npz").write_bytes(b"")
    write_sealed(tmp_path / "sealed.npz", "checkpoint", {"a": np.ones(2)})
    for name in ("foreign", "text", "empty", "sealed"):
        with pytest.raises(ModelFileError, match=f"{name}.npz"):
            fg.load_model(tmp_path / f"{name}.npz")
    with pytest.raises(FileNotFoundError, match="no such file; did you mean 'empty.npz'"):
        fg.load_model(tmp_path / "emtpy.npz")
    with pytest.raises(ValueError, match="this is a folder"):
        fg.load_model(tmp_path)


WRITER = """
import sys, numpy as np
from fastggn.runtime.archive import write_sealed
k = 0
while True:
    k += 1
    write_sealed(sys.argv[1], "model", {"theta": np.full(20_000, float(k))})
    print(k, flush=True)
"""


@pytest.mark.process
def test_a_kill_during_a_save_leaves_a_whole_file(tmp_path):
    path = tmp_path / "model.npz"
    rng = np.random.default_rng(0)
    for _ in range(4):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        writer.stdout.readline()
        time.sleep(rng.uniform(0, 0.05))
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        theta = read_sealed(path, "model")["theta"]
        assert theta.shape == (20_000,) and (theta == theta[0]).all()
