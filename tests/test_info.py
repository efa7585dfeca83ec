"""``fastggn info`` tells what a model file holds, whoever wrote it."""

import numpy as np
import pytest
from click.testing import CliRunner

import fastggn as fg
from fastggn.apps.cli import main


def info(path):
    result = CliRunner().invoke(main, ["info", str(path)])
    return result.exit_code, " ".join(result.output.split())


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 2))
    return fg.fit((X, X[:, 0]), hidden=(3,), seed=0, max_iter=2)[0]


def test_a_model(model, tmp_path):
    model.save(tmp_path / "model.npz")
    code, text = info(tmp_path / "model.npz")
    assert code == 0
    for words in ("F(2,3,1), tanh (13 parameters)", "inputs x0, x1", "targets y0", "status",
                  "method lm", "gradient norm", "9 of 60 rows are held out"):  # fmt: skip
        assert words in text, words


def test_a_model_that_was_not_trained(tmp_path):
    net = fg.MLP((2, 1), bias=[[0.5]])
    fg.Model.of(net, net.init(seed=0), training={"note": "by hand"}).save(tmp_path / "bare.npz")
    code, text = info(tmp_path / "bare.npz")
    assert code == 0 and "bias fixed" in text and "note by hand" in text


@pytest.mark.parametrize(
    ("suffix", "words"),
    [
        (".npz", "file plain arrays network F(2,3,1), tanh"),
        (".pt", "file a state dict of torch network F(2,3,1), tanh"),
        (".onnx", "an ONNX model, written by fastggn"),
    ],
)
def test_an_export(model, tmp_path, suffix, words):
    pytest.importorskip({".onnx": "onnx", ".pt": "torch"}.get(suffix, "numpy"))
    model.export(tmp_path / f"model{suffix}")
    code, text = info(tmp_path / f"model{suffix}")
    assert code == 0 and words in text


def test_weights_without_an_activation(tmp_path):
    torch = pytest.importorskip("torch")
    layers = torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1)
    torch.save(torch.nn.Sequential(*layers).state_dict(), tmp_path / "a.pt")
    np.savez(tmp_path / "a.npz", W_1=np.ones((3, 2)), W_2=np.ones((1, 3)))
    for name in ("a.pt", "a.npz"):
        code, text = info(tmp_path / name)
        assert code == 0 and "F(2,3,1)" in text and "--activation names it" in text


def test_bad_files(tmp_path):
    pytest.importorskip("onnx")
    (tmp_path / "a.onnx").write_text("no")
    (tmp_path / "a.npz").write_text("no")
    code, text = info(tmp_path / "a.onnx")
    assert code == 2 and "not an ONNX model" in text
    code, text = info(tmp_path / "a.npz")
    assert code == 2 and "fastggn file" in text


def test_samples_in_columns_are_named():
    net = fg.MLP((2, 3, 1))
    X = np.ones((2, 50))
    for call in (lambda: net.predict(net.init(seed=0), X), lambda: fg.Problem(net, X, np.ones(50))):
        with pytest.raises(ValueError, match="samples are rows: pass X.T"):
            call()
    with pytest.raises(ValueError, match=r"\(3, 50\)$"):
        net.predict(net.init(seed=0), np.ones((3, 50)))
