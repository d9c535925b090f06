"""How stationary a point is: gradient norm and smallest Hessian eigenvalue of any objective with a gradient.

An (eps, gamma)-second-order stationary point has ``||grad f|| <= eps`` and ``lambda_min(Hess f) >= -gamma``. The
Hessian is met in products only, each a directional derivative of the gradient.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from gpsense._linalg import eigh
from gpsense._types import Factor, Mask, RandomKey, Scalar, ScalarLike


class Certificate(NamedTuple):
    """Gradient norm, smallest Ritz value of the Hessian and the norm of its residual; NaN where not finite."""

    gradient_norm: Scalar
    curvature: Scalar
    residual: Scalar


def certificate(
    gradient: Callable[[Factor], Factor], factor: Factor, key: RandomKey, steps: int = 30, active: Mask | None = None
) -> Certificate:
    """Gradient norm at a factor (dim, width), and the smallest Hessian eigenvalue after some steps of Lanczos.

    ``curvature`` is never below the smallest eigenvalue (rounding aside) and falls towards it with the steps: a
    negative one proves negative curvature, another only that these steps met none. Within ``residual`` of it lies an
    eigenvalue, not always the smallest. Costs one gradient and ``steps`` Hessian products. The start is drawn from the
    key; only ``active`` columns are varied where given. With a random start of N numbers the gap exceeds a share e of
    ``lambda_max - lambda_min`` with probability at most ``1.648 sqrt(N) exp(-sqrt(e) (2 steps - 1))`` (Kuczynski and
    Wozniakowski 1992). The gradient must be differentiable at the factor. Criterion: arXiv 2303.11453.
    """

    def within(direction: Factor) -> Factor:
        return direction if active is None else jnp.where(active[None, :], direction, jnp.zeros((), direction.dtype))

    norm = jnp.sqrt(jnp.sum(gradient(factor) ** 2))
    curvature, residual = smallest_eigenvalue(
        lambda direction: within(jax.jvp(gradient, (factor,), (direction,))[1]),
        within(jax.random.normal(key, factor.shape, factor.dtype)),
        steps,
    )
    return Certificate(jnp.where(jnp.isfinite(norm), norm, jnp.nan), curvature, residual)


def second_order_stationary(certificate: Certificate, eps: ScalarLike, gamma: ScalarLike) -> Bool[Array, "..."]:
    """``gradient norm <= eps and curvature >= -gamma``, False where either is NaN.

    False is proven; True holds as far as the certificate's steps have seen (see :func:`certificate`).
    """
    return (certificate.gradient_norm <= eps) & (certificate.curvature >= -gamma)


def smallest_eigenvalue(product: Callable[[Factor], Factor], start: Factor, steps: int) -> tuple[Scalar, Scalar]:
    """The smallest Ritz value of a symmetric map after ``steps`` products from a start, and its residual norm.

    Lanczos by its three-term recurrence, in the order of operations whose Ritz values stay within the spectrum up to
    rounding though orthogonality is lost (Paige 1976): no basis is kept, so that memory does not grow with the steps.
    Where the Krylov space is exhausted the Ritz values stand still. NaN where a product is not finite.
    """

    def unit(vector: Factor) -> tuple[Factor, Scalar]:
        length = jnp.sqrt(jnp.sum(vector**2))
        return jnp.where(length > 0, vector / jnp.where(length > 0, length, 1.0), 0.0), length

    def step(carry: tuple[Factor, Factor, Scalar], _: None) -> tuple[tuple[Factor, Factor, Scalar], Any]:
        before, vector, link = carry
        image = product(vector) - link * before
        quotient = jnp.sum(image * vector)
        after, length = unit(image - quotient * vector)
        return (vector, after, length), (quotient, length)

    first, _ = unit(start)
    zero = jnp.zeros_like(first)
    _, (quotients, links) = jax.lax.scan(step, (zero, first, jnp.sum(zero)), None, length=steps)
    links, last = links[:-1], links[-1]
    spent = jnp.concatenate([jnp.zeros(1, bool), links == 0])
    diagonal = jnp.where(spent, quotients[0], quotients)
    matrix = jnp.diag(diagonal) + jnp.diag(links, 1) + jnp.diag(links, -1)
    finite = jnp.all(jnp.isfinite(matrix))
    values, vectors = eigh(jnp.where(finite, matrix, jnp.eye(steps, dtype=matrix.dtype)))
    nan = jnp.full_like(values[0], jnp.nan)
    return jnp.where(finite, values[0], nan), jnp.where(finite, jnp.abs(last * vectors[-1, 0]), nan)
