"""The analysis of ranks at one point: certificate, bounds, principles."""

from __future__ import annotations

from collections.abc import Callable
from typing import overload

import numpy as np
from numpy.typing import ArrayLike

from fastggn.analysis.magnitudes import usual_errors
from fastggn.analysis.rank import principles as shen
from fastggn.analysis.rank.bounds import Facts, Hypothesis, all_bounds
from fastggn.analysis.rank.duplicates import Duplicates, find_duplicates
from fastggn.analysis.rank.measure import Measurement, measure
from fastggn.analysis.rank.principles import Principle, Principles, judged
from fastggn.analysis.rank.report import Certificate, RankReport
from fastggn.analysis.rank.residuals import ResidualRankReport, residual_ranks
from fastggn.analysis.rank.spectrum import FloatArray, RowSpectrum
from fastggn.objective.problem import Problem
from fastggn.objective.residual_problem import ResidualProblem
from fastggn.runtime.errors import as_float_vector, check_positive
from fastggn.runtime.threads import one_pool
from fastggn.training.step import norm

# |eps| counts as zero up to this share of its size where all outputs are 0.
_FIT_TOLERANCE = 1e-10
LEAST, LARGEST = float(np.finfo(np.float64).tiny), float(np.finfo(np.float64).max)


@overload
def rank_analysis(
    problem: Problem,
    theta: ArrayLike,
    *,
    tol: float | None = None,
    gradient_tol: float = 1e-10,
    progress: Callable[[int, int], object] | None = None,
) -> RankReport: ...
@overload
def rank_analysis(
    problem: ResidualProblem,
    theta: ArrayLike,
    *,
    tol: float | None = None,
    gradient_tol: float = 1e-10,
    progress: Callable[[int, int], object] | None = None,
) -> ResidualRankReport: ...
def rank_analysis(
    problem: Problem | ResidualProblem,
    theta: ArrayLike,
    *,
    tol: float | None = None,
    gradient_tol: float = 1e-10,
    progress: Callable[[int, int], object] | None = None,
) -> RankReport | ResidualRankReport:
    """Analyse the ranks of the Jacobian P(W) and of its parts at one theta.

    Source: Shen (2018), "Towards a Mathematical Understanding of the Difficulty in Learning with
    Feedforward Neural Networks".

    A pass over the samples folds the rows of J = P^T, of each layer's block of it and of each
    layer's inputs into streaming QR factorisations; singular values come from their R, never from
    J^T J. Memory: a few N x N arrays, one block of samples, and a few numbers a sample. Time: about
    4 T n_L N^2 operations. Where ranks share the samples, all ranks must make this call.

    Parameters
    ----------
    problem : Problem or ResidualProblem
        For the latter, J is that of its residuals, and what rests on outputs at samples is left out
        (see `ResidualRankReport`).
    theta : array_like, shape (N,)
    tol : float, optional
        Singular values of P(W) at most `tol` count as zero; by default ``10 eps s_max`` and the
        rounding errors of the entries. All other ranks keep that rule.
    gradient_tol : float
        The data gradient counts as zero up to this share of ``|P| |eps_0| / T``, where eps_0 is the
        error gradient of outputs that are all 0; for a `ResidualProblem`, up to this norm.
    progress : callable, optional
        Called as ``progress(done, total)`` with samples of this process, after each block of them.

    Raises
    ------
    TypeError
        If `problem` is no Problem, or an argument is not a real number.
    ValueError
        If theta has a wrong length or is not finite, a tolerance is negative, or all sample
        weights are zero.
    numpy.linalg.LinAlgError
        If the Jacobian or the error gradient overflows.

    Examples
    --------
    >>> import fastggn as fg
    >>> net = fg.MLP((2, 2, 1), activation="sigmoid")
    >>> X, Y = fg.data.xor()
    >>> report = fg.rank_analysis(fg.Problem(net, X, Y), net.init(seed=0))
    >>> report.rank, report.largest_rank
    (4, 4)
    """
    if not isinstance(problem, (Problem, ResidualProblem)):
        raise TypeError(f"problem must be a fastggn.Problem, not {type(problem).__name__}")
    with problem.comm.raise_on_all() as said:
        if tol is not None:
            tol = check_positive("tol", tol, zero=True)
        gradient_tol = check_positive("gradient_tol", gradient_tol, zero=True)
        vector = as_float_vector("theta", theta, problem.n_params)
        said |= {"call": "rank_analysis", "tol": tol, "gradient_tol": gradient_tol}
    problem.comm.broadcast(vector)
    if isinstance(problem, ResidualProblem):
        return residual_ranks(problem, vector, tol, gradient_tol, progress)
    # A subset may hold samples of zero weight only.
    if not problem.comm.any(bool(problem.relative_weights.any())):
        raise ValueError("problem must have a sample of non-zero weight")
    # Use rank 0's numbers: another kind of processor may round differently.
    found = problem.comm.agree(measure(problem, vector, tol, progress))
    extremes = _extremes(problem)
    duplicates = _duplicates(problem)
    principles = _principles(problem, found, extremes)
    usual = _usual_error(problem)
    loss = problem.at(vector).data_loss
    exact = _is_exact(problem, found, usual, loss)
    facts = _facts(problem, vector, found, exact, duplicates, principles)
    error = found.error_norm
    return RankReport(
        network=f"F({','.join(map(str, problem.network.widths))})",
        n_params=problem.n_params,
        n_samples=problem.n_samples,
        n_outputs=problem.n_outputs,
        loss=loss,
        jacobian=found.jacobian,
        singular_values=found.singular_values,
        p_norm=float(found.singular_values[0]),
        error_norm=error,
        unseen_error=found.unseen_norm / error if error > 0.0 else 0.0,
        layers=found.layers,
        outputs=found.outputs,
        certificate=_certificate(problem, found, extremes, gradient_tol, usual, loss),
        bounds=all_bounds(problem.network, found, facts),
        principles=principles,
        duplicates=duplicates,
    )


def _extremes(problem: Problem) -> FloatArray:
    """Return the smallest and the largest target of all ranks, shape (2, 1)."""
    # The principles and the fit only need the sign and the size of the targets.
    targets, comm = problem.targets, problem.comm
    low = comm.least(float(targets.min(initial=np.inf)))
    return np.array([[low], [comm.largest(float(targets.max(initial=-np.inf)))]])


def _usual_error(problem: Problem) -> float:
    """Return |eps| where all outputs are 0."""
    weighted = problem.relative_weights[:, None] * usual_errors(problem)
    return problem.comm.norm(norm(weighted.ravel()))


def _is_exact(problem: Problem, found: Measurement, usual: float, loss: float) -> bool:
    """Return whether eps is 0, and not below the range of float64 at large residuals."""
    zeros, function = np.zeros_like(problem.targets), problem.loss_function
    with np.errstate(all="ignore"):
        values = problem.relative_weights @ function.value(zeros, problem.loss_targets)
    most = problem.comm.total(float(values)) / problem.n_samples
    small = np.isfinite(loss) and loss <= _FIT_TOLERANCE * most
    return bool(small and found.error_norm <= _FIT_TOLERANCE * usual)


def _certificate(
    problem: Problem,
    found: Measurement,
    extremes: FloatArray,
    gradient_tol: float,
    usual: float,
    loss: float,
) -> Certificate:
    columns, size = found.n_active * problem.n_outputs, norm(found.data_gradient)
    zero = gradient_tol * usual / problem.n_samples * float(found.singular_values[0])
    full = found.active.rank == columns
    bound = problem.n_samples * size / found.smallest_active if full else float("inf")
    enough, why = shen.stationary_is_global(problem.loss_function, extremes)
    faults = []
    if not np.isfinite(loss) or zero > LARGEST or (zero < LEAST and loss > 0.0):
        faults.append("the data gradient may leave the range of float64")
    elif not size <= zero:
        faults.append(f"the data gradient is {size:.3g} > {zero:.3g}")
    if not full:
        faults.append(f"P(W) has rank {found.active.rank} < {columns} columns")
    if not enough:
        faults.append(f"eps = 0 would not prove a global minimum: {why}")
    reason = "; ".join(faults) or (
        f"the data gradient is zero ({size:.2g}) and P(W) has full column rank, so eps = 0 "
        f"(|eps| <= {bound:.2g}); {why}"
    )
    return Certificate(not faults, reason, size, zero, full, bound)


def _duplicates(problem: Problem) -> Duplicates:
    net, weights = problem.network, problem.relative_weights
    width = net.n_inputs + (sum(net.widths[1:-1]) if problem.gated else 0)

    def read(start: int, stop: int) -> FloatArray:
        inputs, gates = problem.read_samples(start, stop)
        return np.hstack([inputs, gates.astype(np.float64)]) if gates.size else inputs

    return find_duplicates(
        read, weights.size, width, problem.targets, weights, problem.loss_function, problem.comm
    )


def _principles(problem: Problem, found: Measurement, extremes: FloatArray) -> Principles:
    net = problem.network
    first = shen.principle_1(problem.loss_function, extremes)
    zeros = sum(layer.zero_derivatives for layer in found.layers)
    judgements = {
        "1": first,
        "1.a": shen.principle_1a(problem.loss_function, first),
        "2": shen.principle_2(problem.n_params, problem.n_samples * problem.n_outputs),
        "3": _principle_3(found),
        "4": shen.principle_4(net.activations, zeros, problem.gated),
        "5": shen.principle_5(net.widths),
    }
    return Principles(judgements)


def _principle_3(found: Measurement) -> Principle:
    """Judge the weights: core(W_l) of full rank (Shen, Principle 3, without the bias column)."""
    bad = [layer for layer in found.layers if not layer.weights_core.full]
    if not bad:
        return judged(True, "every W_l without its bias column has full rank")
    words = ", ".join(
        f"W_{layer.number} has rank {layer.weights_core.rank} of {min(layer.weights_core.shape)}"
        for layer in bad
    )
    return judged(False, f"{words}, without the bias column")


def _facts(
    problem: Problem,
    theta: FloatArray,
    found: Measurement,
    exact: bool,
    duplicates: Duplicates,
    principles: Principles,
) -> Facts:
    failing = [number for number in ("1", "4") if not principles[number].holds]
    if not all(layer.weights.full for layer in found.layers):
        failing.append("3")
    words = "Principles 1, 3 and 4, W_l with its bias column"
    words += f" (fails: {', '.join(failing)})" if failing else ""
    return Facts(
        n_samples=problem.n_samples,
        exact_fit=Hypothesis("exact fit: eps = 0", exact),
        hessian_rank=_hessian_rank(problem, theta) if exact else None,
        principles_134=Hypothesis(words, not failing),
        unique=Hypothesis("no two inputs are equal", duplicates.groups == 0),
    )


def _hessian_rank(problem: Problem, theta: FloatArray) -> int:
    """Return the rank of P H_E P^T, the Hessian at an exact fit, from S^T P^T with H_E = S S^T."""
    # At an exact fit H_E is positive semi-definite and equals the curvature of training.
    spectrum = RowSpectrum(problem.n_params)
    for _, rows in problem.at(theta).rows.row_blocks():
        with one_pool():
            spectrum.fold(rows)
    spectrum.unite(problem.comm)
    return problem.comm.agree(spectrum.rank().rank)
