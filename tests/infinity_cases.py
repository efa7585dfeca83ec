"""Random tasks whose minima at infinity are known, and a gated network written out by itself."""

import numpy as np

import fastggn as fg


def sigma(z, name, order=0):
    """tanh or sigmoid and derivatives, for complex z too."""
    if name == "sigmoid":
        t = np.tanh(z / 2)
        scales = {0: (1 + t) / 2, 1: (1 - t**2) / 4, 2: -t * (1 - t**2) / 4}
        return scales.get(order, (1 - t**2) * (3 * t**2 - 1) / 8)
    t = np.tanh(z)
    return {0: t, 1: 1 - t**2, 2: -2 * t * (1 - t**2), 3: (1 - t**2) * (6 * t**2 - 2)}[order]


class Gated:
    """A network of one hidden layer: gated units beside `plain` ordinary ones.

    q holds w, v (n + 1 each), c, u of each gate, then rows and outgoing weights of the others, then
    the bias.
    """

    def __init__(self, n, plain, name, gates=1):
        self.n, self.plain, self.name, self.gates = n, plain, name, gates
        self.size = gates * (2 * (n + 1) + 2) + plain * (n + 2) + 1

    def split(self, q):
        m, width = self.n + 1, 2 * self.n + 4
        gates = [
            (part[:m], part[m : 2 * m], part[-2], part[-1])
            for part in (q[k * width : (k + 1) * width] for k in range(self.gates))
        ]
        rest = q[self.gates * width : -1].reshape(self.plain, m + 1)
        return gates, rest[:, :m], rest[:, m], q[-1]

    def outputs(self, q, X):
        gates, rows, out, bias = self.split(q)
        X = np.column_stack([X, np.ones(len(X))])
        total = sigma(X @ rows.T, self.name) @ out + bias
        for w, v, c, u in gates:
            total = total + c * sigma(X @ w, self.name)
            total = total + u * (X @ v) * sigma(X @ w, self.name, 1)
        return total

    def jacobian(self, q, X):
        h = 1e-30
        steps = 1j * h * np.eye(q.size)
        return np.column_stack([self.outputs(q + s, X).imag / h for s in steps])

    def change(self, q, X):
        """Return what the finite network adds to the outputs, over eps^2."""
        X = np.column_stack([X, np.ones(len(X))])
        total = 0.0
        for w, v, c, u in self.split(q)[0]:
            z, g = X @ w, X @ v
            total = total + c * g**2 * sigma(z, self.name, 2) / 8
            total = total + u * g**3 * sigma(z, self.name, 3) / 24
        return total

    def theta(self, q, eps):
        """Return the finite network of one gate, the pair at both ends, and its parameters."""
        ((w, v, c, u),), rows, out, bias = self.split(q)
        net = fg.MLP((self.n, self.plain + 2, 1), self.name)
        first = np.vstack([w + eps * v / 2, rows, w - eps * v / 2])
        last = np.concatenate([[c / 2 + u / eps], out, [c / 2 - u / eps, bias]])
        return net, net.pack([first, last[None]])

    @classmethod
    def of(cls, net, found):
        """Return the gated network of a verdict, and its q."""
        first, last = net.unpack(found.limit)
        parts, used = [], set()
        for layer, i, j in found.units:
            assert layer == 1
            used |= {i - 1, j - 1}
            parts += [first[i - 1], first[j - 1], [last[0, i - 1], last[0, j - 1]]]
        others = [k for k in range(first.shape[0]) if k not in used]
        for k in others:
            parts += [first[k], [last[0, k]]]
        gated = cls(net.n_inputs, len(others), net.activations[0].name, len(found.units))
        return gated, np.concatenate([*parts, [last[0, -1]]])


TAILS = {"tanh": (-1, 2), "sigmoid": (0, 1)}  # end and rate of the lower tail


class Limiting:
    """A network of one hidden layer with exponential, linear or step units beside ordinary ones."""

    def __init__(self, net, found):
        first, last = net.unpack(found.limit)
        self.kind, self.units = found.kind, [unit - 1 for _, unit in found.units]
        self.shape, self.name = first.shape, net.activations[0].name
        self.q = np.concatenate([first.ravel(), last[0]])

    def outputs(self, q, X):
        h, m = self.shape
        rows = q[: h * m].reshape(h, m)
        z = np.column_stack([X, np.ones(len(X))]) @ rows.T
        values = sigma(z, self.name)
        end, rate = TAILS[self.name]
        for unit in self.units:
            if self.kind == "exponential":
                values[:, unit] = np.exp(rate * z[:, unit])
            elif self.kind == "linearisation":
                bias = rows[unit, -1]
                values[:, unit] = sigma(bias, self.name, 1) * (z[:, unit] - bias)
            else:
                values[:, unit] = np.where(z[:, unit].real > 0.0, 1.0, end)
        return values @ q[h * m : -1] + q[-1]

    def jacobian(self, q, X):
        h = 1e-30
        steps = 1j * h * np.eye(q.size)
        return np.column_stack([self.outputs(q + s, X).imag / h for s in steps])


def draw(rng, n=2, plain=1, name="tanh"):
    gated = Gated(n, plain, name)
    q = rng.standard_normal(gated.size)
    q[n + 1 : 2 * n + 2] *= np.linalg.norm(q[: n + 1]) / np.linalg.norm(q[n + 1 : 2 * n + 2])
    q[2 * n + 3] += np.copysign(0.7, q[2 * n + 3])
    return gated, q


def at_infinity(rng, noise, name="tanh", plain=1, T=60, n=2, sign=1.0):
    """Return a problem whose limit network q is stationary, with its loss.

    With sign +1 the loss rises from the limit to finite networks: a minimum at infinity.
    """
    gated, q = draw(rng, n, plain, name)
    X = rng.standard_normal((T, n))
    J = gated.jacobian(q, X)
    basis = np.linalg.qr(J)[0]
    residual = rng.standard_normal(T)
    push = gated.change(q, X)
    push = push - basis @ (basis.T @ push)
    residual -= basis @ (basis.T @ residual)
    residual *= np.sign(residual @ push) * sign
    residual += sign * push * np.linalg.norm(residual) / np.linalg.norm(push)
    residual *= noise / np.sqrt(np.mean(residual**2)) if noise else 0.0
    Y = gated.outputs(q, X) - residual
    return gated, q, X, Y, 0.5 * float(np.mean(residual**2))


def continued(problem, theta, found, levels, digits=60):
    """Go on in many digits: halve the separation of a claim's units, and fit all else by Newton.

    Returns the losses of the finite networks at separations 1, 1/2, 1/4, ... of that of theta, and
    their |theta|. Units in a tail must be in the lower one.
    """
    import mpmath

    net, name = problem.network, problem.network.activations[0].name
    exact = np.vectorize(mpmath.mpf, otypes=[object])
    tanh = np.vectorize(mpmath.tanh, otypes=[object])
    (h, m), T = net.layer_shapes[0], problem.n_samples
    with mpmath.workdps(digits):
        X = exact(np.column_stack([problem.read_samples(0, T)[0], np.ones(T)]))
        q, Y = exact(theta), exact(problem.targets[:, 0])

        def values(q):
            z = X @ q[: h * m].reshape(h, m).T
            t = tanh(z if name == "tanh" else z / 2)
            slopes = (1 - t * t) if name == "tanh" else (1 - t * t) / 4
            bends = -2 * t * slopes if name == "tanh" else -t * slopes
            s = t if name == "tanh" else (1 + t) / 2
            residual = s @ q[h * m : -1] + q[-1] - Y
            return s, slopes, bends, residual, (residual @ residual) / (2 * T)

        def quadratic(q, s, slopes, bends, residual, _):
            out = q[h * m : -1]
            rows = ((slopes * out)[:, :, None] * X[:, None, :]).reshape(T, -1)
            J = np.column_stack([rows, s, np.ones(T, dtype=int)])
            G = J.T @ J
            H = G.copy()
            for k in range(h):
                block = slice(k * m, (k + 1) * m)
                H[block, block] += (X * (residual * bends[:, k] * out[k])[:, None]).T @ X
                mixed = X.T @ (residual * slopes[:, k])
                H[block, h * m + k] += mixed
                H[h * m + k, block] += mixed
            return H, np.diag(np.diag(G)), J.T @ residual

        index = [w.astype(int) for w in net.unpack(np.arange(theta.size, dtype=float))]
        half, losses, sizes = mpmath.mpf(1) / 2, [], []
        p, at, n = q.copy(), mpmath.mpf(1), theta.size
        channel = found.kind == "channel"
        groups = [
            [index[0][k - 1] for k in units] + [index[1][0, k - 1] for k in units]
            for _, *units in found.units
        ]
        for a, b, c, d in groups if channel else ():
            p[a], p[b] = (q[a] + q[b]) / 2, q[a] - q[b]
            p[c], p[d] = q[c] + q[d], (q[c] - q[d]) / 2
        for level in range(levels):
            eps, M, shift = half**level, exact(np.eye(n)), exact(np.zeros(n))
            held = exact(np.zeros((len(groups), n)))
            for group in groups:
                if channel:
                    a, b, c, d = group
                    M[a, b], M[b, a], M[b, b] = eps / 2, 1, -eps / 2
                    M[c, c], M[c, d], M[d, c], M[d, d] = half, 1 / eps, half, -1 / eps
                else:
                    (a, c), (end, rate) = group, TAILS[name]
                    shift[a[-1]], M[c, c] = mpmath.log(eps) / rate, 1 / eps
                    M[-1, c] = -end * (1 / eps - 1)
            place = lambda p, M=M, shift=shift: M @ p + shift  # noqa: E731
            here, damping = values(place(p)), mpmath.mpf(10) ** -12
            for _ in range(200):
                H, D, g = quadratic(place(p), *here)
                H, D, g = M.T @ H @ M, np.diag(np.diag(M.T @ D @ M)), M.T @ g
                for k, group in enumerate(groups):
                    if channel:
                        held[k, group[1]] = p[group[1]] / mpmath.sqrt(p[group[1]] @ p[group[1]])
                    else:
                        held[k, group[0][-1]] = at
                keep = exact(np.eye(n)) - held.T @ held
                big = max(abs(x) for x in np.diag(H)) * (held.T @ held)
                while damping < 1e30:
                    A = keep @ (H + damping * D) @ keep + big
                    try:
                        step = mpmath.cholesky_solve(
                            mpmath.matrix(A.tolist()), mpmath.matrix(list(keep @ g))
                        )
                    except ValueError:  # not positive definite
                        damping *= 10
                        continue
                    step = keep @ exact(list(step))
                    trial = values(place(p - step))
                    if trial[-1] <= here[-1]:
                        break
                    damping *= 10
                fall = here[-1] - trial[-1]
                p, here, damping = p - step, trial, damping / 100
                if fall <= mpmath.mpf(10) ** (-digits // 2) * here[-1]:
                    break
            losses.append(here[-1])
            sizes.append(float(np.linalg.norm(place(p).astype(float))))
    return losses, sizes
