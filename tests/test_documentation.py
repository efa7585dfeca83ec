"""What README, the pages and the docstrings show is run."""

import contextlib
import doctest
import importlib
import io
import pkgutil
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from optional import absent

import fastggn as fg
from fastggn.cli import main

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MODULES = [
    m.name for m in pkgutil.walk_packages(fg.__path__, "fastggn.") if "__main__" not in m.name
]


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def write_tables():
    rng = np.random.default_rng(0)
    rows = rng.uniform(size=(30, 3)).round(3)
    kinds = np.arange(30) % 3
    Path("houses.csv").write_text(
        "area,age,price\n" + "\n".join(",".join(map(str, row)) for row in rows)
    )
    Path("flowers.csv").write_text(
        "a,b,kind\n" + "\n".join(f"{a},{b},{k}" for (a, b, _), k in zip(rows, kinds, strict=True))
    )
    np.savez("arrays.npz", X=rows[:, :2], Y=rows[:, 2])
    Path("run.toml").write_text('data = "houses.csv"\n')


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_on_the_pages_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net = fg.MLP((2, 3, 1))
    X, Y = fg.data.four_regions(20)
    names = {"np": np, "fg": fg, "net": net, "X": X, "Y": Y, "theta": net.init(seed=0)}
    for number, code in enumerate(blocks(page, "python")):
        if absent(code):
            continue
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(code, f"{page.name}[{number}]", "exec"), names)


@pytest.mark.parametrize("page", [*PAGES, None], ids=lambda page: page.name if page else "--help")
def test_commands_on_the_pages_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_tables()
    texts = blocks(page, "bash") if page else [CliRunner().invoke(main, ["train", "--help"]).output]
    for line in "".join(texts).splitlines():
        command = re.split(r"\s{3,}", line.strip().removeprefix(".venv/bin/"))[0]
        if command.startswith("fastggn ") and not absent(command):
            arguments = shlex.split(command)[1:]
            if arguments[0] == "train":
                arguments += ["--max-iter", "2"]
            result = CliRunner().invoke(main, arguments)
            assert result.exit_code == 0, f"{command}: {result.output}"


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    outcome = doctest.testmod(
        importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE
    )
    assert outcome.failed == 0


def test_readme_has_two_setup_commands():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^python3 -m venv.*$", text, re.MULTILINE)
    assert len(commands) == 2
    assert commands[0].endswith("fastggn train") and commands[1].endswith("-m pytest")


def test_the_changelog_names_the_version():
    assert f"## [{fg.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
