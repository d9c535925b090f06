"""Baselines of ``gpsense.recover`` on tables with gaps, in NumPy; derived from the papers named.

``y_i = X[rows_i, cols_i] + noise`` with X (d1, d2) of low rank. Each function takes a :class:`Task` and returns its X.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

HELD_OUT = 0.1
WIDTH = 10  # columns of the factors, or largest rank, where the rank is not known


class Task(NamedTuple):
    """Entries of a table: rows, cols and values (n,), the truth (d1, d2) and its rank."""

    rows: np.ndarray
    cols: np.ndarray
    values: np.ndarray
    truth: np.ndarray
    rank: int

    def matrix(self, values: np.ndarray) -> np.ndarray:
        """The table with ``values`` at the observed entries, zero elsewhere."""
        full = np.zeros(self.truth.shape)
        full[self.rows, self.cols] = values
        return full

    def split(self, seed: int = 0) -> tuple["Task", "Task"]:
        """The entries to fit, and the tenth of the entries that is held out."""
        order = np.random.default_rng(seed).permutation(self.values.size)
        held = int(HELD_OUT * order.size)
        part = lambda index: self._replace(rows=self.rows[index], cols=self.cols[index], values=self.values[index])  # noqa: E731
        return part(order[held:]), part(order[:held])

    def misfit(self, x: np.ndarray) -> float:
        """The root mean square of ``X - y`` over the entries."""
        return float(np.sqrt(np.mean((x[self.rows, self.cols] - self.values) ** 2)))


def make_task(shape: tuple[int, int], rank: int, condition: float, ratio: float, noise: float, seed: int) -> Task:
    """A task with random singular vectors, log-spaced singular values, and ``ratio`` entries per unknown.

    Every row and column has at least ``rank`` entries. ``noise`` is relative to the root mean square value.
    """
    rng = np.random.default_rng(seed)
    left, right = (np.linalg.qr(rng.standard_normal((side, rank)))[0] for side in shape)
    truth = left * np.geomspace(1.0, 1.0 / condition, rank) @ right.T * np.sqrt(np.prod(shape))
    count = round(ratio * rank * (sum(shape) - rank))
    while True:
        chosen = np.sort(rng.permutation(truth.size)[:count])
        rows, cols = np.unravel_index(chosen, shape)
        if min(np.bincount(rows, minlength=shape[0]).min(), np.bincount(cols, minlength=shape[1]).min()) >= rank:
            break
    exact = truth[rows, cols]
    values = exact + noise * np.sqrt(np.mean(exact**2)) * rng.standard_normal(count)
    return Task(rows, cols, values, truth, rank)


def shrunk(task: Task, penalty: float, x: np.ndarray, steps: int = 400, tolerance: float = 1e-6) -> np.ndarray:
    """The X that minimises ``1/2 ||X[rows, cols] - y||^2 + penalty ||X||_*``, by accelerated proximal steps from x."""
    moving, momentum = x, 1.0
    for _ in range(steps):
        ahead = moving.copy()
        ahead[task.rows, task.cols] = task.values
        left, sizes, right = np.linalg.svd(ahead, full_matrices=False)
        after = left * np.maximum(sizes - penalty, 0.0) @ right
        grown = 0.5 * (1 + np.sqrt(1 + 4 * momentum**2))
        moving, momentum = after + (momentum - 1) / grown * (after - x), grown
        moved, x = np.linalg.norm(after - x), after
        if moved <= tolerance * np.linalg.norm(x):
            break
    return x


def soft_impute(task: Task) -> np.ndarray:
    """Soft-impute (Mazumder, Hastie and Tibshirani 2010): trace norm, its weight chosen on held-out entries."""
    train, test = task.split()
    top = np.linalg.norm(train.matrix(train.values), 2)
    penalties = top * np.geomspace(0.5, 1e-3, 14)
    x, errors = np.zeros(task.truth.shape), []
    for penalty in penalties:
        x = shrunk(train, penalty, x)
        errors.append(test.misfit(x))
    best = int(np.argmin(errors))
    x = np.zeros(task.truth.shape)
    for penalty in penalties[: best + 1]:
        x = shrunk(task, penalty, x)
    return x


def matrix_irls(task: Task, width: int = WIDTH, steps: int = 150) -> np.ndarray:
    """MatrixIRLS (Kuemmerle and Verdun 2021), given a bound on the rank; it fits the entries exactly.

    Each step minimises ``<X, W(X)>``, with ``W^-1(Z)_ij = s_i s_j Z_ij`` in the singular vectors of the last X and
    ``s = max(sigma, eps)``: sigma are its singular values, eps is the least that number ``width + 1`` has been so far.
    """
    rows, columns = task.truth.shape
    x, eps = task.matrix(task.values), np.inf
    multipliers = np.zeros(task.values.size)
    for _ in range(steps):
        left, sizes, right = np.linalg.svd(x)
        eps = min(eps, sizes[width])
        if eps <= 1e-14 * sizes[0]:
            break
        one, two = (np.maximum(np.pad(sizes, (0, side - sizes.size)), eps) for side in (rows, columns))
        first, second = left * one @ left.T, right.T * two @ right

        def weighted(values: np.ndarray, first: np.ndarray = first, second: np.ndarray = second) -> np.ndarray:
            return first @ task.matrix(values) @ second

        operator = lambda values: weighted(values)[task.rows, task.cols]  # noqa: E731
        multipliers = _conjugate_gradients(
            operator, task.values, np.diag(first)[task.rows] * np.diag(second)[task.cols]
        )
        moved = weighted(multipliers)
        change, x = np.linalg.norm(moved - x), moved
        if change <= 1e-12 * np.linalg.norm(x):
            break
    return x


def _conjugate_gradients(
    operator: Callable[[np.ndarray], np.ndarray], right: np.ndarray, diagonal: np.ndarray, steps: int = 300
) -> np.ndarray:
    x, rest = np.zeros_like(right), right.copy()
    pre = rest / diagonal
    direction, size = pre, float(rest @ pre)
    for _ in range(steps):
        image = operator(direction)
        length = size / float(direction @ image)
        x, rest = x + length * direction, rest - length * image
        if np.linalg.norm(rest) <= 1e-13 * np.linalg.norm(right):
            break
        pre = rest / diagonal
        size, last = float(rest @ pre), size
        direction = pre + size / last * direction
    return x


def gauss_newton(task: Task, steps: int = 100) -> np.ndarray:
    """GNMR, updating variant (Zilber and Nadler 2022), given the rank: minimum-norm least-squares steps by LSQR."""
    rank, (rows, columns) = task.rank, task.truth.shape
    left, sizes, right = np.linalg.svd(task.matrix(task.values) * task.truth.size / task.values.size)
    u, v = left[:, :rank] * np.sqrt(sizes[:rank]), right[:rank].T * np.sqrt(sizes[:rank])
    number, scale = np.arange(task.values.size), np.linalg.norm(task.values)
    places = np.concatenate(
        [task.rows[:, None] * rank + np.arange(rank), (rows + task.cols[:, None]) * rank + np.arange(rank)], axis=1
    )
    best, least = u @ v.T, np.inf
    for _ in range(steps):
        residual = task.values - np.einsum("ij,ij->i", u[task.rows], v[task.cols])
        size = np.linalg.norm(residual)
        if size < least:
            best, least = u @ v.T, size
        if size < 1e-13 * scale:
            break
        data = np.concatenate([v[task.cols], u[task.rows]], axis=1)
        numbers = np.repeat(number, 2 * rank)
        jacobian = sp.csr_matrix((data.ravel(), (numbers, places.ravel())), (number.size, (rows + columns) * rank))
        change = sp.linalg.lsqr(jacobian, residual, atol=1e-14, btol=1e-14, iter_lim=2000)[0]
        u, v = u + change[: rows * rank].reshape(rows, rank), v + change[rows * rank :].reshape(columns, rank)
    return best


def small_start(task: Task, steps: int = 6000) -> np.ndarray:
    """Gradient descent on ``U V^T`` from a start of size 1e-3, stopped by held-out entries (arXiv 2209.10675)."""
    train, test = task.split()
    top = np.linalg.norm(train.matrix(train.values), 2)
    rng = np.random.default_rng(0)
    u, v = (1e-3 * np.sqrt(top / side) * rng.standard_normal((side, WIDTH)) for side in task.truth.shape)
    rate = 0.5 / top
    best, least = u @ v.T, np.inf
    for step in range(steps):
        residual = np.einsum("ij,ij->i", u[train.rows], v[train.cols]) - train.values
        back = sp.csr_matrix((residual, (train.rows, train.cols)), task.truth.shape)
        u, v = u - rate * (back @ v), v - rate * (back.T @ u)
        if step % 20 == 19:
            x = u @ v.T
            error = test.misfit(x)
            if error < least:
                best, least = x, error
    return best


# name: the function, and a note on what it is given
TABLE_BASELINES: dict[str, tuple[Callable[[Task], np.ndarray], str]] = {
    "GNMR": (gauss_newton, "rank known"),
    "MatrixIRLS": (matrix_irls, f"rank known to be at most {WIDTH}, values taken as exact"),
    "soft-impute": (soft_impute, "rank unknown, weight chosen on held-out entries"),
    "small start": (small_start, "rank unknown, stopped by held-out entries"),
}
