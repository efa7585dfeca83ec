"""From README to a table of one's own, trained, plotted and exported: the pages, line by line.

The commands and the Python are taken from README and from the page on CSV files and run as they
stand, with their own iterations, on a table that a newcomer could have.
"""

import contextlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from documented import FOLLOWED, commands, fenced, write_files
from patience import HANGS

from fastggn.apps.cli import main

README, PAGE = FOLLOWED
pytestmark = [pytest.mark.process, pytest.mark.xdist_group("newcomer")]


def follow(page, first_as_process=False):
    """Run the page's commands of fastggn and return what they print.

    In this process, but for the first one: a newcomer's begins in a new one.
    """
    printed = []
    for command in commands(page.read_text("utf-8")):
        if not command.is_ours:
            continue
        if first_as_process and not printed:
            words = [sys.executable, "-m", *command.words]
            done = subprocess.run(words, capture_output=True, text=True, timeout=HANGS)
            assert done.returncode == 0, done.stderr
            printed.append(done.stdout)
        else:
            result = CliRunner().invoke(main, command.words[1:], catch_exceptions=False)
            assert result.exit_code == 0, f"{command}: {result.output}"
            printed.append(result.stdout)
    return printed


@pytest.fixture(scope="module")
def houses(tmp_path_factory):
    """A folder in which the page was followed to its end, the table, and what its Python left."""
    pytest.importorskip("onnxruntime", reason="the extra onnx is absent")
    folder = tmp_path_factory.mktemp("houses")
    rows = write_files(folder, 300)
    names, out = {}, io.StringIO()
    before = Path.cwd()
    os.chdir(folder)
    try:
        printed = follow(PAGE, first_as_process=True)
        with contextlib.redirect_stdout(out):
            for language, code in fenced(PAGE.read_text("utf-8")):
                if language == "python":
                    exec(compile(code, PAGE.name, "exec"), names)
    finally:
        os.chdir(before)
    assert out.getvalue()
    return folder, rows, printed, names


def test_readme_leads_to_the_page():
    assert "docs/how-to/train-on-a-csv.md" in README.read_text("utf-8")


def test_what_the_page_promises_is_there(houses):
    folder, _, printed, _ = houses
    for name in ("residuals.png", "curve.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    page = (folder / "houses.html").read_text("utf-8")
    assert "price" in page and not re.search(r"""(src|href)=["']?https?:""", page)
    assert "held-out" in printed[0]


def test_the_model_of_the_page_predicts(houses):
    _, rows, _, names = houses
    model = names["model"]
    error = model.predict({"age": rows[:, 1], "area": rows[:, 0]}) - rows[:, 2]
    assert np.sqrt(np.mean(error**2)) < 12_000  # the noise has 8000


def test_the_command_predicts_the_same(houses):
    folder, _, _, names = houses
    written = np.loadtxt(folder / "prices.csv", skiprows=1)
    np.testing.assert_allclose(written, names["prices"], rtol=1e-12)


def test_the_exported_model_says_the_same(houses):
    import onnxruntime

    folder, rows, _, names = houses
    # The Python of the page trains once more, and exports.
    session = onnxruntime.InferenceSession(str(folder / "houses.onnx"))
    (there,) = session.run(None, {"X": rows[:, :2]})
    np.testing.assert_allclose(there[:, 0], names["model"].predict(rows[:, :2]), rtol=1e-9)


def test_readme_commands_work_on_the_same_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path)
    follow(README)
    made = {path.name for path in tmp_path.iterdir()}
    assert {"houses.npz", "prices.csv", "model.npz", "regions.npz", "regions.png"} <= made
