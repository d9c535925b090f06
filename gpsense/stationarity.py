"""How stationary a point is: gradient norm and smallest Hessian eigenvalue of any objective with a gradient.

An (eps, gamma)-second-order stationary point has ``||grad f|| <= eps`` and ``lambda_min(Hess f) >= -gamma``. The
Hessian enters only by its products with vectors, each a directional derivative of the gradient.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gpsense._linalg import eigh
from gpsense._types import Factor, Mask, RandomKey, Scalar, ScalarLike
from gpsense.fields import check_key

DOUBT = 1e-3  # probability, over the random start, that `low` is not a lower bound
DENSE = 2048  # largest number of entries of a factor for which the whole Hessian is computed


class Certificate(NamedTuple):
    """The gradient norm and bounds on the smallest Hessian eigenvalue; NaN where not finite.

    ``curvature``, the smallest Ritz value, is an upper bound; some eigenvalue lies within ``residual`` of
    ``curvature``; ``low`` is a lower bound that holds with probability 0.999 over the random start.
    """

    gradient_norm: Scalar
    curvature: Scalar
    residual: Scalar
    low: Scalar


class Smallest(NamedTuple):
    """An upper bound on the smallest eigenvalue, the residual of its Ritz vector, and a lower bound."""

    value: Scalar
    residual: Scalar
    low: Scalar


def certificate(
    gradient: Callable[[Factor], Factor],
    factor: Factor,
    key: RandomKey,
    steps: int | None = 30,
    active: Mask | None = None,
) -> Certificate:
    """The gradient norm at a factor (dim, width), and bounds on the smallest Hessian eigenvalue by Lanczos steps.

    ``gradient`` maps a factor to the gradient of the objective, and must be differentiable at ``factor``; ``key`` draws
    the start of Lanczos. ``curvature`` is never below the smallest eigenvalue (rounding aside) and falls towards it
    with the steps: if it is negative, so is an eigenvalue; if not, an eigenvalue may still be negative. Some
    eigenvalue, not always the smallest, lies within ``residual`` of ``curvature``. ``low``: see
    :func:`smallest_eigenvalue`. With ``steps`` None the whole Hessian is computed, and ``curvature`` and ``low`` agree
    up to rounding. The cost is one gradient and ``steps`` Hessian products; with None, a product for each entry of the
    factor, and the memory of the Hessian. ``active``: a mask of the columns that vary; None: all do. Criterion: arXiv
    2303.11453.

    >>> truth = jnp.diag(jnp.array([1.0, 0.0]))
    >>> gradient = lambda u: (u @ u.T - truth) @ u  # of ||U U^T - M||^2 / 4
    >>> found = gpsense.certificate(gradient, jnp.zeros((2, 1)), jax.random.key(0), steps=None)
    >>> float(found.gradient_norm), round(float(found.curvature), 3)  # a saddle
    (0.0, -1.0)
    """
    check_key(key)

    def within(direction: Factor) -> Factor:
        return direction if active is None else jnp.where(active[None, :], direction, jnp.zeros((), direction.dtype))

    def product(direction: Factor) -> Factor:
        return within(jax.jvp(gradient, (factor,), (direction,))[1])

    norm = jnp.sqrt(jnp.sum(gradient(factor) ** 2))
    if steps is None:
        found = _whole(product, factor, within)
    else:
        found = smallest_eigenvalue(product, within(jax.random.normal(key, factor.shape, factor.dtype)), steps)
    return Certificate(jnp.where(jnp.isfinite(norm), norm, jnp.nan), *found)


def second_order(certificate: Certificate, eps: ScalarLike, gamma: ScalarLike) -> Int[Array, "..."]:
    """Whether a point is (eps, gamma)-second-order stationary: 1 yes, -1 no, 0 undecided.

    -1 is certain: ``gradient norm > eps`` or ``curvature < -gamma``, or one of them is NaN. 1 means that
    ``gradient norm <= eps`` and ``low >= -gamma``, and holds with the probability of ``low``. More Lanczos steps can
    turn 0 into 1 or -1.
    """
    holds = (certificate.gradient_norm <= eps) & (certificate.low >= -gamma)
    open_ = (certificate.gradient_norm <= eps) & (certificate.curvature >= -gamma)
    return jnp.where(holds, 1, jnp.where(open_, 0, -1))


def certify(
    gradient: Callable[[Factor], Factor], factor: Factor, key: RandomKey, eps: float, gamma: float, most: int = 1000
) -> tuple[Certificate, int]:
    """The :func:`certificate`, and the verdict of :func:`second_order`; the steps double from 30 until it decides.

    If the steps reach the number of entries of the factor, and this is at most 2048, the whole Hessian decides.
    Otherwise the verdict stays 0, undecided, where it would take more than ``most`` steps.
    """
    steps: int | None = 30
    while True:
        found = jax.jit(certificate, static_argnums=(0, 3))(gradient, factor, key, steps)
        verdict = int(second_order(found, eps, gamma))
        if verdict or steps is None:
            return found, verdict
        steps = 2 * steps
        if steps >= factor.size and factor.size <= DENSE:
            steps = None
        elif steps > most:
            return found, verdict


def _whole(product: Callable[[Factor], Factor], factor: Factor, within: Callable[[Factor], Factor]) -> Smallest:
    """The smallest eigenvalue of the whole Hessian, up to rounding, on the columns that ``within`` keeps."""
    size = factor.size
    basis = jnp.eye(size, dtype=factor.dtype).reshape(size, *factor.shape)
    varied = within(jnp.ones_like(factor)).reshape(size) != 0
    matrix = jax.lax.map(lambda direction: product(within(direction)).reshape(size), basis)
    finite = jnp.all(jnp.isfinite(matrix))
    sums = jnp.max(jnp.sum(jnp.abs(matrix), axis=0))  # no eigenvalue is larger
    symmetric = 0.5 * (matrix + matrix.T) + jnp.diag(jnp.where(varied, 0.0, sums).astype(factor.dtype))
    values, _ = eigh(jnp.where(finite, symmetric, jnp.eye(size, dtype=factor.dtype)))
    rounding = size * jnp.finfo(factor.dtype).eps * sums
    return Smallest(*(jnp.where(finite, x, jnp.nan) for x in (values[0], rounding, values[0] - rounding)))


def smallest_eigenvalue(product: Callable[[Factor], Factor], start: Factor, steps: int) -> Smallest:
    """The smallest Ritz value of a symmetric map after ``steps`` Lanczos steps, its residual, and a lower bound.

    The three-term recurrence is used, in the order of operations for which Ritz values stay within the spectrum, up to
    rounding, though orthogonality is lost (Paige 1976). No basis is kept, so memory does not grow with the steps. Once
    the Krylov space is exhausted, the Ritz values no longer change. NaN where a product is not finite.

    From a random normal start of N numbers the smallest and the largest Ritz value each miss their eigenvalue by more
    than a share e of ``lambda_max - lambda_min`` with probability at most ``1.648 sqrt(N) exp(-sqrt(e) (2 steps - 1))``
    (Kuczynski and Wozniakowski 1992). Derived from it: ``low = value - e / (1 - 2 e) (largest Ritz value - value)`` at
    the e that makes this probability half of :data:`DOUBT`; minus infinity where that e is 1/2 or more.
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
    residual = jnp.abs(last * vectors[-1, 0])
    return Smallest(*(jnp.where(finite, x, jnp.nan) for x in (values[0], residual, _low(values, start.size, steps))))


def _low(values: Float[Array, " steps"], size: int, steps: int) -> Scalar:
    """The lower bound of :func:`smallest_eigenvalue` from its Ritz values."""
    share = (math.log(2 * 1.648 * math.sqrt(size) / DOUBT) / (2 * steps - 1)) ** 2
    return values[0] - (share / (1 - 2 * share) * (values[-1] - values[0]) if share < 0.5 else jnp.inf)
