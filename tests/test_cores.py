"""How many threads a job may use: affinity, control groups, scheduler."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastggn.runtime import cores
from fastggn.runtime.cores import available_cores

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def sixty_four_cores(monkeypatch):
    monkeypatch.setattr(cores, "_bound", lambda: 64)


def write(root, name, text):
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.mark.parametrize(
    ("quota", "count"),
    [
        ("max 100000", 64),
        ("400000 100000", 4),
        ("250000 100000", 3),
        ("50000 100000", 1),
        ("9900000 100000", 64),
        ("", 64),
        ("-5 0", 64),
    ],
)
def test_quota_of_version_2(tmp_path, quota, count):
    write(tmp_path, "proc/self/cgroup", "0::/job/step\n")
    write(tmp_path, "sys/fs/cgroup/job/cpu.max", quota)
    write(tmp_path, "sys/fs/cgroup/job/step/cpu.max", "max 100000")
    assert available_cores(tmp_path, {}) == count


def test_quota_of_version_1(tmp_path):
    write(tmp_path, "proc/self/cgroup", "4:memory:/x\n3:cpu,cpuacct:/slurm/job\n")
    folder = "sys/fs/cgroup/cpu/slurm/"
    write(tmp_path, folder + "cpu.cfs_quota_us", "600000\n")
    write(tmp_path, folder + "cpu.cfs_period_us", "100000\n")
    write(tmp_path, folder + "job/cpu.cfs_quota_us", "-1\n")
    write(tmp_path, folder + "job/cpu.cfs_period_us", "100000\n")
    assert available_cores(tmp_path, {}) == 6


def test_scheduler(tmp_path):
    assert available_cores(tmp_path, {"SLURM_CPUS_PER_TASK": "8"}) == 8
    assert available_cores(tmp_path, {"SLURM_CPUS_PER_TASK": "128"}) == 64
    assert available_cores(tmp_path, {"SLURM_CPUS_PER_TASK": "0"}) == 1
    assert available_cores(tmp_path, {"SLURM_CPUS_PER_TASK": "many"}) == 64
    assert available_cores(tmp_path, {}) == 64


def threads_of(**variables):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("NUMBA_", "SLURM_"))}
    code = "import fastggn as fg, numba; print(numba.get_num_threads())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.process
@pytest.mark.skipif(os.cpu_count() == 1, reason="one core has nothing to limit")
def test_the_pool_keeps_to_the_budget_unless_numba_is_told():
    assert threads_of(SLURM_CPUS_PER_TASK="1") == 1
    assert threads_of(SLURM_CPUS_PER_TASK="1", NUMBA_NUM_THREADS="3") == 3
