"""Calls of `train` for the type checker: those with the mark are refused, the others are not."""

import fastggn as fg

X, Y = fg.data.four_regions(20, seed=0)
problem = fg.Problem(fg.MLP((2, 3, 1)), X, Y)

fg.train(problem)
fg.train(problem, None, "lbfgs", seed=0, max_iter=3, max_time=9.0, progress=True)
fg.train(problem, method=fg.LevenbergMarquardt(damping=1.0, geodesic=False, solver="qr"))
fg.train(problem, method=fg.GaussNewton(step=0.5, batch_size=5))
fg.train(problem, method=fg.GradientDescent(rate=0.1, momentum=0.9))
fg.train(problem, stop=fg.Stop(gradient=1e-8, target=1e-3), held_out=(X, Y))
fg.train(problem, held_out=fg.HeldOut(X, Y, patience=None), regularize=fg.Evidence(per="unit"))
fg.train(problem, regularize=fg.NullSpace(), leave_saddles="noise")
fg.train(problem, checkpoint=fg.Checkpoint("run.ckpt", every="30s", resume=True))

equations = fg.ResidualProblem(fg.MLP((2, 3, 1)), [fg.Term(X, lambda x, u: u.d(0) - u.value)])
theta = fg.train(equations, held_out=equations).theta
fg.train_restarts(equations, 2)
fg.select_weight_decay(equations, equations)
fg.rank_analysis(equations, theta)
fg.critical_point(equations, theta)
fg.laplace(equations, theta, alpha=1.0)
fg.analysis.polish(equations, theta)
fg.analysis.null_space(equations, theta)
fg.analysis.effective_width(equations, theta)
fg.analysis.rank_over_weights(equations, 2)
fg.analysis.spectral_density(equations, theta)
fg.analysis.loss_plane(equations, theta)
fg.train(equations, callbacks=[fg.analysis.CurvatureTrace(equations)])

fg.report(equations, theta, "page.html")  # refused
fg.analysis.target_sensitivity(equations, theta)  # refused
fg.analysis.minimum_at_infinity(equations, theta)  # refused
fg.train(problem, method="lmm")  # refused
fg.train(problem, momentum=0.9)  # refused
fg.train(problem, solver="qr")  # refused
fg.train(problem, epochs=5)  # refused
fg.train(problem, method=fg.Adam)  # refused
fg.train(problem, method=fg.Adam(momentum=0.9))  # refused
fg.train(problem, method=fg.LevenbergMarquardt(rate=0.1))  # refused
fg.train(problem, method=fg.LevenbergMarquardt(solver="cholesk"))  # refused
fg.train(problem, method=fg.GaussNewton(damping=1.0))  # refused
fg.train(problem, method=fg.Newton(solver="qr"))  # refused
fg.train(problem, method=fg.LBFGS(batch_size=5))  # refused
fg.train(problem, method=fg.Auto(solver="qr"))  # refused
fg.train(problem, stop=fg.Stop(grad_tol=1e-8))  # refused
fg.train(problem, stop=1e-8)  # refused
fg.train(problem, regularize="bayesian")  # refused
fg.train(problem, regularize=fg.Evidence(per="layer"))  # refused
fg.train(problem, leave_saddles="gradient")  # refused
