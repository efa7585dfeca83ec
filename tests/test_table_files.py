"""Tables in files of arrays: HDF5, MATLAB, NumPy; and tables that are read in parts."""

import sys

import numpy as np
import pytest
from patience import HANGS

import fastggn as fg
from fastggn.data.readers import read_raw
from fastggn.data.stream import read_parts, stream_table

h5py = pytest.importorskip("h5py")
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(9, 3)), RNG.normal(size=(9, 2))


def save(path, **arrays):
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return path


def refusal(source, error=ValueError, **keywords):
    with pytest.raises(error) as caught:
        fg.read_table(source, **keywords)
    return str(caught.value)


def test_arrays_by_name(tmp_path):
    np.savez(tmp_path / "a.npz", x=X, y=Y, other=Y[:, 0], extra=np.ones(4))
    found = fg.read_table(tmp_path / "a.npz")
    assert (found.inputs, found.targets) == (("x0", "x1", "x2"), ("y0", "y1"))
    np.testing.assert_array_equal(found.Y, Y)
    assert any("'extra'" in note for note in found.notes)
    other = fg.read_table(tmp_path / "a.npz", "other")
    assert (other.inputs, other.targets) == (("x0", "x1", "x2"), ("other0",))
    np.savez(tmp_path / "v.npz", size=X[:, 0], price=X[:, 1], unit=3.0)
    assert fg.read_table(tmp_path / "v.npz").inputs == ("size",)
    np.savez(tmp_path / "t.npz", X=X.T, Y=Y.T)
    assert "samples are rows: pass x.T" in refusal(tmp_path / "t.npz")
    np.savez(tmp_path / "z.npz", a=X, b=Y)
    assert "expected X and Y" in refusal(tmp_path / "z.npz")


def test_npy_in_any_order(tmp_path):
    np.save(tmp_path / "c.npy", X)
    np.save(tmp_path / "f.npy", np.asfortranarray(X))
    same = [fg.read_table(tmp_path / f"{name}.npy") for name in "cf"]
    assert same[0].digest == same[1].digest
    with pytest.raises(ValueError, match="Fortran order"):
        stream_table(tmp_path / "f.npy")
    parts = list(read_parts(tmp_path / "f.npy", {}, 4))
    np.testing.assert_array_equal(np.concatenate([p.columns[1] for p in parts]), X[:, 1])


def test_hdf5_that_is_no_plain_table(tmp_path):
    assert "in groups (train/X)" in refusal(save(tmp_path / "g.h5", **{"train/X": X}))
    with h5py.File(tmp_path / "p.h5", "w") as file:  # as pandas writes a frame
        group = file.create_group("frame")
        group.attrs["pandas_type"] = "frame"
        group["axis0"] = np.array([b"a"])
    assert "to_parquet" in refusal(tmp_path / "p.h5")
    assert "samples are rows" in refusal(save(tmp_path / "t.h5", X=X.T, Y=Y.T))
    assert "not a readable HDF5" in refusal(save_bytes(tmp_path / "n.h5", b"nothing"))


def save_bytes(path, content):
    path.write_bytes(content)
    return path


def test_virtual_data_sets_need_their_sources(tmp_path):
    source = save(tmp_path / "part.h5", data=X)
    layout = h5py.VirtualLayout(shape=X.shape, dtype=float)
    layout[:] = h5py.VirtualSource("part.h5", "data", shape=X.shape)
    half = h5py.VirtualLayout(shape=X.shape, dtype=float)
    half[:4] = h5py.VirtualSource("part.h5", "data", shape=X.shape)[:4]
    for name, virtual in (("v.h5", layout), ("half.h5", half)):
        with h5py.File(tmp_path / name, "w") as file:
            file.create_virtual_dataset("X", virtual)
            file["Y"] = Y
    np.testing.assert_array_equal(fg.read_table(tmp_path / "v.h5").X, X)
    assert "its sources give 12 of its 27 entries" in refusal(tmp_path / "half.h5")
    save(source, other=X)
    assert "has no 'data'" in refusal(tmp_path / "v.h5")
    source.unlink()
    assert "part.h5 is absent" in refusal(tmp_path / "v.h5")
    with pytest.raises(ValueError, match="absent"):
        stream_table(tmp_path / "v.h5")
    with h5py.File(tmp_path / "e.h5", "w") as file:
        file.create_dataset("X", X.shape, float, external=[("gone.bin", 0, X.nbytes)])
    assert "stand in other files (gone.bin), which are not read" in refusal(tmp_path / "e.h5")
    save(source, X=X)
    with h5py.File(tmp_path / "l.h5", "w") as file:
        file["X"] = h5py.ExternalLink("part.h5", "X")
    assert "a link to another file" in refusal(tmp_path / "l.h5")


def cells(rows):
    out = np.empty((len(rows), len(rows[0])), dtype=object)
    for j, row in enumerate(rows):
        out[j, :] = row
    return out


def test_files_of_matlab(tmp_path):
    savemat = pytest.importorskip("scipy.io").savemat
    path = tmp_path / "a.mat"
    kinds = cells([["flat"], ["house"], ["flat"], ["flat"]])
    savemat(path, {"x": X[:4], "y": kinds})
    found = fg.read_table(path)
    assert found.classes == ("flat", "house") and found.Y.tolist() == [0, 1, 0, 0]
    savemat(path, {"size": X[:4, :1], "kind": kinds, "price": X[:4, 1:2], "note": "made by me"})
    assert fg.read_table(path, "price").inputs == ("size", "kind=house")
    savemat(path, {"T": cells([["size", "kind", "price"], [1.0, "a", 2.0], [2.0, "b", 3.0],
                               [3.0, "a", 4.0], [5.0, "a", 5.0]])})  # fmt: skip
    assert fg.read_table(path).inputs == ("size", "kind=b")
    savemat(path, {"data": X, "names": cells([["a"], ["b"], ["c"]])})
    assert fg.read_table(path).inputs == ("a", "b")
    savemat(path, {"x": X.T, "y": Y.T})
    assert "samples are rows" in refusal(path)
    savemat(path, {"S": {"x": X, "y": Y}})
    assert "-struct" in refusal(path)
    savemat(path, {"x": pytest.importorskip("scipy.sparse").csc_array(X), "y": Y})
    assert "full(x)" in refusal(path)
    assert "not a readable MATLAB" in refusal(save_bytes(path, b"MATLAB 5.0 nonsense" * 20))


def test_version_7_3_of_matlab_is_transposed_hdf5(tmp_path):
    path = tmp_path / "a.mat"

    def written(kind, add=lambda file: None):
        with h5py.File(path, "w", userblock_size=512) as file:
            for name, array in (("x", X), ("y", Y)):
                file[name] = array.T
                file[name].attrs["MATLAB_class"] = np.bytes_("double")
            add(file)
        with open(path, "r+b") as stream:
            head = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM"
            stream.write(head)

    written("double")
    found = fg.read_table(path)
    np.testing.assert_array_equal(found.X, X)
    np.testing.assert_array_equal(found.Y, Y)

    def labels(file):
        del file["y"]
        texts = ["flat", "house"] + ["flat"] * 7
        refs = []
        for j, text in enumerate(texts):
            item = file.create_dataset(f"#refs#/{j}", data=np.array([[ord(c)] for c in text], "u2"))
            item.attrs["MATLAB_class"] = np.bytes_("char")
            refs.append(item.ref)
        file.create_dataset("y", data=np.array([refs], dtype=h5py.ref_dtype))
        file["y"].attrs["MATLAB_class"] = np.bytes_("cell")

    written("cell", labels)
    assert fg.read_table(path).classes == ("flat", "house")

    def a_table(file):
        file["T"] = np.zeros((1, 6), "u4")
        file["T"].attrs["MATLAB_class"] = np.bytes_("table")

    written("table", a_table)
    assert "writetable" in refusal(path)


def test_samples_stay_in_their_file(tmp_path):
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(5000, 4)).astype(np.float32)
    np.save(tmp_path / "a.npy", rows)
    found = stream_table(tmp_path / "a.npy", target=[0], drop=[2])
    assert not isinstance(found.X, np.ndarray) and found.inputs == ("x1", "x3")
    np.testing.assert_array_equal(found.X[10:20], rows[10:20, [1, 3]])
    assert found.stored == (["float32"] * 2, ["float32"])
    whole = fg.read_table(tmp_path / "a.npy", target=[0], drop=[2])
    assert whole.digest == found.digest
    index = np.sort(rng.choice(5000, 900, replace=False))
    part = found.take(index)
    assert not isinstance(part.X, np.ndarray)
    np.testing.assert_array_equal(part.X[100:300], rows[index[100:300]][:, [1, 3]])
    np.testing.assert_array_equal(part.Y[:], rows[index][:, [0]])
    save(tmp_path / "a.h5", x=rows[:, 1:], y=rows[:, :1])
    other = stream_table(tmp_path / "a.h5")
    np.testing.assert_array_equal(other.X[5:9], rows[5:9, 1:])
    with pytest.raises(fg.TableError, match="no data set 'z'"):
        stream_table(tmp_path / "a.h5", "z")
    with pytest.raises(fg.TableError, match="no column 7"):
        stream_table(tmp_path / "a.npy", 7)
    with pytest.raises(ValueError, match="fastggn convert"):
        stream_table(save_bytes(tmp_path / "a.csv", b"a,b\n1,2\n"))
    problem = fg.Problem(fg.MLP((2, 1)), found.X, found.Y)
    assert problem.n_samples == 5000


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".csv.gz", ".npy", ".h5", ".parquet", ".xlsx"])
def test_parts_are_the_table(tmp_path, suffix):
    pandas = pytest.importorskip("pandas")
    kinds = np.array(["u", "v", "w"])[np.arange(50) % 3]
    numbers = np.random.default_rng(1).normal(size=50).round(6)
    frame = pandas.DataFrame({"x": numbers, "k": kinds, "y": numbers[::-1]})
    path = tmp_path / f"a{suffix}"
    if suffix == ".npy":
        np.save(path, frame[["x", "y"]].to_numpy())
    elif suffix == ".h5":
        save(path, X=frame[["x"]].to_numpy(), Y=frame[["y"]].to_numpy())
    elif suffix == ".parquet":
        pytest.importorskip("pyarrow")
        frame.to_parquet(path)
    elif suffix == ".xlsx":
        pytest.importorskip("openpyxl")
        frame.to_excel(path, index=False)
    else:
        frame.to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",")
    found = fg.read_table(path)
    parts = list(read_parts(path, found.recipe.reading, 20))
    assert [part.n_rows for part in parts] == [20, 20, 10]
    places = [part.place(0) for part in parts]
    text = suffix.startswith((".csv", ".tsv")) or suffix == ".xlsx"
    assert places == (["line 2", "line 22", "line 42"] if text else ["row 0", "row 20", "row 40"])
    encoded = [found.recipe.encode(part) for part in parts]
    np.testing.assert_array_equal(np.concatenate([X for X, _, _ in encoded]), found.X)
    np.testing.assert_array_equal(np.concatenate([Y for _, Y, _ in encoded]), found.Y)


MEMORY = """
import sys, tracemalloc
import fastggn as fg
from fastggn.data.stream import read_parts
tracemalloc.start()
print(sum(part.n_rows for part in read_parts(sys.argv[1], {}, 2000)))
print(tracemalloc.get_traced_memory()[1] / 2**20)
"""


@pytest.mark.process
def test_parts_of_a_large_text_need_little_memory(tmp_path):
    import subprocess

    path = tmp_path / "a.csv"
    path.write_text("x,k,y\n" + "1.25,some text,3.5\n" * 200_000)
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(path)], capture_output=True, text=True, timeout=HANGS
    )
    assert done.returncode == 0, done.stderr
    rows, peak = done.stdout.split()
    assert int(rows) == 200_000 and float(peak) < 8.0
    assert read_raw(path, {}).n_rows == 200_000


def test_a_table_in_a_file_is_fitted_as_one_in_memory(tmp_path):
    rows = np.random.default_rng(1).normal(size=(300, 3))
    rows[:, 2] = rows[:, 0] * rows[:, 1]
    np.save(tmp_path / "a.npy", rows)
    options = {"hidden": 4, "seed": 0, "max_iter": 5}
    one, _ = fg.fit(stream_table(tmp_path / "a.npy"), **options)
    two, _ = fg.fit(fg.read_table(tmp_path / "a.npy"), **options)
    assert one.digest == two.digest and one.split == two.split
    np.testing.assert_allclose(one.theta, two.theta, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5", ".mat", ".parquet", ".xlsx", ".csv.gz"])
def test_damaged_files_end_in_value_errors(tmp_path, suffix):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"x": X[:, 0], "k": list("uvwuvwuvw"), "y": Y[:, 0]})
    path = tmp_path / f"a{suffix}"
    {
        ".npy": lambda: np.save(path, X),
        ".npz": lambda: np.savez(path, X=X, Y=Y),
        ".h5": lambda: save(path, X=X, Y=Y),
        ".mat": lambda: pytest.importorskip("scipy.io").savemat(path, {"x": X, "y": Y}),
        ".parquet": lambda: pytest.importorskip("pyarrow") and frame.to_parquet(path),
        ".xlsx": lambda: pytest.importorskip("openpyxl") and frame.to_excel(path, index=False),
        ".csv.gz": lambda: frame.to_csv(path, index=False),
    }[suffix]()
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    for j in range(12):
        damaged = bytearray(whole)
        if j < 6:
            del damaged[int(rng.integers(1, len(whole))) :]
        else:
            damaged[int(rng.integers(len(whole)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            found = fg.read_table(path)
        except ValueError as error:
            assert str(path) in str(error) or path.name in str(error)
        else:
            assert j >= 6 and np.isfinite(found.X).all()


def test_the_errors_name_the_extra(tmp_path, monkeypatch):
    for name, missing in (("a.parquet", "pyarrow.parquet"), ("a.xlsx", "openpyxl")):
        monkeypatch.setitem(sys.modules, missing, None)
        with pytest.raises(ImportError, match=r'pip install "fastggn\[table\]"'):
            fg.read_table(save_bytes(tmp_path / name, b"any"))
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r'pip install "fastggn\[io\]"'):
        fg.read_table(save_bytes(tmp_path / "a.h5", b"any"))
    monkeypatch.setitem(sys.modules, "pandas", None)
    text = b"x,k,y\n1,a,2\n3,b,4\n5,a,6\n2,a,1\n"
    assert fg.read_table(save_bytes(tmp_path / "a.csv", text)).inputs == ("x", "k=b")


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "digits", "diabetes"])
def test_known_tables_are_the_same_from_every_kind_of_file(tmp_path, name):
    """Must show: classes as text, from CSV, Parquet, Excel and MATLAB."""
    datasets = pytest.importorskip("sklearn.datasets")
    pytest.importorskip("pyarrow")
    pytest.importorskip("openpyxl")
    savemat = pytest.importorskip("scipy.io").savemat
    data = getattr(datasets, f"load_{name}")(as_frame=True)
    frame = data.frame.iloc[::5]
    labels = getattr(data, "target_names", None)
    if labels is not None and name != "diabetes":
        frame = frame.assign(target=np.array([f"k{n}" for n in labels])[frame["target"]])
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_parquet(tmp_path / "a.parquet")
    frame.to_excel(tmp_path / "a.xlsx", index=False)
    target = np.asarray(frame["target"], dtype=object if labels is not None else float)
    savemat(
        tmp_path / "a.mat", {"x": frame.drop(columns="target").to_numpy(), "y": target[:, None]}
    )
    found = {kind: fg.read_table(tmp_path / f"a.{kind}") for kind in ("csv", "parquet", "xlsx")}
    assert found["csv"].digest == found["parquet"].digest
    np.testing.assert_allclose(found["xlsx"].X, found["csv"].X, rtol=1e-15)  # 16 digits in a cell
    np.testing.assert_array_equal(found["xlsx"].Y, found["csv"].Y)
    assert len({table.inputs for table in found.values()}) == 1
    assert fg.read_table(tmp_path / "a.mat").digest == found["csv"].digest
    classes = found["csv"].classes
    assert (classes is None) == (name == "diabetes")
    assert classes is None or classes == tuple(sorted(f"k{n}" for n in labels))
    np.testing.assert_array_equal(found["csv"].X, frame.drop(columns="target").to_numpy(float))


def test_a_part_without_a_complete_row(tmp_path):
    rows = np.random.default_rng(1).normal(size=(60, 2))
    lines = [f"{a},{b if j > 5 else 'NA'},{a * b}" for j, (a, b) in enumerate(rows)]
    path = save_bytes(tmp_path / "a.csv", "\n".join(["a,b,y", *lines]).encode())
    model, _ = fg.fit(fg.read_table(path, missing="drop"), hidden=4, seed=0, max_iter=1)
    parts = [model.encode(p, targets=True) for p in read_parts(path, model.recipe.reading, 4)]
    assert [part.n_rows for part in parts[:3]] == [0, 2, 4]
    assert sum(part.n_rows for part in parts) == model.evaluate(path).n_rows == 54
    with pytest.raises(fg.TableError, match="no row is left"):
        model.predict({"a": [1.0], "b": [np.nan]})
