"""Outliers ("wild" values): far from a fit, or explained by a column of their own; and fits without them.

Where few entries are measured, a column can explain an outlier as well as any value, and no residual shows it. What
shows it is the price of a fit, which counts values left out and unknowns (:func:`price`): derived here, modelled on the
evidence for a linear model.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import scipy.linalg

from gpsense.recovery.maps import Distances, Entries, Factors, LessOffsets, Map, Table
from gpsense.recovery.path import Path, fitted, search
from gpsense.recovery.steps import Problem, State, balanced, descend, scale, slopes, truncated

WILD = 5.0  # robust standard deviations beyond which a value counts as wild (an outlier)
LONE = 0.4  # share of one value in a column's squared contributions, beyond which it has a column of its own
APART = 4.0  # ratio of such contributions, of up to FEW values over the next, from which these have one, too
FEW = 4
LEVERAGE = 0.6  # product of the leverages of a value's row and column, beyond which it has one, too
MOST_WILD = 0.25  # share of wild values beyond which they are not outliers
LOOSE, TIGHT = 8.0, 3.0  # robust standard deviations at which values are clipped: for a robust start, in a search
BEYOND = 5.0  # size of an entry over that of the largest value, above which a noisy fit is rejected
MOST_ENTRIES = 4e6  # of a matrix that is searched for such an entry
SPARE = 0.05  # share of the measurements that must remain beyond the unknowns
AGAIN, TURNS, BEST = 8, 10, 3  # most rounds of leaving out; most fits to search on from, each among this many best
DEARER = 2  # fits in a row of higher price than one of fewer columns, after which no wider one is tried
GRADES, OFTEN = 200, 10  # a grade is a value of at least one measurement in GRADES, and of at least OFTEN
DRAWS, SAME = 50, 1e-8  # random subsets of a row; difference, over the size of the values, up to which they agree
OF_MEDIANS = 2.33  # standard error of log m / m' for medians m, m' of halves of n normal deviations, times sqrt(n)
FORMABLE = 1e8  # measurements times the square of unknowns, up to which leverages are computed
NULL = 1e-10  # ridge of normal equations, over their largest diagonal entry
MOST_VARIED = 9.0  # bound on the leverage of a value left out
LEAST = 1e-3  # least share of the noise variance assumed in a residual
MARGIN = 4.0  # drop in price from which a fit without some values counts as better


def wild(problem: Problem, factors: Factors, kept: np.ndarray | None = None) -> np.ndarray:
    """Mask (n,) of values far from the fit: beyond five robust standard deviations, more if large values are noisier.

    A mean whose repeated values are as far apart counts, too. Residuals of the fit to the values ``kept`` (None: all)
    are studentised first, divided by the root of :func:`remaining`; not for LessOffsets, where offsets are refitted to
    whatever is kept and spread an outlier over its row and column.
    """
    residual = problem.residual(factors) * np.sqrt(problem.weights)
    if factors[0].shape[1] and not isinstance(problem.map, LessOffsets):
        residual = residual / np.sqrt(remaining(problem, factors, kept))
    predicted = np.abs(problem.values + problem.residual(factors))
    floor = 1e-10 * float(np.sqrt(np.mean(problem.weights * problem.values**2)))
    far = np.maximum(np.abs(residual), problem.spread)
    return far > WILD * scale(residual, floor) * _growth(residual, predicted)


def contradicting(problem: Problem) -> np.ndarray:
    """Mask (n,) of means whose repeated values differ by far more than those of most means, whatever the fit."""
    differing = problem.spread[problem.spread > 0]
    return problem.spread > WILD * scale(differing) if differing.size else np.zeros(problem.map.n, bool)


def agreeing(problem: Problem, noise: float, left_out: np.ndarray) -> bool:
    """Whether some values ``left_out`` have repeats that agree to within the noise, and so are no gross errors."""
    spread = problem.spread[left_out]
    return bool(np.any((spread > 0) & (spread <= WILD * noise)))  # equal repeats may be copies


def graded(values: np.ndarray) -> bool:
    """Whether every value occurs often, as on a scale with few grades, so that no value is a gross error."""
    counts = np.unique(values, return_counts=True)[1]
    return counts.min(initial=values.size) >= max(OFTEN, values.size / GRADES)


def lone(map_: Map, factors: Factors) -> np.ndarray:
    """Indices of values that may have a column of their own, as outliers may.

    Such a value takes much of a column's squared contributions, or a few such values take far more than any other. In a
    table it also counts if the leverages of its row and its column in the factors have a product near 1: the factors
    then nearly span the unit vectors of that row and column.
    """
    found = []
    table = map_.table if isinstance(map_, LessOffsets) else map_
    if isinstance(table, Table) and table.n:
        first, second = (np.sum(np.linalg.qr(one)[0] ** 2, axis=1) for one in factors)
        both = first[table.first] * second[table.second]
        found += [place for place in np.argsort(-both)[: factors[0].shape[1]] if both[place] > LEVERAGE]
    for column in range(factors[0].shape[1]):
        added = map_.predict(tuple(one[:, [column]] for one in factors)) ** 2
        largest = np.argsort(-added)[: FEW + 1]
        sizes = added[largest]
        apart = np.flatnonzero(sizes[:-1] > APART * sizes[1:])
        found += list(largest[: apart[-1] + 1] if apart.size else largest[: int(sizes[0] > LONE * added.sum())])
    return np.unique(np.array(found, int))


class Without(NamedTuple):
    """A fit to the values with indices ``kept``, and its price."""

    price: float
    state: State
    kept: np.ndarray

    @property
    def name(self) -> tuple[int, bytes]:
        """What identifies the fit: its rank and the values kept."""
        return self.state.sizes.size, self.kept.tobytes()


def price(problem: Problem, residual: np.ndarray, kept: np.ndarray, unknowns: int) -> float:
    """The price of a fit that leaves values out, the lower the better.

    It is ``(m - u)/2 log(s^2/S^2) + (n - m) (log(t/S) + log n)``. Of n values m are kept; u is the number of
    ``unknowns``, s the standard deviation of the noise in the values kept, t the root mean square residual of the
    others, and S the robust size of all values. So a value kept costs ``log(s/S)``, an unknown ``log(S/s)``, a value
    left out ``log(t/S) + log n``. The price is infinite unless m - u exceeds both 2 and SPARE n.
    """
    n, m = residual.size, kept.size
    if m - unknowns <= max(SPARE * n, 2):
        return np.inf
    squares = problem.weights * residual**2
    size = scale(problem.values) ** 2 or float(np.mean(problem.values**2))
    left_out = np.delete(squares, kept)
    noise = float(squares[kept].sum()) / (m - unknowns) + 1e-20 * size
    apart = float(left_out.mean()) / size if left_out.size else 1.0
    return 0.5 * (m - unknowns) * np.log(noise / size) + left_out.size * (0.5 * np.log(apart) + np.log(n))


def far_beyond(problem: Problem, state: State) -> bool:
    """Whether some entry of the fit lies far beyond all measured values; False unless single entries are measured."""
    map_ = problem.map
    single = isinstance(map_, Entries | LessOffsets | Table) and np.prod(map_.sides) <= MOST_ENTRIES
    if not state.sizes.size or not single:
        return False
    left, right = state.factors[0], state.factors[-1]
    if isinstance(map_, LessOffsets):
        left, right = left - left.mean(0), right - right.mean(0)
    return float(np.abs(left @ right.T).max()) > BEYOND * float(np.abs(problem.values).max())


def bounded(problem: Problem, deviations: float) -> Problem:
    """The robust problem, its values clipped at ``deviations`` robust standard deviations from their median."""
    middle = float(np.median(problem.values))
    reach = deviations * scale(problem.values - middle) or np.inf
    return replace(problem, values=np.clip(problem.values, middle - reach, middle + reach), robust=True)


def searched(
    problem: Problem, path: Path, answer: State, used: np.ndarray, *, seed: int, exact: float
) -> Without | None:
    """A fit without some values that is clearly cheaper than fits to all values and than ``answer``; None without one.

    ``used`` are the indices of the values that ``answer`` was fitted to. The fits of the path and, if some values are
    far from the rest, of a robust path are tried, each refitted without its outliers until these settle. If one is
    clearly cheaper, or ``answer`` has no column or a column of single values (:func:`lone`), the search goes on from
    the best fits: by paths on the values that they keep, with and without lone ones, and by fits with fewer columns.
    """
    everything = np.arange(problem.map.n)
    whole = [_without(problem, fit.state, everything).price for fit in path.fits.values()]
    known = _without(problem, answer, used).price
    found = _cheapest(problem, [], [answer])
    if far_values(problem.values):
        limited, most = bounded(problem, TIGHT), max(answer.sizes.size + 2, 4)
        robust = search(limited, np.random.default_rng(seed), exact=exact, most=most, judge=False)
        found = _upward(problem, found, _each_rank(limited, robust, exact))
    columns = found[0].state.sizes.size + 1 if found else max(path.fits)
    found = _upward(problem, found, (path.fits[rank].state for rank in sorted(path.fits) if 0 < rank <= columns))
    doubtful = not answer.sizes.size or lone(problem.map, answer.factors).size
    if not found or not (doubtful or found[0].price < known - MARGIN):
        return None
    tried: set[tuple[int, bytes]] = set()
    for _ in range(TURNS):
        best = next((each for each in found[:BEST] if each.name not in tried), None)
        if best is None:
            break
        tried.add(best.name)
        found = _cheapest(problem, found, _further(problem, best, seed, exact))
    least = min(known, *whole) - MARGIN
    cheaper = (each for each in found if each.price < least and each.kept.size < everything.size)
    return next((each for each in cheaper if not far_beyond(problem.take(each.kept), each.state)), None)


def far_values(values: np.ndarray) -> bool:
    """Whether some values are more than five robust standard deviations from their median."""
    size = np.abs(values - np.median(values))
    return bool(np.any(size > WILD * max(scale(size), 1e-300)))


def _further(problem: Problem, best: Without, seed: int, exact: float) -> Iterable[State]:
    """Further states, from paths on the values that ``best`` keeps, and from refits with fewer of its columns."""
    rank = best.state.sizes.size
    alone = lone(problem.map, best.state.factors)
    for kept in (best.kept, np.setdiff1d(best.kept, alone)) if alone.size else (best.kept,):
        part = problem.take(kept)
        path = search(part, np.random.default_rng(seed), exact=exact, most=rank + 2, judge=False)
        yield from (fit.state for fit in path.fits.values())
        yield from (fitted(part, truncated(best.state, fewer), exact).state for fewer in range(1, rank))


def _each_rank(problem: Problem, path: Path, exact: float) -> Iterable[State]:
    """The states of a path from rank 1 up; for a rank it skipped, the largest columns of the next wider, refitted."""
    for rank in range(1, max(path.fits) + 1):
        if rank in path.fits:
            yield path.fits[rank].state
        else:
            above = path.fits[min(known for known in path.fits if known > rank)].state
            yield fitted(problem, truncated(above, rank), exact).state


def _upward(problem: Problem, known: list[Without], states: Iterable[State]) -> list[Without]:
    """Known fits and fits from ``states`` of rising rank, until DEARER in a row cost more; the cheapest first."""
    found, least, dearer = known, np.inf, 0
    for state in states:
        each = trimmed(problem, state)
        found = _ordered([*found, each])
        dearer = 0 if each.price < least else dearer + 1
        least = min(least, each.price)
        if dearer == DEARER:
            break
    return found


def _cheapest(problem: Problem, known: list[Without], states: Iterable[State]) -> list[Without]:
    """Known fits and fits from ``states`` without their outliers, the cheapest first."""
    return _ordered([*known, *(trimmed(problem, state) for state in states if state.sizes.size)])


def _ordered(fits: list[Without]) -> list[Without]:
    """The fits of finite price without duplicates, the lowest price first."""
    found: dict[tuple[int, bytes], Without] = {}
    for each in fits:
        if np.isfinite(each.price):
            found.setdefault(each.name, each)
    return sorted(found.values(), key=lambda each: each.price)


def readmitted(problem: Problem, state: State, kept: np.ndarray, seed: int) -> Without:
    """The fit to the values ``kept``; sound ones that were left out beside an outlier are added if the price falls."""
    rng, found = np.random.default_rng(seed), _without(problem, state, kept)
    known = isinstance(problem.map, Entries | Distances | Table) and state.sizes.size
    while known and found.kept.size < problem.map.n:
        again = trimmed(problem, _agreed(problem, found, rng))
        if not (again.price < found.price and again.kept.size > found.kept.size):
            break
        found = again
    return found


def _agreed(problem: Problem, found: Without, rng: np.random.Generator) -> State:
    """The state, with each row that has values left out refitted by consensus (RANSAC) among its values.

    The other factor is fixed; a row of r numbers is fitted to DRAWS random subsets of r of its values, and then to all
    that agree with the best. Squared distances are linear in r + 1 numbers: the coordinates and their sum of squares.
    """
    map_, values = problem.map, problem.values
    assert isinstance(map_, Entries | Distances | Table)
    factors, rank = [one.copy() for one in found.state.factors], found.state.sizes.size
    out = np.setdiff1d(np.arange(map_.n), found.kept)
    size = float(np.sqrt(np.mean(values**2)))
    bound = WILD * scale(problem.residual(found.state.factors)[found.kept], SAME * size)
    pairs = [(map_.first, map_.second), (map_.second, map_.first)]
    for (own, other), factor, held in zip(pairs, (factors[0], factors[-1]), (factors[-1], factors[0]), strict=True):
        for row in np.unique(own[out]):
            either = map_.semidefinite & (other == row)
            at = np.flatnonzero((own == row) ^ either)
            rows, wanted = held[np.where(own[at] == row, other[at], own[at])], values[at]
            if isinstance(map_, Distances):
                rows, wanted = np.c_[-2.0 * rows, np.ones(at.size)], wanted - np.sum(rows**2, axis=1)
            count = rows.shape[1]
            if at.size <= count:
                continue
            subsets = rng.random((DRAWS, at.size)).argsort(axis=1)[:, :count]
            tried = (np.linalg.pinv(rows[subsets]) @ wanted[subsets][:, :, None])[:, :, 0]
            near = np.abs(tried @ rows.T - wanted) <= bound
            best = near[np.argmax(near.sum(axis=1))]
            if best.sum() > max(count, np.isin(at, found.kept).sum()):
                factor[row] = np.linalg.lstsq(rows[best], wanted[best])[0][:rank]
    return balanced(tuple(factors), found.state.damping)


def _growth(residual: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The factor (n,) by which noise grows with the ``sizes``: ``(size / median)^power`` above the median size, else 1.

    The power, from 0 to 1, is the one at which median residuals above and below the median size agree, plus two
    standard errors; it is 0 unless noise grows by more than these.
    """
    middle = float(np.median(sizes))
    upper = sizes > middle
    if not middle > 0 or not upper.any():
        return np.ones(sizes.size)
    residuals, typical = (
        [float(np.median(np.abs(each[part]))) for part in (upper, ~upper)] for each in (residual, sizes)
    )
    power = 1.0
    if min(residuals) > 0 and typical[1] > 0:
        noise, size = (np.log(above / below) for above, below in (residuals, typical))
        errors = 2 * OF_MEDIANS / np.sqrt(sizes.size)
        power = float(np.clip((noise + errors) / size, 0.0, 1.0)) if noise > errors else 0.0
    return np.maximum(1.0, sizes / middle) ** power


def remaining(problem: Problem, factors: Factors, kept: np.ndarray | None, offsets: bool = False) -> np.ndarray:
    """Variance of residuals over that of the noise: ``1 - h`` for kept values of leverage h, ``1 + h`` for others.

    For values left out h is bounded: where the kept values hardly determine one, its h is huge, and even an outlier
    would look sound. To first order in the noise; 1 for problems so large that leverages take long. ``kept`` None: all;
    ``offsets``: offsets of a table were fitted, too.
    """
    n, unknowns = problem.map.n, problem.map.unknowns(factors[0].shape[1]) + offsets * sum(problem.map.sides)
    if n * unknowns**2 > FORMABLE:
        return np.ones(n)
    jacobian, _ = slopes(problem, factors, offsets)
    jacobian = jacobian if isinstance(jacobian, np.ndarray) else jacobian.toarray()
    kept = np.arange(n) if kept is None else kept
    normal = jacobian[kept].T @ jacobian[kept]
    normal.reshape(-1)[:: len(normal) + 1] += NULL * max(float(normal.diagonal().max()), 1e-300)
    root = np.linalg.cholesky(normal)
    leverage = np.sum(scipy.linalg.solve_triangular(root, jacobian.T, lower=True) ** 2, axis=0)
    left = 1.0 + np.minimum(leverage, MOST_VARIED)
    left[kept] = np.maximum(1.0 - leverage[kept], LEAST)
    return left


def trimmed(problem: Problem, state: State, used: np.ndarray | None = None) -> Without:
    """The fit from ``state``, refitted without its outliers until these settle; of infinite price if they are too many.

    ``used``: indices of the values that ``state`` was fitted to (None: all).
    """
    kept, again = used, np.arange(problem.map.n)
    for _ in range(AGAIN):
        again = np.flatnonzero(~wild(problem, state.factors, kept))
        if again.size < (1 - MOST_WILD) * problem.map.n or again.size <= problem.map.unknowns(state.sizes.size):
            return Without(np.inf, state, again)
        if kept is not None and np.array_equal(again, kept):
            break
        kept = again
        state = descend(problem.take(kept), state, steps=30, tolerance=1e-6, least=1e-4)
    return _without(problem, state, again)


def _without(problem: Problem, state: State, kept: np.ndarray) -> Without:
    unknowns = problem.map.unknowns(state.sizes.size)
    return Without(price(problem, problem.residual(state.factors), kept, unknowns), state, kept)
