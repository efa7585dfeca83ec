"""Files of others, damaged files and full disks: one clear error, nothing of others is touched."""

import gzip
import io
import os
import struct
import sys
import time
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest
from scipy.io import savemat

import fastggn as fg
from fastggn.apps.cli import main
from fastggn.data.npy import open_npy
from fastggn.kernels import cache
from fastggn.runtime import claims
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


def gz(file, content):
    with gzip.open(file, "wb", 9) as stream:
        stream.write(content)


def npz_of_zeros(file):
    np.savez_compressed(file, X=np.zeros((2_000_000, 1), np.int8), Y=np.zeros(2_000_000, np.int8))


def unwritten_chunks(file):
    with pytest.importorskip("h5py").File(file, "w") as archive:
        archive.create_dataset("X", shape=(2**40, 4), chunks=(2**10, 4), dtype="f8")


def mat_of_zeros(file):
    savemat(file, {"X": np.zeros((500_000, 2)), "Y": np.zeros((500_000, 1))}, do_compression=True)


def parquet_of_zeros(file):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"a": np.zeros(2**20), "b": np.zeros(2**20)}), file, compression="zstd")


def workbook(file, cell="B2"):
    book = pytest.importorskip("openpyxl").Workbook()
    for place, value in {"A1": "x", "B1": "y", "A2": 1, "B2": 2, cell: 3}.items():
        book.active[place] = value
    book.save(file)


def workbook_of_spaces(file):
    workbook(file)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/more.xml", b" " * 5_000_000)


BOMBS = {
    "zeros.npz": npz_of_zeros,
    "unwritten.h5": unwritten_chunks,
    "zeros.mat": mat_of_zeros,
    "zeros.parquet": parquet_of_zeros,
    "rows.csv.gz": lambda file: gz(file, b"a,b,c\n" + b"0,0,0\n" * 300_000),
    "one-line.csv.gz": lambda file: gz(file, b"0" * 6_000_000),
    "far.xlsx": lambda file: workbook(file, "ALL20000"),
    "spaces.xlsx": workbook_of_spaces,
}


@pytest.mark.parametrize("name", list(BOMBS))
def test_a_small_file_of_much_content_is_one_error(tmp_path, monkeypatch, name):
    """Bounds of a megabyte here, of 64 elsewhere: no time and memory out of proportion."""
    monkeypatch.setattr(claims, "SMALL", 2**20)
    BOMBS[name](tmp_path / name)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=f"{name}.*(shrink so far|far from the others)"):
            fg.read_table(tmp_path / name)
        assert tracemalloc.get_traced_memory()[1] < 60e6
    finally:
        tracemalloc.stop()


def test_data_that_shrink_well_are_read(tmp_path):
    """A code of one among five hundred classes, as MATLAB, NumPy and text keep it."""
    one = np.eye(500)[np.random.default_rng(0).integers(0, 500, 3000)]
    np.savez_compressed(tmp_path / "x.npz", X=one, Y=one[:, 0])
    savemat(tmp_path / "x.mat", {"X": one, "Y": one[:, :1]}, do_compression=True)
    for name in ("x.npz", "x.mat"):
        assert (tmp_path / name).stat().st_size < one.nbytes / 100
        np.testing.assert_array_equal(fg.read_table(tmp_path / name).X, one)


def test_time_is_linear_in_the_number_of_columns(tmp_path):
    """A kilobyte may hold a hundred thousand columns."""
    seconds = []
    for width in (1000, 20_000):
        np.savez_compressed(tmp_path / "x.npz", X=np.zeros((2, width), np.int8), Y=np.zeros(2))
        seconds.append(-time.process_time())
        assert fg.read_table(tmp_path / "x.npz").X.shape == (2, width)
        seconds[-1] += time.process_time()
    assert seconds[1] < 120 * seconds[0]  # 20 times the work; a quadratic share is 400 times


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
