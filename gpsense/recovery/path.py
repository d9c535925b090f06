"""The path of falling penalties: columns enter, shrink under the smoothed group lasso's weights, and are pruned.

The greedy pruning of arXiv 2303.11453 in second-order form, derived here: at each penalty ``lambda`` the weight of
column c, of size ``s_c``, is that of the smoothed group lasso, ``lambda / sqrt(1 + s_c / beta)``; ``beta = lambda / p``
with the ``gain`` p of the problem. Columns of size at most ``beta / 100`` are deleted. The columns larger than
``2 beta`` are then fitted without a penalty.
"""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.special import fdtrc

from gpsense.recovery.maps import Distances
from gpsense.recovery.progress import tell
from gpsense.recovery.relocate import put_back, relocated, suspects, without_point
from gpsense.recovery.steps import (
    Problem,
    State,
    balanced,
    descend,
    empty,
    grown,
    joined,
    largest,
    leading,
    scale,
    truncated,
)

SHRINK = 0.7
MOST = 64  # penalties of a path
HOLD = 0.3  # weight of the penalty in robust fits, over the largest that noise gives
ROUNDS = 6  # of moving misplaced points, where the relative misfit is below NEAR
NEAR = 0.2
MUCH = 0.5  # ratio of misfits below which a fit is far better
FLIPS = 12  # draws of random signs of the residual for its edge
EDGE = 3.0  # standard deviations of the edge above the mean of these draws
ENOUGH = 3.0  # measurements over unknowns from which a fit hardly depends on where it starts
DEPENDS = 4.0  # the same for fits of maps other than single entries, next to which a random start is tried
GAPLESS = 1.7  # measurements over unknowns from which a spectrum can be seen to have no gap
AMPLE = 2.0  # the same, below which the path goes on, in search of an exact fit
CLEAR = 1.3  # measurements over the unknowns of one more column from which a rank can be settled on the path
BEYOND = 3  # columns beyond a settled rank up to which an exact fit is sought
CHEAP = 20_000  # measurements times unknowns up to which these are tried in any case
LACK = 1e-6  # level of the F test for lack of fit
DOUBT = 3.2  # fall() of the sum of squares by one more column that is more than noise gives


class Step(NamedTuple):
    """A penalty of the path, its smoothing, the rank after pruning, and all columns' sizes."""

    penalty: float
    smoothing: float
    rank: int
    sizes: np.ndarray


@dataclass
class Fit:
    """An unpenalised fit: the state, its relative misfit, and how its residual compares with noise.

    ``left`` is the largest eigenvalue (singular value) of the back-projected residual, ``edge`` a bound for it if
    the residual is noise of independent signs. ``lacking``: the residual far exceeds the spread of repeated values.
    """

    state: State
    misfit: float
    left: float = np.nan
    edge: float = np.nan
    lacking: bool = False

    @property
    def noise_left(self) -> bool:
        """Whether the residual looks like noise."""
        return bool(self.left <= self.edge) and not self.lacking


@dataclass
class Path:
    """What the search tried: the penalties, the best fit of each rank, and the rank that the path supports, if any.

    ``exact``: the rank that explains the values to rounding. ``settled``: the smallest rank whose residual is like
    noise and where one more column explains no more than noise would. ``gapless``: a rank beyond which columns explain
    no more than noise would, whatever its residual. ``tried``: the ranks at which one more column was tried.
    """

    steps: list[Step] = field(default_factory=list)
    fits: dict[int, Fit] = field(default_factory=dict)
    exact: int | None = None
    settled: int | None = None
    gapless: int | None = None
    tried: set[int] = field(default_factory=set)


def search(
    problem: Problem,
    rng: np.random.Generator,
    *,
    exact: float,
    most: int,
    judge: bool = True,
    floor: float = 0.0,
) -> Path:
    """The path, walked until the values are explained to ``exact``, a rank is settled, or there are ``most`` columns.

    Without ``judge`` (as for a part of the data, tested on the others) no rank is settled; the path then ends at the
    penalty ``floor``.
    """
    path = Path()
    state = empty(problem)
    gain = problem.gain
    residual = problem.residual(state.factors)
    path.fits[0] = judged(problem, Fit(state, 1.0), rng) if judge else Fit(state, 1.0)
    penalty = float(leading(problem, residual, 1)[0][0])
    if not penalty > 0 or not _room(problem, 1, most):
        return path
    for _ in range(MOST):
        penalty *= SHRINK
        smoothing = penalty / gain
        state = grown(problem, state, penalty, most + 2, 2)
        for _ in range(2):
            weights = penalty / np.sqrt(1.0 + state.sizes / smoothing)
            state = descend(problem, state, weights, steps=1)
        state = truncated(state, int(np.sum(state.sizes > 0.01 * smoothing)))
        rank = int(np.sum(state.sizes > 2 * smoothing))
        path.steps.append(Step(penalty, smoothing, rank, state.sizes.copy()))
        tell(f"rank {rank}, step {len(path.steps)} of the path of penalties")
        if penalty < floor or (rank and not _room(problem, rank, most)):
            break
        if rank and (rank not in path.fits or not _plenty(problem, rank)):
            _keep(problem, path, rank, fitted(problem, truncated(state, rank), exact), exact, rng if judge else None)
        if path.exact is not None or (judge and path.settled is None and _gapless(problem, path, most)):
            break
        if judge and _settle(problem, path, exact, most, rng):
            break
    return path


def fitted(problem: Problem, state: State, exact: float) -> Fit:
    """The fit without a penalty from this state: a dozen steps and, where it seems exact, up to 30 more.

    For a robust problem a small penalty is kept (:func:`_held`). Misplaced points of a fit to distances are moved, as
    long as that helps.
    """
    fit = _descended(problem, state, exact)
    if isinstance(problem.map, Distances):
        rng = np.random.default_rng(0)
        for _ in range(ROUNDS):
            moved = relocated(problem, fit.state, rng) if exact < fit.misfit < NEAR else None
            if moved is None:
                break
            again = _descended(problem, moved, exact)
            if not again.misfit < 0.999 * fit.misfit:
                break
            fit = again
        while exact < fit.misfit < NEAR and (better := _put_back(problem, fit, exact, rng)):
            fit = better
    return fit


def _put_back(problem: Problem, fit: Fit, exact: float, rng: np.random.Generator) -> Fit | None:
    """A far better fit, found by leaving out a point, fitting the others and putting it back; None if there is none.

    A few misplaced points pull many others slightly out of place, so that moving one of them alone is no better.
    """
    for point in suspects(problem, fit.state):
        without = _descended(without_point(problem, point), fit.state, exact)
        if without.misfit < MUCH * fit.misfit:
            again = _descended(problem, put_back(problem, without.state, point, rng), exact)
            moved = relocated(problem, again.state, rng) if again.misfit > exact else None
            again = _descended(problem, moved, exact) if moved else again
            if again.misfit < MUCH * fit.misfit:
                return again
    return None


def _descended(problem: Problem, state: State, exact: float) -> Fit:
    if problem.robust:
        return _held(problem, state)
    state = descend(problem, state, steps=12, tolerance=1e-4, least=1e-3)
    misfit = problem.misfit(state.factors)
    if exact < misfit < 1e-3:
        state = descend(problem, state, steps=30, tolerance=1e-13, least=1e-2)
        misfit = problem.misfit(state.factors)
    return Fit(state, misfit)


def _held(problem: Problem, state: State) -> Fit:
    """A robust fit with a small penalty, below the noise level, so that it fits no outlier in a row of few values.

    The weight is ``HOLD sigma sqrt(p d)`` with sigma from the median residual, p the gain and d the larger side.
    """
    for _ in range(6):
        residual = problem.residual(state.factors)
        weight = HOLD * scale(residual * np.sqrt(problem.weights)) * np.sqrt(problem.gain * max(problem.map.sides))
        state = descend(problem, state, np.full(state.sizes.size, weight), steps=4, tolerance=1e-6)
    return Fit(state, problem.misfit(state.factors))


def one_more(problem: Problem, fit: Fit, exact: float) -> Fit:
    """The fit with one more column, started from the leading vectors of its back-projected residual."""
    values, vectors = leading(problem, problem.residual(fit.state.factors), 1)
    size = max(float(values[0]), 0.0) / problem.gain
    wider = joined(fit.state, vectors, np.array([size]))
    for _ in range(8):
        if problem.misfit(wider.factors) < fit.misfit:
            break
        size /= 4.0
        wider = joined(fit.state, vectors, np.array([size]))
    return fitted(problem, wider, exact)


def one_fewer(problem: Problem, fit: Fit, exact: float) -> Fit:
    """The fit without its smallest column, refitted."""
    return fitted(problem, truncated(fit.state, fit.state.sizes.size - 1), exact)


def fall(problem: Problem, path: Path, rank: int, to: int | None = None) -> float:
    """Drop of the sum of squares from ``rank`` to ``to`` (None: rank + 1), per added unknown, over the noise variance.

    Noise gives 1 on average, and 2 or 3 in the best of many directions.
    """
    return fallen(problem, path.fits[rank], path.fits[rank + 1 if to is None else to])


def fallen(problem: Problem, fit: Fit, wider: Fit) -> float:
    """As :func:`fall`, between two fits, the second with more columns."""
    less, more = (problem.map.unknowns(each.state.sizes.size) for each in (fit, wider))
    now, then = fit.misfit**2, wider.misfit**2
    taken = max(now - then, 0.0) / (more - less)
    return taken * (problem.map.n - more) / then if then > 0 else np.inf


def _keep(problem: Problem, path: Path, rank: int, fit: Fit, exact: float, rng: np.random.Generator | None) -> bool:
    """Stores the fit if it is the best of its rank, and returns whether it was."""
    known = path.fits.get(rank)
    if known is not None and not fit.misfit < 0.999 * known.misfit:
        return False
    path.fits[rank] = fit
    if fit.misfit < exact:
        path.exact = _smallest(problem, path, rank, exact)
    elif rng is not None:
        judged(problem, fit, rng)
    return True


def _settle(problem: Problem, path: Path, exact: float, most: int, rng: np.random.Generator) -> bool:
    """Settles a rank whose residual looks like noise, if one more column explains no more than noise would.

    The column is tried, and removed again, which may give a better fit of the rank than the path did. Returns whether
    the path can end.
    """
    for rank in sorted(path.fits):
        if not path.fits[rank].noise_left or problem.map.n < CLEAR * problem.map.unknowns(rank + 1):
            continue
        if rank not in path.tried and _room(problem, rank + 1, most):
            path.tried.add(rank)
            _detour(problem, path, rank, exact, most, rng)
            if path.exact is not None:
                return True
        wider = [more for more in path.fits if rank < more <= rank + BEYOND]
        if path.fits[rank].noise_left and all(fall(problem, path, rank, more) <= DOUBT for more in wider):
            path.settled = rank
            enough = problem.map.n >= AMPLE * problem.map.unknowns(rank + 1) and not _cheap(problem, rank)
            return enough or max(path.fits) > rank + BEYOND
    path.settled = None
    return False


def _detour(problem: Problem, path: Path, rank: int, exact: float, most: int, rng: np.random.Generator) -> None:
    """Adds two columns to the fit at ``rank``, and removes them again as long as each explains more than noise.

    Points on a line, for example, cannot pass each other; in a plane or in space they can. For maps other than single
    entries the second column comes with a fit from a random start: at a local minimum the residual is large, and its
    leading vectors do not stand out from it.
    """
    climbed = rank
    fit = path.fits[rank]
    few = problem.map.n < DEPENDS * problem.map.unknowns(rank + 1)
    while climbed < rank + (2 if problem.map.sparse or few else 1) and _room(problem, climbed + 1, most):
        climbed += 1
        afresh = not problem.map.sparse and climbed == rank + 2
        fit = (
            fitted(problem, _scattered(problem, fit, climbed, rng), exact) if afresh else one_more(problem, fit, exact)
        )
        if not _keep(problem, path, climbed, fit, exact, rng):
            fit = path.fits[climbed]
        if path.exact is not None:
            return
    while climbed > max(rank, 1) and fall(problem, path, climbed - 1) > DOUBT:
        climbed -= 1
        if not _keep(problem, path, climbed, one_fewer(problem, path.fits[climbed + 1], exact), exact, rng):
            return
        if path.exact is not None:
            return


def _scattered(problem: Problem, fit: Fit, rank: int, rng: np.random.Generator) -> State:
    """A random state with ``rank`` columns, of the total size of ``fit``."""
    size = float(np.sum(fit.state.sizes))
    factors = tuple(rng.standard_normal((side, rank)) for side in problem.map.sides[: len(fit.state.factors)])
    if problem.map.complex:
        factors = tuple(one + 1j * rng.standard_normal(one.shape) for one in factors)
    return balanced(tuple(one * np.sqrt(size / np.sum(np.abs(one) ** 2)) for one in factors), 1.0)


def _gapless(problem: Problem, path: Path, most: int) -> bool:
    """Whether the last two increases of the rank explained no more than noise would, whatever the residual.

    Always False for distances: until the map of points unfolds, every rank explains little.
    """
    ranks = sorted(path.fits)[-3:]
    if (
        isinstance(problem.map, Distances)
        or len(ranks) < 3
        or problem.map.n < GAPLESS * problem.map.unknowns(ranks[-1])
    ):
        return False
    if _cheap(problem, ranks[0]) and _room(problem, ranks[-1] + 1, most) and ranks[-1] <= ranks[0] + BEYOND:
        return False
    if any(fall(problem, path, one, other) > DOUBT for one, other in pairwise(ranks)):
        return False
    path.gapless = ranks[0]
    return True


def _room(problem: Problem, rank: int, most: int) -> bool:
    """Whether this rank is at most ``most`` and has fewer unknowns than there are measurements."""
    return rank <= most and problem.map.unknowns(rank) < problem.map.n


def _cheap(problem: Problem, rank: int) -> bool:
    """Whether BEYOND columns more are tried whatever the fit at ``rank``: equal eigenvalues can each explain little."""
    return problem.map.n * problem.map.unknowns(rank + BEYOND) < CHEAP


def _plenty(problem: Problem, rank: int) -> bool:
    """Whether the measurements are so many that a fit of this rank does not depend on where it starts."""
    return problem.map.n > ENOUGH * problem.map.unknowns(rank)


def judged(problem: Problem, fit: Fit, rng: np.random.Generator) -> Fit:
    """The fit, with ``left``, ``edge`` and ``lacking`` set from its residual and copies of it with random signs."""
    residual = problem.residual(fit.state.factors)
    bound = problem.bound(residual)
    residual = np.clip(residual, -bound, bound) / np.where(problem.squares > 0, problem.squares, np.inf)
    flips = residual * (rng.integers(0, 2, (FLIPS, residual.size)) * 2.0 - 1.0)
    visible = problem.map.visible(flips.T).T  # scaled up below: the residual is all visible, flipped ones only in part
    left, *flipped = largest(problem, np.concatenate([residual[None], flips]))
    fit.left = float(left)
    flipped = np.array(flipped) * np.linalg.norm(flips, axis=1) / np.maximum(np.linalg.norm(visible, axis=1), 1e-300)
    fit.edge = float(flipped.mean() + EDGE * flipped.std(ddof=1))
    fit.lacking = lacking(problem, fit)
    return fit


def lacking(problem: Problem, fit: Fit) -> bool:
    """Whether the residual variance exceeds that of repeated values about their means by more than chance allows.

    The F test for lack of fit at the level LACK; False for robust problems and without repeats.
    """
    within, repeats = problem.repeats
    freedom = problem.map.n - problem.map.unknowns(fit.state.sizes.size)
    if problem.robust or not within > 0 or freedom <= 0:
        return False
    left = fit.misfit**2 * float(problem.weights @ problem.values**2) / freedom
    return bool(fdtrc(freedom, repeats, left / (within / repeats)) < LACK)


def _smallest(problem: Problem, path: Path, rank: int, exact: float) -> int:
    """The smallest rank that still explains the values to ``exact``; the path may have more columns than needed."""
    while rank > 1:
        fit = one_fewer(problem, path.fits[rank], exact)
        if not fit.misfit < exact:
            break
        rank -= 1
        path.fits[rank] = fit
    return rank
