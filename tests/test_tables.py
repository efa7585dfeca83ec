"""Tables as people have them: each is read rightly, or refused in words with all its faults."""

import gzip
import io
import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import fastggn as fg
from fastggn.data.columns import number_of
from fastggn.data.readers import read_raw

pandas = pytest.importorskip("pandas")


def write(path, content, encoding="utf-8"):
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


@pytest.fixture
def table(tmp_path):
    """Return a function that writes a text and reads it as a table."""

    def read(content, target=None, name="a.csv", encoded="utf-8", **keywords):
        return fg.read_table(write(tmp_path / name, content, encoded), target, **keywords)

    return read


@pytest.fixture
def refused(table):
    """Return a function that returns the message of the refusal of a text."""

    def message(content, *args, error=fg.TableError, **keywords):
        with pytest.raises(error) as caught:
            table(content, *args, **keywords)
        return str(caught.value)

    return message


def houses(rows=1500, seed=0):
    """A frame with all kinds of columns at once."""
    rng = np.random.default_rng(seed)
    size, rooms = rng.uniform(30, 200, rows).round(2), rng.integers(1, 7, rows)
    kind = rng.choice(["flat", "house", "shed"], rows)
    town = rng.choice(["Köln", "Ulm", "Bonn, Rhein"], rows)
    share = rng.integers(0, 101, rows)
    days = rng.integers(0, 3000, rows)
    built = np.datetime64("2015-01-01") + days
    price = 1000 * size * (1 + 0.1 * rooms) * np.where(kind == "house", 1.2, 1.0) + 10 * days
    gaps = np.where(rng.random(rows) < 0.05, np.nan, rooms)
    return pandas.DataFrame({
        "ID": [f"H{j:05}" for j in range(rows)],
        "size, living [m2]": size,
        "rooms": gaps,
        "kind": kind,
        "town": town,
        "let": [f"{s} %" for s in share],
        "built": [f"{d.day:02}.{d.month:02}.{d.year}" for d in pandas.DatetimeIndex(built)],
        "price [EUR]": price.round(2),
    })  # fmt: skip


def as_text(frame, separator=",", decimal=".", mark="NA"):
    """Return the text of a frame with quoted names."""
    stream = io.StringIO()
    quoting = {"quoting": 0}
    frame.to_csv(stream, sep=separator, decimal=decimal, index=False, na_rep=mark, **quoting)
    return stream.getvalue()


def test_the_messy_table_needs_one_argument(table, refused):
    """Must show 1: a byte order mark, units in quoted names, an ID, dates, percent, gaps."""
    text = as_text(houses())
    words = refused(text, "price", encoded="utf-8-sig")
    assert "1 fault" in words and "missing value" in words and "missing='impute'" in words
    found = table(text, "price", encoded="utf-8-sig", missing="impute")
    kinds = {c.name: c.kind for c in (*found.recipe.inputs, *found.recipe.targets)}
    assert kinds == {
        "size, living [m2]": "number", "rooms": "number", "kind": "category", "town": "category",
        "let": "percent", "built": "date", "price [EUR]": "number",
    }  # fmt: skip
    assert dict(found.recipe.left_out)["ID"] == "a text column with 1500 different values"
    assert any("'ID' is left out" in note for note in found.notes)
    units = {c.name: c.unit for c in (*found.recipe.inputs, *found.recipe.targets)}
    assert units["size, living [m2]"] == "m2" and units["price [EUR]"] == "EUR"
    assert units["let"] == "%"
    assert found.inputs[:3] == ("size, living [m2]", "rooms", "rooms is missing")
    assert np.isfinite(found.X).all() and found.n_rows == 1500
    frame = houses()
    np.testing.assert_array_equal(found.X[:, 0], frame["size, living [m2]"])
    np.testing.assert_array_equal(found.Y[:, 0], frame["price [EUR]"])
    let = found.inputs.index("let")
    np.testing.assert_array_equal(found.X[:, let], [float(s[:-2]) for s in frame["let"]])


def test_the_variant_with_semicolons_commas_and_latin_1_gives_the_same_numbers(table, refused):
    frame = houses(300)
    plain = table(as_text(frame), "price", missing="impute")
    text = as_text(frame, ";", ",", "")
    assert "encoding='latin-1'" in refused(text, encoded="latin-1", error=ValueError)
    words = refused(text, "price", encoded="latin-1", encoding="latin-1")
    assert words.count("decimal=','") == 3 and "'size, living [m2]'" in words
    assert "4 faults" in words  # all columns of numbers, and the gaps
    other = table(
        text, "price", encoded="latin-1", encoding="latin-1", decimal=",", missing="impute"
    )
    np.testing.assert_array_equal(other.X, plain.X)
    np.testing.assert_array_equal(other.Y, plain.Y)
    assert other.inputs == plain.inputs


def test_new_rows_are_matched_by_name(tmp_path, table):
    frame = houses(300)
    found = table(as_text(frame), "price", missing="impute")
    new = frame[list(reversed(frame.columns))].iloc[:50]
    X, Y, _ = found.recipe.encode(read_raw(write(tmp_path / "n.csv", as_text(new)), {}))
    np.testing.assert_array_equal(X, found.X[:50])
    np.testing.assert_array_equal(Y, found.Y[:50])
    with pytest.raises(fg.TableError) as caught:
        found.recipe.encode(read_raw(new.drop(columns=["kind", "let"]), {}))
    assert len(caught.value.faults) == 2 and "the columns there are" in str(caught.value)
    changed = new.assign(kind="castle", town="Bern")
    with pytest.raises(fg.TableError) as caught:
        found.recipe.encode(read_raw(changed, {}))
    assert len(caught.value.faults) == 2
    assert "unknown level 'castle'" in str(caught.value) and "row 0" in str(caught.value)
    again = type(found.recipe).from_dict(found.recipe.to_dict())
    assert again == found.recipe


def test_one_refusal_names_every_column(refused):
    words = refused(
        "when,share,size,n,y\n"
        "03/04/2020,12 %,1.5,1,1\n"
        "02/04/2020,x,2.5,,2\n"
        "01/05/2020,3 %,big,inf,3\n"
        "01/06/2020,4 %,3.5,4,4\n"
    )
    assert "5 faults" in words
    assert "'when' (date): 4 cells such as '03/04/2020' may begin with the day" in words
    assert "'share' (percent): 1 cell with 'x' (line 3)" in words
    assert "'size' (number): 1 cell with 'big' (line 4)" in words and "drop=['size']" in words
    assert "'n' (number): 1 missing value, the first in line 3" in words
    assert "'n' (number): 1 infinite value, the first in line 4; mend them" in words


@pytest.mark.parametrize(
    ("text", "inputs", "x"),
    [
        ('"x;m","y"\n1,2\n3,4\n', ("x;m",), [1, 3]),  # never inside quotes
        ('"x, m";y\n1;2\n3;4\n', ("x, m",), [1, 3]),
        ("x|y\n1|2\n3|4\n", ("x",), [1, 3]),
        ("sep=;\nx;y\n1;2\n3;4\n", ("x",), [1, 3]),
        ("x,y\r\n1,2\r\n3,4\r\n", ("x",), [1, 3]),
        ("x,y\r1,2\r3,4\r", ("x",), [1, 3]),
        ("# made today, by hand\nx,y\n1,2\n3,4\n", ("x",), [1, 3]),
        ("# x y\n1 2\n3 4\n", ("x",), [1, 3]),  # as numpy.savetxt
        ("Export of houses\n\nx,y\n1,2\n3,4\n", ("x",), [1, 3]),
        ("1,2\n3,4\n", ("column 0",), [1, 3]),
        ("a,b,y\n5,x,1\n6,x,2\n5,z,1\n7,z,2\n", ("a", "b=z"), [5, 6, 5, 7]),
        ("x,y\n5,1,2\n6,3,4\n7,9,9\n", ("x",), [1, 3, 9]),  # the rows have names
        (",x,y\n5,1,2\n6,3,4\n7,9,9\n", ("x",), [1, 3, 9]),
        (",x,y\n5,1,2\n7,3,4\n", ("row", "x"), [5, 7]),  # counts nothing
        ("Id,x,y\n1,1,2\n2,3,4\n", ("x",), [1, 3]),
        ("0,1,2,3\n1.5,2,3,4\n2.5,2,3,4\n", ("0", "1", "2"), [1.5, 2.5]),
        ("0,1,target\n1.5,2,a\n2.5,2,b\n1,1,a\n2,2,b\n", ("0", "1"), [1.5, 2.5, 1, 2]),
        ("1990,1991\n1,2\n3,4\n", ("column 0",), [1990, 1, 3]),
        ("x,y,\n1,2,\n3,4,\n", ("x",), [1, 3]),
        ("x,y\nm,s\n1,2\n3,4\n5,6\n", ("x",), [1, 3, 5]),
        ("x,y\n\u22121,2\n1.0D+05,2\n 1 234 ,3\n", ("x",), [-1, 1e5, 1234]),
        ("x;y\n1,234.5;1\n1'000;2\n", ("x",), [1234.5, 1000]),
        ("x,y\n1,2\n,,\n3,4\n\n", ("x",), [1, 3]),
        ('x,y\n1,"2"\n3,4\n', ("x",), [1, 3]),
    ],
)
def test_layouts(table, text, inputs, x):
    found = table(text)
    assert found.inputs == inputs
    np.testing.assert_array_equal(found.X[:, 0], x)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b,c\n1,2\n3,4\n5,6\n", "3 names ('a', 'b', 'c') where the rows have 2 cells"),
        ("a,b\n1,2\n3\n4,5,6\n5,5\n", "2 lines with another number of cells than the 2 columns "
         "(line 3 has 1, line 4 has 3)"),
        ("a,a,b\n1,2,3\n2,2,3\n", "'a' appears 2 times (numbers 0, 1): rename them"),
        ("1,5 2,5\n3,5 4,5\n", "decimal=','"),
        ("a;b\n1,5;2\n2,5;3\n", "decimal comma, such as '1,5': decimal=','"),
        ("d,y\n03/04/20,1\n04/04/20,2\n", "a year of two digits"),
        ("a,b\n", "a header but no rows"),
        ('x,y\n1,"2\n3,4\n5,6\n', "line 2: unexpected end of data: a quoted cell must end"),
        ("name,y\nx,1\nz,2\nw,3\n", "no input column is left ('name': a text column with 3"),
        ("", "the file is empty"),
        ("\n  \n", "the file is empty"),
        ("a\n1\n2\n", "at least 2"),
        ("x,y\n1,a\n2,a\n", "one class, 'a'"),
        ("x,y\n" + "".join(f"{j},t{j}\n" for j in range(20)), "20 different values in 20 rows"),
        (b"abc\0def\n1,2\n" * 9, "not a text file"),
        (b"x,y\n\xff,1\n", "encoding='latin-1'"),
    ],
)  # fmt: skip
def test_refusals(refused, text, words):
    assert words in refused(text, error=ValueError)


def test_header_and_names_can_be_told(table):
    assert table("1990,1991\n1,2\n3,4\n", header=True).inputs == ("1990",)
    assert table("0,1,2,3\n1.5,2,3,4\n", header=False).n_rows == 2
    with pytest.raises(fg.TableError) as caught:
        table("a,b,c\n1,2,3\n", ["q", "c"], drop="r", categorical=["s"])
    assert len(caught.value.faults) == 3 and "the columns there are: a, b, c" in str(caught.value)
    found = table('"a, b",c\n1,2\n3,4\n', "a, b")
    assert found.targets == ("a, b",) and found.inputs == ("c",)
    assert table("x [m],y\n1,2\n3,4\n", "x").targets == ("x [m]",)
    assert table("a,a,b\n1,2,3\n2,2,3\n", drop=[1]).inputs == ("a",)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-8-sig"])
def test_encodings_are_recognised(table, encoding):
    found = table("größe,y\n1,2\n3,4\n", encoded=encoding)
    assert found.inputs == ("größe",) and found.X[0, 0] == 1


def test_gzip_and_standard_input(tmp_path, monkeypatch):
    text = b"x,y\n1,2\n3,4\n"
    path = write(tmp_path / "a.csv.gz", gzip.compress(text))
    assert fg.read_table(path).X.tolist() == [[1], [3]]
    for content in (text, gzip.compress(text)):
        stdin = type("Stdin", (), {"buffer": io.BytesIO(content)})
        monkeypatch.setattr("sys.stdin", stdin)
        assert fg.read_table("-").X.tolist() == [[1], [3]]
    with pytest.raises(ValueError, match="not a readable gzip"):
        fg.read_table(write(tmp_path / "b.csv.gz", gzip.compress(text)[:-9]))
    with pytest.raises(ValueError, match="not a readable gzip"):
        fg.read_table(write(tmp_path / "c.csv.gz", text))


def test_ambiguous_dates_are_refused_and_the_order_is_kept(table, tmp_path):
    text = "d,y\n03/04/2020,1\n25/04/2020,2\n"
    found = table(text)
    np.testing.assert_array_equal(found.X[:, 0], [0, 22])
    raw = read_raw(write(tmp_path / "n.csv", "d\n05/04/2020\n"), {})
    np.testing.assert_array_equal(found.recipe.encode(raw, targets=False)[0], [[2]])
    for text in ("2020-04-03T12:00:00", "13.4.2020 12:00", "03-Apr-2020 12:00", "2020/04/03 12:00"):
        found = table(f"d,y\n{text},1\n{text},2\n")
        assert found.recipe.inputs[0].kind == "date", text
        assert found.recipe.inputs[0].origin.endswith("12:00:00")
    half = table("d,y\n2020-04-01,1\n2020-04-03T14:00:00+02:00,2\n")
    np.testing.assert_array_equal(half.X[:, 0], [0, 2.5])


@pytest.mark.parametrize(
    ("cell", "decimal", "number"),
    [
        ("1.5", ".", 1.5), ("1,5", ",", 1.5), ("1.234,5", ",", 1234.5), ("1,234.5", ".", 1234.5),
        ("1,23", ".", None), ("1.23", ",", None), ("\u22123", ".", -3.0), ("1.0D+05", ".", 1e5),
        ("1_000", ".", None), ("\u0661", ".", None), ("1 000 000", ".", 1e6), ("12,34,567", ".",
        None), ("1,234 567", ".", None), ("5 km", ".", None), ("inf", ".", math.inf),
        ("1e5", ",", 1e5), ("", ".", None), ("+.5", ".", 0.5), ("0x10", ".", None),
    ],
)  # fmt: skip
def test_numbers(cell, decimal, number):
    assert number_of(cell, decimal) == number


def test_missing_values_are_refused_dropped_or_filled(table):
    text = "x,k,y\n1,a,1\n?,b,2\n3,NA,3\n5,a,4\n"
    dropped = table(text, missing="drop")
    assert dropped.rows.tolist() == [0, 3] and dropped.X.tolist() == [[1], [5]]
    filled = table(text, missing="impute")
    assert filled.inputs == ("x", "x is missing", "k=b", "k is missing")
    assert filled.X.tolist() == [[1, 0, 0, 0], [3, 1, 1, 0], [3, 0, 0, 1], [5, 0, 0, 0]]


def test_frames_of_pandas():
    frame = pandas.DataFrame({
        "c": pandas.Categorical(["u", "v", "u", None]),
        "i": pandas.array([1, None, 3, 4], dtype="Int64"),
        "b": [True, False, True, True],
        "t": pandas.to_datetime(["2020-01-01", "2020-01-02", None, "2020-01-05"], utc=True),
        "y": [1.0, 2.0, 3.0, 4.0],
    })  # fmt: skip
    found = fg.read_table(frame, "y", missing="impute")
    assert [c.kind for c in found.recipe.inputs] == ["category", "number", "category", "date"]
    assert found.X[:, found.inputs.index("b=True")].tolist() == [1, 0, 1, 1]
    with pytest.raises(fg.TableError) as caught:
        fg.read_table(frame.assign(
            s=pandas.arrays.SparseArray([0, 0, 1, 2]), z=[1j] * 4, w=[[1], [2], [3], [4]],
            d=pandas.to_timedelta([1, 2, 3, 4]), p=pandas.period_range("2020", periods=4),
        ), "y", missing="impute")  # fmt: skip
    assert len(caught.value.faults) == 5
    for words in ("sparse", "complex", "objects of type list", "durations", "period"):
        assert words in str(caught.value)
    with pytest.raises(fg.TableError, match="first in row 1"):
        fg.read_table(frame[["i", "y"]])
    indexed = frame[["b", "y"]].set_index(pandas.Index([5, 6, 7, 8], name="when"))
    assert "reset_index()" in fg.read_table(indexed).notes[0]


def test_frames_of_polars_and_arrow():
    polars = pytest.importorskip("polars")
    columns = {"x": [1, None, 3, 2], "k": ["a", "b", "a", "a"], "b": [True, None, False, True]}
    frame = polars.DataFrame({**columns, "y": [1.0, 2.0, 3.0, 4.0]})
    found = fg.read_table(frame, "y", missing="impute")
    assert [c.kind for c in found.recipe.inputs] == ["number", "category", "category"]
    np.testing.assert_array_equal(found.X[:, 0], [1, 2, 3, 2])
    arrow = pytest.importorskip("pyarrow").table({"x": [1, 2], "y": [3, 4]})
    assert fg.read_table(arrow).X.tolist() == [[1], [2]]


def test_arrays():
    found = fg.read_table((np.ones((5, 2)), np.arange(5)))
    assert found.inputs == ("x0", "x1") and found.targets == ("y0",)
    assert fg.read_table(np.ones((5, 3), dtype=np.float32)).stored == (["float32"] * 2, ["float32"])
    with pytest.raises(ValueError, match="samples are rows: pass x.T"):
        fg.read_table((np.ones((2, 5)), np.arange(5)))
    with pytest.raises(fg.TableError, match="5 columns, where the model takes 3 inputs"):
        found = fg.read_table(np.random.default_rng(0).normal(size=(9, 4)))
        found.recipe.encode(read_raw(np.ones((3, 5)), {}))
    with pytest.raises(fg.TableError, match="samples are rows: pass x.T"):
        found.recipe.encode(read_raw(np.ones((3, 50)), {}))
    bad = np.ones((6, 4))
    bad[1, 0], bad[2, 2], bad[3, 3] = np.nan, np.inf, np.nan
    with pytest.raises(fg.TableError) as caught:
        fg.read_table(bad)
    assert len(caught.value.faults) == 3 and "row 2" in str(caught.value)
    sparse = pytest.importorskip("scipy.sparse").eye(3)
    with pytest.raises(TypeError, match="toarray"):
        fg.read_table(sparse)
    structured = np.zeros(4, dtype=[("a", float), ("b", "U3")])
    structured["a"], structured["b"] = [1, 2, 3, 4], ["u", "v", "u", "u"]
    assert fg.read_table(structured, "a").inputs == ("b=v",)


def test_columns_without_names_keep_their_places(table, tmp_path):
    first = table("1,2,3\n4,5,7\n", 0)
    np.testing.assert_array_equal(first.recipe.encode(first.raw)[0], first.X)
    found = table("".join(f"{j},{j * j},{j % 3}.5,{j}\n" for j in range(12)))
    assert found.inputs == ("column 1", "column 2")  # the first column counts the rows
    raw = read_raw(write(tmp_path / "n.csv", "7,1,2\n8,3,4\n"), {"header": False})
    X, Y, _ = found.recipe.encode(raw)
    assert Y is None and X.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("suffix", [".parquet", ".xlsx", ".csv"])
def test_files_of_all_kinds_give_the_same_table(tmp_path, suffix):
    pytest.importorskip("pyarrow")
    pytest.importorskip("openpyxl")
    frame = houses(60).drop(columns="built").assign(n=range(5, 65))
    path = tmp_path / f"a{suffix}"
    {".parquet": lambda: frame.to_parquet(path), ".csv": lambda: frame.to_csv(path, index=False),
     ".xlsx": lambda: frame.to_excel(path, index=False)}[suffix]()  # fmt: skip
    found = fg.read_table(path, "price", missing="impute")
    same = fg.read_table(frame, "price [EUR]", missing="impute")
    assert found.inputs == same.inputs
    np.testing.assert_array_equal(found.X, same.X)
    assert found.digest == same.digest


def test_sheets(tmp_path):
    pytest.importorskip("openpyxl")
    path = tmp_path / "a.xlsx"
    with pandas.ExcelWriter(path) as book:
        pandas.DataFrame({"a": [1, 2], "b": [3, 4]}).to_excel(book, sheet_name="one", index=False)
        pandas.DataFrame(
            [["My houses", None], ["x", "y"], ["m", "s"], [1, 2], [3, "n/a"], [5, 6]]
        ).to_excel(book, sheet_name="two", index=False, header=False)
    assert fg.read_table(path).inputs == ("a",)
    found = fg.read_table(path, sheet="two", missing="drop")
    assert found.inputs == ("x",) and found.X.tolist() == [[1], [5]]
    assert found.recipe.inputs[0].unit == "m"
    with pytest.raises(fg.TableError, match="line 5"):
        fg.read_table(path, sheet=1)
    with pytest.raises(ValueError, match="no sheet 'three'.*one, two"):
        fg.read_table(path, sheet="three")
    with pytest.raises(ValueError, match="not a readable Excel"):
        fg.read_table(write(tmp_path / "b.xlsx", b"PK\3\4 nonsense"))
    with pytest.raises(ValueError, match="not a readable Parquet"):
        fg.read_table(write(tmp_path / "b.parquet", b"PAR1 nonsense"))


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200) | st.text(alphabet='ab01.,;\t |"\n\r-e%#/', max_size=120))
def test_any_bytes_give_a_table_or_a_value_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    write(path, content)
    try:
        found = fg.read_table(path)
    except ValueError as error:
        assert str(error)
    else:
        assert np.isfinite(found.X).all() and found.X.shape[0] == found.Y.shape[0]


def test_a_large_table_of_mixed_columns_parses_each_text_once(table):
    rows = 20_000
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 9, (rows, 3)).astype(str)
    numbers[5, 0] = "NA"
    lines = [",".join(line) for line in np.column_stack([numbers, rng.choice(["u", "v"], rows)])]
    found = table("a,b,c,k\n" + "\n".join(lines), "c", missing="impute")
    assert found.n_rows == rows and found.inputs == ("a", "a is missing", "b", "k=v")


def test_lagged_series():
    y, u = np.arange(6.0), 10 * np.arange(6.0)
    found = fg.data.lagged(y, u, [1, 3], input_lags=[0, 2])
    assert found.inputs == ("y(t-1)", "y(t-3)", "u(t)", "u(t-2)") and found.series
    assert found.X.tolist() == [[2, 0, 30, 10], [3, 1, 40, 20], [4, 2, 50, 30]]
    assert found.Y.tolist() == [[3], [4], [5]] and found.targets == ("y",)
    frame = pandas.DataFrame({"load": y, "wind": u})
    assert fg.data.lagged(frame, lags=1).targets == ("load", "wind")
    for words, arguments in (
        ("a lag of 6", (y, None, 6)), ("each once", (y, None, [1, 1])),
        ("at least 1", (y, None, [0])), ("5", (y, u[:5], 1)),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            fg.data.lagged(*arguments)
    with pytest.raises(fg.TableError, match="missing"):
        fg.data.lagged([1.0, np.nan, 2.0, 3.0], lags=1)
    with pytest.raises(fg.TableError, match="holds no numbers"):
        fg.data.lagged({"y": ["a", "b", "c"]}, lags=1)
