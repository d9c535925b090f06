"""Fits a table with row and column offsets and, where its spectrum has no gap, with a penalty that is kept.

``X_ij = m + a_i + b_j + u_i^T v_j``. In ratings no rank separates signal from noise: there the factors stay penalised,
with the weight that predicts held-out values best. Derived here; arXiv 2303.11453 claims nothing without a gap.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from gpsense.recovery.evidence import split
from gpsense.recovery.maps import LessOffsets, Table
from gpsense.recovery.outliers import MOST_WILD, WILD, lone, remaining
from gpsense.recovery.path import Fit, Path
from gpsense.recovery.progress import tell
from gpsense.recovery.solve import CLEANER, EXACT, SAVED, Solution, merged, noise_left, simpler, solve
from gpsense.recovery.steps import DIRECT, Problem, State, balanced, descend, empty, grown, leading, scale, truncated

DAMPINGS = (0.0, 1.0, 3.0, 10.0, 30.0)  # zero measurements added for each offset, which damp it
WIDTH = 30  # most columns of penalised factors
TOGETHER = 300  # rows and columns up to which offsets and factors are fitted together
CENTRED = 2  # times that the means of the factors move into the offsets
TURNS, SETTLED = 100, 0.99999  # most turns of fitting offsets and factors; ratio of residuals at which they end
SHRINK = 0.8
PATIENCE = 4  # weights in a row that predict worse, at which the path of weights ends
SIMPLER = 1.02  # ratio of held-out errors up to which the simpler answer is taken, more where few are held out
ROUNDS = 3  # further rounds of leaving out outliers
MEDIANS = 6  # turns of medians of rows and of columns
FEW = 5  # held-out values below which nothing is compared
NOTHING = 1e-12  # mean squared held-out error, over that of predicting 0, below which no penalised fit is tried
SPARE = 1.1  # measurements over unknowns up to which an exact fit without offsets is compared with one with them
STRONG = 2.0  # size of a column over the edge of noise, from which keeping the penalty adds more error than it removes


@dataclass(frozen=True)
class Offsets:
    """Mean m, row offsets a (rows,) and column offsets b (columns,); empty arrays where there are no offsets."""

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
    """The Offsets of a matrix without any: mean 0 and empty arrays."""
    return Offsets(0.0, np.zeros(0), np.zeros(0))


def fitted_offsets(problem: Problem, damping: float, rounds: int = 12) -> Offsets:
    """Least-squares offsets of rows and columns in turn, each fitted to its values and ``damping`` further zeros."""
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


class Answer(NamedTuple):
    """The solution, its offsets, and whether its factors are shrunk by a penalty."""

    solution: Solution
    offsets: Offsets
    shrunk: bool


def with_offsets(map_: Table, values: np.ndarray, *, always: bool, robust: bool | None, **options: Any) -> Answer:
    """The answer that predicts held-out values of a table best.

    Fits with and without offsets (``always``: only with them) are compared on the same tenth of the values: at the rank
    that the path supports and, unless such a fit leaves only noise and its columns stand far above it, with a penalty
    kept. Of the fits whose error exceeds the least by at most two per cent (more where few values are held out), the
    simplest is taken. Unless ``robust`` is False, all is repeated without values that may have a column of their own,
    and without values far from median offsets, until the outliers settle. The new answer is taken if it explains the
    values kept better, or as well with fewer unknowns, but not if a given or bounded rank leaves more than noise. An
    exact answer with offsets is also compared with one without the values that are outliers of a fit without offsets.
    """
    found = plain = None
    if not always:
        plain = solve(map_, values, robust=False, **options, cross=False)
        found = solve(map_, values, robust=robust, **options, cross=False, known=plain)
        if found.chosen_by == "exact" and _spare(found):
            return Answer(found, no_offsets(), False)
    options = {**options, "robust": False, "cross": False}  # outliers are found below, for all fits together
    problem, members = merged(map_, values)
    everything = np.arange(problem.map.n)

    def compared(kept: np.ndarray) -> Answer:
        known = (plain if found and found.outliers.size else found) if kept.size == everything.size else None
        return Answer(*_compared(problem.take(kept), known, always, robust is not False, options))

    first = answer = compared(everything)
    kept = everything
    rest = np.setdiff1d(everything, np.zeros(0, int) if robust is False else _lone(problem, answer))
    starts = [rest] if rest.size < everything.size and np.any(problem.values[rest]) else []
    if found is not None and found.outliers.size:
        starts.insert(0, _others(members, found.outliers))
    sure = robust is False or (not robust and (answer.solution.chosen_by == "exact" or _explains_all(problem, answer)))
    near = everything if sure else _within(problem, _median_offsets(problem), everything)
    if robust or near.size < everything.size:
        starts.append(near)
    for start in starts:
        cleaned, fewer = _without_wild(problem, start, compared)
        if _explains_better(problem, answer, cleaned, fewer):
            answer, kept = cleaned, fewer
            break
    if always and robust is not False and answer.solution.chosen_by == "exact" and answer.solution.rank:
        robustly = {**options, "robust": robust}
        outliers = solve(map_, values, **robustly).outliers  # offsets are two more columns here, and spread no outlier
        if outliers.size:
            cleaned, fewer = _without_wild(problem, _others(members, outliers), compared)
            saved = _numbers(problem, answer, kept) - _numbers(problem, cleaned, fewer)
            if cleaned.solution.chosen_by == "exact" and saved > 0:
                answer, kept = cleaned, fewer
    limited = options["rank"] is not None or answer.solution.chosen_by == "bounded"
    if kept.size < everything.size and not robust and limited and not noise_left(answer.solution):
        answer, kept = first, everything  # with too few columns, values far from the fit need not be outliers
    if answer.solution is found:
        return answer
    kept = np.setdiff1d(kept, kept[answer.solution.outliers])
    left_out = [members[i] for i in np.setdiff1d(everything, kept)]
    outliers = np.sort(np.concatenate([np.zeros(0, int), *left_out]))
    return answer._replace(solution=replace(answer.solution, outliers=outliers))


def _spare(found: Solution) -> bool:
    """Whether an exact fit is no coincidence: over SPARE measurements per unknown, every unknown determined."""
    map_ = found.problem.map
    return map_.n > SPARE * map_.unknowns(found.rank) and found.determined.independent >= found.determined.unknowns


def _without_wild(
    problem: Problem, kept: np.ndarray, compared: Callable[[np.ndarray], Answer]
) -> tuple[Answer, np.ndarray]:
    """The answer for the values ``kept``, refitted without its outliers until they settle; the indices then kept."""
    answer = compared(kept)
    for _ in range(ROUNDS):
        again = np.setdiff1d(_near(problem, answer, kept), kept[_lone(problem.take(kept), answer)])
        if np.array_equal(again, kept):
            break
        kept = again
        answer = compared(kept)
    return answer, kept


def _lone(problem: Problem, answer: Answer) -> np.ndarray:
    """Indices of values that may have a column of their own, aside from what offsets could add."""
    map_ = LessOffsets(_table(problem)) if answer.offsets.rows.size and _moderate(problem) else problem.map
    return lone(map_, answer.solution.factors)


def _explains_all(problem: Problem, answer: Answer) -> bool:
    """Whether a low-rank answer has no outliers, in a table so large that a few values cannot distort it."""
    low = answer.solution.rank > 0 and not answer.shrunk
    return low and not _moderate(problem) and _near(problem, answer, np.arange(problem.map.n)).size == problem.map.n


def _moderate(problem: Problem) -> bool:
    """Whether the table is small enough to fit offsets and factors together."""
    return sum(problem.map.sides) <= TOGETHER


def _explains_better(problem: Problem, answer: Answer, cleaned: Answer, kept: np.ndarray) -> bool:
    """Whether ``cleaned`` explains the values ``kept`` better than ``answer``, or as well with far fewer unknowns.

    At the same rank it counts as better if some values are outliers of ``answer``, which was fitted to all.
    """
    more, fewer = (_unknowns(problem, each) for each in (answer, cleaned))
    if answer.solution.chosen_by == "exact":
        saved = _numbers(problem, cleaned, kept) < more
        return cleaned.solution.chosen_by == "exact" and cleaned.solution.rank > 0 and saved
    same = (cleaned.solution.rank, cleaned.shrunk) == (answer.solution.rank, answer.shrunk)
    if same and _near(problem, answer, np.arange(problem.map.n)).size < problem.map.n:
        return True
    before, after = (_less_factors(problem, each)[kept] for each in (answer, cleaned))
    if scale(after) < CLEANER * scale(before):
        return True
    return simpler(before, after, more, fewer, problem.map.n - kept.size)


def _numbers(problem: Problem, answer: Answer, kept: np.ndarray) -> float:
    """The number of unknowns, plus SAVED for each value left out."""
    return _unknowns(problem, answer) + SAVED * (problem.map.n - kept.size)


def _others(members: list[np.ndarray], outliers: np.ndarray) -> np.ndarray:
    """Indices of the sets of equal measurements that hold no outlier."""
    known = set(outliers.tolist())
    return np.array([i for i, each in enumerate(members) if known.isdisjoint(each.tolist())], int)


def _unknowns(problem: Problem, answer: Answer) -> int:
    return problem.map.unknowns(answer.solution.rank) + (sum(problem.map.sides) if answer.offsets.rows.size else 0)


def _table(problem: Problem) -> Table:
    """The map of a problem whose measurements are entries of a table."""
    assert isinstance(problem.map, Table)
    return problem.map


def _median_offsets(problem: Problem) -> np.ndarray:
    """The values minus their median, then in turn minus row and column medians (median polish), shape (n,)."""
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


def _less_factors(problem: Problem, answer: Answer) -> np.ndarray:
    """The values minus their predictions by the answer, shape (n,)."""
    return -_less(problem, answer.offsets).residual(answer.solution.factors)


def _near(problem: Problem, answer: Answer, kept: np.ndarray) -> np.ndarray:
    """Indices of the values that are not outliers of the answer."""
    rest = _less_factors(problem, answer)
    if not answer.shrunk and (answer.solution.rank or answer.offsets.rows.size):
        rest = rest / np.sqrt(remaining(problem, answer.solution.factors, kept, bool(answer.offsets.rows.size)))
    return _within(problem, rest, kept)


def _within(problem: Problem, rest: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Indices of the values whose residual ``rest`` is no outlier; all indices if there would be too many outliers."""
    size = np.abs(rest) * np.sqrt(problem.weights)
    floor = 1e-10 * float(np.sqrt(np.mean(problem.values**2)))
    near = np.flatnonzero(np.maximum(size, problem.spread) <= WILD * scale(size[kept], floor))
    return near if near.size >= (1 - MOST_WILD) * problem.map.n else np.arange(problem.map.n)


def _compared(
    problem: Problem, plain: Solution | None, always: bool, clipped: bool, options: dict[str, Any]
) -> tuple[Solution, Offsets, bool]:
    """The answer that predicts held-out values best; ``plain`` is the solution without offsets, if it is known.

    ``clipped``: large errors of held-out values are clipped, as these may be outliers.
    """
    out = next(iter(split(problem.map, 10, options["seed"])), np.zeros(0, int))
    if out.size < FEW and always:
        return *_low_rank(problem, True, 0.0, options), False
    if out.size < FEW:
        return plain or solve(problem.map, problem.values, **options), no_offsets(), False
    train, test = problem.take(np.setdiff1d(np.arange(problem.map.n), out)), problem.take(out)
    width = min(WIDTH, options["max_rank"] or WIDTH)
    damping = min(DAMPINGS, key=lambda each: _error(test, empty(train).factors, fitted_offsets(train, each), clipped))
    settled, nothing = options["rank"] is not None, NOTHING * float(np.mean(problem.values**2))
    tries: list[tuple[float, float, Callable[[], tuple[Solution, Offsets, bool]]]] = []  # error, unknowns, answer
    for shifted in (True,) if always else (False, True):
        known = (plain, no_offsets()) if plain is not None and not shifted else None
        found = _low_ranks(problem, train, shifted, damping, options, known)
        for part, added, whole, _ in found:
            unknowns = problem.map.unknowns(part.rank) + sum(problem.map.sides) * shifted
            tries.append((_error(test, part.factors, added, clipped), unknowns, lambda whole=whole: (*whole(), False)))
        settled = settled or any(strong for *_, strong in found) or min(error for error, _, _ in tries) < nothing
        if settled:
            continue
        added = fitted_offsets(train, damping) if shifted else no_offsets()
        penalty, least = _penalty(_less(train, added), test, added, width, clipped)

        def shrunk(shifted: bool = shifted, penalty: float = penalty) -> tuple[Solution, Offsets, bool]:
            added = fitted_offsets(problem, damping) if shifted else no_offsets()
            return _shrunk(_less(problem, added), penalty, width, options["seed"]), added, True

        tries.append((least, np.inf, shrunk))
    slack = max(SIMPLER, 1.0 + np.sqrt(2.0 / out.size)) * min(error for error, _, _ in tries)
    good = [(unknowns, answer) for error, unknowns, answer in tries if error <= slack]
    return min(good, key=lambda each: each[0])[1]()


Fitted = tuple[Solution, Offsets]


def _low_ranks(
    problem: Problem, train: Problem, shifted: bool, damping: float, options: dict[str, Any], known: Fitted | None
) -> list[tuple[Solution, Offsets, Callable[[], Fitted], bool]]:
    """Fits to ``train``, each with offsets, a function for the fit to all values, and whether it is :func:`_strong`.

    One fit has the rank that all values support; with offsets, another has the rank that ``train`` supports, and the
    smaller rank comes first. For a large table with offsets the rank from ``train`` alone bounds that of the fit to all
    values.
    """

    def fit(problem: Problem, **more: Any) -> Fitted:
        return _low_rank(problem, shifted, damping, {**options, **more})

    if known is None and shifted and not _moderate(problem):
        part, added = fit(train)
        return [(part, added, lambda: fit(problem, max_rank=part.rank), _strong(part))]
    whole = known if known is not None else fit(problem)
    found = [(*fit(train, rank=whole[0].rank), lambda: whole, _strong(whole[0]))]
    if shifted and options["rank"] is None:
        part, added = fit(train)

        def held_out() -> Fitted:
            again, beside = fit(problem, rank=part.rank)
            return replace(again, chosen_by="exact" if again.fit.misfit < EXACT else "held out"), beside

        if part.rank != whole[0].rank:
            found.insert(int(part.rank > whole[0].rank), (part, added, held_out, _strong(part)))
    return found


def _strong(found: Solution) -> bool:
    """Whether nothing but noise is left and the smallest column stands far above what noise would give."""
    fit = found.path.fits.get(found.rank)
    if fit is None or not found.rank or found.path.settled != found.rank:
        return False
    return found.problem.gain * found.fit.state.sizes[-1] > STRONG * fit.edge


def _low_rank(problem: Problem, shifted: bool, damping: float, options: dict[str, Any]) -> tuple[Solution, Offsets]:
    """The fit at the rank that the path supports, with offsets if ``shifted``.

    In a table that is not large, offsets and factors are fitted together, otherwise in turn.
    """
    if not shifted:
        return solve(problem.map, problem.values, **options), no_offsets()
    if _moderate(problem):
        return _together(problem, options)
    added = fitted_offsets(problem, damping)
    rest = _less(problem, added)
    found = solve(rest.map, rest.values, **options)
    for _ in range(CENTRED):
        added = _centred(found, added)
        rest = _less(problem, added)
        found = solve(rest.map, rest.values, **options)
    if found.rank:
        added = _in_turns(problem, balanced(found.factors, 1.0), added)
        rest = _less(problem, added)
        found = solve(rest.map, rest.values, **options)
    left = problem.map.n + problem.repeats[1] - found.outliers.size - problem.map.unknowns(found.rank)
    fitted = sum(problem.map.sides) - 1
    noise = found.noise * np.sqrt(left / (left - fitted)) if left > fitted else found.noise
    return replace(found, shifted=True, noise=noise), added


def _in_turns(problem: Problem, state: State, added: Offsets) -> Offsets:
    """The offsets, by alternating least squares of offsets and of factors of this rank until the residual settles."""
    table, last = _table(problem), np.inf
    for _ in range(TURNS):
        added = fitted_offsets(replace(problem, values=problem.values - table.predict(state.factors)), 0.0)
        rest = _less(problem, added)
        state = descend(rest, state, steps=2)
        left = float(np.linalg.norm(rest.residual(state.factors)))
        if left > SETTLED * last:
            break
        last = left
    return added


def _together(problem: Problem, options: dict[str, Any]) -> tuple[Solution, Offsets]:
    """Offsets, and factors whose columns have mean zero, fitted together by least squares."""
    table = _table(problem)
    most = max(DIRECT // sum(table.shape), 1)
    most = most if options["max_rank"] is None else min(most, options["max_rank"])
    found = solve(LessOffsets(table), problem.values, **{**options, "max_rank": most})
    problem = problem.take(np.setdiff1d(np.arange(problem.map.n), found.outliers))
    left, right = (one - one.mean(0) for one in found.factors)
    state = balanced((left, right), 1.0)
    rows, columns = LessOffsets(_table(problem)).offsets(-problem.residual(state.factors))
    added = Offsets(float(rows.mean() + columns.mean()), rows - rows.mean(), columns - columns.mean())
    rest = _less(problem, added)
    fit = Fit(state, rest.misfit(state.factors))
    return replace(found, factors=state.factors, problem=rest, fit=fit, shifted=True), added


def _centred(found: Solution, added: Offsets) -> Offsets:
    """The offsets plus the row and column means of the low-rank part, which is thus left with means of zero.

    Offsets that were fitted first have absorbed some of the factors by chance; in the whole table this shows as means.
    """
    left, right = found.factors
    rows, columns = left @ right.mean(0), right @ left.mean(0)
    mean = float(rows.mean())
    return Offsets(added.mean + mean, added.rows + rows - mean, added.columns + columns - mean)


def _less(problem: Problem, added: Offsets) -> Problem:
    """The problem with the offsets subtracted from its values."""
    table = _table(problem)
    return replace(problem, values=problem.values - added.at(table.first, table.second))


def _error(test: Problem, factors: Any, added: Offsets, clipped: bool) -> float:
    """Weighted mean squared error; ``clipped``: errors are clipped at five robust standard deviations."""
    table = test.map
    assert isinstance(table, Table)
    size = np.abs(table.predict(factors) + added.at(table.first, table.second) - test.values)
    size = np.minimum(size, WILD * scale(size)) if clipped else size
    return float(test.weights @ size**2 / test.weights.sum())


def _walk(
    problem: Problem, stop: float, width: int, judge: Callable[[State], float] | None = None
) -> tuple[State, float]:
    """Penalised factors, once the weight is down to ``stop`` or the error ``judge`` keeps rising; the best weight."""
    state = empty(problem)
    penalty = float(leading(problem, problem.residual(state.factors), 1)[0][0])
    best, found, worse = np.inf, penalty, 0
    while True:
        penalty = max(penalty * SHRINK, stop)
        state = grown(problem, state, penalty, width, 6)
        state = descend(problem, state, np.full(state.sizes.size, penalty), steps=3, tolerance=1e-3)
        state = truncated(state, int(np.sum(state.sizes > 1e-6 * state.sizes.max(initial=0.0))))
        tell(f"rank {state.sizes.size} with the penalty kept")
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
    """The penalised fit to all values, with weight ``penalty`` times their number."""
    state, _ = _walk(problem, penalty * problem.map.n, width)
    residual = problem.residual(state.factors)
    root = float(np.sqrt(np.mean(residual**2)))
    fit = Fit(state, problem.misfit(state.factors))
    none = np.zeros(0, int)
    path = Path(fits={state.sizes.size: fit})
    return Solution(state.factors, state.sizes.size, "shrunk", root, root, none, problem, path, fit, seed)
