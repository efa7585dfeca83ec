"""Ranks whose calls differ, or that leave: `python mpi_agreement.py options|calls|leave ...`."""

import json
import sys
import time

import numpy as np
from mpi4py import MPI
from patience import mark

import fastggn as fg

COMM = MPI.COMM_WORLD
CASES = 100


def problem_of_all():
    rng = np.random.default_rng(COMM.rank)
    X = rng.standard_normal((12, 2))
    return fg.Problem(fg.MLP((2, 3, 1)), X, np.sin(X[:, 0]), comm=COMM)


def message_of(call):
    """Return the kind and the text of the error of a call, or an empty text."""
    try:
        call()
    except (RuntimeError, TypeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def methods(rng):
    """Yield methods that differ from each other and from the default."""
    yield "ggn"
    yield str(rng.choice(["newton", "lbfgs", "bp", "adam", "auto"]))
    yield fg.LevenbergMarquardt(solver=str(rng.choice(["cholesky", "qr", "lsqr", "dual"])))
    yield fg.LevenbergMarquardt(damping=float(rng.uniform(0.1, 9.0)))
    yield fg.LevenbergMarquardt(batch_size=int(rng.integers(2, 30)))
    yield fg.LevenbergMarquardt(precision="mixed")
    yield fg.Adam(rate=float(rng.uniform(0.1, 0.9)))


def different(rng, folder):
    """Return the name of an argument, and a value that is not the usual one."""
    X = np.ones((3, 2))
    tests = rng.choice(["gradient", "step", "loss"])
    offers = [
        ("method", list(methods(rng))[rng.integers(7)]),
        ("max_iter", int(rng.integers(4, 99))),
        ("max_time", 60.0),
        ("stop", fg.Stop(**{str(tests): float(rng.uniform(1e-9, 1e-3))})),
        ("held_out", (X, X[:, 0])),
        ("held_out", fg.HeldOut(X, X[:, 0], patience=int(rng.integers(1, 9)))),
        ("regularize", fg.Evidence()),
        ("regularize", fg.NullSpace()),
        ("leave_saddles", str(rng.choice(["noise", "negative_curvature"]))),
        ("checkpoint", fg.Checkpoint(f"{folder}/run.ckpt", every=int(rng.integers(1, 9)))),
        ("checkpoint", fg.Checkpoint(f"{folder}/run.ckpt", resume=True)),
        ("seed", int(rng.integers(1, 99))),
        ("theta0", np.zeros(13)),
        ("n_starts", 3),
        ("init", "he"),
        # Not valid at all, on some ranks.
        ("max_iter", -1),
        ("method", "lmm"),
        ("theta0", np.zeros(3)),
        ("callbacks", [1]),
    ]
    return offers[rng.integers(len(offers))]


def options(folder):
    """Let random ranks have another argument; return its name, those ranks and all messages."""
    problem, found = problem_of_all(), []
    for case in range(CASES):
        rng = np.random.default_rng(case)
        name, value = different(rng, folder)
        others = rng.random(COMM.size) < 0.5
        others[rng.integers(COMM.size)] = True
        others[(np.flatnonzero(others)[0] + 1) % COMM.size] = False
        given = {"max_iter": 3, "seed": 0}
        several = name in ("n_starts", "init") or (name != "theta0" and case % 4 == 0)
        if others[COMM.rank]:
            given[name] = value
        call = fg.train_restarts if several else fg.train
        message = message_of(lambda call=call, given=given: call(problem, **given))
        found.append([name, others.tolist(), COMM.allgather(message)])
    callback = {"callbacks": [lambda record: None]} if COMM.rank == 1 else {}
    time = {"max_time": 60.0 + COMM.rank}
    same = [fg.train(problem, seed=0, max_iter=3, **more) for more in ({}, callback, time)]
    return {"found": found, "same": len({run.theta.tobytes() for run in same}) == 1}


def calls(_):
    """Let two random ranks make different calls; return their names and the messages."""
    problem, theta = problem_of_all(), np.linspace(-1.0, 1.0, 13)
    right = problem.loss(theta)
    X = np.ones((3, 2))
    every = {
        "train": lambda: fg.train(problem, theta, max_iter=2),
        "train_restarts": lambda: fg.train_restarts(problem, 2, max_iter=1),
        "rank_analysis": lambda: fg.rank_analysis(problem, theta),
        "critical_point": lambda: fg.critical_point(problem, theta),
        "null_space": lambda: fg.analysis.null_space(problem, theta),
        "polish": lambda: fg.analysis.polish(problem, theta),
        "laplace": lambda: fg.laplace(problem, theta, alpha=1.0, beta=2.0),
        "Problem": lambda: fg.Problem(fg.MLP((2, 3, 1)), X, X[:, 0], comm=COMM),
        "loss": lambda: problem.loss(theta),
        "rank": lambda: problem.jacobian(theta).rank(),
        "no call": lambda: None,
    }
    found = []
    for case in range(CASES):
        names = np.random.default_rng(case).choice(list(every), 2, replace=False)
        name = str(names[COMM.rank % 2])
        if "loss" in names and "rank" in names:  # they begin alike, and may end alike
            continue

        def call(name=name):
            every[name]()
            problem.gradient(theta)  # where a rank without a call meets the others

        found.append([names.tolist(), COMM.allgather(message_of(call))])
    return {"found": found, "same": COMM.allgather(problem.loss(theta) == right)}


def leave(where, rank):
    """Let one rank end at a place of the program, while the others go on."""

    def end():
        if COMM.rank == rank:
            mark()
            raise OSError("no data") if where == "error" else SystemExit(0)

    mark()
    if where in ("start", "error"):
        end()
    problem = problem_of_all()
    if where == "between":
        end()
    if where == "callback":
        fg.train(problem, seed=0, callbacks=[lambda record: record.iteration == 2 and end()])
    fg.train(problem, seed=0, max_iter=2)
    if where == "end":
        end()
        if COMM.rank != rank:
            time.sleep(1.0)
        print("ENDED", flush=True)
        return
    print("UNHARMED", flush=True)


def main():
    task, *rest = sys.argv[1:]
    if task == "leave":
        leave(rest[0], int(rest[1]))
        return
    found = {"options": options, "calls": calls}[task](*rest)
    if COMM.rank == 0:
        print("FOUND", json.dumps(found))


if __name__ == "__main__":
    main()
