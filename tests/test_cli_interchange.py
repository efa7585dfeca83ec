"""fastggn export, and commands that look at weights from elsewhere."""

import json
import pickle
import re

import numpy as np
import pytest
from click.testing import CliRunner
from interchange_cases import difference, network

import fastggn as fg
from fastggn.apps.cli import main


def run(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


def good(*arguments):
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A regression and a classifier trained on scaled columns, and weights without any."""
    out = tmp_path_factory.mktemp("models")
    rng = np.random.default_rng(0)
    years = 1990.0 + rng.integers(0, 30, 60)
    area = 80.0 + 20.0 * rng.standard_normal(60)
    price = 1e5 + 900.0 * area + 40.0 * (years - 2000.0) ** 2
    np.savetxt(out / "houses.csv", np.column_stack([years, area, price]), delimiter=",",
               header="year,area,price", comments="")  # fmt: skip
    np.savetxt(out / "inputs.csv", np.column_stack([years, area]), delimiter=",",
               header="year,area", comments="")  # fmt: skip
    kinds = np.array([1.0, 2.0, 5.0])[np.digitize(area, [70.0, 90.0])]
    np.savetxt(out / "kinds.csv", np.column_stack([years, area, kinds]), delimiter=",")
    good("train", out / "houses.csv", "--hidden", "4", "--max-iter", "20", "-q", "--no-held-out",
         "--out", out / "houses.npz")  # fmt: skip
    good("train", out / "kinds.csv", "--hidden", "4", "--max-iter", "10", "-q", "--loss",
         "softmax_cross_entropy", "--l2", "0.01", "--out", out / "kinds.npz")  # fmt: skip
    net, theta = network((2, 4, 1), "tanh")
    fg.Model.of(net, theta).export(out / "plain.npz")
    np.save(out / "X.npy", np.column_stack([years, area]) / 1000.0)
    np.savez(out / "X.npz", X=np.column_stack([years, area]) / 1000.0)
    return out


def raw_predictions(folder, name="houses"):
    """The outputs of a model for raw inputs, in the units of the target, by its scales alone."""
    model = fg.Model.load(folder / f"{name}.npz")
    X = np.loadtxt(folder / f"{name}.csv", delimiter=",", skiprows=int(name == "houses"))[:, :2]
    inputs, targets = model.input_scaler, model.target_scaler
    Y = model.network.predict(model.theta, (X - inputs.mean) / inputs.scale)
    return X, Y if targets is None else Y * targets.scale + targets.mean


@pytest.mark.parametrize("single", (False, True))
def test_export_to_onnx(folder, tmp_path, single):
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is absent: the extra onnx")
    out = tmp_path / "houses.onnx"
    result = good("export", folder / "houses.npz", out, *(["--float32"] if single else []))
    kind = "float32" if single else "float64"
    assert f"F(2,4,1), activations tanh, identity, {kind}; onnxruntime" in result.output
    X, expected = raw_predictions(folder)
    assert expected.min() > 1e5  # raw units
    session = runtime.InferenceSession(out, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"X": X})
    assert difference(found, expected) < (1e-6 if single else 1e-12)
    assert float(result.output.split("differs by ")[1].split()[0]) < (1e-6 if single else 1e-12)
    good("predict", out, folder / "houses.csv", "-o", tmp_path / "prices.npy")
    again = np.load(tmp_path / "prices.npy")
    assert difference(again, expected) < (1e-5 if single else 1e-12)


def test_export_of_a_classifier(folder, tmp_path):
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is absent: the extra onnx")
    good("export", folder / "kinds.npz", tmp_path / "k.onnx", "--probabilities")
    X, Z = raw_predictions(folder, "kinds")
    session = runtime.InferenceSession(tmp_path / "k.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"X": X})
    np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(np.log(found) - np.log(found[:, :1]), Z - Z[:, :1], atol=1e-10)
    kept = session.get_modelmeta().custom_metadata_map
    assert json.loads(kept["classes"]) == ["1", "2", "5"]


def test_export_to_arrays_and_back(folder, tmp_path):
    good("export", folder / "houses.npz", tmp_path / "w.npz")
    X, expected = raw_predictions(folder)
    model = fg.interchange.from_npz(tmp_path / "w.npz")
    assert model.recipe.input_names == ("year", "area")
    assert difference(model.outputs(X), expected) < 1e-12
    good("export", tmp_path / "w.npz", tmp_path / "w.csv")  # and weights from elsewhere
    assert (tmp_path / "w.csv").read_text().count("\n") == 1 + model.theta.size


def test_export_to_torch(folder, tmp_path):
    torch = pytest.importorskip("torch", reason="torch is absent: the extra torch")
    out = tmp_path / "houses.pt"
    good("export", folder / "houses.npz", out)
    nn = torch.nn
    model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    model.load_state_dict(torch.load(out, weights_only=True))
    X, expected = raw_predictions(folder)
    assert difference(model(torch.from_numpy(X)).detach().numpy(), expected) < 1e-12
    # scaled samples and scaled weights, or raw ones and the exported weights: one rank
    reports = []
    for model_file, options in (("houses.npz", ()), (out, ("--activation", "tanh"))):
        path = tmp_path / "report.json"
        good("rank", folder / model_file, folder / "houses.csv", *options, "--json", path)
        reports.append(json.loads(path.read_text()))
    assert reports[0]["n_params"] == reports[1]["n_params"] == 17
    assert reports[0]["network"] == reports[1]["network"]


@pytest.mark.parametrize("data", ("X.npy", "X.npz"))
def test_ranks_of_a_torch_model_at_inputs_alone(folder, tmp_path, data):
    torch = pytest.importorskip("torch", reason="torch is absent: the extra torch")
    nn = torch.nn
    model = nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    torch.save(model.state_dict(), tmp_path / "model.pt")
    path = tmp_path / "report.json"
    result = good("rank", tmp_path / "model.pt", "--data", folder / data, "--activation", "tanh",
                  "--json", path, "--plot", tmp_path / "s.png")  # fmt: skip
    X = torch.from_numpy(np.load(folder / "X.npy"))
    rows = [
        torch.cat([g.flatten() for g in torch.autograd.grad(
            value, list(model.parameters()), retain_graph=True)]).numpy()
        for value in model(X).flatten()
    ]  # fmt: skip
    report = json.loads(path.read_text())
    expected = np.linalg.svd(np.array(rows), compute_uv=False)
    np.testing.assert_allclose(report["singular_values"], expected, atol=1e-12 * expected[0])
    assert "inputs alone" in result.output and "certificate" not in result.output
    assert "certificate" not in report and "loss" not in report
    assert (tmp_path / "s.png").stat().st_size > 1000


def test_inputs_alone_are_scaled_and_targets_are_used_where_there_are_any(folder, tmp_path):
    path = tmp_path / "report.json"
    good("rank", folder / "houses.npz", folder / "houses.csv", "--json", path)
    whole = json.loads(path.read_text())
    assert "certificate" in whole
    good("rank", folder / "houses.npz", "--data", folder / "inputs.csv", "--json", path)
    alone = json.loads(path.read_text())
    np.testing.assert_allclose(alone["singular_values"], whole["singular_values"], rtol=1e-12)
    good("rank", folder / "houses.npz", "--data", folder / "houses.csv", "--json", path)
    assert json.loads(path.read_text()) == whole


def test_other_commands_take_weights_from_elsewhere(folder, tmp_path):
    plain = folder / "plain.npz"
    path = tmp_path / "report.json"
    good("critical-point", plain, folder / "houses.csv", "--l2", "0.5", "--json", path)
    model = fg.interchange.from_npz(plain)
    table = fg.read_table(folder / "houses.csv")
    problem = fg.Problem(model.network, table.X, table.Y, l2=0.5)
    loss = problem.loss(model.theta)
    assert json.loads(path.read_text())["loss"] == pytest.approx(loss, rel=1e-12)
    columns = ["--target", "year"]
    good("critical-point", plain, folder / "houses.csv", *columns, "--json", path)
    table = fg.read_table(folder / "houses.csv", target="year")
    loss = fg.Problem(model.network, table.X, table.Y).loss(model.theta)
    assert json.loads(path.read_text())["loss"] == pytest.approx(loss, rel=1e-12)
    good("landscape", "null-space", plain, folder / "houses.csv", "--loss", "huber", "--json", path)
    assert json.loads(path.read_text())["null_space"]["dimension"] >= 0


def test_class_labels_of_weights_from_elsewhere(folder, tmp_path):
    net, theta = network((2, 4, 3), "tanh")
    fg.Model.of(net, theta).export(tmp_path / "w.npz")
    X = np.loadtxt(folder / "kinds.csv", delimiter=",")
    labels = np.searchsorted([1.0, 2.0, 5.0], X[:, 2])
    np.savetxt(tmp_path / "labels.csv", np.column_stack([X[:, :2], labels]), delimiter=",")
    path = tmp_path / "report.json"
    good("critical-point", tmp_path / "w.npz", tmp_path / "labels.csv", "--loss",
         "softmax_cross_entropy", "--json", path)  # fmt: skip
    problem = fg.Problem(net, X[:, :2], labels, "softmax_cross_entropy")
    assert json.loads(path.read_text())["loss"] == pytest.approx(problem.loss(theta), rel=1e-12)
    result = run("rank", tmp_path / "w.npz", folder / "kinds.csv", "--loss",
                 "softmax_cross_entropy")  # fmt: skip
    assert result.exit_code == 2 and "unknown level" in result.output


def test_warnings_are_one_line(folder, tmp_path):
    np.savez(tmp_path / "w.npz", W_1=np.ones((3, 2)), b_1=np.ones(3), W_2=np.ones((1, 3)))
    result = good("export", tmp_path / "w.npz", tmp_path / "w.csv", "--activation", "tanh")
    assert "warning: layer 2 has no bias" in result.stderr and ".py" not in result.stderr


def test_a_linear_network_from_torch(folder, tmp_path):
    torch = pytest.importorskip("torch", reason="torch is absent: the extra torch")
    state = {"0.weight": torch.ones(2, 2), "1.weight": torch.ones(1, 2)}
    torch.save(state, tmp_path / "m.pt")
    good("landscape", "linear", folder / "houses.csv", "--model", tmp_path / "m.pt")
    result = run("rank", tmp_path / "m.pt", folder / "houses.csv")
    assert result.exit_code == 2 and "does not tell the activation" in result.output
    assert "--activation" in result.output


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["rank", "plain.npz", "houses.csv", "--data", "houses.csv"], "give DATA or --data"),
        (["rank", "plain.npz"], "give DATA"),
        (["rank", "houses.npz", "houses.csv", "--activation", "tanh"], "houses.npz holds its own"),
        (["critical-point", "houses.npz", "houses.csv", "--l2", "1"], "--l2 is for weights from"),
        (["rank", "houses.npz", "houses.csv", "--target", "year"], "--target is for weights from"),
        (["rank", "m.pkl", "houses.csv"], "pickles run code .*from_sklearn"),
        (["rank", "m.onnx", "houses.csv"], "no such file"),
        (["rank", "bare.npz", "houses.csv"], "does not name the activation"),
        (["rank", "houses.csv", "houses.csv"], "a table, not a model"),
        (["rank", "cut.npz", "houses.csv"], "its end was cut or altered"),
        (["rank", "plain.npz", "houses.csv", "--activation", "tan"], "did you mean 'tanh'"),
        (["rank", "plain.npz", "houses.csv", "--activation", "tanh,relu"], "one a hidden layer"),
        (["rank", "none.npz", "houses.csv"], "no such file"),
        (["export", "houses.npz", "houses.npz"], "would replace MODEL houses.npz"),
        (["export", "houses.npz", "houses.txt"], "unknown kind of file '.txt'"),
        (["export", "houses.npz", "absent/houses.npz"], "the folder does not exist"),
        (["export", "houses.npz", "h.onnx", "--probabilities"], "probabilities"),
        (["export", "kinds.npz", "k.csv", "--probabilities"], "probabilities go with .onnx"),
    ],
)
def test_bad_input(folder, monkeypatch, arguments, message):
    monkeypatch.chdir(folder)
    np.savez("bare.npz", W_1=np.ones((3, 2)), W_2=np.ones((1, 3)))
    with open("houses.npz", "rb") as whole, open("cut.npz", "wb") as cut:
        cut.write(whole.read()[:-200])
    with open("m.pkl", "wb") as file:
        pickle.dump({}, file)
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    text = " ".join(result.output.split())
    assert re.search(message, text), text
