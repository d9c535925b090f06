"""Many random problems at once: the rank, and the error against least squares that is given the true rank."""

import numpy as np
import pytest

from gpsense import recover
from launch.bench.trial import trial


@pytest.mark.slow
def test_as_good_as_knowing_the_rank():
    """A third of the problems of ``launch.bench``, every kind as often."""
    done = trial(seed for seed in range(300) if seed // 5 % 3 == 0)
    print(done)
    assert np.mean(done.right) >= 0.94
    assert np.median(done.ratios) < 1.001
    assert done.close >= 0.95


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
        step = np.linalg.solve(slopes.T @ slopes + 1e-9 * np.eye(numbers.size), slopes.T @ rest)
        numbers = numbers - step
        if np.linalg.norm(step) < 1e-7 * np.linalg.norm(numbers):
            break
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
