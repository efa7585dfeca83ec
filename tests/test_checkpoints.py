"""Checkpoint files: two generations, damage, foreign and hostile files, kills, full disks."""

import hashlib
import json
import os
import pickle
import struct
import subprocess
import sys
import time
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from patience import HANGS

import fastggn as fg
from fastggn.runtime.archive import SEAL, write_sealed
from fastggn.runtime.atomic_files import remove_leftovers
from fastggn.training.checkpoint.files import CheckpointError, CheckpointFile

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}

CONTENT = {
    "theta": np.array([0.1, -1e-300, np.pi]),
    "parts": {"method": {"velocity": np.zeros((2, 2)), "growth": 2.0, "capped": np.bool_(True)}},
    "text": "a",
    "none": None,
    "large": 2**100 + 1,
    "infinite": np.inf,
}


def saved(tmp_path, *numbers):
    """Return the file after a save a number."""
    file = CheckpointFile(tmp_path / "run.ckpt")
    for number in numbers:
        file.save({**CONTENT, "number": number})
    return file


def loaded(file, match=None):
    """Return the content that a new process would find."""
    again = CheckpointFile(file.path)
    if match is None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return again.load()
    with pytest.warns(fg.CheckpointWarning, match=match):
        return again.load()


def test_round_trip(tmp_path):
    content = loaded(saved(tmp_path, 1))
    np.testing.assert_array_equal(content["theta"], CONTENT["theta"])
    assert content["parts"]["method"]["velocity"].shape == (2, 2)
    assert content["parts"]["method"]["growth"] == 2.0
    assert content["parts"]["method"]["capped"] is True
    assert content["large"] == 2**100 + 1 and content["infinite"] == np.inf
    assert content["none"] is None and content["text"] == "a"


def test_no_file_is_no_checkpoint(tmp_path):
    assert CheckpointFile(tmp_path / "run.ckpt").load() is None


def test_two_generations_are_kept(tmp_path):
    file = saved(tmp_path, 1, 2, 3)
    assert sorted(os.listdir(tmp_path)) == ["run.ckpt", "run.ckpt.previous"]
    assert loaded(file)["number"] == 3
    file.path.unlink()
    assert loaded(file, "missing; going on from the older generation")["number"] == 2


def positions(data):
    """Every seventh byte, and all those of the two ends: each field of the archive is met."""
    return sorted({*range(0, len(data), 7), *range(200), *range(len(data) - 200, len(data))})


def test_damage_anywhere_costs_one_generation(tmp_path):
    file = saved(tmp_path, 1, 2)
    data = file.path.read_bytes()
    for position in positions(data):
        flipped = bytearray(data)
        flipped[position] ^= 0x41
        for damaged in (bytes(flipped), data[:position]):
            file.path.write_bytes(damaged)
            assert loaded(file, "going on from the older generation")["number"] == 1


def test_damage_to_the_only_generation_is_a_clear_error(tmp_path):
    file = saved(tmp_path, 1)
    data = file.path.read_bytes()
    for position in positions(data)[::5]:
        flipped = bytearray(data)
        flipped[position] ^= 0x41
        for damaged in (bytes(flipped), data[:position]):
            file.path.write_bytes(damaged)
            with pytest.raises(CheckpointError, match=r"run\.ckpt"):
                CheckpointFile(file.path).load()


def test_damage_to_both_names_both(tmp_path):
    file = saved(tmp_path, 1, 2)
    for path in (file.path, file.previous):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"run\.ckpt: .*; .*run\.ckpt\.previous: "):
        CheckpointFile(file.path).load()


def test_a_damaged_file_never_replaces_the_older_generation(tmp_path):
    for load_first in (True, False):
        file = saved(tmp_path, 1, 2)
        file.path.write_bytes(file.path.read_bytes()[:-1])
        again = CheckpointFile(file.path)
        if load_first:
            with pytest.warns(fg.CheckpointWarning):
                again.load()
        again.save({"number": 7})
        assert loaded(file)["number"] == 7
        file.path.unlink()
        assert loaded(file, "missing")["number"] == 1
        file.previous.unlink()


def test_a_crash_between_the_two_renames(tmp_path):
    """The file then has the name of the older generation, and keeps it at the next save."""
    file = saved(tmp_path, 1, 2)
    os.replace(file.path, file.previous)
    file = CheckpointFile(file.path)
    with pytest.warns(fg.CheckpointWarning, match="missing"):
        assert file.load()["number"] == 2
    file.save({"number": 3})
    assert sorted(os.listdir(tmp_path)) == ["run.ckpt", "run.ckpt.previous"]
    assert loaded(file)["number"] == 3
    file.path.unlink()
    assert loaded(file, "missing")["number"] == 2


# --- foreign and hostile files ------------------------------------------------------------------


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder / "payload"),)


def seal(path):
    """Give a zip file the comment with which a checkpoint ends."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = SEAL + b"0" * 64
    data = path.read_bytes()[:-64]
    path.write_bytes(data + hashlib.sha256(data).hexdigest().encode())


def sealed_zip(path, members, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    seal(path)


def npy_header(shape, descr="<f8"):
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}"
    text = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def npy(array):
    return npy_header(array.shape, array.dtype.str) + array.tobytes()


def json_member(value):
    return npy(np.frombuffer(json.dumps(value).encode(), np.uint8))


GOOD_HEADER = {"format": "fastggn-checkpoint", "version": 2, "content": {"a": 1}}
CLAIM = 1 << 43  # 8 TiB


def hostile_files(folder):
    """Yield names and paths of files that nobody should believe."""
    net = fg.MLP((2, 3, 1))
    path = folder / "model"
    fg.Model.of(net, net.init(0)).save(path)
    (folder / "text").write_text("iteration,loss\n1,2\n" * 40)
    (folder / "empty").write_bytes(b"")
    (folder / "pickle").write_bytes(pickle.dumps(Payload(folder)))
    objects = np.array([Payload(folder)], dtype=object)
    np.savez(open(folder / "objects", "wb"), theta=objects)  # noqa: SIM115
    pickled = npy_header((1,), "|O") + pickle.dumps(objects)
    sealed_zip(folder / "sealed-objects", {"header.npy": pickled})
    bomb = npy_header((CLAIM // 8,)) + bytes(64)
    sealed_zip(folder / "bomb", {"header.npy": json_member(GOOD_HEADER), "theta.npy": bomb})
    zeros = npy(np.zeros(1 << 27, np.uint8))
    sealed_zip(folder / "deflated-bomb", {"header.npy": zeros}, zipfile.ZIP_DEFLATED)
    deep = npy(np.frombuffer(b"[" * 100_000, np.uint8))
    sealed_zip(folder / "deep", {"header.npy": deep})
    for name, change in {
        "version": {"version": 1},
        "no-content": {"content": [1]},
    }.items():
        sealed_zip(folder / name, {"header.npy": json_member({**GOOD_HEADER, **change})})
    good, theta = json_member(GOOD_HEADER), npy(np.ones(2))
    sealed_zip(folder / "no-place", {"header.npy": good, "nowhere/theta.npy": theta})
    sealed_zip(folder / "no-branch", {"header.npy": good, "a/theta.npy": theta})
    sealed_zip(folder / "no-header", {"theta.npy": theta})
    write_sealed(folder / "other", "starts", {"theta": np.ones(2)})
    sealed_zip(folder / "not-an-array", {"header.npy": json_member(GOOD_HEADER), "code.py": b"1"})


NAMES = [
    "model", "text", "empty", "pickle", "objects", "sealed-objects", "bomb", "deflated-bomb",
    "deep", "version", "no-place", "no-branch", "no-content", "no-header", "other",
    "not-an-array",
]  # fmt: skip

READER = r"""
import json, re, sys
from fastggn.training.checkpoint.files import CheckpointError, CheckpointFile
outcomes = {}
for name in sys.argv[2:]:
    try:
        CheckpointFile(f"{sys.argv[1]}/{name}").load()
        outcomes[name] = "accepted"
    except CheckpointError as error:
        outcomes[name] = str(error)
# Not ru_maxrss, which a process inherits from the one that started it.
status = open("/proc/self/status").read()
peak = 1024 * int(re.search(r"VmHWM:\s*(\d+) kB", status)[1])
print(json.dumps([outcomes, peak, sorted({"numba", "scipy"} & set(sys.modules))]))
"""


@pytest.mark.process
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_hostile_files_are_refused_in_little_memory_and_run_nothing(tmp_path):
    hostile_files(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(NAMES)
    done = subprocess.run(
        [sys.executable, "-c", READER, str(tmp_path), *NAMES],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    )
    outcomes, peak, heavy = json.loads(done.stdout)
    for name, message in outcomes.items():
        assert message.startswith(f"{tmp_path}/{name}: "), message
        assert len(message) < 300
    assert f"claims {CLAIM} bytes" in outcomes["bomb"]
    assert "format version 1; this fastggn reads version 2" in outcomes["version"]
    assert "pickled objects, which are never loaded" in outcomes["sealed-objects"]
    assert not (tmp_path / "payload").exists()
    assert peak < 100e6
    assert heavy == []


def test_what_is_no_checkpoint_is_not_replaced(tmp_path):
    hostile_files(tmp_path)
    for name in NAMES:
        before = (tmp_path / name).read_bytes()
        with pytest.raises(CheckpointError, match="it is not replaced"):
            CheckpointFile(tmp_path / name).prepare(1000, replace=True)
        assert (tmp_path / name).read_bytes() == before


# --- kills --------------------------------------------------------------------------------------

WRITER = """
import json, os, random, signal, struct, sys, time, warnings
import numpy as np
from fastggn.training.checkpoint.files import CheckpointFile
assert not {"numba", "scipy"} & set(sys.modules)
warnings.simplefilter("ignore")
path = sys.argv[1]
folder, theta = os.path.dirname(path), np.arange(5000.0)

def save(file, k):
    file.save({"k": k, "theta": theta + k})

def found():
    content = CheckpointFile(path).load()
    assert (content["theta"] == theta + content["k"]).all()
    return content["k"]

def cuts():
    return sum(name.endswith(".tmp") for name in os.listdir(folder))

def killed(work, *arguments):
    child = os.fork()
    if child == 0:
        work(*arguments)
        os._exit(0)
    return child

start = time.perf_counter()
file = CheckpointFile(path)
for k in range(5):
    save(file, k)
once = (time.perf_counter() - start) / 5
"""

KILLS = """
def write_on(pipe):
    file = CheckpointFile(path)
    k = file.load()["k"]
    while True:
        k += 1
        os.write(pipe, struct.pack("q", -k))  # it begins
        save(file, k)
        os.write(pipe, struct.pack("q", k))

rng = random.Random(0)
rounds = lost = met = 0
while rounds < 200 or (cuts() < 50 and rounds < 4000):
    read, write = os.pipe()
    child = killed(write_on, write)
    os.close(write)
    told = os.read(read, 8)
    for _ in range(rng.choice((0, 2))):  # the end of this one, and the beginning of the next
        told += os.read(read, 8)
    time.sleep(rng.uniform(0.0, once))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while more := os.read(read, 1 << 16):
        told += more
    os.close(read)
    events = struct.unpack(f"{len(told) // 8}q", told)
    rounds, met = rounds + 1, met + (events[-1] < 0)
    lost += found() < max(-events[0] - 1, *events)
print(json.dumps([rounds, lost, met, cuts(), found()]))
"""

LINES = """
class Kill:
    left = 0

    def __init__(self):
        self.seen = 0

    def __call__(self, frame, event, _):
        if event == "line" and "fastggn" in frame.f_code.co_filename:
            self.seen += 1
            if self.seen == self.left:
                os.kill(os.getpid(), signal.SIGKILL)
        return self

def traced(line):
    kill = Kill()
    kill.left = line
    file = CheckpointFile(path)
    k = file.load()["k"]
    sys.settrace(kill)
    save(file, k + 1)
    sys.settrace(None)
    return kill.seen

lines = traced(0)
old = new = 0
for line in range(1, lines + 1):
    before = found()
    code = os.waitstatus_to_exitcode(os.waitpid(killed(traced, line), 0)[1])
    assert code == -signal.SIGKILL, (line, code)
    after = found()
    old, new = old + (after == before), new + (after == before + 1)
print(json.dumps([lines, old, new, cuts()]))
"""


def write_and_kill(script, path):
    """Run a writer that imports the checkpoint module alone."""
    done = subprocess.run(
        [sys.executable, "-c", WRITER + script, str(path)],
        env=ENVIRONMENT, capture_output=True, text=True, timeout=HANGS,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.process
def test_kills_during_saves(tmp_path):
    """At random moments after a save has begun: the older generation or the new one is whole."""
    rounds, lost, met, cut, last = write_and_kill(KILLS, tmp_path / "run.ckpt")
    assert lost == 0  # a save that returned is never undone
    assert met >= rounds // 4  # the kills met saves under way
    assert cut >= 50  # and left their unfinished files
    assert last > rounds // 4


@pytest.mark.process
def test_a_kill_at_each_line_of_a_save(tmp_path):
    lines, old, new, cut = write_and_kill(LINES, tmp_path / "run.ckpt")
    assert lines >= 100 and old + new == lines
    assert old >= 20 and new >= 5 and cut >= 20


def test_leftovers_of_killed_writers_go(tmp_path):
    file = saved(tmp_path, 1)
    ours = tmp_path / ".run.ckpt.123.0123456789ab.tmp"
    young = tmp_path / ".run.ckpt.124.0123456789ab.tmp"
    other = tmp_path / ".other.ckpt.123.0123456789ab.tmp"
    for path in (ours, young, other):
        path.write_bytes(b"half")
    for path in (ours, other):
        os.utime(path, (time.time() - 3600,) * 2)
    CheckpointFile(file.path).prepare(10, replace=True)
    assert not ours.exists() and young.exists() and other.exists()
    remove_leftovers(other.with_name("other.ckpt"))
    assert not other.exists()


# --- where nothing can be written ---------------------------------------------------------------


def test_places_that_cannot_be_written(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="it is a folder"):
        CheckpointFile(tmp_path).prepare(10, replace=False)
    with pytest.raises(ValueError, match="not a regular file"):
        CheckpointFile("/dev/full").prepare(10, replace=False)
    with pytest.raises(FileNotFoundError, match="the folder does not exist"):
        CheckpointFile(tmp_path / "nowhere" / "a.ckpt").prepare(10, replace=False)

    def refuse(*arguments):
        raise PermissionError(13, "Permission denied")  # root may write anywhere

    monkeypatch.setattr("fastggn.runtime.atomic_files.open", refuse, raising=False)
    with pytest.raises(PermissionError, match=r"Permission denied.*a\.ckpt"):
        CheckpointFile(tmp_path / "a.ckpt").prepare(10, replace=False)


def test_a_failed_save_leaves_both_generations(tmp_path, monkeypatch):
    file = saved(tmp_path, 1, 2)
    real = os.fsync

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        file.save({"number": 3})
    monkeypatch.setattr(os, "fsync", real)
    assert sorted(os.listdir(tmp_path)) == ["run.ckpt", "run.ckpt.previous"]
    assert loaded(file)["number"] == 2
    file.path.unlink()
    assert loaded(file, "missing")["number"] == 1


def test_what_cannot_be_kept_is_refused(tmp_path):
    file = CheckpointFile(tmp_path / "run.ckpt")
    with pytest.raises(TypeError):
        file.save({"a": object()})
    with pytest.raises(ValueError):
        file.save({"a": np.array([object()])})
    assert os.listdir(tmp_path) == []
