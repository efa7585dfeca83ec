r"""
A shock: Burgers' equation
==========================

.. math::

   u_t + u\,u_x = \frac{0.01}{\pi}\,u_{xx}, \qquad u(x, 0) = -\sin \pi x, \qquad
   u(\pm 1, t) = 0.

The best known test of networks on equations: from t = 1/π on, the solution falls
from 1 to -1 within a few hundredths around x = 0. The exact solution is an integral
(Cole 1951, Hopf 1950), which Gauss-Hermite quadrature gives to rounding.
"""

import time

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import qmc

import fastggn as fg

viscosity = 0.01 / np.pi


def exact(points):
    x, t = points[:, :1], points[:, 1:]
    nodes, weights = np.polynomial.hermite.hermgauss(200)
    y = x - np.sqrt(4 * viscosity * t) * nodes
    power = -np.cos(np.pi * y) / (2 * np.pi * viscosity)
    factor = weights * np.exp(power - power.max(axis=1, keepdims=True))
    return -(np.sin(np.pi * y) * factor).sum(axis=1) / factor.sum(axis=1)


# %%
# Points where the solution is steep
# ----------------------------------
#
# The residual is known at the points, and only there: between points that are
# further apart than the shock is wide, a network does what it likes. So 60 per cent
# of the points crowd around x = 0, with a density that falls like that of Cauchy's
# distribution of width 0.02; Halton's sequence leaves fewer gaps than random
# numbers.

count, crowded = 3000, 1800
unit = qmc.Halton(2, seed=0).random(count)
x, t = 2 * unit[:, 0] - 1, unit[:, 1]
x[:crowded] = 0.02 * np.tan(np.arctan(50) * x[:crowded])
inside = np.column_stack([x, t])

# %%
# The error of a solution is bounded by the *integral* of the size of the residual.
# A mean over crowded points is no integral: there are fifty times more of them
# at the shock than at the walls. Weights of one over the density make it one.

density = 0.2 + 0.6 * 0.02 / (0.02**2 + x**2) / (2 * np.arctan(50))

line, later = np.linspace(-1, 1, 101), np.linspace(0, 1, 41)[1:]
start = np.column_stack([line, np.zeros(101)])
walls = np.array([(side, t) for side in (-1.0, 1.0) for t in later])


def burgers(x, u):
    return u.d("t") + u.value * u.d("x") - viscosity * u.d("x", "x")


problem = fg.ResidualProblem(
    fg.MLP((2, 24, 24, 1)),
    [
        fg.Term(inside, burgers, sample_weight=1 / density),
        fg.Term(start, lambda x, u: u.value + np.sin(np.pi * x[:, 0]), weight=10.0),
        fg.Term(walls, lambda x, u: u.value, weight=10.0),
    ],
    inputs=("x", "t"),
)
print(problem)

# %%
# The training
# ------------

line, times = np.linspace(-1, 1, 401), np.linspace(0, 1, 101)
grid = np.stack(np.meshgrid(line, times), axis=-1).reshape(-1, 2)
solution = exact(grid)
began = time.perf_counter()
result = fg.train(problem, seed=0, max_iter=350)
seconds = time.perf_counter() - began
values = problem.network.predict(problem.weights(result.theta), grid)[:, 0]
error = np.linalg.norm(values - solution) / np.linalg.norm(solution)
print(f"{result.status} after {result.n_iter} iterations, {seconds:.0f} s")
print(f"loss {result.loss:.1e}, relative L2 error {error:.1e}")

# %%
# Three moments of the solution, and the error everywhere:

fig, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
for row in (0, 40, 100):
    part = slice(row * 401, (row + 1) * 401)
    axes[0].plot(line, solution[part], "k:", linewidth=3)
    axes[0].plot(line, values[part], label=f"t = {times[row]:g}")
axes[0].set(xlabel="x", ylabel="u", title="Network, and solution (dotted)")
axes[0].legend()
size = np.log10(np.abs(values - solution).reshape(101, 401) + 1e-12)
drawn = axes[1].pcolormesh(line, times, size, vmin=-8, vmax=-3)
axes[1].set(xlabel="x", ylabel="t", title="log10 of the error")
fig.colorbar(drawn, ax=axes[1])
plt.show()
