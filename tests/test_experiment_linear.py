"""The experiment linear: quick run, table, picture."""

import json

import pytest

from papers import load

pytestmark = pytest.mark.xdist_group("linear")  # one result
TINY = {"starts": 2, "max_iter": {"lm": 80, "newton": 80, "bp": 200}}


@pytest.fixture(scope="module")
def result():
    module = load("linear")
    return module.run({**module.QUICK, **TINY}, lambda text: None)


def test_the_saddle_is_bad_and_the_escape_keeps_its_loss(result):
    assert result["saddle"]["label"] == "bad_saddle"
    assert result["escape"]["loss_perturbed"] == pytest.approx(result["saddle"]["loss"], rel=1e-12)
    assert result["escape"]["loss_after"] < result["saddle"]["loss"]


def test_second_order_methods_reach_the_minimum_and_sooner_with_escape(result):
    def reached(method, how):
        return [e["reached"] for e in result["runs"] if (e["method"], e["escape"]) == (method, how)]

    for method in ("lm", "newton"):
        for how in ("without", "with"):
            assert None not in reached(method, how), (method, how)
    assert max(reached("lm", "with")) < min(reached("lm", "without"))
    assert reached("bp", "without") == [None, None]


def test_result_is_plain_and_drawn(result, tmp_path):
    module = load("linear")
    again = json.loads(json.dumps(result))
    assert again == result
    module.plot(again).savefig(tmp_path / "linear.png")
    assert "bad_saddle" in module.summary(again)
    assert len(module.summary(again).splitlines()) == 8
