r"""
Fit a surrogate to 1e-10
========================

A surrogate stands in for a function that is slow to compute. It is worth having if
nobody can tell the two apart, and first-order training seldom gets there: its error
falls quickly to a per cent or so, and then hardly at all. Here a network with 97
weights learns the period of a pendulum

.. math::

   \frac{P(a)}{P_0} = \frac2\pi K\!\left(\sin\frac a2\right)

from 100 values of the complete elliptic integral :math:`K`, to ten digits and more.

The samples
-----------

Amplitudes :math:`a` up to 135 degrees, closer together towards the ends, as
Chebyshev's points are: equally spaced ones leave the ends of the interval to
themselves.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.special import ellipk

import fastggn as fg


def period(amplitude):
    """Return the period over that of small swings."""
    return 2 / np.pi * ellipk(np.sin(amplitude / 2) ** 2)


largest = np.deg2rad(135)
angles = np.pi * (np.arange(100) + 0.5) / 100
amplitude = largest * (1 - np.cos(angles)) / 2
X = (2 * amplitude / largest - 1)[:, None]  # inputs in [-1, 1]
Y = period(amplitude)[:, None]
mean, scale = Y.mean(), Y.std()  # targets of mean 0 and deviation 1
problem = fg.Problem(fg.MLP((1, 8, 8, 1)), X, (Y - mean) / scale)

# %%
# First try: the defaults
# -----------------------
#
# ``train`` uses Levenberg-Marquardt. It stops where every slope of the loss is
# 1e-10 of the terms that it is a sum of, or after the iterations that it is given:

first = fg.train(problem, seed=0, max_iter=300)


def rms(result):
    """Return the root mean squared error in units of the period."""
    return scale * np.sqrt(2 * result.loss)


print(f"{first.status} after {first.n_iter} iterations: rms error {rms(first):.1e}")
print(f"{first.solver}: {first.solver_reason}")

# %%
# Almost nine digits, in a fraction of a second. Why not more? Give it more
# iterations, whatever the gradient:

longer = fg.train(problem, seed=0, max_iter=1500, stop=fg.Stop(gradient=0.0))
print(
    f"{longer.status} after {longer.n_iter} iterations: rms error {rms(longer):.1e}"
)

# %%
# Better, but it crawls.
#
# Second try: do not square the Jacobian
# --------------------------------------
#
# The solver is named above: ``cholesky`` factors :math:`J^\top J + \mu I`, whose
# condition number is the square of that of :math:`J`. How large is that?

J = problem.jacobian(first.theta)
s = J.singular_values()
print(f"singular values from {s[0]:.1e} down to {s[-1]:.1e}")
print(f"rank {J.rank()} of {min(J.shape)}")

# %%
# Beyond 1e8 the square of it is more than double precision holds. ``qr`` works with
# :math:`J` itself and keeps those digits. An iteration of it is more work in
# general, so it is worth its price for the last part only: start it where the first
# run ended. (Where a factorisation of Cholesky fails, ``train`` changes to QR on
# its own, with a warning. It need not fail to be inaccurate.)

last = fg.train(
    problem,
    first.theta,
    method=fg.LevenbergMarquardt(solver="qr"),
    max_iter=1500,
    stop=fg.Stop(gradient=0.0),
)
print(
    f"{last.status} after {last.n_iter} more iterations: rms error {rms(last):.1e}"
)

fig, axes = plt.subplots(figsize=(7, 4), layout="constrained")
for parts, style, name in (
    ((longer,), "--", "cholesky all the way"),
    ((first, last), "-", "qr from the end of the first run"),
):
    losses = np.array([record.loss for part in parts for record in part.history])
    axes.loglog(
        np.arange(1, losses.size + 1),
        scale * np.sqrt(2 * losses),
        style,
        label=name,
    )
axes.plot(
    first.n_iter, rms(first), "o", color="black", label="end of the first run"
)
axes.axhline(1e-10, color="0.5", linewidth=1, linestyle=":")
axes.set(
    xlabel="iteration", ylabel="rms error of the period", title="Down to ten digits"
)
axes.legend()
plt.show()

# %%
# Between the samples
# -------------------
#
# An error on the samples is one thing. A thousand amplitudes that the network has
# not seen:

new = np.linspace(0, largest, 1000)
surrogate = mean + scale * problem.network.predict(
    last.theta, (2 * new / largest - 1)[:, None]
)
error = surrogate[:, 0] - period(new)
print(f"largest error between the samples: {np.abs(error).max():.1e}")

fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
degrees = np.rad2deg(new)
left.plot(degrees, period(new), label="exact")
left.plot(
    degrees[::60],
    surrogate[::60, 0],
    "o",
    label="surrogate",
    markerfacecolor="none",
)
left.set(xlabel="amplitude in degrees", ylabel="period over that of small swings")
left.legend()
right.plot(degrees, error, linewidth=1)
right.plot(
    np.rad2deg(amplitude), np.zeros(100), "|", color="black", label="samples"
)
right.set(xlabel="amplitude in degrees", ylabel="surrogate minus exact")
right.legend()
plt.show()

# %%
# Conclusions
# -----------
#
# * Inputs and targets were scaled; ``fg.fit`` and ``fastggn train`` do that by
#   themselves.
# * ``Stop(gradient=)`` compares each slope with its terms, and says nothing of the
#   error. For the last digits set it to 0.
# * Where a run crawls at a small error, look at the singular values. If they span
#   more than eight decimal powers, ``qr`` goes on where ``cholesky`` ends.
# * All this needs a smooth function without noise. With measured data the error
#   stops at the noise, and should.
