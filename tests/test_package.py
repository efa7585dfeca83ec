"""The wheel and the sdist: built from the repository, with the files that they should have."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.process

pytest.importorskip("build", reason="build is absent: the extra dev")


def run(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", *map(str, arguments)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """The wheel, built from the sdist, and the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    run("build", "--outdir", folder, ROOT)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


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
        names = {name.partition("/")[2] for name in archive.getnames()}
    kept = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if kept.returncode == 0:
        wanted = {n for n in kept.stdout.split() if n.split("/")[0] not in OUTSIDE}
        assert wanted - names == set()
    assert {"pyproject.toml", "tests/conftest.py", "tests/naive.py", "PKG-INFO"} < names
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]


# Settings of the repository, which an sdist does not need.
OUTSIDE = {".github", ".gitignore", ".pre-commit-config.yaml"}


def test_the_metadata_pass_the_check_of_an_index(packages):
    pytest.importorskip("twine", reason="twine is absent: the extra dev")
    run("twine", "check", "--strict", *packages)
