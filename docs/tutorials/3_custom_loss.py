r"""
A custom loss
=============

A loss is an object with four methods, written for blocks of samples in plain NumPy.
This page builds one that the package does not have: the *expectile* loss, which
punishes an error above the target and one below it unequally,

.. math::

   E(r) = \tfrac12 \lvert \tau - [r > 0] \rvert\, r^2, \qquad r = F(x) - y.

:math:`\tau = 1/2` gives half the squared loss, and with it the mean. With
:math:`\tau = 0.9` the network learns a curve near the upper edge of the data: the
spread of the noise, without any assumption on its shape (Newey and Powell 1987).
"""

import matplotlib.pyplot as plt
import numpy as np

import fastggn as fg

# %%
# The four methods
# ----------------
#
# ``F`` and ``Y`` have shape ``(B, n_L)``. ``hessian_sqrt`` is a matrix S with S Sᵀ
# = ``hessian``: it is what makes the generalised Gauss-Newton matrix a product, and
# it must be real, so the loss must be convex in F (for one that is not, declare
# ``convex = False``).


class Expectile:
    """Asymmetric least squares."""

    def __init__(self, tau):
        self.tau = tau
        self.name = f"expectile_{tau}"

    def weight(self, F, Y):
        """Return |tau - [r > 0]|, shape (B, n_L)."""
        return np.where(F > Y, 1 - self.tau, self.tau)

    def value(self, F, Y):
        """Return the losses, shape (B,)."""
        return 0.5 * (self.weight(F, Y) * (F - Y) ** 2).sum(axis=1)

    def gradient(self, F, Y):
        """Return dE/dF, shape (B, n_L)."""
        return self.weight(F, Y) * (F - Y)

    def hessian(self, F, Y):
        """Return d2E/dF2, shape (B, n_L, n_L)."""
        return np.eye(F.shape[1]) * self.weight(F, Y)[:, :, None]

    def hessian_sqrt(self, F, Y):
        """Return S, shape (B, n_L, n_L)."""
        return np.eye(F.shape[1]) * np.sqrt(self.weight(F, Y))[:, :, None]


# %%
# Check it before you trust it
# ----------------------------
#
# A wrong sign in a gradient does not crash; it gives a run that ends early. Central
# differences tell:

rng = np.random.default_rng(0)
X = np.sort(rng.uniform(-3, 3, size=(400, 1)), axis=0)
noise = (0.1 + 0.15 * np.abs(X)) * rng.gamma(2.0, 1.0, size=X.shape)
Y = np.sin(X) + noise

net = fg.MLP((1, 8, 1))
problem = fg.Problem(net, X, Y, loss=Expectile(0.9))
theta = net.init(seed=0)
direction = rng.standard_normal(theta.size)
h = 1e-5
difference = (
    problem.loss(theta + h * direction) - problem.loss(theta - h * direction)
) / (2 * h)
print(f"gradient along a line: {problem.gradient(theta) @ direction:.10f}")
print(f"difference quotient:   {difference:.10f}")

# %%
# The Hessian jumps where :math:`r` changes its sign, as the loss is :math:`C^1`
# with a piecewise linear gradient. Gauss-Newton steps do not mind: between the
# jumps they are exact for this loss.
#
# Three curves
# ------------
#
# A little weight decay keeps the curves from chasing single samples.

curves = {}
for tau in (0.1, 0.5, 0.9):
    problem = fg.Problem(net, X, Y, loss=Expectile(tau), l2=5e-4)
    result = fg.train(problem, seed=0, max_iter=500, stop=fg.Stop(loss=1e-13))
    curves[tau] = net.predict(result.theta, X)
    print(f"tau = {tau}: {result.status}, {result.n_iter} iterations")

fig, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
axes.plot(X, Y, ".", color="0.7", markersize=4, label="samples")
for (tau, curve), line in zip(curves.items(), ("--", "-", "-."), strict=True):
    axes.plot(X, curve, line, label=rf"$\tau$ = {tau}")
axes.set(
    xlabel="x",
    ylabel="y",
    title="Expectiles of skewed noise whose spread grows with |x|",
)
axes.legend()
plt.show()

# %%
# With :math:`\tau = 1/2` the loss is half the squared one, so with twice the weight
# decay the squared loss must have the same optimum:

squared = fg.train(
    fg.Problem(net, X, Y, l2=1e-3), seed=0, max_iter=500, stop=fg.Stop(loss=1e-13)
)
gap = np.abs(net.predict(squared.theta, X) - curves[0.5]).max()
print(f"largest difference of the two curves: {gap:.1e}")

# %%
# What else a loss may have
# -------------------------
#
# ``curvature_factor`` for a numerically better factor, ``prepare_targets`` to check
# the targets, ``decision`` for accuracies, and the statements ``principle_1`` and
# ``principle_1a`` that ``rank_analysis`` reads: see
# :class:`fastggn.network.losses.CustomLoss` and :doc:`/losses`.
