r"""
Moving from trainlm
===================

For people who know ``fitnet`` and ``trainlm`` of MATLAB's Deep Learning Toolbox:
what the options are called here, what is the same, and what is not. MATLAB itself
was not run for this page; its defaults are those of its documentation.

The usual four lines
--------------------

.. code-block:: matlab

   net = fitnet(10);                  % one hidden layer of 10, tansig, trainlm
   [net, tr] = train(net, x, t);      % x (inputs, samples), t (targets, samples)
   y = net(x);
   perf = perform(net, t, y)          % mean squared error

``fitnet`` scales inputs and targets to [-1, 1], draws Nguyen-Widrow weights, holds
15 % of the samples out for validation and 15 % for a test, and stops after 6
validation failures. Line by line, with the samples in *rows*:
"""

# sphinx_gallery_thumbnail_number = 2
import matplotlib.pyplot as plt
import numpy as np

import fastggn as fg

rng = np.random.default_rng(0)
x = np.sort(rng.uniform(-1, 1, 200))
t = np.sin(3 * x) + 0.3 * np.cos(9 * x) + 0.1 * rng.standard_normal(200)

order = rng.permutation(200)  # dividerand
train, hold, test = np.split(order, [140, 170])
X, Y = x[:, None], t[:, None]  # a row is a sample

net = fg.MLP((1, 10, 1), activation="tanh")  # tansig is tanh, purelin is identity
problem = fg.Problem(net, X[train], Y[train])
theta = net.init(seed=0, scheme="nguyen_widrow")  # initnw
result = fg.train(
    problem,
    theta,  # the weights are a vector of their own, not inside net
    max_iter=1000,  # net.trainParam.epochs
    stop=fg.Stop(gradient=1e-7),  # net.trainParam.min_grad
    held_out=fg.HeldOut(X[hold], Y[hold], patience=6),  # divideFcn, max_fail
)
print(f"{result.status}: {result.message}")

y = net.predict(result.theta, X)
for name, rows in (("training", train), ("validation", hold), ("test", test)):
    print(f"{name:10s} mean squared error {np.mean((y - Y)[rows] ** 2):.5f}")

# %%
# The loss here is *half* the mean squared error, so twice ``result.loss`` is what
# ``perform`` returns.
#
# ``plotperform`` and ``plotfit``:

fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
history = result.history
steps = [record.iteration for record in history]
left.semilogy(steps, [2 * record.loss for record in history], "-", label="training")
held = [2 * record.validation_loss for record in history]
left.semilogy(steps, held, "--", label="validation")
left.axvline(result.best_iter, color="0.5", linestyle=":", label="kept")
left.set(xlabel="iteration", ylabel="mean squared error", title="Performance")
left.legend()
right.plot(x, t, ".", color="0.65", label="samples")
right.plot(x, y, "k-", label="network")
right.plot(x, np.sin(3 * x) + 0.3 * np.cos(9 * x), "--", label="without noise")
right.set(xlabel="x", ylabel="t", title="Fit")
right.legend()
plt.show()

# %%
# In one object
# -------------
#
# ``GGNRegressor`` scales, holds out and draws weights by itself, as ``fitnet`` does
# (extra ``sklearn``):

from fastggn.apps.sklearn.regressor import GGNRegressor

model = GGNRegressor(
    hidden_layer_sizes=(10,),
    alpha=0.0,
    early_stopping=True,
    validation_fraction=0.15,
    n_iter_no_change=6,
    random_state=0,
)
model.fit(X, t)
print(f"R2 {model.score(X, t):.3f} after {model.n_iter_} iterations")

# %%
# Or without Python: ``fastggn train table.csv --target t --hidden 10
# --validation-fraction 0.15 --patience 6``.
#
# trainbr
# -------
#
# Bayesian regularisation: no samples are held out, the weight decay follows from
# the data, and the effective number of weights says how many of them the data
# determine (MacKay 1992; Foresee and Hagan 1997).

bayes = fg.train(
    problem,
    theta,
    regularize=fg.Evidence(),
    max_iter=1000,
    stop=fg.Stop(gradient=1e-7),
)
print(f"{bayes.status}, {bayes.n_iter} iterations")
effective = bayes.evidence.effective_parameters
print(f"effective weights {effective:.1f} of {problem.n_params}")
predicted = net.predict(bayes.theta, X)
print(f"test mean squared error {np.mean((predicted - Y)[test] ** 2):.5f}")

# %%
# What trainbr does not give: how sure the network is, from the same matrix.

mean, deviation = fg.laplace(problem, bayes.theta, bayes.evidence).predict(X)
fig, axes = plt.subplots(figsize=(7, 4), layout="constrained")
axes.plot(x, t, ".", color="0.65", label="samples")
axes.plot(x, mean, "k-", label="mean")
band = mean[:, 0] - 2 * deviation[:, 0], mean[:, 0] + 2 * deviation[:, 0]
axes.fill_between(x, *band, color="0.85", label="two deviations")
axes.set(xlabel="x", ylabel="t", title="Bayesian regularisation")
axes.legend()
plt.show()

# %%
# Names
# -----
#
# .. list-table::
#    :header-rows: 1
#    :widths: 34 38 28
#
#    * - MATLAB
#      - here
#      - remark
#    * - ``x`` (inputs, samples)
#      - ``X`` (samples, inputs)
#      - transpose your data
#    * - ``fitnet(10)``, ``feedforwardnet([10 5])``
#      - ``fg.MLP((n_in, 10, n_out))``, ``fg.MLP((n_in, 10, 5, n_out))``
#      - the widths include both ends
#    * - ``patternnet``
#      - ``loss="softmax_cross_entropy"``
#      - by ``lm``, not ``trainscg``
#    * - ``tansig``, ``logsig``, ``purelin``, ``poslin``
#      - ``"tanh"``, ``"sigmoid"``, ``"identity"``, ``"relu"``
#      -
#    * - ``trainlm``
#      - ``method="lm"``
#      - the default
#    * - ``trainbr``
#      - ``regularize=fg.Evidence()``
#      -
#    * - ``traingd``, ``traingdm``
#      - ``method=fg.GradientDescent(rate=, momentum=)``
#      - on all samples
#    * - ``net.trainParam.epochs`` (1000)
#      - ``max_iter`` (100)
#      -
#    * - ``.goal`` (0)
#      - ``stop=fg.Stop(target=)``
#      - half the mean squared error
#    * - ``.min_grad`` (1e-7)
#      - ``stop=fg.Stop(gradient=)`` (1e-10)
#      -
#    * - ``.max_fail`` (6)
#      - ``held_out=fg.HeldOut(X, Y, patience=)`` (20)
#      -
#    * - ``.time`` (inf)
#      - ``max_time``
#      - seconds
#    * - ``.mu`` (0.001)
#      - ``method=fg.LevenbergMarquardt(damping=)``
#      - the first one; by default from the curvature
#    * - ``.mu_dec`` (0.1), ``.mu_inc`` (10)
#      - none
#      - the damping follows the gain ratio (Nielsen 1999)
#    * - ``.mu_max`` (1e10)
#      - status ``damping_limit``
#      -
#    * - ``net.performParam.regularization``
#      - ``Problem(..., l2=)``
#      - another scale: ours adds :math:`\tfrac{l_2}2\lvert\theta\rvert^2`
#    * - ``mapminmax``
#      - mean 0 and deviation 1
#      - ``GGNRegressor`` and the command line do it
#    * - ``initnw``
#      - ``scheme="nguyen_widrow"``
#      - the default is Glorot's
#    * - ``dividerand``, ``divideind``
#      - ``held_out=fg.HeldOut(X, Y)``
#      - ``--validation-fraction`` on the command line
#    * - ``getwb(net)``, ``setwb``
#      - ``result.theta``, ``net.unpack``
#      - another order of the weights
#    * - ``genFunction``
#      - ``fastggn export``
#      - ONNX, plain arrays
#    * - ``train(..., 'useParallel', 'yes')``
#      - ``fg.threads(n)``, ``Problem(..., comm=)``
#      - all cores by default; MPI
#
# What is different in kind
# -------------------------
#
# * ``trainlm`` assumes squared errors; here Levenberg-Marquardt takes every loss of
#   :doc:`/losses`, also your own.
# * The step is corrected to second order (geodesic acceleration), and near an exact
#   fit the damping falls with the loss, so that the convergence becomes quadratic.
# * Time-delay and NARX networks, a graphical interface and code generation for
#   Simulink are MATLAB's; nothing here replaces them.
