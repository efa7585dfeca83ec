"""The Jacobian's row blocks by the Tracy-Singh product (early version of Shen 2018, Proposition 2).

The early version proves the rank bound by ``Psi (.) Phi = (I [x] Phi) diag(Psi_1, ..., Psi_T)``:
(.) is the blockwise Khatri-Rao product, [x] the Tracy-Singh product of the identity, one block, and
of Phi cut into its columns. The rank of a Tracy-Singh product is the product of the ranks, and
Sylvester's inequality gives Eq. (23).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag

FloatArray = NDArray[np.float64]


def tracy_singh(A: Sequence[FloatArray], B: Sequence[FloatArray]) -> FloatArray:
    """Return the Tracy-Singh product of matrices cut into blocks of columns.

    Parameters
    ----------
    A, B : sequence of ndarray
        The blocks, of equal height within each.

    Returns
    -------
    ndarray
        The Kronecker products of all pairs of blocks side by side, B's blocks fastest: a
        permutation of the columns of ``kron(A, B)``.
    """
    return np.hstack([np.kron(a, b) for a in A for b in B])


def khatri_rao(Psi: Sequence[FloatArray], Phi: FloatArray) -> FloatArray:
    """Return ``[Psi_1 (x) phi_1, ..., Psi_T (x) phi_T]``, a row block of P (Eqs. 21 and 22).

    Parameters
    ----------
    Psi : sequence of ndarray, shapes (n_l, n_L)
        One a sample.
    Phi : ndarray, shape (m_l, T)
    """
    return np.hstack([np.kron(psi, phi[:, None]) for psi, phi in zip(Psi, Phi.T, strict=True)])


def selected(Psi: Sequence[FloatArray], Phi: FloatArray) -> FloatArray:
    """Return the Khatri-Rao product as columns of the Tracy-Singh product of both.

    Parameters
    ----------
    Psi, Phi
        As for `khatri_rao`.
    """
    columns = [phi[:, None] for phi in Phi.T]
    T, width = len(columns), Psi[0].shape[1]
    # Block (i, j) of the product has the width of Psi_i; those with i = j are chosen.
    starts = [(i * T + i) * width for i in range(T)]
    chosen = np.concatenate([np.arange(start, start + width) for start in starts])
    return tracy_singh(Psi, columns)[:, chosen]


def factors(Psi: Sequence[FloatArray], Phi: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return ``I [x] Phi`` and ``diag(Psi_1, ..., Psi_T)``, factors of the Khatri-Rao product.

    Parameters
    ----------
    Psi, Phi
        As for `khatri_rao`.

    Returns
    -------
    left : ndarray, shape (n_l m_l, n_l T)
        Of rank n_l rank(Phi).
    right : ndarray, shape (n_l T, n_L T)
        Of rank sum_i rank(Psi_i).
    """
    identity = np.eye(Psi[0].shape[0])
    return tracy_singh([identity], [phi[:, None] for phi in Phi.T]), block_diag(*Psi)


def rank_bound(Psi: Sequence[FloatArray], Phi: FloatArray) -> int:
    """Return the lower bound (23) of the rank, Sylvester's inequality for both `factors`.

    Parameters
    ----------
    Psi, Phi
        As for `khatri_rao`.
    """
    n, T = Psi[0].shape[0], Phi.shape[1]
    ranks = sum(int(np.linalg.matrix_rank(psi)) for psi in Psi)
    return int(n * np.linalg.matrix_rank(Phi) + ranks - T * n)
