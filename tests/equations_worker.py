"""Ranks share the points of equations; run by test_mpi.py with mpiexec."""

import json

import numpy as np
from mpi4py import MPI

import fastggn as fg

comm = MPI.COMM_WORLD
START = {"k": (0.5, 0.0, None)}
t = np.linspace(0.0, 2.0, 40)[:, None]
data = np.exp(-1.5 * t[::4, 0])
seen = t[::4]


def decay(rows, few, comm=None, scale=False):
    terms = [
        fg.Term(t[rows], lambda x, u, k: u.d("t") + k["k"] * u.value, weight=2.0),
        fg.Term(seen[few], targets=data[few]),
    ]
    return fg.ResidualProblem(
        fg.MLP((1, 6, 1)),
        terms,
        inputs=["t"],
        coefficients={"k": (0.5, 0.0, None)},
        comm=comm,
        l2=1e-6,
        scale=scale,
    )


rank, size = comm.rank, comm.size
rows = slice(40 * rank // size, 40 * (rank + 1) // size)
few = slice(0, 10) if rank == size - 1 else slice(0, 0)
whole, shared = decay(slice(None), slice(None)), decay(rows, few, comm)
theta, v = whole.init(0), np.random.default_rng(0).normal(size=whole.n_params)


def relative(a, b):
    return float(np.abs(np.asarray(a) - b).max() / np.abs(b).max())


def dual(problem):
    return problem.at(theta).gathered().dual_gram()


def values(problem):
    return problem.jacobian(theta).singular_values()


found = {"n_rows": abs(shared.n_rows - whole.n_rows)}
for name in ("loss", "gradient", "ggn", "hessian"):
    found[name] = relative(getattr(shared, name)(theta), getattr(whole, name)(theta))
found["dual"] = relative(np.trace(dual(shared)), np.trace(dual(whole)))
found["values"] = relative(values(shared), values(whole))
lsqr, qr = (fg.LevenbergMarquardt(solver=name) for name in ("lsqr", "qr"))
for method in (
    "lm",
    "lbfgs",
    fg.LevenbergMarquardt(solver="lsqr"),
    fg.LevenbergMarquardt(solver="qr"),
    fg.LevenbergMarquardt(curvature_samples=20),
):
    a, b = (fg.train(p, theta, method, seed=0, max_iter=4).theta for p in (shared, whole))
    found[str(method)] = relative(a, b)
a, b = (fg.rank_analysis(p, theta) for p in (shared, whole))
found["ranks"] = relative(a.singular_values, b.singular_values) + abs(a.rank - b.rank)
found["eps"] = relative(a.error_norm, b.error_norm)
a, b = (fg.critical_point(p, theta) for p in (shared, whole))
found["point"] = relative(a.gradient_norm, b.gradient_norm) + (a.label != b.label)
a, b = (fg.laplace(p, theta, alpha=1.0, beta=100.0) for p in (shared, whole))
found["posterior"] = relative(a.coefficients()["k"], b.coefficients()["k"])
scaled = decay(slice(None), slice(None), scale=True), decay(rows, few, comm, scale=True)
found["scale"] = relative(scaled[1].gradient(theta), scaled[0].gradient(theta))
if rank == 0:
    print("FOUND " + json.dumps(found))
