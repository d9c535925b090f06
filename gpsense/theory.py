"""Closed forms that measurements are compared with; every function says whose formula it is.

"Derived" means worked out for this project and checked numerically by its tests, not quoted from a paper.
Convention throughout: ``L(U) = (1/n) ||A(U U^T) - y||^2`` and ``E<A, X>^2 = ||X||_F^2``.
"""

import jax
import jax.numpy as jnp

from gpsense._types import Elementwise, Integer, Scalar, ScalarLike


def penalty_slope(square: Elementwise | float, smoothing: ScalarLike) -> Elementwise:
    """``psi(s) = (s + 2 beta) / (s + beta)^(3/2)``: the penalty's column gradient is ``psi(||v||^2) v``. Derived."""
    square = jnp.asarray(square)
    return (square + 2 * smoothing) / (square + smoothing) ** 1.5


def column_root(eigenvalue: ScalarLike, penalty: ScalarLike, smoothing: ScalarLike) -> Scalar:
    """Squared norm s of a trained column on a truth eigenvalue mu: ``s + (lambda/4) psi(s) = mu``. Derived.

    The largest root, by bisection between the minimum of the left side and mu; NaN where no root exists (mu too
    small for the penalty). Population loss, converged.
    """
    eigenvalue = jnp.asarray(eigenvalue)

    def excess(square: jax.Array) -> jax.Array:
        return square + 0.25 * penalty * penalty_slope(square, smoothing) - eigenvalue

    grid = eigenvalue * jnp.linspace(0.0, 1.0, 513)
    lowest = grid[jnp.argmin(excess(grid))]

    def halve(_: Integer | int, bracket: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bracket
        middle = 0.5 * (low + high)
        below = excess(middle) < 0
        return jnp.where(below, middle, low), jnp.where(below, high, middle)

    low, high = jax.lax.fori_loop(0, 60, halve, (lowest, eigenvalue))
    return jnp.where(excess(lowest) <= 0, 0.5 * (low + high), jnp.nan)


def identical_columns(
    eigenvalue: ScalarLike, width: ScalarLike, penalty: ScalarLike, smoothing: ScalarLike
) -> tuple[Scalar, Scalar]:
    """Squared norm s of ``width`` identical columns at rest on a truth eigenvalue mu, and their smallest curvature.

    ``k s + (lambda/4) psi(s) = mu`` with the largest root; for k > 1 a saddle of Hessian eigenvalue
    ``-lambda s (s + 4 beta) / (s + beta)^(5/2)`` along every exchange between columns. Rank 1, population loss; NaN
    where no root exists. Gradient descent without noise keeps the columns identical and so never leaves. Derived.
    """
    square = column_root(jnp.asarray(eigenvalue) / width, jnp.asarray(penalty) / width, smoothing)
    return square, -penalty * square * (square + 4 * smoothing) / (square + smoothing) ** 2.5


def shrinkage(penalty: ScalarLike, smoothing: ScalarLike) -> Scalar:
    """``tau = lambda / (2 sqrt(beta))``: a zero column is unstable iff an uncovered eigenvalue exceeds tau. Derived."""
    return penalty / (2.0 * jnp.sqrt(jnp.asarray(smoothing)))


def noise_floor(noise: ScalarLike, dim: ScalarLike, n: ScalarLike) -> Scalar:
    """``nu = sigma sqrt(2 d / n)``: the rank comes out right for ``nu < tau < mu_r``. Derived, Gaussian ensemble."""
    return noise * jnp.sqrt(2.0 * jnp.asarray(dim) / n)


def exact_rank_error(noise: ScalarLike, dim: ScalarLike, rank: ScalarLike, n: ScalarLike) -> Scalar:
    """``sigma sqrt((r d - r (r - 1) / 2) / n)``: root mean square of ``||U U^T - M||_F`` at the known rank.

    Noise variance times degrees of freedom over n; Gaussian ensemble, n well above ``r d``. Derived.
    """
    rank = jnp.asarray(rank)
    return noise * jnp.sqrt((rank * dim - rank * (rank - 1) / 2) / n)


def fine_tune_contraction(rate: ScalarLike, largest: ScalarLike, smallest: ScalarLike) -> tuple[Scalar, Scalar]:
    """Bounds ``(1 - 8 eta mu_1, 1 - 4 eta mu_r)`` on the factor by which a step shrinks the error of ``U U^T``.

    Exact rank, population loss, small rate, near the truth. Derived.
    """
    rate = jnp.asarray(rate)
    return 1 - 8 * rate * largest, 1 - 4 * rate * smallest


def curvature_bound(
    operator_norm: ScalarLike, residual: ScalarLike, penalty: ScalarLike, smoothing: ScalarLike
) -> Scalar:
    """``8 ||U||_op^2 + 4 ||X - M||_op + 2 lambda / sqrt(beta)`` bounds the curvature of loss plus penalty. Derived.

    Gradient descent is stable for rates below 2 over it.
    """
    return 8 * jnp.asarray(operator_norm) ** 2 + 4 * residual + 2 * penalty / jnp.sqrt(jnp.asarray(smoothing))


def stacked_column_root(value: ScalarLike, penalty: ScalarLike, smoothing: ScalarLike) -> Scalar:
    """Squared norm s of a trained stacked column [u; v] on a singular value sigma: ``s + lambda psi(s) = 2 sigma``.

    The column keeps the singular value ``p = s / 2``, so ``sigma - p = (lambda / 2) psi(2 p)``; this is
    :func:`column_root` at ``2 sigma`` and ``4 lambda``, NaN where there is none. Derived.
    """
    return column_root(2 * jnp.asarray(value), 4 * jnp.asarray(penalty), smoothing)


def stacked_shrinkage(penalty: ScalarLike, smoothing: ScalarLike) -> Scalar:
    """``tau = lambda / sqrt(beta)``: a zero stacked column is unstable iff an uncovered singular value exceeds tau.

    Along ``[t a; t b]`` with unit a, b the loss changes by ``2 t^2 a^T (U V^T - M) b``, at least ``-2 t^2 sigma``, the
    penalty by ``2 t^2 lambda / sqrt(beta)``. Derived.
    """
    return penalty / jnp.sqrt(jnp.asarray(smoothing))


def rectangular_noise_floor(noise: ScalarLike, dim: ScalarLike, columns: ScalarLike, n: ScalarLike) -> Scalar:
    """``nu = sigma (sqrt(d_1) + sqrt(d_2)) / sqrt(n)``: spectral norm of ``(1/n) sum_i sigma g_i A_i``, nearly.

    The matrix has independent entries of variance ``sigma^2 / n``; the rank comes out right for
    ``nu < tau < sigma_r``. Derived, Gaussian ensemble.
    """
    return noise * (jnp.sqrt(jnp.asarray(dim)) + jnp.sqrt(jnp.asarray(columns))) / jnp.sqrt(jnp.asarray(n))


def rectangular_rank_error(
    noise: ScalarLike, dim: ScalarLike, columns: ScalarLike, rank: ScalarLike, n: ScalarLike
) -> Scalar:
    """``sigma sqrt(r (d_1 + d_2 - r) / n)``: root mean square of ``||U V^T - M||_F`` at the known rank.

    Noise variance times degrees of freedom over n; Gaussian ensemble, n well above ``r (d_1 + d_2)``. Derived.
    """
    rank = jnp.asarray(rank)
    return noise * jnp.sqrt(rank * (dim + columns - rank) / n)
