"""What README, the pages and the docstrings show is run."""

import contextlib
import doctest
import importlib
import io
import pkgutil
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from documented import PAGES, ROOT, each_page, write_files
from optional import absent

import fastggn as fg

MODULES = [
    m.name for m in pkgutil.walk_packages(fg.__path__, "fastggn.") if "__main__" not in m.name
]


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


# The properties of `net.trainParam` of trainlm, and the functions of `net.divideFcn`.
TRAINLM = (
    "epochs goal max_fail min_grad mu mu_dec mu_inc mu_max show showCommandLine showWindow time "
    "dividerand divideblock divideint divideind dividetrain mapminmax removeconstantrows tansig "
    "logsig purelin plotperform plotregression ploterrhist plotconfusion"
).split()

# The Python of the first reads what its commands have written: tests/test_newcomer.py runs both.
# tests/test_equations.py runs that of the other, and checks what the page says of it.
ELSEWHERE = ("train-on-a-csv.md", "equations.md")
# What a run on 20 rows, or to the last digit, warns of on these pages, as it should.
WARNED = {
    "large-data.md": "nothing is held out",
    "seeds-and-restarts.md": "theta grows without settling",
    "symmetric-points.md": "solver 'cholesky' at damping .* singular to working precision",
}


@each_page([p for p in PAGES if p.name not in ELSEWHERE], lambda page: page.name)
@pytest.mark.slow
def test_python_on_the_pages_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path)
    if page.name in WARNED:
        warnings.filterwarnings("ignore", WARNED[page.name], fg.FastGGNWarning)
    net = fg.MLP((2, 3, 1))
    X, Y = fg.data.four_regions(20)
    theta = net.init(seed=0)
    names = {"np": np, "fg": fg, "net": net, "X": X, "Y": Y, "theta": theta}
    names |= {"problem": fg.Problem(net, X, Y), "read_my_rows": lambda rank, size: (X, Y)}
    # What jobs of the pages on batch systems have left behind.
    fg.Model.of(net, theta, training={"validation_loss": 1.0}).save("model-0.npz")
    Path("run.jsonl").write_text('{"loss": 1.0}\n')
    for number, code in enumerate(blocks(page, "python")):
        if absent(code):
            continue
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(code, f"{page.name}[{number}]", "exec"), names)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    outcome = doctest.testmod(
        importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE
    )
    assert outcome.failed == 0


def matlab_examples():
    text = (ROOT / "docs" / "how-to" / "moving-from-matlab.md").read_text("utf-8")
    titles = ("## A regression", "## A classification", "## trainbr")
    return [
        text[text.index(title) :].split("```python\n", 1)[1].split("```")[0] for title in titles
    ]


def test_a_fit_in_words_of_matlab_takes_at_most_12_lines():
    for code in matlab_examples():
        assert len([line for line in code.splitlines() if line.strip()]) <= 12


def test_readme_example_fits_on_a_screen():
    text = (ROOT / "README.md").read_text("utf-8")
    section = text[text.index("## Your own table") : text.index("## The loss surface")]
    assert len(section.splitlines()) <= 40
    for name in ("read_table", "fit", "predict", "evaluate", "save"):
        assert f"{name}(" in section


def test_readme_prints_what_it_says(tmp_path, monkeypatch):
    """The numbers to 2 %, since a run amplifies the rounding of another processor."""
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "README.md").read_text("utf-8")
    section = text[text.index("## Your own table") : text.index("## The loss surface")]
    code, said = (
        re.findall(rf"```{name}\n(.*?)```", section, re.DOTALL) for name in ("python", "text")
    )
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code[0], "README.md", "exec"), {})
    number = r"\d+\.\d*|\d+"
    found, expected = printed.getvalue(), said[0]
    assert re.sub(number, "0", found).split() == re.sub(number, "0", expected).split()
    numbers = [[float(n) for n in re.findall(number, text)] for text in (found, expected)]
    assert len(numbers[0]) == 6  # with the 2 of R2
    np.testing.assert_allclose(*numbers, rtol=0.02)


def test_every_property_of_trainlm_has_a_counterpart():
    text = (ROOT / "docs" / "how-to" / "moving-from-matlab.md").read_text("utf-8")
    for name in TRAINLM:
        assert re.search(rf"`{name}`", text), name


def test_readme_has_two_setup_commands():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^python3 -m venv.*$", text, re.MULTILINE)
    assert len(commands) == 2
    assert commands[0].endswith("fastggn train") and commands[1].endswith("-m pytest")


def test_what_readme_points_to_is_there():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#\s]+)\)", text)
    assert any(link.endswith(".png") for link in links)
    assert [link for link in links if not (ROOT / link).is_file()] == []


def test_the_numbers_of_readme_are_those_of_the_results():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text[text.index("## Numbers") : text.index("## Documentation")]
    results = (ROOT / "bench" / "RESULTS.md").read_text(encoding="utf-8")
    figures = re.findall(r"\d[\d.]* m?s\b", section)
    assert len(figures) >= 10
    assert [figure for figure in figures if not re.search(rf"[ (]{figure}\b", results)] == []
    (counts,) = re.findall(r"(\d+)\ntargets: (\d+) met, (\d+) missed", section)
    assert f"Targets: {counts[1]} met, {counts[2]} missed" in results
    assert int(counts[0]) == int(counts[1]) + int(counts[2])


@pytest.mark.parametrize(
    ("page", "title"),
    [
        ("how-to/precision.md", "## float64 or mixed"),
        ("comparison.md", "## Speed"),
        ("solvers.md", "### What was measured"),
    ],
)
def test_the_times_in_a_table_are_those_of_the_results(page, title):
    section = (ROOT / "docs" / page).read_text(encoding="utf-8").split(title)[1].split("\n#")[0]
    results = (ROOT / "bench" / "RESULTS.md").read_text(encoding="utf-8")
    # A pair of products is the sum of two rows.
    rows = [row for row in section.split("\n") if row.startswith("|") and " pair of " not in row]
    figures = re.findall(r"\d[\d.]* [mu]?s\b", "\n".join(rows).replace("µs", "us"))
    assert len(figures) >= 10
    assert [figure for figure in figures if not re.search(rf"[ (]{figure}\b", results)] == []


def test_contributing_lists_the_tasks():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.split("\n## Tasks\n")[1].split("\n## ")[0]
    listed = re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)))
    tasks = re.findall(
        r"^@nox\.session\ndef (\w+)", (ROOT / "noxfile.py").read_text(), re.MULTILINE
    )
    assert sorted(listed) == sorted(tasks) and len(tasks) > 5


def test_decisions_are_numbered_without_holes():
    names = sorted(path.name for path in (ROOT / "docs" / "decisions").glob("0*.md"))
    assert [int(name[:4]) for name in names] == list(range(1, len(names) + 1))


def test_the_changelog_names_the_version():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## \[([^\]]+)\]", text, re.MULTILINE)
    newest = next(name for name in sections if name != "Unreleased")
    assert newest == fg.__version__
    assert len(text.split(f"## [{newest}]")[1].split("\n## ")[0].split()) <= 600  # two minutes
    cited = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {fg.__version__}\n" in cited
