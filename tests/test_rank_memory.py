"""A rank analysis of a million samples takes no memory that grows with them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from patience import HANGS

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="ru_maxrss is in KiB on Linux"
)
ROOT = Path(__file__).resolve().parent.parent

# Prints the growth of the resident memory's peak during the analysis, in MiB. The inputs are
# generated as they are read, so that they take none.
CODE = """
import resource, sys
import numpy as np
import fastggn as fg

T, hidden = int(sys.argv[1]), int(sys.argv[2])

class Generated:
    shape, dtype = (T, 2), np.dtype(float)
    def __getitem__(self, rows):
        i = np.arange(*rows.indices(T))[:, None]
        return np.sin(i * [0.7, 1.3])

net = fg.MLP((2, hidden, 1))
theta = net.init(0)
fg.rank_analysis(fg.Problem(net, Generated()[:500], np.zeros(500)), theta)  # compiles, loads
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
problem = fg.Problem(net, Generated(), np.zeros(T))
report = fg.rank_analysis(problem, theta)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert report.rank == problem.jacobian(theta).rank()
print((after - before) / 1024)
"""


def growth(T, hidden):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", CODE, str(T), str(hidden)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=HANGS)
    assert done.returncode == 0, done.stderr
    print(f"T = {T}, {hidden} units: {done.stdout.strip()} MiB")
    return float(done.stdout)


@pytest.mark.slow
def test_memory_at_a_million_samples():
    """P(W) would take 74 MiB for F(2,24,1) at 10^5 samples, and 740 MiB at 10^6."""
    few, many, narrow = growth(10**5, 24), growth(10**6, 24), growth(10**6, 4)
    # 64 MiB of layers at a time, blocks of rows, and a few numbers a sample: targets, and the
    # fingerprints that find equal inputs
    assert few < 150
    assert many < 180
    assert many - few < 60  # 670 MiB of P(W)
    assert narrow < 180


@pytest.mark.process
def test_memory_of_a_small_run():
    """Well below the 153 MiB of P(W), of which the QR of a few rows at a time needs none."""
    assert growth(10**5, 50) < 140
