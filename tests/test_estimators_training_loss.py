"""Training losses beside scikit-learn's L-BFGS, from the same weights on the same objective."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from bench import estimators  # noqa: E402
from bench.estimators import ENDS, Case, compare  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


# On noise that keeps the loss high, "auto" stays with damped steps (docs/decisions/0010).
MORE = {("diabetes", 5, "as it comes"): 150, ("diabetes", 10, "converged"): 400}


@pytest.mark.parametrize(
    ("case", "end"),
    [
        (Case("diabetes", 5), "as it comes"),
        pytest.param(Case("diabetes", 10), "as it comes", marks=pytest.mark.slow),
        pytest.param(Case("diabetes", 10), "converged", marks=pytest.mark.slow),
        pytest.param(Case("breast cancer", 2), "converged", marks=pytest.mark.slow),
        pytest.param(Case("breast cancer", 20), "converged", marks=pytest.mark.slow),
        pytest.param(Case("digits", 5), "as it comes", marks=pytest.mark.slow),
        pytest.param(Case("diabetes", 100), "as it comes", marks=pytest.mark.slow),
        pytest.param(Case("breast cancer", 100), "as it comes", marks=pytest.mark.slow),
        pytest.param(Case("digits", 100), "as it comes", marks=pytest.mark.slow),
    ],
    ids=lambda part: part if isinstance(part, str) else f"{part.name} {part.hidden}",
)
def test_at_least_as_good_as_lbfgs(case, end, monkeypatch):
    monkeypatch.setattr(estimators, "SECONDS", 250.0)  # kernels may compile first
    limit = MORE.get((case.name, case.hidden, end), 70)
    for record in compare(case, seeds=(0, 1), repeats=1, ends={end: ENDS[end]}, limit=limit):
        assert record["loss"] <= record["their_loss"]
        assert record["iterations"] < record["their_iterations"]
