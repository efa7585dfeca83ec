"""Public functions that take a problem: one of equations works, or the error says what does."""

import inspect

import numpy as np
import pytest

import fastggn as fg

RESULTS = {"LaplacePosterior", "WeightDecayPath"}  # which functions of this table make
t = np.linspace(0.0, 2.0, 12)[:, None]
NET = fg.MLP((1, 4, 1))


def decay(points=t, rate=0.5):
    """u' = -k u with data of exp(-1.5 t)."""
    pair = [
        fg.Term(points, lambda x, u, k: u.d("t") + k["k"] * u.value),
        fg.Term(t[::3], targets=np.exp(-1.5 * t[::3, 0])),
    ]
    return fg.ResidualProblem(NET, pair, inputs=["t"], coefficients={"k": rate})


def public():
    """Return the names of the public functions, classes and class methods that take a problem."""
    found = set()
    for module in (fg, fg.analysis):
        for name in dir(module):
            entry = getattr(module, name)
            if name.startswith("_") or not callable(entry) or isinstance(entry, type(fg)):
                continue
            made = [(name, entry)]
            if inspect.isclass(entry):
                own = {k for base in entry.__mro__[:-1] for k in vars(base) if k[0] != "_"}
                made += [(f"{name}.{k}", getattr(entry, k)) for k in own]
            for label, function in made:
                if callable(function) and takes_a_problem(function):
                    found.add(label)
    return found - RESULTS


def takes_a_problem(function):
    try:
        given = inspect.signature(function).parameters.values()
    except ValueError:  # a built-in constructor
        return False
    return any("Problem" in str(p.annotation) and p.name in ("problem", "source") for p in given)


def trained(problem, **options):
    return fg.train(problem, seed=0, max_iter=4, **options)


def traced(callback):
    trained(decay(), callbacks=[callback])
    return callback


def mixture(problem, theta):
    runs = fg.train_restarts(problem, 2, max_iter=30, regularize=fg.Evidence())
    return fg.PosteriorMixture.of_runs(problem, runs).predict(t, noise=False)


def chosen(problem, theta):
    """The weight with the least loss at other points; the whole table is finite."""
    options = {"grid": [1e-1, 1e-4], "seed": 0, "max_iter": 30}
    path = fg.select_weight_decay(problem, decay(t[::2] + 0.1), **options)
    assert path.l2 == 1e-4 and np.isfinite(path.validation_losses).all()
    assert path.problem.l2 == path.l2 and path.problem.n_params == problem.n_params
    return path


WORKS = {
    "train": lambda p, theta: trained(p),
    "train_restarts": lambda p, theta: fg.train_restarts(p, 2, max_iter=3),
    "select_weight_decay": chosen,
    "rank_analysis": fg.rank_analysis,
    "critical_point": fg.critical_point,
    "laplace": lambda p, theta: fg.laplace(p, theta, alpha=1.0, beta=100.0),
    "PosteriorMixture.of_runs": mixture,
    "polish": lambda p, theta: fg.analysis.polish(p, theta, max_iter=2),
    "null_space": fg.analysis.null_space,
    "effective_width": fg.analysis.effective_width,
    "coefficient_errors": fg.analysis.coefficient_errors,
    "rank_over_training": lambda p, theta: fg.analysis.rank_over_training(p, [theta, 2 * theta]),
    "rank_over_weights": lambda p, theta: fg.analysis.rank_over_weights(p, 3),
    "RankTrace": lambda p, theta: traced(fg.analysis.RankTrace(p)).sweep(),
    "CurvatureTrace": lambda p, theta: traced(fg.analysis.CurvatureTrace(p)).values,
    "curvature": lambda p, theta: fg.analysis.curvature(p, theta, "S") @ theta,
    "largest_eigenvalues": lambda p, theta: fg.analysis.largest_eigenvalues(p, theta, "G", 2),
    "spectral_density": lambda p, theta: fg.analysis.spectral_density(p, theta, probes=2),
    "loss_along": lambda p, theta: fg.analysis.loss_along(p, theta, points=3),
    "loss_between": lambda p, theta: fg.analysis.loss_between(p, theta, 2 * theta, points=3),
    "loss_plane": lambda p, theta: fg.analysis.loss_plane(p, theta, points=3),
}
REFUSED = {
    "report": (lambda p, theta: fg.report(p, trained(p), "nowhere.html"), "rank_analysis"),
    "minimum_at_infinity": (fg.analysis.minimum_at_infinity, "train says whether a run diverges"),
    "stationarity_split": (fg.analysis.stationarity_split, "critical_point"),
    "degenerate_activation": (fg.analysis.degenerate_activation, "critical_point"),
    "target_sensitivity": (fg.analysis.target_sensitivity, "laplace and coefficient_errors"),
    "index_along_gamma": (
        lambda p, theta: fg.analysis.index_along_gamma(p, theta, 1, 0),
        "the network of split_unit",
    ),
}


def test_none_is_missing():
    assert public() == {*WORKS, *REFUSED}


@pytest.mark.parametrize("name", WORKS)
def test_works(name):
    problem = decay()
    assert WORKS[name](problem, problem.init(0)) is not None


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_the_remedy(name):
    call, remedy = REFUSED[name]
    problem = decay()
    with pytest.raises(TypeError, match=f"{name} needs a .*, not a ResidualProblem: .*{remedy}"):
        call(problem, problem.init(0))


def test_folds_of_equations_are_refused():
    with pytest.raises(ValueError, match="a fold of equations would lack .*: pass held_out="):
        fg.select_weight_decay(decay())


def test_random_weights_keep_the_coefficients():
    """The ranks are those at weights of `MLP.init`, the coefficients at their starts."""
    problem, rng = decay(rate=0.3), np.random.default_rng(0)
    sweep = fg.analysis.rank_over_weights(problem, 2)
    thetas = [np.append(NET.init(rng, "normal", 1.0), 0.3) for _ in range(2)]
    assert sweep.losses == tuple(problem.loss(theta) for theta in thetas)


def test_units_that_equations_do_not_see():
    """A copy of a unit goes; one that is constant at the points alone stays."""
    problem = decay()
    layers = [w.copy() for w in NET.unpack(problem.init(0)[: NET.n_params])]
    layers[0][1] = layers[0][0]
    found = fg.analysis.effective_width(problem, np.append(NET.pack(layers), 0.5))
    assert found.widths == (1, 3, 1) and found.everywhere
    layers[0][1] = [1e-3, 40.0]  # saturated at all points
    assert fg.analysis.effective_width(problem, np.append(NET.pack(layers), 0.5)).widths[1] == 4
    values = fg.Problem(NET, t, np.zeros(12))
    assert fg.analysis.effective_width(values, NET.pack(layers)).widths[1] == 3


@pytest.mark.parametrize("start", ["1.0", b"1", True, None, 1j, ("1", 0.0, 2.0), (1.0, "0", 2.0)])
def test_a_start_that_is_no_number(start):
    with pytest.raises(ValueError, match=r"coefficients\['k'\] must be (a number|finite)"):
        decay(rate=start)


def test_a_table_is_no_problem():
    table = pytest.importorskip("pandas").DataFrame({"a": [1.0, 2.0]})
    for function in (fg.train, fg.train_restarts, fg.select_weight_decay):
        with pytest.raises(TypeError, match=r"must be a fastggn.Problem, not DataFrame"):
            function(table)
