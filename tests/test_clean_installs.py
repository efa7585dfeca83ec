"""The default tier in clean environments: oldest and newest dependencies, and a plain processor."""

import os
import shutil
import tarfile
from pathlib import Path

import pytest
import releases

pytestmark = pytest.mark.weekly

pytest.importorskip("build", reason="build is absent: the extra dev")
# Settings of this run that would reach the tests of another environment.
OWN = ("PYTHONPATH", "NUMBA_CACHE_DIR", "NUMBA_NUM_THREADS", "NUMBA_CPU_NAME", "PYTEST_ADDOPTS")


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    return releases.built(tmp_path_factory.mktemp("dist"))


@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("case", ["oldest", "newest", "generic"])
def test_the_default_tier_passes(packages, tmp_path, case):
    wheel, sdist = packages
    pythons = releases.interpreters()
    python, package, constraints = pythons[-1], wheel, []
    if case == "oldest":
        python, package, constraints = pythons[0], sdist, releases.lower_bounds()
    inside = releases.installed(tmp_path / "env", python, package, constraints)
    where = "import fastggn, os; print(os.path.dirname(fastggn.__file__))"
    code = Path(releases.run(inside, "-c", where, cwd=tmp_path).strip())
    assert code.is_relative_to(tmp_path / "env")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path)
    (tests,) = tmp_path.glob("fastggn-*")
    # The tests read and import the installed package where they look for its sources.
    shutil.rmtree(tests / "fastggn")
    (tests / "fastggn").symlink_to(code)
    environment = {name: value for name, value in os.environ.items() if name not in OWN}
    environment |= {"NUMBA_CACHE_DIR": str(tmp_path / "kernels")}
    environment |= {"NUMBA_CPU_NAME": "generic"} if case == "generic" else {}
    out = releases.run(inside, "-m", "pytest", "-q", cwd=tests, env=environment)
    print(case, python, package.name, out.splitlines()[-1], sep="\n")
