"""XOR's table of stationary points and ranks, the quick version."""

import numpy as np
import pytest

import fastggn as fg
import papers as experiments

# Smallest ranks of P: without a constraint, augmented matrices of full rank, w_2 not 0. Shen (2018,
# Section 5.1) states 2 for F(2,2,1) and 3 for F(2,3,1).
SMALLEST = {1: (1, 1, 3), 2: (1, 2, 3), 3: (1, 2, 3), 4: (1, 2, 3)}


def quick_sizes(test):
    """Put a test of the sizes of QUICK in the tier slow, for the worker that runs them."""
    return pytest.mark.slow(pytest.mark.xdist_group("xor")(test))


@pytest.fixture
def result(quick):
    found = quick("xor").document()["result"]
    assert quick("xor").outcome.stderr.count("xor: ") == 1 + len(found["cases"])  # and its start
    return found


@quick_sizes
def test_smallest_ranks(result):
    assert len(result["ranks"]) == 8
    for row in result["ranks"]:
        n = int(row["network"][4])
        assert tuple(row["smallest"].values()) == SMALLEST[n]
        assert row["paper"] == {2: 2, 3: 3}.get(n)
        assert row["random"] == {"4": result["config"]["random_ranks"]}


@quick_sizes
def test_finite_suboptimal_points_of_an_identity_output(result):
    """All have the loss 1/8, and none of two or more units is a local minimum."""
    seen = 0
    for case in result["cases"]:
        if case["output"] != "identity":
            continue
        for group in case["groups"]:
            if group["label"] in ("diverging", "global_minimum"):
                continue
            seen += group["count"]
            assert group["loss"] == pytest.approx(0.125, abs=1e-7), case["network"]
            if case["network"] != "F(2,1,1)":
                assert group["label"] != "local_minimum"
    assert seen >= 10


@quick_sizes
def test_points_at_infinity_have_large_weights(result):
    found = [g for c in result["cases"] for g in c["groups"] if g["label"] == "diverging"]
    assert found and all(group["smallest_weights"] > 5.0 for group in found)
    # a sigmoid output reaches its targets 0 and 1 at infinity only
    for case in result["cases"]:
        labels = {group["label"] for group in case["groups"]}
        assert case["output"] == "identity" or "global_minimum" not in labels


@quick_sizes
def test_counts_and_examples(result):
    for case in result["cases"]:
        net = fg.MLP(
            (2, int(case["network"][4]), 1),
            activation=case["hidden"],
            output_activation=case["output"],
        )
        problem = fg.Problem(net, *fg.data.xor())
        counted = sum(group["count"] for group in case["groups"])
        assert counted + case["not_stationary"] == case["searches"]
        for group in case["groups"]:
            assert group["training"] + group["stationary"] == group["count"]
            assert np.linalg.norm(problem.gradient(group["example"])) <= 1e-8


@quick_sizes
def test_summary_and_picture(result):
    module = experiments.load("xor")
    text = module.summary(result)
    assert "F(2,4,1), tanh, sigmoid output" in text and "Smallest ranks" in text
    figure = module.plot(result)
    assert [axes.get_title() for axes in figure.axes] == ["identity output", "sigmoid output"]


def test_same_seed_same_result():
    module = experiments.load("xor")
    small = {
        **module.QUICK,
        "hidden_units": [2],
        "hidden": ["sigmoid"],
        "starts": 1,
        "random_ranks": 5,
    }
    first, second = (module.run(small, lambda line: None) for _ in range(2))
    assert first["cases"] == second["cases"]
