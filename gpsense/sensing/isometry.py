"""How far a linear map is from an isometry on low-rank matrices: a lower bound, with the matrices that prove it."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gpsense._linalg import eigh
from gpsense._types import RandomKey, Scalar, Symmetric
from gpsense.errors import BadInput
from gpsense.fields import check_key
from gpsense.sensing.measurements import Measurements


class IsometryBound(NamedTuple):
    """The bound ``delta = max(largest - 1, 1 - smallest)``, from ratios ``||A(X)||^2 / (n ||X||_F^2)``.

    ``at_largest`` and ``at_smallest`` are the matrices X, of norm 1, that attain the two ratios.
    """

    delta: Scalar
    largest: Scalar
    smallest: Scalar
    at_largest: Symmetric
    at_smallest: Symmetric


@partial(jax.jit, static_argnames=("rank", "starts", "steps"))
def isometry_constant_bound(
    measurements: Measurements, rank: int, key: RandomKey, starts: int = 8, steps: int = 50
) -> IsometryBound:
    """A lower bound on the restricted isometry constant of a map, over symmetric matrices of at most this rank.

    ``delta = max |(1/n) ||A(X)||^2 / ||X||_F^2 - 1|``, by projected power iteration from random starts: ``X <- P(G X)``
    for the largest ratio and ``X <- P(c X - G X)`` for the smallest, with ``G = A* A / n``, c about the largest
    eigenvalue of G, and P that keeps the ``rank`` eigenvalues of largest magnitude at norm 1. Every matrix of that rank
    proves a bound, and the ratios are those of the matrices returned; the constant itself may be larger (it is hard to
    compute), so that a small bound does not prove an isometry. Raises BadInput for a rank that is not in 1..dim.
    Derived; definition as in arXiv 2303.11453.
    """
    check_key(key)
    if not 1 <= rank <= measurements.dim:
        raise BadInput("rank", f"{rank} is not between 1 and dim {measurements.dim}", f"use 1 to {measurements.dim}")

    def gram(matrix: Symmetric) -> Symmetric:
        return measurements.adjoint(measurements.apply(matrix) / measurements.n)

    def ratio(matrix: Symmetric) -> Scalar:
        return jnp.mean(measurements.apply(matrix) ** 2) / jnp.sum(matrix**2)

    def climbed(operator: Callable[[Symmetric], Symmetric], rank: int) -> jax.Array:
        return jax.vmap(lambda start: _climb(operator, start, rank, steps))(draws)

    floats = [leaf.dtype for leaf in jax.tree.leaves(measurements) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    draws = jax.random.normal(key, (starts, measurements.dim, measurements.dim), (floats or [None])[0])
    ceiling = 1.05 * jnp.max(jax.vmap(ratio)(climbed(gram, measurements.dim)))  # the iteration underestimates
    highs, lows = climbed(gram, rank), climbed(lambda matrix: ceiling * matrix - gram(matrix), rank)
    upper, lower = jax.vmap(ratio)(highs), jax.vmap(ratio)(lows)
    largest, smallest = jnp.max(upper), jnp.min(lower)
    delta = jnp.maximum(largest - 1, 1 - smallest)
    return IsometryBound(delta, largest, smallest, highs[jnp.argmax(upper)], lows[jnp.argmin(lower)])


def _climb(operator: Callable[[Symmetric], Symmetric], start: Symmetric, rank: int, steps: int) -> Symmetric:
    """Projected power iteration from ``start``; a matrix that the operator maps to zero is kept."""

    def step(_: jax.Array | int, matrix: Symmetric) -> Symmetric:
        image = _leading(operator(matrix), rank)
        size = jnp.sqrt(jnp.sum(image**2))
        return jnp.where(size == 0, matrix, image / jnp.where(size == 0, 1.0, size))

    start = _leading(start, rank)
    return jax.lax.fori_loop(0, steps, step, start / jnp.sqrt(jnp.sum(start**2)))


def _leading(matrix: Symmetric, rank: int) -> Symmetric:
    """The nearest symmetric matrix of at most this rank: the eigenvalues of largest magnitude kept."""
    matrix = 0.5 * (matrix + matrix.T)  # else rounding's skew part, which no measurement sees, would grow
    if rank == len(matrix):
        return matrix
    values, vectors = eigh(matrix)
    kept = jax.lax.top_k(jnp.abs(values), rank)[1]
    vectors = vectors[:, kept]
    return (vectors * values[kept][None, :]) @ vectors.T
