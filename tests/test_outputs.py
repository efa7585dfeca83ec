"""No command replaces what it reads, a file that fastggn did not write, or its other output."""

import json
import os

import click
import numpy as np
import pytest
from click.testing import CliRunner

import fastggn as fg
from fastggn.apps.cli import main
from fastggn.apps.cli.files import InputFile, OutputFile
from fastggn.apps.outputs import PICTURES, Output, check_outputs, write_report

# A value of each option that a command asks for.
ASKED = {"--kind": "curve", "--widths": "2,3,1", "--samples": "5", "--hidden": "1"}
# What the text of other options is: a file needs one of the two types.
NO_FILES = {"NAME", "NAMES", "KIND", "SCHEME", "HOW", "SET", "MARK", "COLUMN", "COLUMNS", "M"}


def commands(group=main, path=()):
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


def files_of(command, kind):
    return [p for p in command.params if type(p.type) is kind]


def word(param):
    return max(param.opts, key=len) if isinstance(param, click.Option) else None


def command_line(path, command, values):
    """Return words that call a command; the parameters in `values` get these values."""
    options, arguments = [], []
    for param in command.params:
        value = values.get(param)
        if value is None and param.required:
            value = ASKED.get(word(param), "absent")
        if value is None:
            continue
        if isinstance(param, click.Option):
            options += [word(param), str(value)]
        else:
            arguments.append(str(value))
    return [*path, *options, *arguments]


def run(words):
    return CliRunner().invoke(main, words)


def pairs(first, second):
    return [
        pytest.param(path, command, one, other, id=f"{'-'.join(path)}: {one.name}, {other.name}")
        for path, command in commands()
        for one in files_of(command, first)
        for other in files_of(command, second)
        if first is not second or one.name < other.name
    ]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("way", ["same", "symbolic", "hard", "spelling"])
@pytest.mark.parametrize(("path", "command", "taken", "given"), pairs(InputFile, OutputFile))
def test_no_output_is_an_input(folder, path, command, taken, given, way):
    if given.type.kind == "folder":
        read = folder / "plots" / "curve.png"
        read.parent.mkdir()
        out = {"same": "plots", "symbolic": "link", "hard": "other", "spelling": "./plots/"}[way]
        if way == "symbolic":
            os.symlink("plots", "link")
        if way == "hard":
            (folder / "other").mkdir()
    else:
        read = folder / "read.npz"
        links = {"symbolic": "link.png", "hard": "hard.png"}
        out = {"same": "read.npz", "spelling": "./../", **links}[way]
        out += f"{folder.name}/read.npz" if way == "spelling" else ""
    # An empty TOML file is a whole one.
    content = b"" if word(taken) == "--config" else b"1,2\n3,4\n"
    read.write_bytes(content)
    if given.type.kind != "folder" and way in ("symbolic", "hard"):
        (os.symlink if way == "symbolic" else os.link)(read, out)
    if given.type.kind == "folder" and way == "hard":
        os.link(read, folder / "other" / "curve.png")
    result = run(command_line(path, command, {taken: read, given: out}))
    assert result.exit_code == 2, result.output
    assert str(out) in result.stderr and str(read) in result.stderr
    assert read.read_bytes() == content and len(list(folder.rglob("*.tmp"))) == 0


@pytest.mark.parametrize(("path", "command", "one", "other"), pairs(OutputFile, OutputFile))
def test_two_outputs_are_two_files(folder, path, command, one, other):
    values = {one: "shared.png", other: "./shared.png"}
    if "folder" in (one.type.kind, other.type.kind):
        single, both = (other, one) if one.type.kind == "folder" else (one, other)
        values = {both: "plots", single: "plots/curve.png"}
    result = run(command_line(path, command, values))
    assert result.exit_code == 2 and "are the same file" in result.stderr, result.output
    assert all(str(value) in result.stderr for value in values.values())
    assert not any(path.is_file() for path in folder.rglob("*"))


@pytest.mark.parametrize(
    ("path", "command", "given"),
    [
        pytest.param(path, command, param, id=f"{'-'.join(path)}: {param.name}")
        for path, command in commands()
        for param in files_of(command, OutputFile)
    ],
)
def test_a_foreign_file_stays(folder, path, command, given):
    target = folder / "notes.txt"
    if given.type.kind == "folder":
        target = folder / "plots" / "spectrum.png"
        target.parent.mkdir()
    target.write_text("mine")
    value = target.parent if given.type.kind == "folder" else target
    words = command_line(path, command, {given: value})
    result = run(words)
    assert result.exit_code == 2 and str(target) in result.stderr, result.output
    assert "--force" in result.stderr and target.read_text() == "mine"
    # With --force the next complaint is about something else: "absent" does not exist.
    if "absent" in words:
        assert "would replace" not in run([*words, "--force"]).stderr


def test_every_option_says_whether_it_is_a_file():
    for path, command in commands():
        for param in command.params:
            if type(param.type) in (InputFile, OutputFile) or param.metavar in NO_FILES:
                continue
            assert param.type is not click.STRING, f"{path}: {param.name} ({param.metavar})"
        if files_of(command, OutputFile):
            assert any(param.name == "force" for param in command.params), path


def taken(kind, path, force=False):
    check_outputs({}, [Output("--out", str(path), kind)], force)


@pytest.fixture(scope="module")
def model():
    net = fg.MLP((2, 2, 1))
    return fg.Model.of(net, net.init(seed=0))


def test_each_kind_replaces_its_own_and_no_other(tmp_path, model):
    written = {"report": tmp_path / "a", "model": tmp_path / "b", "export": tmp_path / "c.csv"}
    write_report(str(written["report"]), {"rank": 3})
    model.save(written["model"])
    model.export(written["export"])
    for kind, path in written.items():
        taken(kind, path)
        for other in {*written, "checkpoint", "history", "page", "picture", "table"} - {kind}:
            words = "does not tell who" if other == "table" else "would replace a file that is no"
            with pytest.raises(ValueError, match=words):
                taken(other, path)
            taken(other, path, force=True)
    assert json.loads(written["report"].read_text())["rank"] == 3


@pytest.mark.parametrize("suffix", [".npz", ".onnx", ".pt"])
def test_exports_carry_a_mark(tmp_path, model, suffix):
    pytest.importorskip({".onnx": "onnx", ".pt": "torch"}.get(suffix, "numpy"))
    path = tmp_path / f"model{suffix}"
    model.export(path)
    taken("export", path)
    if suffix == ".npz":
        with np.load(path) as arrays:
            assert arrays["W_1"].shape == (2, 2)


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_pictures_carry_a_mark(tmp_path, suffix):
    pytest.importorskip("matplotlib")
    from fastggn.figures.style import new_figure, save

    figure, _ = new_figure()
    save(figure, tmp_path / f"a{suffix}")
    taken("picture", tmp_path / f"a{suffix}")
    figure.savefig(tmp_path / f"b{suffix}")
    with pytest.raises(ValueError, match="no picture"):
        taken("picture", tmp_path / f"b{suffix}")


def test_companions_of_a_checkpoint_belong_to_it(folder):
    for name in (
        "run.ckpt.previous",
        "run.ckpt.seed7",
        ".run.ckpt.fastggn-lock",
        "run.ckpt.seed7.previous",
    ):
        other = Output("--out", name, "model")
        with pytest.raises(ValueError, match="same file"):
            check_outputs({}, [other, Output("--checkpoint", "run.ckpt", "checkpoint")], force=True)
        (folder / name).write_text("mine")
        with pytest.raises(ValueError, match=name):
            taken("checkpoint", "run.ckpt")
        os.link(folder / name, "elsewhere")
        with pytest.raises(ValueError, match="elsewhere"):
            checkpoint = Output("--checkpoint", "run.ckpt", "checkpoint")
            check_outputs({"DATA": "elsewhere"}, [checkpoint])
        os.unlink("elsewhere")
        os.unlink(name)
    taken("checkpoint", "run.ckpt")


def test_every_fault_is_in_one_message(folder):
    (folder / "x.csv").write_text("1,2\n")
    (folder / "y.html").write_text("<p>mine")
    words = ["train", "x.csv", "--out", "x.csv", "--report", "y.html", "--history", "y.html"]
    error = run(words).stderr
    assert error.count("x.csv") >= 2 and "no HTML page" in error and "the same file" in error


@pytest.mark.slow
def test_a_run_repeats_over_its_own_files(folder):
    pytest.importorskip("matplotlib")
    words = ["train", "--max-iter", "2", "--samples", "20", "--hidden", "2", "--report", "r.html",
             "--plot-dir", "p", "--history", "h.jsonl", "--checkpoint", "c", "-q"]  # fmt: skip
    for _ in range(2):
        result = run(words)
        assert result.exit_code == 0, result.output
    drawn = {path.stem for path in (folder / "p").iterdir()}
    assert drawn and drawn <= set(PICTURES)
