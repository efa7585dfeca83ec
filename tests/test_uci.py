"""The published protocol on UCI tables."""

import numpy as np
import pytest
from documented import ROOT

from papers import tables, uci


class Known:
    """Predicts what it is told."""

    def __init__(self, mean, density):
        self.mean, self.density = mean, density

    def predict(self, X):
        return self.mean[:, None], np.ones((len(X), 1))

    def log_likelihood(self, X, Y):
        return self.density


def test_measures_are_in_the_unit_of_the_target():
    y = np.array([0.0, 1.0, 2.0])
    data = tables.Split(np.ones((1, 1)), np.ones(1), np.ones((3, 1)), y, unit=5.0)
    found = uci._measures(Known(y + [0.1, -0.1, 0.1], -1.5), data)
    assert found["rmse"] == pytest.approx(0.5)
    assert found["log_likelihood"] == pytest.approx(-1.5 - np.log(5.0))


def test_errors_are_those_of_the_mean():
    mean, error = uci.mean_and_error([1.0, 2.0, 6.0])
    assert mean == 3.0 and error == pytest.approx(np.sqrt(14.0 / 2.0 / 3.0))
    assert uci.mean_and_error([4.0]) == (4.0, 0.0)


def test_the_page_has_fits_below_the_published_errors():
    text = (ROOT / "docs" / "experiments" / "uci.md").read_text("utf-8")
    table = text[text.index("| test RMSE ") : text.index("| test log-likelihood")]
    head = [name.strip() for name in table.splitlines()[0].split("|")[2:-1]]
    ours = [line.split("|")[2:-1] for line in table.splitlines() if " units, " in line]
    least = np.min([[float(cell.split("±")[0]) for cell in row] for row in ours], axis=0)
    assert len(ours) >= 4 and head == ["yacht", "energy", "concrete", "kin8nm"]
    assert np.all(least <= [0.38, 0.42, 4.8, 0.068])


@pytest.mark.slow
def test_a_split_of_yacht_is_below_the_bar():
    """The bar is 0.38 for the mean of five splits; dropout has 0.37 on this one."""
    try:
        tables.find_table("yacht")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    found = uci.measure(("yacht", 2, 20, uci.DEFAULT))
    assert found["mixture"]["rmse"] <= 0.38
    assert found["mixture"]["log_likelihood"] >= -0.5


def test_a_network_without_units_is_refused():
    with pytest.raises(ValueError, match="units must be at least 1"):
        uci.run({**uci.QUICK, "units": [20, 0]}, print)
