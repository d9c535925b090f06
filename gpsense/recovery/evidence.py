"""What the data say: which rank, how accurate the answer is, and what cannot be determined."""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import scipy.linalg
import scipy.sparse as sp

from gpsense.recovery.maps import Distances, Factors, LessOffsets, Map, Table, numbers
from gpsense.recovery.outliers import WILD
from gpsense.recovery.path import DOUBT, Fit, Path, fall, fallen, fitted, judged, search
from gpsense.recovery.progress import tell, within
from gpsense.recovery.rigidity import behind
from gpsense.recovery.steps import Problem, State, descend, gram, own_blocks, scaled_rows, slopes, truncated

TIGHT = 1.5  # measurements over unknowns below which held-out errors are unreliable
SURE = 30.0  # fall() of the sum of squares that noise cannot explain; noise gives 2 or 3
ROUNDS, LONG, IMPROVED = 8, 50, 0.95  # continued fits: most rounds, steps of each, ratio of misfits that ends them
HARDLY, FAR = 0.1, 10 * SURE  # share that steps take off the objective, and fall(), at which a fit is given up
JACOBIAN = 3000  # unknowns up to which the covariance is formed
SIDES = ("row", "column")
Names = tuple[np.ndarray | None, np.ndarray | None]  # of rows and of columns
SCATTERED = 0.9  # share of a range of whole numbers used as names, from which the others count as missing
NULL = 1e-7  # singular value of the Jacobian, relative to the largest, that counts as zero


class Choice(NamedTuple):
    """The chosen fit, and how its rank was chosen: "exact" (no residual), "edge" (residual like noise), "held out"."""

    fit: Fit
    by: str


def choose(problem: Problem, path: Path, *, seed: int, exact: float, cross: bool = True) -> Choice:
    """The fit at ``path.exact``, else at ``path.settled`` or a smaller rank that does, else at least held-out error.

    Where there are hardly more measurements than unknowns, cross-validation does not lower the rank below the smallest
    whose residual looks like noise. Without ``cross`` the smallest rank is taken whose residual looks like noise or
    beyond which columns explain no more than noise would, else the largest tried. Columns far stronger than noise are
    always kept.
    """
    if path.exact is not None:
        return Choice(path.fits[path.exact], "exact")
    if path.settled is not None:
        fit = _settled(problem, path, path.settled, seed, exact)
        return Choice(fit, "exact" if fit.misfit < exact else "edge")
    quiet = [rank for rank, fit in path.fits.items() if fit.noise_left]
    if not cross or not split(problem.map, 10, seed):  # nothing can be held out without emptying a row
        likely = [path.gapless] if path.gapless is not None else quiet + _level(problem, path)
        rank = max(min(likely, default=max(path.fits)), _sure(problem, path))
        return Choice(path.fits[rank], "edge")
    floor = path.steps[-1].penalty if path.steps else 0.0
    enough = [rank for rank in quiet if rank + 1 in path.fits and fall(problem, path, rank) <= DOUBT]
    enough += [path.gapless] if path.gapless is not None else []
    most = min(enough, default=max(path.fits) - 1) + 1
    errors = cross_validated(problem, seed=seed, exact=exact, most=most, floor=floor)
    best = max(_best(problem, errors), _sure(problem, path))
    first = min(quiet, default=0)
    if problem.map.n < TIGHT * problem.map.unknowns(max(first, 1)):
        best = max(best, first)
    while best not in path.fits:
        best -= 1
    return Choice(path.fits[best], "held out")


def _level(problem: Problem, path: Path) -> list[int]:
    """The ranks beyond which the next one tried lowers the sum of squares by no more than noise would."""
    tried = [rank for rank in sorted(path.fits) if problem.map.unknowns(rank) < problem.map.n]
    return [rank for rank, more in pairwise(tried) if fall(problem, path, rank, more) <= DOUBT]


def _best(problem: Problem, errors: dict[int, np.ndarray]) -> int:
    """The rank of least held-out error; with few data, the smallest that is worse by at most one standard error.

    That is the standard error of the paired difference. With hardly more values than unknowns of the best rank,
    predictions are unreliable, and that rank may be best by chance.
    """
    best = min(errors, key=lambda each: float(errors[each].sum()))
    if problem.map.n > TIGHT * problem.map.unknowns(best):
        return best
    for rank in range(best):
        excess = errors[rank] - errors[best]
        if excess.mean() <= excess.std(ddof=1) / np.sqrt(excess.size):
            return rank
    return best


def _sure(problem: Problem, path: Path) -> int:
    """A lower bound on the rank: the largest whose last column explains far more than noise could; 0 if none does."""
    free = lambda rank: problem.map.n - problem.map.unknowns(rank) >= 0.5 * problem.map.unknowns(rank)  # noqa: E731
    ranks = [rank for rank in path.fits if rank and rank - 1 in path.fits and free(rank)]
    return max((rank for rank in ranks if fall(problem, path, rank - 1) > SURE), default=0)


def _settled(problem: Problem, path: Path, rank: int, seed: int, exact: float) -> Fit:
    """The fit of the smallest settled rank up to ``rank``: the path may have skipped it, or found a poor fit of it.

    A fit to distances converges slowly, and better from one with an extra dimension: it is continued for as long as it
    improves, before it is compared with noise and before a column is removed.
    """
    rng = np.random.default_rng(seed)
    slow = isinstance(problem.map, Distances)
    if slow:
        path.fits[rank] = judged(problem, _followed(problem, path.fits[rank], exact), rng)
    while rank > 1:
        fewer, known = truncated(path.fits[rank].state, rank - 1), path.fits.get(rank - 1)
        if known is None or slow or problem.misfit(fewer.factors) < known.misfit:
            fit = _fewer(problem, path, fewer, exact, slow)
            if known is None or fit.misfit < known.misfit:
                path.fits[rank - 1] = judged(problem, fit, rng)
        below = path.fits[rank - 1]
        if below.misfit > exact and not (below.noise_left and fall(problem, path, rank - 1) <= DOUBT):
            break
        rank -= 1
    return path.fits[rank]


def _fewer(problem: Problem, path: Path, state: State, exact: float, slow: bool) -> Fit:
    """The fit from ``state``, a known fit less one column; given up early if it stays far worse than that fit."""
    if slow:
        return _followed(problem, fitted(problem, state, exact), exact)
    if problem.robust:
        return fitted(problem, state, exact)
    state = descend(problem, state, steps=12, tolerance=1e-4, least=HARDLY)
    fit = Fit(state, problem.misfit(state.factors))
    wider = path.fits[state.sizes.size + 1]
    return fit if fallen(problem, fit, wider) > FAR else fitted(problem, state, exact)


def _followed(problem: Problem, fit: Fit, exact: float) -> Fit:
    """The fit, continued until many steps hardly improve it."""
    for _ in range(ROUNDS):
        if fit.misfit < exact:
            break
        state = descend(problem, fit.state, steps=LONG, tolerance=1e-12, least=1e-5)
        further = Fit(state, problem.misfit(state.factors))
        if further.misfit > IMPROVED * fit.misfit:
            return further
        fit = further
    return fit


def cross_validated(problem: Problem, *, seed: int, exact: float, most: int, floor: float) -> dict[int, np.ndarray]:
    """Squared errors of held-out values for each rank; for every fold the path is searched anew on the other folds."""
    n = problem.map.n
    work = float(n) * problem.map.unknowns(max(most, 1)) ** 2
    folds = 10 if work < 1e8 else 5 if work < 1e9 else 2
    found: dict[int, list[np.ndarray]] = {rank: [] for rank in range(most + 1)}
    parts = split(problem.map, max(folds, 10), seed)[:folds]
    for number, fold in enumerate(parts, 1):
        kept = np.setdiff1d(np.arange(n), fold)
        rng = np.random.default_rng(seed)
        with within(f"held-out part {number} of {len(parts)}"):
            path = search(problem.take(kept), rng, exact=exact, most=most, judge=False, floor=floor)
        test = problem.take(fold)
        for rank, errors in found.items():
            fit = path.fits.get(rank) or path.fits[max(each for each in path.fits if each <= rank)]
            residual = test.residual(fit.state.factors)
            residual = residual * np.sqrt(test.weights)
            bound = WILD * np.median(np.abs(residual)) if problem.robust else np.inf
            errors.append(np.clip(residual, -bound, bound) ** 2)
    return {rank: np.concatenate(errors) for rank, errors in found.items()}


def split(map_: Map, folds: int, seed: int) -> list[np.ndarray]:
    """Disjoint sets of measurements to hold out; a set of entries takes at most about a third of any row or column."""
    order = np.random.default_rng(seed).permutation(map_.n)
    parts = np.array_split(order, min(folds, map_.n))
    if not map_.sparse:
        return [np.sort(part) for part in parts]
    map_ = map_.table if isinstance(map_, LessOffsets) else map_
    one, two = map_.first, map_.second  # pyright: ignore[reportAttributeAccessIssue]
    two = two + map_.sides[0] if isinstance(map_, Table) else two
    degrees = np.bincount(np.concatenate([one, two]))
    kept = []
    for part in parts:
        room = np.floor(0.34 * degrees).astype(int)
        held = []
        for i in part:
            a, b = one[i], two[i]
            if room[a] > 0 and room[b] > 0:
                room[a] -= 1
                room[b] -= 1
                held.append(i)
        kept.append(np.sort(np.array(held, int)))
    return [part for part in kept if part.size]


class Determined(NamedTuple):
    """How many (``independent``) of the ``unknowns`` the measurements determine, and in ``words`` what they leave open.

    ``rows`` and ``columns`` are the indices of rows and columns whose entries are mostly open; ``mask`` (rows, columns)
    marks the open entries. Without a mask, as for large tables, an entry is open if its row or column is.
    """

    independent: int
    unknowns: int
    words: tuple[str, ...]
    rows: np.ndarray
    columns: np.ndarray
    mask: np.ndarray | None = None

    def open(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Whether the measurements leave these entries open, shape (m,)."""
        if self.mask is not None:
            return self.mask[rows, columns]
        return np.isin(rows, self.rows) | np.isin(columns, self.columns)


def determined(
    problem: Problem, factors: Factors, *, names: Names = (None, None), nothing: bool = False, some: bool = False
) -> Determined:
    """What the measurements leave open at this X: rows never measured, unconnected parts, directions they do not see.

    ``names`` of rows and columns replace their numbers in the words. ``nothing``: X is zero because no column stands
    out from the noise. ``some``: other measurements were left out as outliers.
    """
    map_, rank = problem.map, factors[0].shape[1]
    unknowns = map_.unknowns(rank)
    mirrored = _mirrored(map_, rank)
    what = "measurement that was kept" if some else "measurement"
    words = [*_unmeasured(map_, names, what), *_parts(map_), *_mirrors(mirrored, rank, names[0])]
    all_rows, all_columns = (np.arange(side) for side in map_.sides)
    if map_.n < map_.unknowns(max(rank, 1)):
        words.append(_counted(map_.n, map_.unknowns(max(rank, 1))))
    elif nothing:
        words.append(f"all of X: {map_.n} measurements that cannot be told from noise")
    if nothing or map_.n < map_.unknowns(max(rank, 1)):
        return Determined(min(map_.n, unknowns), unknowns, tuple(words), all_rows, all_columns)
    if rank and sum(one.shape[0] for one in factors) * rank <= JACOBIAN:
        seen, open_directions = _directions(problem, factors)
        mask = _touched(map_, factors, open_directions)
        if isinstance(map_, Distances) and seen == unknowns:
            hidden = np.setdiff1d(behind(map_.first, map_.second, map_.dim, rank), mirrored)
            words += _hidden(hidden, rank, names[0])
            mirrored = np.union1d(mirrored, hidden)
        mask[mirrored] = mask[:, mirrored] = True
        if seen < unknowns:
            words += [f"only {seen} of {unknowns} unknowns are determined", *_thin(map_, rank, names)[0]]
        rows, columns = (np.flatnonzero(mask.mean(axis=axis) > 0.5) for axis in (1, 0))
        return Determined(min(seen, unknowns), unknowns, tuple(words), rows, columns, mask)
    told, rows, columns = _thin(map_, rank, names)
    rows, columns = (np.union1d(index, mirrored) for index in (rows, columns))
    return Determined(min(unknowns, map_.n), unknowns, (*words, *told), rows, columns)


def _thin(map_: Map, rank: int, names: Names) -> tuple[list[str], np.ndarray, np.ndarray]:
    """In words and as indices, a table's rows and columns measured less often than the rank.

    For other maps, and at rank 0, no words and the indices of unmeasured rows and columns.
    """
    if not isinstance(map_, Table) or not rank:
        return [], *_empty(map_)
    rows, columns = (
        np.flatnonzero(np.bincount(index, minlength=side) < rank)
        for index, side in zip((map_.first, map_.second), map_.sides, strict=True)
    )
    told = [
        f"{few.size} {side}{'s' * (few.size > 1)} with fewer than {rank} measurements: {_some(few, known)}"
        for side, few, known in zip(SIDES, (rows, columns), names, strict=True)
        if few.size
    ]
    return told, rows, columns


def _counted(measurements: int, unknowns: int) -> str:
    return f"{measurements} independent measurement{'s' * (measurements != 1)} for {unknowns} unknowns"


def _some(index: np.ndarray, names: np.ndarray | None = None) -> str:
    shown = ", ".join(map(str, (index if names is None else names[index])[:6]))
    return shown + (f" and {index.size - 6} more" if index.size > 6 else "")


def _empty(map_: Map) -> tuple[np.ndarray, np.ndarray]:
    seen = map_.seen()
    along = lambda axis: np.flatnonzero(np.asarray(seen.sum(axis=axis)).ravel() == 0)  # noqa: E731
    return along(1), along(0)


def _unmeasured(map_: Map, names: Names, what: str) -> list[str]:
    """Words for rows and columns in no measurement, including numbers missing among whole-number names."""
    found = []
    rows, columns = _empty(map_)
    sides = list(zip(SIDES, (rows, columns), names, strict=True))
    for side, index, known in sides[: 1 if map_.semidefinite else 2]:
        index = index if known is None else np.concatenate([known[index], _missing(known)])
        if index.size == 1:
            found.append(f"{side} {index[0]} is in no {what}")
        elif index.size:
            found.append(f"{index.size} {side}s are in no {what}: {_some(index)}")
    return found


def _missing(names: np.ndarray) -> np.ndarray:
    """Whole numbers missing between the least and largest of ``names``, if these fill nearly all of that range."""
    if names.dtype.kind not in "iuf":
        return names[:0]
    least, largest = names.min(), names.max()
    if largest - least > names.size / SCATTERED or not np.array_equal(names, np.round(names)):
        return np.zeros(0, int)
    return np.setdiff1d(np.arange(int(least), int(largest) + 1), names)


def _parts(map_: Map) -> list[str]:
    """Words for the number of parts that no measurement connects, if several; unmeasured rows do not count."""
    seen = map_.seen()
    graph = seen if map_.semidefinite else sp.bmat([[None, seen], [seen.T, None]])
    measured = np.flatnonzero(np.asarray(graph.sum(axis=1)).ravel() + np.asarray(graph.sum(axis=0)).ravel())
    count, _ = sp.csgraph.connected_components(graph.tocsr()[measured][:, measured], directed=False)
    what = "pair" if isinstance(map_, Distances) else "measurement"
    return [f"{count} parts that no {what} connects"] if count > 1 else []


def _mirrored(map_: Map, rank: int) -> np.ndarray:
    """Points with at most as many distances as dimensions: mirrored behind their neighbours, they would fit as well."""
    if not isinstance(map_, Distances) or not rank:
        return np.zeros(0, int)
    degrees = np.bincount(np.concatenate([map_.first, map_.second]), minlength=map_.dim)
    return np.flatnonzero((degrees > 0) & (degrees <= rank))


def _mirrors(few: np.ndarray, rank: int, names: np.ndarray | None) -> list[str]:
    what = f"point{'s' * (few.size > 1)} with at most {rank} distance{'s' * (rank > 1)}, which may be mirrored"
    return [f"{few.size} {what}: {_some(few, names)}"] if few.size else []


def _hidden(points: np.ndarray, rank: int, names: np.ndarray | None) -> list[str]:
    others = f"{rank} other{'s' * (rank > 1)}"
    what = f"point{'s' * (points.size > 1)} connected to the rest through at most {others}"
    return [f"{points.size} {what}, which may be mirrored there: {_some(points, names)}"] if points.size else []


def _directions(problem: Problem, factors: Factors) -> tuple[int, np.ndarray]:
    """Rank of the Jacobian in balanced coordinates, and a basis (numbers, open) of its null space."""
    jacobian = problem.map.jacobian(factors)
    dense = jacobian if isinstance(jacobian, np.ndarray) else jacobian.toarray()
    double = 2 if problem.map.complex else 1
    sizes = np.repeat(np.linalg.norm(factors[0], axis=0), double)
    per_column = np.tile(1.0 / np.maximum(sizes, 1e-300), sum(one.shape[0] for one in factors))
    normal = dense * per_column
    normal /= max(float(np.max(np.abs(normal), initial=0.0)), 1e-300)
    values, vectors = np.linalg.eigh(normal.T @ normal)
    small = values <= max(NULL**2, 1e-13) * values[-1]
    return int(np.sum(~small)), vectors[:, small] * per_column[:, None]


def _touched(map_: Map, factors: Factors, directions: np.ndarray) -> np.ndarray:
    """Boolean mask of the entries of X that change along ``directions``, which no measurement sees."""
    rows, columns = map_.sides
    rank = factors[0].shape[1]
    change = np.zeros((rows, columns))
    for direction in directions.T:
        if map_.semidefinite:
            by = direction.view(factors[0].dtype).reshape(rows, rank)
            moved = by @ factors[0].conj().T
            moved = moved + moved.conj().T
            if map_.shifts:
                moved = moved - moved.mean(0) - moved.mean(1)[:, None] + moved.mean()
        else:
            left, right = direction[: rows * rank].reshape(rows, rank), direction[rows * rank :].reshape(columns, rank)
            moved = left @ factors[1].T + factors[0] @ right.T
        size = np.linalg.norm(direction) * max(np.linalg.norm(one, 2) for one in factors)
        change = np.maximum(change, np.abs(moved) / max(float(size), 1e-300))
    return change > 1e-6


@dataclass(frozen=True)
class Covariance:
    """Covariance of the estimate at a known rank: ``variance (J^T H J)^+`` for the factors, to first order in noise.

    J is the Jacobian, H the diagonal matrix of the weights h, ``whole`` is ``(J^T H J)^+``. For many unknowns ``whole``
    is None, and ``rows`` (rows of all factors, numbers, numbers) is the same for each row with the other rows fixed,
    nearly equal for many measurements. ``sizes`` (rank,) holds the variances of the eigenvalues (singular values) over
    ``variance``: from ``whole``, or ``1 / sum_i h_i A_i(q r^H)^2`` with the unit vectors q, r of each fixed.
    """

    factors: Factors
    variance: float
    whole: np.ndarray | None
    rows: np.ndarray
    sizes: np.ndarray

    def standard_errors(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Standard error of ``X[rows, columns]`` (of its real part), shape (m,)."""
        first, second = self.factors[0], self.factors[-1]
        if not first.shape[1]:
            return np.zeros(rows.size)
        one, two = second[columns].view(np.float64), first[rows].view(np.float64)
        other = columns + (0 if len(self.factors) == 1 else first.shape[0])
        total = self._form(rows, one, rows, one) + self._form(other, two, other, two)
        total = total + 2 * self._form(rows, one, other, two)
        return np.sqrt(np.maximum(self.variance * total, 0.0))

    def size_errors(self) -> np.ndarray:
        """Standard errors of the eigenvalues (singular values) of X, largest first."""
        return np.sqrt(np.maximum(self.variance * self.sizes, 0.0))

    def _form(self, i: np.ndarray, a: np.ndarray, j: np.ndarray, b: np.ndarray) -> np.ndarray:
        """``a^T C_ij b`` for m pairs of rows i, j with covariance ``variance C_ij``; a, b (m, numbers of a row)."""
        if self.whole is None:
            return np.where(i == j, np.einsum("na,nab,nb->n", a, self.rows[i], b), 0.0)
        slots = np.arange(a.shape[1])
        place = lambda row: row[:, None] * a.shape[1] + slots  # noqa: E731
        return np.einsum("na,nab,nb->n", a, self.whole[place(i)[:, :, None], place(j)[:, None, :]], b)


def covariance(
    problem: Problem,
    factors: Factors,
    variance: float,
    offsets: bool = False,
    scaled_to_trace: bool = False,
    uneven: bool = False,
) -> Covariance:
    """The Covariance for noise of this ``variance``; ``offsets``: row and column offsets were estimated, too.

    ``scaled_to_trace``: X is scaled to a known trace, so that a change dU of the factor U becomes
    ``dU - U tr(U^H dU) / tr(U^H U)`` (real parts). ``uneven``: the noise is not of one size, and ``(J^T H J)^+`` is
    multiplied on both sides of ``J^T H diag(e^2) H J / variance``, with e the residuals over one minus their leverage
    (the estimator HC3 of MacKinnon and White 1985; for many unknowns the mean leverage).
    """
    plain = factors
    residual = np.sqrt(problem.weights / variance) * problem.residual(plain) if uneven else None
    scaled, factors = slopes(problem, factors, offsets)
    size = factors[0].shape[1] * (2 if problem.map.complex else 1)
    count = sum(one.shape[0] for one in factors)
    if not size:
        return Covariance(factors, variance, np.zeros((0, 0)), np.zeros((count, 0, 0)), np.zeros(0))
    if count * size > JACOBIAN:
        rows = np.linalg.pinv(own_blocks(scaled, size), hermitian=True)
        if residual is not None:
            freedom = max(problem.map.n - problem.map.unknowns(plain[0].shape[1]), 1.0)
            residual = residual * problem.map.n / freedom
            rows = rows @ own_blocks(scaled_rows(scaled, residual), size) @ rows
        sizes = _given_directions(problem, plain, residual)
        if scaled_to_trace:
            shares = np.sum(np.abs(plain[0]) ** 2, axis=0) / np.sum(np.abs(plain[0]) ** 2)
            sizes = (np.eye(shares.size) - shares[:, None]) ** 2 @ sizes
        return Covariance(factors, variance, None, rows, sizes)
    whole = np.asarray(scipy.linalg.pinvh(gram(scaled), rtol=NULL**1.5))
    if residual is not None:
        dense = scaled if isinstance(scaled, np.ndarray) else scaled.toarray()
        leverage = np.einsum("ij,ij->i", dense @ whole, dense)
        whole = whole @ gram(scaled_rows(scaled, residual / np.maximum(1.0 - leverage, 0.05))) @ whole
    if scaled_to_trace:
        along = numbers(factors)
        keeping = np.eye(along.size) - np.outer(along, along) / (along @ along)
        whole = keeping @ whole @ keeping.T
    by_sizes = [numbers(slope) for slope in _slopes(factors)[: plain[0].shape[1]]]
    sizes = np.array([slope @ whole @ slope for slope in by_sizes])
    return Covariance(factors, variance, whole, np.zeros((count, 0, 0)), sizes)


def _slopes(factors: Factors) -> list[Factors]:
    """The derivative of each eigenvalue (singular value) with respect to the balanced factors."""
    weight = 2.0 if len(factors) == 1 else 1.0
    picks = np.eye(factors[0].shape[1])
    return [tuple(weight * one * pick for one in factors) for pick in picks]


def _given_directions(problem: Problem, factors: Factors, residual: np.ndarray | None) -> np.ndarray:
    """``1 / sum_i h_i A_i(q r^H)^2`` for the weights h and the unit vectors q, r of every column, shape (rank,).

    With residuals e over the standard deviation of the noise, times ``sum_i e_i^2 h_i A_i^2 / sum_i h_i A_i^2``.
    """
    found = []
    for column in range(factors[0].shape[1]):
        unit = tuple(one[:, [column]] / np.linalg.norm(one[:, column]) for one in factors)
        squares = problem.weights * problem.map.predict(unit) ** 2
        uneven = 1.0 if residual is None else float(residual**2 @ squares / squares.sum())
        found.append(uneven / float(squares.sum()))
    return np.array(found)


def rank_share(problem: Problem, fit: Fit, rank: int, *, seed: int, exact: float, resamples: int = 20) -> float:
    """Share of resamples that support the ``rank``; each is the fit plus its residuals with random signs.

    A resample supports the rank if its residual at this rank looks like noise, while one column fewer leaves more than
    noise, by its ``edge`` or by the :func:`fall` of the sum of squares.
    """
    rng = np.random.default_rng(seed + 1)
    unknowns, n = problem.map.unknowns, problem.map.n
    residual = problem.residual(fit.state.factors)
    predicted = problem.values + residual
    stretch = np.sqrt(n / max(n - unknowns(rank), 1.0))
    same = 0
    for number in range(resamples):
        tell(f"resample {number + 1} of {resamples} at rank {rank}")
        values = predicted + stretch * residual * (rng.integers(0, 2, n) * 2.0 - 1.0)
        again = replace(problem, values=values)
        path = Path(fits={rank: judged(again, _refitted(again, fit.state), rng)})
        needed = True
        if rank:
            path.fits[rank - 1] = judged(again, _refitted(again, truncated(fit.state, rank - 1)), rng)
            needed = not path.fits[rank - 1].noise_left or fall(again, path, rank - 1) > DOUBT
        same += path.fits[rank].noise_left and needed
    return same / resamples


def _refitted(problem: Problem, state: State) -> Fit:
    state = descend(problem, state, steps=4, tolerance=1e-3)
    return Fit(state, problem.misfit(state.factors))
