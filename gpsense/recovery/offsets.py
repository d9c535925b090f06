"""Offsets of rows and columns of a table, and tables without a gap in their spectrum, where the penalty is kept.

``X_ij = m + a_i + b_j + u_i^T v_j``. Ratings have no rank at which noise begins: there the factors stay penalised, and
the weight is the one that predicts held-out values best. Derived here; without a gap arXiv 2303.11453 has no claim.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gpsense.recovery.evidence import split
from gpsense.recovery.maps import Table
from gpsense.recovery.path import Fit, Path
from gpsense.recovery.solve import Solution, merged, solve
from gpsense.recovery.steps import Problem, State, descend, empty, grown, leading, truncated

DAMPINGS = (0.0, 1.0, 3.0, 10.0, 30.0)  # measurements that an offset of zero counts as
WIDTH = 30
CENTRED = 2  # times that the means of the factors move into the offsets
SHRINK = 0.8
PATIENCE = 4  # weights in a row that predict worse, at which the path of weights ends
SIMPLER = 1.02  # ratio of held-out errors up to which the simpler answer is taken, more where few are held out
FEW = 5  # held-out values below which nothing is compared


@dataclass(frozen=True)
class Offsets:
    """Mean m, offsets of rows a (rows,) and of columns b (columns,); empty arrays stand for none."""

    mean: float
    rows: np.ndarray
    columns: np.ndarray

    def at(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """``m + a_i + b_j`` at these places, shape (m,)."""
        if not self.rows.size:
            return np.full(np.shape(rows), self.mean)
        return self.mean + self.rows[rows] + self.columns[columns]

    def matrix(self, rows: int, columns: int) -> np.ndarray:
        """``m + a_i + b_j`` everywhere, shape (rows, columns)."""
        if not self.rows.size:
            return np.full((rows, columns), self.mean)
        return self.mean + self.rows[:, None] + self.columns[None, :]


def no_offsets() -> Offsets:
    """None at all."""
    return Offsets(0.0, np.zeros(0), np.zeros(0))


def fitted_offsets(problem: Problem, damping: float, rounds: int = 12) -> Offsets:
    """Least squares with ``damping`` measurements of zero for every offset, by turns."""
    table, values = problem.map, problem.values
    assert isinstance(table, Table)
    mean = float(values.mean())
    rows, columns = np.zeros(table.shape[0]), np.zeros(table.shape[1])
    per_row = np.bincount(table.first, minlength=table.shape[0]) + damping
    per_column = np.bincount(table.second, minlength=table.shape[1]) + damping
    for _ in range(rounds):
        rest = values - mean - columns[table.second]
        rows = np.bincount(table.first, rest, table.shape[0]) / np.maximum(per_row, 1)
        rest = values - mean - rows[table.first]
        columns = np.bincount(table.second, rest, table.shape[1]) / np.maximum(per_column, 1)
    return Offsets(mean, rows, columns)


def with_offsets(map_: Table, values: np.ndarray, *, always: bool, **options: Any) -> tuple[Solution, Offsets, bool]:
    """The solution, its offsets, and whether its factors are shrunk: what predicts held-out values best.

    Compared on the same tenth of the values: with and without offsets (``always``: with them), and for each the fit at
    the rank that the path speaks for and the penalised one. What is simpler wins unless it is worse by two per cent.
    """
    found = None
    if not always:
        found = solve(map_, values, **options, cross=False)
        if found.chosen_by in ("exact", "given") or found.outliers.size:
            return found, no_offsets(), False
    options = {**options, "robust": False, "cross": False}
    width = min(WIDTH, options["max_rank"] or WIDTH)
    problem, _ = merged(map_, values)
    out = next(iter(split(problem.map, 10, options["seed"])), np.zeros(0, int))
    if out.size < FEW:
        found = found or solve(map_, values, **options)
        return found, no_offsets(), False
    train, test = problem.take(np.setdiff1d(np.arange(problem.map.n), out)), problem.take(out)
    damping = min(DAMPINGS, key=lambda each: _offset_error(train, test, each))
    tries: list[tuple[float, bool, float | None]] = []
    for shifted in (True,) if always else (False, True):
        added = fitted_offsets(train, damping) if shifted else no_offsets()
        rest = _less(train, added)
        given = {**options, "rank": found.rank or None} if found is not None and not shifted else options
        part = solve(rest.map, rest.values, **given)
        penalty, kept = _penalty(rest, test, added, width)
        tries += [(_error(test, part.factors, added), shifted, None), (kept, shifted, penalty)]
    least = min(error for error, _, _ in tries)
    slack = max(SIMPLER, 1.0 + np.sqrt(2.0 / out.size))
    _, shifted, penalty = next(each for each in tries if each[0] <= slack * least)
    if found is not None and not shifted and penalty is None:
        return found, no_offsets(), False
    added = fitted_offsets(problem, damping) if shifted else no_offsets()
    rest = _less(problem, added)
    if penalty is None:
        found = solve(rest.map, rest.values, **options)
        for _ in range(CENTRED):
            added = _centred(found, added)
            rest = _less(problem, added)
            found = solve(rest.map, rest.values, **options)
        return found, added, False
    return _shrunk(rest, penalty, width, options["seed"]), added, True


def _centred(found: Solution, added: Offsets) -> Offsets:
    """The offsets with the row and column means of the low-rank part, which then has means of zero.

    Offsets that are fitted first take up a part of the factors by chance; in the whole table that part is means.
    """
    left, right = found.factors
    rows, columns = left @ right.mean(0), right @ left.mean(0)
    mean = float(rows.mean())
    return Offsets(added.mean + mean, added.rows + rows - mean, added.columns + columns - mean)


def _less(problem: Problem, added: Offsets) -> Problem:
    """The problem with the offsets taken off its values."""
    table = problem.map
    assert isinstance(table, Table)
    return replace(problem, values=problem.values - added.at(table.first, table.second))


def _error(test: Problem, factors: Any, added: Offsets) -> float:
    table = test.map
    assert isinstance(table, Table)
    predicted = table.predict(factors) + added.at(table.first, table.second)
    return float(test.weights @ (predicted - test.values) ** 2 / test.weights.sum())


def _offset_error(train: Problem, test: Problem, damping: float) -> float:
    return _error(test, empty(train).factors, fitted_offsets(train, damping))


def _walk(
    problem: Problem, stop: float, width: int, judge: Callable[[State], float] | None = None
) -> tuple[State, float]:
    """Penalised factors down a path of weights, to ``stop`` or until ``judge`` gets worse; the best weight."""
    state = empty(problem)
    penalty = float(leading(problem, problem.residual(state.factors), 1)[0][0])
    best, found, worse = np.inf, penalty, 0
    while True:
        penalty = max(penalty * SHRINK, stop)
        state = grown(problem, state, penalty, width, 6)
        state = descend(problem, state, np.full(state.sizes.size, penalty), steps=3, tolerance=1e-3)
        state = truncated(state, int(np.sum(state.sizes > 1e-6 * state.sizes.max(initial=0.0))))
        if judge is not None:
            error = judge(state)
            worse = 0 if error < best else worse + 1
            if error < best:
                best, found = error, penalty
        if penalty <= stop or worse == PATIENCE:
            return state, found


def _penalty(rest: Problem, test: Problem, added: Offsets, width: int) -> tuple[float, float]:
    errors: list[float] = []

    def judge(state: State) -> float:
        errors.append(_error(test, state.factors, added))
        return errors[-1]

    _, penalty = _walk(rest, 0.0, width, judge)
    return penalty / rest.map.n, min(errors)


def _shrunk(problem: Problem, penalty: float, width: int, seed: int) -> Solution:
    """The penalised fit to all values, the weight in proportion to their number."""
    state, _ = _walk(problem, penalty * problem.map.n, width)
    residual = problem.residual(state.factors)
    root = float(np.sqrt(np.mean(residual**2)))
    fit = Fit(state, problem.misfit(state.factors))
    none = np.zeros(0, int)
    path = Path(fits={state.sizes.size: fit})
    return Solution(state.factors, state.sizes.size, "shrunk", root, root, none, problem, path, fit, seed)
