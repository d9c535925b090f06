"""How many Gaussian measurements trace-norm minimisation needs to recover a low-rank positive semidefinite matrix.

Minimising a convex function over the matrices that fit n random measurements recovers M with probability near one half
where n is the statistical dimension of the function's descent cone at M, and the change from failure to success takes
place within a few square roots of it (Amelunxen, Lotz, McCoy and Tropp, arXiv 1303.6672).
"""

from functools import lru_cache

import numpy as np

from gpsense.errors import BadInput

NODES = 8193
MARGIN = 9.0  # how far beyond the edge of the spectrum its density is computed


@lru_cache(maxsize=64)
def trace_norm_samples(dim: int, rank: int) -> float:
    """Statistical dimension of the descent cone of the trace at a PSD matrix (dim, dim) of this rank. Derived.

    ``min_t r(r+1)/2 + r t^2 + r(d-r) + E sum_i (lambda_i(W) - t)_+^2`` with W a symmetric Gaussian matrix of side
    d - r, variance 1 on the diagonal and 1/2 off it: the general recipe (arXiv 1303.6672, proposition 4.1 there,
    recalled) for the trace on PSD matrices. The mean is an integral over the exact density of eigenvalues. It does not
    depend on the eigenvalues of M. Raises BadInput unless 0 <= rank <= dim.
    """
    if not 0 <= rank <= dim:
        raise BadInput("rank", f"{rank} is not between 0 and dim {dim}", f"use 0 to {dim}")
    side = dim - rank
    fixed = rank * (rank + 1) / 2 + rank * side
    if side == 0:
        return float(fixed)
    at, density = eigenvalue_density(side)
    weights = density * (at[1] - at[0])

    def slope(t: float) -> float:
        return 2 * rank * t - 2 * float(weights @ np.maximum(at - t, 0))

    low, high = 0.0, at[-1]  # the multiple t of a subgradient is never negative
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return float(fixed + rank * low**2 + weights @ np.maximum(at - low, 0) ** 2)


def eigenvalue_density(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Points x, and the density there of the eigenvalues of W (:func:`trace_norm_samples`). Textbook.

    Its integral is N, the ``side``: ``sum_j<N phi_j(x)^2 + sqrt(N/2) phi_{N-1}(x) int sign(x - y)/2 phi_N(y) dy``, and
    for odd N also ``phi_{N-1}(x) / int phi_{N-1}``, with phi_j the normalised Hermite functions (Mehta, Random
    Matrices, chapter 7).
    """
    from scipy.integrate import cumulative_simpson  # here: importing it takes a tenth of a second

    edge = np.sqrt(2.0 * side) + MARGIN
    at = np.linspace(-edge, edge, NODES)
    step = at[1] - at[0]
    phi = [np.pi**-0.25 * np.exp(-(at**2) / 2)]
    phi.append(np.sqrt(2.0) * at * phi[0])
    for j in range(1, side):
        phi.append(np.sqrt(2 / (j + 1)) * at * phi[j] - np.sqrt(j / (j + 1)) * phi[j - 1])
    below = cumulative_simpson(phi[side], dx=step, initial=0.0)
    density = np.sum(np.square(phi[:side]), 0) + np.sqrt(side / 2) * phi[side - 1] * (below - below[-1] / 2)
    if side % 2:
        density = density + phi[side - 1] / (phi[side - 1].sum() * step)
    return at, density
