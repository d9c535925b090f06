"""Finds the points that distances fix: parts joined through few points may be mirrored, which no derivative shows.

Points in general position in r dimensions are determined by their distances, up to motions of all together, if and only
if some stress (numbers w_ij of the pairs with ``sum_j w_ij (p_i - p_j) = 0`` for every i) has a matrix of rank
``points - r - 1``; a random stress of random points then has this rank with probability one (Gortler, Healy and
Thurston, "Characterizing generic global rigidity", 2010). Where the rank is less, the null space gives coordinates in
more dimensions, of which each rigid part spans only r: derived here, the largest such part is found by random draws.
"""

import numpy as np
import scipy.linalg
import scipy.sparse as sp

RIDGE, REFINED = 1e-12, 8  # ridge of the normal equations over their largest diagonal entry; times that they are solved
NULL = 1e-11  # eigenvalue of the stress matrix, over its largest, that counts as zero
DRAWS = 200  # random draws of a part
ON = 1e-6  # distance of a point from the span of a part, over its own length, up to which it belongs to it
MOST = 2000  # unknowns up to which the test is made: seconds


def behind(first: np.ndarray, second: np.ndarray, points: int, dim: int, seed: int = 0) -> np.ndarray:
    """Indices of the points outside the largest part that the distances between ``first`` and ``second`` (n,) fix.

    Empty where the test would take long, and for fewer than ``dim + 2`` points or fewer distances than points.
    """
    if points * dim > MOST or points < dim + 2 or first.size < points:
        return np.zeros(0, int)
    rng = np.random.default_rng(seed)
    stress = _stress(first, second, rng.normal(size=(points, dim)), rng.normal(size=first.size))
    sizes, vectors = np.linalg.eigh(stress)
    null = vectors[:, np.abs(sizes) <= NULL * np.abs(sizes).max(initial=1e-300)]
    if null.shape[1] <= dim + 1:
        return np.zeros(0, int)
    best = np.zeros(0, int)
    neighbours = _neighbours(first, second, points)
    for _ in range(DRAWS):
        start = rng.integers(points)
        near = np.setdiff1d(neighbours[start], start)
        if near.size < dim:
            continue
        basis = null[[start, *rng.choice(near, dim, replace=False)]]
        across = scipy.linalg.orth(basis.T, rcond=ON)
        apart = np.linalg.norm(null - null @ across @ across.T, axis=1)
        part = np.flatnonzero(apart <= ON * np.linalg.norm(null, axis=1))
        if across.shape[1] == dim + 1 and part.size > best.size:
            best = part
    return np.setdiff1d(np.arange(points), best)


def _stress(first: np.ndarray, second: np.ndarray, places: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The matrix of the stress nearest to ``start`` (n,): ``-w_ij`` off the diagonal, and rows of sum 0."""
    points, dim = places.shape
    gaps, rows = places[first] - places[second], np.repeat(np.arange(first.size), dim)
    slots = lambda index: (index[:, None] * dim + np.arange(dim)).ravel()  # noqa: E731
    entries = np.concatenate([gaps.ravel(), -gaps.ravel()])
    index = np.tile(rows, 2), np.concatenate([slots(first), slots(second)])
    rigidity = sp.csr_matrix((entries, index), shape=(first.size, points * dim))
    normal = (rigidity.T @ rigidity).toarray()
    normal[np.diag_indices(len(normal))] += RIDGE * float(np.diag(normal).max())
    factor, stress = scipy.linalg.cho_factor(normal), start
    for _ in range(REFINED):
        stress = stress - rigidity @ scipy.linalg.cho_solve(factor, rigidity.T @ stress)
    beside = sp.coo_matrix((-stress, (first, second)), shape=(points, points)).toarray()
    beside = beside + beside.T
    return beside - np.diag(beside.sum(axis=1))


def _neighbours(first: np.ndarray, second: np.ndarray, points: int) -> list[np.ndarray]:
    order = np.argsort(np.concatenate([first, second]), kind="stable")
    of, others = np.concatenate([first, second])[order], np.concatenate([second, first])[order]
    return np.split(others, np.searchsorted(of, np.arange(1, points)))
