"""Bayesian linear regression in dense NumPy, and the problems that the Bayesian tests share."""

import numpy as np

import fastggn as fg


def linear_problem(T=40, n=4, outputs=1, *, seed=0, noise=0.3, scales=1.0, **options):
    """Return a network without hidden layer on noisy linear data, and its design matrix."""
    rng = np.random.default_rng(seed)
    X = scales * rng.standard_normal((T, n))
    Y = X @ rng.standard_normal((n, outputs)) + 0.5 + noise * rng.standard_normal((T, outputs))
    net = fg.MLP((n, outputs))
    return fg.Problem(net, X, Y, **options), np.hstack([X, np.ones((T, 1))])


def regression(design, Y, alpha, beta, weights=None):
    """Return mean, covariance and log evidence of the weights, in theta's order (Bishop, 3.5).

    Output after output, each with the weights of its own; `weights` are relative precisions.
    """
    T, outputs = Y.shape
    A = np.kron(np.eye(outputs), design)
    y = Y.T.ravel()
    w = np.ones(T) if weights is None else weights
    precision = beta * np.tile(w, outputs)
    H = A.T @ (precision[:, None] * A) + alpha * np.eye(A.shape[1])
    mean = np.linalg.solve(H, A.T @ (precision * y))
    cov = np.linalg.inv(H)
    # The marginal distribution of y itself, without any of the package's formulas.
    marginal = A @ A.T / alpha + np.diag(1.0 / precision)
    _, log_det = np.linalg.slogdet(marginal)
    log_evidence = -0.5 * (y @ np.linalg.solve(marginal, y) + log_det + y.size * np.log(2 * np.pi))
    return mean, cov, log_evidence


def fixed_point(design, Y, iterations=20000):
    """Return (alpha, beta, gamma) by MacKay's updates on the eigenvalues."""
    T, outputs = Y.shape
    A = np.kron(np.eye(outputs), design)
    y = Y.T.ravel()
    values, vectors = np.linalg.eigh(A.T @ A)
    rotated = vectors.T @ (A.T @ y)
    alpha = beta = 1.0
    for _ in range(iterations):
        coefficients = beta * rotated / (beta * values + alpha)
        gamma = np.sum(beta * values / (beta * values + alpha))
        theta = vectors @ coefficients
        before = alpha, beta
        alpha = gamma / (theta @ theta)
        beta = (y.size - gamma) / np.sum((y - A @ theta) ** 2)
        if max(abs(alpha / before[0] - 1), abs(beta / before[1] - 1)) < 1e-15:
            break
    return alpha, beta, gamma


def sine_problem(T=60, hidden=6, *, seed=0, noise=0.1, **options):
    """Return a network with one hidden layer on a noisy sine."""
    rng = np.random.default_rng(seed)
    X = np.sort(rng.uniform(-2, 2, (T, 1)), axis=0)
    Y = np.sin(2 * X) + noise * rng.standard_normal((T, 1))
    return fg.Problem(fg.MLP((1, hidden, 1)), X, Y, **options)
