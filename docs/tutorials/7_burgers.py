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
# A coordinate in which nothing is steep
# --------------------------------------
#
# A network learns a wave of its own size soon, and one of a hundredth of it late.
# In the coordinate s of x = sinh(4 s) / sinh(4) the shock is seven times wider, and
# points spread evenly over s crowd around it. Halton's sequence leaves fewer gaps
# than random numbers.

inside = qmc.Halton(2, seed=0).random(3000) * (2, 1) - (1, 0)


def position(s):
    return np.sinh(4 * s) / np.sinh(4)


def stretch(s):
    """Return the derivative of x by s."""
    return 4 * np.cosh(4 * s) / np.sinh(4)


# %%
# Derivatives by x follow from those by s: :math:`u_x = u_s / x'` and
# :math:`u_{xx} = (u_{ss} / x' - u_x\, x'' / x') / x'`.


def burgers(points, u):
    s = points[:, 0]
    u_x = u.d("s") / stretch(s)
    u_xx = (u.d("s", "s") / stretch(s) - 4 * np.tanh(4 * s) * u_x) / stretch(s)
    return u.d("t") + u.value * u_x - viscosity * u_xx


# %%
# The error of a solution is bounded by the *integral* of the size of the residual
# over x and t, and a mean over s is none: ``sample_weight`` makes it one.

line, later = np.linspace(-1, 1, 101), np.linspace(0, 1, 41)[1:]
start = np.column_stack([line, np.zeros(101)])
walls = np.array([(side, t) for side in (-1.0, 1.0) for t in later])


def begin(points, u):
    return u.value + np.sin(np.pi * position(points[:, 0]))


problem = fg.ResidualProblem(
    fg.MLP((2, 24, 24, 1)),
    [
        fg.Term(inside, burgers, sample_weight=stretch(inside[:, 0])),
        fg.Term(start, begin, weight=10.0),
        fg.Term(walls, lambda x, u: u.value, weight=10.0),
    ],
    inputs=("s", "t"),
)
print(problem)

# %%
# The training
# ------------

line, times = np.linspace(-1, 1, 401), np.linspace(0, 1, 101)
grid = np.stack(np.meshgrid(line, times), axis=-1).reshape(-1, 2)
solution = exact(grid)
seen = np.column_stack([np.arcsinh(np.sinh(4) * grid[:, 0]) / 4, grid[:, 1]])


def network(theta):
    return problem.network.predict(problem.weights(theta), seen)[:, 0]


def error(theta):
    """Return the relative L2 error on a grid in x and t."""
    return np.linalg.norm(network(theta) - solution) / np.linalg.norm(solution)


began = time.perf_counter()
result = fg.train(problem, seed=0, max_iter=300)
seconds = time.perf_counter() - began
print(f"{result.status} after {result.n_iter} iterations, {seconds:.0f} s")
print(f"loss {result.loss:.1e}, relative L2 error {error(result.theta):.1e}")

# %%
# Three moments of the solution, and the error everywhere:

values = network(result.theta)
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

# %%
# Beside L-BFGS and Adam
# ----------------------
#
# Three starts of this package end at errors of 1.4e-5 to 2.1e-5. The same network,
# points and start, one thread and the same processor time for each
# (``python -m bench.equations peers burgers``).
#
# .. image:: /images/equations/burgers.png
#    :alt: error over processor time of fastggn, L-BFGS and Adam
