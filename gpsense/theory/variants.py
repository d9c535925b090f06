"""The laws of pruned columns, for two-layer networks with quadratic activation and rectangular factorisations."""

import jax.numpy as jnp

from gpsense._types import Elementwise, Scalar, ScalarLike, Symmetric
from gpsense.theory.errors import exact_rank_error
from gpsense.theory.roots import column_root, shrinkage


def quadratic_moment(difference: Symmetric) -> Scalar:
    """``E (x^T D x)^2 = 2 ||D||_F^2 + (tr D)^2`` for symmetric D and ``x ~ N(0, I)``. Derived (Isserlis).

    The population loss of ``sum_j <u_j, x>^2`` at ``U U^T - M = D``; a free output bias leaves ``2 ||D||_F^2``.
    """
    return 2 * jnp.sum(difference**2) + jnp.trace(difference) ** 2


def network_shrinkage(penalty: ScalarLike, smoothing: ScalarLike) -> Scalar:
    """``tau = lambda / (4 sqrt(beta))``: :func:`shrinkage` of a quadratic network with free output bias. Derived.

    Its population loss ``2 ||D||_F^2`` is twice that of sensing, so lambda counts half.
    """
    return shrinkage(0.5 * penalty, smoothing)


def network_root(eigenvalue: Elementwise | float | int, penalty: ScalarLike, smoothing: ScalarLike) -> Elementwise:
    """Squared norm s of a trained neuron of a quadratic network: ``s + (lambda/8) psi(s) = mu``. Derived.

    :func:`column_root` at lambda/2, since a free bias leaves the loss ``2 ||U U^T - M||_F^2``; NaN if no root exists.
    """
    return column_root(eigenvalue, 0.5 * penalty, smoothing)


def network_rank_error(noise: ScalarLike, dim: ScalarLike, rank: ScalarLike, n: ScalarLike) -> Scalar:
    """``sigma sqrt((r d - r (r - 1) / 2) / (2 n))``: :func:`exact_rank_error` of a quadratic network. Derived.

    With a free output bias the curvature of the population loss is twice that of sensing.
    """
    return exact_rank_error(noise, dim, rank, 2.0 * jnp.asarray(n))


def rectangular_shrinkage(penalty: ScalarLike, smoothing: ScalarLike) -> Scalar:
    """``tau = lambda / sqrt(beta)``: zero columns u, v are unstable iff ``M - U V^T`` has a singular value above tau.

    Loss ``||U V^T - M||_F^2``, group norm of the stacked column ``[u_i; v_i]``. Derived.
    """
    return penalty / jnp.sqrt(jnp.asarray(smoothing))


def rectangular_root(singular: Elementwise | float | int, penalty: ScalarLike, smoothing: ScalarLike) -> Elementwise:
    """Singular value p of ``u v^T`` trained on a singular value sigma: ``sigma - p = (lambda/2) psi(2 p)``. Derived.

    psi is :func:`penalty_slope`. The largest root; NaN if there is none. The column is balanced,
    ``||u||^2 = ||v||^2 = p``, so that ``s = 2 p`` solves :func:`column_root` at eigenvalue 2 sigma and penalty
    4 lambda. Loss ``||U V^T - M||_F^2``, group norm of ``[u; v]``.
    """
    return 0.5 * column_root(2.0 * jnp.asarray(singular), 4.0 * penalty, smoothing)


def rectangular_noise_floor(noise: ScalarLike, dim: ScalarLike, columns: ScalarLike, n: ScalarLike) -> Scalar:
    """``nu = sigma (sqrt(d_1) + sqrt(d_2)) / sqrt(n)``, nearly the spectral norm of ``(1/n) sum_i sigma g_i A_i``.

    That matrix has independent entries of variance ``sigma^2 / n``. Compare nu with tau as for :func:`noise_floor`.
    Derived, Gaussian ensemble.
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
