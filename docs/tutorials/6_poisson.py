r"""
Solve Poisson's equation to seven digits
========================================

A network can be fitted to an equation as it can to data: the residual is then made
of the *derivatives of the network by its inputs*. First-order training of such
residuals stalls at an error of 1e-3 or so; Gauss-Newton steps do not. The example
is that of Müller and Zeinhofer (2023): the unit square, one hidden layer of 32
units,

.. math::

   -\Delta u = 2 \pi^2 \sin \pi x \sin \pi y, \qquad u = 0 \text{ on the boundary,}

whose solution is :math:`\sin(\pi x) \sin(\pi y)`.

The equation
------------

A :class:`fastggn.Term` holds points and a residual: a NumPy function of the points
x, an array of shape (B, 2), and of the channels u: ``u.value`` is the network at
the points, ``u.d("x", "x")`` its second derivative by x, both of shape (B,).
"""

# sphinx_gallery_thumbnail_number = 2
import time

import matplotlib.pyplot as plt
import numpy as np

import fastggn as fg


def exact(x):
    return np.sin(np.pi * x[:, 0]) * np.sin(np.pi * x[:, 1])


def poisson(x, u):
    return u.d("x", "x") + u.d("y", "y") + 2 * np.pi**2 * exact(x)


side = (np.arange(30) + 0.5) / 30
inside = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
s = np.arange(30) / 30
zero, one = np.zeros(30), np.ones(30)
edges = (s, zero), (one, s), (1 - s, one), (zero, 1 - s)
boundary = np.concatenate([np.column_stack(edge) for edge in edges])

problem = fg.ResidualProblem(
    fg.MLP((2, 32, 1)),
    [
        fg.Term(inside, poisson),
        fg.Term(boundary, lambda x, u: u.value, weight=100.0),
    ],
    inputs=("x", "y"),
)
print(problem)

# %%
# Each term counts by the mean of its squared residuals times its weight. The second
# derivatives in the interior are some :math:`2\pi^2` times larger than the values
# on the boundary, hence a weight of the order of its square.
#
# The residual needs no derivative of its own: a call with dual numbers finds how it
# depends on each channel. When the problem is made, it is checked at random values
# of the channels: a function that mixes points, a source that is not finite, or a
# channel of third order is refused before any work.
#
# The training
# ------------
#
# All that trains, watches and saves a :class:`fastggn.Problem` takes this one too.

random = np.random.default_rng(1).random((10_000, 2))
size = np.linalg.norm(exact(random))


def error(theta):
    """Return the relative L2 error on points that the training does not see."""
    values = problem.network.predict(problem.weights(theta), random)[:, 0]
    return np.linalg.norm(values - exact(random)) / size


began, errors = time.perf_counter(), []


def watch(record):
    errors.append(error(record.theta))


result = fg.train(problem, seed=0, max_iter=300, callbacks=[watch])
seconds = time.perf_counter() - began
print(f"{result.status} after {result.n_iter} iterations, {seconds:.0f} s")
print(f"relative L2 error {error(result.theta):.1e}")

# %%
# The loss is a good guide to the error, of which a user of an equation without a
# known solution would see nothing:

losses = [record.loss for record in result.history]
fig, axes = plt.subplots(figsize=(7, 4), layout="constrained")
axes.semilogy(losses, label="loss")
axes.semilogy(errors, "--", label="relative L2 error")
axes.set(xlabel="iteration", title="Poisson's equation, 129 weights")
axes.legend()
plt.show()

# %%
# Where is the error? On a grid, the solution and what is missing:

line = np.linspace(0, 1, 101)
grid = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
values = problem.network.predict(problem.weights(result.theta), grid)[:, 0]
fig, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
for ax, part, title in (
    (axes[0], values, "network"),
    (axes[1], values - exact(grid), "network - solution"),
):
    drawn = ax.pcolormesh(line, line, part.reshape(101, 101))
    ax.set(title=title, xlabel="x", ylabel="y", aspect="equal")
    fig.colorbar(drawn, ax=ax)
plt.show()

# %%
# The errors lie along the edges and in the corners, where the weight of the
# boundary decides how much they count. What helps where the error is still too
# large: more iterations (here some ten milliseconds each), then more units, and
# with them points.

# %%
# Beside L-BFGS and Adam
# ----------------------
#
# The same network, points and start for L-BFGS, for Adam with a rate that falls
# like a cosine, and for both in turn, in JAX; each on one thread, and with four
# times the processor time
# (``python -m bench.equations peers poisson --seconds 20``).
#
# .. image:: /images/equations/poisson.png
#    :alt: error over processor time of fastggn, L-BFGS and Adam
