"""Tests of where the risk f of a masked student is convex: whether its gradient is monotone between masked points.

f is convex in a region where ``<grad f(W) - grad f(V), W - V> >= 0`` for all pairs W, V. Pairs in random directions are
no test: for them that product averages over all curvatures. Convexity fails first along the flattest direction at a
point, so pairs are taken along it.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from gpsense import _linalg
from gpsense._types import Scalar, ScalarLike
from gpsense.theory.tickets import teacher_hessian
from gpsense.tickets import teacher
from gpsense.tickets.teacher import NeuronMask, TeacherSamples, Weights


def secant_curvature(one: Weights, other: Weights, samples: TeacherSamples, mask: NeuronMask) -> Scalar:
    """The curvature ``<grad f(W) - grad f(V), W - V> / ||W - V||^2`` on the mask; if negative, f is not convex."""
    apart = jnp.where(mask, one - other, 0.0)
    first, second = (teacher.risk_and_gradient(weights, samples)[1] for weights in (one, other))
    return jnp.sum((first - second) * apart) / jnp.sum(apart**2)


def flat_directions(
    weights: Weights, samples: TeacherSamples, mask: NeuronMask, count: int
) -> Float[Array, "count neurons dim"]:
    """Unit vectors on the mask along which f has the least curvature at W; f is quadratic near W if no w_j^T x_n is 0.

    They are eigenvectors for the ``count`` smallest eigenvalues of the Hessian ``J^T J / N``, J the Jacobian of the
    outputs on N samples; ``count`` is at most the number of kept weights.
    """
    hessian = teacher_hessian(weights, samples.inputs, mask, samples.used)
    keep = mask.reshape(-1)
    inside = jnp.where(keep[:, None] & keep[None, :], hessian, 0.0)
    beyond = 2 * jnp.trace(inside) + 1  # above all eigenvalues on the mask
    _, vectors = _linalg.eigh(inside + jnp.diag(jnp.where(keep, 0.0, beyond)))
    return vectors[:, :count].T.reshape(count, *weights.shape)


def least_secant_curvature(
    weights: Weights, samples: TeacherSamples, mask: NeuronMask, length: ScalarLike, count: int = 3
) -> Scalar:
    """The least :func:`secant_curvature` from W to ``W +- length v`` over its ``count`` :func:`flat_directions` v."""
    steps = jnp.asarray(length, weights.dtype) * flat_directions(weights, samples, mask, count)
    found = [
        secant_curvature(weights + sign * steps[place], weights, samples, mask)
        for place in range(count)
        for sign in (1.0, -1.0)
    ]
    return jnp.min(jnp.stack(found))
