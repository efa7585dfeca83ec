"""What the ranks of a test job do: `python mpi_worker.py agree|jobs|fail|kill ...`, in mpiexec."""

import hashlib
import json
import os
import signal
import sys
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
from patience import mark

import fastggn as fg
from fastggn.objective import sampled
from fastggn.training.control import sampling

T, L2 = 150, 0.01
# Not called in every iteration.
ONCE = ("raise_on_all", "memory_share")
KINDS = ("even", "uneven", "empty")


def split(comm, kind):
    """Return this rank's rows: equal shares, growing ones, or all on the last rank."""
    size = comm.size
    if kind == "even":
        edges = [T * i // size for i in range(size + 1)]
    elif kind == "uneven":
        edges = [T * i * i // size**2 for i in range(size + 1)]
    else:
        edges = [0] * size + [T]
    return slice(edges[comm.rank], edges[comm.rank + 1])


def samples():
    rng = np.random.default_rng(5)
    X = rng.standard_normal((T, 3))
    Y = np.stack([np.sin(X[:, 0] + X[:, 1]), X[:, 2] ** 2], axis=1)
    return X, Y, rng.integers(0, 2, T), rng.random(T)


def relative(a, b):
    return float(np.max(np.abs(np.asarray(a) - b)) / np.max(np.abs(b)))


def digests(comm, *arrays):
    """Return how many different bits the ranks hold."""
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(np.ascontiguousarray(array).tobytes())
    return len(set(comm.allgather(sha.hexdigest())))


def functions(problem, serial, rows, theta, v):
    """Return the relative differences of every function of theta."""
    J, Js = problem.jacobian(theta), serial.jacobian(theta)
    lin, ref = problem.at(theta), serial.at(theta)
    own = slice(rows.start * problem.n_outputs, rows.stop * problem.n_outputs)
    u = Js @ v
    found = {
        "loss": relative(problem.loss(theta), serial.loss(theta)),
        "gradient": relative(problem.gradient(theta), serial.gradient(theta)),
        "ggn": relative(problem.ggn(theta), serial.ggn(theta)),
        "hessian": relative(problem.hessian(theta), serial.hessian(theta)),
        "ggn_operator": relative(problem.ggn_operator(theta) @ v, serial.ggn_operator(theta) @ v),
        "hessian_operator": relative(
            problem.hessian_operator(theta) @ v, serial.hessian_operator(theta) @ v
        ),
        "transposed": relative(J.T @ u[own], Js.T @ u),
        "singular_values": relative(J.singular_values(), Js.singular_values()),
        "rank": abs(J.rank() - Js.rank()),
        "predicted": relative(lin.predicted_decrease(v), ref.predicted_decrease(v)),
    }
    if rows.start < rows.stop:
        found["own rows"] = relative(J @ v, u[own])
        bent, whole = lin.curvature_along(v), ref.curvature_along(v)
        k = whole.size // T
        part = whole[rows.start * k : rows.stop * k]
        found["curvature_along"] = float(np.max(np.abs(bent - part)) / np.max(np.abs(whole)))
    pairs = zip(lin.kronecker_factors(), ref.kronecker_factors(), strict=True)
    found["kronecker"] = max(relative(a, b) for x, y in pairs for a, b in zip(x, y, strict=True))
    return found


def agree(comm):
    """Compare with the serial result; return what rank 0 prints."""
    X, Y, labels, w = samples()
    net = fg.MLP((3, 6, 5, 2))
    theta = net.init(seed=1)
    v = np.random.default_rng(2).standard_normal(net.n_params)
    out = {"size": comm.size, "functions": {}, "bits": {}}
    for loss in ("squared", "softmax_cross_entropy", "cauchy"):
        target = labels if loss == "softmax_cross_entropy" else Y
        serial = fg.Problem(net, X, target, loss, sample_weight=w, l2=L2)
        for kind in KINDS:
            rows = split(comm, kind)
            problem = fg.Problem(
                net, X[rows], target[rows], loss, sample_weight=w[rows], l2=L2, comm=comm
            )
            assert problem.n_samples == T
            found = functions(problem, serial, rows, theta, v)
            every = comm.allgather(found)
            out["functions"][f"{loss}, {kind}"] = {
                name: max(rank.get(name, 0.0) for rank in every) for name in found
            }
            arrays = problem.gradient(theta), problem.ggn(theta), problem.loss(theta)
            out["bits"][f"{loss}, {kind}"] = digests(comm, *arrays)
            # Theta is rank 0's, whatever the others say.
            assert problem.loss(theta + comm.rank) == problem.loss(theta)
    out["training"] = training(comm, X, Y)
    out["decisions"] = decisions(comm, X, Y)
    out["refusals"] = refusals(comm, X, Y)
    out["advice"] = advice(comm, X, Y)
    return out


def training(comm, X, Y):
    net, out = fg.MLP((3, 3, 2)), {}
    theta = net.init(seed=3)
    serial = fg.Problem(net, X, Y, l2=1e-3)
    rows = split(comm, "uneven")
    problem = fg.Problem(net, X[rows], Y[rows], l2=1e-3, comm=comm)
    runs = {
        "cholesky": {"method": fg.LevenbergMarquardt(solver="cholesky")},
        "mixed": {"method": fg.LevenbergMarquardt(solver="cholesky", precision="mixed")},
        "qr": {"method": fg.LevenbergMarquardt(solver="qr"), "max_iter": 8},
        "lsqr": {"method": fg.LevenbergMarquardt(solver="lsqr"), "max_iter": 4},
        "newton": {"method": "newton", "max_iter": 20},
        "small unit": {"max_iter": 8},
        "steihaug": {"method": fg.Newton(solver="lsqr"), "max_iter": 10},
        "bp": {"method": fg.GradientDescent(rate=0.1), "max_iter": 20},
        "adam": {"method": fg.Adam(rate=0.01), "max_iter": 20},
        "early stopping": {"method": fg.LevenbergMarquardt(solver="cholesky")},
        "bayesian": {
            "method": fg.LevenbergMarquardt(solver="cholesky"),
            "regularize": fg.Evidence(),
            "max_iter": 20,
        },
        # The draws number the rows over all ranks.
        "sampled": {
            "method": fg.LevenbergMarquardt(solver="cholesky", curvature_samples=30),
            "max_iter": 8,
        },
        "sampled bayesian": {
            "method": fg.LevenbergMarquardt(solver="cholesky", curvature_samples=30),
            "regularize": fg.Evidence(),
            "max_iter": 5,
        },
        "bayesian qr": {
            "method": fg.LevenbergMarquardt(solver="qr"),
            "regularize": fg.Evidence(),
            "max_iter": 5,
        },
        # More rows than divide gamma as they are: their signs number the samples over all ranks.
        "wide bayesian": {
            "method": fg.LevenbergMarquardt(solver="cholesky"),
            "regularize": fg.Evidence(),
            "max_iter": 5,
        },
    }
    V = np.random.default_rng(9).permutation(Y)  # held out: no fit of Y comes near
    # so that these few samples have a judge, which decides
    sampling.FEWEST, sampled.PRECISE = 50, 0.5
    for name, options in runs.items():
        held_out = {}, {}
        if name == "early stopping":
            held_out = (
                {"held_out": fg.HeldOut(X, V, patience=3)},
                {"held_out": fg.HeldOut(X[rows], V[rows], patience=3)},
            )
        plain, shared = serial, problem
        if "regularize" in options:  # which chooses l2 itself
            plain, shared = serial.with_l2(0.0), problem.with_l2(0.0)
        if name == "small unit":
            plain = fg.Problem(net, X, 1e-9 * Y)
            shared = fg.Problem(net, X[rows], 1e-9 * Y[rows], comm=comm)
        start = theta
        if name == "wide bayesian":
            wide = fg.MLP((3, 60, 2))
            start = wide.init(seed=3)
            plain, shared = fg.Problem(wide, X, Y), fg.Problem(wide, X[rows], Y[rows], comm=comm)
        one = fg.train(plain, start, **options, **held_out[0])
        many = fg.train(shared, start, **options, **held_out[1])
        again = fg.train(shared, start, **options, **held_out[1])
        out[name] = {
            "loss": relative(many.loss, one.loss),
            "iterations": [one.n_iter, many.n_iter],
            "status": [one.status, many.status],
            "bits": digests(comm, many.theta),
            "repeated": bool(np.array_equal(many.theta, again.theta)),
        }
        if many.evidence is not None:
            deviations = (
                fg.laplace(plain, one.theta, one.evidence).predict(X)[1],
                fg.laplace(shared, many.theta, many.evidence).predict(X)[1],
            )
            out[name]["evidence"] = max(
                relative(many.evidence.log_evidence, one.evidence.log_evidence),
                relative(deviations[1], deviations[0]),
            )
    # Fewer rows than columns, at mu = 0: the minimum-norm step by QR of rows from all ranks.
    net, few = fg.MLP((3, 6, 2)), slice(0, 12)
    theta = net.init(seed=3)
    one = fg.train(
        fg.Problem(net, X[few], Y[few]), theta, method=fg.GaussNewton(solver="qr"), max_iter=2
    )
    own = slice(12 * comm.rank // comm.size, 12 * (comm.rank + 1) // comm.size)
    shared = fg.Problem(net, X[own], Y[own], comm=comm)
    many = fg.train(shared, theta, method=fg.GaussNewton(solver="qr"), max_iter=2)
    out["minimum norm"] = {
        "loss": relative(many.loss, one.loss),
        "iterations": [one.n_iter, many.n_iter],
        "status": [one.status, many.status],
        "bits": digests(comm, many.theta),
        "repeated": many.solver == "qr",
    }
    return out


def decisions(comm, X, Y):
    """Clocks, signals and seeds differ between ranks; what they decide must not."""
    import fastggn.training.run as clock

    rows, net = split(comm, "even"), fg.MLP((3, 6, 2))
    problem = fg.Problem(net, X[rows], Y[rows], comm=comm)
    last = comm.rank == comm.size - 1
    stopped = fg.train(
        problem, seed=0, callbacks=[lambda record: last and record.iteration == 3 or None]
    )
    plain = clock.time.perf_counter
    if comm.rank > 0:
        calls = iter(range(10**9))
        clock.time.perf_counter = lambda: plain() + 1e3 * next(calls)
    late = fg.train(problem, seed=0, max_iter=5, max_time=100.0)
    clock.time.perf_counter = plain
    unseeded = fg.train(problem, max_iter=2)
    wide = fg.MLP((3, 4000, 2))
    from fastggn.solvers.choice import choose_solver

    many = fg.Problem(wide, X[rows], Y[rows], comm=comm)
    chosen = [choose_solver("auto", many, needs_minimum_norm=False)[0].name]
    with mock.patch.object(fg.Problem, "n_rows", 2 * wide.n_params):  # more rows than columns
        chosen.append(choose_solver("auto", many, needs_minimum_norm=False)[0].name)
    return {
        "stopped": comm.allgather([stopped.status, stopped.n_iter]),
        "late": comm.allgather([late.status, late.n_iter]),
        "unseeded": digests(comm, unseeded.theta),
        "large": [wide.n_params, *chosen],
    }


def advice(comm, X, Y):
    """Scales and units of all ranks' samples are those of one process that holds them."""
    from fastggn.training.advice import column_scales, unit_outputs

    net = fg.MLP((3, 6, 2))
    theta, out = net.init(seed=0), {}
    serial = fg.Problem(net, X + 1e3, Y)
    (one,) = unit_outputs(serial, theta, [(-0.5, 0.5)])
    for kind in KINDS:
        rows = split(comm, kind)
        problem = fg.Problem(net, X[rows] + 1e3, Y[rows], comm=comm)
        (many,) = unit_outputs(problem, theta, [(-0.5, 0.5)])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fg.train(problem, theta, max_iter=1)
        scaling = [w for w in caught if issubclass(w.category, fg.ScalingWarning)]
        pairs = zip(column_scales(serial), column_scales(problem), strict=True)
        out[kind] = {
            "differs": max(
                relative(getattr(b, name), getattr(a, name))
                for a, b in pairs
                for name in ("mean", "deviation", "count")
            ),
            "units": bool(
                np.allclose(many.above, one.above, rtol=1e-12)
                and np.array_equal(many.largest, one.largest)
                and many.count == one.count
            ),
            "warnings": comm.allgather(len(scaling)),
        }
    return out


def refusals(comm, X, Y):
    """Return the errors on all ranks."""
    rows, net = split(comm, "even"), fg.MLP((3, 4, 2))
    problem = fg.Problem(net, X[rows], Y[rows], comm=comm)
    theta = net.init(seed=0)
    bad = X[rows].copy()
    if comm.rank == comm.size - 1:
        bad[2, 1] = np.nan
    calls = {
        "nan": lambda: fg.Problem(net, bad, Y[rows], comm=comm),
        "l2": lambda: fg.Problem(net, X[rows], Y[rows], l2=0.1 * (comm.rank + 1), comm=comm),
        "empty": lambda: fg.Problem(net, X[:0], Y[:0], comm=comm),
        "weights": lambda: fg.Problem(
            net, X[rows], Y[rows], sample_weight=np.zeros(len(X[rows])), comm=comm
        ),
        "held_out": lambda: fg.train(problem, theta, held_out=(bad, Y[rows])),
        "held_out alone": lambda: fg.train(problem, theta, held_out=fg.Problem(net, X, Y)),
        "stationarity": lambda: fg.analysis.stationarity_split(problem, theta),
        "overflow": lambda: fg.critical_point(problem, np.full(net.n_params, 1e200)),
        "ranks": lambda: fg.rank_analysis(problem, np.full(net.n_params, 1e308)),
    }
    out = {}
    for name, call in calls.items():
        try:
            call()
            message = ""
        except ValueError as error:
            message = str(error)
        out[name] = comm.allgather(message)
    return out


def jobs(comm, folder):
    """Checkpoints, signals and files over ranks; return what rank 0 prints."""
    X, Y, _, _ = samples()
    net, rows = fg.MLP((3, 3, 2)), split(comm, "uneven")
    problem = fg.Problem(net, X[rows], Y[rows], l2=1e-3, comm=comm)
    V = np.random.default_rng(9).permutation(Y)
    early = {
        "held_out": fg.HeldOut(X[rows], V[rows], patience=4),
        "method": fg.LevenbergMarquardt(damping=10.0),
    }
    return {
        "parts": {
            name: in_parts(comm, problem, folder / f"{number}.ckpt", options)
            for number, (name, options) in enumerate({**RESUMED, "early stopping": early}.items())
        },
        "files": sorted(path.name for path in folder.iterdir()),
        "unseeded": unseeded(comm, problem, folder / "unseeded.ckpt"),
        "signal": signalled(comm, problem, folder / "signal.ckpt"),
        "refused": refused_checkpoints(comm, problem, folder),
        "streamed": streamed(comm, net, folder),
    }


RESUMED = {
    "cholesky": {"method": fg.LevenbergMarquardt(solver="cholesky")},
    "mixed": {"method": fg.LevenbergMarquardt(solver="cholesky", precision="mixed")},
    "lsqr": {"method": fg.LevenbergMarquardt(solver="lsqr")},
    "newton": {"method": "newton"},
    "bayesian": {"method": fg.LevenbergMarquardt(solver="cholesky"), "regularize": fg.Evidence()},
    "batches": {"method": fg.LevenbergMarquardt(batch_size=12)},
    "momentum": {"method": fg.GradientDescent(rate=0.01, momentum=0.9)},
    "lbfgs": {"method": "lbfgs"},
    "adam": {"method": fg.Adam(rate=0.01)},
}


def in_parts(comm, problem, path, options):
    """Compare a run that is stopped at every second iteration with an uninterrupted one."""
    keywords = {"seed": 3, "max_iter": 8, **options}
    if "regularize" in options:
        problem = problem.with_l2(0.0)
    whole = fg.train(problem, **keywords)
    keywords["checkpoint"] = fg.Checkpoint(path, every=1000, resume=True)
    parts, status = 0, "interrupted"
    while status == "interrupted" and parts < 8:
        calls = []
        stop = [lambda _, calls=calls: calls.append(1) or len(calls) == 2]
        result = fg.train(problem, callbacks=stop, **keywords)
        parts, status = parts + 1, result.status
    same = np.array_equal(result.theta, whole.theta) and result.status == whole.status
    again = [record.loss for record in result.history] == [r.loss for r in whole.history]
    return {
        "parts": parts,
        "same": comm.allgather(bool(same and again)),
        "status": comm.allgather(whole.status),
    }


def unseeded(comm, problem, path):
    """Without a seed the random state comes from the checkpoint."""
    keywords = {"checkpoint": fg.Checkpoint(path, resume=True)}
    first = fg.train(problem, max_iter=2, **keywords)
    second = fg.train(problem, max_iter=4, **keywords)
    return [digests(comm, second.theta), second.n_iter, first.initial_loss == second.initial_loss]


def signalled(comm, problem, path):
    """A signal to the last rank stops all of them, with the checkpoint written."""

    def send(record):
        if comm.rank == comm.size - 1 and record.iteration == 2:
            os.kill(os.getpid(), signal.SIGUSR1)

    result = fg.train(problem, seed=0, callbacks=[send], checkpoint=path)
    again = fg.train(problem, seed=0, checkpoint=fg.Checkpoint(path, resume=True), max_iter=4)
    return comm.allgather([result.status, result.n_iter, again.n_iter])


def killed(comm, folder, rank):
    """Let a rank be killed in the fifth iteration of 12; with rank -1, go on after that."""
    X, Y, _, _ = samples()
    net, rows = fg.MLP((3, 3, 2)), split(comm, "uneven")
    problem = fg.Problem(net, X[rows], Y[rows], l2=1e-3, comm=comm)
    keywords = {"seed": 3, "max_iter": 12, "method": fg.LevenbergMarquardt(solver="cholesky")}
    files = {"checkpoint": fg.Checkpoint(folder / "run.ckpt", every=1, resume=True)}
    calls = []

    def fall(record):
        calls.append(record.iteration)
        if comm.rank == rank and record.iteration == 5:
            mark()
            os.kill(os.getpid(), signal.SIGKILL)

    result = fg.train(problem, callbacks=[fall], **keywords, **files)
    whole = fg.train(problem, **keywords)
    same = np.array_equal(result.theta, whole.theta) and len(whole.history) == 12
    return {"same": comm.allgather(bool(same)), "left": comm.allgather(len(calls))}


def refused_checkpoints(comm, problem, folder):
    """Return the errors on all ranks."""
    X, Y, _, _ = samples()
    net, rows = problem.network, split(comm, "even")
    other = fg.Problem(net, X[rows], Y[rows], l2=1e-3, comm=comm)
    alone = fg.Problem(net, X, Y, l2=1e-3)
    fg.train(alone, seed=3, max_iter=1, checkpoint=folder / f"alone{comm.rank}.ckpt")
    (folder / "table.csv").write_text("1,2")
    comm.Barrier()
    calls = {
        "rows": lambda: fg.train(
            other,
            seed=3,
            method=fg.LevenbergMarquardt(solver="cholesky"),
            checkpoint=fg.Checkpoint(folder / "0.ckpt", resume=True),
        ),
        "ranks": lambda: fg.train(
            problem, seed=3, checkpoint=fg.Checkpoint(folder / "alone0.ckpt", resume=True)
        ),
        "no checkpoint": lambda: fg.train(problem, checkpoint=folder / "table.csv"),
        "no folder": lambda: fg.train(problem, checkpoint=folder / "none" / "run.ckpt"),
    }
    out = {}
    for name, call in calls.items():
        try:
            call()
            message = ""
        except (ValueError, OSError) as error:
            message = str(error)
        out[name] = comm.allgather(message)
    return out


def streamed(comm, net, folder):
    """Compare samples that stay in files with the same ones in memory, bit for bit."""
    from fastggn.data.scaling import Standardised
    from fastggn.data.sources import row_range
    from fastggn.training.checkpoint.identity import problem_fingerprint

    X, Y, _, _ = samples()
    if comm.rank == 0:
        np.save(folder / "X.npy", X)
        np.save(folder / "Y.npy", Y)
    comm.Barrier()
    files = [np.load(folder / name, mmap_mode="r") for name in ("X.npy", "Y.npy")]
    theta, out = net.init(seed=0), {}
    for kind in KINDS:
        rows = split(comm, kind)
        parts = [row_range(Standardised(f), rows.start, rows.stop) for f in files]
        held = [np.asarray(Standardised(f)[:])[rows] for f in files]
        there, here = (fg.Problem(net, x, y, comm=comm) for x, y in (parts, held))
        same = (
            np.array_equal(there.gradient(theta), here.gradient(theta))
            and np.array_equal(there.ggn(theta), here.ggn(theta))
            and problem_fingerprint(there) == problem_fingerprint(here)
        )
        path = folder / f"{kind}.ckpt"
        fg.train(there, theta, max_iter=2, checkpoint=path)
        ended = fg.train(here, theta, max_iter=4, checkpoint=fg.Checkpoint(path, resume=True))
        whole = fg.train(here, theta, max_iter=4)
        same = same and np.array_equal(ended.theta, whole.theta)
        out[kind] = comm.allgather(bool(same))
    return out


def run_all(comm):
    """Train by three solvers: every operation of the communicator is used."""
    X, Y, _, _ = samples()
    rows, net = split(comm, "even"), fg.MLP((3, 4, 2))
    problem = fg.Problem(net, X[rows], Y[rows], comm=comm)
    theta = net.init(seed=0)
    few = fg.Problem(net, X[rows][:1], Y[rows][:1], comm=comm)
    for _ in range(3):
        fg.train(few, theta, method=fg.LevenbergMarquardt(solver="dual"), max_iter=1)
    for solver in ("auto", "qr", "lsqr"):
        fg.train(
            problem, theta, method=fg.LevenbergMarquardt(solver=solver), max_iter=3, max_time=60.0
        )


def trap(operation, rank, effect):
    """Let an operation of one rank have an effect at its third call."""
    from mpi4py import MPI

    import fastggn.runtime.mpi as mpi

    plain, calls = getattr(mpi.MpiComm, operation), []

    def trapped(self, *args):
        calls.append(1)
        if MPI.COMM_WORLD.rank == rank and len(calls) == (1 if operation in ONCE else 3):
            mark()
            effect()
        return plain(self, *args)

    setattr(mpi.MpiComm, operation, trapped)


def fail():
    raise ArithmeticError("planted")


def main():
    X, Y, _, _ = samples()
    fg.Problem(fg.MLP((3, 2, 2)), X, Y).loss(np.zeros(14))
    assert "mpi4py" not in sys.modules  # MPI starts when it is asked for
    from mpi4py import MPI

    import fastggn.runtime.mpi as mpi
    from fastggn.solvers import choice as solvers

    comm, task = MPI.COMM_WORLD, sys.argv[1]
    if task == "agree":
        mpi.PIECE = 1000  # messages of several pieces
        found = agree(comm)
        if comm.rank == 0:
            print("FOUND", json.dumps(found))
        return
    if task == "jobs":
        found = jobs(comm, Path(sys.argv[2]))
        if comm.rank == 0:
            print("FOUND", json.dumps(found))
        return
    if task == "analyses":
        from mpi_analyses import analyses

        found = analyses(comm, sys.argv[2:])
        if comm.rank == 0:
            print("FOUND", json.dumps(found))
        return
    if task == "killed":
        found = killed(comm, Path(sys.argv[2]), int(sys.argv[3]))
        if comm.rank == 0:
            print("UNHARMED" if int(sys.argv[3]) >= 0 else "FOUND " + json.dumps(found))
        return
    operation, rank = sys.argv[2], int(sys.argv[3])
    solvers.UNASKED = 0  # small systems look at the memory too
    if task == "kill":
        trap(operation, rank, lambda: os.kill(os.getpid(), signal.SIGKILL))
    else:
        trap(operation, rank, fail)
    run_all(comm)
    print("UNHARMED")


if __name__ == "__main__":
    main()
