"""Offsets of rows and columns of a table, and tables without a gap in their spectrum, where the penalty is kept.

``X_ij = m + a_i + b_j + u_i^T v_j``. Ratings have no rank at which noise begins: there the factors stay penalised, and
the weight is the one that predicts held-out values best. Derived here; without a gap arXiv 2303.11453 has no claim.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gpsense.recovery.evidence import WILD, split
from gpsense.recovery.maps import Table
from gpsense.recovery.path import Fit, Path
from gpsense.recovery.solve import MOST_WILD, Solution, merged, solve
from gpsense.recovery.steps import Problem, State, descend, empty, grown, leading, scale, truncated

DAMPINGS = (0.0, 1.0, 3.0, 10.0, 30.0)  # measurements that an offset of zero counts as
WIDTH = 30
CENTRED = 2  # times that the means of the factors move into the offsets
SHRINK = 0.8
PATIENCE = 4  # weights in a row that predict worse, at which the path of weights ends
SIMPLER = 1.02  # ratio of held-out errors up to which the simpler answer is taken, more where few are held out
ROUNDS = 3  # more, of leaving out wild values
MEDIANS = 6  # turns of medians of rows and of columns
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


def with_offsets(
    map_: Table, values: np.ndarray, *, always: bool, robust: bool | None, **options: Any
) -> tuple[Solution, Offsets, bool]:
    """The solution, its offsets, and whether its factors are shrunk: what predicts held-out values best.

    Compared on the same tenth of the values: with and without offsets (``always``: with them), and for each the fit at
    the rank that the path speaks for and the penalised one. What is simpler wins unless it is worse by two per cent.
    Unless ``robust`` is False, values far from what is found, first from offsets by medians, are left out, and all is
    done again until the same are.
    """
    found = None
    if not always:
        found = solve(map_, values, robust=robust, **options, cross=False)
        if found.chosen_by in ("exact", "given"):
            return found, no_offsets(), False
    options = {**options, "robust": robust, "cross": False}
    problem, members = merged(map_, values)
    everything = np.arange(problem.map.n)
    kept = everything if robust is False else _near(problem, _median_offsets(problem), everything)

    def compared() -> tuple[Solution, Offsets, bool]:
        sound = found is not None and not found.outliers.size and kept.size == everything.size
        return _compared(problem.take(kept), found if sound else None, always, options)

    answer, added, shrunk = compared()
    for _ in range(0 if robust is False else ROUNDS):
        again = _near(problem, _less_factors(problem, answer, added), kept)
        if np.array_equal(again, kept):
            break
        kept = again
        answer, added, shrunk = compared()
    if answer is found:
        return answer, added, shrunk
    kept = np.setdiff1d(kept, kept[answer.outliers])
    left_out = [members[i] for i in np.setdiff1d(everything, kept)]
    return replace(answer, outliers=np.sort(np.concatenate([np.zeros(0, int), *left_out]))), added, shrunk


def _median_offsets(problem: Problem) -> np.ndarray:
    """The values less medians of rows and of columns by turns, shape (n,)."""
    table, rest = problem.map, problem.values - np.median(problem.values)
    assert isinstance(table, Table)
    for _ in range(MEDIANS):
        for index in (table.first, table.second):
            order = np.lexsort((rest, index))
            starts = np.flatnonzero(np.r_[True, np.diff(index[order]) > 0])
            counts = np.diff(np.append(starts, order.size))
            low, high = rest[order][starts + (counts - 1) // 2], rest[order][starts + counts // 2]
            middle = np.zeros(index.max() + 1)
            middle[index[order][starts]] = 0.5 * (low + high)
            rest = rest - middle[index]
    return rest


def _less_factors(problem: Problem, answer: Solution, added: Offsets) -> np.ndarray:
    """What the answer leaves of all values, shape (n,)."""
    return -_less(problem, added).residual(answer.factors)


def _near(problem: Problem, rest: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """The values that are not wild by what is left of them; all where these would be too many."""
    size = np.abs(rest) * np.sqrt(problem.weights)
    floor = 1e-10 * float(np.sqrt(np.mean(problem.values**2)))
    near = np.flatnonzero(size <= WILD * scale(size[kept], floor))
    return near if near.size >= (1 - MOST_WILD) * problem.map.n else np.arange(problem.map.n)


def _compared(
    problem: Problem, plain: Solution | None, always: bool, options: dict[str, Any]
) -> tuple[Solution, Offsets, bool]:
    """The answer that predicts held-out values best; ``plain`` is the one without offsets, where it is known."""
    width = min(WIDTH, options["max_rank"] or WIDTH)
    out = next(iter(split(problem.map, 10, options["seed"])), np.zeros(0, int))
    if out.size < FEW:
        return plain or solve(problem.map, problem.values, **options), no_offsets(), False
    train, test = problem.take(np.setdiff1d(np.arange(problem.map.n), out)), problem.take(out)
    clipped = options["robust"] is not False
    damping = min(DAMPINGS, key=lambda each: _error(test, empty(train).factors, fitted_offsets(train, each), clipped))
    tries: list[tuple[float, bool, float | None]] = []
    for shifted in (True,) if always else (False, True):
        added = fitted_offsets(train, damping) if shifted else no_offsets()
        rest = _less(train, added)
        given = {**options, "rank": plain.rank or None} if plain is not None and not shifted else options
        part = solve(rest.map, rest.values, **given)
        penalty, least = _penalty(rest, test, added, width, clipped)
        tries += [(_error(test, part.factors, added, clipped), shifted, None), (least, shifted, penalty)]
    least = min(error for error, _, _ in tries)
    slack = max(SIMPLER, 1.0 + np.sqrt(2.0 / out.size))
    _, shifted, penalty = next(each for each in tries if each[0] <= slack * least)
    if not shifted and penalty is None:
        return plain or solve(problem.map, problem.values, **options), no_offsets(), False
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


def _error(test: Problem, factors: Any, added: Offsets, clipped: bool) -> float:
    """Mean squared error; ``clipped``: errors beyond five robust standard deviations count as these."""
    table = test.map
    assert isinstance(table, Table)
    size = np.abs(table.predict(factors) + added.at(table.first, table.second) - test.values)
    size = np.minimum(size, WILD * scale(size)) if clipped else size
    return float(test.weights @ size**2 / test.weights.sum())


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


def _penalty(rest: Problem, test: Problem, added: Offsets, width: int, clipped: bool) -> tuple[float, float]:
    errors: list[float] = []

    def judge(state: State) -> float:
        errors.append(_error(test, state.factors, added, clipped))
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
