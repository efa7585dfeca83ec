"""Losses on logits and what their curvature needs, sample by sample, in one pass over the logits.

NumPy takes some ten passes for the same, and several times as long as the network itself.
"""

import math

from fastggn.kernels.elementary import exp, log1p_unit
from fastggn.kernels.jit import leaf, njit


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
def exponentials(array):
    """Replace all entries of a contiguous array by their exponentials."""
    flat = array.reshape(array.size)
    for k in range(flat.shape[0]):
        flat[k] = exp(flat[k])


@njit
def softmax(logits, targets, firsts, values, gradients):
    """Cross-entropies (B,) and their gradients q - y (B, n) by logits; `firsts` (B,) is work."""
    n = logits.shape[1]
    for i in range(logits.shape[0]):
        below, y = gradients[i], targets[i]
        firsts[i] = shift(logits[i], below)
        value = 0.0
        for c in range(n):
            value -= y[c] * below[c]
            if 0.0 < y[c] < 1.0:
                value += y[c] * math.log(y[c])
        values[i] = value
    exponentials(gradients)
    for i in range(logits.shape[0]):
        e, y, first = gradients[i], targets[i], firsts[i]
        rest = rest_of(e, first)
        value = values[i] + math.log1p(rest)
        values[i] = 0.0 if value < 0.0 else value
        e[first] = 1.0
        total = 1.0 + rest
        for c in range(n):
            e[c] = e[c] / total - y[c]
        if y[first] == 1.0:
            # 1 - q is a sum of small numbers; q - 1 would round it to 0 near an exact fit.
            e[first] = -(rest / total)


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
        e[first] = 1.0
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
