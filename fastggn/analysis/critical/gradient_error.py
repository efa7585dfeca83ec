"""The terms of the gradient and a bound of its rounding errors, parameter by parameter."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastggn.objective.layer_blocks import LayerBlock
from fastggn.objective.problem import Problem
from fastggn.runtime.comm import comm_of

Matrix = NDArray[np.float64]
ULP = 2.0 * float(np.finfo(np.float64).eps)


def terms_and_errors(problem: Problem, theta: Matrix) -> tuple[Matrix, Matrix]:
    """Return mean_i |J_ij r_i| + l2 |theta_j|, and bounds of the gradient's rounding errors."""
    shapes = [w.shape for w in problem.network.unpack(theta)]
    sums = [np.zeros((2, *shape)) for shape in shapes]
    first = 0
    with np.errstate(all="ignore"):
        for block in problem.layer_blocks(theta):
            size = block.outputs.shape[0]
            _add(problem, theta, block, problem.loss_targets[first : first + size], sums)
            first += size
    whole = np.concatenate([pair.reshape(2, -1) for pair in sums], axis=1)
    terms, errors = comm_of(problem).sum(whole) / problem.n_samples
    decay = np.abs(problem.at(theta).decay * theta)
    terms = terms + decay
    return terms, np.nan_to_num(errors + ULP * terms, nan=np.inf)


def _add(
    problem: Problem, theta: Matrix, block: LayerBlock, targets: Matrix, sums: list[Matrix]
) -> None:
    """Add the terms and errors of a block by a running error analysis of both sweeps."""
    net, loss = problem.network, problem.loss_function
    layers, n_layers = [np.abs(w) for w in net.unpack(theta)], net.n_layers
    phi_errors, slope_errors = [np.zeros_like(block.inputs[0])], []
    for number, weights in enumerate(layers):
        phi, slope = np.abs(block.inputs[number]), np.abs(block.derivatives[number])
        fixed = 0.0 if isinstance(net.bias, str) else np.abs(net.bias[number])
        size = weights.shape[1] + 2.0
        z_error = phi_errors[-1] @ weights.T + ULP * size * (phi @ weights.T + fixed)
        bend = np.zeros_like(z_error)
        if not (problem.gated and number < n_layers - 1):
            z = block.inputs[number] @ net.unpack(theta)[number].T
            z = z if isinstance(net.bias, str) else z - net.bias[number]
            bend = np.abs(net.activations[number].second_derivative(z))
        slope_errors.append(bend * z_error + ULP * slope)
        error = slope * z_error
        if number < n_layers - 1:
            above = block.inputs[number + 1]
            padded = np.zeros_like(above)
            padded[:, : error.shape[1]] = error
            error = padded + ULP * np.abs(above)
        phi_errors.append(error)
    curvature = np.abs(loss.hessian(block.outputs, targets)) * block.weights[:, None, None]
    size_of_data = np.abs(block.outputs) + np.abs(targets[:, : block.outputs.shape[1]])
    slopes = np.abs(block.errors)
    slope_error = np.einsum("boc,bc->bo", curvature, phi_errors[-1] + ULP * size_of_data)
    slope_error += ULP * slopes
    for number in reversed(range(n_layers)):
        d, d_error = np.abs(block.derivatives[number]), slope_errors[number]
        delta, delta_error = d * slopes, d_error * slopes + d * slope_error
        phi, phi_error = np.abs(block.inputs[number]), phi_errors[number]
        psi = np.abs(block.sensitivities[number])
        sums[number][0] += np.einsum("bno,bo->bn", psi, np.abs(block.errors)).T @ phi
        sums[number][1] += delta_error.T @ phi + delta.T @ (phi_error + ULP * phi)
        n_units = layers[number].shape[1] - (1 if net.has_free_bias else 0)
        back = layers[number][:, :n_units]
        slopes, slope_error = delta @ back, delta_error @ back + ULP * back.shape[0] * delta @ back
