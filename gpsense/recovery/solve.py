"""The whole recovery: merging of repeats, path of penalties, choice of rank, outliers, and the final fit."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import scipy.linalg
from scipy.special import fdtrc
from threadpoolctl import threadpool_limits

from gpsense.recovery.evidence import (
    Covariance,
    Determined,
    Names,
    choose,
    covariance,
    determined,
    rank_share,
)
from gpsense.recovery.maps import Dense, Factors, Map, Table, unflattened
from gpsense.recovery.noise import fitted_variance
from gpsense.recovery.outliers import (
    LOOSE,
    MOST_WILD,
    Without,
    agreeing,
    bounded,
    contradicting,
    far_beyond,
    far_values,
    lone,
    readmitted,
    remaining,
    searched,
    trimmed,
    wild,
)
from gpsense.recovery.path import (
    DOUBT,
    Fit,
    Path,
    fallen,
    fitted,
    judged,
    lacking,
    one_fewer,
    one_more,
    search,
)
from gpsense.recovery.steps import Problem, State, descend, scale, scaled_rows, truncated

EXACT = 1e-8
NOT_RESAMPLED = ("exact", "given", "bounded", "shrunk", "full")  # ``chosen_by`` without resamples
SMALL = 1e6  # measurements times unknowns at rank 1, up to which one thread is faster
MODERATE = 1e7  # the same, up to which an exact solution is compared with fits that leave values out
CLEANER = 0.7  # ratio of residuals without outliers to those with them, below which these are left out
SINGLE = 6.0  # drop of the sum of squares per value left out, over the noise variance, beyond what noise explains
COMPLETE, FORMED = 0.9, 1300  # measurements over unknowns at full rank, and most such unknowns, to try it
LEVEL, PASSED = 1e-6, 1e-3  # of F tests against any rank: the rank found is rejected, another is taken
NEXT_TO_NOTHING = 0.05  # sum of squares at full rank, over that at the rank found, below which full rank is taken
SPENT = 4  # measurements beyond the unknowns up to which a fit of full rank leaves the noise unknown
REWEIGHTED = 3  # rounds of computing weights from the fit
TINY = 1e-6  # size of a column, over the largest, that counts as zero
AS_WELL, SAVED = 2.0, 2.0  # noise ratio that counts as no worse; unknowns that each value left out must save


@dataclass(frozen=True)
class Solution:
    """Factors of X, how the rank was found, and the problem that was solved: repeats merged, outliers left out.

    ``noise`` is the standard deviation of one value, ``residual`` the root mean square residual of all values but the
    outliers; both in units of y. ``shifted``: offsets of a table, estimated with X, were subtracted from
    the values. ``names`` of rows and of columns, where they have any. ``scaled``: X is scaled to a known trace.
    ``uneven``: the residuals grow with the fitted values.
    """

    factors: Factors
    rank: int
    chosen_by: str
    noise: float
    residual: float
    outliers: np.ndarray
    problem: Problem
    path: Path = field(repr=False)
    fit: Fit = field(repr=False)
    seed: int = 0
    shifted: bool = False
    names: Names = (None, None)
    scaled: bool = False
    uneven: bool = False

    @cached_property
    def covariance(self) -> Covariance:
        """The Covariance of the estimate, for this rank and noise."""
        variance = self.noise**2 if np.isfinite(self.noise) else np.inf
        with threads(self.problem.map):
            return covariance(self.problem, self.factors, variance, self.shifted, self.scaled, self.uneven)

    @cached_property
    def determined(self) -> Determined:
        """What the measurements determine, and what they leave open."""
        nothing = not self.rank and not self.shifted and self.chosen_by != "given"
        some = bool(self.outliers.size)
        return determined(self.problem, self.factors, names=self.names, nothing=nothing, some=some)

    @cached_property
    def rank_share(self) -> float:
        """Share of 20 resamples of the residuals that find the same rank; 1 for ``chosen_by`` in NOT_RESAMPLED."""
        if self.chosen_by in NOT_RESAMPLED:
            return 1.0
        with threads(self.problem.map):
            return rank_share(self.problem, self.fit, self.rank, seed=self.seed, exact=EXACT)


def solve(
    map_: Map,
    values: np.ndarray,
    *,
    seed: int = 0,
    rank: int | None = None,
    max_rank: int | None = None,
    robust: bool | None = None,
    exact: float = EXACT,
    cross: bool = True,
    known: Solution | None = None,
    weigh: Callable[[np.ndarray], np.ndarray] | None = None,
    expected: np.ndarray | None = None,
) -> Solution:
    """The Solution for X with ``A(X) ~ y``; with ``robust`` None, outliers are left out if the rest then fits better.

    Without ``cross`` a rank that the path leaves open is not cross-validated, see :func:`choose`. ``known`` is the
    solution for ``robust`` False, if it has been found before. ``weigh`` maps noise-free values to the weights of their
    squared residuals; it is applied to the values ``expected`` (None: the measured ones) first, then to the fitted
    ones. Noise and residual are then those of a value of weight 1.
    """
    with threads(map_):
        whole, members = merged(map_, values, weigh(values if expected is None else expected) if weigh else None)
        found = _solve(whole, members, seed, rank, max_rank, robust, exact, cross, known)
        return found if weigh is None or not found.rank else _reweighted(found, weigh, seed)


def threads(map_: Map) -> threadpool_limits:
    """A limit of one BLAS thread for small problems and tables: their products are too small or narrow for more."""
    narrow = isinstance(map_, Table) or map_.n * map_.unknowns(1) < SMALL
    return threadpool_limits(1 if narrow else None, "blas")


def _solve(
    whole: Problem,
    members: list[np.ndarray],
    seed: int,
    rank: int | None,
    max_rank: int | None,
    robust: bool | None,
    exact: float,
    cross: bool,
    known: Solution | None,
) -> Solution:
    free = rank is None and max_rank is None

    def of_any_rank(problem: Problem, found: Solution) -> State | None:
        return descend(problem, _linear(problem), steps=5) if free and _testable(problem, found) else None

    def answer(problem: Problem) -> Solution:
        found = _answer(problem, seed, rank, max_rank, exact, cross)
        widest = of_any_rank(problem, found)
        return (_passing(problem, found, widest, seed, exact) if widest else None) or found

    plain = found = known or _answer(whole, seed, rank, max_rank, exact, cross)
    everything = np.arange(whole.map.n)
    starts: list[Callable[[], Solution]] = []
    if widest := of_any_rank(whole, found):
        passing = _passing(whole, found, widest, seed, exact)
        if passing and (robust is False or not _suspicious(whole, passing)):
            plain = found = passing
        if np.any(wild(whole, widest.factors)):
            starts.append(lambda: _solution(whole, widest, "full", plain.path, seed))
    if robust is False or found.chosen_by == "full":
        return found
    sure = found.chosen_by == "exact"
    doubtful = not sure and found.path.gapless is None
    if whole.map.sparse and (sure or doubtful):
        rest = np.setdiff1d(everything, lone(whole.map, found.factors))
        if rest.size < everything.size and np.any(whole.values[rest]):
            starts.append(lambda: answer(whole.take(rest)))
    contradicted = contradicting(whole)
    if (robust or doubtful) and contradicted.any():
        starts.append(lambda: answer(whole.take(np.flatnonzero(~contradicted))))
    if robust or (doubtful and _suspicious(whole, found)):
        starts.append(lambda: answer(bounded(whole, LOOSE)))
    used = everything
    for start in starts:
        kept, cleaned = _without_wild(whole, start(), answer)
        if cleaned is not None and (robust or _explains_better(whole, found, cleaned, kept)):
            found, used = cleaned, kept
    if rank is None and whole.map.sparse:
        cheaper, sure = None, found.chosen_by == "exact"
        if whole.map.n * whole.map.unknowns(1) < (MODERATE if sure else SMALL):
            cheaper = searched(whole, found.path, found.fit.state, used, seed=seed, exact=exact)
        if cheaper and not sure and cheaper.state.sizes.size < found.rank and used.size == everything.size:
            needed = answer(whole.take(cheaper.kept)).rank  # does leaving values out save columns?
            cheaper = cheaper if needed < found.rank else None
        state, kept = (cheaper.state, cheaper.kept) if cheaper else (found.fit.state, used)
        again = readmitted(whole, state, kept, seed)
        single = sure and lone(whole.map, again.state.factors).size  # a matrix of single entries, which are no outliers
        allowed = max_rank is None or state.sizes.size <= max_rank
        regained = again.kept.size > used.size
        if (allowed and not single) if cheaper else regained:
            completed = _completed(whole, again, seed, exact)
            agree = agreeing(whole, completed.noise, np.setdiff1d(used, again.kept))
            if not agree and not _lacks_more(found, completed):
                found, used = completed, again.kept
    if found.rank and used.size < everything.size:
        last = trimmed(whole, found.fit.state, used)
        part = whole.take(last.kept)
        if np.isfinite(last.price) and last.kept.size and not far_beyond(part, last.state):
            found, used = _solution(part, _last(part, last.state), found.chosen_by, found.path, seed), last.kept
    limited = rank is not None or found.chosen_by == "bounded"
    if used.size < everything.size and not robust and limited and not noise_left(found):
        return plain  # with fewer columns than the values support, values far from the fit need not be outliers
    outliers = [members[i] for i in np.setdiff1d(everything, used)]
    return replace(found, outliers=np.sort(np.concatenate([np.zeros(0, int), *outliers]))) if outliers else found


def _passing(problem: Problem, found: Solution, whole: State, seed: int, exact: float) -> Solution | None:
    """The fit of the smallest rank that explains the values as well as X of any rank; None if ``found`` does.

    ``whole`` is the fit of any rank. For more measurements n than its unknowns p the solution found is rejected by an
    F test at level LEVEL, ``((S_r - S) / (p - p_r)) / (S / (n - p))`` with the sums of squares S_r and, for any rank,
    S: the path may have ended at a local minimum, or no small rank may do. Fits start from ``whole``, where they find
    the minimum; the smallest rank that passes at level PASSED is taken, and more columns as long as each explains more
    than noise would. For fewer measurements ``whole`` is taken if S is next to nothing beside S_r: had semidefinite X
    the rank found, a fit of any rank would stop at the boundary of the cone and leave about half of the noise.
    """
    map_ = problem.map
    most = map_.unknowns(map_.largest_rank())
    free = map_.n - most
    if free <= SPENT and not map_.semidefinite:
        return None
    within, repeats = problem.repeats
    squares = lambda state: float(problem.weights @ problem.residual(state.factors) ** 2) + within  # noqa: E731
    rng = np.random.default_rng(seed)
    fits = dict(found.path.fits)
    least = squares(whole)

    def passes(state: State, level: float) -> bool:
        added = most - map_.unknowns(state.sizes.size)
        ratio = (squares(state) - least) / max(added, 1) / max(least / (free + repeats), 1e-300)
        return added <= 0 or fdtrc(added, free + repeats, max(ratio, 0.0)) > level

    def of(rank: int) -> Fit:
        known, fit = fits.get(rank), fitted(problem, truncated(whole, rank), exact)
        if known is None or fit.misfit < known.misfit:
            fits[rank] = judged(problem, fit, rng)
        return fits[rank]

    widest = int(np.sum(whole.sizes > TINY * whole.sizes[0]))
    if free > SPENT:
        if passes(found.fit.state, LEVEL):
            return None
        low, high = 0, widest  # the smallest rank that passes is above low, and at most high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if passes(of(middle).state, PASSED) else (middle, high)
        while high < widest and fallen(problem, of(high), of(high + 1)) > DOUBT:
            high += 1
        if high < widest:
            return _solution(problem, _last(problem, of(high).state), "edge", replace(found.path, fits=fits), seed)
    elif not least < NEXT_TO_NOTHING * squares(found.fit.state):
        return None
    state = _last(problem, whole)
    state = truncated(state, int(np.sum(state.sizes > TINY * state.sizes[0])))
    fits[state.sizes.size] = judged(problem, Fit(state, problem.misfit(state.factors)), rng)
    return _solution(problem, state, "full", replace(found.path, fits=fits), seed)


def _testable(problem: Problem, found: Solution) -> bool:
    """Whether the solution is not exact, and X of any rank is nearly determined and cheap to fit.

    Such are maps other than single entries with about as many measurements as X of any rank has unknowns, or more.
    """
    map_ = problem.map
    most = map_.unknowns(map_.largest_rank())
    if problem.robust or map_.sparse or found.chosen_by == "exact" or most > FORMED:
        return False
    return map_.n >= COMPLETE * most and map_.unknowns(found.rank) < min(most, map_.n)


def _linear(problem: Problem) -> State:
    """X by linear least squares, without a bound on its rank; for semidefinite X without its negative eigenvalues."""
    map_ = problem.map
    one = np.eye(map_.sides[0], dtype=complex if map_.complex else float)
    other = () if map_.semidefinite else (np.zeros((map_.sides[1], map_.sides[0])),)
    jacobian = map_.jacobian((one, *other))
    root = np.sqrt(problem.weights)
    scaled = scaled_rows(jacobian if isinstance(jacobian, np.ndarray) else jacobian.toarray(), root)
    scaled = scaled[:, -other[0].size :] if other else scaled
    solved: Any = scipy.linalg.lstsq(scaled, root * problem.values, cond=1e-10, lapack_driver="gelsy")
    found = solved[0]
    if other:
        left, sizes, right = np.linalg.svd(unflattened(found, other)[0].T, full_matrices=False)
        return State((left * np.sqrt(sizes), right.T * np.sqrt(sizes)), sizes, 1.0)
    (change,) = unflattened(found, (one,))
    sizes, vectors = np.linalg.eigh(change + change.conj().T)
    kept = np.flatnonzero(sizes > TINY * max(sizes[-1], 0.0))[::-1]
    return State((vectors[:, kept] * np.sqrt(sizes[kept]),), sizes[kept], 1.0)


def _completed(problem: Problem, cheaper: Without, seed: int, exact: float) -> Solution:
    """The Solution from a fit without some values, run to convergence; its path holds only that fit."""
    part = problem.take(cheaper.kept)
    state = _last(part, cheaper.state)
    rng = np.random.default_rng(seed)
    fits = {state.sizes.size: judged(part, Fit(state, part.misfit(state.factors)), rng)}
    by = "exact" if fits[state.sizes.size].misfit < exact else "evidence"
    return _solution(part, state, by, Path(fits=fits), seed)


def _reweighted(found: Solution, weigh: Callable[[np.ndarray], np.ndarray], seed: int) -> Solution:
    """The solution refitted at its rank, REWEIGHTED times, with weights computed from its fitted values."""
    for _ in range(REWEIGHTED):
        problem, state = found.problem, found.fit.state
        fitted = problem.values + problem.residual(state.factors)
        problem = problem.weighed(weigh(fitted))
        again = _solution(problem, _last(problem, state), found.chosen_by, found.path, seed)
        found = replace(again, outliers=found.outliers)
    return found


def evened(map_: Map, values: np.ndarray, found: Solution, **options: Any) -> Solution:
    """The Solution with weights one over the variance of the noise, fitted to the residuals of ``found``.

    A value of median variance has weight 1. The values are solved for anew, then refitted with the variance of the
    better residuals. ``options`` are those of :func:`solve`. If the new solution has fewer columns and leaves more than
    noise, that of ``found`` is refitted instead.
    """
    weigh = _by_variance(found)
    expected = map_.predict(found.factors)
    again = solve(map_, values, weigh=weigh, expected=expected, **options)
    if not again.rank or (again.rank < found.rank and not noise_left(again)):
        again = _reweighted(found, weigh, found.seed)
    again = _reweighted(again, _by_variance(again), found.seed)
    alike = again.problem.weighed(np.ones(again.problem.map.n))
    squares = float(alike.weights @ alike.residual(again.factors) ** 2) + alike.repeats[0]
    return replace(again, residual=float(np.sqrt(squares / alike.total)), uneven=True)


def _by_variance(found: Solution) -> Callable[[np.ndarray], np.ndarray]:
    """The function from expected values to weights, one over the variance fitted to the residuals of the solution."""
    problem = found.problem
    residual = problem.residual(found.factors)
    expected = problem.values + residual
    squares = problem.weighed(np.ones(problem.map.n)).weights * residual**2
    variance = fitted_variance(expected, squares / remaining(problem, found.factors, None))
    typical = float(np.median(variance.of(expected)))
    return lambda values: typical / variance.of(values)


def merged(map_: Map, values: np.ndarray, weights: np.ndarray | None = None) -> tuple[Problem, list[np.ndarray]]:
    """The Problem with equal measurements merged into one of their mean value, and the indices of each merged set.

    ``weights`` (n,) are those of single squared residuals; a merged set gets their mean. If all repeats agree exactly,
    they are copies (such as pairs listed in both orders) and each set counts once; if any differ, they were measured
    again, and each mean counts as often as it was measured.
    """
    keys = map_.rows()
    keys = keys.reshape(map_.n, -1)
    order, starts = _sorted_groups(keys)
    counts = np.diff(np.append(starts, map_.n))
    members = np.split(order, starts[1:])
    weights = np.ones(map_.n) if weights is None else weights
    if counts.max(initial=1) == 1:
        return Problem(map_, values, weights), [np.array([i]) for i in range(map_.n)]
    means = np.add.reduceat(values[order], starts) / counts
    spread = np.abs(values[order] - np.repeat(means, counts))
    copies = not np.any(spread > 1e-12 * np.abs(values).max(initial=0.0))
    merged, weights = map_.take(order[starts]), np.add.reduceat(weights[order], starts) / counts
    if copies:
        return Problem(merged, means, weights), members
    within = weights * np.add.reduceat(spread**2, starts)
    return Problem(merged, means, weights * counts, within=within, counts=counts.astype(float)), members


def _sorted_groups(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An order of the rows in which equal ones are adjacent, the earliest first, and where each set starts."""
    probe = np.cos(1.0 + np.arange(keys.shape[1]) ** 1.1)
    mark = np.einsum("ij,j->i", keys, probe)
    mark = np.stack([mark.real, mark.imag], 1) if np.iscomplexobj(mark) else mark[:, None]
    rough = np.round(mark / max(float(np.abs(mark).max(initial=0.0)), 1e-300), 9)
    _, label = np.unique(rough, axis=0, return_inverse=True)
    label = label.reshape(-1)
    order = np.argsort(label, kind="stable")
    same = np.zeros(keys.shape[0], bool)
    alike = np.flatnonzero(label[order][1:] == label[order][:-1])
    same[alike + 1] = [bool(np.array_equal(keys[order[i]], keys[order[i + 1]])) for i in alike]
    return order, np.flatnonzero(~same)


def _answer(problem: Problem, seed: int, rank: int | None, max_rank: int | None, exact: float, cross: bool) -> Solution:
    """The Solution of one problem: path, choice of the rank, and final fit."""
    most = problem.map.largest_rank()
    top = rank if rank is not None else min(most, max_rank) if max_rank is not None else most
    path = search(problem, np.random.default_rng(seed), exact=exact, most=top, judge=rank is None)
    if rank is not None:
        fit, by = _at_rank(problem, path, rank, exact), "given"
    elif not path.steps:
        fit, by = path.fits[0], "edge"
    else:
        fit, by = choose(problem, path, seed=seed, exact=exact, cross=cross)
    free = by not in ("exact", "given")
    state = fit.state if free and far_beyond(problem, fit.state) else _last(problem, fit.state)
    while free and far_beyond(problem, state):  # fewer columns, until no entry lies far beyond the values
        state = _at_rank(problem, path, state.sizes.size - 1, exact).state
        state = state if far_beyond(problem, state) else _last(problem, state)
    if free:  # a fit may have more columns than X needs, the others 0
        state = truncated(state, int(np.sum(state.sizes > TINY * state.sizes.max(initial=0.0))))
    found = _solution(problem, state, by, path, seed)
    bound = free and max_rank is not None and found.rank == max_rank < most and not noise_left(found)
    return replace(found, chosen_by="bounded") if bound else found


def noise_left(found: Solution) -> bool:
    """Whether the residual of the values that the solution used looks like noise."""
    return judged(found.problem, replace(found.fit), np.random.default_rng(found.seed)).noise_left


def _last(problem: Problem, state: State) -> State:
    """The state after descent to convergence."""
    return descend(problem, state, steps=40, tolerance=1e-12, least=1e-7)


def _solution(problem: Problem, state: State, by: str, path: Path, seed: int) -> Solution:
    if problem.map.shifts and state.sizes.size:
        state = State((state.factors[0] - state.factors[0].mean(0),), state.sizes, state.damping)
    rank = state.sizes.size
    residual = problem.residual(state.factors)
    within, repeats = problem.repeats
    freedom = problem.map.n + repeats - problem.map.unknowns(rank)
    squares = float(problem.weights @ residual**2) + within
    if problem.robust:
        noise = scale(residual * np.sqrt(problem.weights))
    else:
        noise = np.sqrt(squares / freedom) if freedom > (SPENT if by == "full" else 0) else np.nan
    fit = Fit(state, problem.misfit(state.factors))
    root = float(np.sqrt(squares / problem.total))
    return Solution(state.factors, rank, by, float(noise), root, np.zeros(0, int), problem, path, fit, seed)


def _at_rank(problem: Problem, path: Path, rank: int, exact: float) -> Fit:
    """The fit at ``rank``: from the path, else from a wider fit less columns, else from the widest plus columns."""
    if rank in path.fits:
        return path.fits[rank]
    more = [each for each in path.fits if each > rank]
    fit = path.fits[min(more)] if more else path.fits[max(path.fits)]
    while fit.state.sizes.size > rank:
        fit = one_fewer(problem, fit, exact)
    while fit.state.sizes.size < rank:
        fit = one_more(problem, fit, exact)
    return fit


def _suspicious(problem: Problem, found: Solution) -> bool:
    """Whether some residuals are outliers; at rank 0 or for dense matrices, also if some values are."""
    far = (not found.rank or isinstance(problem.map, Dense)) and far_values(problem.values)
    return far or bool(found.rank and np.any(wild(problem, found.factors)))


def _without_wild(
    problem: Problem, found: Solution, answer: Callable[[Problem], Solution]
) -> tuple[np.ndarray, Solution | None]:
    """The indices kept, and the solution without its outliers, solved again until these settle; None if too many."""
    kept, again = None, np.arange(problem.map.n)
    if not found.rank:
        return again, None
    for _ in range(4):
        again = np.flatnonzero(~wild(problem, found.factors, kept))
        if again.size < max((1 - MOST_WILD) * problem.map.n, problem.map.unknowns(max(found.rank, 1)) + 1):
            return again, None
        if kept is not None and np.array_equal(again, kept):
            break
        kept = again
        found = answer(problem.take(kept))
        if not found.rank:
            return kept, None
    return again, found


def _explains_better(problem: Problem, found: Solution, cleaned: Solution, kept: np.ndarray) -> bool:
    """Whether ``cleaned`` explains the values ``kept`` better than ``found``, or as well with far fewer unknowns.

    At the same rank it counts as better if some values are outliers of ``found``, the solution for all. An exact
    solution is replaced only by an exact one with fewer columns.
    """
    more, fewer = (problem.map.unknowns(each.rank) for each in (found, cleaned))
    if "exact" in (found.chosen_by, cleaned.chosen_by):
        saved = cleaned.rank > 0 and SAVED * (problem.map.n - kept.size) < more - fewer
        return cleaned.chosen_by == "exact" and (found.chosen_by != "exact" or saved)
    if _lacks_more(found, cleaned):
        return False
    if cleaned.rank == found.rank and _suspicious(problem, found):
        return True
    before, after = problem.residual(found.factors), problem.residual(cleaned.factors)
    if scale(after[kept]) < CLEANER * scale(before):
        return True
    return cleaned.rank > 0 and simpler(before[kept], after[kept], more, fewer, problem.map.n - kept.size)


def _lacks_more(found: Solution, other: Solution) -> bool:
    """Whether repeats among the values that ``other`` keeps show a lack of fit in ``other``, but not in ``found``."""
    part = other.problem
    here = Fit(found.fit.state, part.misfit(found.factors))
    return lacking(part, other.fit) and not lacking(part, here)


def simpler(before: np.ndarray, after: np.ndarray, more: int, fewer: int, left_out: int) -> bool:
    """Whether it is simpler to leave values out than to explain them.

    ``before`` and ``after`` are the residuals of the values kept, with ``more`` and with ``fewer`` unknowns. It is
    simpler if these are explained as well and over SAVED unknowns are saved per value ``left_out``; or, with equally
    many unknowns, if the sum of squares falls by more per value left out than noise explains.
    """
    was, is_now = float(np.sum(before**2)), float(np.sum(after**2))
    noise = is_now / max(after.size - fewer, 1)
    if more == fewer:
        return was - is_now > SINGLE * left_out * noise
    return noise < AS_WELL**2 * was / max(before.size - more, 1) and SAVED * left_out < more - fewer
