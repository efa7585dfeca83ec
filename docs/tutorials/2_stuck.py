r"""
Why is my network stuck?
========================

A run ends, the loss is not small, and nothing moves. There are four different
reasons for that, each with another remedy, and they can be told apart: by the rank
of the Jacobian (:func:`fastggn.rank_analysis`), and by the kind of critical point
(:func:`fastggn.critical_point`).
"""

# sphinx_gallery_thumbnail_number = 2
import matplotlib.pyplot as plt
import numpy as np

import fastggn as fg

# %%
# Reason 1: the units are saturated
# ---------------------------------
#
# Twenty samples, 81 weights: there are weights that fit exactly. Undamped
# Gauss-Newton steps from small weights do not find them here.

X, Y = fg.data.four_regions(20, seed=0)
problem = fg.Problem(fg.MLP((2, 20, 1), activation="sigmoid"), X, Y)
stuck = fg.train(problem, method="ggn", seed=0)
print(f"{stuck.status}: loss {stuck.loss:.4f}")
print(f"gradient norm {stuck.gradient_norm:.1e}")

# %%
# The warnings say in short what happened: a step that went up, and units that never
# came back. Here is how to find that out, and what it means. The gradient is
# :math:`J^\top \varepsilon / T`. It vanishes if the error :math:`\varepsilon` does,
# or if the error is orthogonal to the columns of :math:`J`, and the latter needs a
# Jacobian whose rank is below the number of equations (Shen 2018, Theorem 1).

report = fg.rank_analysis(problem, stuck.theta)
print(f"rank {report.rank} of {report.largest_rank}")
print(f"share of the error out of reach: {report.unseen_error:.3f}")
figure = report.plot()

# %%
# Four equations out of reach, and all that is left of the error lies in them. The
# principles say which part of the network is to blame:

for number, principle in report.principles.items():
    print(f"principle {number:3s} {principle.status:15s} {principle.reason}")

# %%
# Most derivatives of the hidden units are exactly 0 in double precision: the first,
# undamped step was so long that it threw the units into their tails. The first
# step's length gives it away:

print(f"|theta| at the end {np.linalg.norm(stuck.theta):.0f}")
print(f"first step {stuck.history[0].step_norm:.0f}")

# %%
# **Remedy.** Damped steps from the same weights (the default method), an activation
# whose derivative does not vanish, or other first weights:

lm = fg.train(problem, seed=0)
softsign = fg.Problem(fg.MLP((2, 20, 1), activation="softsign"), X, Y)
open_units = fg.train(softsign, method="ggn", seed=0)
for name, result in (("lm", lm), ("ggn with softsign", open_units)):
    print(f"{name:18s} loss {result.loss:.1e} after {result.n_iter} iterations")

fig, axes = plt.subplots(figsize=(7, 4), layout="constrained")
runs = (
    ("ggn, sigmoid", stuck, "-o"),
    ("lm, sigmoid", lm, "--s"),
    ("ggn, softsign", open_units, ":^"),
)
for name, result, style in runs:
    losses = [result.initial_loss, *(record.loss for record in result.history)]
    axes.semilogy(losses[:40], style, label=name, markersize=4)
axes.set(
    xlabel="iteration",
    ylabel="loss",
    title="One start, three runs",
    ylim=(1e-26, None),
)
axes.legend()
plt.show()

# %%
# Reason 2: a saddle
# ------------------
#
# The rank does not tell a saddle from a minimum; the exact Hessian does. All
# weights 0 are the plainest example:

rng = np.random.default_rng(0)
X = rng.standard_normal((30, 2))
Y = np.sin(X[:, 0])
centred = fg.Problem(fg.MLP((2, 4, 1)), X, Y - Y.mean())
start = np.zeros(centred.n_params)
stays = fg.train(centred, start)
print(f"{stays.status} after {stays.n_iter} iterations, loss {stays.loss:.4f}")

point = fg.critical_point(centred, stays.theta)
print(f"{point.label}: {point.reason}")
print(f"positive, zero, negative eigenvalues: {point.inertia}")
figure = point.plot()

# %%
# **Remedy.** The direction is known, so go there: ``leave_saddles`` follows the
# lowest eigenvector out of every strict saddle at which a run settles.

out = fg.train(
    centred, start, leave_saddles="negative_curvature", seed=0, max_iter=300
)
print(f"{out.status}, loss {out.loss:.1e}, {out.n_iter} iterations")

# %%
# Reason 3: the data say so
# -------------------------
#
# Two samples with equal inputs and different targets: no function has a loss of
# zero. The report finds them, and says how low the loss can get.

X, Y = fg.data.sine(40, seed=0)
X[1], Y[1] = X[0], Y[0] + 1.0
conflict = fg.Problem(fg.MLP((1, 10, 1)), X, Y)
end = fg.train(conflict, seed=0, max_iter=300)
duplicates = fg.rank_analysis(conflict, end.theta).duplicates
print(f"loss {end.loss:.8f}, lowest possible {duplicates.floor:.8f}")

# %%
# **Remedy.** None is needed: the run is where it should be. Clean the data if the
# conflict is a fault.
#
# Reason 4: there is nothing to find
# ----------------------------------
#
# Fewer weights than equations, or an infimum at infinity. ``check_design`` sees the
# first before any training, the status ``diverging`` names the second during it.

print(fg.check_design((2, 3, 1), T=200, activation="tanh"))

X, regions = fg.data.four_regions(60, seed=0)
labels = regions[:, 0].astype(int) - 1
separable = fg.Problem(fg.MLP((2, 10, 4)), X, labels, loss="softmax_cross_entropy")
forever = fg.train(separable, seed=0, max_iter=300)
print(f"{forever.status}: {forever.message}")

# %%
# **Remedy.** For the first more units, for the second a little weight decay, which
# gives a finite minimum:

decayed = fg.Problem(
    separable.network, X, labels, loss="softmax_cross_entropy", l2=1e-3
)
minimum = fg.train(decayed, method="newton", seed=0, max_iter=300)
size = np.linalg.norm(minimum.theta)
print(f"{minimum.status} after {minimum.n_iter} iterations, |theta| = {size:.1f}")
print(fg.critical_point(decayed, minimum.theta).label)

# %%
# In short
# --------
#
# .. list-table::
#    :header-rows: 1
#    :widths: 40 25 35
#
#    * - what you see
#      - what it is
#      - what helps
#    * - rank below :math:`T n_L`, principle 4 fails
#      - saturated or dead units
#      - ``method="lm"``, other first weights, another activation
#    * - ``strict_saddle``
#      - a saddle
#      - ``leave_saddles="negative_curvature"``
#    * - the loss is ``duplicates.floor``
#      - samples that contradict each other
#      - look at the data
#    * - ``check_design`` fails principle 2
#      - fewer weights than equations
#      - more units, or accept the noise
#    * - status ``diverging``
#      - no finite minimum
#      - ``l2``, or stop earlier
#    * - ``local_minimum``, and a large loss
#      - a minimum, proved
#      - other seeds: ``fastggn train --starts 32``
#
# The command line has the same: ``fastggn rank``, ``fastggn critical-point``,
# ``fastggn check-design``.
