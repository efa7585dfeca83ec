"""The command line, as a person and as a job script use it."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from patience import HANGS, Stopwatch, let_work

import fastggn as fg
from fastggn.apps.cli import main, options
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


def model_of(path="model.npz"):
    return fg.Model.load(path)


def accuracy_of(result, part="training"):
    return float(re.search(rf"accuracy +([\d.]+) % of \d+ {part} samples", result.stdout)[1]) / 100


# --- what it does -------------------------------------------------------------------------------


def test_plain_train_fits_four_regions(run):
    result = run("train")
    assert result.exit_code == 0, result.output
    model = model_of()
    assert model.network.widths == (2, 20, 20, 1) and model.input_scaler is None
    X, Y = fg.data.four_regions(seed=0)
    accuracy = float((np.clip(np.rint(model.predict(X)), 1, 4) == Y[:, 0]).mean())
    assert accuracy >= 0.95
    assert accuracy_of(result) == pytest.approx(accuracy)
    assert "rank of the Jacobian" in result.stdout
    assert "nothing is held out; 501 parameters face 400 equations" in result.stderr
    problem = fg.Problem(model.network, X, Y)
    assert problem.loss(model.theta) == pytest.approx(model.training["loss"])


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
    model = model_of()
    assert model.recipe.input_names == ("area", "age")
    assert model.recipe.target_names == ("price",)
    table = np.loadtxt(path, delimiter=",", skiprows=1)
    X, price = table[:, [0, 2]], table[:, 1]
    training, held_out, _ = model.split.rows(len(X))
    np.testing.assert_allclose(model.input_scaler.mean, X[training].mean(axis=0), rtol=1e-12)
    for rows, part in ((training, "training"), (held_out, "held-out")):
        error = np.sqrt(np.mean((model.predict(X[rows]) - price[rows]) ** 2))
        assert error < 0.02 * price.std()
        shown = re.search(rf"error +([\d.e+-]+) \(R2 1.0000\) of {rows.size} {part}", result.stdout)
        assert float(shown[1]) == pytest.approx(error, rel=1e-4)


def test_no_standardise(run):
    path = write("a.csv", "0.1,0.2\n0.3,0.1\n0.2,0.5\n")
    result = run("train", path, "--no-standardise", "--hidden", "2", "--max-iter", 3)
    assert result.exit_code == 0, result.output
    assert model_of().input_scaler is None and model_of().target_scaler is None


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
    assert model_of().network.widths == (1, 3, 1)


def test_class_labels_of_a_file(run):
    X, Y = fg.data.four_regions(T=80, seed=0)
    rows = "\n".join(f"{a},{b},{10 * int(c)}" for (a, b), c in zip(X, Y[:, 0], strict=True))
    write("regions.csv", "x,y,kind\n" + rows)
    result = run("train", "regions.csv", "--loss", "softmax_cross_entropy", "--max-iter", 15)
    assert result.exit_code == 0, result.output
    model = model_of()
    assert model.classes.tolist() == [10, 20, 30, 40]
    assert model.target_scaler is None and model.network.widths[-1] == 4
    assert accuracy_of(result) > 0.8 and accuracy_of(result, "held-out") > 0.4


@pytest.mark.parametrize(
    ("arguments", "outputs", "loss"),
    [
        (["--one-hot", "--loss", "squared"], 4, "squared"),
        (["--one-hot"], 4, "softmax_cross_entropy"),
        (["--loss", "softmax_cross_entropy"], 4, "softmax_cross_entropy"),
        (["--standardise"], 1, "squared"),
        (["--loss", "huber"], 1, "huber"),
    ],
)
def test_ways_to_learn_the_four_regions(run, arguments, outputs, loss):
    result = run(
        "train", "--samples", 100, "--hidden", "10,10", "--max-iter", 30, "--seed", 1, *arguments
    )
    assert result.exit_code == 0, result.output
    assert model_of().network.n_outputs == outputs and model_of().loss.name == loss
    assert accuracy_of(result) > 0.8


def test_xor_with_the_logistic_loss(run):
    result = run(
        "train", "--dataset", "xor", "--loss", "logistic", "--hidden", "3", "--max-iter", 30
    )
    assert result.exit_code == 0, result.output
    assert accuracy_of(result) == 1.0


def test_regressions(run):
    for name in ("sine", "friedman1"):
        result = run("train", "--dataset", name, *SMALL)
        assert result.exit_code == 0, result.output
        assert model_of().training["source"] == name


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
    a, b, c = (model_of(f"{name}.npz").theta for name in "abc")
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


def test_info_of_a_model_without_a_training(run):
    net = fg.MLP((2, 1), bias=[[0.5]])
    fg.Model.of(net, net.init(seed=0), training={"note": "by hand"}).save("bare.npz")
    result = run("info", "bare.npz")
    assert result.exit_code == 0 and "by hand" in result.stdout and "fixed" in result.stdout


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
    model = model_of("from_file.npz")
    assert model.network.widths == (2, 4, 3, 4)
    assert model.training["seed"] == 5 and model.training["n_iter"] == 3


def test_the_command_line_beats_the_file(run):
    path = regression_csv()
    write("run.toml", f'data = "{path}"\nhidden = 6\nmax_iter = 2\nheld-out = 0.2\n')
    assert run("train", "--config", "run.toml").exit_code == 0 and model_of().split.held_out == 0.2
    assert model_of().network.widths == (2, 6, 1)
    result = run("train", "--hidden", "3", "--config", "run.toml", "--dataset", "sine")
    assert result.exit_code == 0, result.output
    assert model_of().network.widths == (1, 3, 1) and model_of().training["source"] == "sine"
    write("other.toml", 'dataset = "sine"\nmax_iter = 2\n')
    assert run("train", path, "--config", "other.toml").exit_code == 0
    assert model_of().training["source"] == path
    write("both.toml", f'data = "{path}"\nsamples = 30\nmax_iter = 2\n')
    assert run("train", path, "--config", "both.toml").exit_code == 0
    one_line(run("train", "--config", "both.toml"), 2, "--samples goes with --dataset")


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
        (["--dataset", "sine", "--loss", "logistic"], ["needs classes"]),
        (["--loss", "logistic"], ["needs two classes"]),
        (["--validation", "good.csv"], ["--validation of version 1 is now --held-out-file"]),
        (["--validation-fraction", "0.2"], ["version 1 is now --held-out"]),
        (["--dataset", "four_regions", "a.csv"], ["DATA or --dataset, not both"]),
        (["--target", "y"], ["--target goes with DATA"]),
        (["good.csv", "--samples", "5"], ["--samples goes with --dataset"]),
        (["good.csv", "--target", "q"], ["target: there is no column 'q'", "; the columns"]),
        (["good.csv", "--loss", "softmax_cross_entropy", "--target", "2"], ["one class"]),
        (["--out", "nowhere/model.npz"], ["nowhere", "folder does not exist"]),
        (["--out", "."], ["it is a folder"]),
        (["--out", os.devnull], ["not a regular file"]),
        (["nan.csv"], ["column 'a' (number): 1 missing value", "line 2", "--missing impute"]),
        (["text.csv"], ["'b'"]),
        (["ragged.csv"], ["line 3 has 3"]),
        (["empty.csv"], ["the file is empty"]),
        (["object.npy"], ["pickled objects"]),
        (["one", "two"], ["unexpected extra argument"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value[0], str) else "",
)
def test_bad_input_is_one_line_and_code_2(run, arguments, words):
    write("good.csv", "1,2,3\n4,5,3\n")
    write("nan.csv", "a,b\nnan,1\n2,3\n4,2\n")
    write("text.csv", "a,b\n1,oops\n")
    write("ragged.csv", "a,b\n1,2\n1,2,3\n")
    write("empty.csv", "")
    np.save("object.npy", np.array([[None, 1]], dtype=object))
    one_line(run("train", *arguments), 2, *words)
    assert not Path("model.npz").exists()


def test_all_faults_of_a_table_name_the_options_that_help(run):
    rows = [f"{k},{'?' if k == 5 else 2 * k},{'far' if k == 7 else k}" for k in range(60)]
    write("bad.csv", "\n".join(["area,way,price", *rows]))
    result = run("train", "bad.csv", "--target", "area")
    assert result.exit_code == 2
    lines = result.stderr.strip().splitlines()
    assert lines[0] == "fastggn: error: bad.csv: 2 faults:" and len(lines) == 3
    assert "--missing drop leaves these rows out" in lines[1] and "'way'" in lines[1]
    assert "--drop price" in lines[2] and "'far'" in lines[2]


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
    real = open

    def locked(path, *arguments, **keywords):
        if str(path).endswith(".tmp"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *arguments, **keywords)

    monkeypatch.setattr("builtins.open", locked)
    result = run("train", *SMALL, "-o", "m.npz")
    one_line(result, 2, "Permission denied", f"{tmp_path / 'm.npz'}")


# --- what can go wrong later --------------------------------------------------------------------


def test_the_time_limit_saves_and_exits_with_3(run):
    result = run("train", "--max-time", "0.2", "--max-iter", 100_000, "--grad-tol", 0)
    assert result.exit_code == 3, result.output
    assert model_of().training["status"] == "max_time"


def test_a_failed_save_says_where_the_model_is(run, monkeypatch, tmp_path):
    real = fg.Model.save
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)

    def full(model, path):
        if Path(path).name == path:
            raise OSError(28, "No space left on device", path)
        real(model, path)

    monkeypatch.setattr("fastggn.model.model.Model.save", full)
    result = run("train", *SMALL, "--out", "a.npz", "--quiet")
    one_line(result, 1, "No space left on device", "the model is in ")
    place = re.search(r"the model is in (\S+):", result.stderr)[1]
    assert model_of(place).network.widths == (2, 4, 1)


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
    out, err = process.communicate(timeout=HANGS)
    assert process.returncode == 3, err
    assert "stopping after this iteration" in err
    assert f"interrupted: stopped by {name}" in out
    model = model_of(tmp_path / "model.npz")
    assert model.training["status"] == "interrupted" and model.training["n_iter"] >= 1
    X, Y = fg.data.four_regions(500, seed=0)
    loss = fg.Problem(model.network, X, Y).loss(model.theta)
    assert loss == pytest.approx(model.training["loss"])


@pytest.mark.process
def test_the_second_signal_stops_at_once(tmp_path):
    # One iteration is one pass of thousands of mini-batches: the first signal waits for its end.
    process = start(
        tmp_path, "--method", "adam", "--samples", "200000", "--batch-size", "1", "--hidden", "3",
        "--max-iter", "100",
    )  # fmt: skip
    assert process.stderr.readline().startswith("F(2,3,1)")
    let_work(process, 4.0)
    process.send_signal(signal.SIGINT)
    for line in process.stderr:  # the first signal is heard
        if "again: at once" in line:
            break
    watch = Stopwatch(process)
    process.send_signal(signal.SIGINT)
    _, err, seconds = watch.end()
    assert process.returncode in (3, 130), err
    assert seconds < 20.0


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


def test_the_rank_is_left_out_where_it_is_dear(run, monkeypatch):
    monkeypatch.setattr("fastggn.apps.cli.summary.MOST_RANK_OPERATIONS", 10)
    assert "not computed" in run("train", *SMALL).stdout


def test_settings_and_options_agree():
    fields = set(options.Settings.__dataclass_fields__)
    assert fields | {"force"} == {parameter.name for parameter in train_command.params}
