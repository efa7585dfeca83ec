"""torch.nn.Sequential, state dicts and their files, from and to networks."""

import io
import pickle
import warnings
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from interchange_cases import (
    ARCHITECTURES,
    SLOPE,
    TOLERANCE,
    difference,
    model_of,
    network,
    parts,
    raw_outputs,
    samples,
    scaling,
)

import fastggn as fg
from fastggn.model import interchange

torch = pytest.importorskip("torch", reason="torch is absent: the extra torch")
nn = torch.nn

MODULES = {
    "identity": nn.Identity,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "softsign": nn.Softsign,
    "softplus": lambda: nn.Softplus(threshold=50.0),
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(SLOPE),
}


def evaluate(model, X):
    kind = next(model.parameters()).dtype
    with torch.no_grad():
        return model(torch.from_numpy(X).to(kind)).double().numpy()


def torch_model(widths, name, bias, dtype, output=None):
    torch.manual_seed(sum(widths))
    modules = []
    for m, n in zip(widths[:-1], widths[1:], strict=True):
        modules += [nn.Linear(m, n, bias=bias), MODULES[name]()]
    modules = modules[:-1] + ([MODULES[output]()] if output else [])
    return nn.Sequential(*modules).to(dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("bias", (True, False))
@pytest.mark.parametrize("widths", ARCHITECTURES, ids=str)
@pytest.mark.parametrize("name", MODULES)
def test_from_torch_and_back(name, widths, bias, dtype):
    model = torch_model(widths, name, bias, getattr(torch, dtype))
    X = samples(widths[0], dtype)
    net, theta = parts(fg.interchange.from_torch(model))
    assert net.widths == widths and net.bias == ("free" if bias else "none")
    expected = net.predict(theta, X)
    assert theta.dtype == np.float64 and difference(evaluate(model, X), expected) < TOLERANCE[dtype]
    # the weights themselves are exact, both ways
    weights = torch.cat([p.detach().double().flatten() for p in model.parameters()])
    assert np.sort(weights.numpy()).tolist() == np.sort(theta).tolist()
    back = fg.interchange.to_torch(model_of(net, theta), dtype)
    for one, other in zip(back.parameters(), model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert (evaluate(back, X) == evaluate(model.eval(), X)).all()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("bias", ("free", "none", "fixed"))
@pytest.mark.parametrize("output", MODULES)
def test_to_torch_and_back(output, bias, dtype):
    net, theta = network((3, 5, 4, 2), ["tanh", "leaky_relu"], bias, output)
    model = fg.interchange.to_torch(model_of(net, theta), dtype)
    X = samples(3, dtype)
    assert difference(evaluate(model, X), net.predict(theta, X)) < TOLERANCE[dtype]
    again, vector = parts(fg.interchange.from_torch(model))
    assert again.activations == net.activations
    assert again.bias == ("none" if bias == "none" else "free")
    if dtype == "float64" and bias != "fixed":
        assert (vector == theta).all()
    assert difference(evaluate(model, X), again.predict(vector, X)) < TOLERANCE[dtype]


@pytest.mark.parametrize("output", ("identity", "sigmoid"))
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_scaling_is_folded(dtype, output):
    net, theta = network((3, 5, 2), "tanh", output=output)
    inputs, targets = scaling(3, far=4.0), scaling(2, 1)
    model = fg.interchange.to_torch(model_of(net, theta, inputs, targets), dtype)
    X = samples(3, dtype)
    expected = raw_outputs(net, theta, X, inputs, targets)
    assert difference(evaluate(model, X), expected) < TOLERANCE[dtype]


def test_a_scaling_that_float32_weights_cannot_hold():
    net, theta = network((2, 5, 1), "tanh")
    years = (np.array([0.0, 2010.0]), np.array([1.0, 5.0]))
    with pytest.warns(
        interchange.InterchangeWarning, match="input 1 has mean 2010 and deviation 5"
    ):
        fg.interchange.to_torch(model_of(net, theta, years), torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = fg.interchange.to_torch(model_of(net, theta, years), torch.float64)
    X = np.column_stack([samples(2)[:, 0], np.arange(40) + 1990.0])
    expected = raw_outputs(net, theta, X, years, (0.0, 1.0))
    assert difference(evaluate(model, X), expected) < 1e-12


def test_nested_shared_and_idle_modules():
    act = nn.Tanh()  # one module twice
    model = nn.Sequential(
        nn.Flatten(), nn.Sequential(nn.Linear(2, 3), act, nn.Dropout(0.5)), nn.Identity(),
        nn.Sequential(nn.Sequential(nn.Linear(3, 4), act), nn.Dropout(0.0)), nn.Linear(4, 1),
    ).double()  # fmt: skip
    with pytest.warns(interchange.InterchangeWarning, match=r"module 1\.2, Dropout is left out"):
        net, theta = parts(fg.interchange.from_torch(model))
    assert [a.name for a in net.activations] == ["tanh", "tanh", "identity"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fg.interchange.from_torch(model.eval())
    X = samples(2)
    assert difference(evaluate(model, X), net.predict(theta, X)) < 1e-12


def test_linears_without_an_activation_between():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)).double()
    net, theta = parts(fg.interchange.from_torch(model))
    assert net.activations[0].name == "identity"
    assert fg.interchange.from_torch(nn.Linear(2, 3)).network.widths == (2, 3)
    back = fg.interchange.to_torch(model_of(net, theta))
    assert [type(m).__name__ for m in back] == ["Linear", "Identity", "Linear"]


def test_shared_weights_and_mixed_biases_are_named():
    layer = nn.Linear(2, 2)
    with pytest.warns(interchange.InterchangeWarning, match="module 2, Linear shares its weights"):
        net = fg.interchange.from_torch(nn.Sequential(layer, nn.Tanh(), layer)).network
    assert net.n_params == 12
    model = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1, bias=False)).double()
    with pytest.warns(interchange.InterchangeWarning, match="module 2, Linear has no bias"):
        net, theta = parts(fg.interchange.from_torch(model))
    assert theta[-1] == 0.0 and net.has_free_bias
    X = samples(2)
    assert difference(evaluate(model, X), net.predict(theta, X)) < 1e-12


@pytest.mark.parametrize("last", (nn.Softmax(dim=1), nn.LogSoftmax(dim=-1), nn.Sigmoid()))
def test_logits(last):
    body = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3)).double()
    model = nn.Sequential(*body, last)
    net, theta = parts(fg.interchange.from_torch(model, logits=True))
    X = samples(2)
    assert difference(evaluate(body, X), net.predict(theta, X)) < 1e-12
    assert (net.predict(theta, X).argmax(axis=1) == evaluate(model, X).argmax(axis=1)).all()
    if isinstance(last, nn.Sigmoid):
        net, theta = parts(fg.interchange.from_torch(model))
        assert net.activations[-1].name == "sigmoid"
        assert difference(evaluate(model, X), net.predict(theta, X)) < 1e-12
    else:
        with pytest.raises(ValueError, match=f"module 3, {type(last).__name__}.*logits=True"):
            fg.interchange.from_torch(model)
        with pytest.raises(ValueError, match="module 4, Linear stands behind module 3"):
            fg.interchange.from_torch(nn.Sequential(*model, nn.Linear(3, 3).double()), logits=True)


def test_the_default_softplus_of_torch():
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Softplus()).double()
    with torch.no_grad():
        model[0].weight.fill_(1.0)
    net, theta = parts(fg.interchange.from_torch(model))
    X = np.linspace(-50.0, 50.0, 201)[:, None]
    assert 1e-10 < np.abs(evaluate(model, X) - net.predict(theta, X)).max() < 2.1e-9
    assert (
        np.abs(
            evaluate(fg.interchange.to_torch(model_of(net, theta)), X) - net.predict(theta, X)
        ).max()
        < 1e-14
    )


class Doubled(nn.Linear):
    def forward(self, x):
        return 2.0 * super().forward(x)


class Named(nn.Linear):
    """Computes what Linear does."""


@pytest.mark.parametrize(
    "modules, message",
    [
        ([nn.Linear(2, 1), nn.ELU()], "module 1, ELU cannot be read; accepted: Linear, Tanh"),
        ([nn.Conv2d(1, 1, 2)], "module 0, Conv2d cannot be read"),
        ([nn.Linear(2, 2), nn.BatchNorm1d(2)], "module 1, BatchNorm1d cannot be read"),
        ([nn.Linear(2, 2), nn.Sequential(nn.PReLU())], r"module 1\.0, PReLU cannot be read"),
        ([Doubled(2, 1)], "module 0, Doubled cannot be read"),
        ([nn.Tanh(), nn.Linear(2, 1)], "module 0, Tanh stands behind no Linear"),
        (
            [nn.Linear(2, 1), nn.Tanh(), nn.ReLU()],
            "module 2, ReLU stands behind another activation",
        ),
        ([nn.Linear(2, 1), nn.Softplus(beta=2.0)], "only beta=1"),
        ([nn.Linear(2, 1), nn.Softplus(threshold=1.0)], "threshold must be at least 20"),
        ([nn.Flatten(0), nn.Linear(2, 1)], "start_dim=1"),
        ([nn.Linear(2, 1), nn.Softmax(dim=0)], "dim must be 1 or -1, got 0"),
        ([nn.Linear(2, 3), nn.Linear(4, 1)], "module 1, Linear takes 4 inputs"),
        ([], "no linear layer"),
        ([nn.Linear(2, 1, device="meta")], "dense tensor of real numbers"),
        ([nn.Linear(2, 1, dtype=torch.complex64)], "dense tensor of real numbers"),
    ],
)
def test_what_cannot_be_read(modules, message):
    with pytest.raises((ValueError, TypeError), match=message):
        fg.interchange.from_torch(nn.Sequential(*modules))


def test_hooks_and_lazy_layers():
    layer = nn.Linear(2, 1)
    layer.register_forward_hook(lambda module, inputs, output: 2.0 * output)
    with pytest.raises(ValueError, match="module 0, Linear has hooks"):
        fg.interchange.from_torch(nn.Sequential(layer))
    with pytest.raises(ValueError, match="module 0, LazyLinear has hooks"):
        fg.interchange.from_torch(nn.Sequential(nn.LazyLinear(3)))
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(2, 3)).double()
    net, theta = parts(
        fg.interchange.from_torch(layer)
    )  # a parametrised weight is what it computes
    X = samples(2)
    assert difference(evaluate(layer, X), net.predict(theta, X)) < 1e-12


def test_other_arguments():
    net, theta = parts(fg.interchange.from_torch(nn.Sequential(Named(2, 1))))
    assert net.widths == (2, 1)
    with pytest.raises(TypeError, match="must be a torch.nn.Sequential or a state dict, not int"):
        fg.interchange.from_torch(3)
    with pytest.raises(ValueError, match="go with a state dict"):
        fg.interchange.from_torch(nn.Linear(2, 1), activation="tanh")
    with pytest.raises(ValueError, match="does not tell the activation"):
        fg.interchange.from_torch(nn.Linear(2, 1).state_dict())
    with pytest.raises(ValueError, match=r"weight\[0, 1\] is inf"):
        layer = nn.Linear(2, 1)
        with torch.no_grad():
            layer.weight[0, 1] = torch.inf
        fg.interchange.from_torch(layer)
    for name in ("bent_identity", "square", "sin"):
        with pytest.raises(ValueError, match=f"torch.nn has no module .* '{name}'"):
            net, theta = network((2, 2, 1), name)
            fg.interchange.to_torch(model_of(net, theta))


class Custom(nn.Module):
    """A model whose forward pass cannot be seen from outside."""

    def __init__(self):
        super().__init__()
        self.enter, self.leave = nn.Linear(3, 5), nn.Linear(5, 2)

    def forward(self, x):
        return self.leave(nn.functional.leaky_relu(self.enter(x), SLOPE))


@pytest.mark.parametrize("wrapper", (None, "state_dict", "model_state_dict"))
@pytest.mark.parametrize("kind", (torch.float64, torch.float32, torch.bfloat16))
def test_state_dicts(kind, wrapper, tmp_path):
    model = Custom().to(kind)
    with pytest.raises(ValueError, match=r"Custom cannot be read.*give model.state_dict\(\)"):
        fg.interchange.from_torch(model)
    state = model.state_dict()
    sigma = fg.activations.leaky_relu(SLOPE)
    net, theta = parts(fg.interchange.from_torch(state, sigma))
    X = samples(3)
    assert difference(evaluate(model.double(), X), net.predict(theta, X)) < 1e-12
    path = tmp_path / "m.pt"
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, path)
    again, vector = parts(interchange.read_state_dict(path, f"leaky_relu:{SLOPE}"))
    assert (vector == theta).all() and again.activations == net.activations


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_written_state_dicts(dtype, tmp_path):
    path = tmp_path / "m.pt"
    net, theta = network((4, 6, 5, 3), "tanh", "none", "sigmoid")
    model_of(net, theta).export(path, dtype)
    state = torch.load(path, weights_only=True)
    model = nn.Sequential(
        nn.Linear(4, 6, bias=False), nn.Tanh(), nn.Linear(6, 5, bias=False), nn.Tanh(),
        nn.Linear(5, 3, bias=False), nn.Sigmoid(),
    ).to(getattr(torch, dtype))  # fmt: skip
    model.load_state_dict(state)
    X = samples(4, dtype)
    assert difference(evaluate(model, X), net.predict(theta, X)) < TOLERANCE[dtype]
    again, vector = parts(interchange.read_state_dict(path, "tanh", "sigmoid"))
    assert again.widths == net.widths and again.bias == "none"
    assert (vector == theta.astype(dtype)).all()


class Evil:
    """Would leave a file behind if its pickle were run."""

    def __reduce__(self):
        return open, ("evil.txt", "w")


def test_no_code_of_a_file_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for content in (Evil(), {"0.weight": torch.ones(1, 1), "x": Evil()}):
        torch.save(content, "evil.pt")
        with pytest.raises(ValueError, match="evil.pt: holds Python objects other than tensors"):
            interchange.read_state_dict("evil.pt", "tanh")
    with open("evil.pt", "wb") as file:
        pickle.dump(Evil(), file)
    with pytest.raises(ValueError, match="evil.pt: not a file of torch.save, of torch 1.6"):
        interchange.read_state_dict("evil.pt", "tanh")
    torch.save(nn.Sequential(nn.Linear(2, 1)), "whole.pt")
    with pytest.raises(ValueError, match=r"torch.save\(model.state_dict\(\), path\)"):
        interchange.read_state_dict("whole.pt", "tanh")
    assert not (tmp_path / "evil.txt").exists()


def test_files_that_are_no_state_dict(tmp_path):
    path = tmp_path / "m.pt"
    for content, message in (
        (torch.ones(2, 2), "expected a state dict.*got Tensor"),
        ([torch.ones(2, 2)], "got list"),
        ({"0.weight": 3.0}, "'0.weight' holds float"),
        ({0: torch.ones(1, 1)}, "expected a state dict"),
        ({}, "there are no weights"),
        ({"0.weight": torch.ones(1, 1, dtype=torch.int64)}, "dense tensor of real numbers"),
        ({"0.weight": torch.ones(2, 2).to_sparse()}, "dense tensor of real numbers"),
        (nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).state_dict(), "1 is a BatchNorm.*fold"),
        (nn.Conv2d(1, 1, 2).state_dict(), "linear layers"),
        ({"0.weight": torch.ones(1, 1).expand(10**6, 10**6)}, "more than the file holds"),
        ({"0.weight": torch.ones(3, 2), "2.weight": torch.ones(1, 4)}, "2 takes 4 inputs, but 0"),
    ):
        torch.save(content, path)
        with pytest.raises(ValueError, match=message) as caught:
            interchange.read_state_dict(path, "tanh")
        assert "m.pt" in str(caught.value)
    with zipfile.ZipFile(path, "w") as archive:  # what torch.jit.save writes, among others
        archive.writestr("m/constants.pkl", b"")
    with pytest.raises(ValueError, match="m.pt: a TorchScript archive, which holds code"):
        interchange.read_state_dict(path, "tanh")
    with pytest.raises(FileNotFoundError):
        interchange.read_state_dict(tmp_path / "none.pt", "tanh")


def test_damaged_files_give_a_clear_error(tmp_path):
    buffer = io.BytesIO()
    torch.save(nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).state_dict(), buffer)
    whole = buffer.getvalue()
    path = tmp_path / "m.pt"
    rng = np.random.default_rng(0)
    for trial in range(200):
        content = bytearray(whole)
        if trial % 2:
            content = content[: int(rng.integers(len(whole)))]
        else:
            for place in rng.integers(len(whole), size=20):
                content[place] ^= int(rng.integers(1, 256))
        path.write_bytes(content)
        try:
            net, theta = parts(interchange.read_state_dict(path, "tanh"))
        except ValueError as error:
            assert "m.pt" in str(error)
        else:  # a state dict has no checksum of its own: other numbers are read as they are
            assert np.isfinite(theta).all() and theta.size == net.n_params


def test_a_compressed_archive_is_refused(tmp_path):
    """A file of kilobytes could hold gigabytes of zeros."""
    plain, path = tmp_path / "plain.pt", tmp_path / "m.pt"
    torch.save({"0.weight": torch.zeros(1000, 1000)}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for member in source.infolist():
            out.writestr(member.filename, source.read(member))
    assert path.stat().st_size < 20_000
    with pytest.raises(ValueError, match="m.pt: claims more bytes than it has"):
        interchange.read_state_dict(path, "tanh")


def test_an_archive_with_another_content(tmp_path):
    path = tmp_path / "m.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "hello")
    with pytest.raises(ValueError, match="m.pt: "):
        interchange.read_state_dict(path, "tanh")


def test_a_model_from_torch_is_analysed():
    X, Y = fg.data.xor()
    model = torch_model((2, 3, 1), "tanh", True, torch.float64)
    net, theta = parts(fg.interchange.from_torch(model))
    report = fg.rank_analysis(fg.Problem(net, X, Y), theta)
    outputs = model(torch.from_numpy(X))
    rows = []
    for output in outputs[:, 0]:
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(
            output, list(model.parameters()), retain_graph=True)]).numpy())  # fmt: skip
    expected = np.linalg.svd(np.array(rows), compute_uv=False)
    np.testing.assert_allclose(report.singular_values, expected, rtol=1e-12)


def test_names_and_losses(tmp_path):
    """A file of `export` keeps names and activations, and torch loads it as any state dict."""
    net, theta = network((2, 4, 3), ["leaky_relu"])
    model = model_of(net, theta, loss="softmax_cross_entropy", classes=["a", "b", "c"])
    columns = tuple(replace(c, name=n) for c, n in zip(model.recipe.inputs, "uv", strict=True))
    model = replace(model, recipe=replace(model.recipe, inputs=columns, named=True))
    model.export(tmp_path / "m.pt")
    again = interchange.read_state_dict(tmp_path / "m.pt")
    assert again.recipe.input_names == ("u", "v") and list(again.classes) == ["a", "b", "c"]
    assert again.loss.name == model.loss.name and again.network.to_config() == net.to_config()
    rows = {"v": [1.0, 2.0], "u": [0.5, -3.0]}
    np.testing.assert_array_equal(again.predict_proba(rows), model.predict_proba(rows))
    module = nn.Sequential(nn.Linear(2, 4), nn.LeakyReLU(SLOPE), nn.Linear(4, 3)).double()
    module.load_state_dict(torch.load(tmp_path / "m.pt", weights_only=True))
    X = samples(2)
    assert difference(evaluate(module, X), net.predict(theta, X)) < 1e-12
    with pytest.raises(ValueError, match="does not tell the activation"):
        torch.save(module.state_dict(), tmp_path / "bare.pt")
        interchange.read_state_dict(tmp_path / "bare.pt")


def test_classes_of_a_module():
    body = [nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3)]
    soft = fg.interchange.from_torch(nn.Sequential(*body, nn.Softmax(dim=1)), logits=True)
    assert soft.loss.name == "softmax_cross_entropy" and list(soft.classes) == [0, 1, 2]
    named = fg.interchange.from_torch(nn.Sequential(*body), classes=["x", "y", "z"])
    assert set(named.predict(samples(2))) <= {"x", "y", "z"}
    one = nn.Sequential(nn.Linear(2, 1), nn.Sigmoid()).double()
    two = fg.interchange.from_torch(one, logits=True, classes=["no", "yes"])
    X = samples(2)
    np.testing.assert_allclose(two.predict_proba(X)[:, 1], evaluate(one, X)[:, 0], atol=1e-14)
    assert fg.interchange.from_torch(one).loss.name == "squared"
    several = fg.interchange.from_torch(nn.Sequential(*body, nn.Sigmoid()), logits=True)
    assert several.classes is None and several.predict(X).shape == (40, 3)
    with pytest.raises(ValueError, match="the targets need 2 outputs, the network has 3"):
        fg.interchange.from_torch(nn.Sequential(*body), classes=["x", "y"])
