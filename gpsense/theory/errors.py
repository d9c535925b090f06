"""Frobenius errors ``||U U^T - M||_F`` of the trained, the fine-tuned and the unpruned factor."""

import jax
import jax.numpy as jnp

from gpsense._types import Scalar, ScalarLike, Spectrum
from gpsense.theory.columns import penalty_slope
from gpsense.theory.roots import column_root


def bias(spectrum: Spectrum, penalty: ScalarLike, smoothing: ScalarLike) -> Scalar:
    """``(lambda/4) sqrt(sum_j psi(s_j)^2)``: the error caused by the penalty after training, before fine-tuning.

    ``s_j`` is the root on eigenvalue ``mu_j`` (:func:`gpsense.theory.column_root`), psi :func:`penalty_slope`. An
    eigenvalue without a root is lost: ``mu_j`` replaces ``(lambda/4) psi(s_j)``. Eigenvalues between ``mu_low`` and
    tau, which only some starts learn, are taken as learnt. Population loss, converged. Derived.
    """
    return _bias(spectrum, penalty, smoothing)


@jax.jit
def _bias(spectrum: Spectrum, penalty: ScalarLike, smoothing: ScalarLike) -> jax.Array:
    root = column_root(spectrum, penalty, smoothing)
    covered = root >= 0
    shrunk = 0.25 * penalty * penalty_slope(jnp.where(covered, root, 1.0), smoothing)
    return jnp.linalg.norm(jnp.where(covered, shrunk, spectrum))


def relative_bias(spectrum: Spectrum, penalty: ScalarLike, smoothing: ScalarLike) -> Scalar:
    """The :func:`bias` divided by ``||M||_F``. Derived."""
    return bias(spectrum, penalty, smoothing) / jnp.linalg.norm(spectrum)


def noise_floor(noise: ScalarLike, dim: ScalarLike, n: ScalarLike) -> Scalar:
    """``nu = sigma sqrt(2 d / n)``, which is nearly the largest eigenvalue of ``(1/n) A*(noise)``. Derived.

    Surplus columns grow if tau (:func:`shrinkage`) is below nu. ``nu < tau < mu_r`` gives the right rank if nu is also
    below :func:`fold_eigenvalue`; if nu is above it, only mostly, as surplus columns that have grown then survive.
    Gaussian ensemble.
    """
    return noise * jnp.sqrt(2.0 * jnp.asarray(dim) / n)


def exact_rank_error(noise: ScalarLike, dim: ScalarLike, rank: ScalarLike, n: ScalarLike) -> Scalar:
    """``sigma sqrt((r d - r (r - 1) / 2) / n)``: root mean square of ``||U U^T - M||_F`` at the known rank.

    sigma is ``noise``, r ``rank``, d ``dim``: noise variance times degrees of freedom over n; Gaussian ensemble, n well
    above ``r d``. Derived.
    """
    rank = jnp.asarray(rank)
    return noise * jnp.sqrt((rank * dim - rank * (rank - 1) / 2) / n)


def unpruned_error(noise: ScalarLike, dim: ScalarLike, rank: ScalarLike, n: ScalarLike) -> Scalar:
    """``sigma sqrt((r d - r (r - 1) / 2 + (d - r) (d - r + 1) / 4) / n)``: the RMS error without penalty or pruning.

    For width at least dim: the error of the best positive semidefinite fit. Orthogonal to the truth's range the noise
    is a symmetric Gaussian matrix of ``(d - r) (d - r + 1) / 2`` degrees of freedom, and the fit keeps its positive
    part, half of its energy. Gaussian ensemble, n well above ``d^2 / 2``. Derived.
    """
    surplus = jnp.asarray(dim) - rank
    pruned = exact_rank_error(noise, dim, rank, n)
    return jnp.sqrt(pruned**2 + noise**2 * surplus * (surplus + 1) / 4 / n)
