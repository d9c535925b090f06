"""Where columns end up: roots of the stationarity condition, thresholds on eigenvalues, saddle of equal columns.

Population loss ``||U U^T - M||_F^2`` plus the penalty; at a second-order point every column is an eigenvector of M.
"""

import jax
import jax.numpy as jnp

from gpsense._types import Elementwise, Flags, Integer, Scalar, ScalarLike, Spectrum
from gpsense.theory._numbers import floats
from gpsense.theory.columns import penalty_slope, penalty_slope_derivative

# at tau = mu the squared norm 4 beta solves the root law for beta this multiple of mu: (1 - 3 / (5 sqrt(5))) / 4
_SAFE_SMOOTHING = (1 - 3 / 5**1.5) / 4


def column_root(eigenvalue: Elementwise | float | int, penalty: ScalarLike, smoothing: ScalarLike) -> Elementwise:
    """Squared norm s of a column trained on an eigenvalue mu of M: ``s + (lambda/4) psi(s) = mu``. Derived.

    psi is :func:`penalty_slope`. The largest root, by bisection between the minimum of the left side and mu, to working
    precision; NaN where no root exists (mu below :func:`fold_eigenvalue`). Elementwise in mu. Its derivatives are those
    of the implicit function. Population loss, converged.
    """
    return _column_root(*floats(eigenvalue, penalty, smoothing))


@jax.jit
def _column_root(eigenvalue: jax.Array, penalty: jax.Array, smoothing: jax.Array) -> jax.Array:
    def excess(square: jax.Array) -> jax.Array:
        return square + 0.25 * penalty * penalty_slope(square, smoothing) - eigenvalue

    def halve(_: Integer | int, bracket: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bracket
        middle = 0.5 * (low + high)
        below = excess(middle) < 0
        return jnp.where(below, middle, low), jnp.where(below, high, middle)

    lowest = jnp.broadcast_to(_fold_square(penalty, smoothing), eigenvalue.shape)
    low, high = jax.lax.fori_loop(0, 60, halve, jax.lax.stop_gradient((lowest, eigenvalue)))
    root = 0.5 * (low + high)
    slope = jax.lax.stop_gradient(1 + 0.25 * penalty * penalty_slope_derivative(root, smoothing))
    miss = excess(root)
    root = root - (miss - jax.lax.stop_gradient(miss)) / jnp.where(slope > 0, slope, jnp.inf)
    return jnp.where(excess(lowest) <= 0, root, jnp.nan)


def fold_square(penalty: ScalarLike, smoothing: ScalarLike) -> Scalar:
    """Squared norm s at which the equation of :func:`column_root` has a double root. Derived.

    It minimises ``s + (lambda/4) psi(s)``, with psi as defined there.

    Zero for ``lambda <= 2 beta^(3/2)``; else ``s = a x - beta`` with ``a = (lambda/2)^(2/3)`` and x the root of
    ``4 x^(5/2) = x + 3 beta/a`` in [4^(-2/3), 1], by Newton's method from 1, as ``4 x^(5/2) - x`` is convex there.
    """
    return _fold_square(*floats(penalty, smoothing))


@jax.jit
def _fold_square(penalty: jax.Array, smoothing: jax.Array) -> jax.Array:
    scale = (0.5 * penalty) ** (2 / 3)
    ratio = jnp.minimum(smoothing / scale, 1.0)

    def newton(_: Integer | int, x: jax.Array) -> jax.Array:
        return x - (4 * x**2.5 - x - 3 * ratio) / (10 * x**1.5 - 1)

    return jnp.maximum(scale * jax.lax.fori_loop(0, 10, newton, jnp.ones_like(ratio)) - smoothing, 0.0)


def fold_eigenvalue(penalty: ScalarLike, smoothing: ScalarLike) -> Scalar:
    """``mu_low = min_s s + (lambda/4) psi(s)``: the smallest eigenvalue on which a column can stay. Derived.

    ``0.75 lambda^(2/3)`` as beta -> 0; equal to :func:`shrinkage` where ``lambda <= 2 beta^(3/2)``, else below it.
    """
    return _fold_eigenvalue(*floats(penalty, smoothing))


@jax.jit
def _fold_eigenvalue(penalty: jax.Array, smoothing: jax.Array) -> jax.Array:
    square = jax.lax.stop_gradient(_fold_square(penalty, smoothing))
    return square + 0.25 * penalty * penalty_slope(square, smoothing)


def shrinkage(penalty: ScalarLike, smoothing: ScalarLike) -> Scalar:
    """``tau = lambda / (2 sqrt(beta))``: a zero column is unstable iff ``lambda_max(M - U U^T) > tau``. Derived."""
    return penalty / (2.0 * jnp.sqrt(jnp.asarray(smoothing)))


def bistable(penalty: ScalarLike, smoothing: ScalarLike) -> Flags:
    """Whether ``lambda > 2 beta^(3/2)``: the start then decides if eigenvalues from ``mu_low`` to tau are learnt.

    On such an eigenvalue a large column converges to its root, while a single small one shrinks to zero. Derived.
    """
    return jnp.asarray(penalty > 2 * jnp.asarray(smoothing) ** 1.5)


def column_bounds(spectrum: Spectrum, penalty: ScalarLike, smoothing: ScalarLike) -> tuple[Integer, Integer]:
    """Lower and upper bound on the number of columns that training keeps. Derived.

    The number of eigenvalues above tau (:func:`shrinkage`), and of at least ``mu_low`` (:func:`fold_eigenvalue`). Both
    hold at every second-order point of a factor wider than the rank, hence from any start: a zero column is
    unstable while an eigenvalue without a column exceeds tau, other columns stay only at a root, and two on one
    eigenvector are a saddle. The number between depends on the start. Even a tiny start may leave more columns than
    the lower bound: those that grow together on a large eigenvalue are long enough to be shrunk by less than tau.
    """
    above = jnp.sum(spectrum > shrinkage(penalty, smoothing))
    return above, jnp.sum(spectrum >= fold_eigenvalue(penalty, smoothing))


def exceeds_threshold(eigenvalue: Elementwise | float | int, penalty: ScalarLike, smoothing: ScalarLike) -> Flags:
    """Whether the column trained on mu is longer than the threshold ``2 sqrt(beta)``: ``s(mu) > 4 beta``. Derived.

    s is the largest root; False where there is none. Elementwise in mu. For ``lambda <= 5^(5/2) beta^(3/2)``
    equivalent to ``mu > 4 beta + 3 tau / (5 sqrt(5))``; for larger lambda true wherever s exists.
    """
    return column_root(eigenvalue, penalty, smoothing) > 4 * smoothing


def smoothing_bound(eigenvalue: ScalarLike) -> Scalar:
    """``(1 - 3 / (5 sqrt(5))) mu_r / 4 = 0.1829 mu_r``: with beta up to this, pruning keeps every true column. Derived.

    mu_r is the least ``eigenvalue``. All norms of true columns then exceed ``2 sqrt(beta)``, for every penalty with
    ``tau < mu_r``.
    """
    return _SAFE_SMOOTHING * jnp.asarray(eigenvalue)


def saddle_curvature(eigenvalue: ScalarLike, width: ScalarLike, penalty: ScalarLike, smoothing: ScalarLike) -> Scalar:
    """``-lambda s (s + 4 beta) / (s + beta)^(5/2)``: least Hessian eigenvalue at ``width`` equal columns. Derived.

    Rank 1: all k >= 2 columns are ``sqrt(s) u_1``, where ``k s + (lambda/4) psi(s) = mu`` (NaN if no such s exists).
    Directions ``D_i = a_i u_1`` with ``sum_i a_i = 0`` leave ``U U^T`` unchanged to first order; along them the Hessian
    is ``4 (k s - mu)`` plus lambda times the penalty's radial curvature. Gradient descent from equal columns without
    noise never leaves this saddle.
    """
    share = jnp.asarray(eigenvalue) / width
    square = column_root(share, jnp.asarray(penalty) / width, smoothing)
    return 2 * penalty * square * penalty_slope_derivative(square, smoothing)
