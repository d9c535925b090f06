"""Rules for the penalty and the smoothing: scalings recalled from the paper, and this project's own prescription."""

from typing import NamedTuple

import jax.numpy as jnp

from gpsense._types import Scalar, ScalarLike


class RecalledScalings(NamedTuple):
    """Scalings recalled from arXiv 2303.11453, with unit constants, which are NOT the paper's constants."""

    smoothing: Scalar
    """beta"""
    penalty: Scalar
    """lambda"""
    curvature: Scalar
    """gamma: no Hessian eigenvalue below -gamma"""
    gradient: Scalar
    """eps: norm of the gradient"""


class Prescription(NamedTuple):
    """This project's choice of parameters."""

    smoothing: Scalar
    """beta"""
    penalty: Scalar
    """lambda"""
    shrinkage: Scalar
    """tau = lambda / (2 sqrt(beta))"""


def recalled_scalings(eigenvalue: ScalarLike, rank: ScalarLike, width: ScalarLike) -> RecalledScalings:
    """How the parameters of arXiv 2303.11453 scale, RECALLED: unit constants, NOT the paper's constants.

    With ``sigma = sqrt(eigenvalue)``, the least singular value of the true factor, ``||U*||_op = 1`` and k the width:
    ``beta = sigma^2 / r``, ``lambda = sigma^3 / sqrt(k r)``, ``gamma = sigma^3 / (sqrt(k) r^(5/2))``,
    ``eps = sigma^(7/2) / (sqrt(k) r^(5/2))``. Neither exponents nor constants were confirmed word for word: use them to
    see how a quantity scales, never as the paper's prescription.
    """
    sigma = jnp.sqrt(jnp.asarray(eigenvalue))
    rank, wide = jnp.asarray(rank), jnp.sqrt(jnp.asarray(width))
    return RecalledScalings(
        smoothing=sigma**2 / rank,
        penalty=sigma**3 / (wide * jnp.sqrt(rank)),
        curvature=sigma**3 / (wide * rank**2.5),
        gradient=sigma**3.5 / (wide * rank**2.5),
    )


def prescribe(eigenvalue: ScalarLike, floor: ScalarLike) -> Prescription:
    """``beta = mu_r / 16``, ``tau = sqrt(nu mu_r)``, ``lambda = 2 sqrt(beta) tau``. Derived; not the paper's.

    ``eigenvalue`` is mu_r and ``floor`` nu (:func:`gpsense.theory.noise_floor`). For ``0 < nu < mu_r``, tau is their
    geometric mean, so that the noise is shrunk away and every true column is kept, above the threshold
    ``2 sqrt(beta) = sqrt(mu_r) / 2``.
    """
    eigenvalue = jnp.asarray(eigenvalue)
    smoothing = eigenvalue / 16
    shrinkage = jnp.sqrt(floor * eigenvalue)
    return Prescription(smoothing, 2 * jnp.sqrt(smoothing) * shrinkage, shrinkage)
