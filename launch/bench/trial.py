"""Many random problems: recover's error over that of least squares at the true rank, and the rank that it finds."""

import time
from collections.abc import Iterable
from statistics import median
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from gpsense.recovery import maps
from gpsense.recovery.solve import solve
from gpsense.recovery.steps import Problem, balanced, descend
from launch import bench
from launch.bench.rows import Row, make_row

KINDS = ("gaussian", "rank_one", "entries", "distances", "pauli")
GOOD = 0.1  # largest error of least squares of problems whose rank counts
CLOSE = 1.25  # largest ratio to the error of least squares that counts as close


class Trial(NamedTuple):
    """For every problem, recover's error over that of least squares, and its seconds.

    ``right`` (m,) tells whether the rank was found in the m problems in which the error of least squares is < ``GOOD``.
    """

    ratios: np.ndarray
    right: np.ndarray
    seconds: np.ndarray

    @property
    def close(self) -> float:
        """The share of problems whose error is at most ``CLOSE`` times that of least squares."""
        return float(np.mean(self.ratios <= CLOSE))

    def __str__(self) -> str:
        right = f"rank right in {np.mean(self.right):.3f} of {self.right.size} where least squares is within {GOOD:g}"
        ratio = f"median {np.median(self.ratios):.3f}, at most {CLOSE:g} in {self.close:.3f}"
        return f"{right}; error over that of least squares: {ratio}"


def draw(seed: int) -> tuple[maps.Map, np.ndarray, np.ndarray]:
    """A random problem (map, y, factor): 1.5 to 8 values per unknown, condition 1 to 30, noise 0 to 0.3 of y's RMS."""
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


def trial(seeds: Iterable[int]) -> Trial:
    """Runs recover on the problem of each seed, rank unknown, and least squares at the true rank from the truth."""
    right, ratios, seconds = [], [], []
    for seed in seeds:
        map_, y, truth = draw(seed)
        begun = time.perf_counter()
        found = solve(map_, y)
        seconds.append(time.perf_counter() - begun)
        with threadpool_limits(1, "blas"):
            problem = Problem(map_, y, np.ones(map_.n))
            told = descend(problem, balanced((truth,), 1.0), steps=100, tolerance=1e-9)
        least = _error(told.factors[0], truth)
        ratios.append((_error(found.factors[0], truth) + 1e-10) / (least + 1e-10))
        if least < GOOD:
            right.append(found.rank == truth.shape[1])
    return Trial(np.array(ratios), np.array(right), np.array(seconds))


def trial_row() -> Row:
    """Row: the median ratio of errors; its note tells how often the rank is right and the errors are close."""
    done = trial(range(bench.TRIAL_SEEDS))
    name = f"gpsense.recover, {bench.TRIAL_SEEDS} random problems, error over that of least squares at the true rank"
    ratio = float(np.median(done.ratios))
    return make_row("recovery", name, median(done.seconds), f"{done}; noise, condition and kind differ", ratio=ratio)


def _map(rng: np.random.Generator, kind: str, dim: int, rank: int, ratio: float) -> maps.Map:
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


def _error(factor: np.ndarray, truth: np.ndarray) -> float:
    """Relative Frobenius error of ``U U^H``."""
    matrix = truth @ truth.conj().T
    return float(np.linalg.norm(factor @ factor.conj().T - matrix) / np.linalg.norm(matrix))
