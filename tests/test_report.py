"""The report of a run: what stands in it, and that it needs nothing outside it."""

import base64
import hashlib
import os
import re
import signal
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from html_checks import Page
from patience import HANGS
from test_mpi import launch, needs_mpi

import fastggn as fg
from fastggn.apps.cli import main
from fastggn.apps.report.findings import findings, model_of
from fastggn.apps.report.writing import make_pictures
from fastggn.data.recipe import Column, Recipe
from fastggn.data.scaler import Scaler
from fastggn.objective.jacobian import KhatriRaoJacobian

ROOT = Path(__file__).resolve().parent.parent
HOSTILE = [
    '<script src="http://evil.example/x.js"></script>',
    '"><img src=http://evil.example/p.png onerror=alert(1)>',
    "</style><style>@import url(http://evil.example/a.css)</style>",
    "' onload='alert(1)",
    "</title><link rel=stylesheet href=//evil.example/x>",
    "&lt;b&gt; &amp; &#x3c;",
    "<!-- <svg xmlns='http://www.w3.org/2000/svg'>",
    "a\x00b\x1b[31m\u202ec\ud800",
]


@pytest.fixture(scope="module")
def problem():
    X, Y = fg.data.four_regions(60)
    return fg.Problem(fg.MLP((2, 5, 1)), X, Y)


@pytest.fixture(scope="module")
def result(problem):
    return fg.train(problem, seed=0, max_iter=8)


@pytest.fixture(scope="module")
def read(problem, result, tmp_path_factory):
    """Return a page made with some arguments; those of one module are made once."""
    pages = {}

    def make(**arguments):
        key = repr(sorted(arguments))
        if key not in pages:
            path = tmp_path_factory.mktemp("report") / "report.html"
            fg.report(problem, arguments.pop("result", result), path, **arguments)
            pages[key] = Page(path.read_bytes())
        return pages[key]

    return make


@pytest.fixture
def quick(monkeypatch):
    """Leave the pictures undrawn: layout and rendering take most of a report's second."""
    tiny = "iVBORw0KGgo="
    monkeypatch.setattr("fastggn.apps.report.pictures.Picture.png", lambda picture: tiny)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        return CliRunner().invoke(main, [str(a) for a in arguments])

    return call


SMALL = ["--samples", "40", "--hidden", "4", "--max-iter", "5"]


# --- the page -----------------------------------------------------------------------------------


def test_the_page_is_valid_and_asks_for_nothing(read):
    found = read()
    assert found.faults == []
    assert found.doctype == "DOCTYPE html"
    assert found.all("html") == [{"lang": "en"}]
    assert found.all("meta")[0] == {"charset": "utf-8"}
    policy = next(m["content"] for m in found.all("meta") if "http-equiv" in m)
    assert "default-src 'none'" in policy
    assert len(found.all("title")) == len(found.all("h1")) == len(found.all("main")) == 1
    assert len(found.all("h2")) == 10
    assert "prefers-color-scheme: dark" in found.styles and "@media print" in found.styles


def test_the_reader_of_pages_finds_addresses():
    """The check itself can fail."""
    for markup in (
        '<img src="http://x/y.png" alt="">',
        '<img src="picture.png">',
        '<a href="https://x">x</a>',
        "<style>@import 'x'</style>",
        "<style>a{background:url(x)}</style>",
        '<p style="background:url(x)">x</p>',
        "<script>1</script>",
        '<svg xmlns="http://www.w3.org/2000/svg"></svg>',
        '<p onclick="x">y</p>',
        '<meta http-equiv="refresh" content="0;url=x">',
        "<p>",
        "<b><i></b></i>",
    ):
        assert Page(markup).faults, markup


def test_pictures_are_inside_with_words(read):
    pictures = read().all("img")
    assert len(pictures) == 4
    for picture in pictures:
        data = base64.b64decode(picture["src"].partition(",")[2], validate=True)
        assert data.startswith(b"\x89PNG\r\n\x1a\n")
        assert b"matplotlib" not in data and b"http" not in chunks_of_text(data)
        assert len(picture["alt"]) > 40


def chunks_of_text(png):
    """Return the text that a PNG carries beside the picture."""
    found, place = b"", 8
    while place < len(png):
        size, kind = int.from_bytes(png[place : place + 4], "big"), png[place + 4 : place + 8]
        assert zlib.crc32(png[place + 4 : place + 8 + size]) == int.from_bytes(
            png[place + 8 + size : place + 12 + size], "big"
        )
        if kind in (b"tEXt", b"iTXt", b"zTXt"):
            found += png[place + 8 : place + 8 + size]
        place += 12 + size
    return found


def test_the_numbers_stand_in_the_page(read, problem, result):
    text = read(command="fastggn train --seed 0", options={"method": "lm", "alpha": None}).text
    outputs = problem.outputs(result.theta)
    rms = np.sqrt(np.square(outputs - problem.targets).mean())
    rank = problem.jacobian(result.theta).rank()
    X, Y = fg.data.four_regions(60)
    for words in (
        f"{result.loss:.6e}",
        f"{result.initial_loss:.6e}",
        f"{result.gradient_norm:.3e}",
        f"{rms:.6g}",
        f"{rank} of at most 21",
        f"{result.status}: {result.message}",
        "F(2,5,1)",
        hashlib.sha256(X.tobytes()).hexdigest(),
        f"8 of {len(result.history)} iterations",
        f"{result.history[3].gradient_norm:.4g}",
        "fastggn train --seed 0",
        fg.__version__,
        np.__version__,
        "5 x 3",
    ):
        assert words in text, words
    assert "alpha" not in text


def described(problem, result, inputs, targets, source="arrays", **more):
    """Return the model of a run, with names for its columns."""
    columns = [tuple(Column(name, "number") for name in names) for names in (inputs, targets)]
    model = model_of(problem, result)
    run = {**model.training, "source": source}
    return replace(model, recipe=Recipe(*columns), training=run, **more)


def test_classes_scales_and_names_stand_in_the_page(quick, problem, result, tmp_path):
    model = described(
        problem, result, ("left (m)", "up (m)"), ("region",), "four_regions",
        input_scaler=Scaler.at([0.25, 0.5], [2.0, 4.0]),
    )  # fmt: skip
    facts = {"SHA-256 of the file": "abc"}
    fg.report(model, {"training": problem}, tmp_path / "r.html", facts=facts)
    found = Page((tmp_path / "r.html").read_bytes())
    assert found.faults == []
    outputs = problem.outputs(result.theta)
    right = np.mean(np.abs(outputs - [1, 2, 3, 4]).argmin(axis=1) + 1 == problem.targets[:, 0])
    assert f"{100 * right:.2f} % right" in found.text
    for words in ("left (m)", "region", "SHA-256 of the file", "abc", "0.25", "deviation 1"):
        assert words in found.text
    assert "Confusion matrix of 4 classes" in found.all("img")[1]["alt"]
    assert "circles of radius 1, 2 and 3" in found.all("img")[2]["alt"]


def test_a_model_and_its_table_split_as_in_the_training(tmp_path):
    rng = np.random.default_rng(0)
    size = rng.uniform(30, 200, 90)
    table = {"size": size, "age": rng.uniform(0, 50, 90), "price": 1e3 * size}
    model, result = fg.fit(table, target="price", hidden=(3,), seed=0, test=0.2, max_iter=5)
    fg.report(model, table, tmp_path / "r.html")
    found = Page((tmp_path / "r.html").read_bytes())
    parts = model.parts(fg.read_table(table, "price"))
    assert found.faults == [] and list(parts) == ["training", "held-out", "test"]
    for name, part in parts.items():
        metrics = model.evaluate(part).targets[0]
        for words in (f"price{name}{part.n_rows}{metrics['rms']:.6g}{metrics['r2']:.6f}",
                      f"{name} samples{part.n_rows}"):  # fmt: skip
            assert words in found.text
    assert f"{result.loss:.6e}" in found.text and result.message in found.text
    residuals = make_pictures(model, table)[1].figure
    titles = [ax.get_title() for ax in residuals.axes]
    assert [title.split(":")[0] for title in titles[:3]] == list(parts)
    for title, part in zip(titles, parts.values(), strict=False):
        assert f"R\N{SUPERSCRIPT TWO} {model.evaluate(part).targets[0]['r2']:.4f}" in title


def test_a_model_without_a_run(quick, tmp_path):
    X, Y = fg.data.sine(30)
    net = fg.MLP((1, 3, 1))
    model = fg.Model.of(net, net.init(seed=0))
    fg.report(model, (X, Y), tmp_path / "r.html")
    found = Page((tmp_path / "r.html").read_bytes())
    assert found.faults == [] and "Not drawn: the run recorded no iteration" in found.text


def test_held_out_samples(quick, read, tmp_path):
    X, Y = fg.data.four_regions(60)
    net = fg.MLP((2, 6, 1))
    problem, held_out = fg.Problem(net, X[:40], Y[:40]), fg.Problem(net, X[40:], Y[40:])
    result = fg.train(
        problem, seed=0, max_iter=10, held_out=fg.HeldOut(X[40:], Y[40:], patience=None)
    )
    fg.report(problem, result, tmp_path / "r.html", held_out=held_out)
    found = Page((tmp_path / "r.html").read_bytes())
    rms = np.sqrt(np.square(net.predict(result.theta, X[40:]) - Y[40:]).mean())
    for words in (
        f"{result.best_validation_loss:.6e}, after iteration {result.best_iter}",
        f"y0held-out20{rms:.6g}",
        f"{result.history[0].validation_loss:.4g}",
        f"found after iteration {result.best_iter}.",
        "held-out samples20",
    ):
        assert words in found.text
    assert "validation" not in read().text and "held-out" not in read().text


def test_held_out_samples_of_the_command_line(quick, run):
    result = run("train", *SMALL, "--held-out", 0.25, "--report", "r.html")
    assert result.exit_code == 0, result.output
    text = Page(Path("r.html").read_bytes()).text
    (share,) = re.findall(r"accuracy +([\d.]+) % of 10 held-out samples", result.stdout)
    assert re.search(rf"held-out10\d+{share} %", text)


@pytest.mark.parametrize("status", ["interrupted", "max_time"])
def test_an_unfinished_run_says_so(quick, problem, result, tmp_path, status):
    unfinished = replace(result, status=status, message="stopped by SIGTERM")
    fg.report(problem, unfinished, tmp_path / "r.html")
    assert "not finished: stopped by SIGTERM" in Page((tmp_path / "r.html").read_bytes()).text


def test_a_run_without_iterations(quick, problem, tmp_path):
    result = fg.train(problem, seed=0, max_iter=0)
    fg.report(problem, result, tmp_path / "r.html")
    found = Page((tmp_path / "r.html").read_bytes())
    assert found.faults == [] and len(found.all("img")) == 3
    assert "Not drawn: the run recorded no iteration" in found.text


def test_what_is_too_dear_is_named(quick, problem, result, tmp_path, monkeypatch):
    monkeypatch.setattr("fastggn.apps.report.findings.MOST_OPERATIONS", 1e3)
    monkeypatch.setattr("fastggn.apps.report.findings.MOST_HASHED", 100)
    monkeypatch.setattr("fastggn.apps.report.findings.MOST_SAMPLES", 20)
    fg.report(problem, result, tmp_path / "r.html")
    found = Page((tmp_path / "r.html").read_bytes())
    assert "Not computed: the QR factorisation of 60 x 21 numbers" in found.text
    assert "SHA-256" in found.text and "GiB" in found.text
    assert "Drawn from 20 of 60 samples of training" in found.text
    assert len(found.all("img")) == 3


@pytest.mark.parametrize("loss", ["logistic", "softmax_cross_entropy"])
def test_label_losses(quick, tmp_path, loss):
    X, Y = fg.data.xor()
    binary = loss == "logistic"
    problem = fg.Problem(
        fg.MLP((2, 3, 1 if binary else 2)), X, Y if binary else Y[:, 0].astype(int), loss
    )
    result = fg.train(problem, seed=1, max_iter=3)
    fg.report(problem, result, tmp_path / "r.html")
    found = Page((tmp_path / "r.html").read_bytes())
    assert found.faults == [] and len(found.all("img")) == 4
    given = problem.outputs(result.theta)
    given = given[:, 0] > 0 if binary else given.argmax(axis=1)
    assert f"{100 * np.mean(given == Y[:, 0]):.2f} % right" in found.text


def test_many_outputs_and_inputs(tmp_path, monkeypatch):
    monkeypatch.setattr("fastggn.figures.residuals.MOST_OUTPUTS", 2)  # six take seconds
    rng = np.random.default_rng(0)
    problem = fg.Problem(fg.MLP((20, 2, 15)), rng.normal(size=(30, 20)), rng.normal(size=(30, 15)))
    result = fg.train(problem, seed=0, max_iter=2)
    fg.report(problem, result, tmp_path / "r.html")
    found = Page((tmp_path / "r.html").read_bytes())
    assert found.faults == [] and "the first 12 of 15" in found.text
    assert "x11 and 8 more" in found.text
    residuals = problem.outputs(result.theta) - problem.targets
    assert f"y0training30{np.sqrt(np.mean(residuals[:, 0] ** 2)):.6g}" in found.text
    assert "Not drawn: the network has 20 inputs" in found.text


def test_samples_in_a_file_are_read_in_parts(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(5000, 3)), rng.normal(size=(5000, 1))
    np.save(tmp_path / "X.npy", X)
    monkeypatch.setattr("fastggn.apps.report.findings.MOST_SAMPLES", 900)
    problem = fg.Problem(fg.MLP((3, 2, 1)), fg.data.open_npy(tmp_path / "X.npy"), Y)
    theta = problem.network.init(seed=0)
    found = findings(problem, fg.Model.of(problem.network, theta))
    assert np.array_equal(found.inputs, X[::6]) and np.array_equal(found.targets, Y[::6])
    np.testing.assert_allclose(found.outputs, problem.network.predict(theta, X[::6]))


@pytest.mark.parametrize("kind", ["far from zero", "classes"])
def test_errors_of_many_blocks(monkeypatch, kind):
    """The sums of the blocks are those of all samples; 7 of them leave the last one short."""
    monkeypatch.setattr("fastggn.network.workspace._BLOCK_BYTES", 30_000)
    monkeypatch.setattr("fastggn.apps.report.findings.MOST_SAMPLES", 400)
    rng = np.random.default_rng(3)
    X, loss = rng.normal(size=(1001, 3)), "squared"
    if kind == "classes":
        Y, loss = rng.integers(0, 2, 1001), "softmax_cross_entropy"
    else:
        Y = rng.normal(size=(1001, 2)) * [1.0, 1e-3] + np.arange(1001)[:, None] + [0.0, 1e6]
    problem = fg.Problem(fg.MLP((3, 2, 2)), X, Y, loss=loss)
    theta = problem.network.init(seed=0)
    assert len(list(problem.at(theta).rows.blocks())) > 3
    classes = range(2) if kind == "classes" else None
    model = fg.Model.of(problem.network, theta, problem.loss_function, classes)
    found, F = findings(problem, model), problem.network.predict(theta, X)
    if kind == "classes":
        assert found.n_right == np.count_nonzero(F.argmax(axis=1) == Y)
        Y = np.eye(2)[Y]
    np.testing.assert_array_equal(found.targets, Y[::3])
    np.testing.assert_allclose(found.outputs, F[::3], rtol=1e-12)
    squares = np.square(F - Y).mean(axis=0)
    np.testing.assert_allclose(found.rms, np.sqrt(squares), rtol=1e-12)
    np.testing.assert_allclose(found.r2, 1.0 - squares / Y.var(axis=0), rtol=1e-9)


# --- strings of users ---------------------------------------------------------------------------


def test_hostile_text_everywhere(quick, problem, result, tmp_path):
    model = described(
        problem,
        replace(result, message=HOSTILE[6], status="interrupted", solver=HOSTILE[1]),
        (HOSTILE[1], HOSTILE[2]),
        (HOSTILE[4],),
        HOSTILE[0],
        target_scaler=Scaler.at([0.0], [1.0]),
    )
    fg.report(
        model,
        {"training": problem, HOSTILE[7]: problem},
        tmp_path / "r.html",
        title=HOSTILE[4],
        options={HOSTILE[0]: HOSTILE[1], "many": (HOSTILE[2], HOSTILE[7])},
        command=HOSTILE[2],
        facts={HOSTILE[3]: HOSTILE[5]},
    )
    found = Page((tmp_path / "r.html").read_bytes())
    assert found.faults == []
    for evil in HOSTILE:
        shown = re.sub("[\x00\x1b\u202e\ud800]", "\N{REPLACEMENT CHARACTER}", evil)
        assert shown in found.text, evil
    assert any(HOSTILE[1] in picture["alt"] for picture in found.all("img"))


def test_a_hostile_table_from_the_command_line(run):
    name = 'a"><img src=x onerror=alert(1)>&.csv'
    rng = np.random.default_rng(0)
    rows = "\n".join(",".join(map(str, row)) for row in rng.normal(size=(20, 3)))
    # Broken mathematics for matplotlib, too.
    Path(name).write_text("\n".join(["<script>alert(1)</script>,$\\frac{,y&lt;", rows]))
    result = run("train", name, "--hidden", 2, "--max-iter", 2, "--report", "r.html")
    assert result.exit_code == 0, result.output
    found = Page(Path("r.html").read_bytes())
    assert found.faults == []
    assert name in found.text and "<script>alert(1)</script>" in found.text
    assert "$\\frac{" in found.text and "y&lt;" in found.text
    assert hashlib.sha256(Path(name).read_bytes()).hexdigest() in found.text


# --- files --------------------------------------------------------------------------------------


def test_the_report_replaces_a_file_in_one_step(quick, problem, result, tmp_path, monkeypatch):
    path = tmp_path / "r.html"
    path.write_text("old")

    def broken(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", broken)
        with pytest.raises(OSError, match="No space"):
            fg.report(problem, result, path)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["r.html"]
    fg.report(problem, result, path)
    assert path.read_bytes().startswith(b"<!DOCTYPE html>")
    assert os.listdir(tmp_path) == ["r.html"]


def test_a_path_that_cannot_be_written_is_refused_first(problem, result, tmp_path, monkeypatch):
    monkeypatch.setattr("fastggn.apps.report.writing.findings", lambda *a: pytest.fail("too late"))
    with pytest.raises(OSError, match="folder does not exist"):
        fg.report(problem, result, tmp_path / "none" / "r.html")
    with pytest.raises(ValueError, match="it is a folder"):
        fg.report(problem, result, tmp_path)


def test_pictures_by_themselves(problem, result):
    pictures = make_pictures(problem, result)
    assert [p.name for p in pictures] == ["curve", "residuals", "regions", "spectrum"]
    values = problem.jacobian(result.theta).singular_values()
    counted = pictures[3].figure.axes[0].get_lines()[0]
    np.testing.assert_allclose(counted.get_ydata(), values[values > 1e-10])


# --- the command line ---------------------------------------------------------------------------


def test_train_writes_the_report(run, monkeypatch):
    calls = []
    values = KhatriRaoJacobian.singular_values
    monkeypatch.setattr(
        KhatriRaoJacobian, "singular_values", lambda J: calls.append(J) or values(J)
    )
    result = run("train", *SMALL, "--seed", 3, "--report", "r.html", "--plot-dir", "pictures/of")
    assert result.exit_code == 0, result.output
    assert len(calls) == 1  # for summary, page and pictures together
    assert re.search(r"^report +r\.html", result.stdout, re.MULTILINE)
    found = Page(Path("r.html").read_bytes())
    assert found.faults == [] and len(found.all("img")) == 4
    training = fg.Model.load("model.npz").training
    assert f"{training['loss']:.6e}" in found.text
    command = ("fastggn train --samples 40 --hidden 4 --seed 3 --max-iter 5 --report r.html "
               "--plot-dir pictures/of")  # fmt: skip
    assert command in found.text
    assert sorted(os.listdir("pictures/of")) == [
        "curve.png", "regions.png", "residuals.png", "spectrum.png"
    ]  # fmt: skip


def test_the_command_in_the_report_repeats_the_run(quick, run):
    Path("a b.toml").write_text(
        'hidden = [3, 2]\nmax-iter = 4\none-hot = true\nactivation = "relu"\n'
    )
    result = run("train", "--config", "a b.toml", "--samples", 30, "--seed", 2, "-q",
                 "--report", "it's.html")  # fmt: skip
    assert result.exit_code == 0, result.output
    text = Page(Path("it's.html").read_bytes()).text
    (command,) = re.findall("^fastggn train .*$", text, re.MULTILINE)
    assert "--config" not in command and "--one-hot" in command
    first = fg.Model.load("model.npz")
    Path("a b.toml").unlink()
    import shlex

    assert run(*shlex.split(command)[1:], "--out", "again.npz").exit_code == 0
    again = fg.Model.load("again.npz")
    assert again.theta.tobytes() == first.theta.tobytes()
    assert again.network.widths == (2, 3, 2, 4)


def test_a_data_name_that_looks_like_an_option(quick, run):
    Path("-x.csv").write_text("1,2\n2,3\n4,1\n")
    result = run("train", "--hidden", "none", "--max-iter", 1, "--report", "r.html", "--", "-x.csv")
    assert result.exit_code == 0, result.output
    text = Page(Path("r.html").read_bytes()).text
    assert "fastggn train --hidden none --max-iter 1 --report r.html -- -x.csv" in text


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--report", "none/r.html"], "folder does not exist"),
        (["--report", "."], "folder"),
        (["--report", "model.npz"], "--report model.npz and --out model.npz are the same file"),
        (["--report", "h", "--history", "./h"], "--report h and --history ./h are the same file"),
        (["--plot-dir", "file"], "file"),
    ],
)
def test_bad_paths_are_refused_before_training(run, arguments, words):
    Path("file").write_text("x")
    result = run("train", *SMALL, *arguments)
    assert result.exit_code == 2 and words in result.stderr and "iteration" not in result.stderr
    assert not Path("model.npz").exists()


def test_without_matplotlib_nothing_is_trained(run, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = run("train", *SMALL, "--report", "r.html")
    assert result.exit_code == 2 and "fastggn[plot]" in result.stderr
    assert not Path("model.npz").exists()


def test_without_jinja2_the_error_names_the_extra(problem, result, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.setattr("fastggn.apps.report.writing.findings", lambda *a: pytest.fail("too late"))
    with pytest.raises(ImportError, match=r"jinja2.*fastggn\[plot\]"):
        fg.report(problem, result, tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_a_report_that_fails_after_all_leaves_the_model(quick, run, monkeypatch):
    def broken(*arguments):
        raise OSError(28, "No space left on device", "r.html")

    monkeypatch.setattr("fastggn.apps.report.writing.write_atomically", broken)
    result = run("train", *SMALL, "--report", "r.html")
    assert result.exit_code == 1
    assert "No space left" in result.stderr and "the model is in model.npz" in result.stderr
    assert Path("model.npz").exists() and "status" in result.stdout


def test_a_resumed_run_reports_all_of_it(quick, run):
    arguments = ["train", "--samples", 40, "--hidden", 4, "--checkpoint", "c", "--report", "r.html"]
    assert run(*arguments, "--max-iter", 3).exit_code == 0
    result = run(*arguments, "--max-iter", 6, "--resume")
    assert result.exit_code == 0, result.output
    text = Page(Path("r.html").read_bytes()).text
    assert "6 of 6 iterations" in text and "--resume" not in text.partition("To repeat it")[2]


def test_several_starts_report_the_best(quick, run):
    result = run("train", *SMALL, "--starts", 3, "--report", "r.html")
    assert result.exit_code == 0, result.output
    found = Page(Path("r.html").read_bytes())
    assert "the best of 3 starts" in found.text and len(found.all("img")) == 4


@pytest.mark.process
def test_a_run_that_is_stopped_has_a_report(tmp_path):
    command = [sys.executable, "-m", "fastggn", "train", "--max-iter", "100000", "--grad-tol", "0",
               "--step-tol", "0", "--method", "bp", "--alpha", "1e-4", "--history", "h",
               "--report", "r.html", "--quiet"]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment)
    try:
        for _ in range(int(10 * HANGS)):
            if (tmp_path / "h").exists() and (tmp_path / "h").stat().st_size > 2000:
                break
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(HANGS) == 3
    finally:
        process.kill()
        process.wait()
    found = Page((tmp_path / "r.html").read_bytes())
    assert found.faults == [] and len(found.all("img")) == 4
    assert "not finished: stopped by SIGTERM" in found.text


@pytest.mark.process
@needs_mpi
def test_ranks_write_one_report(tmp_path):
    options = ("--samples", 40, "--hidden", 4, "--max-iter", 5, "--threads", 1)
    files = ("--report", tmp_path / "r.html", "--out", tmp_path / "m.npz")
    done, _ = launch(2, "train", "--mpi", *options, *files, module=True)
    assert done.returncode == 0, done.stderr
    found = Page((tmp_path / "r.html").read_bytes())
    assert found.faults == [] and len(found.all("img")) == 4
    assert "mpiexec -n 2 fastggn train" in found.text and "40" in found.text
    X, Y = fg.data.four_regions(40)
    outputs = fg.Model.load(tmp_path / "m.npz").outputs(X)
    right = np.mean(np.abs(outputs - [1, 2, 3, 4]).argmin(axis=1) + 1 == Y[:, 0])
    assert f"{100 * right:.2f} % right" in found.text


def test_a_second_signal_cuts_the_report_short(run, monkeypatch):
    def interrupted(*arguments, **keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr("fastggn.apps.report.writing.report", interrupted)
    result = run("train", *SMALL, "--report", "r.html")
    assert result.exit_code == 0 and Path("model.npz").exists()
    assert "interrupted: the report is not written" in result.stderr
    assert not Path("r.html").exists()


# --- odd problems -------------------------------------------------------------------------------


def odd(name):
    """Return a problem, and where to start or None."""
    rng = np.random.default_rng(0)
    X, y = rng.uniform(size=(9, 2)), rng.uniform(size=9)
    net = fg.MLP((2, 3, 1))
    if name == "one sample":
        return fg.Problem(net, X[:1], y[:1]), None
    if name == "zero weights":
        return fg.Problem(net, X, 0.0 * y), np.zeros(net.n_params)
    if name == "zero Jacobian":
        return fg.Problem(fg.MLP((1, 1), bias="none"), np.zeros((3, 1)), y[:3]), None
    if name == "huge numbers":
        return fg.Problem(net, 1e150 * X, 1e150 * y), None
    if name == "one class of three":
        return fg.Problem(fg.MLP((2, 3)), X, np.zeros(9, int), "softmax_cross_entropy"), None
    if name == "several logits":
        Y = rng.integers(0, 2, size=(9, 2))
        return fg.Problem(fg.MLP((2, 3, 2)), X, Y, "logistic"), None
    gates = [rng.integers(0, 2, size=(9, 3))]
    return fg.Problem(net, X, y, gates=gates), None


@pytest.mark.parametrize(
    "name",
    ["one sample", "huge numbers", "one class of three",
     *(pytest.param(name, marks=pytest.mark.slow)
       for name in ("zero weights", "zero Jacobian", "several logits", "gates"))],
)  # fmt: skip
# An older matplotlib calls a newer pyparsing by names of before.
@pytest.mark.filterwarnings("ignore::DeprecationWarning:matplotlib|pyparsing")
@pytest.mark.filterwarnings("ignore::fastggn.runtime.errors.DivergenceWarning")  # one class
@pytest.mark.filterwarnings("error")
def test_odd_problems(name, tmp_path):
    problem, theta = odd(name)
    result = fg.train(problem, theta, seed=0, max_iter=1, method=fg.GradientDescent(rate=1e-300))
    fg.report(problem, result, tmp_path / "r.html")
    assert Page((tmp_path / "r.html").read_bytes()).faults == []


@pytest.mark.process
def test_the_browser_job_says_where_there_is_no_browser(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / ".ci" / "browser-report")],
        env={**os.environ, "PATH": str(tmp_path)}, capture_output=True, text=True, timeout=HANGS,
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout == "Chromium is not installed: skipped\n"
