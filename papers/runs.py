"""Many small independent runs: without the warnings of each, and spread over processes."""

from __future__ import annotations

import multiprocessing
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any, TypeVar

from fastggn.runtime.errors import FastGGNWarning
from fastggn.runtime.threads import thread_count, threads
from fastggn.training.result import TrainResult, unless_interrupted
from fastggn.training.train import train as train_once

Task = TypeVar("Task")
Outcome = TypeVar("Outcome")


def train(*arguments: Any, **options: Any) -> TrainResult:
    """Train; Ctrl-C ends the experiment, not one of its runs."""
    return unless_interrupted(train_once(*arguments, **options))


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the package's own warnings (ascent, divergence, singular systems) in the block.

    For experiments that train hundreds of times and report losses and statuses themselves.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FastGGNWarning)
        yield


def spread(
    function: Callable[[Task], Outcome],
    tasks: Sequence[Task],
    report: Callable[[str], None],
    *,
    label: Callable[[Task], str] = str,
    processes: int | None = None,
) -> list[Outcome]:
    """Return ``[function(task) for task in tasks]``, computed by several processes.

    Networks of a few dozen parameters gain nothing from a second thread, so every process
    computes with one. Starting a process takes a second or two (it imports the package anew):
    use this for work of ten seconds and more, with the longest tasks first. The results do not
    depend on the number of processes.

    Parameters
    ----------
    function : callable
        A function of a module (it is sent by its name). A script that calls this needs the
        guard ``if __name__ == "__main__":``, since the processes are spawned.
    tasks : sequence
        Arguments that can be pickled.
    report : callable
        Called with a line on the progress after each task.
    label : callable
        Names a task in that line.
    processes : int, optional
        None: as many as `fastggn.threads` allows threads, and no more than tasks. With one,
        the work is done in the calling process.

    Returns
    -------
    list
        The results, in the order of the tasks.
    """
    count = min(thread_count() if processes is None else processes, len(tasks))

    def tell(done: int, task: Task) -> None:
        report(f"{done}/{len(tasks)}: {label(task)}")

    outcomes: dict[int, Outcome] = {}
    if count <= 1:
        for number, task in enumerate(tasks):
            outcomes[number] = _on_one_thread(function, task)
            tell(number + 1, task)
        return list(outcomes.values())
    pool = ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"))
    try:
        futures = {
            pool.submit(_on_one_thread, function, task): number for number, task in enumerate(tasks)
        }
        for future in as_completed(futures):
            outcomes[futures[future]] = future.result()
            tell(len(outcomes), tasks[futures[future]])
    finally:  # after an error or Ctrl-C what has not begun must not begin
        pool.shutdown(cancel_futures=True)
    return [outcomes[number] for number in range(len(tasks))]


def _on_one_thread(function: Callable[[Task], Outcome], task: Task) -> Outcome:
    """Return the outcome of a task, computed by one thread."""
    with threads(1):
        return function(task)
