"""Rows of a file that the workers fetch for themselves: the bits, the refusals, what goes wrong."""

import os

import numpy as np
import pytest

import fastggn as fg
from fastggn.data import raw, sources
from fastggn.data.sources import row_range
from fastggn.network import workspace

T = 300
CHUNK = 24  # a strip of samples, and half of one
NET = fg.MLP((4, 5, 2))


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of two chunks, and buffers of one."""
    rows = workspace.Plan(NET, T, chunk=CHUNK).rows
    monkeypatch.setattr(workspace, "_BLOCK_BYTES", 8 * CHUNK * 2 * (rows + 14))
    monkeypatch.setattr(workspace, "_BUFFER_BYTES", 1)


@pytest.fixture
def always_ready(monkeypatch):
    """A system that tells what its page cache holds, and holds everything."""
    monkeypatch.setattr(raw.FileBytes, "ready", lambda *_: True)
    monkeypatch.setattr(raw.MappedBytes, "ready", lambda *_: True)


@pytest.fixture
def table():
    return np.random.default_rng(0).normal(size=(T, 6)) * 3.0 + 1.0


def results(X, Y):
    """Return the bits of a gradient and of G, and the problem."""
    problem = fg.Problem(NET, X, Y, _chunk=CHUNK)
    theta = NET.init(seed=0)
    return [problem.gradient(theta).tobytes(), problem.ggn(theta).tobytes()], problem


def of_columns(table, inputs, targets):
    """Return what a kind of file should give, from memory."""
    return np.ascontiguousarray(table[:, inputs]), np.ascontiguousarray(table[:, targets])


def of_a_table(path, table):
    file = fg.data.open_npy(path)
    return fg.data.split_columns(file, (0, 4)), of_columns(table, [1, 2, 3, 5], [0, 4])


def of_a_scaled_table(path, table):
    files, (x, y) = of_a_table(path, table)
    X, Y = (fg.data.Standardised(part) for part in files)
    return (X, Y), ((x - X.mean) / X.scale, (y - Y.mean) / Y.scale)


def of_scaled_inputs(path, table):
    (X, Y), (x, y) = of_a_table(path, table)
    X = fg.data.Standardised(X)
    return (X, Y), ((x - X.mean) / X.scale, y)


def of_a_shard(path, table):
    files, arrays = of_a_table(path, table)
    return [row_range(part, 50, 250) for part in files], [part[50:250] for part in arrays]


def of_a_map(mode, inputs, targets, step=1):
    def kind(path, table):
        mapped = np.load(path, mmap_mode=mode)
        if mode == "c":
            mapped[7] = 0.5  # in memory only
        values = np.array(mapped[::step])
        return (mapped[::step, inputs], mapped[::step, targets]), of_columns(
            values, inputs, targets
        )

    return kind


def of_every_second_column(path, table):
    np.save(path, np.hstack([table, table]))
    return of_a_map("r", slice(0, 8, 2), slice(5, 8, 2))(path, None)


KINDS = {
    "table": of_a_table,
    "scaled table": of_a_scaled_table,
    "scaled inputs": of_scaled_inputs,
    "shard": of_a_shard,
    "map, targets last": of_a_map("r", slice(0, 4), slice(4, 6)),
    "map, targets first": of_a_map("r+", slice(2, 6), slice(0, 2)),
    "private map": of_a_map("c", slice(0, 4), slice(4, 6)),
    "every second row": of_a_map("r", slice(0, 4), slice(4, 6), 2),
    "every second column": of_every_second_column,
}


@pytest.fixture
def path(table, tmp_path):
    np.save(tmp_path / "table.npy", table)
    return tmp_path / "table.npy"


@pytest.mark.parametrize("kind", KINDS)
def test_workers_fetch_inputs_and_targets(kind, path, table, always_ready, monkeypatch):
    """Nothing is read in Python after the first pass, and the bits are those of the arrays."""
    files, arrays = KINDS[kind](path, table)
    expected, _ = results(*arrays)
    _, problem = results(*files)
    fetched, read, plain = [], [], sources.read_rows

    def read_rows(name, array, start, stop):
        read.append((start, stop))
        return plain(name, array, start, stop)

    monkeypatch.setattr(raw.RawRows, "release", lambda rows: fetched.append(rows.shape[0]))
    monkeypatch.setattr(sources, "read_rows", read_rows)
    theta = NET.init(seed=0)
    found = [problem.gradient(theta).tobytes(), problem.ggn(theta).tobytes()]
    assert found == expected
    assert sum(fetched) == 2 * problem.n_samples and len(fetched) > 4
    assert set(read) <= {(0, 1)}  # how many columns the loss makes of a target


@pytest.mark.parametrize("kind", ["scaled table", "every second row"])
def test_what_would_have_to_wait_is_read_ahead(kind, path, table, monkeypatch):
    """A file that is not in the page cache; a system that cannot tell."""
    monkeypatch.setattr(raw.FileBytes, "ready", lambda *_: False)
    monkeypatch.setattr(raw.MappedBytes, "ready", lambda *_: False)
    monkeypatch.setattr(workspace.Block, "_fetch", None)
    files, arrays = KINDS[kind](path, table)
    assert results(*files)[0] == results(*arrays)[0]


def test_what_a_worker_cannot_read_is_said_by_the_reader(path, always_ready):
    theta = NET.init(seed=0)
    file = fg.data.open_npy(path)
    problem = fg.Problem(NET, *fg.data.split_columns(file, (0, 4)), _chunk=CHUNK)
    with path.open("r+b") as stream:
        stream.truncate(5000)
    with pytest.raises(OSError, match="cut short"):
        problem.gradient(theta)
    file.close()
    with pytest.raises(ValueError, match="closed"):
        problem.gradient(theta)


def test_a_worker_that_failed_once(path, table, always_ready, monkeypatch):
    """An interrupted call, say: the part is read again, in Python."""
    files, arrays = of_a_table(path, table)
    expected, _ = results(*arrays)
    _, problem = results(*files)
    place = workspace.files.place
    monkeypatch.setattr(workspace.files, "place", lambda _, *rest: place(2**20, *rest))
    assert problem.gradient(NET.init(seed=0)).tobytes() == expected[0]


def test_rows_that_the_kernels_cannot_use(path, table, tmp_path):
    """Other types and orders are converted as they are read."""

    def refused(array):
        return raw.raw_columns(array) is None

    assert not refused(fg.data.open_npy(path))
    for number, other in enumerate([table.astype("f4"), table.astype(">f8"), table[:, 0]]):
        np.save(tmp_path / f"{number}.npy", other)
        assert refused(fg.data.open_npy(tmp_path / f"{number}.npy"))
        assert refused(np.load(tmp_path / f"{number}.npy", mmap_mode="r"))
    mapped = np.load(path, mmap_mode="r")
    assert not refused(mapped[3:, 2:])
    for other in (mapped[::-1], mapped[:, ::-1], mapped.T, mapped + 1.0, mapped[:0], table):
        assert refused(other)
    assert refused(np.broadcast_to(mapped[:1], (5, 6), subok=True))
    once = fg.data.Standardised(mapped)
    assert not refused(once) and refused(fg.data.Standardised(once))
    assert refused(fg.data.Standardised(table))
    far = np.lib.format.open_memmap(tmp_path / "far.npy", "w+", "f8", (T, 2000))
    assert fg.Problem(NET, far[:, :4], table[:, :2])._objective.samples._raw is None


def test_targets_elsewhere_are_read_beside(path, table):
    """In another file, or in rows of another length."""
    one = raw.raw_columns(np.load(path, mmap_mode="r"))
    assert one.beside(raw.raw_columns(np.load(path, mmap_mode="r"))) is None
    assert one.beside(raw.raw_columns(fg.data.open_npy(path))) is None
    mapped = np.load(path, mmap_mode="r")
    parts = [raw.raw_columns(part) for part in (mapped[:-1, :4], mapped[1:, :4], mapped[::2])]
    assert parts[0].beside(parts[1]) is None  # the row below
    assert parts[0].beside(parts[2]) is None


@pytest.mark.skipif(not hasattr(os, "RWF_NOWAIT"), reason="preadv with flags")
def test_ready_or_not(path):
    with fg.data.open_npy(path) as file:
        found = raw.raw_columns(file)
        size = path.stat().st_size - found.position
        if not found.source.ready(found.position, size):
            pytest.skip("the file system does not tell what is in the page cache")
        assert not found.source.ready(found.position, size + 1)
    assert not found.source.ready(found.position, size)
