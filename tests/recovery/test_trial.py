"""Many random problems at once: the rank, and the error against least squares that is given the true rank."""

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from gpsense.recovery import maps
from gpsense.recovery.solve import solve
from gpsense.recovery.steps import Problem, balanced, descend

KINDS = ("gaussian", "rank_one", "entries", "distances", "pauli")


def draw(seed):
    """A problem of 1.5 to 8 measurements an unknown, condition 1 to 30, noise 0 to 0.3 of the values: map, y, truth."""
    rng = np.random.default_rng([77, seed])
    kind = KINDS[seed % 5]
    dim, rank = int(rng.integers(10, 61)), int(rng.integers(1, 6))
    ratio, condition = rng.uniform(1.5, 8), np.exp(rng.uniform(0, np.log(30)))
    noise = rng.choice([0.0, rng.uniform(0, 0.3), rng.uniform(0, 0.3)])
    if kind == "pauli":
        dim, rank = 2 ** int(rng.integers(3, 6)), min(rank, 3)
    rank = min(rank, dim // 3)
    sizes = np.geomspace(1, 1 / condition, rank) if rank > 1 else np.ones(1)
    start = rng.standard_normal((dim, rank)) + (1j * rng.standard_normal((dim, rank)) if kind == "pauli" else 0)
    start = start - start.mean(0) if kind == "distances" else start
    truth = np.linalg.qr(start)[0] * np.sqrt(sizes)
    map_ = _map(rng, kind, dim, rank, ratio)
    y = map_.predict((truth,))
    return map_, y + noise * np.sqrt(np.mean(y**2)) * rng.standard_normal(y.size), truth


def _map(rng, kind, dim, rank, ratio):
    unknowns = {
        "distances": (dim - 1) * rank - rank * (rank - 1) // 2,
        "pauli": 2 * dim * rank - rank**2,
    }.get(kind, dim * rank - rank * (rank - 1) // 2)
    n = round(ratio * unknowns)
    if kind == "gaussian":
        a = rng.standard_normal((n, dim, dim))
        return maps.Dense((a + a.transpose(0, 2, 1)) / 2)
    if kind == "rank_one":
        return maps.RankOne(rng.standard_normal((n, dim)))
    if kind == "pauli":
        words = np.concatenate([[0], 1 + rng.permutation(dim**2 - 1)[: min(n, dim**2) - 1]])
        return maps.Pauli(words // dim, words % dim, int(np.log2(dim)))
    i, j = np.triu_indices(dim, 1 if kind == "distances" else 0)
    some = rng.permutation(i.size)[: min(n, i.size)]
    return (maps.Distances if kind == "distances" else maps.Entries)(i[some], j[some], dim)


def error(factor, truth):
    """Relative Frobenius error of ``U U^H``."""
    matrix = truth @ truth.conj().T
    return np.linalg.norm(factor @ factor.conj().T - matrix) / np.linalg.norm(matrix)


@pytest.mark.slow
def test_as_good_as_knowing_the_rank():
    right, ratios = [], []
    for seed in range(300):
        map_, y, truth = draw(seed)
        found = solve(map_, y)
        with threadpool_limits(1, "blas"):
            oracle = descend(Problem(map_, y, np.ones(map_.n)), balanced((truth,), 1.0), steps=100, tolerance=1e-9)
        least = error(oracle.factors[0], truth)
        ratios.append((error(found.factors[0], truth) + 1e-10) / (least + 1e-10))
        if least < 0.1:
            right.append(found.rank == truth.shape[1])
    told = (
        f"rank right in {np.mean(right):.3f} of {len(right)}; error over the oracle's: median {np.median(ratios):.3f}, "
    )
    print(told + f"at most 1.25 in {np.mean(np.array(ratios) <= 1.25):.3f}")
    assert np.mean(right) >= 0.94
    assert np.median(ratios) < 1.001
    assert np.mean(np.array(ratios) <= 1.25) >= 0.95
