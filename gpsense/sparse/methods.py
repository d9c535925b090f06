"""Baselines for network pruning: methods that find V (d, r) in ``y = sigma(V^T x) + noise``, x ~ N(0, I_d).

Every method reads :class:`gpsense.sparse.moments.Moments` alone. The numbers ``r`` of directions and ``kept`` of
coordinates are static.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gpsense import _linalg
from gpsense._types import Scalar, ScalarLike, Symmetric
from gpsense.errors import BadInput
from gpsense.sparse.moments import Moments, Vector

Directions = Float[Array, "dim r"]
Column = Float[Array, "dim 1"]
Coordinates = Int[Array, " kept"]

PATH_END = 1e-3
POWER_STEPS = 30


def linear(moments: Moments) -> Column:
    """``sum (y - ybar) x`` scaled to norm 1: estimates ``E y x``, for information exponent 1; 0 where the sum is 0.

    Source: Brillinger 1982, "A generalized linear model with Gaussian regressor variables".
    """
    square = jnp.sum(moments.xy**2)
    return (moments.xy / jnp.sqrt(jnp.where(square > 0, square, 1.0)))[:, None]


def spectral(moments: Moments, r: int) -> Directions:
    """The eigenvectors of ``(1/n) sum (y - ybar) x x^T`` of largest absolute eigenvalue, largest first.

    For information exponent 2. Raises BadInput if r exceeds d. Source: Li 1992, "On principal Hessian directions
    for data visualization and dimension reduction" (the y-based form).
    """
    _check(r, len(moments.yxx), len(moments.yxx))
    return _leading(moments.yxx, r)


def diagonal_spectral(moments: Moments, r: int, kept: int) -> Directions:
    """:func:`spectral` on the ``kept`` coordinates whose ``|(1/n) sum (y - ybar) x_i^2|`` are largest, 0 elsewhere.

    Raises BadInput unless r <= kept <= d. Source: Johnstone and Lu 2009, "On consistency and sparsity for principal
    components analysis in high dimensions", for the diagonal of a covariance; the absolute value here is ours.
    """
    _check(r, kept, len(moments.yxx))
    return _leading_on(moments.yxx, _largest(jnp.abs(jnp.diagonal(moments.yxx)), kept), r)


def truncated_power(moments: Moments, r: int, kept: int, steps: int = POWER_STEPS) -> Directions:
    """Iterates ``Q <- qr(T(yxx Q))``, T keeping the ``kept`` largest rows; then :func:`spectral` on those last kept.

    Starts from :func:`diagonal_spectral` (0 steps return it). Multiplying by yxx itself finds eigenvalues of either
    sign, as sign flips of Q's columns do not matter; with eigenvalues +a and -a it would not converge. Raises BadInput
    unless r <= kept <= d. Source: Yuan and Zhang 2013, arXiv 1112.2679 (r = 1, PSD); row-wise truncation as in Ma 2013,
    arXiv 1112.2432, which thresholds differently. The eigenvectors at the end are ours.
    """
    matrix = moments.yxx

    def step(_: Array, state: tuple[Directions, Coordinates]) -> tuple[Directions, Coordinates]:
        image = matrix @ state[0]
        rows = _largest(jnp.sum(image**2, axis=1), kept)
        return jnp.zeros_like(image).at[rows].set(_linalg.orthonormal(image[rows])), rows

    start = diagonal_spectral(moments, r, kept), _largest(jnp.abs(jnp.diagonal(matrix)), kept)
    return _leading_on(matrix, jax.lax.fori_loop(0, steps, step, start)[1], r)


def lasso(moments: Moments, penalty: ScalarLike, steps: int = 500) -> Vector:
    """``argmin_b (1/2) b^T xx b - b^T xy + penalty |b|_1`` by FISTA with restarts, from 0; b (d,).

    Minimises ``(1/2n) sum (y - ybar - b^T x)^2 + penalty |b|_1``, without intercept. :func:`lasso_residual` says how
    far from the optimum b is. Sources: Tibshirani 1996; Beck and Teboulle 2009; restarts O'Donoghue and Candès 2015.
    """
    top = _linalg.eigh(moments.xx)[0][-1]
    rate = 1.0 / jnp.where(top > 0, top, 1.0)

    def step(_: Array, state: tuple[Vector, Vector, Scalar]) -> tuple[Vector, Vector, Scalar]:
        now, ahead, momentum = state
        moved = _shrink(ahead - rate * (moments.xx @ ahead - moments.xy), rate * penalty)
        uphill = jnp.sum((ahead - moved) * (moved - now)) > 0
        after = jnp.where(uphill, 1.0, 0.5 * (1.0 + jnp.sqrt(1.0 + 4.0 * momentum**2)))
        carry = jnp.where(uphill, 0.0, (momentum - 1.0) / after)
        return moved, moved + carry * (moved - now), after

    zero = jnp.zeros_like(moments.xy)
    return jax.lax.fori_loop(0, steps, step, (zero, zero, jnp.ones((), zero.dtype)))[0]


def lasso_residual(moments: Moments, penalty: ScalarLike, coefficients: Vector) -> Scalar:
    """``max_i |b_i - shrink(b_i - (xx b - xy)_i, penalty)|``: 0 only at the optimum, in the units of xy if xx = I."""
    pull = moments.xx @ coefficients - moments.xy
    return jnp.max(jnp.abs(coefficients - _shrink(coefficients - pull, penalty)))


def lasso_penalty(fit: Moments, held: Moments, n_penalties: int = 40, steps: int = 500) -> Scalar:
    """The penalty whose :func:`lasso` on ``fit`` has the least error ``y2 - 2 b^T xy + b^T xx b`` on ``held``.

    Penalties fall evenly in the log from ``max_i |xy_i|``, where b = 0, to 1e-3 of it; among ties the largest is taken,
    so b = 0 where nothing linear is found. Sources as in :func:`lasso`; the path as in Friedman, Hastie and Tibshirani
    2010.
    """
    falling = jnp.logspace(0.0, jnp.log10(PATH_END), n_penalties, dtype=fit.xy.dtype)
    penalties = jnp.max(jnp.abs(fit.xy)) * falling
    found = jax.vmap(lambda penalty: lasso(fit, penalty, steps))(penalties)
    errors = jax.vmap(lambda b: held.y2 - 2.0 * jnp.sum(b * held.xy) + jnp.sum(b * (held.xx @ b)))(found)
    return penalties[jnp.argmin(errors)]


@dataclass(frozen=True)
class Baseline:
    """One method by name: its source, what it is given of the truth (``knows``), and its ``directions``.

    ``directions(seen, penalty, r, kept)`` estimates V from the moments ``seen``: (d, r) with orthonormal columns, or
    one column (d, 1), of norm 1 (linear) or the coefficients, which may be 0 (lasso). ``choose(fit, held)`` picks the
    penalty from the moments of two disjoint parts of the samples; None for methods without a penalty.
    """

    name: str
    source: str
    knows: str
    directions: Callable[[Moments, Scalar, int, int], Directions]
    choose: Callable[[Moments, Moments], Scalar] | None = None


_BASELINES = (
    Baseline("linear", "Brillinger 1982", "nothing", lambda seen, penalty, r, kept: linear(seen)),
    Baseline(
        "lasso",
        "Tibshirani 1996",
        "nothing",
        lambda seen, penalty, r, kept: lasso(seen, penalty)[:, None],
        lasso_penalty,
    ),
    Baseline("spectral", "Li 1992", "r", lambda seen, penalty, r, kept: spectral(seen, r)),
    Baseline(
        "diagonal_spectral",
        "Johnstone and Lu 2009",
        "r and the number of coordinates",
        lambda seen, penalty, r, kept: diagonal_spectral(seen, r, kept),
    ),
    Baseline(
        "truncated_power",
        "Yuan and Zhang 2013, arXiv 1112.2679",
        "r and the number of coordinates",
        lambda seen, penalty, r, kept: truncated_power(seen, r, kept),
    ),
)
BASELINES: dict[str, Baseline] = {baseline.name: baseline for baseline in _BASELINES}


def _check(r: int, kept: int, dim: int) -> None:
    if not 1 <= r <= kept <= dim:
        raise BadInput("r", f"r is {r}, kept is {kept}, dim is {dim}", "use 1 <= r <= kept <= dim")


def _largest(scores: Vector, count: int) -> Coordinates:
    return jax.lax.top_k(scores, count)[1]


def _leading(matrix: Symmetric, r: int) -> Directions:
    values, vectors = _linalg.eigh(matrix)
    return vectors[:, _largest(jnp.abs(values), r)]


def _leading_on(matrix: Symmetric, rows: Coordinates, r: int) -> Directions:
    """Leading eigenvectors of the submatrix on these coordinates, (d, r) with zeros elsewhere."""
    empty = jnp.zeros((len(matrix), r), matrix.dtype)
    return empty.at[rows].set(_leading(matrix[rows[:, None], rows[None, :]], r))


def _shrink(vector: Vector, amount: ScalarLike) -> Vector:
    """``sign(v) (|v| - a)_+``, the proximal map of a times the l_1 norm."""
    return jnp.sign(vector) * jnp.maximum(jnp.abs(vector) - amount, 0.0)
