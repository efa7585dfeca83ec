"""Every command that README, the pages and --help show is run, or parsed where it cannot be."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from documented import (
    ELSEWHERE,
    FOLLOWED,
    NOT_RUN,
    PAGES,
    ROOT,
    commands,
    each_page,
    fenced,
    inline_commands,
    parsed,
    shell_commands,
    unknown_options,
    write_files,
)
from optional import absent

import fastggn as fg
from fastggn.apps.cli import main

OURS = {page: [c for c in commands(page.read_text("utf-8")) if c.is_ours] for page in PAGES}
HELP = CliRunner().invoke(main, ["train", "--help"]).output
EXAMPLES = [
    c
    for line in HELP.splitlines()
    if re.match(r" {4}(fastggn|mpiexec) ", line)
    for c in shell_commands(line.strip().split("   ")[0])
]


def page_name(page):
    return str(page.relative_to(ROOT)) if isinstance(page, Path) else "--help"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the files that the pages name."""
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path)
    fg.Model.of(fg.MLP((2, 3, 1)), fg.MLP((2, 3, 1)).init(seed=0)).save("model.npz")
    return tmp_path


def run(command):
    """Run a command of fastggn in this process, with few iterations."""
    arguments = list(command.words[1:])
    if arguments[0] == "train":
        arguments += ["--max-iter", "2"]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, f"{command}: {result.output}"


@each_page([p for p in PAGES if OURS[p] and p not in FOLLOWED] + [None], page_name)
@pytest.mark.slow
def test_commands_run(page, folder):
    for command in OURS[page] if page else EXAMPLES:
        if absent(str(command)):  # torch is no part of the extra `test`
            continue
        if command.reason is None:
            run(command)
        else:
            parsed(main, command.words[1:])


@pytest.mark.parametrize(
    "page", [*PAGES, *sorted((ROOT / "docs" / "tutorials").glob("*.py"))], ids=page_name
)
def test_commands_in_running_text_exist(page):
    for words in inline_commands(page.read_text("utf-8")):
        assert unknown_options(main, words) == [], words


def test_unknown_options_are_seen():
    (words,) = inline_commands("Say `fastggn train x.csv\n--hiden 3 --seed 1`, or ```x```.")
    assert unknown_options(main, words) == ["--hiden"]
    assert unknown_options(main, ["trian"]) == ["the command trian"]


def test_commands_of_other_programs_are_accounted_for():
    others = [c for page in PAGES for c in commands(page.read_text("utf-8")) if not c.is_ours]
    assert others
    for command in others:
        known = [first for first in ELSEWHERE if str(command).startswith(first)]
        assert known, f"nothing says where this is tried: {command}"


def test_every_reason_is_needed():
    named = {
        name
        for command in [c for found in OURS.values() for c in found] + EXAMPLES
        for name in ((*command.launcher, command.words[1]))
    }
    assert set(NOT_RUN) <= named


def test_blocks_and_commands_are_found():
    text = """
```bash
python3 -m venv .venv && .venv/bin/fastggn train
NUMBA_CACHE_DIR=/x fastggn train a.csv --out b.npz \\
    --seed $((3 * I))   # a remark
srun --ntasks=2 \\
    fastggn train "run-$I.npz" &
```
```text
fastggn: error: no such file
```
```python
fastggn train
```
    """
    assert [language for language, _ in fenced(text)] == ["bash", "text", "python"]
    found = [(c.launcher, c.words) for c in commands(text) if c.is_ours]
    assert found == [
        ((), ("fastggn", "train")),
        ((), ("fastggn", "train", "a.csv", "--out", "b.npz", "--seed", "0")),
        (("srun", "--ntasks=2"), ("fastggn", "train", "run-0.npz")),
    ]


@pytest.mark.parametrize("wrong", (["train", "--hiden", "2"], ["trian"], ["train", "--seed", "x"]))
def test_parsing_refuses_what_the_command_refuses(wrong, folder):
    import click

    with pytest.raises(click.UsageError):
        parsed(main, wrong)
