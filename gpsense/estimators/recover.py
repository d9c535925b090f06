"""Recovery of a matrix of low rank from a user's own measurements, rank and noise unknown.

The work is done by :mod:`gpsense.recovery`, in NumPy float64 on the CPU: nothing is compiled, so that a small problem
takes milliseconds. The path of penalties with its pruning is that of arXiv 2303.11453 in second-order form; the
choice of the rank, the treatment of outliers and the standard errors are derived here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from gpsense.errors import BadInput, nearest, shown
from gpsense.fields import FLAG, NUMBER, WHOLE, Field, arguments_named
from gpsense.recovery import maps
from gpsense.recovery.forms import Measured, as_array, fewest, read_fields, real_numbers
from gpsense.recovery.maps import Map
from gpsense.recovery.noise import grows
from gpsense.recovery.offsets import Offsets, no_offsets, with_offsets
from gpsense.recovery.outliers import graded
from gpsense.recovery.path import Fit, Step
from gpsense.recovery.progress import telling
from gpsense.recovery.solve import Solution, evened, solve, threads
from gpsense.recovery.steps import Problem, empty, leading
from gpsense.sensing import measurements as jax_maps

UNEVEN = "residuals grow with the values: the noise differs between them, and standard errors allow for it"
WEIGHTED = "residuals grow with the values: each is weighted by one over the variance of its noise"
FAR = 4.0  # standard deviations of the noise beyond the largest possible expectation
# distances are tried as squares, or the other way round, above this rank or this noise over the median; ratio of noises
# below which that is reported
OF_SPACE, DOUBTFUL, FAR_BETTER = 3, 0.1, 0.5
LEAST = 0.01  # share of the median square, below which squared distances get no more weight
Labels = tuple[np.ndarray | None, np.ndarray | None]


def _one(value: Any) -> None:
    if np.ndim(value):
        raise BadInput("trace", f"{shown(value)} is not one number", "use a number above 0")


OPTIONS = {
    "seed": Field(name="seed", kind=WHOLE, at_least=0),
    "rank": Field(name="rank", kind=WHOLE, optional=True),
    "max_rank": Field(name="max_rank", kind=WHOLE, optional=True),
    "robust": Field(name="robust", kind=FLAG, optional=True),
    "trace": Field(name="trace", kind=NUMBER, optional=True, above=0, verify=_one),
    "offsets": Field(name="offsets", kind=FLAG, optional=True),
}


@dataclass(frozen=True)
class Recovery:
    """The recovered matrix, how its rank was found, and how far to trust it.

    The matrix is ``X = left right^H`` with ``left`` (rows, rank) and ``right`` (columns, rank), plus ``offsets`` where
    a table has them; for semidefinite X, ``left`` and ``right`` are both the factor U. ``sizes`` are the eigenvalues of
    ``left right^H`` (if rectangular, the singular values), largest first. ``noise`` is the standard deviation of the
    noise in one value, ``residual`` the root mean square residual. Both are in units of y; if plain distances were
    given (``squared`` is then True), in units of these. Where the noise grows with the values, which ``notices`` then
    say, ``noise`` is that of a value of median variance.
    ``chosen_by`` says why this rank was chosen:
    "exact": it explains the values to rounding, with fewer unknowns than values;
    "edge": its residual looks like noise, and one more column explains no more than noise would;
    "held out": it predicts held-out values best; "shrunk": the same, with the penalty kept in the fit;
    "evidence": with outliers, it explains most by the fewest unknowns;
    "full": no smaller rank explains the values as well (F test; with hardly more measurements than unknowns: X of any
    rank leaves a far smaller residual); or the trace is given, no column stands out, and this is the largest rank that
    the measurements determine;
    "given": by ``rank``; "bounded": by ``max_rank``, at which more than noise is left.
    ``undetermined`` says in words what the measurements leave open, and is empty if nothing is. ``outliers`` are the
    indices of the values left out; ``wild`` gives each as text, with its pair of points or its entry. ``labels`` are
    the names of the rows and of the columns in the order of ``matrix``, None where these are numbered from 0; for
    distances both are the names of the points. ``notices`` are remarks on how the measurements were read, such as
    columns of a table that were ignored, and on odd values. For distances, X is the Gram matrix of the centred points,
    and the rows of U are these points, up to a rotation: ``d_ij^2 = X_ii + X_jj - 2 X_ij``.
    """

    left: np.ndarray
    right: np.ndarray
    rank: int
    noise: float
    residual: float
    chosen_by: str
    measurements: int
    unknowns: int
    undetermined: tuple[str, ...]
    outliers: np.ndarray
    wild: tuple[str, ...]
    sizes: np.ndarray
    offsets: Offsets
    labels: tuple[np.ndarray | None, np.ndarray | None]
    notices: tuple[str, ...]
    path: tuple[Step, ...]
    fits: dict[int, Fit]
    squared: bool
    _solution: Solution

    def __repr__(self) -> str:
        """Rank, noise and doubts in a few lines, no array in full."""
        rows, columns = self.left.shape[0], self.right.shape[0]
        counts = f"{self.measurements} measurements, {self.unknowns} unknowns"
        sizes = ", ".join(f"{size:.4g}" for size in self.sizes[:8]) + ", ..." * (self.rank > 8)
        lines = [
            f"Recovery of a {rows} x {columns} matrix: rank {self.rank}, chosen_by {self.chosen_by!r}; {counts}",
            f"noise {self.noise:.3g}, residual {self.residual:.3g}" + (f"; sizes {sizes}" if self.rank else ""),
        ]
        if self.offsets.rows.size:
            lines.append(f"with offsets of rows and columns, their mean {self.offsets.mean:.4g}")
        if self.outliers.size:
            which = ", ".join(self.wild[:4]) + ", ..." * (self.outliers.size > 4)
            lines.append(f"left out as outliers, by number from 0: {which}")
        lines += [f"undetermined: {words}" for words in self.undetermined]
        lines += self.notices
        if any(names is not None for names in self.labels):
            lines.append("names: .entries takes them; rows and columns of .matrix are in the order of .labels")
        distances = ".distances(rows, columns), " * self._of_points
        see = f"see .matrix, .entries(rows, columns), {distances}.standard_errors(rows, columns), .rank_share"
        return "\n  ".join([*lines, see])

    @property
    def _of_points(self) -> bool:
        return isinstance(self._solution.problem.map, maps.Distances)

    @property
    def factor(self) -> np.ndarray:
        """U (dim, rank) of a semidefinite ``X = U U^H``; ValueError for a rectangular X, which has left and right."""
        if not self._solution.problem.map.semidefinite:
            raise ValueError("a rectangular matrix has two factors: use .left and .right")
        return self.left

    @property
    def rank_share(self) -> float:
        """Share of 20 resamples that find the same rank, computed when asked for.

        A resample is the fit plus its residuals with random signs, fitted again. The share tells how often noise of
        this size would leave the rank unchanged if the fit were right. A column too weak to stand out from the noise is
        missing in all resamples.
        1 where ``chosen_by`` is "exact", "given", "bounded", "shrunk" or "full".
        """
        return self._solution.rank_share

    @property
    def size_errors(self) -> np.ndarray:
        """Standard errors of ``sizes`` (rank,), by the same covariance as :meth:`standard_errors`."""
        return self._solution.covariance.size_errors()

    @property
    def matrix(self) -> np.ndarray:
        """X, shape (rows, columns), in the order of ``labels[0]`` and ``labels[1]`` where there are names."""
        return self.left @ self.right.conj().T + self.offsets.matrix(self.left.shape[0], self.right.shape[0])

    def scale(self, values: Any) -> float:
        """The root mean square of the ``values`` (n,), to report noise and residual relative to it.

        Values left out as outliers do not count. If plain distances were given (``squared``), ``values`` are their
        squares, and the root mean square is that of the distances. 1 if all values are zero.
        """
        used = np.delete(np.asarray(values, float), self.outliers)
        return float(np.sqrt(np.mean(used if self.squared else used**2))) or 1.0

    def entries(self, rows: Any, columns: Any) -> np.ndarray:
        """The entries ``X[rows, columns]``, shape (m,), without forming X; rows and columns are numbers or names.

        ``rows`` and ``columns`` have the same length, or one of them has a single element, which is paired with every
        element of the other. Raises BadInput for other lengths, and for unknown numbers or names.
        """
        rows, columns = self._pairs(rows, columns)
        return np.einsum("ik,ik->i", self.left[rows], self.right[columns].conj()) + self.offsets.at(rows, columns)

    def distances(self, rows: Any, columns: Any) -> np.ndarray:
        """The distances, not squared, between pairs of points, shape (m,); BadInput if no distances were measured.

        The two points of each pair are given by ``rows`` and ``columns`` as for :meth:`entries`.
        """
        if not self._of_points:
            raise BadInput("measurements", "are not distances of points", "call .entries(rows, columns)")
        rows, columns = self._pairs(rows, columns)
        return np.linalg.norm(self.left[rows] - self.left[columns], axis=1)

    def _pairs(self, rows: Any, columns: Any) -> tuple[np.ndarray, np.ndarray]:
        """Indices of rows and columns, broadcast to one length."""
        rows, columns = self._places("rows", rows), self._places("columns", columns)
        if rows.ndim > 1 or columns.ndim > 1 or (rows.size != columns.size and 1 not in (rows.size, columns.size)):
            problem = f"it has the shape {columns.shape}, and rows has {rows.shape}"
            raise BadInput("columns", problem, "give one column for each row, or index .matrix for a block of entries")
        rows, columns = np.broadcast_arrays(rows, columns)
        return rows, columns

    def _places(self, name: str, given: Any) -> np.ndarray:
        """Indices, from 0, of rows or columns given by number or by name."""
        labels, side = (self.labels[0], self.left) if name == "rows" else (self.labels[1], self.right)
        given = np.atleast_1d(as_array(name, given))
        if labels is not None:
            order = np.argsort(labels, kind="stable")
            places = order[np.minimum(np.searchsorted(labels, given, sorter=order), labels.size - 1)]
            unknown = given[labels[places] != given]
            if unknown.size:
                raise _no_name(name, unknown[:1].tolist()[0], labels)
            return places
        if given.dtype.kind not in "iu" or (given < 0).any() or (given >= side.shape[0]).any():
            raise BadInput(name, f"not all are whole numbers from 0 to {side.shape[0] - 1}", "give only such numbers")
        return given

    def predict(self, measurements: Any) -> np.ndarray:
        """The values ``A(X)`` (n,) of a map of :mod:`gpsense.recovery.maps` or :mod:`gpsense.sensing.measurements`."""
        map_ = measurements if isinstance(measurements, Map) else _from_jax(measurements)
        factors = (self.left,) if map_.semidefinite else (self.left, self.right)
        predicted = map_.predict(factors) if self.rank else np.zeros(map_.n)
        return predicted + (self.offsets.at(map_.first, map_.second) if isinstance(map_, maps.Table) else 0.0)

    def standard_errors(self, rows: Any, columns: Any) -> np.ndarray:
        """Standard errors of :meth:`entries` at this rank, first order in the noise; infinite where undetermined.

        They follow from the covariance of least squares at a known rank, ``noise^2 (J^T J)^+`` with J the Jacobian of
        the values with respect to factors and offsets; the uncertainty of the rank is not included. Where residuals
        grow with the values, which ``notices`` then say, the standard errors allow for it (the estimator HC3), also
        where the values were weighted. A 95 % interval is the entry plus or minus 1.96 standard errors; of complex
        entries it holds for the real part, and for the imaginary part.
        """
        rows, columns = self._pairs(rows, columns)
        errors = self._solution.covariance.standard_errors(rows, columns)
        return np.where(self._solution.determined.open(rows, columns), np.inf, errors)


def _no_name(name: str, given: Any, labels: np.ndarray) -> BadInput:
    """The error for an unknown name; for a number it suggests how to write a name as text."""
    text = [label for label in labels.tolist() if isinstance(label, str)]
    if isinstance(given, str) or not text:
        return BadInput(name, f"no {given!r} among the names", "give names that the data have")
    write = str(given) if str(given) in text else text[0]
    return BadInput(name, f"{given!r} is a number, and the names are text", f'write "{write}"')


@arguments_named
def recover(
    measurements: Any,
    values: Any = None,
    *,
    seed: int = 0,
    rank: int | None = None,
    max_rank: int | None = None,
    robust: bool | None = None,
    trace: float | None = None,
    offsets: bool | None = None,
    kind: str | None = None,
    progress: Callable[[str], object] | None = None,
) -> Recovery:
    """Recovers X of low rank from ``A(X) ~ y``, its rank and the noise unknown, with nothing to tune.

    Equal measurements are merged first. Columns of the factor enter along a path of falling penalties, are shrunk by
    the weights of the smoothed group lasso and are pruned; the columns kept are fitted without a penalty. Units do not
    matter: ``c A`` and ``y`` give ``X / c``. The same ``seed``, which draws signs and splits, gives the same result.

    - ``measurements``: either a map of :mod:`gpsense.sensing.measurements` or :mod:`gpsense.recovery.maps`, and
      ``values`` (n,) separately; or a dictionary of arrays, or a table, whose entries or columns are named row, col,
      value; or i, j, distance2 (squared distances); or i, j, distance (squared when read, with weights that suit errors
      of the distances); or pauli, value. A dictionary may also hold the values y beside the matrices A (n, d, d) or
      (n, rows, columns), the vectors x (n, d) of ``A_i = x_i x_i^H``, or the indices rows, cols of entries of a
      symmetric matrix. A wide table has labels of rows and columns in place of these names. Rows, columns and points
      are numbers or names. For distances X is the Gram matrix of the centred points, see :class:`Recovery`.
    - ``kind``: what was measured, if the names of the arrays do not say it, as in a wide table: table (entries of any
      matrix), entries (of a symmetric matrix), distances (squared), plain_distances, pauli, dense (matrices A) or
      rank_one (vectors x).
    - ``rank``: the rank, where it is known; ``max_rank``: an upper bound on it.
    - ``robust``: True leaves outliers out, False does not, None does if some values are far from the rest (but not
      for grades, such as 1 to 5, each of which occurs often).
    - ``trace``: the trace of a semidefinite X (1 for a quantum state).
    - ``offsets``: whether to fit offsets of the rows and columns of a table together with its factors,
      ``X_ij = m + a_i + b_j + u_i^T v_j``; None: whichever predicts held-out values better.
    - ``progress``: a function called with a line on what is being tried, many times a second for small problems.

    Where the residuals of the fit grow with the values (rank correlation), the variance of the noise is fitted to their
    squares as ``a + b |f| + c f^2``, f the fitted value, and the values are solved for anew, each weighted by one over
    its variance. Not so for tables with offsets or a penalty kept, states of a given trace, and plain distances, whose
    weights are known: there only the standard errors allow for it. ``notices`` say which.

    Raises BadInput for values that are not finite, all zero, or fewer than five (four for one qubit); for semidefinite
    X, if the back-projection ``sum_i y_i A_i`` has no positive eigenvalue; for row numbers that are negative or not
    whole; and for unknown entries of a dictionary. ``notices`` of the result list columns of a table that were ignored,
    and say so if the rank is 0 (values of the wrong sign can cause this).

    >>> import numpy as np
    >>> from gpsense import recover
    >>> points = np.random.default_rng(0).normal(size=(12, 2))
    >>> i, j = np.triu_indices(12, 1)
    >>> found = recover({"i": i, "j": j, "distance2": ((points[i] - points[j]) ** 2).sum(1)})
    >>> found.rank, found.chosen_by, found.unknowns
    (2, 'exact', 21)
    >>> np.allclose(found.distances(i, j), np.linalg.norm(points[i] - points[j], axis=1))
    True
    """
    map_, y, labels, notices, squared = _given(measurements, values, kind)
    if progress is not None and not callable(progress):
        raise BadInput(
            "progress",
            f"{shown(progress)} cannot be called",
            "give a function of one string, such as print, or leave it out",
        )
    given = {"seed": seed, "rank": rank, "max_rank": max_rank, "robust": robust, "trace": trace, "offsets": offsets}
    seed, rank, max_rank, robust, trace, offsets = (OPTIONS[name].check(value) for name, value in given.items())
    if rank is not None and max_rank is not None and rank > max_rank:
        raise BadInput("rank", f"{rank} is above max_rank {max_rank}", "give one of them")
    _check(map_, y, rank, max_rank, trace, offsets)
    exact = 1e-6 if _single(measurements, y) else 1e-8
    given = map_, y
    if trace is not None:
        _expectations(map_, y, trace)
        map_, y = _with_trace(map_, y, trace)
    robust = False if robust is None and graded(y) else robust
    options: dict[str, Any] = {"seed": seed, "rank": rank, "max_rank": max_rank, "robust": robust, "exact": exact}
    options |= {"weigh": _of_squares(y)} if squared else {}
    with threads(map_), telling(progress):
        if isinstance(map_, maps.Table) and offsets is not False:
            found, added, shrunk = with_offsets(map_, y, always=bool(offsets), **options)
        else:
            found, added, shrunk = solve(map_, y, **options), no_offsets(), False
            if trace is not None and (not found.rank or np.isin(_of_trace(map_), found.outliers).any()):
                found = _of_full_rank(map_, y, options)
        notices += _beyond(*given, trace, found.noise) + _nothing(found, added)
        if _noise_grows(found, added):
            kept = squared or trace is not None or shrunk or bool(added.rows.size)
            cross = not isinstance(map_, maps.Table)
            found = replace(found, uneven=True) if kept else evened(map_, y, found, **options, cross=cross)
            notices += (UNEVEN if kept else WEIGHTED,)
        if isinstance(map_, maps.Distances) and found.rank and found.chosen_by != "exact":
            notices += _otherwise(found, map_, y, squared, options)
        wild = _wild(given[0], found.outliers, labels)
        return _recovery(found, added, labels, notices, trace, shrunk, squared, wild)


def _of_squares(squares: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The function from values d^2 to their weights ``1 / (4 d^2)``: an error e of d is an error 2 d e of d^2.

    No weight exceeds the one at LEAST times the median of the values, a bound that outliers hardly change.
    """
    least = LEAST * float(np.median(squares[squares > 0]))
    return lambda values: 0.25 / np.maximum(values, least)


def _otherwise(
    found: Solution, map_: maps.Distances, squares: np.ndarray, squared: bool, options: dict[str, Any]
) -> tuple[str, ...]:
    """A notice if values read as plain distances fit far better as squared ones, or the other way round."""
    given = float(np.median(np.sqrt(squares) if squared else squares))  # both noises are in its units
    if not (found.rank > OF_SPACE or found.noise >= DOUBTFUL * given):
        return ()
    other = np.sqrt(squares) if squared else squares**2
    again = solve(map_, other, **{**options, "weigh": None if squared else _of_squares(other)})
    if not (0 < again.rank <= max(found.rank, OF_SPACE) and again.noise < FAR_BETTER * found.noise):
        return ()
    words = ("squares of distances", "distance2") if squared else ("plain distances", "distance")
    return (f"rank {again.rank} explains the values better as {words[0]}; if they are, name them {words[1]}",)


def _recovery(
    found: Solution,
    added: Offsets,
    labels: Labels,
    notices: tuple[str, ...],
    trace: float | None,
    shrunk: bool,
    squared: bool,
    wild: tuple[str, ...],
) -> Recovery:
    left, right = found.factors[0], found.factors[-1]
    if trace is not None and found.rank:
        left = right = left * np.sqrt(trace / float(np.sum(np.abs(left) ** 2)))
    found = replace(found, names=labels, scaled=trace is not None)
    said = found.determined
    hardly = "hardly" if found.problem.map.n > said.unknowns else "no"
    unknown = () if np.isfinite(found.noise) else (f"the noise: {hardly} more measurements than unknowns",)
    return Recovery(
        left=left,
        right=right,
        rank=found.rank,
        noise=found.noise,
        residual=found.residual,
        chosen_by="shrunk" if shrunk else found.chosen_by,
        measurements=found.problem.map.n,
        unknowns=said.unknowns + (_of_offsets(added, found.rank) if added.rows.size else 0),
        undetermined=said.words + unknown,
        outliers=found.outliers,
        wild=wild,
        sizes=np.linalg.norm(left, axis=0) * np.linalg.norm(right, axis=0),
        offsets=added,
        labels=labels,
        notices=notices,
        path=tuple(found.path.steps),
        fits=found.path.fits,
        squared=squared,
        _solution=found,
    )


def _noise_grows(found: Solution, added: Offsets) -> bool:
    """Whether the noise of larger values is larger; not told where there is hardly any noise, or none to tell."""
    problem = found.problem
    if found.chosen_by == "exact" or not found.rank or not found.noise > 0:
        return False
    residual = problem.residual(found.factors)
    fitted = problem.values + residual
    if isinstance(problem.map, maps.Table) and added.rows.size:
        fitted = fitted + added.at(problem.map.first, problem.map.second)
    return grows(fitted, np.sqrt(problem.weights) * residual)


def _of_offsets(added: Offsets, rank: int) -> int:
    """Unknowns that offsets add to a fit of this rank; the means of its factors are then no unknowns."""
    return added.rows.size + added.columns.size - 1 - 2 * rank


def _given(
    measurements: Any, values: Any, kind: str | None = None
) -> tuple[Map, np.ndarray, Labels, tuple[str, ...], bool]:
    """The map, values in float64, names of rows and columns, notices, and whether the values were squared."""
    if values is None and isinstance(measurements, Map | jax_maps.Measurements):
        raise BadInput("values", "missing, and a map has none of its own", "give them, recover(map, values)")
    if values is None:
        read = measurements if isinstance(measurements, Measured) else read_fields(measurements, kind)
        if read.ignored and isinstance(measurements, Mapping):
            name = read.ignored[0]
            remedy = nearest(name, [each for each in read.known if each not in measurements])
            remedy = remedy or f"leave it out, or use one of {', '.join(read.known)}"
            raise BadInput(name, f"{read.kind} measurements have no array of this name", remedy)
        names = [
            None
            if label is None or (label.dtype.kind in "iuf" and np.array_equal(label, np.arange(label.size)))
            else label
            for label in read.labels
        ]
        notices = tuple(filter(None, (read.reading, *read.notices)))
        return read.map, read.values, (names[0], names[1]), notices, read.squared
    if isinstance(measurements, Mapping) or hasattr(measurements, "columns"):
        remedy = "give the values in it, under the name value, and leave out this argument"
        raise BadInput("values", f"given beside a {type(measurements).__name__}, which holds its own", remedy)
    if kind is not None:
        raise BadInput("kind", f"{shown(kind)} is given beside a map, which has its own kind", "leave kind out")
    map_ = measurements if isinstance(measurements, Map) else _from_jax(measurements)
    return map_, real_numbers("y", values), (None, None), (), False


def _from_jax(measurements: Any) -> Map:
    """The same measurements in NumPy; a map of the user's own becomes Dense, from its packed rows."""
    as_float = lambda array: np.asarray(array, np.float64)  # noqa: E731
    if isinstance(measurements, jax_maps.RankOne):
        return maps.RankOne(as_float(measurements.vectors))
    if isinstance(measurements, jax_maps.Entries):
        return maps.Entries(np.asarray(measurements.rows), np.asarray(measurements.cols), measurements.dim)
    if isinstance(measurements, jax_maps.Distances):
        return maps.Distances(np.asarray(measurements.first), np.asarray(measurements.second), measurements.dim)
    if isinstance(measurements, jax_maps.DenseBlocks):
        rows = as_float(measurements.rows)
        return maps.Dense(rows.reshape(-1, *measurements.sides), semidefinite=False)
    if not isinstance(measurements, jax_maps.Measurements):
        if isinstance(measurements, np.ndarray | jax.Array):
            raise BadInput("measurements", "it is an array", 'give {"A": A, "y": y}, or dense_measurements(A) and y')
        problem = f"they are of type {type(measurements).__name__}"
        raise BadInput("measurements", problem, "give a map of gpsense.sensing.measurements")
    rows = measurements.rows if isinstance(measurements, jax_maps.Dense) else _packed(measurements)
    return maps.Dense(_unpacked(as_float(rows), measurements.dim))


@jax.jit
def _packed(measurements: jax_maps.Measurements) -> jax.Array:
    return measurements.packed()


def _unpacked(rows: np.ndarray, dim: int) -> np.ndarray:
    """The matrices (n, dim, dim) of packed rows: off-diagonal numbers are divided by sqrt(2) and put in both places."""
    first, second = np.triu_indices(dim)
    matrices = np.empty((rows.shape[0], dim, dim))
    scaled = rows * np.where(first == second, 1.0, np.sqrt(0.5))
    matrices[:, first, second] = scaled
    matrices[:, second, first] = scaled
    return matrices


def _of_full_rank(map_: Map, y: np.ndarray, options: dict[str, Any]) -> Solution:
    """The solution at the largest rank that the measurements determine, for a given trace if no column stands out."""
    most = map_.largest_rank() if options["max_rank"] is None else options["max_rank"]
    rank = max((each for each in range(1, most + 1) if map_.unknowns(each) <= map_.n), default=1)
    return replace(solve(map_, y, **{**options, "rank": rank, "max_rank": None, "robust": False}), chosen_by="full")


def _single(measurements: Any, values: np.ndarray) -> bool:
    """Whether the values, or an array of the map, have float32 precision, so that rounding alone leaves 1e-7."""
    if np.array_equal(values.astype(np.float32), values):
        return True
    given = [measurements[name] for name in measurements] if hasattr(measurements, "keys") else measurements
    return any(
        getattr(each, "dtype", None) in (np.float32, np.complex64, np.float16) for each in jax.tree.leaves(given)
    )


def _check(
    map_: Map, y: np.ndarray, rank: int | None, max_rank: int | None, trace: float | None, offsets: bool | None
) -> None:
    """Raises BadInput for values or options with which no matrix can be recovered."""
    if y.shape != (map_.n,):
        raise BadInput("y", f"shape {y.shape} for {map_.n} measurements", "give one value for each")
    if map_.n < fewest(map_):
        raise BadInput("y", f"only {map_.n} measurements", f"give at least {fewest(map_)}")
    if not (finite := np.isfinite(y)).all():
        told = f"{int((~finite).sum())} of {y.size} measurements, the first at index {int(finite.argmin())}"
        raise BadInput("y", f"NaN or infinity in {told}", "remove them")
    if not y.any():
        raise BadInput("y", "is all zero", "give measurements of a matrix that is not zero")
    most, least = map_.largest_rank(), 0 if offsets else 1  # offsets alone are an answer, too
    for name, given in (("rank", rank), ("max_rank", max_rank)):
        if given is not None and not least <= given <= most:
            raise BadInput(name, f"{given} is not from {least} to {most}", "give a whole number in that range")
    if trace is not None and not map_.semidefinite:
        raise BadInput("trace", "it is used only for semidefinite matrices, which this is not", "leave trace out")
    if offsets and not isinstance(map_, maps.Table):
        raise BadInput("offsets", "only the entries of a table have them", "leave offsets out")
    if map_.semidefinite:
        problem = Problem(map_, y, np.ones(map_.n))
        if not leading(problem, problem.residual(empty(problem).factors), 1)[0][0] > 0:
            remedy = "check the signs of y, the measured values of a semidefinite U U^T"
            raise BadInput("y", "sum_i y_i A_i has no positive eigenvalue", remedy)


def _expectations(map_: Map, y: np.ndarray, trace: float) -> None:
    """Raises BadInput if most values are larger than any expectation can be."""
    beyond = np.abs(y) > trace * (1 + 1e-6)
    if isinstance(map_, maps.Pauli) and beyond.mean() > 0.5:
        told = f"{int(beyond.sum())} of {y.size} exceed the trace {trace:g} in size, which no expectation can"
        raise BadInput("values", told, f"divide them by their number of shots, or rescale them to at most {trace:g}")


def _beyond(map_: Map, y: np.ndarray, trace: float | None, noise: float) -> tuple[str, ...]:
    """A notice of values above any expectation by more than noise explains (by a twentieth, if noise is unknown)."""
    most = 1.0 if trace is None else trace
    by = min(FAR * noise, 0.25 * most) if np.isfinite(noise) else 0.05 * most
    far = np.abs(y) > most * (1 + 1e-6) + by
    beyond = np.flatnonzero(far) if isinstance(map_, maps.Pauli) else np.zeros(0, int)
    if not beyond.size:
        return ()
    told = f"the one at index {beyond[0]} (from 0) is {y[beyond[0]]:.6g}"
    what = (
        "1 in size, which no expectation of a state"
        if trace is None
        else f"the trace {trace:g} in size, which no expectation"
    )
    return (f"values: {beyond.size} of {y.size} exceed {what} can; {told}",)


def _nothing(found: Solution, added: Offsets) -> tuple[str, ...]:
    """A notice of rank 0, if it was neither given nor exact."""
    if found.rank or found.chosen_by in ("given", "exact"):
        return ()
    beside = " beside the offsets" * bool(added.rows.size)
    remedy = "check the sign of y, or measure more" if found.problem.map.semidefinite else "measure more"
    return (f"rank 0: no factor{beside} explains the values better than noise does; {remedy}",)


def _wild(map_: Map, outliers: np.ndarray, labels: Labels) -> tuple[str, ...]:
    """Indices of the values left out, as text; for pairs and entries also the two places, by name if they have one."""
    if not isinstance(map_, maps.Table | maps.Entries | maps.Distances):
        return tuple(map(str, outliers))
    sides = zip(labels, (map_.first[outliers], map_.second[outliers]), strict=True)
    places = [index if names is None else names[index] for names, index in sides]
    return tuple(f"{number} ({one}, {two})" for number, one, two in zip(outliers, *places, strict=True))


def _of_trace(map_: Map) -> np.ndarray:
    """Indices of the measurements of the trace: Pauli words of I alone, or the last one, see :func:`_with_trace`."""
    if isinstance(map_, maps.Pauli):
        return np.flatnonzero((map_.flips == 0) & (map_.signs == 0))
    return np.array([map_.n - 1])


def _with_trace(map_: Map, y: np.ndarray, trace: float) -> tuple[Map, np.ndarray]:
    """Map and values with the trace in place of its measured value, or as one more measurement if the map can hold it.

    The answer is scaled to the trace in any case.
    """
    if isinstance(map_, maps.Pauli):
        if (known := _of_trace(map_)).size:
            y = y.copy()
            y[known] = trace
            return map_, y
        zero = np.zeros(1, map_.flips.dtype)
        wider = maps.Pauli(np.append(map_.flips, zero), np.append(map_.signs, zero), map_.qubits)
        return wider, np.append(y, trace)
    if isinstance(map_, maps.Dense):
        one = np.eye(map_.sides[0], dtype=map_.matrices.dtype)[None]
        return maps.Dense(np.concatenate([map_.matrices, one])), np.append(y, trace)
    return map_, y
