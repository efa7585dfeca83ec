"""Symmetric tridiagonal matrices T: their extreme eigenvalues, and steps of bounded length.

A symmetric matrix becomes tridiagonal at a fifth of the cost of its eigenvectors; then each
solution with T + shift I takes O(N) operations. `d` is the diagonal (N,), `e` what is beside it
(N - 1,).
"""

import math

from fastggn.kernels.jit import leaf, njit

EPS = 2.220446049250313e-16
TINY = 1e-300


@leaf
def pivots_below(d, e, x):
    """The number of eigenvalues below x, by Sylvester's law of inertia."""
    count = 0
    pivot = 1.0
    for i in range(d.shape[0]):
        beside = e[i - 1] * (e[i - 1] / pivot) if i > 0 else 0.0
        pivot = (d[i] - x) - beside
        if abs(pivot) < TINY:
            pivot = -TINY
        if pivot < 0.0:
            count += 1
    return count


@leaf
def eigenvalue(d, e, index, low, high):
    """The eigenvalue of this index, counted from the lowest, by bisection between bounds."""
    least = EPS * max(abs(low), abs(high))
    for _ in range(200):
        middle = 0.5 * (low + high)
        if high - low <= least or not low < middle < high:
            break
        if pivots_below(d, e, middle) > index:
            high = middle
        else:
            low = middle
    return 0.5 * (low + high)


@njit
def ends(d, e):
    """The lowest and the highest eigenvalue."""
    n = d.shape[0]
    low, high = d[0], d[0]
    for i in range(n):
        beside = (abs(e[i - 1]) if i > 0 else 0.0) + (abs(e[i]) if i < n - 1 else 0.0)
        low, high = min(low, d[i] - beside), max(high, d[i] + beside)
    # A little beyond what Gershgorin's circles allow: they are rounded.
    room = 4.0 * EPS * max(abs(low), abs(high))
    low, high = low - room, high + room
    return eigenvalue(d, e, 0, low, high), eigenvalue(d, e, n - 1, low, high)


@njit
def count_between(d, e, low, high):
    """The number of eigenvalues in [low, high)."""
    return pivots_below(d, e, high) - pivots_below(d, e, low)


@leaf
def factor(d, e, shift, pivots, ratios):
    """T + shift I = L D L^T; returns whether it is positive definite."""
    for i in range(d.shape[0]):
        pivot = d[i] + shift
        if i > 0:
            ratios[i - 1] = e[i - 1] / pivots[i - 1]
            pivot -= ratios[i - 1] * e[i - 1]
        if not pivot > 0.0:
            return False
        pivots[i] = pivot
    return True


@leaf
def substitute(pivots, ratios, x):
    """Solve L D L^T x = x in place."""
    n = x.shape[0]
    for i in range(1, n):
        x[i] -= ratios[i - 1] * x[i - 1]
    for i in range(n):
        x[i] /= pivots[i]
    for i in range(n - 2, -1, -1):
        x[i] -= ratios[i] * x[i + 1]


@leaf
def product(x, y):
    """The scalar product."""
    total = 0.0
    for i in range(x.shape[0]):
        total += x[i] * y[i]
    return total


@njit
def step_at(d, e, slopes, shift, p, work):
    """p = -(T + shift I)^-1 slopes; returns whether T + shift I is positive definite.

    `work` is (3, N).
    """
    if not factor(d, e, shift, work[0], work[1]):
        return False
    for i in range(p.shape[0]):
        p[i] = -slopes[i]
    substitute(work[0], work[1], p)
    return True


@njit
def shift_of_length(d, e, slopes, lowest, radius, p, work):
    """Find the shift whose step p has the length `radius`; NaN where that did not succeed.

    |p| falls from beyond the radius at `lowest`, where T + shift I ceases to be positive definite,
    or at 0, to within it; Newton's iteration on 1/|p| - 1/radius, which is nearly linear, kept
    inside the bracket (More and Sorensen 1983). `work` is (3, N).
    """
    low, high = lowest, lowest + math.sqrt(product(slopes, slopes)) / radius
    shift = high
    for _ in range(100):
        if step_at(d, e, slopes, shift, p, work):
            length = math.sqrt(product(p, p))
            if abs(length - radius) <= 1e-10 * radius:
                return shift
            bent = work[2]
            for i in range(p.shape[0]):
                bent[i] = p[i]
            substitute(work[0], work[1], bent)
            if length > radius:
                low = shift
            else:
                high = shift
            shift += length**2 / product(p, bent) * (length - radius) / radius
        else:
            low = shift
        if not low < shift < high:
            shift = 0.5 * (low + high)
    return math.nan
