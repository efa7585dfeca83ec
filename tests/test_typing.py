"""The type checker refuses the options of another method, and accepts those of the interface."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from patience import HANGS

ROOT = Path(__file__).resolve().parent.parent
CASES = "tests/typing_cases.py"


@pytest.mark.slow
def test_the_type_checker_refuses_the_marked_lines():
    """The task `types` leaves what it knows of the package in the same cache."""
    lines = (ROOT / CASES).read_text().splitlines()
    marked = {number for number, line in enumerate(lines, 1) if line.endswith("# refused")}
    assert len(marked) > 10
    found = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", CASES],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=HANGS,
    )
    pattern = rf"{re.escape(CASES)}:(\d+): error:"
    assert found.returncode == 1, found.stdout + found.stderr
    assert {int(number) for number in re.findall(pattern, found.stdout)} == marked, found.stdout
    assert "in 1 file (checked 1 source file)" in found.stdout
