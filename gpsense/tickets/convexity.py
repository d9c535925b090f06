"""Where the risk of a masked student is convex: whether its gradient is monotone between points of the mask.

``<grad f(W) - grad f(V), W - V> >= 0`` for all pairs of a region is convexity there. Pairs in random directions do not
tell: that product averages over all curvatures. What fails first is the flattest direction of a point, so pairs are
taken along it.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from gpsense import _linalg
from gpsense._types import Scalar, ScalarLike
from gpsense.theory.tickets import teacher_hessian
from gpsense.tickets import teacher
from gpsense.tickets.teacher import NeuronMask, TeacherSamples, Weights


def secant_curvature(one: Weights, other: Weights, samples: TeacherSamples, mask: NeuronMask) -> Scalar:
    """``<grad f(W) - grad f(V), W - V> / ||W - V||^2`` on the mask; negative: f is not convex between them."""
    apart = jnp.where(mask, one - other, 0.0)
    first, second = (teacher.risk_and_gradient(weights, samples)[1] for weights in (one, other))
    return jnp.sum((first - second) * apart) / jnp.sum(apart**2)


def flat_directions(
    weights: Weights, samples: TeacherSamples, mask: NeuronMask, count: int
) -> Float[Array, "count neurons dim"]:
    """Unit vectors on the mask along which f curves least at W, where no ``w_j^T x_n`` is 0: f is quadratic nearby.

    Eigenvectors of the ``count`` smallest eigenvalues of ``J^T J / N``; ``count`` is at most the weights kept.
    """
    hessian = teacher_hessian(weights, samples.inputs, mask, samples.used)
    keep = mask.reshape(-1)
    inside = jnp.where(keep[:, None] & keep[None, :], hessian, 0.0)
    beyond = 2 * jnp.trace(inside) + 1  # above all eigenvalues of the kept
    _, vectors = _linalg.eigh(inside + jnp.diag(jnp.where(keep, 0.0, beyond)))
    return vectors[:, :count].T.reshape(count, *weights.shape)


def least_secant_curvature(
    weights: Weights, samples: TeacherSamples, mask: NeuronMask, length: ScalarLike, count: int = 3
) -> Scalar:
    """The least :func:`secant_curvature` from W to ``W +- length v``, v its :func:`flat_directions`."""
    steps = jnp.asarray(length, weights.dtype) * flat_directions(weights, samples, mask, count)
    found = [
        secant_curvature(weights + sign * steps[place], weights, samples, mask)
        for place in range(count)
        for sign in (1.0, -1.0)
    ]
    return jnp.min(jnp.stack(found))
