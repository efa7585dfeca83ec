"""How many threads a job may use: affinity, control groups, scheduler."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastggn.runtime import cores, platform
from fastggn.runtime.cores import Budget, FreeCores, Reading, available_cores, read_processors

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


class Machine:
    """A machine of some cores, on which time passes when it is told to."""

    def __init__(self, cores):
        self.now = cores_reading(cores)
        self.free = FreeCores(lambda: self.now, lambda: self.now.clock)

    def run(self, *, others, own, seconds=0.1):
        """Let time pass, with so many cores' worth of work; return the free cores then."""
        n = self.now
        idle = n.cores - others - own
        self.now = Reading(
            n.clock + seconds, n.idle + seconds * idle, n.own + seconds * own, n.cores
        )
        return self.free.count()


def cores_reading(cores):
    return Reading(clock=5.0, idle=7.0, own=3.0, cores=cores)


@pytest.mark.parametrize(
    ("cores", "others", "own", "free"),
    [
        (2, 0.0, 2.0, 2),
        (2, 0.0, 0.3, 2),
        (2, 0.2, 1.8, 2),  # what the steps of the idle time can feign
        (2, 0.67, 1.33, 1),  # one program and two workers on two cores
        (2, 1.0, 1.0, 1),
        (2, 2.0, 0.0, 1),
        (4, 1.33, 2.67, 2),  # two programs and four workers
        (4, 2.0, 2.0, 2),
        (64, 0.98, 63.0, 63),
    ],
)
def test_workers_leave_cores_to_other_programs(cores, others, own, free):
    assert Machine(cores).run(others=others, own=own) == free


def test_the_workers_come_back_when_the_other_program_ends():
    machine = Machine(2)
    assert machine.free.count() >= 2  # nothing is known yet
    assert machine.run(others=0.0, own=2.0) == 2
    assert machine.run(others=0.7, own=1.3) == 1
    assert machine.run(others=1.0, own=1.0) == 1
    assert machine.run(others=0.0, own=1.0) == 2


def test_a_reading_serves_for_a_tenth_of_a_second():
    machine = Machine(2)
    assert machine.run(others=1.0, own=1.0) == 1
    assert machine.run(others=0.0, own=2.0, seconds=0.04) == 1
    assert machine.run(others=0.0, own=2.0, seconds=0.08) == 2


def test_without_readings_nothing_is_left_to_others():
    times = iter(range(10))
    free = FreeCores(lambda: None, lambda: float(next(times)))
    assert free.count() > 1e6 and free.count() > 1e6


def test_the_idle_time_is_that_of_the_cores_of_this_process(tmp_path, monkeypatch):
    monkeypatch.setattr(platform, "_affinity", lambda _: {0, 10})
    monkeypatch.setattr(cores, "_bound", lambda: 2)
    lines = [
        "cpu  1 2 3 9999 5 6 7 8 9 10",
        "cpu0 1 2 3 100 20 6 7 8 9 10",
        "cpu1 1 2 3 5000 5 6 7 8 9 10",
        "cpu10 1 2 3 300 40 6 7 8 9 10",
        "intr 5 4 3",
    ]
    write(tmp_path, "proc/stat", "\n".join(lines))
    reading = read_processors(tmp_path)
    assert reading.idle == 460 / os.sysconf("SC_CLK_TCK") and reading.cores == 2
    assert read_processors(tmp_path / "proc") is None
    write(tmp_path, "proc/stat", "cpu0 0 0 0 0 0 0 0 0 0 0\n")
    assert read_processors(tmp_path) is None


def test_the_use_of_a_quota_is_read(tmp_path):
    write(tmp_path, "proc/self/cgroup", "3:cpu,cpuacct:/job\n0::/job\n")
    write(tmp_path, "sys/fs/cgroup/job/cpu.max", "150000 100000\n")
    assert read_processors(tmp_path).budgets == (Budget(1.5, None),)
    write(tmp_path, "sys/fs/cgroup/job/cpu.stat", "usage_usec 2500000\nuser_usec 1\n")
    write(tmp_path, "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "200000")
    write(tmp_path, "sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000")
    write(tmp_path, "sys/fs/cgroup/cpu/job/cpuacct.usage", "3000000000\n")
    reading = read_processors(tmp_path)
    assert reading.budgets == (Budget(2.0, 3.0), Budget(1.5, 2.5)) and reading.idle is None


def free_of(cores, before, after, idle, own):
    """Return the free cores after a second, from the seconds used of each quota."""
    readings = [Reading(0.0, 5.0, 2.0, cores, before)]
    readings.append(Reading(1.0, 5.0 + idle, 2.0 + own, cores, after))
    times, reads = iter((0.0, 1.0)), iter(readings)
    return FreeCores(lambda: next(reads), lambda: next(times)).count()


@pytest.mark.parametrize(
    ("quota", "used", "own", "free"),
    [
        (1.0, 1.0, 1.0, 1),  # alone, on a host of 64 cores
        (2.0, 2.0, 2.0, 2),
        (2.0, 2.0, 1.33, 1),  # beside one program in the container
        (2.5, 2.5, 2.5, 3),
        (0.5, 0.5, 0.5, 1),
        (8.0, 8.0, 6.0, 6),
        (8.0, None, 8.0, 8),
    ],
)
def test_workers_keep_to_a_quota_and_share_it(quota, used, own, free):
    before = (Budget(quota, None if used is None else 10.0),)
    after = (Budget(quota, None if used is None else 10.0 + used),)
    assert free_of(64, before, after, idle=64.0 - (used or own), own=own) == free


def test_random_machines_have_as_many_workers_as_cores_are_left():
    """Programs that get all that they want: whole cores, in groups inside each other."""
    for case in range(200):
        rng = np.random.default_rng(case)
        total, depth = int(rng.integers(1, 65)), int(rng.integers(0, 4))
        quotas = np.sort(rng.integers(1, 80, depth))[::-1]
        outside = rng.integers(0, 3, depth + 1)  # busy programs between one group and the next
        beside = np.cumsum(outside[::-1])[::-1]  # all that run within each limit
        limits = [total, *quotas.tolist()]
        left = [limit - other for limit, other in zip(limits, beside, strict=True)]
        free = max(1, min(left))
        own = max(0, min(left))
        before = tuple(Budget(float(q), 0.0) for q in quotas)
        after = tuple(
            Budget(float(q), float(other + own))
            for q, other in zip(quotas, beside[1:], strict=True)
        )
        busy = min(total, beside[0] + own)
        found = free_of(total, before, after, idle=float(total - busy), own=float(own))
        assert found == free, (case, limits, beside.tolist())


def test_a_fork_forgets_the_readings_of_its_parent():
    machine = Machine(2)
    assert machine.run(others=1.0, own=1.0) == 1
    machine.now = machine.now._replace(own=0.0)  # the child has used nothing
    machine.free.restart()
    assert machine.free.count() > 1e6
    assert machine.run(others=0.0, own=2.0) == 2
