"""Runs spread over processes: the same results, in order, on one thread each."""

import pytest

import fastggn as fg
from fastggn.runtime.threads import thread_count
from papers.runs import spread


def work(number):
    if number == 13:
        raise ArithmeticError("thirteen")
    return number**2, thread_count()


@pytest.mark.process
@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_in_order_from_one_thread_each(processes):
    lines = []
    outcomes = spread(work, [3, 1, 2], lines.append, processes=processes)
    assert outcomes == [(9, 1), (1, 1), (4, 1)]
    assert [line.split(":")[0] for line in lines] == ["1/3", "2/3", "3/3"]
    assert {line.split(": ")[1] for line in lines} == {"1", "2", "3"}


@pytest.mark.process
@pytest.mark.parametrize("processes", [1, 2])
def test_an_error_of_a_task_is_raised(processes):
    with pytest.raises(ArithmeticError, match="thirteen"):
        spread(work, [1, 13, 2], lambda line: None, processes=processes)


def test_one_thread_allowed_means_this_process(monkeypatch):
    def refuse(*args, **keywords):
        raise AssertionError("a process was started")

    monkeypatch.setattr("papers.runs.ProcessPoolExecutor", refuse)
    with fg.threads(1):
        assert spread(work, [2], lambda line: None) == [(4, 1)]
    assert spread(work, [], lambda line: None) == []
