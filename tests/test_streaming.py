"""Samples that stay in their files: the same bits as from memory, bounded parts, clean threads."""

import gc
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest
from patience import HANGS

import fastggn as fg
from fastggn.data import reading
from fastggn.data.scaler import Moments
from fastggn.data.sources import ArraySource, StreamedTargets, row_range
from fastggn.network import workspace

T = 700
CHUNK = 64


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(T, 3)) * [1.0, 10.0, 0.1] + [0.0, 5.0, -3.0]
    return X, np.sin(X[:, :2]) + 0.1 * rng.normal(size=(T, 2))


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of two chunks: several a pass."""
    net = fg.MLP((3, 5, 2))
    rows = workspace.Plan(net, T, chunk=CHUNK).rows
    monkeypatch.setattr(workspace, "_BLOCK_BYTES", 8 * CHUNK * 2 * (rows + 14))
    return net


class Rows:
    """Shape, dtype and slices of rows, nothing else; it keeps count of what it gave away."""

    def __init__(self, array, fail_from=None):
        self._array, self._fail_from = np.array(array), fail_from
        self.shape, self.dtype = self._array.shape, self._array.dtype
        self.alive, self.most_alive, self.threads = weakref.WeakValueDictionary(), 0, set()
        self._number = self.given = 0

    def __getitem__(self, rows):
        assert isinstance(rows, slice), rows
        self.given += len(range(*rows.indices(len(self._array))))
        self.threads.add(threading.current_thread().name)
        if self._fail_from is not None and rows.stop > self._fail_from:
            raise OSError("the disk is gone")
        part = self._array[rows].copy()
        self._number += 1
        self.alive[self._number] = part
        self.most_alive = max(self.most_alive, len(self.alive))
        return part


def from_npy(array, folder, name):
    np.save(folder / name, array)
    return fg.data.open_npy(folder / f"{name}.npy")


def from_memmap(array, folder, name):
    np.save(folder / name, array)
    return np.load(folder / f"{name}.npy", mmap_mode="r")


def from_hdf5(array, folder, name):
    h5py = pytest.importorskip("h5py")
    return h5py.File(folder / f"{name}.h5", "w").create_dataset(name, data=array, chunks=True)


def from_zarr(array, folder, name):
    zarr = pytest.importorskip("zarr")
    out = zarr.open(
        str(folder / name), mode="w", shape=array.shape, chunks=(100, *array.shape[1:]), dtype="f8"
    )
    out[:] = array
    return out


def from_rows(array, folder, name):
    return Rows(array)


KINDS = [from_npy, from_memmap, from_hdf5, from_zarr, from_rows]


def everything(problem, theta):
    """Return what could differ."""
    lin = problem.at(theta)
    parts = [lin.loss, lin.gradient, lin.gram(), lin.b, lin.matvec(theta), problem.outputs(theta)]
    parts += [problem.hessian(theta), problem.jacobian(theta).singular_values(), problem.targets]
    parts += [fg.train(problem, theta, max_iter=3).theta]
    parts += [fg.train(problem, theta, fg.Adam(batch_size=32), seed=1, max_iter=5).theta]
    part = problem.subset([5, 699, 5, 0])
    return [np.asarray(p).tobytes() for p in [*parts, part.loss(theta), part.targets]]


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=pytest.mark.slow) if k is from_zarr else k for k in KINDS]
)
def test_every_kind_of_file_gives_the_bits_of_the_array(kind, table, small_blocks, tmp_path):
    X, Y = table
    theta = small_blocks.init(seed=0)
    expected = everything(fg.Problem(small_blocks, X, Y, _chunk=CHUNK), theta)
    files = kind(X, tmp_path, "X"), kind(Y, tmp_path, "Y")
    assert everything(fg.Problem(small_blocks, *files, _chunk=CHUNK), theta) == expected
    alone = fg.Problem(small_blocks, X, files[1], _chunk=CHUNK)
    assert alone.gradient(theta).tobytes() == expected[1]


@pytest.mark.parametrize("dtype", ["f4", ">f8", "i2", "u1", "?"])
def test_other_dtypes_in_a_file(dtype, table, small_blocks, tmp_path):
    X = np.abs(table[0]).astype(dtype)
    theta = small_blocks.init(seed=0)
    expected = fg.Problem(small_blocks, X, table[1]).gradient(theta)
    found = fg.Problem(small_blocks, from_npy(X, tmp_path, "X"), table[1]).gradient(theta)
    assert found.tobytes() == expected.tobytes()


def test_one_dimensional_targets_and_labels_in_files(small_blocks, table, tmp_path):
    X, Y = table
    labels = (Y[:, 0] > 0).astype(np.int32)
    theta = small_blocks.init(seed=0)
    for loss, targets in (
        ("softmax_cross_entropy", labels),
        ("logistic", labels[:, None] ** [1, 2]),
    ):
        expected = fg.Problem(small_blocks, X, targets, loss, _chunk=CHUNK).gradient(theta)
        file = from_npy(targets, tmp_path, loss)
        found = fg.Problem(small_blocks, X, file, loss, _chunk=CHUNK).gradient(theta)
        assert found.tobytes() == expected.tobytes()
    one = fg.MLP((3, 5, 1))
    theta = one.init(seed=0)
    expected = fg.Problem(one, X, Y[:, 0]).loss(theta)
    assert fg.Problem(one, X, from_npy(Y[:, 0], tmp_path, "y")).loss(theta) == expected


def test_the_next_part_is_read_while_one_is_in_work():
    second = threading.Event()

    def read(start, stop):
        if start == 10:
            second.set()
        return start

    parts = reading.read_ahead(read, 30, 10)
    assert next(parts) == (0, 0)
    assert second.wait(HANGS)
    assert list(parts) == [(10, 10), (20, 20)]


def test_at_most_two_parts_beyond_the_one_in_work(small_blocks, table):
    X, Y = Rows(table[0]), Rows(table[1])
    problem = fg.Problem(small_blocks, X, Y, _chunk=CHUNK)
    X.most_alive = Y.most_alive = 0
    fg.train(problem, seed=0, max_iter=2)
    assert 1 <= X.most_alive <= 3  # 1 where a busy machine lets the reader wait
    assert 1 <= Y.most_alive <= 3
    assert any(name.startswith("fastggn-reader") for name in X.threads)


@pytest.mark.parametrize("loss", ["squared", "cauchy"])
def test_a_product_with_the_ggn_reads_the_samples_once(small_blocks, table, loss):
    X, theta = Rows(table[0]), small_blocks.init(seed=0)
    problem = fg.Problem(small_blocks, X, table[1], loss, l2=0.1, _chunk=CHUNK)
    operator = problem.ggn_operator(theta)
    v = np.random.default_rng(0).standard_normal((theta.size, 2))
    X.given = 0
    found = operator @ v
    assert X.given == T
    np.testing.assert_allclose(found, problem.ggn(theta) @ v, rtol=1e-12, atol=1e-14)


def readers():
    return [t for t in threading.enumerate() if t.name.startswith("fastggn-reader")]


def test_an_error_of_the_reader_is_raised_in_the_caller_and_no_thread_is_left(small_blocks, table):
    X = Rows(table[0])
    problem = fg.Problem(small_blocks, X, table[1], _chunk=CHUNK)
    X._fail_from = 400
    for _ in range(3):
        with pytest.raises(OSError, match="the disk is gone"):
            problem.gradient(small_blocks.init(seed=0))
    assert not readers()
    X._fail_from = None
    assert np.isfinite(problem.loss(small_blocks.init(seed=0)))
    assert not readers()


def test_a_pass_that_is_given_up_leaves_no_thread(small_blocks, table):
    slow = threading.Event()

    def read(start, stop):
        if start:
            slow.wait(0.05)
        return start

    parts = reading.read_ahead(read, 10, 2)
    assert next(parts) == (0, 0)
    parts.close()
    assert not readers()
    with pytest.raises(ZeroDivisionError):
        for _ in reading.read_ahead(read, 10, 2):
            1 / 0  # noqa: B018
    gc.collect()
    assert not readers()
    assert list(reading.read_ahead(read, 5, 2)) == [(0, 0), (2, 2), (4, 4)]
    assert list(reading.read_ahead(read, 0, 2)) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_the_first_bad_entry_is_named_before_theta_moves(
    kind, value, table, small_blocks, tmp_path, monkeypatch
):
    monkeypatch.setattr("fastggn.data.sources.BYTES_PER_READ", 8 * 3 * 100)
    X, Y = (a.copy() for a in table)
    X[[456, 600], 1] = value
    Y[[333, 650], 0] = value
    with pytest.raises(ValueError, match=rf"X\[456, 1\] is {value}"):
        fg.Problem(small_blocks, kind(X, tmp_path, "X"), Y)
    with pytest.raises(ValueError, match=rf"Y\[333, 0\] is {value}"):
        fg.Problem(small_blocks, table[0], kind(Y, tmp_path, "Y"))


def test_targets_that_the_loss_refuses_are_named_by_their_place_in_the_file(
    small_blocks, table, monkeypatch
):
    monkeypatch.setattr("fastggn.data.sources.BYTES_PER_READ", 8 * 2 * 100)
    labels = np.zeros(T, np.int64)
    labels[511] = 7
    with pytest.raises(ValueError, match=r"Y\[511\] is 7"):
        fg.Problem(small_blocks, table[0], Rows(labels), "softmax_cross_entropy")
    targets = np.zeros((T, 2))
    targets[512, 1] = 0.5
    with pytest.raises(ValueError, match=r"Y\[512, 1\] is 0.5"):
        fg.Problem(small_blocks, table[0], Rows(targets), "logistic")
    with pytest.raises(ValueError, match=r"one row for each of the 700 samples, got shape \(699,"):
        fg.Problem(small_blocks, table[0], Rows(targets[1:]))
    with pytest.raises(TypeError, match="Y must hold real numbers"):
        fg.Problem(small_blocks, table[0], Rows(targets.astype(complex)))


def test_an_object_that_gives_other_shapes_than_it_says():
    class Liar(Rows):
        def __getitem__(self, rows):
            return super().__getitem__(rows)[:-1]

    with pytest.raises(ValueError, match=r"X\[0:20\] gave shape \(19, 3\)"):
        fg.Problem(fg.MLP((3, 1)), Liar(np.zeros((20, 3))), np.zeros(20))


def test_standardised_rows(table, small_blocks, tmp_path, monkeypatch):
    monkeypatch.setattr("fastggn.data.sources.BYTES_PER_READ", 8 * 3 * 90)
    X, Y = table
    X = np.column_stack([X[:, :2], np.full(T, 0.1)])
    scaled = fg.data.Standardised(from_npy(X, tmp_path, "X"))
    np.testing.assert_allclose(scaled.mean, X.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(scaled.scale[:2], X.std(axis=0)[:2], rtol=1e-13)
    assert scaled.scale[2] == 0.125  # a constant column: the power of two above it
    expected = (X - scaled.mean) / scaled.scale
    np.testing.assert_array_equal(scaled[10:40], expected[10:40])
    np.testing.assert_allclose(scaled.undo(scaled[:]), X, rtol=1e-14, atol=1e-14)
    theta = small_blocks.init(seed=0)
    found = fg.Problem(small_blocks, scaled, Y, _chunk=CHUNK).gradient(theta)
    assert (
        found.tobytes()
        == fg.Problem(small_blocks, expected, Y, _chunk=CHUNK).gradient(theta).tobytes()
    )
    again = fg.data.Standardised(X[:5], scaled.mean, scaled.scale)
    np.testing.assert_array_equal(again[:], expected[:5])
    X[431, 1] = np.inf
    with pytest.raises(ValueError, match=r"samples\[431, 1\] is inf"):
        fg.data.Standardised(Rows(X))
    with pytest.raises(ValueError, match="both or none"):
        fg.data.Standardised(X, mean=scaled.mean)
    with pytest.raises(ValueError, match="scale must be positive"):
        fg.data.Standardised(X, scaled.mean, [1.0, 0.0, 1.0])


def test_the_deviation_of_columns_far_from_zero():
    """One pass of sums of squares would lose all digits here."""
    rng = np.random.default_rng(0)
    X = 1e9 + rng.normal(size=(5000, 2)) * [1e-1, 1e2]
    moments = Moments(2)
    for start in range(0, 5000, 77):
        moments.add(X[start : start + 77])
    # The entries themselves are rounded to 1e9 eps.
    error = np.abs(moments.deviation - X.std(axis=0))
    assert (error <= 4 * np.finfo(float).eps * 1e9).all()
    assert moments.count == 5000
    huge = Moments(1)
    huge.add(np.array([[1e308], [-1e308]]))
    with pytest.raises(ValueError, match="too large"):
        huge.scaler()


def test_columns_of_one_table(table, small_blocks, tmp_path):
    X, Y = table
    file = from_npy(np.column_stack([Y[:, 0], X, Y[:, 1]]), tmp_path, "table")
    inputs, targets = fg.data.split_columns(file, (0, -1))
    theta = small_blocks.init(seed=0)
    found = fg.Problem(small_blocks, inputs, targets, _chunk=CHUNK).gradient(theta)
    assert found.tobytes() == fg.Problem(small_blocks, X, Y, _chunk=CHUNK).gradient(theta).tobytes()
    for wrong, words in (((5,), "no target column 5"), ((0, 0), "each once"), ((), "each once")):
        with pytest.raises(ValueError, match=words):
            fg.data.split_columns(file, wrong)
    with pytest.raises(ValueError, match="none is left"):
        fg.data.split_columns(file, range(5))


def test_npy_files_that_are_refused(tmp_path):
    def refused(name, words):
        with pytest.raises(ValueError, match=words):
            fg.data.open_npy(tmp_path / name)

    np.save(tmp_path / "a.npy", np.arange(12.0).reshape(4, 3))
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(content[:-1])
    refused("cut.npy", "asks for")
    (tmp_path / "long.npy").write_bytes(content + b"x")
    refused("long.npy", "asks for")
    (tmp_path / "text.npy").write_text("1,2,3")
    refused("text.npy", "not a readable")
    np.save(tmp_path / "objects.npy", np.array([{}, 1]), allow_pickle=True)
    refused("objects.npy", "pickled")
    np.save(tmp_path / "complex.npy", np.ones((2, 2), complex))
    refused("complex.npy", "real numbers")
    np.save(tmp_path / "cube.npy", np.ones((2, 2, 2)))
    refused("cube.npy", r"\(T,\) or \(T, n\)")
    np.save(tmp_path / "fortran.npy", np.asfortranarray(np.ones((2, 2))))
    refused("fortran.npy", "Fortran")
    refused("absent.npy", "no such file")
    (tmp_path / "bomb.npy").write_bytes(content.replace(b"(4, 3), }      ", b"(10**12, 3), }"))
    refused("bomb.npy", "not a readable|asks for")
    with fg.data.open_npy(tmp_path / "a.npy") as rows:
        assert rows.shape == (4, 3) and len(rows) == 4
        np.testing.assert_array_equal(rows[1:4:2], [[3, 4, 5], [9, 10, 11]])
        np.testing.assert_array_equal(rows[-2:], rows[2:4])
        assert rows[4:].shape == (0, 3) and rows[3:1].shape == (0, 3)
        with pytest.raises(TypeError, match="slices"):
            rows[0]
    with pytest.raises(ValueError, match="closed"):
        rows[0:1]


def test_a_file_that_is_cut_while_it_is_read(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((1000, 3)))
    rows = fg.data.open_npy(tmp_path / "a.npy")
    with (tmp_path / "a.npy").open("r+b") as stream:
        stream.truncate(5000)
    with pytest.raises(OSError, match="cut short"):
        rows[:]


@pytest.mark.parametrize("kind", [from_npy, from_memmap])
def test_a_file_that_is_cut_between_two_passes(kind, table, small_blocks, tmp_path):
    """An error of the pass that meets the end, where a map would end the process."""
    X = kind(table[0], tmp_path, "X")
    problem = fg.Problem(small_blocks, X, table[1], _chunk=CHUNK)
    theta = small_blocks.init(seed=0)
    assert np.isfinite(problem.loss(theta))
    with (tmp_path / "X.npy").open("r+b") as stream:
        stream.truncate(5000)
    with pytest.raises(OSError, match="cut short"):
        problem.gradient(theta)
    assert not readers()


@pytest.mark.parametrize("kind", ["table", "scaled", "shard", "private map", "every second row"])
def test_views_of_a_file_give_the_bits_of_the_arrays(kind, table, small_blocks, tmp_path):
    """Columns of one table, scaled, a range of rows, and slices of maps."""
    rows, step = (slice(50, 650), 1) if kind == "shard" else (slice(None), 1)
    whole = np.column_stack([*table])
    file = from_npy(whole, tmp_path, "table")
    if "map" in kind or "row" in kind:
        step = 2 if "row" in kind else 1
        mapped = np.load(tmp_path / "table.npy", mmap_mode="c")
        mapped[7] = whole[7] = 0.5  # in memory only
        X, Y = mapped[::step, :3], mapped[::step, 3:]
    else:
        X, Y = (
            row_range(part, 50, 650) if kind == "shard" else part
            for part in fg.data.split_columns(file, (3, 4))
        )
    x, y = whole[rows][::step, :3], whole[rows][::step, 3:]
    if kind == "scaled":
        X = fg.data.Standardised(X)
        x = (x - X.mean) / X.scale
    theta = small_blocks.init(seed=0)
    found = fg.Problem(small_blocks, X, Y, _chunk=CHUNK)
    expected = fg.Problem(small_blocks, x, y, _chunk=CHUNK)
    assert found.gradient(theta).tobytes() == expected.gradient(theta).tobytes()
    assert found.ggn(theta).tobytes() == expected.ggn(theta).tobytes()


def resident(path):
    """Return the KiB of a mapped file that count as memory of this process."""
    found, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(" ")[0]:
            inside = line.endswith(str(path))
        elif inside and line.startswith("Rss:"):
            found += int(line.split()[1])
    return found


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="Linux tells what is resident")
@pytest.mark.parametrize("which", ["inputs", "targets"])
def test_scattered_rows_of_a_map_leave_no_pages_behind(tmp_path, which):
    """The system maps a neighbourhood of each row; without a release it would stay."""
    path = tmp_path / "rows.npy"
    np.save(path, np.arange(400_000.0).reshape(-1, 4))
    rows = np.load(path, mmap_mode="r")
    index = np.arange(0, 100_000, 997)
    source = ArraySource("X", rows)
    if which == "targets":
        source = StreamedTargets(rows, lambda raw, count: np.array(raw, dtype=float))
    taken = source.take(index) if which == "inputs" else source[index]
    np.testing.assert_array_equal(taken[:, 0], 4.0 * index)
    left = resident(path)
    assert rows[index].sum() > 0.0
    assert 5 * left < resident(path)
