"""A two-layer network on the kept coordinates: one step, fresh biases, ridge (Algorithm 2 of arXiv 2406.08658).

The network is mirrored: neurons come in pairs with the same weights and bias and output weights +-1, so that it starts
at 0 and the two of a pair move in opposite directions. A step with weight decay ``1 / rate`` forgets its start:
``W_j = -rate grad_j``. A coordinate's weights are drawn from the key and that coordinate alone.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from gpsense._linalg import eigh, solve
from gpsense._types import RandomKey, Scalar
from gpsense.fields import check_key
from gpsense.sparse.hermite import Activation
from gpsense.sparse.samples import Block, Samples, fold

RIDGES = tuple(10.0 ** (exponent / 2) for exponent in range(-10, 5))


class Kept(NamedTuple):
    """The coordinates a network reads, padded to a static number; ``real`` is True for those that are not padding."""

    coordinates: Int[Array, " kept"]
    real: Bool[Array, " kept"]


class Network(eqx.Module):
    """``h(x) = sum_j a_j phi(<w_j, x> + b_j) + <linear, x> + intercept``: the trainable parameters."""

    weights: Float[Array, "kept neurons"]
    biases: Float[Array, " neurons"]
    output: Float[Array, " neurons"]
    linear: Float[Array, " kept"]
    intercept: Scalar

    def hidden(self, activation: Activation, x: Float[Array, "kept rows"]) -> Float[Array, "neurons rows"]:
        """``phi(W^T x + b)``."""
        return activation.value(self.weights.T @ x + self.biases[:, None])

    def __call__(self, activation: Activation, x: Float[Array, "kept rows"]) -> Float[Array, " rows"]:
        """The outputs h(x), one per column of ``x``."""
        return self.output @ self.hidden(activation, x) + self.linear @ x + self.intercept


def kept_coordinates(mask: Bool[Array, " dim"], width: int) -> Kept:
    """The coordinates where ``mask`` is True, rising, padded or cut to the static ``width``."""
    places = jnp.argsort(~mask, stable=True)[:width]
    return Kept(places, mask[places])


def rows_of(kept: Kept, matrix: Float[Array, "dim columns"]) -> Float[Array, "kept columns"]:
    """The matrix's rows at the kept coordinates, 0 for padding."""
    return jnp.where(kept.real[:, None], matrix[kept.coordinates], 0.0)


def draw_weights(key: RandomKey, kept: Kept, neurons: int, dtype: Any) -> Float[Array, "kept neurons"]:
    """Columns uniform on the unit sphere of the kept coordinates."""
    check_key(key)
    draw = lambda index: jax.random.normal(jax.random.fold_in(key, index), (neurons,), dtype)  # noqa: E731
    weights = jnp.where(kept.real[:, None], jax.vmap(draw)(kept.coordinates), 0.0)
    return weights / jnp.sqrt(jnp.sum(weights**2, axis=0))[None, :]


def fold_kept(samples: Samples, kept: Kept, body: Callable[[Any, Block], Any], start: Any) -> Any:
    """:func:`gpsense.sparse.samples.fold` over the kept coordinates, with zeros for padding."""
    clear = lambda block: block._replace(x=jnp.where(kept.real[:, None], block.x, 0.0))  # noqa: E731
    return fold(samples, lambda carry, block: body(carry, clear(block)), start, kept.coordinates)


def no_linear_part(samples: Samples, kept: Kept) -> Float[Array, " kept"]:
    """Zeros: nothing is subtracted from y."""
    return jnp.zeros((kept.real.shape[0],), samples.dtype)


def mean_part(samples: Samples, kept: Kept) -> Float[Array, " kept"]:
    """``mu = (1/n) sum y x``, as in the paper's Algorithm 2+."""

    def add(sums: tuple[Array, Array], block: Block) -> tuple[Array, Array]:
        x = block.x * block.used[None, :]
        return sums[0] + x @ block.y, sums[1] + block.used.sum()

    start = (jnp.zeros((kept.real.shape[0],), samples.dtype), jnp.zeros((), samples.dtype))
    total, count = fold_kept(samples, kept, add, start)
    return total / count


def least_squares_part(samples: Samples, kept: Kept) -> Float[Array, " kept"]:
    """The least-squares coefficients of y on x, without intercept.

    Their residual is orthogonal to x over the samples; that of mu (:func:`mean_part`) in general is not (derived).
    """
    width, dtype = kept.real.shape[0], samples.dtype

    def add(sums: tuple[Array, Array, Array], block: Block) -> tuple[Array, Array, Array]:
        x = block.x * block.used[None, :]
        return sums[0] + x @ block.y, sums[1] + x @ block.x.T, sums[2] + block.used.sum()

    start = (jnp.zeros((width,), dtype), jnp.zeros((width, width), dtype), jnp.zeros((), dtype))
    first, second, count = fold_kept(samples, kept, add, start)
    ridge = 100 * jnp.finfo(dtype).eps * jnp.eye(width, dtype=dtype) + jnp.diag((~kept.real).astype(dtype))
    return solve(second / count + ridge, (first / count)[:, None])[:, 0]


# coefficients of the linear part that is subtracted from y before the step
RESIDUALS: dict[str, Callable[[Samples, Kept], Float[Array, " kept"]]] = {
    "none": no_linear_part,
    "mean": mean_part,
    "ols": least_squares_part,
}


def step_gradient(
    samples: Samples,
    kept: Kept,
    weights: Float[Array, "kept neurons"],
    biases: Float[Array, " neurons"],
    linear: Float[Array, " kept"],
    activation: Activation,
) -> Float[Array, "kept neurons"]:
    """The direction ``G_j = mean (y - <linear, x>) x phi'(<w_j, x> + b_j)`` of the gradient step.

    It is minus half the gradient in w_j of the mean squared residual at the start, for a neuron of output weight 1. The
    hidden layer adds 0 there, since each neuron is paired with one of the same weights and output weight -1.
    """

    def add(sums: tuple[Array, Array], block: Block) -> tuple[Array, Array]:
        slopes = activation.slope(weights.T @ block.x + biases[:, None])
        weighted = block.x * (block.used * (block.y - linear @ block.x))[None, :]
        return sums[0] + weighted @ slopes.T, sums[1] + block.used.sum()

    total, count = fold_kept(samples, kept, add, (jnp.zeros_like(weights), jnp.zeros((), samples.dtype)))
    return total / count


def stepped(
    gradient: Float[Array, "kept neurons"], linear: Float[Array, " kept"], biases: Float[Array, " twice"]
) -> Network:
    """The mirrored network after the step, its output weights still 0: W = +-G, scaled to a median column norm of 1.

    A gradient of 0 stays 0: the second layer then fits a constant.
    """
    median = jnp.median(jnp.sqrt(jnp.sum(gradient**2, axis=0)))
    unit = gradient / jnp.where(median > 0, median, 1.0)
    weights = jnp.concatenate([unit, -unit], axis=1)
    zero = jnp.zeros((), gradient.dtype)
    return Network(weights, biases, jnp.zeros_like(biases), linear, zero)


class Statistics(NamedTuple):
    """Means of the features (hidden units, then the residual of y), and of all their pairwise products."""

    first: Float[Array, " features"]
    second: Float[Array, "features features"]


def statistics(samples: Samples, kept: Kept, network: Network, activation: Activation) -> Statistics:
    """Sample means of the hidden units, then the residual ``y - <linear, x>``, and of all their pairwise products."""

    def add(sums: tuple[Array, Array, Array], block: Block) -> tuple[Array, Array, Array]:
        residual = (block.y - network.linear @ block.x)[None, :]
        features = jnp.concatenate([network.hidden(activation, block.x), residual])
        weighted = features * block.used[None, :]
        return sums[0] + weighted.sum(axis=1), sums[1] + weighted @ features.T, sums[2] + block.used.sum()

    size, dtype = network.biases.shape[0] + 1, samples.dtype
    start = (jnp.zeros((size,), dtype), jnp.zeros((size, size), dtype), jnp.zeros((), dtype))
    first, second, count = fold_kept(samples, kept, add, start)
    return Statistics(first / count, second / count)


def ridge(found: Statistics, network: Network, penalties: Float[Array, " penalties"]) -> Network:
    """The networks, one per penalty p, with ``argmin_a mean (residual - a^T h - a_0)^2 + p s |a|^2`` as output weights.

    The leading axis is that of the ``penalties``. ``s`` is the mean variance of the hidden units h, so that penalties
    are relative; the intercept a_0 is free. Where all units are constant up to rounding, a is 0.
    """
    covariance = found.second - found.first[:, None] * found.first[None, :]
    inner, cross = covariance[:-1, :-1], covariance[:-1, -1]
    values, vectors = eigh(inner)
    scale, size = jnp.mean(jnp.diag(inner)), jnp.mean(jnp.diag(found.second)[:-1])
    varies = scale > 100 * jnp.finfo(scale.dtype).eps * size
    damped = jnp.maximum(values, 0.0)[None, :] + penalties[:, None] * jnp.where(varies, scale, 1.0)
    output = jnp.where(varies, ((vectors.T @ cross)[None, :] / damped) @ vectors.T, 0.0)
    intercepts = found.first[-1] - output @ found.first[:-1]
    same = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (penalties.shape[0], *leaf.shape)), network)
    return eqx.tree_at(lambda net: (net.output, net.intercept), same, (output, intercepts))


def squared_errors(
    samples: Samples, kept: Kept, networks: Network, activation: Activation
) -> tuple[Float[Array, " networks"], Scalar]:
    """Mean ``(h - y)^2`` of networks that differ in the second layer only, and the variance of y."""
    one = jax.tree.map(lambda leaf: leaf[0], networks)

    def add(sums: tuple[Array, ...], block: Block) -> tuple[Array, ...]:
        hidden = one.hidden(activation, block.x)
        found = networks.output @ hidden + (one.linear @ block.x)[None, :] + networks.intercept[:, None]
        missed = (found - block.y[None, :]) ** 2 @ block.used
        y = block.y * block.used
        return sums[0] + missed, sums[1] + y.sum(), sums[2] + y @ block.y, sums[3] + block.used.sum()

    nothing = jnp.zeros((), samples.dtype)
    missed, first, second, count = fold_kept(
        samples, kept, add, (jnp.zeros_like(networks.intercept), nothing, nothing, nothing)
    )
    return missed / count, second / count - (first / count) ** 2
