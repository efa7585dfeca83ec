"""Losses on logits and what their curvature needs, a few samples at a time, while in cache.

NumPy passes some ten times over all samples for the same.
"""

import math

import numpy as np

from fastggn.kernels.jit import leaf, njit
from fastggn.kernels.vector_math import exp, log1p, log1p_unit

COLUMNS = 64  # samples side by side, so that loops over them are vectorised


@leaf
def shift(logits, out):
    """Subtract the largest logit; return its index, that of the first where there are several.

    A NaN spreads: whatever is the largest, it or another, one difference is NaN.
    """
    first = 0
    for c in range(1, logits.shape[0]):
        if not logits[c] <= logits[first]:
            first = c
    top = logits[first]
    for c in range(logits.shape[0]):
        out[c] = logits[c] - top
    return first


@leaf
def rest_of(e, first):
    """The sum without one entry, which is the largest: small numbers among themselves."""
    rest = 0.0
    for c in range(first):
        rest += e[c]
    for c in range(first + 1, e.shape[0]):
        rest += e[c]
    return rest


@leaf
def load(rows, start, count, out):
    """Transpose some rows (., n) into the first columns of `out` (n, COLUMNS)."""
    for c in range(out.shape[0]):
        column = out[c]
        for i in range(count):
            column[i] = rows[start + i, c]


@leaf
def cross_entropies(y, e, top, first, rest, values):
    """Overwrite logits `e` (n, samples) by exp(e - max); fill the losses.

    `rest` is the sum of the exponentials without the largest, which `first` counts. A loop writes
    one array or two: with more the compiler gives up telling that they do not overlap.
    """
    n, count = e.shape
    for i in range(count):
        top[i], first[i], rest[i], values[i] = e[0, i], 0, 0.0, 0.0
    for c in range(1, n):
        row = e[c]
        for i in range(count):
            # A NaN spreads: whatever is the largest, it or another, one difference is NaN.
            larger = not row[i] <= top[i]
            top[i] = row[i] if larger else top[i]
            first[i] = c if larger else first[i]
    for c in range(n):
        row, target = e[c], y[c]
        for i in range(count):
            values[i] -= target[i] * (row[i] - top[i])
        for i in range(count):
            row[i] = exp(row[i] - top[i])
        for i in range(count):
            rest[i] += 0.0 if first[i] == c else row[i]
    for i in range(count):
        values[i] += log1p(rest[i])


@leaf
def differences(y, e, first, rest):
    """Overwrite the exponentials by q - y."""
    n, count = e.shape
    for c in range(n):
        row, target = e[c], y[c]
        for i in range(count):
            row[i] = row[i] / (1.0 + rest[i]) - target[i]
    for i in range(count):
        # 1 - q is a sum of small numbers; q - 1 would round it to 0 near an exact fit.
        if y[first[i], i] == 1.0:
            e[first[i], i] = -(rest[i] / (1.0 + rest[i]))


@leaf
def subtract_entropies(y, values):
    """Add y log(y), which is 0 for labels, and let no loss be below 0 by rounding."""
    for c in range(y.shape[0]):
        for i in range(y.shape[1]):
            if 0.0 < y[c, i] < 1.0:
                values[i] += y[c, i] * math.log(y[c, i])
    for i in range(values.shape[0]):
        values[i] = 0.0 if values[i] < 0.0 else values[i]


@njit
def softmax(logits, targets, values, gradients):
    """Cross-entropies (B,) and their gradients q - y (B, n) by logits."""
    total, n = logits.shape
    # Never cut to the samples at hand: rows of a part are not known to be contiguous.
    e, y = np.zeros((n, COLUMNS)), np.zeros((n, COLUMNS))
    top, rest, value = np.empty(COLUMNS), np.empty(COLUMNS), np.empty(COLUMNS)
    first = np.empty(COLUMNS, np.int64)
    for start in range(0, total, COLUMNS):
        count = min(COLUMNS, total - start)
        load(logits, start, count, e)
        load(targets, start, count, y)
        cross_entropies(y, e, top, first, rest, value)
        subtract_entropies(y, value)
        differences(y, e, first, rest)
        for i in range(count):
            values[start + i] = value[i]
            for c in range(n):
                gradients[start + i, c] = e[c, i]


@njit
def softmax_factor(logits, targets, largest, factors, b):
    """S = diag(sqrt(q)) - q sqrt(q)^T (B, n, n), and (q - y) / sqrt(q) (B, n).

    Returns whether an entry of the second is above `largest`; it is not to be used then.
    """
    n = logits.shape[1]
    beyond = False
    for i in range(logits.shape[0]):
        e, y, factor = b[i], targets[i], factors[i]
        first = shift(logits[i], e)
        for c in range(n):
            e[c] = exp(e[c])
        rest = rest_of(e, first)
        total = 1.0 + rest
        for c in range(n):
            factor[0, c] = math.sqrt(e[c] / total)
        # From the last row up: the first holds the roots.
        for a in range(n - 1, -1, -1):
            q, row = e[a] / total, factor[a]
            for c in range(n):
                row[c] = -q * factor[0, c]
        for c in range(n):
            q = e[c] / total
            other = (rest if c == first else total - e[c]) / total
            root = math.sqrt(q)
            factor[c, c] = root * other
            gradient = -other if y[c] == 1.0 else q - y[c]
            beyond = beyond or abs(gradient) > largest * root
            # Where q underflows beside a target of 0, the gradient is 0 too.
            e[c] = gradient / (root if root > 0.0 else 1.0)
    return beyond


@njit
def logistic(logits, targets, values, gradients):
    """Sums over the outputs (B,) of log(1 + exp(F)) - y F, and their gradients (B, n)."""
    for i in range(logits.shape[0]):
        f, y, gradient = logits[i], targets[i], gradients[i]
        value = 0.0
        for c in range(f.shape[0]):
            sign = 2.0 * y[c] - 1.0
            margin = sign * f[c]
            t = exp(-abs(margin))
            value += log1p_unit(t) + (0.0 if margin > 0.0 else -margin)
            gradient[c] = -sign * (t if margin > 0.0 else 1.0) / (1.0 + t)
        values[i] = value
