"""Runs from several seeds: each is a run of `train`, the best is the best, none is done twice."""

import json

import numpy as np
import pytest

import fastggn as fg
from fastggn.training.checkpoint.files import CheckpointError, CheckpointFile


@pytest.fixture(scope="module")
def problem():
    X, Y = fg.data.four_regions(60, seed=0)
    return fg.Problem(fg.MLP((2, 4, 1)), X, Y)


@pytest.fixture(scope="module")
def held_out():
    return fg.data.four_regions(60, seed=1)


def same(result, other):
    np.testing.assert_array_equal(result.theta, other.theta)
    for name in ("loss", "gradient_norm", "n_iter", "status", "message", "best_iter"):
        assert getattr(result, name) == getattr(other, name), name


def test_each_is_a_run_of_train(problem):
    found = fg.train_restarts(problem, 4, seed=3, init="he", max_iter=8)
    assert list(found.results) == [3, 4, 5, 6]
    for seed, result in found.results.items():
        theta0 = problem.network.init(seed, scheme="he")
        same(result, fg.train(problem, theta0, seed=seed, max_iter=8))
        assert len(result.history) == result.n_iter
    losses = [result.loss for result in found.results.values()]
    assert found.best.loss == min(losses)
    assert found.best is found.results[found.best_seed]
    assert found.best_seed == 3 + int(np.argmin(losses))
    assert found.status == "done"
    assert found.message == f"the best of 4 starts, seed {found.best_seed}"


def test_the_best_by_validation(problem, held_out):
    found = fg.train_restarts(
        problem, 6, seed=0, max_iter=30, held_out=fg.HeldOut(*held_out, patience=3)
    )
    losses = {s: result.best_validation_loss for s, result in found.results.items()}
    assert found.best_seed == min(losses, key=losses.get)
    # It is another one than that of the lowest training loss.
    assert found.best_seed != min(found.results, key=lambda s: found.results[s].loss)
    np.testing.assert_array_equal(found.best.theta, found.best.best_theta)


def test_validation_samples_are_checked_once(problem, held_out, monkeypatch):
    made = []
    real = fg.Problem.__init__

    def counted(self, *arguments, **keywords):
        made.append(1)
        return real(self, *arguments, **keywords)

    monkeypatch.setattr(fg.Problem, "__init__", counted)
    fg.train_restarts(problem, 3, max_iter=1, held_out=fg.HeldOut(*held_out, patience=None))
    assert len(made) == 1


def test_a_failed_run_is_never_the_best(problem):
    found = fg.train_restarts(problem, 2, max_iter=2)
    from dataclasses import replace

    from fastggn.training.restarts import _merit

    assert _merit(replace(found.best, status="failed")) == np.inf
    assert _merit(replace(found.best, loss=np.nan)) == np.inf


def test_a_table_and_plain_values(problem, held_out):
    found = fg.train_restarts(problem, 2, max_iter=2, held_out=fg.HeldOut(*held_out, patience=None))
    lines = str(found).splitlines()
    assert "held-out" in lines[0] and len(lines) == 4
    assert [line.endswith("<- best") for line in lines[1:3]] == [
        seed == found.best_seed for seed in (0, 1)
    ]
    table = json.loads(json.dumps(found.to_dict()))
    assert [row["seed"] for row in table["runs"]] == [0, 1]
    assert table["runs"][1]["loss"] == found.results[1].loss
    assert "held-out" not in str(fg.train_restarts(problem, 1, max_iter=1))


def test_an_interrupted_run_is_the_last(problem):
    def enough(record):
        return record.iteration == 5 and len(starts) > 1

    starts = []
    found = fg.train_restarts(
        problem,
        5,
        max_iter=8,
        callbacks=[lambda r: starts.append(1) if r.iteration == 1 else None, enough],
    )
    assert list(found.results) == [0, 1]
    assert found.status == "interrupted"
    assert "a callback asked to stop after 1 of 5 starts" in found.message


def test_the_time_limit_is_for_all(problem):
    found = fg.train_restarts(
        problem,
        9,
        max_iter=10**6,
        stop=fg.Stop(gradient=0.0),
        method=fg.GradientDescent(rate=0.01),
        max_time=0.3,
    )
    assert found.status == "max_time" and len(found.results) == 1
    assert "after 0 of 9 starts" in found.message


def test_finished_runs_are_not_done_again(problem, held_out, tmp_path):
    keywords = {"max_iter": 8, "held_out": fg.HeldOut(*held_out, patience=3)}
    files = {"checkpoint": fg.Checkpoint(tmp_path / "starts.ckpt", resume=True)}
    whole = fg.train_restarts(problem, 5, **keywords)
    seen = []

    def stop(record):
        seen.append(record.iteration)
        return len(seen) == 12

    first = fg.train_restarts(problem, 5, callbacks=[stop], **keywords, **files)
    assert first.status == "interrupted"
    done = len(first.results) - 1
    assert done >= 1
    files_of = [f"starts.ckpt.seed{seed}" for seed in range(done + 1)]
    assert sorted(p.name for p in tmp_path.glob("*.seed?")) == files_of
    second = fg.train_restarts(problem, 5, callbacks=[seen.append], **keywords, **files)
    assert list(second.results) == list(whole.results)
    for seed, result in second.results.items():
        same(result, whole.results[seed])
        assert len(result.history) == result.n_iter
    assert second.best_seed == whole.best_seed
    assert not (tmp_path / "starts.ckpt").exists()
    total = sum(result.n_iter for result in whole.results.values())
    assert len(seen) == total


def test_other_runs_are_refused(problem, tmp_path):
    files = {"checkpoint": fg.Checkpoint(tmp_path / "starts.ckpt", resume=True)}
    fg.train_restarts(problem, 1, max_iter=2, **files)
    for words, changed in (
        ("theta0 differs", {"max_iter": 2, "init": "he"}),
        ("method was 'lm' and is 'newton'", {"max_iter": 2, "method": "newton"}),
    ):
        with pytest.raises(CheckpointError, match=words):
            fg.train_restarts(problem, 2, **changed, **files)
    file = CheckpointFile(tmp_path / "starts.ckpt.seed0")
    content = file.load()
    del content["theta"]
    file.save(content)
    with pytest.raises(CheckpointError, match="lacks a part"):
        fg.train_restarts(problem, 2, max_iter=2, **files)


def test_more_iterations_go_on_from_finished_runs(problem, tmp_path):
    files = {"checkpoint": fg.Checkpoint(tmp_path / "starts.ckpt", resume=True)}
    fg.train_restarts(problem, 2, max_iter=3, **files)
    longer = fg.train_restarts(problem, 3, max_iter=6, **files)
    for seed, result in fg.train_restarts(problem, 3, max_iter=6).results.items():
        same(longer.results[seed], result)


def test_without_resume_nothing_of_earlier_runs_is_left(problem, tmp_path):
    """A call that is cut after it began must not go on from the files of another one."""
    path = tmp_path / "starts.ckpt"
    fg.train_restarts(problem, 3, max_iter=3, checkpoint=path)
    fg.train_restarts(
        problem, 3, max_iter=3, method="newton", checkpoint=path, callbacks=[lambda record: True]
    )
    assert [p.name for p in tmp_path.glob("*.seed?")] == ["starts.ckpt.seed0"]
    (tmp_path / "starts.ckpt.seed2").write_text("no checkpoint")
    with pytest.raises(CheckpointError, match="seed2: .*it is not replaced"):
        fg.train_restarts(problem, 3, max_iter=3, checkpoint=path)
    assert (tmp_path / "starts.ckpt.seed0").exists()


@pytest.mark.parametrize(
    "keywords, error, match",
    [
        ({"n_starts": 0}, ValueError, "n_starts must be at least 1, got 0"),
        ({"n_starts": 1.5}, TypeError, "n_starts must be an integer"),
        ({"seed": -1}, ValueError, "seed must be at least 0"),
        ({"seed": None}, TypeError, "seed must be an integer"),
        ({"theta0": np.zeros(17)}, TypeError, "theta0 does not go with train_restarts"),
        ({"init": "gloro"}, ValueError, "did you mean 'glorot'"),
        ({"method": "lmm"}, ValueError, "did you mean 'lm'"),
        ({"max_time": -1.0}, ValueError, "max_time"),
        ({"checkpoint": 3}, TypeError, "must be a path or a fastggn.Checkpoint"),
        ({"held_out": (1,)}, ValueError, "got 1 parts"),
        ({"epochs": 2}, TypeError, "did you mean 'max_iter'"),
        ({"nonsense": 2}, TypeError, "nonsense"),
    ],
)
def test_bad_arguments_before_any_work(problem, monkeypatch, tmp_path, keywords, error, match):
    def at(self, theta):
        raise AssertionError("work was done")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fg.Problem, "at", at)
    with pytest.raises(error, match=match):
        fg.train_restarts(problem, **keywords)
    assert not list(tmp_path.iterdir())


def test_not_a_problem():
    with pytest.raises(TypeError, match="problem must be a fastggn.Problem, not MLP"):
        fg.train_restarts(fg.MLP((2, 3, 1)))
