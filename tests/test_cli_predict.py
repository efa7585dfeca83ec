"""``fastggn predict`` and ``evaluate``: from a table as people have it to new predictions."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from patience import HANGS
from scipy.io import savemat

import fastggn as fg
from fastggn.apps.cli import main
from fastggn.apps.cli.outcome import INTERNAL_ERROR, bad_input, report

NAMES = ["id", "sold", "town", "kind", "discount", "area (m2)", "rooms", "price, EUR"]
FEW = ["--hidden", 4, "--max-iter", 15]


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        return CliRunner().invoke(main, [str(a) for a in arguments])

    return call


def refused(result, *words):
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("fastggn: error: ")
    for word in words:
        assert word in result.stderr


def houses(n=1500, seed=0):
    """Rows of all kinds at once: a counter, dates, text, percent, gaps, quoted names with units."""
    rng = np.random.default_rng(seed)
    area, rooms = rng.uniform(30, 200, n).round(1), rng.integers(1, 7, n)
    town, kind = rng.choice(["Lund", "Malmö", "Visby"], n), rng.choice(["flat", "house"], n)
    days = np.datetime64("2021-03-14") + rng.integers(0, 700, n)
    discount = rng.integers(0, 20, n)
    price = 1000 * area * (1 + 0.1 * rooms) * np.where(kind == "house", 1.2, 1.0)
    price *= 1 - discount / 100
    gaps = rng.random(n) < 0.05
    cells = [
        [str(k + 1) for k in range(n)],
        [str(day) for day in days],
        town.tolist(),
        kind.tolist(),
        [f"{value} %" for value in discount],
        ["" if gap else f"{value}" for gap, value in zip(gaps, area, strict=True)],
        [str(value) for value in rooms],
        [f"{value:.2f}" for value in price],
    ]
    return dict(zip(NAMES, cells, strict=True))


def write(name, table, names=NAMES, separator=",", encoding="utf-8-sig", decimal="."):
    def cell(text, column):
        if column in ("area (m2)", "price, EUR"):
            text = text.replace(".", decimal)
        return f'"{text}"' if separator in text else text

    columns = [[cell(text, column) for text in table[column]] for column in names]
    head = separator.join(f'"{column}"' for column in names)
    rows = [separator.join(row) for row in zip(*columns, strict=True)]
    Path(name).write_text("\n".join([head, *rows]) + "\n", encoding=encoding)


TRAIN = ["train", "houses.csv", "--target", '"price, EUR"', "--missing", "impute",
         "--out", "houses.npz", *FEW]  # fmt: skip


def trained(run, **form):
    """Train on the messy table and write a second one, for prediction."""
    write("houses.csv", houses(), **form)
    write("new.csv", houses(40, seed=1), [n for n in NAMES if n != "price, EUR"], **form)
    extra = ["--encoding", form["encoding"]] if "encoding" in form else []
    extra += ["--decimal", form["decimal"]] if "decimal" in form else []
    result = run(*TRAIN, *extra)
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.parametrize(
    "form", [{}, {"separator": ";", "decimal": ",", "encoding": "latin-1"}], ids=["comma", "german"]
)
def test_two_commands_from_a_messy_table_to_predictions(run, form):
    result = trained(run, **form)
    assert "column 'id' is left out: it counts the rows" in result.stderr
    assert "225 of 1500 rows are held out" in result.stderr
    assert run("predict", "houses.npz", "new.csv", "-o", "prices.csv").exit_code == 0
    lines = Path("prices.csv").read_text().splitlines()
    assert lines[0] == '"price, EUR"' and len(lines) == 41
    given = np.array(lines[1:], dtype=float)
    true = np.array(houses(40, seed=1)["price, EUR"], dtype=float)
    gaps = np.array(houses(40, seed=1)["area (m2)"]) == ""
    assert np.sqrt(np.mean((given - true)[~gaps] ** 2)) < 0.1 * true.std()
    np.testing.assert_array_equal(given, fg.Model.load("houses.npz").predict("new.csv"))


def test_columns_are_found_by_name(run):
    trained(run)
    other = houses(40, seed=1)
    write("reordered.csv", {**other, "agent": ["Ek"] * 40}, ["rooms", "agent", *NAMES[1:6]])
    outputs = [run("predict", "houses.npz", name).stdout for name in ("new.csv", "reordered.csv")]
    assert outputs[0] == outputs[1] and len(outputs[0].splitlines()) == 41
    write("narrow.csv", other, [n for n in NAMES if n not in ("town", "rooms")])
    refused(run("predict", "houses.npz", "narrow.csv"), "2 faults:\n  column 'town' is missing\n",
            "column 'rooms' is missing")  # fmt: skip
    write("unknown.csv", {**other, "kind": ["castle"] * 40})
    refused(run("predict", "houses.npz", "unknown.csv", "-o", "p.csv"), "'kind'", "'castle'")
    assert not Path("p.csv").exists()
    refused(run("evaluate", "houses.npz", "new.csv"), "column 'price, EUR' is missing")


def test_a_second_file_may_be_written_otherwise(run):
    trained(run)
    new, other = run("predict", "houses.npz", "new.csv").stdout, houses(40, seed=1)
    form = {"separator": ";", "decimal": ",", "encoding": "latin-1"}
    write("german.csv", other, **form)
    refused(run("predict", "houses.npz", "german.csv"), "--encoding latin-1")
    words = ("german.csv", "--encoding", "latin-1", "--decimal", ",")
    assert run("predict", "houses.npz", *words).stdout == new
    assert run("evaluate", "houses.npz", *words).stdout.startswith("40 rows")
    refused(run("predict", "houses.npz", *words[:3], "--decimal", "comma"), "'comma'")


def test_a_wrong_file_is_named_for_what_it_is(run):
    trained(run)
    result = run("predict", "new.csv", "houses.npz")
    refused(result, "new.csv: a table, not a model; MODEL is first, then DATA")
    result = run("predict", "houses.npz", "houses.npz")
    refused(result, "houses.npz: a model or a checkpoint of fastggn, not a table")
    flowers()
    for wrong in ("flowers.csv", "nowhere.csv", "houses.npz"):
        assert run("predict", "houses.npz", wrong).stdout == ""  # no line before an error


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.process
@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_a_full_disk_under_the_standard_output(run, command, tmp_path):
    trained(run)
    write("other.csv", houses(40, seed=1))
    words = [sys.executable, "-m", "fastggn", command, "houses.npz", "other.csv"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, timeout=HANGS)
    assert done.returncode != 0 and "No space left on device" in done.stderr
    assert "internal error" not in done.stderr and "Traceback" not in done.stderr
    done = run(command, "houses.npz", "other.csv", "--json" if command == "evaluate" else "-o",
               "/dev/full")  # fmt: skip
    refused(done, "/dev/full")


def test_errors_on_another_table(run):
    trained(run)
    write("other.csv", houses(300, seed=2))
    result = run("evaluate", "houses.npz", "other.csv")
    assert result.exit_code == 0, result.output
    assert "300 rows" in result.stdout and "price, EUR" in result.stdout
    found = json.loads(run("evaluate", "houses.npz", "other.csv", "--json").stdout)
    expected = fg.Model.load("houses.npz").evaluate("other.csv").to_dict()
    assert found["targets"][0]["rms"] == pytest.approx(expected["targets"][0]["rms"], rel=1e-12)
    assert run("evaluate", "houses.npz", "other.csv", "--json", "errors.json").exit_code == 0
    assert json.loads(Path("errors.json").read_text())["n_rows"] == 300


@pytest.mark.parametrize("rows", [7, 40])
def test_parts_change_nothing(run, rows, monkeypatch):
    trained(run)
    whole = run("predict", "houses.npz", "new.csv").stdout.splitlines()[1:]
    errors = json.loads(run("evaluate", "houses.npz", "houses.csv", "--json").stdout)
    monkeypatch.setattr("fastggn.apps.cli.predict.MOST_ROWS", rows)
    monkeypatch.setattr("fastggn.apps.cli.evaluate.MOST_ROWS", 50 * rows)
    parts = run("predict", "houses.npz", "new.csv").stdout.splitlines()[1:]
    np.testing.assert_allclose(np.array(parts, float), np.array(whole, float), rtol=1e-13)
    again = json.loads(run("evaluate", "houses.npz", "houses.csv", "--json").stdout)
    assert again["targets"][0]["rms"] == pytest.approx(errors["targets"][0]["rms"], rel=1e-10)


def flowers(name="flowers.csv", n=200, seed=0):
    rng = np.random.default_rng(seed)
    a, b = rng.random((2, n))
    kinds = np.array(["daisy", "iris", "rose"])[(a > b).astype(int) + (a + b > 1.3)]
    rows = "\n".join(f"{x:.3f},{y:.3f},{kind}" for x, y, kind in zip(a, b, kinds, strict=True))
    Path(name).write_text(f"a,b,kind\n{rows}\n")
    return kinds


def test_classes_and_their_probabilities(run):
    flowers()
    result = run("train", "flowers.csv", *FEW, "--test-fraction", 0.2)
    assert result.exit_code == 0, result.output
    assert "softmax_cross_entropy loss" in result.stderr
    assert "accuracy" in result.stdout and "test rows: 41 rows" in result.stdout
    kinds = flowers("other.csv", 50, 1)
    assert run("predict", "model.npz", "other.csv", "--proba", "-o", "kinds.csv").exit_code == 0
    lines = [line.split(",") for line in Path("kinds.csv").read_text().splitlines()]
    assert lines[0] == ["kind", "p(daisy)", "p(iris)", "p(rose)"]
    p = np.array([line[1:] for line in lines[1:]], dtype=float)
    np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=1e-12)
    given = np.array([line[0] for line in lines[1:]])
    assert [f"p({label})" for label in given] == [lines[0][1 + k] for k in p.argmax(axis=1)]
    assert (given == kinds).mean() > 0.9
    assert run("predict", "model.npz", "other.csv", "-o", "kinds.npy").exit_code == 0
    np.testing.assert_array_equal(np.load("kinds.npy"), given)
    assert run("predict", "model.npz", "other.csv", "--proba", "-o", "p.npy").exit_code == 0
    np.testing.assert_array_equal(np.load("p.npy"), p)
    assert "precision" in run("evaluate", "model.npz", "other.csv").stdout
    words = "--std is for numbers, and the model predicts classes: --proba is for these"
    refused(run("predict", "model.npz", "other.csv", "--std"), words)
    assert run("train", "flowers.csv", *FEW, "--loss", "squared").exit_code == 0
    words = "the loss squared has none: train with --loss softmax_cross_entropy"
    refused(run("predict", "model.npz", "other.csv", "--proba"), words)


@pytest.mark.parametrize("kind", ["parquet", "xlsx", "mat", "csv"])
def test_every_kind_of_table_gives_the_model_of_python(run, kind):
    pandas = pytest.importorskip("pandas", reason="the extra table is absent")
    flowers()
    frame = pandas.read_csv("flowers.csv")
    name = f"flowers.{kind}"
    if kind == "parquet":
        pytest.importorskip("pyarrow", reason="the extra table is absent")
        frame.to_parquet(name)
    elif kind == "xlsx":
        pytest.importorskip("openpyxl", reason="the extra table is absent")
        frame.to_excel(name, index=False)
    elif kind == "mat":
        cells = {column: frame[column].to_numpy(dtype=object)[:, None] for column in ["kind"]}
        savemat(name, {"a": frame[["a"]], "b": frame[["b"]], **cells})
    assert run("train", name, *FEW, "--target", "kind").exit_code == 0
    found = fg.Model.load("model.npz")
    model, _ = fg.fit(fg.read_table(frame, "kind"), hidden=4, max_iter=15, seed=0)
    np.testing.assert_array_equal(found.theta, model.theta)
    assert found.digest == model.digest and found.split == model.split
    errors = json.loads(run("evaluate", "model.npz", name, "--json").stdout)
    assert errors["accuracy"] == model.evaluate(frame).accuracy
    lines = run("predict", "model.npz", name).stdout.splitlines()
    assert lines == ["kind", *model.predict(frame)]


def test_the_standard_input(run):
    flowers()
    content = Path("flowers.csv").read_bytes()
    assert run("train", "flowers.csv", *FEW, "--out", "file.npz").exit_code == 0
    result = CliRunner().invoke(main, ["train", "-", *map(str, FEW)], input=content)
    assert result.exit_code == 0, result.output
    models = fg.Model.load("model.npz"), fg.Model.load("file.npz")
    np.testing.assert_array_equal(models[0].theta, models[1].theta)
    result = CliRunner().invoke(main, ["predict", "model.npz", "-"], input=content)
    assert result.stdout == run("predict", "model.npz", "flowers.csv").stdout


def test_deviations(run):
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 3, 80)
    rows = np.column_stack([x, np.sin(x) + 0.1 * rng.standard_normal(80)])
    np.savetxt("a.csv", rows, delimiter=",", header="x,y", comments="")
    result = run("train", "a.csv", "--posterior", "--hidden", 4, "--max-iter", 20)
    assert result.exit_code == 0, result.output
    assert "effective parameters" in result.stdout and "nothing is held out" in result.stderr
    assert run("predict", "model.npz", "a.csv", "--std", "-o", "p.csv").exit_code == 0
    lines = Path("p.csv").read_text().splitlines()
    assert lines[0] == "y,y std"
    found = np.array([line.split(",") for line in lines[1:]], dtype=float)
    mean, deviation = fg.Model.load("model.npz").predict("a.csv", std=True)
    np.testing.assert_allclose(found, np.column_stack([mean, deviation]), rtol=1e-12)
    assert 0.05 < np.median(deviation) < 0.2
    words = "--proba is for classes, and the model predicts numbers: --std is for these"
    refused(run("predict", "model.npz", "a.csv", "--proba"), words)
    assert run("train", "a.csv", "--hidden", 4, "--max-iter", 3).exit_code == 0
    words = "--std needs a posterior, and the model has none: train it with --posterior"
    refused(run("predict", "model.npz", "a.csv", "--std"), words)


def test_rows_with_gaps_keep_their_lines(run):
    rng = np.random.default_rng(0)
    rows = [f"{a},{a * 2}" for a in rng.random(60)]
    Path("a.csv").write_text("a,y\n" + "\n".join(rows) + "\n")
    assert run("train", "a.csv", "--missing", "drop", "--hidden", 2, "--max-iter", 5).exit_code == 0
    Path("b.csv").write_text("a\n0.5\nNA\n0.25\n")
    lines = run("predict", "model.npz", "b.csv").stdout.split("\n")
    assert lines[2] == '""' and float(lines[1]) == pytest.approx(1.0, abs=0.1) and lines[3]
    assert run("predict", "model.npz", "b.csv", "-o", "b.npy").exit_code == 0
    np.testing.assert_array_equal(np.isnan(np.load("b.npy")), [False, True, False])


def test_a_name_for_predictions(run):
    flowers()
    assert run("train", "flowers.csv", *FEW).exit_code == 0
    refused(run("predict", "model.npz", "flowers.csv", "-o", "kinds"), ".csv or .npy")
    refused(run("predict", "model.npz", "flowers.csv", "-o", "flowers.csv"), "flowers.csv")
    assert run("predict", "model.npz", "flowers.csv", "-o", "kinds.csv").exit_code == 0
    words = "--out kinds.csv exists, and a table does not tell who wrote it: give another name, or "
    refused(run("predict", "model.npz", "flowers.csv", "-o", "kinds.csv"), words + "--force")
    assert run("predict", "model.npz", "flowers.csv", "-o", "kinds.csv", "--force").exit_code == 0
    refused(run("predict", "nowhere.npz", "flowers.csv"), "nowhere.npz")


def test_a_reader_that_goes_away_is_no_error(capsys):
    def gone():
        raise BrokenPipeError(32, "Broken pipe")

    with pytest.raises(BrokenPipeError), bad_input():
        gone()
    assert report(BrokenPipeError(32, "Broken pipe")) == INTERNAL_ERROR
    assert capsys.readouterr().err == ""
