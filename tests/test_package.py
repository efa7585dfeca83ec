"""The wheel and the sdist: built from the repository, with the files that they should have."""

import re
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest
from releases import ROOT, built, run

import fastggn as fg

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("packages")]  # built once

pytest.importorskip("build", reason="build is absent: the extra dev")


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """The wheel, built from the sdist, and the sdist."""
    return built(tmp_path_factory.mktemp("dist"))


def sources(*suffixes):
    return {
        str(path.relative_to(ROOT))
        for path in (ROOT / "fastggn").rglob("*")
        if path.suffix in suffixes
    }


def test_the_wheel_holds_the_package_and_nothing_else(packages):
    with zipfile.ZipFile(packages[0]) as archive:
        names = set(archive.namelist())
    inside = {name for name in names if not name.split("/")[0].endswith(".dist-info")}
    page = {"fastggn/apps/report/page.html", "fastggn/py.typed"}
    assert inside == sources(".py", ".pyi") | page
    assert {Path(name).name for name in names - inside} == {
        "LICENSE", "METADATA", "RECORD", "WHEEL", "entry_points.txt", "top_level.txt"
    }  # fmt: skip


def test_the_sdist_can_be_tested(packages):
    with tarfile.open(packages[1]) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
    names = {name for name in names if not name.startswith("fastggn.egg-info/")}
    command = ["git", "ls-files", "-z", "--exclude-standard"]
    kept, new = (
        subprocess.run([*command, kind], cwd=ROOT, capture_output=True, text=True)
        for kind in ("--cached", "--others")
    )
    if kept.returncode == 0:
        wanted = {n for n in kept.stdout.split("\0") if n and n.split("/")[0] not in OUTSIDE}
        assert wanted - names == set()
        assert names - wanted - set(new.stdout.split("\0")) == {"PKG-INFO", "setup.cfg"}
    assert {"pyproject.toml", "tests/conftest.py", "tests/naive.py", "PKG-INFO"} < names
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]


# Settings of the repository, which an sdist does not need.
OUTSIDE = {".github", ".gitignore", ".pre-commit-config.yaml"}


def test_the_metadata_pass_the_check_of_an_index(packages):
    pytest.importorskip("twine", reason="twine is absent: the extra dev")
    run(sys.executable, "-m", "twine", "check", "--strict", *packages)
    with zipfile.ZipFile(packages[0]) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        assert f"\nVersion: {fg.__version__}\n" in archive.read(name).decode()


# The last two lines are wrong, which a checker sees only where the package brings its types.
USER = """
import numpy as np
from numpy.typing import NDArray

import fastggn as fg

table = fg.read_table("houses.csv", target="price")
model, result = fg.fit(table, hidden=(20, 20), seed=0)
prices: NDArray[np.float64] = model.predict("new-houses.csv")
problem = fg.Problem(fg.MLP((2, 3, 1), activation="tanh"), *fg.data.four_regions(20, seed=0))
loss: float = fg.train(problem, method=fg.LevenbergMarquardt(solver="qr"), seed=0).loss
fitted: fg.GGNRegressor = fg.GGNRegressor((4,)).fit(np.ones((9, 2)), np.ones(9))
model.save("houses.npz")
text: str = result.loss
fg.train(problem, solver="qr")
"""


def test_a_users_file_is_checked_against_the_types_of_the_wheel(packages, tmp_path):
    pytest.importorskip("mypy", reason="mypy is absent: the extra dev")
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "env")
    inside = tmp_path / "env" / "bin" / "python"
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(run(inside, "-c", where).strip())
    with zipfile.ZipFile(packages[0]) as archive:
        archive.extractall(site)
    (site / "third-parties.pth").write_text(sysconfig.get_path("purelib"))
    (tmp_path / "user.py").write_text(USER)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--python-executable", inside]
        + ["--cache-dir", tmp_path / "cache", "user.py"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    lines = len(USER.splitlines())
    found = [int(line) for line in re.findall(r"^user.py:(\d+): error:", done.stdout, re.M)]
    assert found == [lines - 1, lines], done.stdout + done.stderr
