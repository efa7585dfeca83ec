"""Nothing is compiled at import, and nothing twice."""

import json
import subprocess
import sys

import pytest

from fastggn.kernels.jit import DISABLED

pytestmark = [
    pytest.mark.process,
    pytest.mark.xdist_group("compilation"),
    pytest.mark.skipif(DISABLED, reason="the compiler is off (NUMBA_DISABLE_JIT=1)"),
]

# Numba's "numba:compile" events count every compilation, and none that comes from the disk cache;
# the second run must therefore be compared in a process that has a cold cache.
IMPORT = """
import importlib, json, pkgutil
from numba.core import event
with event.install_recorder("numba:compile") as recorder:
    import fastggn
    for module in pkgutil.walk_packages(fastggn.__path__, "fastggn."):
        importlib.import_module(module.name)
print(json.dumps([str(e.data["dispatcher"]) for _, e in recorder.buffer if e.is_start]))
"""

REPEAT = """
import json
import numpy as np
from numba.core import event
import fastggn as fg

def everything():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(20, 2)), rng.normal(size=(20, 2))
    problem = fg.Problem(fg.MLP((2, 3, 2), "sigmoid"), X, Y)
    theta = problem.network.init(seed=0)
    for solver in ("cholesky", "lsqr", "qr"):
        method = fg.LevenbergMarquardt(solver=solver, geodesic=True)
        fg.train(problem, theta, method, max_iter=3)
    fg.train(problem, theta, "newton", max_iter=3)
    J = problem.jacobian(theta)
    J.T @ (J @ theta), J.rank(), J.dual_gram()
    problem.hessian_operator(theta) @ theta
    problem.network.predict(theta, X)

counts = []
for _ in range(2):
    with event.install_recorder("numba:compile") as recorder:
        everything()
    counts.append(sum(e.is_start for _, e in recorder.buffer))
print(json.dumps(counts))
"""


def _run(script, cache_dir):
    import os

    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache_dir)}
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True
    )
    return json.loads(result.stdout.splitlines()[-1])


def test_nothing_is_compiled_at_import(tmp_path):
    assert _run(IMPORT, tmp_path) == []


@pytest.fixture(scope="module")
def cold(tmp_path_factory):
    """A folder of kernels, and how many each of the two calls compiled that filled it."""
    folder = tmp_path_factory.mktemp("kernels")
    return folder, _run(REPEAT, folder)


def test_the_second_call_compiles_nothing(cold):
    first, second = cold[1]
    assert first > 0
    assert second == 0


def test_a_second_process_loads_the_kernels_from_the_disk(cold):
    assert _run(REPEAT, cold[0]) == [0, 0]
