"""The command lines that README and the pages of docs/ show, and how they are tried."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import pytest
from scipy.io import savemat

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("", "how-to", "experiments", "hpc", "decisions")
PAGES = [
    ROOT / "README.md",
    *(page for folder in FOLDERS for page in sorted((ROOT / "docs" / folder).glob("*.md"))),
]
# A newcomer's way: tests/test_newcomer.py runs all their commands, with their own iterations.
FOLLOWED = (ROOT / "README.md", ROOT / "docs" / "how-to" / "train-on-a-csv.md")
# Pages of many pictures, in the tier slow.
PICTURES = (ROOT / "docs" / "plots.md", ROOT / "docs" / "how-to" / "plot.md")
SHELL = {"", "bash", "sh", "console", "text"}

# All other commands of fastggn are run, the training ones with two iterations. These are not: their
# options are parsed by the command itself, in a folder where the files that they name exist.
NOT_RUN = {
    "srun": "needs a SLURM cluster; tests/test_jobs.py runs the same lines without srun",
    "mpiexec": "several ranks: tests/test_mpi.py starts real ones",
    "warmup": "compiles in a process of its own: tests/test_kernel_cache.py runs it",
}

# Commands of other programs, by their first words.
ELSEWHERE = {
    "python3 -m venv": "README's two set-up commands, run by .ci/run",
    "python -m pip": "set-up, done by .ci/run",
    "python -m sphinx": "run by .ci/run",
    "python -m papers": "up to a minute each: tests/test_reproduce.py parses these lines and runs "
    "the quick version of all",
    "python -m bench": "ten minutes; .ci/run runs the smoke size of all rows",
    "python -m bench.mpi": "minutes; tests/test_mpi.py covers what it calls",
    "python -m pytest": "run by .ci/run",
    "export": "sets a variable in a job",
    "cp": "copies a folder of compiled kernels to a node",
}


def write_files(folder, n=600):
    """Write the files that the pages name; return the rows (area, age, price) of houses.csv."""
    rng = np.random.default_rng(0)
    area, age = rng.uniform(40, 250, n), rng.uniform(0, 80, n)
    clean = 60_000 + 2_500 * area + 4 * area**1.5 - 1_200 * age + 9 * age**2
    price = clean + rng.normal(0, 8_000, n)
    houses = np.column_stack([area.round(1), age.round(), price.round()])
    write_csv(folder / "houses.csv", ["area", "age", "price"], houses.tolist())
    write_csv(folder / "new-houses.csv", ["age", "area"], houses[:20, [1, 0]].tolist())
    savemat(folder / "houses.mat", {"X": houses[:, :2], "Y": houses[:, 2:]})
    a, b = rng.random((2, n)).round(3)
    seen = a + 0.05 * rng.standard_normal(n)  # the classes overlap
    kinds = np.array(["daisy", "iris", "rose"])[(seen > b).astype(int) + (seen + b > 1.3)]
    write_csv(folder / "flowers.csv", ["a", "b", "kind"], zip(a, b, kinds, strict=True))
    towns = rng.choice(["Lund", "Malmö", "Visby"], n)
    days = (np.datetime64("2021-03-14") + rng.integers(0, 700, n)).astype(str)
    discounts = [f"{k} %" if k else "" for k in rng.integers(0, 9, n)]
    listings = list(zip(range(1, n + 1), towns, houses[:, 0], days, discounts, houses[:, 2],
                        strict=True))  # fmt: skip
    write_csv(
        folder / "listings.csv", ["id", "town", "area", "sold", "discount", "price"], listings
    )
    for name in ("arrays.npz", "data.npz"):
        np.savez(folder / name, X=houses[:, :2] / 100, Y=houses[:, 2] / 1e5)
    np.save(folder / "rows.npy", houses)
    (folder / "run.toml").write_text('data = "houses.csv"\n')
    return houses


def write_csv(path, names, rows):
    lines = [",".join(map(str, row)) for row in [names, *rows]]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Command:
    """A command line of a page: what starts it, the program, its arguments."""

    launcher: tuple[str, ...]
    words: tuple[str, ...]

    @property
    def is_ours(self):
        return self.words[0] == "fastggn"

    @property
    def reason(self):
        """Why it is not run, or None."""
        names = (self.launcher[0] if self.launcher else "", self.words[1])
        return next((NOT_RUN[name] for name in names if name in NOT_RUN), None)

    def __str__(self):
        return " ".join((*self.launcher, *self.words))


def each_page(pages, name):
    """Run a test on each page; those of many pictures in the tier slow."""
    slow = pytest.mark.slow
    return pytest.mark.parametrize(
        "page",
        [pytest.param(p, id=name(p), marks=[slow] if p in PICTURES else []) for p in pages],
    )


def fenced(text):
    """Yield the language and the text of every fenced block."""
    language, lines = None, []
    for line in text.splitlines():
        fence = re.match(r"\s*(```+|~~~+)(.*)", line)
        if fence and language is None:
            language, lines = fence[2].strip(), []
        elif fence:
            yield language, "\n".join(lines)
            language = None
        elif language is not None:
            lines.append(line)


def commands(text):
    """Yield the `Command`s of a page, and of a list of examples that is no page."""
    for language, block in fenced(text):
        if language in SHELL:
            yield from shell_commands(block)


def shell_commands(block):
    """Yield the commands of a shell script, its variables replaced by 0."""
    block = re.sub(r"\s*\\\n\s*", " ", block)
    block = re.sub(r"\$\(\(.*?\)\)|\$\{.*?\}|\$\w+", "0", block)
    for line in block.splitlines():
        line = line.strip().removeprefix("$ ")
        for part in re.split(r"\s&&(?:\s|$)|;|\s&(?:\s|$)|\s\|\s", line):
            if command := parse_command(part):
                yield command


def parse_command(text):
    """Return the command of a line, or None where there is none: output, settings, shell words."""
    try:
        words = shlex.split(text, comments=True)
    except ValueError:  # prose with an apostrophe
        return None
    while words and re.match(r"\w+=", words[0]):  # NAME=value before a command
        words.pop(0)
    words = [Path(word).name if ".venv/bin/" in word else word for word in words]
    if "fastggn" in words:
        place = words.index("fastggn")
        if not words[place + 1 : place + 2] or "install" in words[:place] or "=" in words[place]:
            return None
        if re.match(r"^[A-Z(]", words[place + 1]):  # prose
            return None
        return Command(tuple(words[:place]), tuple(words[place:]))
    if words and words[0] in ("python", "python3", "pip", "cp", "export", "mpiexec", "srun"):
        return Command((), tuple(words))
    return None


def parsed(group, arguments):
    """Let the click command take the arguments, without running it; raise where it refuses."""
    words, command = list(arguments), group
    while isinstance(command, click.Group):
        name = words.pop(0)
        if name in command.get_help_option_names(click.Context(command)):
            return
        found = command.get_command(click.Context(command), name)
        if found is None:
            raise click.UsageError(f"no command is named {name!r}")
        command = found
    command.make_context(command.name, words)


def inline_commands(text):
    """Yield the words of every ``fastggn ...`` in the running text, blocks left out."""
    lines, inside = [], False
    for line in text.splitlines():
        if re.match(r"\s*(```+|~~~+)", line):
            inside = not inside
        elif not inside:
            lines.append(line.removeprefix("#").strip())
    for found in re.findall(r"`+fastggn ([^`]+?)`+", " ".join(lines)):
        yield [word for word in re.split(r"[\s|,]+", found) if word not in ("", "...")]


def unknown_options(group, words):
    """Return the options among the words of a command that the command does not have."""
    command, rest = group, list(words)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        found = command.get_command(click.Context(command), rest[0])
        if found is None:
            return [f"the command {rest[0]}"]
        command, rest = found, rest[1:]
    parameters = command.get_params(click.Context(command))
    known = {name for p in parameters for name in (*p.opts, *p.secondary_opts)} | {"-h"}
    return [word for word in rest if word.startswith("-") and word.split("=")[0] not in known]
