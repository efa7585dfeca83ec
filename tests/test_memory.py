import pytest

from fastggn.runtime import memory, platform
from fastggn.runtime.memory import available_memory

GIB = 1024**3


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def machine(free_gib=64):
    kib = free_gib * 1024**2
    return {"proc/meminfo": f"MemTotal: {2 * kib} kB\nMemFree: 1 kB\nMemAvailable: {kib} kB\n"}


def group(folder, limit, usage, cache=0, version=2):
    names = {
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        2: ("memory.max", "memory.current", "inactive_file"),
    }[version]
    return {
        f"{folder}/{names[0]}": f"{limit}\n",
        f"{folder}/{names[1]}": f"{usage}\n",
        f"{folder}/memory.stat": f"anon 5\n{names[2]} {cache}\n",
    }


def test_machine_alone(tmp_path):
    write(tmp_path, machine())
    assert available_memory(tmp_path) == 64 * GIB


def test_this_machine():
    assert available_memory() > 0


def test_version_2(tmp_path):
    write(tmp_path, machine() | {"proc/self/cgroup": "0::/job/step\n"})
    write(tmp_path, group("sys/fs/cgroup/job/step", "max", GIB))
    assert available_memory(tmp_path) == 64 * GIB
    write(tmp_path, group("sys/fs/cgroup/job", 8 * GIB, 3 * GIB, cache=GIB))
    assert available_memory(tmp_path) == 6 * GIB
    write(tmp_path, group("sys/fs/cgroup/job/step", 2 * GIB, GIB))
    assert available_memory(tmp_path) == GIB


def test_version_2_in_a_container(tmp_path):
    """The host's path is not there: the mount point is the group."""
    write(tmp_path, machine() | {"proc/self/cgroup": "0::/../../docker/abc\n"})
    write(tmp_path, group("sys/fs/cgroup", 4 * GIB, GIB))
    assert available_memory(tmp_path) == 3 * GIB


@pytest.mark.parametrize("controllers", ["memory", "cpuset,memory"])
def test_version_1(tmp_path, controllers):
    write(tmp_path, machine() | {"proc/self/cgroup": f"9:cpu:/\n4:{controllers}:/slurm/j1\n0::/\n"})
    write(tmp_path, group("sys/fs/cgroup/memory", 9223372036854771712, GIB, version=1))
    assert available_memory(tmp_path) == 64 * GIB
    folder = "sys/fs/cgroup/memory/slurm/j1"
    write(tmp_path, group(folder, 5 * GIB, 2 * GIB, cache=GIB, version=1))
    assert available_memory(tmp_path) == 4 * GIB


def test_hybrid(tmp_path):
    write(tmp_path, machine() | {"proc/self/cgroup": "0::/user\n"})
    write(tmp_path, group("sys/fs/cgroup/unified/user", 2 * GIB, GIB))
    assert available_memory(tmp_path) == GIB


def test_over_the_limit(tmp_path):
    write(tmp_path, machine() | {"proc/self/cgroup": "0::/\n"})
    write(tmp_path, group("sys/fs/cgroup", GIB, 2 * GIB))
    assert available_memory(tmp_path) == 0


def test_old_kernel(tmp_path):
    write(tmp_path, {"proc/meminfo": "MemFree: 1024 kB\nCached: 2048 kB\nBuffers: 1024 kB\n"})
    assert available_memory(tmp_path) == 4 * 1024**2


def test_unreadable_files(tmp_path):
    write(tmp_path, machine() | {"proc/self/cgroup": "nonsense\n0::/\n"})
    write(tmp_path, {"sys/fs/cgroup/memory.max": "abc", "sys/fs/cgroup/memory.current": ""})
    assert available_memory(tmp_path) == 64 * GIB


def test_no_proc(tmp_path, monkeypatch):
    pages = {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}

    def sysconf(name):
        if name not in pages:
            raise ValueError(name)
        return pages[name]

    monkeypatch.setattr(platform, "_sysconf", sysconf)
    assert available_memory(tmp_path) == 1000 * 4096 // 2
    pages["SC_AVPHYS_PAGES"] = 500
    assert available_memory(tmp_path) == 500 * 4096
    pages.clear()
    assert available_memory(tmp_path) == memory.FALLBACK_BYTES
