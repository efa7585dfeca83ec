"""What a release holds and where it installs: the packages, and clean environments for them."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# The releases of Python that the package supports, as far as they may lie on PATH.
PYTHONS = [f"python3.{minor}" for minor in range(10, 20)]


def run(*arguments, **options):
    """Run a command; return what it printed, or raise an error that holds it."""
    done = subprocess.run(list(map(str, arguments)), capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def built(folder):
    """Build the sdist, and from it the wheel; return both."""
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def runs(python):
    """Whether an interpreter starts; a name on PATH may stand for one that is not chosen."""
    return subprocess.run([python, "-c", ""], capture_output=True).returncode == 0


def interpreters():
    """Return the supported interpreters on PATH, oldest first, or the one that runs the tests."""
    found = [path for name in PYTHONS if (path := shutil.which(name)) and runs(path)]
    return found or [sys.executable]


def lower_bounds():
    """Return each lower bound of pyproject.toml as the only release that may be taken."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    bounds = re.findall(r'^    "([\w-]+)>=([\d.]+)(; [^"]*)?",?$', text, re.MULTILINE)
    bounds += re.findall(r'[\[ ]"([\w-]+)>=([\d.]+)(; [^"]*)?"', text)
    return sorted({f"{name}=={version}{marker}" for name, version, marker in bounds})


def installed(folder, python, package, constraints=()):
    """Install a package with its extra `test` into a new environment; return its interpreter."""
    run(python, "-m", "venv", folder)
    inside = folder / "bin" / "python"
    (folder / "constraints.txt").write_text("\n".join(constraints), encoding="utf-8")
    run(
        inside,
        "-m",
        "pip",
        "install",
        "--quiet",
        "-c",
        folder / "constraints.txt",
        f"{package}[test]",
    )
    return inside
