"""Files of others, damaged files and full disks: one clear error, nothing of others is touched."""

import io
import os
import struct
import sys
import warnings
import zipfile

import numpy as np
import pytest

import fastggn as fg
from fastggn.apps.cli import main
from fastggn.data.npy import open_npy
from fastggn.kernels import cache
from fastggn.runtime.archive import ArchiveError, read_archive, read_array
from fastggn.runtime.atomic_files import write_atomically
from fastggn.runtime.errors import FastGGNWarning
from fastggn.training.checkpoint.files import CheckpointError


def small_problem():
    X = np.linspace(-1, 1, 20)[:, None]
    return fg.Problem(fg.MLP((1, 3, 1)), X, np.sin(3 * X))


def npy_bytes(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def test_any_byte_of_a_header_gives_an_array_or_one_error(tmp_path):
    whole = npy_bytes(np.arange(6.0).reshape(3, 2))
    file = tmp_path / "x.npy"
    rng = np.random.default_rng(0)
    for place in range(128):
        for value in rng.integers(0, 256, 2):
            changed = bytearray(whole)
            changed[place] = value
            file.write_bytes(changed)
            for read in (read_array, open_npy):
                try:
                    read(file)
                except ArchiveError as error:
                    assert "x.npy" in str(error)


@pytest.mark.parametrize("descr", ["<U0", "|S0", "|V0"])
def test_types_without_bytes_are_refused_at_once(tmp_path, descr):
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': (1000000000,), }}".encode()
    header += b" " * (117 - len(header)) + b"\n"
    member = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("X.npy", member)
    with pytest.raises(ArchiveError, match="has the type"):
        read_archive(tmp_path / "x.npz")


def test_a_state_dict_whose_tensors_share_bytes_is_refused(tmp_path):
    torch = pytest.importorskip("torch")
    one = torch.zeros(100, 100)
    torch.save({f"{k}.weight": one for k in range(50)}, tmp_path / "x.pt")
    with pytest.raises(ArchiveError, match="more than the file holds"):
        fg.interchange.read_state_dict(tmp_path / "x.pt", "tanh")


def test_permissions_are_kept_and_read_only_files_stay(tmp_path):
    file = tmp_path / "model.npz"
    file.write_bytes(b"old")
    file.chmod(0o600)
    write_atomically(file, lambda stream: stream.write(b"new") and None)
    assert file.read_bytes() == b"new"
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o444)
    with pytest.raises(PermissionError, match="read-only"):
        write_atomically(file, lambda stream: stream.write(b"newer") and None)
    assert file.read_bytes() == b"new"


def test_a_checkpoint_leaves_the_files_of_others_alone(tmp_path):
    lock, previous = tmp_path / "uv.lock", tmp_path / "uv.previous"
    lock.write_text("the lock of another program")
    fg.train(small_problem(), seed=0, max_iter=2, checkpoint=tmp_path / "uv")
    assert lock.read_text() == "the lock of another program"
    previous.unlink(missing_ok=True)
    (tmp_path / "uv").unlink()
    previous.write_text("notes")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        fg.train(small_problem(), seed=0, max_iter=2, checkpoint=tmp_path / "uv")
    assert previous.read_text() == "notes"
    assert not (tmp_path / "uv").exists()


def test_a_planted_link_is_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / ".run.fastggn-lock").symlink_to(victim)
    with pytest.raises(CheckpointError, match="is a link"):
        fg.train(small_problem(), seed=0, max_iter=2, checkpoint=tmp_path / "run")
    assert victim.read_text() == "precious"


def test_kernels_that_others_could_have_written_are_not_loaded(tmp_path):
    file = tmp_path / "kernel.fgk"
    file.write_bytes(b"code")
    file.chmod(0o644)
    assert cache._read(file) == b"code"
    file.chmod(0o666)
    with pytest.raises(cache.Damaged, match="others can write"):
        cache._read(file)
    if os.getuid() == 0:
        file.chmod(0o644)
        os.chown(file, 12345, -1)
        with pytest.raises(cache.Damaged, match="user 12345"):
            cache._read(file)


class FullDisk(io.StringIO):
    """A text stream on a full disk."""

    def write(self, text):
        raise OSError(28, "No space left on device")


def test_progress_that_cannot_be_written_does_not_end_the_run(monkeypatch):
    monkeypatch.setattr(sys, "stderr", FullDisk())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = fg.train(small_problem(), seed=0, max_iter=5, progress=True)
    assert result.n_iter == 5
    mine = [w for w in caught if "progress could not be written" in str(w.message)]
    assert len(mine) == 1
    assert issubclass(mine[0].category, FastGGNWarning)


def test_escape_sequences_of_names_are_shown_as_text(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = np.random.default_rng(0).random((60, 3))
    head = "a\x1b[31m,b,y\x1b]0;title\x07"
    lines = [head, *(",".join(map(str, row)) for row in rows)]
    (tmp_path / "x.csv").write_text("\n".join(lines))
    (tmp_path / "z.csv").write_text("b,c\n1,2\n")
    words = ("train", "x.csv", "--max-iter", "2", "--hidden", "2", "--out", "m.npz")
    for arguments in (
        words,
        ("evaluate", "m.npz", "x.csv"),
        ("predict", "m.npz", "z.csv", "-o", "p.csv"),
    ):
        main(arguments, standalone_mode=False)
    shown = capsys.readouterr()
    assert "\x1b" not in shown.out + shown.err and "\x07" not in shown.out + shown.err
    assert "y\\x1b]0;title\\x07" in shown.out
    assert "a\\x1b[31m" in shown.err
