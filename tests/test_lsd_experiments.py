"""The figures and the table of the loss surface decomposition."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

import papers as experiments
from fastggn import analysis
from papers import lsd_table1
from papers.mnist import FILES, find_folder, load_digits

ROOT = Path(__file__).resolve().parent.parent


def outcome(module, config):
    result = json.loads(json.dumps(module.run(config)))
    figure = module.plot(result)
    assert all(pair.get_xlabel() for pair in figure.axes if pair.get_visible())
    return result, module.summary(result)


def test_figure_1():
    result, text = outcome(*both("lsd-fig1"))
    assert {r["pattern"] for r in result["regions"]} == set(result["patterns"])
    assert len(result["patterns"]) == 6 and result["missing"] == ["001", "110"]
    assert sum(r["share"] for r in result["regions"]) == pytest.approx(1.0)
    assert "6 of 8" in text
    with pytest.raises(ValueError, match="points of the plane"):
        experiments.load("lsd-fig1").run({"seed": 0, "samples": [[1.0, 2.0, 3.0]]})


def both(name):
    module = experiments.load(name)
    return module, module.QUICK


def test_figure_2_with_its_caption_corrected():
    """The minima are {w_1 = 0, w_2 > 0}; for w_2 < 0 the loss falls on both sides."""
    result, text = outcome(*both("lsd-fig2"))
    assert result["boundary_loss"] == 5.0
    for near in result["neighbours"]:
        assert (near["lowest_change"] > 0) == (near["w2"] > 0)
    assert result["regions"] == pytest.approx({"01": 4.5, "10": 0.5})
    assert result["trainings"]["boundary"] > 0 and "local minimum" in text


def test_figure_3():
    result, text = outcome(*both("lsd-fig3"))
    totals = [[sum(t[n]) for n in ("all", "realisable", "attained")] for t in result["tables"]]
    assert totals == [[8, 6, 4], [64, 36, 28], [512, 216, 192], [4096, 1296, 1232]]
    assert "3360/1070/1014" in text
    X, y = np.random.default_rng(0).standard_normal((5, 2)), np.arange(5.0)
    assert analysis.loss_table(X, y, 1, formal=False).plot().axes


def folder():
    parent = os.environ.get("FASTGGN_DATA")
    return (Path(parent) if parent else ROOT.parent / "shared" / "data") / "mnist"


@pytest.fixture
def mnist():
    if not folder().is_dir():
        pytest.skip("the MNIST files are absent (FASTGGN_DATA names the data folder)")
    return str(folder())


def test_mnist_files_are_read(mnist):
    X, labels = load_digits(find_folder(mnist), 100)
    assert X.shape == (100, 784) and X.min() == 0.0 and X.max() == 1.0
    assert labels[:5].tolist() == [5, 0, 4, 1, 9]


def test_absent_mnist_files_are_named(tmp_path):
    config = {**lsd_table1.QUICK, "folder": str(tmp_path)}
    with pytest.raises(FileNotFoundError) as raised:
        lsd_table1.run(config)
    assert all(name in str(raised.value) for name in (*FILES, str(tmp_path), "FASTGGN_DATA"))


SMALL = {
    **lsd_table1.QUICK,
    "samples": 1000,
    "columns": [[8, 2, 12], [16, 2, 12]],
    "second_order": {**lsd_table1.QUICK["second_order"], "widths": [8], "passes": 2},
}


def by_cell(result):
    return {(cell["kind"], cell["k"]): cell for cell in result["cells"]}


@pytest.mark.slow
def test_table_1_in_small(mnist):
    result, text = outcome(lsd_table1, {**SMALL, "folder": mnist})
    cells = by_cell(result)
    for k in (8, 16):
        assert cells["rich", k]["mean"][-1] > cells["random", k]["mean"][-1] + 3.0
        assert cells["random", k]["paper"] is None  # of other samples: not to be compared
    assert "82.59" not in text
    for entry in result["second_order"]:
        assert len(entry["accuracy"]) == 2 and entry["accuracy"][-1] > 20.0  # it learns
    again = lsd_table1.run({**SMALL, "folder": mnist, "columns": [[8, 1, 12]]})
    assert again["cells"][0]["accuracy"][0] == pytest.approx(cells["random", 8]["accuracy"][0])


def test_the_papers_figures_stand_beside_all_samples_only():
    curves = [[70.0, 75.0], [71.0, 77.0]]
    cell = lsd_table1._cell("random", 16, curves, True)
    assert cell["paper"] == (82.59, 0.32) and cell["mean"] == [70.5, 76.0]
    assert lsd_table1._cell("random", 16, curves, False)["paper"] is None
    assert lsd_table1._cell("rich", 8, curves, True)["paper"] is None
    assert [c[0] for c in lsd_table1.DEFAULT["columns"]] == [
        int(k) for k in lsd_table1.PAPER["rich"]
    ]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::fastggn.ScalingWarning")  # pixels at the border are nearly 0
def test_the_order_of_table_1_holds_beyond_its_deviations(mnist):
    """Rich above random, the gap closing with k, over five repeats (on a subset)."""
    second = {**SMALL["second_order"], "widths": []}
    few = {**lsd_table1.DEFAULT, "folder": mnist, "samples": 3000,
           "columns": [[8, 5, 12], [32, 5, 12]], "second_order": second}  # fmt: skip
    cells = by_cell(lsd_table1.run(few))
    gaps, errors = [], []
    for k, _, _ in few["columns"]:
        rich, random = cells["rich", k], cells["random", k]
        assert len(rich["accuracy"]) == 5
        gaps.append(rich["mean"][-1] - random["mean"][-1])
        errors.append(np.hypot(rich["deviation"][-1], random["deviation"][-1]))
        assert gaps[-1] > 3.0 * errors[-1]
    assert gaps[0] - gaps[1] > np.hypot(*errors)
