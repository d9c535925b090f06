"""The smoothed group lasso of one column (slope, curvature, bounds), and what follows for several columns."""

import jax.numpy as jnp

from gpsense._types import Elementwise, Scalar, ScalarLike, Spectrum

_GOLDEN_RATIO = (1 + 5**0.5) / 2


def penalty_slope(square: Elementwise | float, smoothing: ScalarLike) -> Elementwise:
    """``psi(s) = (s + 2 beta) / (s + beta)^(3/2)``: the penalty's gradient at v is ``psi(||v||^2) v``. Derived."""
    square = jnp.asarray(square)
    return (square + 2 * smoothing) / (square + smoothing) ** 1.5


def penalty_slope_derivative(square: Elementwise | float, smoothing: ScalarLike) -> Elementwise:
    """``psi'(s) = -(s + 4 beta) / (2 (s + beta)^(5/2))``, the derivative in the squared norm s. Derived."""
    square = jnp.asarray(square)
    return -0.5 * (square + 4 * smoothing) / (square + smoothing) ** 2.5


def penalty_curvatures(square: Elementwise | float, smoothing: ScalarLike) -> tuple[Elementwise, Elementwise]:
    """Hessian eigenvalues of ``||v||^2 / sqrt(||v||^2 + beta)`` at ``||v||^2 = s``, (tangential, radial). Derived.

    The tangential one is ``psi(s)`` (:func:`penalty_slope`), dim - 1 times. The radial one is ``psi(s) + 2 s psi'(s)``,
    equal to ``beta (2 beta - s) / (s + beta)^(5/2)`` and negative beyond the norm ``sqrt(2 beta)``.
    """
    square = jnp.asarray(square)
    radial = smoothing * (2 * smoothing - square) / (square + smoothing) ** 2.5
    return penalty_slope(square, smoothing), radial


def most_concave_norm(smoothing: ScalarLike) -> Scalar:
    """``2 sqrt(beta)``: the norm at which the radial curvature is least, ``-2 / (5^(5/2) sqrt(beta))``. Derived.

    Pruning uses this norm as its threshold.
    """
    return 2 * jnp.sqrt(jnp.asarray(smoothing))


def lasso_gap_bound(smoothing: ScalarLike) -> Scalar:
    """``phi^(-5/2) sqrt(beta) = 0.3003 sqrt(beta)``, a bound on how much smoothing lowers a column's norm. Derived.

    ``0 <= ||v|| - ||v||^2 / sqrt(||v||^2 + beta) <= phi^(-5/2) sqrt(beta)``, phi the golden ratio; equal at
    ``||v||^2 = beta / phi``.
    """
    return _GOLDEN_RATIO**-2.5 * jnp.sqrt(jnp.asarray(smoothing))


def least_penalty(spectrum: Spectrum, smoothing: ScalarLike) -> Scalar:
    """``sum_j l_j / sqrt(l_j + beta)``: least penalty of any U for which ``U U^T`` has eigenvalues l_j. Derived.

    For lambda = 1. It is reached where the columns are orthogonal, hence eigenvectors (the penalty is Schur concave in
    the squared norms).
    """
    return jnp.sum(spectrum / jnp.sqrt(spectrum + smoothing))


def cosine_bound(
    largest: ScalarLike, smallest: ScalarLike, curvature: ScalarLike, gradient: ScalarLike, penalty: ScalarLike
) -> Scalar:
    """Bound on cos^2 of two columns: ``(s_max / s_min) (gamma sqrt(s_max) + (3 / sqrt(2)) eps) / lambda``. Derived.

    For columns of squared norms from s_min (``smallest``) to s_max (``largest``), all at least ``4 beta``, of a factor
    where the penalised loss has a gradient of norm at most eps (``gradient``) and no Hessian eigenvalue below -gamma
    (``curvature``). Holds for any loss that depends on ``U U^T`` alone: rotating two columns into each other then
    changes the penalty only.
    """
    largest = jnp.asarray(largest)
    return largest / smallest * (curvature * jnp.sqrt(largest) + 3 / 2**0.5 * gradient) / penalty
