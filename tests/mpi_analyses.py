"""Analyses over ranks against one process: part of the jobs of `mpi_worker.py`."""

import warnings

import numpy as np
from mpi_worker import KINDS, T, digests, relative, samples, split

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
    for number, (name, (make, theta)) in enumerate(problems().items()):
        one = fg.rank_analysis(make(slice(0, T), None), theta)
        for kind in (KINDS[number % 3], KINDS[(number + 1) % 3]):
            many = fg.rank_analysis(make(split(comm, kind), comm), theta + comm.rank)
            found = differences(one.to_dict(), many.to_dict())
            if digests(comm, many.singular_values, np.frombuffer(str(many).encode(), np.uint8)) > 1:
                found.append("the ranks differ")
            out[f"{name}, {kind}"] = found
    return out


def points():
    """Return (problem of some rows, rows in all, theta, options) by name."""
    X, Y, labels, w = samples()
    corners, xor = fg.data.xor()
    small, wide = fg.MLP((3, 2, 2)), fg.MLP((3, 4, 2))
    theta = small.init(seed=1)
    linear = fg.MLP((3, 1, 2), activation="identity")
    fits = wide.predict(wide.init(seed=6), X[:12])
    trained = fg.train(fg.Problem(small, X, Y, l2=0.01), theta).theta
    constant = np.zeros(linear.n_params)
    constant[[5, 7]] = Y.mean(axis=0)
    flattest = fg.train(fg.Problem(linear, X, Y), seed=0).theta
    noisy = fg.train(fg.Problem(small, X[:3].repeat(10, axis=0), Y[:30]), theta, max_iter=300)

    def of(net, X, Y, loss="squared", **options):
        return lambda rows, comm: fg.Problem(net, X[rows], Y[rows], loss, comm=comm, **options)

    zero = np.zeros(fg.MLP((2, 2, 1)).n_params)
    kinked = fg.MLP((2, 1, 1), activation="relu", bias="none")
    corner = np.array([[0.0, 1.0], [0.0, -1.0], [1.0, 1.0], [1.0, -1.0]])
    level = np.array([[-0.8], [0.8], [1.9], [1.1]])
    return {
        "not critical": (of(small, X, Y), T, theta, {}),
        "minimum": (of(small, X, Y, l2=0.01), T, trained, {}),
        "minimum, lanczos": (of(small, X, Y, l2=0.01), T, trained, {"method": "lanczos"}),
        "polished": (of(small, X, Y, l2=0.01), T, trained + 1e-4, {"polish": True}),
        "strict saddle": (of(linear, X, Y), T, constant, {}),
        "saddle": (of(fg.MLP((2, 2, 1)), corners, xor - 0.5), 4, zero, {}),
        "exact fit": (
            of(wide, X[:12], fits),
            12,
            wide.init(seed=6) + 1e-9,
            {"grad_tol": 1e-6},
        ),
        "linear": (of(linear, X, Y), T, flattest, {"grad_tol": 1e-6}),
        "equal inputs": (of(small, X[:3].repeat(10, axis=0), Y[:30]), 30, noisy.theta, {}),
        "minimum at a kink": (of(kinked, corner, level), 4, np.array([1.5, 0.0, 1.0]), {}),
        "saddle at kinks": (of(kinked, corner, level), 4, np.zeros(3), {}),
    }


def critical_points(comm):
    """Compare `critical_point` with one process; return the verdicts and the differences."""
    out = {}
    for number, (name, (make, count, theta, options)) in enumerate(points().items()):
        kind = KINDS[number % len(KINDS)]
        edges = split(comm, kind)
        rows = slice(edges.start * count // T, edges.stop * count // T)
        one = fg.critical_point(make(slice(0, count), None), theta, **options)
        many = fg.critical_point(make(rows, comm), theta + comm.rank, **options)
        again = fg.critical_point(make(rows, comm), theta, **options)
        found = {"verdicts": [one.label, many.label], "null": [one.null_dimension]}
        found["null"].append(many.null_dimension)
        found["inertia"] = [one.inertia, many.inertia]
        found["loss"] = relative(many.loss, one.loss) if one.loss > 1e-20 else abs(many.loss)
        if one.eigenvalues is not None:
            found["eigenvalues"] = relative(many.eigenvalues, one.eigenvalues)
        found["bits"] = digests(comm, many.theta, np.frombuffer(str(many).encode(), np.uint8))
        found["repeated"] = str(again) == str(many) and np.array_equal(again.theta, many.theta)
        found["reasons"] = [one.reason, many.reason]
        out[f"{name}, {kind}"] = found
    return out


def parts_of_critical_points(comm):
    """Compare with one process what the points above do not come to."""
    from fastggn.analysis.critical import certificates, switches
    from fastggn.analysis.critical.surface import Surface

    X, Y, _, _ = samples()
    net, out = fg.MLP((3, 4, 2), activation="relu"), {}
    theta = net.init(seed=3)
    at_kink = theta.copy()
    at_kink[:4] = 0.0
    one = fg.Problem(net, X, Y)
    step = np.linalg.lstsq(
        one.jacobian(theta).to_dense(), (one.outputs(theta) - Y).ravel(), rcond=1e-12
    )[0]
    for kind in KINDS:
        rows = split(comm, kind)
        surface = Surface(fg.Problem(net, X[rows], Y[rows], comm=comm))
        serial = Surface(one)
        found = [switches.at_kink(surface, theta), switches.at_kink(surface, at_kink)]
        found += [surface.same_piece(theta, theta), surface.same_piece(theta, -theta)]
        found.append(certificates.exact_fit(surface, theta))
        largest = certificates.LARGEST_DENSE
        dense = certificates._fitting_step(surface, theta)
        certificates.LARGEST_DENSE = 0
        iterated = certificates._fitting_step(surface, theta)
        certificates.LARGEST_DENSE = largest
        out[kind] = {
            "found": found,
            "rounding": relative(surface.rounding(theta), serial.rounding(theta)),
            "outputs": relative(surface.output_rounding(theta), serial.output_rounding(theta)),
            "steps": [relative(dense, step), relative(iterated, step)],
        }
    return out


def compared(comm, make, count, kind, options):
    """Train in one process, over ranks and again; return what the tests ask."""
    edges = split(comm, kind)
    rows = slice(edges.start * count // T, edges.stop * count // T)
    alone, shared = make(slice(0, count), None), make(rows, comm)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # undamped steps and singular systems, as in one process
        one = fg.train(alone, seed=3, **options)
        many = fg.train(shared, seed=3, **options)
        again = fg.train(shared, seed=3, **options)
    scale = max(one.loss, 1e-12 * one.initial_loss)
    return {
        "loss": abs(many.loss - one.loss) / scale,
        "iterations": [one.n_iter, many.n_iter],
        "solver": [one.solver, many.solver],
        "status": [one.status, many.status],
        "fell": one.loss < one.initial_loss,
        "bits": digests(comm, many.theta),
        "repeated": bool(np.array_equal(again.theta, many.theta)),
    }


def batches(comm):
    """Compare runs on mini-batches, drawn from the samples of all ranks."""
    X, Y, labels, w = samples()
    w = np.where(np.arange(T) % 7 == 0, 0.0, w)
    net = fg.MLP((3, 6, 2))

    def weighted(rows, comm):
        return fg.Problem(net, X[rows], Y[rows], sample_weight=w[rows], l2=1e-3, comm=comm)

    def labelled(rows, comm):
        return fg.Problem(net, X[rows], labels[rows], "softmax_cross_entropy", comm=comm)

    runs = {
        "lm, dual": (weighted, {"method": fg.LevenbergMarquardt(batch_size=12), "max_iter": 3}),
        "lm, cholesky": (
            weighted,
            {"method": fg.LevenbergMarquardt(batch_size=40, solver="cholesky"), "max_iter": 3},
        ),
        "lm, lsqr": (
            weighted,
            {"method": fg.LevenbergMarquardt(batch_size=40, solver="lsqr"), "max_iter": 2},
        ),
        "ggn": (weighted, {"method": fg.GaussNewton(batch_size=40, step=0.1), "max_iter": 2}),
        "adam": (labelled, {"method": fg.Adam(batch_size=7, rate=0.01), "max_iter": 3}),
    }
    return {
        name: compared(comm, make, T, KINDS[number % 3], options)
        for number, (name, (make, options)) in enumerate(runs.items())
    }


def duals(comm):
    """Compare runs by the dual, whose samples are gathered."""
    X, Y, _, w = samples()
    net, few = fg.MLP((3, 6, 2)), 14
    gates = np.random.default_rng(3).random((few, 6)) < 0.7

    def of(loss="squared", **options):
        def make(rows, comm):
            own = {name: value[rows] for name, value in options.items() if name != "curvature"}
            own |= {name: value for name, value in options.items() if name == "curvature"}
            if "gates" in own:
                own["gates"] = [own["gates"]]
            return fg.Problem(net, X[:few][rows], Y[:few][rows], loss, comm=comm, **own)

        return make

    exact = of("cauchy", curvature="exact")
    runs = {
        "lm": (
            of(sample_weight=w[:few]),
            {"method": fg.LevenbergMarquardt(solver="auto"), "max_iter": 6},
        ),
        "minimum norm": (of(), {"method": fg.GaussNewton(solver="dual", step=0.05), "max_iter": 2}),
        "gates": (of(gates=gates), {"method": fg.LevenbergMarquardt(solver="dual"), "max_iter": 4}),
        "exact curvature": (exact, {"method": fg.LevenbergMarquardt(solver="dual"), "max_iter": 4}),
        "evidence": (
            of(),
            {
                "method": fg.LevenbergMarquardt(solver="dual"),
                "regularize": fg.Evidence(),
                "max_iter": 5,
            },
        ),
    }
    found = {
        name: compared(comm, make, few, KINDS[number % 3], options)
        for number, (name, (make, options)) in enumerate(runs.items())
    }
    theta, rows = net.init(seed=0), split(comm, "uneven")
    own = slice(rows.start * few // T, rows.stop * few // T)
    gram = of()(own, comm).dual_gram(theta)
    return {"runs": found, "gram": np.array_equal(gram, of()(slice(0, few), None).dual_gram(theta))}


def regularisers(comm):
    """Compare runs with the null space of all ranks' rows regularised."""
    X, _, _, _ = samples()
    net, few = fg.MLP((3, 3, 2)), 6
    fitted = net.predict(net.init(seed=8), X[:few])

    def make(rows, comm):
        return fg.Problem(net, X[:few][rows], fitted[rows], comm=comm)

    step, added = fg.NullSpace(), fg.NullSpace(0.1, "objective", refresh=2)
    runs = {
        "newton": {"method": "newton", "regularize": step},
        "newton, cut": {"method": "newton", "regularize": fg.NullSpace(np.inf)},
        "newton, products": {"method": fg.Newton(solver="lsqr"), "regularize": step, "max_iter": 2},
        "lm": {"regularize": step, "method": fg.LevenbergMarquardt(solver="qr")},
        "objective, newton": {"method": "newton", "regularize": added},
        "objective, lm": {"regularize": added},
        "objective, qr": {"regularize": added, "method": fg.LevenbergMarquardt(solver="qr")},
        # LSQR within LSQR: thousands of messages an iteration.
        "objective, lsqr": {
            "regularize": added,
            "method": fg.LevenbergMarquardt(solver="lsqr"),
            "max_iter": 1,
        },
        "objective, bp": {"method": fg.GradientDescent(rate=0.1), "regularize": added},
    }
    return {
        name: compared(comm, make, few, KINDS[number % 3], {"max_iter": 4, **options})
        for number, (name, options) in enumerate(runs.items())
    }


PARTS = {
    "rank": ranks,
    "critical": critical_points,
    "parts": parts_of_critical_points,
    "batches": batches,
    "duals": duals,
    "regularisers": regularisers,
}


def analyses(comm, names):
    """Return what rank 0 prints: all parts, or those named."""
    return {name: PARTS[name](comm) for name in names or PARTS}
