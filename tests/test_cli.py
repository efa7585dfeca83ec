"""The command line, as a person and as a job script use it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import fastggn as fg
from fastggn.apps.cli import main, options
from fastggn.apps.cli.sample_set import Samples, Scaling
from fastggn.apps.cli.train import train as train_command

ROOT = Path(__file__).resolve().parent.parent
SMALL = ["--samples", "30", "--hidden", "4", "--max-iter", "5"]


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        return CliRunner().invoke(main, [str(a) for a in arguments])

    return call


def one_line(result, code, *words):
    assert result.exit_code == code, result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("fastggn: error: ")
    for word in words:
        assert word in lines[0]


def write(name, text):
    Path(name).write_text(text)
    return name


def regression_csv(name="houses.csv", T=60):
    rng = np.random.default_rng(0)
    area, age = rng.uniform(20, 200, T), rng.uniform(0, 80, T)
    price = 3000 * area - 500 * age + 1e4
    rows = "\n".join(f"{a},{p},{b}" for a, p, b in zip(area, price, age, strict=True))
    return write(name, f"area,price,age\n{rows}\n")


def metadata_of(path="model.npz"):
    return fg.load_model(path)[2]


# --- what it does -------------------------------------------------------------------------------


def test_plain_train_fits_four_regions(run):
    result = run("train")
    assert result.exit_code == 0, result.output
    net, theta, metadata = fg.load_model("model.npz")
    assert net.widths == (2, 20, 20, 1)
    X, Y = fg.data.four_regions(seed=0)
    accuracy = float((np.clip(np.rint(net.predict(theta, X)), 1, 4) == Y).mean())
    assert accuracy >= 0.95
    assert metadata["training"]["accuracy"] == pytest.approx(accuracy)
    assert re.search(r"accuracy +\d+\.\d\d % of the training samples", result.stdout)
    assert "rank of the Jacobian" in result.stdout
    problem = fg.Problem(net, X, Y)
    assert problem.loss(theta) == pytest.approx(metadata["training"]["loss"])


@pytest.mark.parametrize(
    "row",
    [
        "loss",
        "gradient norm",
        "accuracy",
        "iterations",
        "time",
        "solver",
        "rank",
        "status",
        "model",
    ],
)
def test_the_summary_names(run, row):
    result = run("train", *SMALL)
    assert re.search(rf"^{row}", result.stdout, re.MULTILINE)


def test_progress_goes_to_stderr_and_quiet_prints_nothing(run):
    result = run("train", *SMALL)
    assert (
        "iteration 5/5  loss" in result.stderr and "iteration" not in result.stdout.split("\n")[0]
    )
    result = run("train", *SMALL, "--quiet")
    assert result.exit_code == 0 and result.output == ""
    result = run("train", *SMALL, "--verbose")
    assert result.stderr.count("|step|") == 5


def test_a_csv_is_scaled_and_the_scales_are_kept(run):
    path = regression_csv()
    result = run("train", path, "--target", "price", "--hidden", "5", "--max-iter", 40)
    assert result.exit_code == 0, result.output
    assert "rms error" in result.stdout and "accuracy" not in result.stdout
    net, theta, metadata = fg.load_model("model.npz")
    samples = metadata["samples"]
    assert samples["inputs"] == ["area", "age"] and samples["targets"] == ["price"]
    table = np.loadtxt(path, delimiter=",", skiprows=1)
    X, price = table[:, [0, 2]], table[:, 1]
    scales = samples["scale_inputs"], samples["scale_targets"]
    X = (X - scales[0]["mean"]) / scales[0]["scale"]
    predicted = net.predict(theta, X) * scales[1]["scale"] + scales[1]["mean"]
    error = np.sqrt(np.mean((predicted[:, 0] - price) ** 2))
    assert error < 0.02 * price.std()
    shown = float(re.search(r"rms error +([\d.e+-]+), in the units", result.stdout)[1])
    assert shown == pytest.approx(error, rel=1e-4)


def test_no_standardise(run):
    path = write("a.csv", "0.1,0.2\n0.3,0.1\n0.2,0.5\n")
    result = run("train", path, "--no-standardise", "--hidden", "2", "--max-iter", 3)
    assert result.exit_code == 0, result.output
    assert metadata_of()["samples"]["scale_inputs"] is None


@pytest.mark.parametrize("suffix", ["npz", "npy", "h5"])
def test_the_other_kinds_of_file(run, suffix):
    X, Y = fg.data.sine(T=25, seed=1)
    if suffix == "npz":
        np.savez("a.npz", X=X, Y=Y)
    elif suffix == "npy":
        np.save("a.npy", np.hstack([X, Y]))
    else:
        h5py = pytest.importorskip("h5py")
        with h5py.File("a.h5", "w") as stream:
            stream["X"], stream["Y"] = X, Y
    result = run("train", f"a.{suffix}", "--hidden", "3", "--max-iter", 3)
    assert result.exit_code == 0, result.output
    assert fg.load_model("model.npz")[0].widths == (1, 3, 1)


def test_class_labels_of_a_file(run):
    X, Y = fg.data.four_regions(T=80, seed=0)
    rows = "\n".join(f"{a},{b},{10 * int(c)}" for (a, b), c in zip(X, Y[:, 0], strict=True))
    write("regions.csv", "x,y,kind\n" + rows)
    result = run("train", "regions.csv", "--loss", "softmax_cross_entropy", "--max-iter", 15)
    assert result.exit_code == 0, result.output
    metadata = metadata_of()
    assert metadata["samples"]["classes"] == [10, 20, 30, 40]
    assert metadata["samples"]["scale_targets"] is None
    assert metadata["training"]["accuracy"] > 0.8
    assert fg.load_model("model.npz")[0].widths[-1] == 4


@pytest.mark.parametrize(
    ("arguments", "outputs", "decision"),
    [
        (["--one-hot"], 4, "argmax"),
        (["--loss", "softmax_cross_entropy"], 4, "argmax"),
        (["--one-hot", "--loss", "softmax_cross_entropy"], 4, "argmax"),
        (["--standardise"], 1, "nearest"),
        (["--loss", "huber"], 1, "nearest"),
    ],
)
def test_ways_to_learn_the_four_regions(run, arguments, outputs, decision):
    result = run(
        "train", "--samples", 100, "--hidden", "10,10", "--max-iter", 30, "--seed", 1, *arguments
    )
    assert result.exit_code == 0, result.output
    metadata = metadata_of()
    assert fg.load_model("model.npz")[0].n_outputs == outputs
    assert metadata["samples"]["decision"] == decision
    assert metadata["training"]["accuracy"] > 0.8


def test_xor_with_the_logistic_loss(run):
    result = run(
        "train", "--dataset", "xor", "--loss", "logistic", "--hidden", "3", "--max-iter", 30
    )
    assert result.exit_code == 0, result.output
    assert metadata_of()["training"]["accuracy"] == 1.0


def test_regressions(run):
    for name in ("sine", "friedman1"):
        result = run("train", "--dataset", name, *SMALL)
        assert result.exit_code == 0, result.output
        assert metadata_of()["samples"]["name"] == name


@pytest.mark.parametrize(
    "arguments",
    [
        ["--method", "ggn", "--solver", "qr"],
        ["--method", "newton"],
        ["--method", "bp", "--alpha", "0.01", "--momentum", "0.5"],
        ["--method", "adam", "--batch-size", "10"],
        ["--solver", "lsqr", "--l2", "1e-4"],
        ["--geodesic", "--damping", "0.1"],
        ["--escape", "noise", "--activation", "softplus", "--init", "normal", "--bias", "none"],
        ["--output-activation", "softplus", "--threads", "1"],
        ["--hidden", "none"],
        ["--hidden", "4,3", "--activation", "tanh,sigmoid"],
        ["--loss", "cauchy", "--curvature", "exact"],
    ],
    ids=" ".join,
)
def test_every_option_reaches_the_core(run, arguments):
    result = run("train", *SMALL, *arguments)
    assert result.exit_code == 0, result.output


def test_the_seed_decides_the_model(run):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        assert run("train", *SMALL, "--seed", seed, "-o", f"{name}.npz").exit_code == 0
    a, b, c = (fg.load_model(f"{name}.npz")[1] for name in "abc")
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_the_names_in_the_help_are_those_of_the_core(run):
    from fastggn.data.builtin import DATASETS
    from fastggn.network.activations import ACTIVATIONS
    from fastggn.network.initialisation import SCHEMES
    from fastggn.network.losses import LOSSES
    from fastggn.training.methods.named import METHODS, SOLVERS
    from fastggn.training.options import ESCAPES

    text = run("train", "--help").output
    assert "Examples:" in text and "fastggn train houses.csv --target price" in text
    for names in (ACTIVATIONS, DATASETS, SCHEMES, LOSSES, ESCAPES, METHODS, SOLVERS):
        for name in names:
            assert re.search(rf"\b{name}\b", text), name


def test_info(run):
    result = run("info")
    assert result.exit_code == 0
    assert "numba" in result.stdout and "threads" in result.stdout
    run("train", *SMALL)
    result = run("info", "model.npz")
    assert result.exit_code == 0
    for words in ("F(2,4,1), tanh", "four_regions", "max_iter", "gradient norm", "method"):
        assert words in result.stdout


def test_info_of_a_model_without_metadata(run):
    net = fg.MLP((2, 1), bias=[[0.5]])
    fg.save_model("bare.npz", net, net.init(seed=0), note="by hand")
    result = run("info", "bare.npz")
    assert result.exit_code == 0 and "by hand" in result.stdout


def test_version_and_help(run):
    assert fg.__version__ in run("--version").output
    assert "Exit codes:" in run("--help").output


# --- TOML ---------------------------------------------------------------------------------------


def test_every_option_can_stand_in_a_toml_file(run):
    write(
        "run.toml",
        'dataset = "four_regions"\nsamples = 30\nhidden = [4, 3]\n'
        'activation = ["tanh", "softplus"]\n'
        'max-iter = 3\nseed = 5\nout = "from_file.npz"\nquiet = true\none_hot = true\nl2 = 0\n',
    )
    result = run("train", "--config", "run.toml")
    assert result.exit_code == 0 and result.output == ""
    net, _, metadata = fg.load_model("from_file.npz")
    assert net.widths == (2, 4, 3, 4)
    assert metadata["training"]["seed"] == 5 and metadata["training"]["n_iter"] == 3


def test_the_command_line_beats_the_file(run):
    path = regression_csv()
    write("run.toml", f'data = "{path}"\ntarget = ["price"]\nhidden = 6\nmax_iter = 2\n')
    assert run("train", "--config", "run.toml").exit_code == 0
    assert fg.load_model("model.npz")[0].widths == (2, 6, 1)
    result = run("train", "--hidden", "3", "--config", "run.toml", "--dataset", "sine")
    assert result.exit_code == 0, result.output
    net, _, metadata = fg.load_model("model.npz")
    assert net.widths == (1, 3, 1) and metadata["samples"]["name"] == "sine"
    write("other.toml", 'dataset = "sine"\nmax_iter = 2\n')
    assert run("train", path, "--config", "other.toml").exit_code == 0
    assert metadata_of()["samples"]["name"] == "houses.csv"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hiden = [3]", ["'hiden' is unknown", "did you mean 'hidden'"]),
        ("max-iter = 10.5", ["max-iter must be whole numbers, got 10.5"]),
        ("max-iter = true", ["max-iter must be whole numbers, got True"]),
        ("l2 = 'much'", ["l2 must be a number"]),
        ("quiet = 1", ["quiet must be true or false"]),
        ("hidden = [1.5]", ["hidden must be a list of whole numbers"]),
        ("method = 3", ["method must be text"]),
        ("max_iter = 3\nmax-iter = 4", ["'max-iter' is given twice"]),
        ("hidden = [", ["not a TOML file"]),
        ("samples = 0", ["--samples", "0 is not in the range"]),
        ("config = 'b.toml'", ["'config' is unknown"]),
        ("[network]\nhidden = 3", ["'network' is unknown"]),
    ],
)
def test_bad_config(run, text, words):
    one_line(run("train", "--config", write("run.toml", text)), 2, *words)
    assert not Path("model.npz").exists()


def test_missing_config(run):
    one_line(run("train", "--config", "nowhere.toml"), 2, "nowhere.toml", "No such file")


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.csv"], ["nowhere.csv: there is no such file"]),
        (["--activation", "tahn"], ["'tahn'", "did you mean 'tanh'"]),
        (["--output-activation", "identiy"], ["did you mean 'identity'"]),
        (["--loss", "sqared"], ["did you mean 'squared'"]),
        (["--method", "lmm"], ["did you mean 'lm'"]),
        (["--solver", "choleski"], ["did you mean 'cholesky'"]),
        (["--init", "gloro"], ["did you mean 'glorot'"]),
        (["--bias", "fre"], ["did you mean 'free'"]),
        (["--curvature", "psdd"], ["did you mean 'psd'"]),
        (["--escape", "nois"], ["did you mean 'noise'"]),
        (["--dataset", "four_region"], ["did you mean 'four_regions'"]),
        (["--hiden", "3"], ["--hiden", "--hidden"]),
        (["--hidden", "0"], ["a width must be at least 1"]),
        (["--hidden", "a"], ["give widths such as 20,20"]),
        (["--hidden", "3,4", "--activation", "tanh,tanh,tanh"], ["one a hidden layer (2), got 3"]),
        (["--activation", "tanh,,tanh"], ["empty name"]),
        (["--max-iter", "x"], ["--max-iter"]),
        (["--max-iter", "-1"], ["--max-iter"]),
        (["--l2", "-1"], ["l2"]),
        (["--l2", "nan"], ["l2"]),
        (["--max-time", "0"], ["max_time"]),
        (["--grad-tol", "-1"], ["grad_tol"]),
        (["--alpha", "-1", "--method", "ggn"], ["alpha"]),
        (["--alpha", "1"], ["alpha does not go with method 'lm'"]),
        (["--momentum", "0.5"], ["momentum", "'bp'"]),
        (["--method", "newton", "--solver", "dual"], ["'dual'", "'newton'"]),
        (["--batch-size", "1000000"], ["batch_size"]),
        (["--threads", "100000"], ["threads"]),
        (["--dataset", "xor", "--samples", "5"], ["--samples does not go with --dataset xor"]),
        (["--dataset", "sine", "--one-hot"], ["--one-hot does not go with"]),
        (["--dataset", "sine", "--loss", "logistic"], ["needs two classes"]),
        (["--dataset", "four_regions", "a.csv"], ["DATA or --dataset, not both"]),
        (["--target", "y"], ["--target goes with DATA"]),
        (["good.csv", "--samples", "5"], ["--samples goes with --dataset"]),
        (["good.csv", "--target", "q"], ["no target column 'q'"]),
        (["good.csv", "--loss", "softmax_cross_entropy", "--target", "2"], ["1 values"]),
        (["--out", "nowhere/model.npz"], ["nowhere", "folder does not exist"]),
        (["--out", "."], ["it is a folder"]),
        (["--out", os.devnull], ["not a regular file"]),
        (["nan.csv"], ["line 2, column 1 ('a') is nan"]),
        (["text.csv"], ["line 2, column 2 ('b') holds the text 'oops'"]),
        (["ragged.csv"], ["line 3 has 3 columns"]),
        (["empty.csv"], ["the file is empty"]),
        (["huge.csv"], ["too large to be scaled"]),
        (["object.npy"], ["pickled objects"]),
        (["one", "two"], ["unexpected extra argument"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value[0], str) else "",
)
def test_bad_input_is_one_line_and_code_2(run, arguments, words):
    write("good.csv", "1,2,3\n4,5,3\n")
    write("nan.csv", "a,b\nnan,1\n")
    write("text.csv", "a,b\n1,oops\n")
    write("ragged.csv", "a,b\n1,2\n1,2,3\n")
    write("empty.csv", "")
    write("huge.csv", "1e308,1\n-1e308,2\n1e308,3\n")
    np.save("object.npy", np.array([[None, 1]], dtype=object))
    one_line(run("train", *arguments), 2, *words)
    assert not Path("model.npz").exists()


def test_no_command_shows_the_help(run):
    result = run()
    assert result.exit_code == 2 and result.stdout == ""
    assert result.stderr.startswith("Usage: ") and "\n  train " in result.stderr


def test_bad_commands(run):
    one_line(run("tran"), 2, "tran")
    one_line(run("info", "nowhere.npz"), 2, "there is no such file")
    write("text.npz", "not a model" * 30)
    one_line(run("info", "text.npz"), 2, "not a fastggn file")


def test_unwritable_folder(run, tmp_path, monkeypatch):
    real = os.open

    def locked(path, *arguments, **keywords):
        if str(path).endswith(".tmp"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *arguments, **keywords)

    monkeypatch.setattr(os, "open", locked)
    result = run("train", *SMALL, "-o", "m.npz")
    one_line(result, 2, "Permission denied", f"{tmp_path / 'm.npz'}")


# --- what can go wrong later --------------------------------------------------------------------


def test_the_time_limit_saves_and_exits_with_3(run):
    result = run("train", "--max-time", "0.2", "--max-iter", 100_000, "--grad-tol", 0)
    assert result.exit_code == 3, result.output
    assert metadata_of()["training"]["status"] == "max_time"


def test_a_failed_save_says_where_the_model_is(run, monkeypatch, tmp_path):
    import fastggn.model.files as model_io

    real = model_io.save_model
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)

    def full(path, *arguments, **metadata):
        if Path(path).name == path:
            raise OSError(28, "No space left on device", path)
        real(path, *arguments, **metadata)

    monkeypatch.setattr(model_io, "save_model", full)
    result = run("train", *SMALL, "--out", "a.npz", "--quiet")
    one_line(result, 1, "No space left on device", "the model is in ")
    place = re.search(r"the model is in (\S+):", result.stderr)[1]
    assert fg.load_model(place)[0].widths == (2, 4, 1)


def test_an_internal_error_is_one_line_and_code_1(run, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("a bug")

    monkeypatch.setattr("fastggn.training.train.train", broken)
    one_line(run("train", "--quiet"), 1, "internal error: RuntimeError: a bug", "--verbose")
    result = run("train", "--verbose")
    assert result.exit_code == 1 and "Traceback" in result.stderr


def test_warnings_are_plain_lines(run, monkeypatch):
    import warnings

    real = fg.train

    def warning(*arguments, **keywords):
        warnings.warn("the loss rose", fg.AscentWarning, stacklevel=2)
        return real(*arguments, **keywords)

    monkeypatch.setattr("fastggn.training.train.train", warning)
    result = run("train", *SMALL)
    assert "warning: the loss rose\n" in result.stderr
    assert ".py" not in result.stderr
    assert run("train", *SMALL, "--quiet").output == ""


def start(tmp_path, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "fastggn", "train", *arguments],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


ENDLESS = ["--max-iter", "1000000", "--grad-tol", "0", "--step-tol", "0", "--samples", "500"]


@pytest.mark.process
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGUSR1"])
def test_a_signal_saves_and_exits_with_3(tmp_path, name):
    process = start(tmp_path, *ENDLESS, "--hidden", "10")
    for line in process.stderr:  # it is under way
        if line.startswith("iteration"):
            break
    process.send_signal(getattr(signal, name))
    out, err = process.communicate(timeout=60)
    assert process.returncode == 3, err
    assert "stopping after this iteration" in err
    assert f"interrupted: stopped by {name}" in out
    net, theta, metadata = fg.load_model(tmp_path / "model.npz")
    assert metadata["training"]["status"] == "interrupted"
    assert metadata["training"]["n_iter"] >= 1
    X, Y = fg.data.four_regions(500, seed=0)
    loss = fg.Problem(net, X, Y).loss(theta)
    assert loss == pytest.approx(metadata["training"]["loss"])


@pytest.mark.process
def test_the_second_signal_stops_at_once(tmp_path):
    # One iteration is one pass of thousands of mini-batches: the first signal waits for its end.
    process = start(
        tmp_path, "--method", "adam", "--samples", "200000", "--batch-size", "1", "--hidden", "3",
        "--max-iter", "100",
    )  # fmt: skip
    assert process.stderr.readline().startswith("F(2,3,1)")
    time.sleep(6)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode in (3, 130)


@pytest.mark.process
def test_a_full_disk_is_found_before_training(tmp_path):
    """A file-size limit of the process stands for the full disk."""
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "from fastggn.apps.cli import main\n"
        "main(['train', '--out', 'a.npz'])\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 2, done.stderr
    assert "a.npz" in done.stderr and "File too large" in done.stderr
    assert os.listdir(tmp_path) == []


# --- pieces -------------------------------------------------------------------------------------


def test_scaling():
    columns = np.array([[1.0, 5.0, 1e9 + 0.1], [3.0, 5.0, 1e9 + 0.1]])
    scaling = Scaling.of(columns)
    np.testing.assert_array_equal(scaling.scale, [1, 1, 1])
    np.testing.assert_allclose(scaling.undo(scaling.apply(columns)), columns, rtol=1e-15)
    assert json.loads(json.dumps(scaling.to_dict()))["mean"][0] == 2.0


def test_accuracy_by_each_decision():
    X, names = np.zeros((3, 1)), ("x",)
    labels = np.array([0, 1, 1])
    nearest = Samples(
        "s", X, labels, 1, names, names, "nearest", classes=np.array([1.0, 2.0]), labels=labels
    )
    assert nearest.accuracy(np.array([[-5.0], [1.6], [1.4]])) == pytest.approx(2 / 3)
    sign = Samples("s", X, labels, 1, names, names, "sign", labels=labels)
    assert sign.accuracy(np.array([[-1.0], [2.0], [0.5]])) == 1.0
    argmax = Samples("s", X, labels, 2, names, names, "argmax", labels=labels)
    assert argmax.accuracy(np.array([[1.0, 0.0], [0.0, 1.0], [3.0, 2.0]])) == pytest.approx(2 / 3)
    assert Samples("s", X, labels, 1, names, names).accuracy(np.zeros((3, 1))) is None


def test_the_rank_is_left_out_where_it_is_dear(run, monkeypatch):
    monkeypatch.setattr("fastggn.apps.cli.summary.MOST_RANK_OPERATIONS", 10)
    assert "not computed" in run("train", *SMALL).stdout


def test_settings_and_options_agree():
    fields = set(options.Settings.__dataclass_fields__)
    assert fields == {parameter.name for parameter in train_command.params}
