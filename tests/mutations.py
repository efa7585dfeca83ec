"""Ten faults in ten kernels, each of which the default tier of the tests must find.

A patch replaces a text that occurs once in all kernels, in a copy of the package. There the tests
run on the kernels as plain Python, for the compiler takes up to two minutes for each copy, or on
compiled ones with a cache of their own. ``python tests/mutations.py`` plants them all, compiled,
and says how long each was sought.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("fastggn", "tests", "pyproject.toml")
LIMIT = 1800  # seconds
FAULTS_FOUND, NO_FAULT = 1, 0  # statuses of pytest; others are its own failures


class Mutation(NamedTuple):
    """A text of one kernel, the faulty text in its place, and the tests that find it."""

    name: str
    old: str
    new: str
    tests: str


MUTATIONS = (
    Mutation(
        "sign of the second derivative of tanh",
        "return s, d, -2.0 * s * d",
        "return s, d, 2.0 * s * d",
        "tests/test_activations.py::test_relative_accuracy",
    ),
    Mutation(
        "wrong Hessian of the cross-entropy",
        "row[c] = -q * factor[0, c]",
        "row[c] = -q * q",
        "tests/test_losses.py::test_losses_on_classes_against_the_textbook",
    ),
    Mutation(
        "no dummy row for the biases",
        "w[row[PHI_IN] + dummy, :] = 1.0",
        "w[row[PHI_IN] + dummy, :] = 0.0",
        "tests/test_network.py::test_predict",
    ),
    Mutation(
        "backward sweep without the last sample of a chunk that is not full",
        "for i in range(count, d.shape[1]):",
        "for i in range(min(count, d.shape[1] - 1), d.shape[1]):",
        "tests/test_kernels.py::test_values_and_first_derivatives",
    ),
    Mutation(
        "factor 2 of the sums over the samples",
        "target[q] *= scale",
        "target[q] *= 2.0 * scale",
        "tests/test_accuracy.py::test_ggn_is_within_8_eps_of_a_long_double_sum",
    ),
    Mutation(
        "dropped columns of the factor in the pairs of units",
        "row[i] += x[i] * y[i]",
        "row[i] = x[i] * y[i]",
        "tests/test_accuracy.py::test_ggn_is_within_8_eps_of_a_long_double_sum",
    ),
    Mutation(
        "weights counted input by input in the rows of the Jacobian",
        "x = psi[row[UNIT_ROW] + index // m, column * chunk",
        "x = psi[row[UNIT_ROW] + index % row[UNITS], column * chunk",
        "tests/test_accuracy.py::test_ggn_is_within_8_eps_of_a_long_double_sum",
    ),
    Mutation(
        "transposed outputs of a tile of the dual Gram matrix",
        "value = block[c * chunk + i, e * chunk + j]",
        "value = block[e * chunk + i, c * chunk + j]",
        "tests/test_kernels.py::test_curvature_matrices",
    ),
    Mutation(
        "sign of the activation's curvature in the Hessian",
        "square[i] += second[i] * x[i]",
        "square[i] -= second[i] * x[i]",
        "tests/test_kernels.py::test_curvature_matrices",
    ),
    Mutation(
        "sign of one of four products in the Cholesky factor",
        "x[i] -= (a * p[i] + b * q[i]) + (c * r[i] + d * s[i])",
        "x[i] -= (a * p[i] + b * q[i]) + (c * r[i] - d * s[i])",
        "tests/test_cholesky_kernel.py",
    ),
)


def copy_package(folder: Path) -> None:
    """Copy the package and its tests, without compiled kernels."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, folder / name)


def plant(mutation: Mutation, folder: Path) -> None:
    """Put the faulty text in place of the one in a copy's kernels."""
    files = sorted((folder / "fastggn" / "kernels").rglob("*.py"))
    found = {path: path.read_text(encoding="utf-8").count(mutation.old) for path in files}
    if sum(found.values()) != 1:
        places = {path.name: count for path, count in found.items() if count}
        raise LookupError(
            f"{mutation.name}: the kernels must hold {mutation.old!r} once, found {places or 0}"
        )
    path = max(found, key=lambda path: found[path])
    text = path.read_text(encoding="utf-8").replace(mutation.old, mutation.new)
    path.write_text(text, encoding="utf-8")


def run_tests(folder: Path, tests: list[str], compiled: bool) -> tuple[int, str]:
    """Run tests of a copy, up to the first failure; return the status and what was printed."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_"))}
    environment |= {"PYTHONPATH": str(folder), "NUMBA_CACHE_DIR": str(folder / "cache")}
    environment["NUMBA_DISABLE_JIT"] = "0" if compiled else "1"
    # All kernels are compiled anew: no test has a time limit of its own.
    unlimited = ["-o", "timeout=0"]
    # In one process, whatever the default says.
    alone = ["-n", "0"] if importlib.util.find_spec("xdist") else []
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "--tb=short", *unlimited, *alone, *tests],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def check_sound(folder: Path, compiled: bool = True) -> None:
    """Raise an AssertionError unless the tests pass where no fault is planted."""
    copy_package(folder)
    tests = sorted({mutation.tests for mutation in MUTATIONS})
    status, printed = run_tests(folder, tests, compiled)
    assert status == NO_FAULT, f"without a fault the tests must pass:\n{printed}"


def check_found(mutation: Mutation, folder: Path, compiled: bool = True) -> None:
    """Raise an AssertionError unless a test fails where the fault is planted."""
    copy_package(folder)
    plant(mutation, folder)
    status, printed = run_tests(folder, [mutation.tests], compiled)
    # A fault that keeps a kernel from being compiled would prove nothing.
    wrong = re.search(r"^E +(AssertionError|assert )", printed, re.MULTILINE)
    assert status == FAULTS_FOUND and wrong, (
        f"{mutation.name}: not found by {mutation.tests} (status {status}):\n{printed}"
    )


def main() -> None:
    """Check the sound copy and all faults."""
    for mutation in (None, *MUTATIONS):
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as name:
            if mutation is None:
                check_sound(Path(name))
            else:
                check_found(mutation, Path(name))
        outcome = f"found: {mutation.name}" if mutation else "no fault, all tests pass"
        print(f"{time.perf_counter() - start:6.1f} s  {outcome}", flush=True)


if __name__ == "__main__":
    main()
