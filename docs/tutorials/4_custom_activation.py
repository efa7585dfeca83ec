r"""
A custom activation
===================

Three scalar functions make an activation: :math:`\sigma` and its first two
derivatives. They are compiled into the kernels, and run there like the built-in
ones. Here: a bell, :math:`\sigma(z) = e^{-z^2}`. A network with one hidden layer of
such units is a sum of peaks,

.. math::

   F(x) = \sum_k h_k\, e^{-\left((x - c_k) / w_k\right)^2} + b,

so that training it is what a spectroscopist calls a peak fit, and its weights mean
something.
"""

import math
import warnings

import matplotlib.pyplot as plt
import numpy as np

import fastggn as fg

# Where Cholesky gives up, a run goes on with QR and says so; below, thirty runs do.
warnings.simplefilter("ignore", fg.SingularSystemWarning)

# %%
# Define
# ------
#
# Plain functions of one float that Numba can compile, without exceptions inside.
# The second derivative is used by everything that needs the exact Hessian:
# ``method="newton"``, ``critical_point``, ``Problem.hessian``.


def sigma(z):
    """Return the bell."""
    return math.exp(-z * z)


def derivative(z):
    """Return its slope."""
    return -2.0 * z * math.exp(-z * z)


def second_derivative(z):
    """Return its curvature."""
    return (4.0 * z * z - 2.0) * math.exp(-z * z)


bell = fg.Activation.custom("bell", sigma, derivative, second_derivative)

# %%
# Check
# -----
#
# The derivatives are yours; central differences tell whether they are right.

z = np.linspace(-3, 3, 7)
h = 1e-5
slope = (bell(z + h) - bell(z - h)) / (2 * h)
curvature = (bell.derivative(z + h) - bell.derivative(z - h)) / (2 * h)
off = np.abs(slope - bell.derivative(z)).max()
print(f"first derivative off by {off:.0e} at most")
off = np.abs(curvature - bell.second_derivative(z)).max()
print(f"second derivative off by {off:.0e} at most")

# %%
# Use
# ---
#
# A spectrum of three peaks with noise, and a network of three units. First weights
# that mean something too: centres anywhere in the range, all of width 1 and height
# 1.

rng = np.random.default_rng(0)
centres = np.array([2.0, 4.5, 7.0])
widths = np.array([0.4, 1.2, 0.6])
heights = np.array([1.0, 0.6, 1.4])
X = np.linspace(0, 10, 200)[:, None]
Y = np.sum(heights * bell((X - centres) / widths), axis=1)
Y += 0.02 * rng.standard_normal(200)

net = fg.MLP((1, 3, 1), activation=bell)
problem = fg.Problem(net, X, Y)
runs = []
for seed in range(12):
    first = np.sort(np.random.default_rng(seed).uniform(0, 10, size=3))
    hidden = np.column_stack([np.ones(3), -first])  # x - c_k
    output = np.array([[1.0, 1.0, 1.0, 0.0]])
    theta = net.pack([hidden, output])
    runs.append(fg.train(problem, theta, max_iter=300))
best = min(runs, key=lambda run: run.loss)
print("rms errors:", " ".join(f"{np.sqrt(2 * run.loss):.3f}" for run in runs))

# %%
# The noise has a deviation of 0.02, and some of the runs find it. The others put
# two units on one peak, or none on another. Are those places local minima, or was
# the run too short? The second derivative answers:

for run in sorted(runs, key=lambda run: run.loss)[:: len(runs) // 3]:
    point = fg.critical_point(problem, run.theta)
    error = np.sqrt(2 * run.loss)
    print(f"rms error {error:.3f}  {run.status:20s} {point.label}")

# %%
# So a peak fit needs several starts. This is what the best one found:

W, v = net.unpack(best.theta)
order = np.argsort(-W[:, 1] / W[:, 0])
print("centres", np.round(-W[order, 1] / W[order, 0], 3), "true", centres)
print("widths ", np.round(1 / np.abs(W[order, 0]), 3), "true", widths)
print("heights", np.round(v[0, order], 3), "true", heights)

fig, (left, right) = plt.subplots(
    1, 2, figsize=(8, 4.6), layout="constrained", sharey=True
)
worst = max(runs, key=lambda run: run.loss)
for axes, run, title in (
    (left, best, "Best of 12 starts"),
    (right, worst, "Worst"),
):
    axes.plot(X, Y, ".", color="0.65", markersize=4, label="samples")
    axes.plot(X, net.predict(run.theta, X), "k-", label="network")
    W, v = net.unpack(run.theta)
    for k, line in enumerate(("--", "-.", ":")):
        unit = v[0, k] * bell(W[k, 0] * X + W[k, 1]) + v[0, -1]
        axes.plot(X, unit, line, linewidth=1.5, label=f"unit {k + 1}")
    axes.set(xlabel="x", title=f"{title}: rms error {np.sqrt(2 * run.loss):.3f}")
left.set_ylabel("y")
left.legend(fontsize=9, loc="upper center")
plt.show()

# %%
# The tanh units that one would take without thinking need more weights for the same
# curve, and theirs mean nothing:

for units in (3, 6, 12):
    tanh = fg.Problem(fg.MLP((1, units, 1)), (X - 5) / 3, Y)
    runs = [fg.train(tanh, seed=seed, max_iter=300) for seed in range(6)]
    lowest = np.sqrt(2 * min(run.loss for run in runs))
    print(
        f"tanh, {units:2d} units, {tanh.n_params} weights: best of 6 {lowest:.3f}"
    )

# %%
# Save and load
# -------------
#
# A model file holds no code. It keeps the activation's *name*, and whoever loads it
# brings the functions:

import os
import tempfile

path = os.path.join(tempfile.mkdtemp(), "peaks.npz")
fg.Model.of(net, best.theta).save(path)
model = fg.Model.load(path, activations={"bell": bell})
print(model.network)

# %%
# Promises
# --------
#
# Two keywords say what is known of the function, and the analysis relies on it:
# ``smoothness`` (0 for a kink, 1 for a second derivative that jumps, 2), and
# ``vanishing_derivative=False`` if :math:`\sigma'` is nowhere zero, which principle
# 4 of ``rank_analysis`` asks for. The bell's is zero at its top, so the default
# stands. See :class:`fastggn.Activation`.
