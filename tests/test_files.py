"""Tables read from files, and archives that are written safely and read with suspicion."""

import builtins
import io
import os
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

import fastggn as fg
from fastggn.runtime.archive import (
    ArchiveError,
    MissingFileError,
    read_archive,
    read_sealed,
    write_sealed,
)
from fastggn.runtime.atomic_files import check_writable, write_atomically


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


# --- text ---------------------------------------------------------------------------------------


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    rows=st.lists(
        st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 3), min_size=1, max_size=9
    ),
    separator=st.sampled_from([",", ";", "\t", " "]),
    header=st.booleans(),
)
def test_any_finite_table_comes_back_exactly(tmp_path, rows, separator, header):
    lines = [separator.join(map(repr, row)) for row in rows]
    if header:
        lines.insert(0, separator.join("abc"))
    table = fg.read_table(write(tmp_path / "a.txt", "\n".join(lines)))
    np.testing.assert_array_equal(np.hstack([table.X, table.Y]), rows)


# --- arrays -------------------------------------------------------------------------------------


def test_npy(tmp_path):
    values = np.arange(12.0).reshape(4, 3)
    for number, array in enumerate(
        [values, np.asfortranarray(values), values.astype(">f4"), values.astype(np.int16)]
    ):
        path = tmp_path / f"{number}.npy"
        np.save(path, array)
        table = fg.read_table(path)
        np.testing.assert_array_equal(table.X, values[:, :2])
        np.testing.assert_array_equal(table.Y, values[:, 2:])
    assert table.targets == ("x2",)


def test_npz(tmp_path):
    X, Y = np.arange(8.0).reshape(4, 2), np.arange(4)
    np.savez(tmp_path / "a.npz", X=X, Y=Y, other=1.0 - Y)
    np.savez_compressed(tmp_path / "b.npz", x=X, y=Y)
    for name in ("a.npz", "b.npz"):
        table = fg.read_table(tmp_path / name)
        np.testing.assert_array_equal(table.X, X)
        np.testing.assert_array_equal(table.Y, Y[:, None])
    other = fg.read_table(tmp_path / "a.npz", target="other")
    np.testing.assert_array_equal(other.Y, 1.0 - Y[:, None])
    with pytest.raises(ValueError, match="no column 'othr'"):
        fg.read_table(tmp_path / "a.npz", target="othr")
    both = fg.read_table(tmp_path / "a.npz", target=["Y", "other"])
    assert both.targets == ("y0", "other0")


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"X": np.ones((3, 2))}, "no array 'Y' of targets"),
        ({"Y": np.ones(3)}, "expected X and Y"),
        ({"X": np.ones((3, 2)), "Y": np.ones(4)}, r"X has shape \(3, 2\) and Y \(4,\)"),
        ({"X": np.ones((0, 2)), "Y": np.ones(0)}, "not be empty"),
        ({"X": np.ones((3, 2, 1)), "Y": np.ones(3)}, r"must have shape \(T, n\)"),
        ({"X": np.array([["a"], ["b"]]), "Y": np.ones(2)}, "no input column is left"),
        ({"X": np.ones((2, 1), complex), "Y": np.ones(2)}, "complex numbers"),
        (
            {"X": np.array([[1.0], [np.nan]]), "Y": np.ones(2)},
            "'x0'.*1 missing value.*row 1",
        ),
        (
            {"X": np.ones((2, 1)), "Y": np.array([np.inf, 0])},
            "'y0'.*1 infinite.*row 0",
        ),
    ],
)
def test_bad_npz(tmp_path, arrays, match):
    path = tmp_path / "bad.npz"
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=match) as caught:
        fg.read_table(path)
    assert str(path) in str(caught.value)


class Bomb:
    def __reduce__(self):
        return os._exit, (99,)


def test_objects_are_never_unpickled(tmp_path):
    bombs = np.array([[Bomb()]], dtype=object)
    np.savez(tmp_path / "a.npz", X=bombs, Y=bombs)
    np.save(tmp_path / "a.npy", bombs)
    for name in ("a.npz", "a.npy"):
        with pytest.raises(ValueError, match="pickled objects, which are never loaded"):
            fg.read_table(tmp_path / name)


def test_npy_of_another_shape(tmp_path):
    np.save(tmp_path / "a.npy", np.ones(4))
    with pytest.raises(ValueError, match="at least 2"):
        fg.read_table(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", np.ones((0, 3)))
    with pytest.raises(ValueError, match="empty"):
        fg.read_table(tmp_path / "b.npy")


def test_cut_npy(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((40, 3)))
    data = (tmp_path / "a.npy").read_bytes()
    for length in range(0, len(data), 37):
        (tmp_path / "cut.npy").write_bytes(data[:length])
        with pytest.raises(ArchiveError):
            fg.read_table(tmp_path / "cut.npy")


def test_missing_folder_unknown(tmp_path):
    write(tmp_path / "samples.csv", "1,2\n")
    with pytest.raises(MissingFileError, match="no such file; did you mean 'samples.csv'"):
        fg.read_table(tmp_path / "sample.csv")
    with pytest.raises(ValueError, match="no such file"):
        fg.read_table(tmp_path / "nowhere" / "sample.csv")
    with pytest.raises(ValueError, match="this is a folder"):
        fg.read_table(tmp_path)
    with pytest.raises(ValueError, match="unknown kind of file '.xlsb'"):
        fg.read_table(write(tmp_path / "a.xlsb", "1"))


# --- HDF5 ---------------------------------------------------------------------------------------


def test_hdf5(tmp_path):
    h5py = pytest.importorskip("h5py")
    X, Y = np.arange(8.0).reshape(4, 2), np.arange(4)
    with h5py.File(tmp_path / "a.h5", "w") as stream:
        stream["X"], stream["Y"], stream["note"] = X, Y, "text"
        stream.create_group("group")
    table = fg.read_table(tmp_path / "a.h5")
    np.testing.assert_array_equal(table.X, X)
    np.testing.assert_array_equal(table.Y, Y[:, None])
    with pytest.raises(ValueError, match="no column 'z'"):
        fg.read_table(tmp_path / "a.h5", target="z")
    with pytest.raises(ValueError, match="not a readable HDF5 file"):
        fg.read_table(write(tmp_path / "b.h5", "no HDF5"))


def test_hdf5_without_its_extra(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **keywords):
        if name == "h5py":
            raise ImportError(name)
        return real(name, *args, **keywords)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r'pip install "fastggn\[io\]"'):
        fg.read_table(write(tmp_path / "a.h5", ""))


# --- archives -----------------------------------------------------------------------------------


def sealed(tmp_path):
    path = tmp_path / "sealed.npz"
    write_sealed(path, "model", {"theta": np.arange(30.0), "parts": {"a": np.eye(2), "b": None}})
    return path


def test_sealed_round_trip_is_an_ordinary_npz(tmp_path):
    path = sealed(tmp_path)
    tree = read_sealed(path, "model")
    np.testing.assert_array_equal(tree["theta"], np.arange(30.0))
    np.testing.assert_array_equal(tree["parts"]["a"], np.eye(2))
    assert tree["parts"]["b"] is None
    with np.load(path) as ordinary:
        np.testing.assert_array_equal(ordinary["theta"], np.arange(30.0))
        assert ordinary.files == ["theta", "parts/a", "header"]
    first = path.read_bytes()
    assert sealed(tmp_path).read_bytes() == first


def test_every_flipped_byte_is_found(tmp_path):
    data = sealed(tmp_path).read_bytes()
    path = tmp_path / "flipped.npz"
    for position in range(len(data)):
        flipped = bytearray(data)
        flipped[position] ^= 1 << (position % 8)
        path.write_bytes(flipped)
        with pytest.raises(ArchiveError):
            read_sealed(path, "model")


def test_every_cut_is_found(tmp_path):
    data = sealed(tmp_path).read_bytes()
    path = tmp_path / "cut.npz"
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(ArchiveError):
            read_sealed(path, "model")
    path.write_bytes(data + b"x")
    with pytest.raises(ArchiveError):
        read_sealed(path, "model")


def test_a_sealed_archive_of_another_kind_or_version(tmp_path, monkeypatch):
    path = sealed(tmp_path)
    with pytest.raises(ArchiveError, match="not a fastggn checkpoint, but 'fastggn-model'"):
        read_sealed(path, "checkpoint")
    monkeypatch.setattr("fastggn.runtime.archive.VERSION", 1)
    path = sealed(tmp_path)
    monkeypatch.undo()
    with pytest.raises(ArchiveError, match="format version 1; this fastggn reads version 2"):
        read_sealed(path, "model")


def test_a_damaged_npz_never_ends_in_another_error(tmp_path):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, X=np.arange(20.0).reshape(10, 2), Y=np.arange(10.0))
    data = buffer.getvalue()
    path = tmp_path / "flipped.npz"
    for position in range(len(data)):
        for bit in range(0, 8, 3):
            flipped = bytearray(data)
            flipped[position] ^= 1 << bit
            path.write_bytes(flipped)
            try:
                read_archive(path)
            except ArchiveError as error:
                assert "flipped.npz" in str(error)


def test_a_zip_that_claims_8_tib_is_refused_in_little_memory(tmp_path):
    path = tmp_path / "bomb.npz"
    claimed = 1 << 43
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({claimed // 8},), }}"
    header = header.ljust(117) + "\n"
    member = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("X.npy", member + bytes(64))
        archive.writestr("Y.npy", member + bytes(64))
    tracemalloc.start()
    with pytest.raises(ArchiveError, match=f"claims {claimed} bytes"):
        fg.read_table(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6


def test_a_compressed_array_cannot_exceed_what_deflate_can_hold(tmp_path):
    path = tmp_path / "zeros.npz"
    np.savez_compressed(path, X=np.zeros((20_000, 2)), Y=np.zeros(20_000))
    assert read_archive(path)["X"].shape == (20_000, 2)


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.bin"
    write_atomically(path, lambda stream: stream.write(b"old"))

    def fail(stream):
        stream.write(b"new, but half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, fail)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_a_link_is_followed_and_the_mode_follows_the_mask(tmp_path):
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.bin"
    link.symlink_to(tmp_path / "real" / "a.bin")
    write_atomically(link, lambda stream: stream.write(b"new"))
    assert link.is_symlink() and (tmp_path / "real" / "a.bin").read_bytes() == b"new"
    mask = os.umask(0o022)
    os.umask(mask)
    assert (tmp_path / "real" / "a.bin").stat().st_mode & 0o777 == 0o666 & ~mask


@pytest.mark.parametrize("attempt", [check_writable, lambda p: write_atomically(p, print)])
def test_places_that_cannot_be_written(tmp_path, attempt):
    with pytest.raises(ValueError, match="it is a folder"):
        attempt(tmp_path)
    with pytest.raises(FileNotFoundError, match="the folder does not exist"):
        attempt(tmp_path / "nowhere" / "a.npz")
    with pytest.raises(ValueError, match="not a regular file"):
        attempt(os.devnull)


def test_check_writable_leaves_nothing(tmp_path):
    path = tmp_path / "a.npz"
    check_writable(path, n_bytes=3_000_000)
    assert os.listdir(tmp_path) == []
    path.write_bytes(b"kept")
    check_writable(path)
    assert path.read_bytes() == b"kept"


def test_a_full_disk_names_the_file(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    path = tmp_path / "a.npz"
    with pytest.raises(OSError, match=r"No space left on device.*a\.npz"):
        write_sealed(path, "model", {"theta": np.ones(3)})
    assert os.listdir(tmp_path) == []
