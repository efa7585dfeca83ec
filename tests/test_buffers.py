"""Memory for the parts of a file: used again when nobody has it, and never before."""

import gc
import threading

import numpy as np
import pytest

import fastggn as fg
from fastggn.runtime import buffers

SHAPE = (40_000, 7)


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(buffers, "_blocks", buffers._Blocks())


def address(array):
    return array.__array_interface__["data"][0]


def test_memory_is_used_again_when_the_array_is_gone():
    first = buffers.lend(SHAPE, np.float64)
    there = address(first)
    del first
    second = buffers.lend(SHAPE, np.float64)
    assert address(second) == there
    assert second.shape == SHAPE and second.flags.c_contiguous and second.flags.writeable


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a[5:],
        lambda a: a.T[::2],
        lambda a: a[10:][:5],
        lambda a: a.reshape(-1).view(np.int64),
        lambda a: a.data,
        lambda a: np.ascontiguousarray(a),
        lambda a: np.asarray(a)[:, -1:],
    ],
)
def test_a_view_keeps_the_memory(view):
    array = buffers.lend(SHAPE, np.float64)
    array[...] = 3.0
    kept, there = view(array), address(array)
    before = np.array(kept)
    del array
    gc.collect()
    other = buffers.lend(SHAPE, np.float64)
    other[...] = 7.0
    assert address(other) != there
    np.testing.assert_array_equal(np.asarray(kept), before)


def test_small_and_huge_arrays_are_not_kept(monkeypatch):
    monkeypatch.setattr(buffers, "MOST_BYTES", 2**20)
    for shape in ((3, 2), (2**18, 1)):
        assert buffers.lend(shape, np.float64).base is None
    assert buffers.lend((0, 5), np.float32).shape == (0, 5)
    assert buffers._blocks._idle == []


def test_few_blocks_wait():
    held = [buffers.lend(SHAPE, np.float32) for _ in range(10)]
    del held
    assert len(buffers._blocks._idle) == buffers.IDLE
    # One much larger than what is asked for would keep memory that nobody needs.
    assert buffers.lend((buffers.LEAST_BYTES, 1), np.uint8).base.base is not None
    assert len(buffers._blocks._idle) == buffers.IDLE


def test_threads_never_share_a_block():
    wrong = []

    def work(number):
        for turn in range(200):
            array = buffers.lend(SHAPE, np.uint8)
            array[...] = number
            if not (array == number).all():
                wrong.append(turn)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_rows_of_a_file_are_the_callers_own(tmp_path):
    table = np.random.default_rng(0).normal(size=(60_000, 5))
    np.save(tmp_path / "t.npy", table)
    file = fg.data.open_npy(tmp_path / "t.npy")
    mapped = np.load(tmp_path / "t.npy", mmap_mode="r")
    X, Y = fg.data.split_columns(file, (1, 4))
    kept = [(s, s + 20_000, file[s : s + 20_000]) for s in range(0, 60_000, 20_000)]
    parts = [(X[s:e], Y[s:e]) for s, e, _ in kept]
    copies = [fg.data.sources.read_rows("X", mapped, s, e) for s, e, _ in kept]
    for (start, stop, rows), (x, y), copy in zip(kept, parts, copies, strict=True):
        np.testing.assert_array_equal(rows, table[start:stop])
        np.testing.assert_array_equal(copy, table[start:stop])
        np.testing.assert_array_equal(x, table[start:stop][:, [0, 2, 3]])
        np.testing.assert_array_equal(y, table[start:stop][:, [1, 4]])
