"""When the report of a point carries a verdict on a minimum at infinity."""

from __future__ import annotations

from fastggn.analysis.critical.report import CriticalPointReport
from fastggn.analysis.infinity.report import MinimumAtInfinity
from fastggn.analysis.infinity.verdict import minimum_at_infinity, undecided
from fastggn.objective.problem import Problem
from fastggn.objective.residual_problem import ResidualProblem
from fastggn.training.step import arrive

OPEN = ("diverging", "degenerate", "not_critical")  # no finite point is proved
MOST = 40  # parameters: the fits of limit networks cost about N^4, 18 s at 61
SMALL = 1e-2  # largest share of a slope at the end of a fit


def asked(
    problem: Problem | ResidualProblem, report: CriticalPointReport
) -> MinimumAtInfinity | None:
    """Return the verdict on a point that is the end of a fit and no proved finite point."""
    if not isinstance(problem, Problem) or problem.comm.size > 1 or problem.gated:
        return None
    unfinished = report.label == "not_critical" and report.gradient_share > SMALL
    if report.label not in OPEN or unfinished or problem.l2 > 0.0:
        return None
    if problem.n_params > MOST:
        return undecided(f"not asked above N = {MOST}; analysis.minimum_at_infinity takes longer")
    if arrive(problem, report.theta) is None:  # in units of its own the point is usable
        return None
    return minimum_at_infinity(problem, report.theta)
