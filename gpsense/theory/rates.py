"""How fast gradient descent converges, and at which learning rates it is stable."""

import jax.numpy as jnp

from gpsense._types import Scalar, ScalarLike


def fine_tune_contraction(rate: ScalarLike, largest: ScalarLike, smallest: ScalarLike) -> tuple[Scalar, Scalar]:
    """Bounds ``(1 - 8 eta mu_1, 1 - 4 eta mu_r)`` on the factor by which a step multiplies the error of ``U U^T``.

    eta is the ``rate``, mu_1 the ``largest`` and mu_r the ``smallest`` eigenvalue of M. Exact rank, population loss,
    small rate eta, near the truth. Derived.
    """
    rate = jnp.asarray(rate)
    return 1 - 8 * rate * largest, 1 - 4 * rate * smallest


def curvature_bound(
    operator_norm: ScalarLike, residual: ScalarLike, penalty: ScalarLike, smoothing: ScalarLike
) -> Scalar:
    """Bound on Hessian eigenvalues: ``8 ||U||_op^2 + 4 ||U U^T - M||_op + 2 lambda / sqrt(beta)``. Derived.

    The Hessian is that of population loss plus penalty; ``operator_norm`` is ``||U||_op``, ``residual``
    ``||U U^T - M||_op``.
    """
    return 8 * jnp.asarray(operator_norm) ** 2 + 4 * residual + 2 * penalty / jnp.sqrt(jnp.asarray(smoothing))


def stable_rate(operator_norm: ScalarLike, residual: ScalarLike, penalty: ScalarLike, smoothing: ScalarLike) -> Scalar:
    """``2 / b``, b the :func:`curvature_bound`: descent is stable at lower learning rates. Derived, population loss."""
    return 2 / curvature_bound(operator_norm, residual, penalty, smoothing)


def surplus_eigenvalue(start: ScalarLike, rate: ScalarLike, steps: ScalarLike) -> Scalar:
    """``p_t = p_0 / (1 + 8 eta p_0 t)``: an eigenvalue of ``U U^T`` where the truth has none, after t steps. Derived.

    Gradient descent on the population loss without penalty gives ``p <- p (1 - 4 eta p)^2``, so 1/p grows by 8 eta a
    step; the next order adds ``6 eta log t`` to 1/p. Holds once the truth's eigenvectors are learnt and the rest of U
    is orthogonal to them.
    """
    start = jnp.asarray(start)
    return start / (1 + 8 * rate * start * steps)


def surplus_error(rate: ScalarLike, steps: ScalarLike, dim: ScalarLike, width: ScalarLike, rank: ScalarLike) -> Scalar:
    """``sqrt(m) / (8 eta t)``: ``||U U^T - M||_F`` of an over-parameterised factor after t ``steps``. Derived.

    eta is the ``rate``, ``m = min(width, dim) - rank``. The limit of :func:`surplus_eigenvalue` for
    ``8 eta p_0 t >> 1`` in all m surplus directions, independent of the start; too large while some directions are
    still near a small start. Population loss, no penalty. It falls as 1/t, while the error of a factor of the true
    width falls geometrically.
    """
    surplus = jnp.minimum(jnp.asarray(width), jnp.asarray(dim)) - rank
    return jnp.sqrt(surplus) / (8 * jnp.asarray(rate) * steps)
