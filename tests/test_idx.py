"""IDX files: those of MNIST, and damaged ones."""

import gzip
import struct

import numpy as np
import pytest

from papers.mnist import read_idx

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def encode(array):
    header = struct.pack(">HBB", 0, CODES[array.dtype.str[1:]], array.ndim)
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return header + sizes + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("compress", [False, True])
def test_every_type_and_both_forms(tmp_path, code, compress):
    array = (np.arange(24).reshape(2, 3, 4) % 100).astype(code)
    path = tmp_path / "some.data"  # the name says nothing
    path.write_bytes(gzip.compress(encode(array)) if compress else encode(array))
    found = read_idx(path)
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype and found.dtype.isnative and found.flags.writeable


def test_empty_array(tmp_path):
    (tmp_path / "a").write_bytes(encode(np.zeros((0, 28, 28), "u1")))
    assert read_idx(tmp_path / "a").shape == (0, 28, 28)


GOOD = encode(np.arange(12, dtype="u1").reshape(3, 4))
PACKED = gzip.compress(GOOD, mtime=0)  # without the time: it would be in the names of tests


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 bytes only"),
        (GOOD[:3], "3 bytes only"),
        (b"\x89PNG\r\n\x1a\n", "starts with 89 50 4e 47"),
        (b"\x00\x00\x07\x01" + GOOD[4:], "not an IDX file"),
        (b"\x00\x00\x08\x00" + GOOD[4:], "not an IDX file"),
        (GOOD[:9], "inside its header of 2 dimensions"),
        (GOOD[:-1], r"holds 11 of the 12 bytes .* \(3 x 4 of uint8\)"),
        (GOOD[:12], "holds 0 of the 12 bytes"),
        (GOOD + b"\x00", "holds more than the 12 bytes"),
        (b"\x00\x00\x08\x02" + b"\xff" * 8 + b"\x01", "holds 1 of the"),
        (PACKED[:-12], "gzip stream is damaged"),
        (
            PACKED[:15] + b"\xff\xff" + PACKED[17:],
            "gzip",
        ),
        (PACKED[:-8] + b"\x00" * 8, "gzip stream is damaged"),
        (gzip.compress(GOOD[:-1], mtime=0), "holds 11 of the 12 bytes"),
        (b"\x1f\x8b", "gzip stream is damaged"),
    ],
)
def test_damaged_files_are_named(tmp_path, content, message):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as raised:
        read_idx(path)
    assert str(path) in str(raised.value)


def test_absent_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "none")
