"""Analyses over ranks against one process: part of the jobs of `mpi_worker.py`."""

import numpy as np
from mpi_worker import KINDS, T, digests, samples, split

import fastggn as fg

# Where the values dropped are rounding errors, so is the gap.
NOISE = ("gap", "psi_gap", "greedy_gap")


def problems():
    """Return (problem of some rows, theta) by name."""
    X, Y, labels, w = samples()
    w = np.where(np.arange(T) % 7 == 0, 0.0, w)
    deep, small = fg.MLP((3, 6, 5, 2)), fg.MLP((3, 8, 2), activation="relu")
    twice = X.copy()
    twice[100:120] = X[:20]  # equal inputs on several ranks, some with other targets
    same = labels.copy()
    same[100:110] = labels[:10]
    gates = [np.random.default_rng(3).random((T, 8)) < 0.5]
    exact = small.init(seed=2)
    fitted = small.predict(exact, X)

    def weighted(rows, comm):
        return fg.Problem(deep, X[rows], Y[rows], sample_weight=w[rows], comm=comm)

    def labelled(rows, comm):
        loss = "softmax_cross_entropy"
        return fg.Problem(small, twice[rows], same[rows], loss, comm=comm)

    def gated(rows, comm):
        return fg.Problem(small, twice[rows], Y[rows], gates=[gates[0][rows]], comm=comm)

    def few(rows, comm):
        # Every rank's first rows: fewer rows of J than columns in all.
        chosen = np.arange(T)[rows]
        chosen = chosen[chosen % 15 == 0]
        return fg.Problem(deep, X[chosen], Y[chosen], comm=comm)

    def fit(rows, comm):
        return fg.Problem(small, X[rows], fitted[rows], comm=comm)

    made = {"weighted": (weighted, deep.init(seed=1)), "labels": (labelled, small.init(seed=0))}
    made |= {"gated": (gated, small.init(seed=4)), "few": (few, deep.init(seed=5))}
    return made | {"exact fit": (fit, exact)}


def differences(one, many, path=""):
    """Return what two reports' plain values differ in: texts, and numbers by more than 1e-12."""
    if isinstance(one, dict):
        assert isinstance(many, dict) and one.keys() == many.keys(), path
        parts = [(one[key], many[key], f"{path}.{key}") for key in one if key not in NOISE]
    elif isinstance(one, (list, tuple)):
        if one and all(isinstance(value, float) for value in one):
            close = len(one) == len(many)
            close = close and np.allclose(one, many, rtol=0.0, atol=1e-12 * np.max(np.abs(one)))
            return [] if close else [f"{path}: {one} and {many}"]
        if len(one) != len(many):
            return [f"{path}: {one} and {many}"]
        parts = [(a, b, f"{path}[{i}]") for i, (a, b) in enumerate(zip(one, many, strict=True))]
    elif isinstance(one, float) and not isinstance(one, bool):
        size = 1.0 if path.endswith(".unseen_error") else abs(one)  # which is a share already
        close = one == many or abs(many - one) <= 1e-12 * size
        return [] if close or np.isnan(one) else [f"{path}: {one!r} and {many!r}"]
    else:
        return [] if one == many else [f"{path}: {one!r} and {many!r}"]
    return [line for part in parts for line in differences(*part)]


def ranks(comm):
    """Compare `rank_analysis` with one process, on every rank."""
    out = {}
    for name, (make, theta) in problems().items():
        one = fg.rank_analysis(make(slice(0, T), None), theta)
        for kind in KINDS:
            many = fg.rank_analysis(make(split(comm, kind), comm), theta + comm.rank)
            found = differences(one.to_dict(), many.to_dict())
            if digests(comm, many.singular_values, np.frombuffer(str(many).encode(), np.uint8)) > 1:
                found.append("the ranks differ")
            out[f"{name}, {kind}"] = found
    return out


def analyses(comm):
    """Return what rank 0 prints."""
    return {"rank": ranks(comm)}
