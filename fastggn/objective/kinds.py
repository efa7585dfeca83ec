"""Problems with samples and problems of equations, for functions of both and of the former."""

from __future__ import annotations

from typing import cast

from fastggn.objective.problem import Problem
from fastggn.objective.residual_problem import ResidualProblem

AnyProblem = Problem | ResidualProblem


def as_problem(problem: AnyProblem) -> Problem:
    """Return a problem itself: in what is asked of it, one of equations behaves as the other kind.

    Raises
    ------
    TypeError
        If it is none.
    """
    if not callable(getattr(problem, "at", None)):  # a table has an `at`, too
        raise TypeError(f"problem must be a fastggn.Problem, not {type(problem).__name__}")
    return cast(Problem, problem)


def check_samples(problem: object, where: str, instead: str) -> None:
    """Raise ``TypeError`` unless `problem` is a `Problem`; for equations it says what to do."""
    if isinstance(problem, Problem):
        return
    advice = f": {instead}" if isinstance(problem, ResidualProblem) else ""
    raise TypeError(f"{where} needs a fastggn.Problem, not a {type(problem).__name__}{advice}")
