r"""
Rates of an equation from noisy data
====================================

Foxes and rabbits, as Lotka and Volterra wrote them down:

.. math::

   \dot r = \alpha r - \beta r f, \qquad \dot f = -\gamma f + \delta r f.

Both populations are counted at sixty times, with errors, and the four rates are
unknown. They are *coefficients* of a problem: fitted together with the network, and
with a standard error each.

The counts
----------
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.integrate import solve_ivp

import fastggn as fg

true = {"alpha": 1.1, "beta": 0.4, "gamma": 0.4, "delta": 0.1}
last, noise = 10.0, 0.1


def populations(t, both):
    rabbits, foxes = both
    meet = rabbits * foxes
    return [
        true["alpha"] * rabbits - true["beta"] * meet,
        -true["gamma"] * foxes + true["delta"] * meet,
    ]


days = np.linspace(0, last, 60)
solved = solve_ivp(
    populations, (0, last), (10, 5), t_eval=days, rtol=1e-10, atol=1e-10
)
exact = solved.y.T


def counted(seed):
    return exact + noise * np.random.default_rng(seed).standard_normal(exact.shape)


# %%
# The problem
# -----------
#
# The network has two outputs, u[0] and u[1], and its input is the time over ten
# days: a derivative by it is ten times that by the days. The residual of two
# equations is a tuple, and ``k`` holds the rates.
#
# Weights say how much a misfit matters. One over the variance of the noise, times
# the number of rows (a term counts by its *mean*), makes the objective a log
# likelihood; the equations hold far better than the counts, so they get a standard
# deviation of 0.03, small against the noise and large against the rounding. The
# little ``l2`` is a prior of the weights with a deviation of 30; the rates have
# none.

time = days[:, None] / last
dense = np.linspace(0, 1, 200)[:, None]


def equations(t, u, k):
    rabbits, foxes = u[0].value, u[1].value
    meet = rabbits * foxes
    return (
        u[0].d("t") / last - k["alpha"] * rabbits + k["beta"] * meet,
        u[1].d("t") / last + k["gamma"] * foxes - k["delta"] * meet,
    )


def problem_of(counts):
    terms = [
        fg.Term(time, targets=counts, weight=len(time) / noise**2),
        fg.Term(dense, equations, weight=len(dense) / 0.03**2),
    ]
    start = dict.fromkeys(true, 0.5)
    return fg.ResidualProblem(
        fg.MLP((1, 10, 2)), terms, inputs=("t",), coefficients=start, l2=1e-3
    )


counts = counted(0)
problem = problem_of(counts)
result = fg.train(problem, seed=0, max_iter=300)
print(f"{result.status} after {result.n_iter} iterations")

# %%
# Rates with their standard errors
# --------------------------------
#
# The scatter of the counts about the curves tells their noise, and the linearised
# problem carries it to the rates, with the weights of the network free.


def rates_and_errors(problem, theta):
    errors = fg.analysis.coefficient_errors(problem, theta)
    return list(problem.coefficients(theta).values()), list(errors.values())


rates, errors = rates_and_errors(problem, result.theta)
for name, rate, deviation in zip(true, rates, errors, strict=True):
    print(f"{name:6s} {rate:.4f} +- {deviation:.4f}   (true: {true[name]})")

fig, axes = plt.subplots(figsize=(7, 4), layout="constrained")
curves = problem.network.predict(problem.weights(result.theta), dense)
for output, (name, colour) in enumerate((("rabbits", "C0"), ("foxes", "C1"))):
    axes.plot(days, counts[:, output], ".", color=colour, markersize=4)
    axes.plot(last * dense, curves[:, output], color=colour, label=name)
axes.set(
    xlabel="days", ylabel="population", title="Counts, and the fitted equation"
)
axes.legend()
plt.show()

# %%
# Are the standard errors right?
# ------------------------------
#
# Then the rates of other counts differ from the true ones by about one standard
# error: the root mean square of the ratio is near 1. Each fit starts at the first
# one's end.

ratios = []
for seed in range(20):
    again = problem_of(counted(100 + seed))
    found = fg.train(again, result.theta, max_iter=50)
    rates, errors = rates_and_errors(again, found.theta)
    ratios.append(np.subtract(rates, list(true.values())) / errors)
rms = np.sqrt(np.mean(np.square(ratios)))
print(f"error over standard error, rms of {np.size(ratios)}: {rms:.2f}")

# %%
# Beside L-BFGS and Adam
# ----------------------
#
# The same problem and start, one thread and seven times the processor time for each
# (``python -m bench.equations peers rates --seconds 15``). The error is that of the
# rates; with these counts nothing gets below a hundredth.
#
# .. image:: /images/equations/rates.png
#    :alt: error over processor time of fastggn, L-BFGS and Adam
