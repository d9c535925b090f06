"""Damped Gauss-Newton (Levenberg-Marquardt) steps on ``1/2 sum_i h_i (A(X)_i - y_i)^2 + penalty`` over the factors.

The h_i are the weights of the measurements. The penalty is ``sum_c w_c ||u_c||^2`` for ``X = U U^H`` and
``1/2 sum_c w_c (||u_c||^2 + ||v_c||^2)`` for ``X = U V^T``: the group lasso's local quadratic. The damping of column c
is ``mu p s_c``, with ``s_c`` the size of the balanced column, p the mean of ``sum_i h_i A(u v^T)_i^2`` over random unit
vectors u, v, and mu adapted from step to step: neither the units nor the condition of X matter. Derived here; the
first-order pipeline of arXiv 2303.11453 is :mod:`gpsense.pipeline`.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
import scipy.linalg
import scipy.sparse as sp

from gpsense.recovery.maps import Factors, Map, Projected, Runs, Table, numbers, unflattened

DIRECT = 2000  # unknowns up to which sparse normal equations are solved by a Cholesky factor
TOGETHER = 600  # unknowns of a table up to which both factors are stepped together
SMALLEST = 1e-12  # least damping mu
ROUGH = 1e-3  # relative accuracy of eigenvalues that are only compared with their spread
CAP = 1e3  # median absolute values beyond which a value is capped in the size of all
CLIP = 2.5  # median absolute residuals beyond which a residual is clipped
(_posv,) = scipy.linalg.get_lapack_funcs(("posv",), dtype=np.float64)  # unchecked: steps are many and small


@dataclass(frozen=True)
class Problem:
    """Measurements, values (n,), weights h (n,) of squared residuals; ``robust``: large residuals are clipped.

    Where repeated values were merged into means, ``within`` (n,) holds weighted sums of squares about each mean, and
    ``counts`` (n,) the number of values in it, by which the weight of the mean has been multiplied.
    """

    map: Map
    values: np.ndarray
    weights: np.ndarray
    robust: bool = False
    within: np.ndarray | None = None
    counts: np.ndarray | None = None
    _known: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", self.map.visible(self.values))

    @cached_property
    def gain(self) -> float:
        """``p = sum_i h_i ||A_i||_F^2 / (rows columns)``."""
        return float(self.weights @ self.squares) / float(np.prod(self.map.sides))

    @cached_property
    def squares(self) -> np.ndarray:
        """``||A_i||_F^2``, shape (n,)."""
        return self.map.squares()

    @cached_property
    def heights(self) -> tuple[sp.csr_matrix, sp.csr_matrix]:
        """The weights as a sparse matrix, at the measured places of a table, and its transpose."""
        weights = self.map.adjoint(self.weights)
        return weights, weights.T.tocsr()

    def take(self, index: np.ndarray) -> "Problem":
        """The problem with only the measurements at ``index``."""
        within, counts = (None if each is None else each[index] for each in (self.within, self.counts))
        return Problem(self.map.take(index), self.values[index], self.weights[index], self.robust, within, counts)

    def weighed(self, weights: np.ndarray) -> "Problem":
        """The problem in which the squared residual of a single value has one of the ``weights`` (n,)."""
        weights = weights if self.counts is None else weights * self.counts
        within = None if self.within is None else self.within * weights / self.weights
        return replace(self, weights=weights, within=within)

    @property
    def total(self) -> float:
        """The number of values before equal measurements were merged."""
        return float(self.map.n if self.counts is None else self.counts.sum())

    @cached_property
    def repeats(self) -> tuple[float, float]:
        """Sum of squares of repeated values about their means, and its degrees of freedom."""
        return (0.0, 0.0) if self.within is None else (float(self.within.sum()), self.total - self.map.n)

    @cached_property
    def spread(self) -> np.ndarray:
        """Standard deviation of repeated values about their mean, shape (n,); 0 for a value that is not repeated."""
        if self.within is None or self.counts is None:
            return np.zeros(self.map.n)
        return np.sqrt(self.within / np.maximum(self.counts - 1, 1.0))

    def residual(self, factors: Factors) -> np.ndarray:
        """``A(X) - y``, shape (n,); cached for the factors last asked for."""
        if self._known.get("factors") is not factors:
            self.know(factors, self.map.predict(factors) - self.values if factors[0].shape[1] else -self.values)
        return self._known["residual"]

    def know(self, factors: Factors, residual: np.ndarray) -> None:
        """Caches the residual of these factors, which must not be changed in place afterwards."""
        self._known.update(factors=factors, residual=residual)

    def misfit(self, factors: Factors) -> float:
        """``||A(X) - y|| / ||y||`` in the weighted norm; if robust, with residuals clipped at their bound.

        In ``||y||`` values are capped at CAP times the median of the nonzero ones: otherwise, beside a fill value such
        as 1e20, any fit of the others would seem exact.
        """
        residual = self.residual(factors)
        bound = self.bound(residual)
        residual = np.clip(residual, -bound, bound)
        return float(np.sqrt(self.weights @ residual**2 / self.power)) if self.power > 0 else 0.0

    @cached_property
    def power(self) -> float:
        """``||y||^2`` in the weighted norm, with values far beyond all others capped as in :meth:`misfit`."""
        squares = self.weights * self.values**2
        most = CAP**2 * float(np.median(squares[squares > 0])) if np.any(squares) else 0.0
        return float(np.minimum(squares, most).sum())

    def bound(self, residual: np.ndarray) -> np.ndarray:
        """Bound at which each residual is clipped: a constant over the root of its weight; infinite unless robust."""
        if not self.robust:
            return np.array(np.inf)
        root = np.sqrt(self.weights)
        size = np.abs(residual) * root
        return (CLIP * float(np.median(size)) or float(np.sqrt(np.mean(size**2)))) / root


def scale(residual: np.ndarray, floor: float = 0.0) -> float:
    """The robust standard deviation ``1.4826 median |residual|``, at least ``floor``."""
    return max(1.4826 * float(np.median(np.abs(residual))), floor)


class State(NamedTuple):
    """Balanced factors, their sizes (k,) largest first, and the damping reached."""

    factors: Factors
    sizes: np.ndarray
    damping: float


def empty(problem: Problem) -> State:
    """The state without columns: X = 0."""
    rows, columns = problem.map.sides
    kind = complex if problem.map.complex else float
    sides = (rows,) if problem.map.semidefinite else (rows, columns)
    return State(tuple(np.zeros((side, 0), kind) for side in sides), np.zeros(0), 1.0)


def balanced(factors: Factors, damping: float) -> State:
    """The same X with orthogonal columns: ``U = Q sqrt(s)``, and ``V = R sqrt(s)`` with the same sizes s."""
    if len(factors) == 1:
        left, roots, _ = np.linalg.svd(factors[0], full_matrices=False)
        width = min(factors[0].shape)
        return State((left[:, :width] * roots,), roots**2, damping)
    left, one = np.linalg.qr(factors[0])
    right, two = np.linalg.qr(factors[1])
    inner, sizes, outer = np.linalg.svd(one @ two.T)
    roots = np.sqrt(sizes)
    return State((left @ inner * roots, right @ outer.T * roots), sizes, damping)


def truncated(state: State, rank: int) -> State:
    """The state with only its ``rank`` largest columns."""
    return State(tuple(one[:, :rank] for one in state.factors), state.sizes[:rank], state.damping)


def leading(problem: Problem, residual: np.ndarray, count: int) -> tuple[np.ndarray, Factors]:
    """The ``count`` largest eigenvalues (singular values) of ``-A*(h e)``, e the ``residual``, with unit vectors."""
    return _leading(problem, problem.map.adjoints(-problem.weights * residual[None])[0], count)


def largest(problem: Problem, residuals: np.ndarray) -> np.ndarray:
    """For each of m residuals e (m, n) the largest eigenvalue of ``-A*(h e)``, shape (m,).

    If X is not semidefinite, it is the largest singular value. A* is the adjoint of the map, h the problem's weights.
    """
    backs = problem.map.adjoints(-problem.weights * residuals)
    return np.array([_leading(problem, back, 1, ROUGH)[0][0] for back in backs])


def _leading(problem: Problem, back: Any, count: int, tolerance: float = 1e-6) -> tuple[np.ndarray, Factors]:
    count = min(count, *back.shape)
    if not abs(back).max():  # ARPACK refuses to look at it
        sides = back.shape[: 1 if problem.map.semidefinite else 2]
        return np.zeros(count), tuple(np.eye(side, count) for side in sides)
    if problem.map.semidefinite:
        side = back.shape[0]
        if side <= 400 or not sp.issparse(back):
            dense = back.toarray() if sp.issparse(back) else back
            values, vectors = scipy.linalg.eigh(dense, subset_by_index=[max(0, side - count), side - 1])
            if not values.size:  # with equal eigenvalues the solver for a subset may find none
                values, vectors = (each[..., -count:] for each in np.linalg.eigh(dense))
        else:
            shift = float(abs(back).sum(axis=1).max()) or 1.0  # else ARPACK looks in vain for an eigenvalue of 0
            moved = back + shift * sp.eye_array(side)
            values, vectors = sp.linalg.eigsh(moved, count, which="LA", v0=_start(side), tol=tolerance)
            values = values - shift
        order = np.argsort(values)[::-1]
        return values[order], (vectors[:, order],)
    if min(back.shape) <= 100:
        left, values, right = np.linalg.svd(back.toarray() if sp.issparse(back) else back, full_matrices=False)
        return values[:count], (left[:, :count], right[:count].T)
    count, start = min(count, min(back.shape) - 1), _start(min(back.shape))
    left, values, right = sp.linalg.svds(back, count, v0=start, tol=tolerance)
    order = np.argsort(values)[::-1]
    return values[order], (left[:, order], right.T[:, order])


def grown(problem: Problem, state: State, penalty: float, most: int, count: int) -> State:
    """The state plus up to ``count`` columns, ``most`` in all: leading vectors of eigenvalues above ``penalty``."""
    values, vectors = leading(problem, problem.residual(state.factors), count)
    sizes = (values - penalty) / problem.gain
    most = min(most, *problem.map.sides)
    chosen = np.flatnonzero(sizes > 0)[: max(most - state.sizes.size, 0)]
    return joined(state, tuple(vector[:, chosen] for vector in vectors), sizes[chosen]) if chosen.size else state


def joined(state: State, vectors: tuple[np.ndarray, ...], sizes: np.ndarray) -> State:
    """The state with columns added: unit vectors (side, more) of these sizes."""
    parts = zip(state.factors, vectors, strict=True)
    wider = tuple(np.concatenate([one, vector * np.sqrt(sizes)], axis=1) for one, vector in parts)
    return balanced(wider, state.damping)


def _start(side: int) -> np.ndarray:
    return np.cos(1.7 * np.arange(side) ** 1.3)


class Model(Protocol):
    """A quadratic model of the objective around a point."""

    def step(self, damping: float) -> tuple[Factors, float]:
        """The change of the factors, and the predicted decrease of the objective."""
        ...


def descend(
    problem: Problem,
    state: State,
    penalties: np.ndarray | None = None,
    *,
    steps: int = 1,
    tolerance: float = 0.0,
    least: float = 0.0,
) -> State:
    """The state after up to ``steps`` accepted steps.

    Ends early if a step changes X by less than ``tolerance`` (relative), if no step lowers the objective, or after two
    in a row that each lower it by less than the share ``least``. ``penalties`` are one weight per column: with them the
    factors are balanced only at the end, without them after every step.
    """
    if not state.sizes.size:
        return state
    weight = np.zeros(state.sizes.size) if penalties is None else penalties
    gain = problem.gain
    alternating = isinstance(problem.map, Table) and sum(problem.map.sides) * state.sizes.size > TOGETHER
    factors, sizes, damping = state
    if alternating:
        factors = (
            factors[0],
            _second(problem, factors[0], weight, problem.bound(problem.residual(factors)), factors[1]),
        )
    slow = 0
    residual = problem.residual(factors)
    for _ in range(steps):
        bound = problem.bound(residual)
        floor = np.maximum(sizes, 1e-14 * sizes.max(initial=1e-300))
        make = _Eliminated if alternating else _Normal
        model = make(problem, factors, np.clip(residual, -bound, bound), weight, gain * floor)
        before = _objective(problem, factors, residual, weight, bound)
        moved = None
        for _ in range(12):
            change, promised = model.step(damping)
            trial = tuple(one + by for one, by in zip(factors, change, strict=True))
            if alternating:
                trial = (trial[0], _second(problem, trial[0], weight, bound, trial[1]))
            left = problem.residual(trial)
            after = _objective(problem, trial, left, weight, bound)
            if after < before:
                moved = trial, left, change, after, promised
                break
            damping *= 5.0
            if promised < 1e-15 * before:
                break
        if moved is None:
            damping = min(damping, 1.0)
            break
        factors, residual, change, after, promised = moved
        ratio = (before - after) / promised if promised > 0 else 1.0
        damping = max(damping * (0.25 if ratio > 0.75 else 2.0 if ratio < 0.25 else 1.0), SMALLEST)
        size = np.sqrt(sum(float(np.sum(np.abs(by) ** 2 * sizes)) for by in change))
        if penalties is None:
            factors, sizes, damping = balanced(factors, damping)
        slow = slow + 1 if before - after < least * before else 0
        if slow == 2 or size < tolerance * np.sqrt(float(np.sum(sizes**2))):
            break
    end = balanced(factors, damping) if penalties is not None else State(factors, sizes, damping)
    problem.know(end.factors, residual)
    return end


def _objective(
    problem: Problem, factors: Factors, residual: np.ndarray, weight: np.ndarray, bound: np.ndarray
) -> float:
    """Half the weighted sum of squared residuals, linear beyond ``bound`` (Huber), plus the penalty."""
    size = np.abs(residual)
    terms = residual**2 if not bound.ndim else np.where(size <= bound, residual**2, bound * (2 * size - bound))
    squares = 0.5 * float(problem.weights @ terms)
    if not weight.any():
        return squares
    columns = sum(np.sum(np.abs(one) ** 2, axis=0) for one in factors)
    return squares + float(weight @ columns) * (0.5 if len(factors) == 2 else 1.0)


class _Normal:
    """Steps by the normal equations of all factors at once: Cholesky or, for many unknowns, conjugate gradients."""

    def __init__(
        self, problem: Problem, factors: Factors, residual: np.ndarray, weight: np.ndarray, metric: np.ndarray
    ) -> None:
        jacobian = problem.map.jacobian(factors)
        root = np.sqrt(problem.weights)
        scaled = scaled_rows(jacobian, root)
        semidefinite = problem.map.semidefinite
        repeat = sum(one.shape[0] for one in factors)
        double = 2 if problem.map.complex else 1
        spread = lambda columns: np.tile(np.repeat(columns, double), repeat)  # noqa: E731
        self._factors = factors
        self._penalty = (2.0 if semidefinite else 1.0) * spread(weight)
        self._metric = (2.0 if semidefinite else 1.0) * spread(metric)
        self._back = scaled.T.__matmul__ if isinstance(scaled, np.ndarray) else scaled.back
        self._gradient = self._back(root * residual) + self._penalty * numbers(factors)
        self._width = double * factors[0].shape[1]
        self._scaled = scaled
        self._many = self._gradient.size > DIRECT and isinstance(scaled, Runs)
        if self._many:
            self._blocks = own_blocks(scaled, self._width)
        else:
            normal = gram(scaled)
            self._scale = 1.0 / np.sqrt(np.maximum(np.diagonal(normal) + self._penalty, 1e-300) + self._metric)
            normal *= self._scale[:, None]
            normal *= self._scale
            self._normal = normal

    def step(self, damping: float) -> tuple[Factors, float]:
        extra = self._penalty + damping * self._metric
        change = self._iterated(extra) if self._many else self._factored(extra)
        moved = self._scaled @ change
        curvature = moved @ moved + change @ (self._penalty * change)
        promised = -float(self._gradient @ change + 0.5 * curvature)
        return unflattened(change, self._factors), promised

    def _factored(self, extra: np.ndarray) -> np.ndarray:
        scale = self._scale
        for ridge in (0.0, 1e-14, 1e-12, 1e-9, 1e-6):
            system = self._normal.copy()
            system.reshape(-1)[:: scale.size + 1] += extra * scale**2 + ridge
            _, change, failed = _posv(system.T, -self._gradient * scale, overwrite_a=True)
            if not failed:
                return scale * change
        return np.zeros_like(self._gradient)

    def _iterated(self, extra: np.ndarray) -> np.ndarray:
        """The step by conjugate gradients, preconditioned by the diagonal blocks of the rows of the factors."""
        inverse = np.linalg.inv(self._blocks + _diagonals(extra.reshape(-1, self._width)))
        return _conjugate_gradients(
            lambda x: self._back(self._scaled @ x) + extra * x,
            -self._gradient,
            lambda x: _times(inverse, x),
        )


def scaled_rows(jacobian: Any, root: np.ndarray) -> Any:
    """The Jacobian with its rows multiplied by ``root`` (n,); Runs stay Runs."""
    if np.all(root == 1.0):
        return jacobian
    if isinstance(jacobian, Runs):
        return jacobian.times(root[:, None])
    return (jacobian.toarray() if isinstance(jacobian, Projected) else jacobian) * root[:, None]


def slopes(problem: Problem, factors: Factors, offsets: bool = False) -> tuple[Any, Factors]:
    """The Jacobian, its rows multiplied by the root of their weights, and the factors to which it belongs.

    Row and column ``offsets`` a, b add two columns to the factors, ``X_ij = u_i^T v_j + a_i 1 + 1 b_j``; derivatives
    with respect to the constants 1 are set to zero.
    """
    if not offsets:
        return scaled_rows(problem.map.jacobian(factors), np.sqrt(problem.weights)), factors
    sides = zip(factors, ([0.0, 1.0], [1.0, 0.0]), strict=True)
    factors = tuple(np.concatenate([one, np.tile(more, (one.shape[0], 1))], axis=1) for one, more in sides)
    known = tuple(np.zeros(one.shape) for one in factors)
    known[0][:, -1] = known[1][:, -2] = 1.0
    jacobian = problem.map.jacobian(factors)
    jacobian = jacobian.times((1.0 - numbers(known))[jacobian.places])
    return scaled_rows(jacobian, np.sqrt(problem.weights)), factors


def gram(jacobian: Any) -> np.ndarray:
    """``J^T J`` as an array."""
    return jacobian.T @ jacobian if isinstance(jacobian, np.ndarray) else jacobian.gram()


def own_blocks(jacobian: Any, width: int) -> np.ndarray:
    """The diagonal blocks of ``J^T J``, one for each row of the factors, shape (rows, width, width)."""
    if isinstance(jacobian, Runs):
        return jacobian.blocks()
    parts = jacobian.reshape(jacobian.shape[0], -1, width).transpose(1, 2, 0)
    return parts @ parts.transpose(0, 2, 1)


def _diagonals(rows: np.ndarray) -> np.ndarray:
    return rows[:, :, None] * np.eye(rows.shape[1])


def _conjugate_gradients(product: Any, right: np.ndarray, solve: Any, tolerance: float = 0.05, most: int = 100) -> Any:
    """The x with ``product(x) = right``, to relative ``tolerance`` in the norm of the preconditioner ``solve``."""
    x = np.zeros_like(right)
    rest = right.copy()
    pre = solve(rest)
    direction = pre
    size = first = float(rest @ pre)
    for _ in range(most):
        if not size > tolerance**2 * first:
            break
        image = product(direction)
        length = size / float(direction @ image)
        x += length * direction
        rest -= length * image
        pre = solve(rest)
        size, last = float(rest @ pre), size
        direction = pre + (size / last) * direction
    return x


class _Eliminated:
    """Steps of U with V eliminated, for the entries of a table: conjugate gradients on the Schur complement.

    For any U the best V is known in closed form, so only U is searched for; a product takes O(n k) operations.
    """

    def __init__(
        self, problem: Problem, factors: Factors, residual: np.ndarray, weight: np.ndarray, metric: np.ndarray
    ) -> None:
        table = problem.map
        assert isinstance(table, Table)
        self._left, self._right = factors
        self._metric = metric
        pulled = table.adjoint(problem.weights * residual)
        self._gradient = pulled @ self._right + weight * self._left
        by_rows, by_columns = problem.heights
        self._first = _grams(by_rows, self._right) + np.diag(weight)
        self._second = np.linalg.inv(_grams(by_columns, self._left) + np.diag(weight) + _tiny(metric))
        root = np.sqrt(problem.weights)[:, None]
        self._by_left = table.half(0, root * self._right[table.second])
        self._by_right = table.half(1, root * self._left[table.first])
        self._left_back, self._right_back = self._by_left.T, self._by_right.T

    def step(self, damping: float) -> tuple[Factors, float]:
        extra = damping * np.diag(self._metric)
        own = self._first + extra
        inverse = np.linalg.inv(own + _tiny(self._metric))
        shape = self._left.shape

        def product(x: np.ndarray) -> np.ndarray:
            return _times(own, x) - self._left_back @ (self._by_right @ _times(self._second, self._across(x)))

        change = _conjugate_gradients(product, -self._gradient.reshape(-1), lambda x: _times(inverse, x))
        curvature = change @ product(change) - damping * float(np.sum(change.reshape(shape) ** 2 * self._metric))
        promised = -float(self._gradient.reshape(-1) @ change + 0.5 * curvature)
        other = -_times(self._second, self._across(change))
        return (change.reshape(shape), other.reshape(self._right.shape)), promised

    def _across(self, change: np.ndarray) -> np.ndarray:
        """``J_V^T J_U`` times a change of U: its effect on the equations of V."""
        return self._right_back @ (self._by_left @ change)


def _times(blocks: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """A block-diagonal matrix, blocks (rows, k, k), times a vector."""
    return np.einsum("iab,ib->ia", blocks, vector.reshape(blocks.shape[0], -1)).reshape(-1)


def _grams(heights: sp.csr_matrix, factor: np.ndarray) -> np.ndarray:
    """``sum_j h_ij v_j v_j^T`` for every row i, v_j the rows of ``factor``, shape (rows, k, k)."""
    width = factor.shape[1]
    squares = (factor[:, :, None] * factor[:, None, :]).reshape(-1, width**2)
    return np.asarray(heights @ squares).reshape(-1, width, width)


def _tiny(metric: np.ndarray) -> np.ndarray:
    """A ridge that keeps the equations of a row without measurements solvable, and is negligible for any other."""
    return np.diag(1e-13 * np.maximum(metric, 1e-3 * metric.max()))


def _second(problem: Problem, left: np.ndarray, weight: np.ndarray, bound: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The V that fits best for the U ``left``, with residuals at the old V ``right`` clipped at ``bound``."""
    table = problem.map
    assert isinstance(table, Table)
    values = problem.values
    if bound.ndim:
        predicted = table.predict((left, right))
        values = predicted + np.clip(values - predicted, -bound, bound)
    pulled = table.adjoint(problem.weights * values).T @ left
    scale = problem.gain * np.sum(left**2, axis=0)
    grams = _grams(problem.heights[1], left) + np.diag(weight) + _tiny(scale)
    return np.linalg.solve(grams, pulled[:, :, None])[:, :, 0]
