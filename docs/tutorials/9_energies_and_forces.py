r"""
Energies and forces
===================

Programs of quantum chemistry, adjoint solvers and models of devices return
gradients with their values, at little extra cost. A fit that uses both needs far
fewer calls of them. The example is the surface of Müller and Brown (1979), three
valleys and two passes in two dimensions, whose force is minus its gradient.
"""

import matplotlib.pyplot as plt
import numpy as np

import fastggn as fg

height = np.array([-200.0, -100.0, -170.0, 15.0]) / 100
a = np.array([-1.0, -1.0, -6.5, 0.7])
b = np.array([0.0, 0.0, 11.0, 0.6])
c = np.array([-10.0, -10.0, -6.5, 0.7])
x0 = np.array([1.0, 0.0, -0.5, -1.0])
y0 = np.array([0.0, 0.5, 1.5, 1.0])


def surface(points):
    """Return energies (T,) and gradients (T, 2), in units of 100."""
    dx, dy = points[:, :1] - x0, points[:, 1:] - y0
    parts = height * np.exp(a * dx**2 + b * dx * dy + c * dy**2)
    gradient = parts * (2 * a * dx + b * dy), parts * (b * dx + 2 * c * dy)
    return parts.sum(axis=1), np.stack([g.sum(axis=1) for g in gradient], axis=-1)


def low(count, seed):
    """Return random points whose energy is below 50."""
    rng = np.random.default_rng(seed)
    points = rng.uniform((-1.5, -0.2), (1.2, 2.0), (20 * count, 2))
    return points[surface(points)[0] < 0.5][:count]


test = low(5000, seed=1)
energy = surface(test)[0]

# %%
# One term of data
# ----------------
#
# ``derivatives`` stands beside ``targets``, by the inputs. Each kind of data has a
# weight: one over its variance gives energies and both gradients an equal say.


def problem_of(points, forces):
    values, gradients = surface(points)
    weight = {(): 1 / np.var(values)}
    derivatives = None
    if forces:
        derivatives = {("x",): gradients[:, 0], ("y",): gradients[:, 1]}
        spread = np.var(gradients, axis=0)
        weight |= {("x",): 1 / spread[0], ("y",): 1 / spread[1]}
    term = fg.Term(points, targets=values, derivatives=derivatives, weight=weight)
    return fg.ResidualProblem(
        fg.MLP((2, 20, 20, 1)), [term], inputs=("x", "y"), l2=1e-8
    )


def rms(problem, theta):
    """Return the error of the energies at points that no fit has seen."""
    values = problem.network.predict(problem.weights(theta), test)[:, 0]
    return np.sqrt(np.mean((values - energy) ** 2))


# %%
# At equal numbers of calls
# -------------------------

counts = (50, 100, 200)
errors = {False: [], True: []}
for count in counts:
    for forces, found in errors.items():
        problem = problem_of(low(count, seed=2), forces)
        result = fg.train(problem, seed=0, max_iter=150)
        found.append(rms(problem, result.theta))
    alone, both = errors[False][-1], errors[True][-1]
    print(
        f"{count} points: {alone:.1e} by energies, {both:.1e} with gradients, "
        f"{alone / both:.0f} times less"
    )

fig, axes = plt.subplots(figsize=(7, 4), layout="constrained")
axes.loglog(counts, errors[False], "o-", label="energies alone")
axes.loglog(counts, errors[True], "s--", label="energies and gradients")
axes.set(
    xlabel="calls of the surface",
    ylabel="rms error of the energies (100)",
    title="The same network and points",
)
axes.legend()
plt.show()

# %%
# Beside L-BFGS and Adam
# ----------------------
#
# The same network, 200 points with gradients and start, one thread for each
# (``python -m bench.equations peers surface --seconds 15``).
#
# .. image:: /images/equations/surface.png
#    :alt: error over processor time of fastggn, L-BFGS and Adam
