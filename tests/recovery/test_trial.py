"""Many random problems at once: the rank, and the error against least squares that is given the true rank."""

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from gpsense import recover
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


def draw_shifted(seed):
    """A table with offsets, 2 to 6 measurements an unknown, noise 0.02 to 0.3 of the values: places, y, parts."""
    rng = np.random.default_rng([78, seed])
    rows, columns, rank = int(rng.integers(12, 40)), int(rng.integers(12, 40)), int(rng.integers(1, 4))
    parts = rng.standard_normal((rows, rank)), rng.standard_normal((columns, rank))
    offsets = 5 + 2 * rng.standard_normal(rows), 2 * rng.standard_normal(columns)
    truth = parts[0] @ parts[1].T + offsets[0][:, None] + offsets[1]
    unknowns = rank * (rows + columns - 2 - rank) + rows + columns - 1
    n = min(round((2, 2.5, 3.5, 6)[seed % 4] * unknowns), int(0.9 * truth.size))
    i, j = np.divmod(rng.permutation(truth.size)[:n], columns)
    noise = (0.02, 0.1, 0.3)[seed % 3] * np.std(truth)
    return i, j, truth, truth[i, j] + noise * rng.standard_normal(n), (*parts, *offsets)


def least_squares(i, j, y, u, v, a, b):
    """The matrix of the least squares fit of factors and offsets next to these, by Gauss-Newton steps, written out."""
    n, rank = y.size, u.shape[1]
    sizes = np.cumsum([u.size, v.size, a.size])
    numbers, places = np.concatenate([u.ravel(), v.ravel(), a, b]), np.arange(n)
    for _ in range(60):
        u, v, a, b = np.split(numbers, sizes)
        u, v = u.reshape(-1, rank), v.reshape(-1, rank)
        slopes = np.zeros((n, numbers.size))
        for c in range(rank):
            slopes[places, i * rank + c] = v[j, c]
            slopes[places, sizes[0] + j * rank + c] = u[i, c]
        slopes[places, sizes[1] + i] = slopes[places, sizes[2] + j] = 1
        rest = np.sum(u[i] * v[j], axis=1) + a[i] + b[j] - y
        numbers = numbers - np.linalg.solve(slopes.T @ slopes + 1e-9 * np.eye(numbers.size), slopes.T @ rest)
    u, v, a, b = np.split(numbers, sizes)
    return u.reshape(-1, rank) @ v.reshape(-1, rank).T + a[:, None] + b


@pytest.mark.slow
def test_offsets_as_good_as_knowing_the_rank():
    ratios = []
    for seed in range(20):
        i, j, truth, y, parts = draw_shifted(seed)
        if np.unique(i).size < truth.shape[0] or np.unique(j).size < truth.shape[1]:
            continue
        found = recover({"row": i, "col": j, "value": y}, offsets=True).matrix
        least, reached = (np.linalg.norm(each - truth) for each in (least_squares(i, j, y, *parts), found))
        if least < 0.5 * np.linalg.norm(truth - truth.mean()):
            ratios.append(reached / least)
    ratios = np.array(ratios)
    within = np.mean(ratios <= 1.25)
    print(f"{ratios.size} tables with offsets: median {np.median(ratios):.3f}, at most 1.25 in {within:.3f}")
    assert np.median(ratios) < 1.001
    assert within >= 0.85
    assert ratios.max() < 5
