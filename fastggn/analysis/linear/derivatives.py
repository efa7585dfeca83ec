"""Derivatives of a deep linear network in closed form (Kawaguchi 2016, Lemmas 4.1 and 4.3)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from fastggn.analysis.linear.regression import FloatArray, Regression, check_weights
from fastggn.network.mlp import MLP
from fastggn.objective.problem import Problem


def product(matrices: Sequence[FloatArray], size: int) -> FloatArray:
    """Return the last matrix times ... times the first; the identity of `size` for none."""
    out: FloatArray = np.eye(size)
    for matrix in matrices:
        out = matrix @ out
    return out


def above(weights: Sequence[FloatArray], k: int) -> FloatArray:
    """Return ``W_{H+1} ... W_{k+1}``, shape (d_y, d_k); k counts from 1."""
    return product(weights[k:], weights[k - 1].shape[0])


def below(weights: Sequence[FloatArray], k: int, inputs: FloatArray) -> FloatArray:
    """Return ``W_{k-1} ... W_1 X``, shape (d_{k-1}, r)."""
    out = inputs
    for matrix in weights[: k - 1]:
        out = matrix @ out
    return out


def gradients(weights: Sequence[FloatArray], data: Regression) -> list[FloatArray]:
    """Return ``A_k^T r^T B_k^T`` for k = 1..H+1, each of the shape of W_k."""
    residual = data.residual(weights)
    return [
        above(weights, k).T @ residual @ below(weights, k, data.inputs).T
        for k in range(1, len(weights) + 1)
    ]


def gradient_blocks(weights: Sequence[ArrayLike], X: ArrayLike, Y: ArrayLike) -> list[FloatArray]:
    """Return the gradient of half the sum of squares in every layer, zero at critical points only.

    Each has the shape of its weights. Source: Kawaguchi 2016, Lemma 4.1.

    Parameters
    ----------
    weights : sequence of array_like, shapes (d_k, d_{k-1})
        W_1 to W_{H+1}.
    X : array_like, shape (T, d_x)
    Y : array_like, shape (T, d_y), or (T,)
    """
    data = Regression(X, Y)
    return gradients(check_weights(weights, data), data)


def hessian(weights: Sequence[ArrayLike], X: ArrayLike, Y: ArrayLike) -> FloatArray:
    """Return the Hessian of half the sum of squares, shape (N, N), from Kronecker products.

    Layers 1 to H+1, each matrix by rows. With ``D = W_{k-1} ... W_{l+1}`` the block of rows l
    and columns k > l is ``A_l^T A_k (x) B_l B_k^T + [D^T (x) B_l r A_k] K^(d_{k-1}, d_k)``: Lemma
    4.3 of Kawaguchi 2016 for l = 1, extended to all pairs.
    """
    data = Regression(X, Y)
    matrices = check_weights(weights, data)
    count = len(matrices)
    residual = data.residual(matrices).T
    A = [above(matrices, k) for k in range(1, count + 1)]
    B = [below(matrices, k, data.inputs) for k in range(1, count + 1)]
    blocks: list[list[FloatArray]] = [[np.zeros((0, 0))] * count for _ in range(count)]
    for i in range(count):
        blocks[i][i] = np.kron(A[i].T @ A[i], B[i] @ B[i].T)
        for j in range(i + 1, count):
            between = product(matrices[i + 1 : j], matrices[i].shape[0])
            bent = np.kron(between.T, B[i] @ residual @ A[j])
            block = np.kron(A[i].T @ A[j], B[i] @ B[j].T) + _commuted(bent, matrices[j].shape)
            blocks[i][j], blocks[j][i] = block, block.T
    return np.block(blocks)


def _commuted(matrix: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    # matrix @ K^(d_{k-1}, d_k): columns for W_k by columns become columns for W_k by rows.
    rows, columns = shape
    by_columns = np.arange(rows * columns).reshape(rows, columns, order="F")
    return matrix[:, by_columns.ravel()]


def layer_curvatures(
    weights: Sequence[ArrayLike], X: ArrayLike, Y: ArrayLike
) -> list[tuple[float, float]]:
    """Return the lowest and the highest eigenvalue of the Hessian in each layer alone.

    None is negative: the loss is convex in each single matrix (Kawaguchi 2016, Proposition 2.1 (i)
    and Conjecture 2.2 (i)).
    """
    data = Regression(X, Y)
    matrices = check_weights(weights, data)
    out = []
    for k in range(1, len(matrices) + 1):
        A, B = above(matrices, k), below(matrices, k, data.inputs)
        left, right = np.linalg.eigvalsh(A.T @ A), np.linalg.eigvalsh(B @ B.T)
        both = np.outer(np.maximum(left, 0.0), np.maximum(right, 0.0))
        out.append((float(both.min()), float(both.max())))
    return out


def as_problem(weights: Sequence[FloatArray], data: Regression) -> tuple[Problem, FloatArray]:
    """Return the network as a problem on the rotated samples, without `rest`, and its theta."""
    widths = (data.d_x, *(w.shape[0] for w in weights))
    net = MLP(widths, activation="identity", bias="none")
    return Problem(net, data.inputs.T, data.targets.T), net.pack(weights)
