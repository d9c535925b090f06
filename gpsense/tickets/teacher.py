"""Masked teachers: which inputs each neuron sees, its weights, samples of it, and masks that a student is given.

``y = (1/K) sum_j relu(w_j^T x) + noise``, x ~ N(0, I_d); rows w_j (K, d), neuron j sees ``r_j`` inputs (arXiv
2110.05667, whose second layer is fixed, too).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gpsense._types import Integer, RandomKey, Scalar, ScalarLike, Values, Vectors
from gpsense.fields import check_key
from gpsense.theory.tickets import population_risk

BLOCK, WHOLE = 128, 512  # rows read at once, where there are more than WHOLE
Weights = Float[Array, "neurons dim"]
NeuronMask = Bool[Array, "neurons dim"]


class Part(NamedTuple):
    """The first rows of inputs, and the same transposed: products read each faster than a part of something larger."""

    inputs: Vectors
    across: Float[Array, "dim n"]


class TeacherSamples(eqx.Module):
    """Inputs (n, dim), values (n,), and which rows count (n,): 1 or 0; ``power`` is E y^2 without noise.

    ``parts``: up to :data:`WHOLE` rows a second time, a quarter, half and all of them where fewer may be in use.
    """

    inputs: Vectors
    values: Values
    used: Values
    power: Scalar
    parts: tuple[Part, ...] = ()


def support_sizes(neurons: int, size: ScalarLike, uneven: ScalarLike, dim: int, dtype: Any) -> Float[Array, " neurons"]:
    """``r_j``, whole numbers from 1 to dim, evenly spaced from (1 - uneven) r to (1 + uneven) r."""
    place = jnp.linspace(-1.0, 1.0, neurons, dtype=dtype) if neurons > 1 else jnp.zeros((1,), dtype)
    return jnp.clip(jnp.round(jnp.asarray(size, dtype) * (1 + jnp.asarray(uneven, dtype) * place)), 1, dim)


def independent_supports(key: RandomKey, dim: int, sizes: Float[Array, " neurons"], overlap: ScalarLike) -> NeuronMask:
    """The inputs of every neuron, ``r_j`` drawn for each on its own; ``overlap`` is not read."""
    check_key(key)
    neurons, dtype = sizes.shape[0], sizes.dtype
    draw = jax.random.uniform(key, (neurons * dim,), dtype).reshape(neurons, dim)
    return _ranks(draw) < sizes[:, None]


def overlapping_supports(key: RandomKey, dim: int, sizes: Float[Array, " neurons"], overlap: ScalarLike) -> NeuronMask:
    """The inputs of every neuron, ``round(overlap * min_j r_j)`` of them everybody's.

    The others are its own, as long as there are inputs enough: then they begin anew.
    """
    check_key(key)
    dtype = sizes.dtype
    rank = _ranks(jax.random.uniform(key, (dim,), dtype))
    common = jnp.round(jnp.asarray(overlap, dtype) * jnp.min(sizes))
    own = sizes - common
    first = jnp.cumsum(own) - own
    room = jnp.maximum(dim - common, 1)
    place = jnp.mod(rank[None, :] - common - first[:, None], room)
    return (rank < common)[None, :] | ((rank >= common)[None, :] & (place < own[:, None]))


class Supports(NamedTuple):
    """How supports are drawn: ``draw(key, dim, sizes, overlap)``, and whether they can overlap as asked."""

    draw: Callable[[RandomKey, int, Float[Array, " neurons"], ScalarLike], NeuronMask]
    overlap: bool


SUPPORTS: dict[str, Supports] = {
    "independent": Supports(independent_supports, overlap=False),
    "overlap": Supports(overlapping_supports, overlap=True),
}


def uniform_entries(key: RandomKey, count: int, dtype: Any) -> Values:
    """``count`` numbers, uniform on [-1/2, 1/2]."""
    check_key(key)
    half = jnp.asarray(0.5, dtype)
    return jax.random.uniform(key, (count,), dtype, -half, half)


def gaussian_entries(key: RandomKey, count: int, dtype: Any) -> Values:
    """``count`` numbers of N(0, 1/12), which has the variance of :func:`uniform_entries`."""
    check_key(key)
    return jax.random.normal(key, (count,), dtype) / jnp.sqrt(jnp.asarray(12.0, dtype))


DRAWS: dict[str, Callable[[RandomKey, int, Any], Values]] = {
    "uniform": uniform_entries,
    "gaussian": gaussian_entries,
}


def draw_weights(
    key: RandomKey,
    mask: NeuronMask,
    entries: Callable[[RandomKey, int, Any], Values],
    condition: ScalarLike,
    dtype: Any,
) -> Weights:
    """Rows of independent ``entries(key, count, dtype)`` on the mask.

    Row j is multiplied by ``condition^(-j / (K - 1))``: the last is ``condition`` times as small as the first.
    """
    check_key(key)
    neurons, dim = mask.shape
    drawn = entries(key, neurons * dim, dtype)
    fall = jnp.asarray(condition, dtype) ** (-jnp.arange(neurons, dtype=dtype) / max(neurons - 1, 1))
    return jnp.where(mask, drawn.reshape(neurons, dim) * fall[:, None], 0.0)


def draw_samples(
    key: RandomKey, weights: Weights, n: int, count: ScalarLike | None, noise: ScalarLike
) -> TeacherSamples:
    """``n`` samples, the first ``count`` of which are used (None: all).

    ``noise`` is a multiple of the root mean square of y.
    """
    check_key(key)
    dtype, dim = weights.dtype, weights.shape[1]
    input_key, noise_key = jax.random.split(key)
    inputs = jax.random.normal(input_key, (n * dim,), dtype).reshape(n, dim)
    power = population_risk(weights, jnp.zeros_like(weights))
    noises = jnp.asarray(noise, dtype) * jnp.sqrt(power) * jax.random.normal(noise_key, (n,), dtype)
    used = (jnp.arange(n, dtype=dtype) < jnp.asarray(n if count is None else count, dtype)).astype(dtype)
    sizes = [] if n > WHOLE else [n] if count is None else sorted({-(-n // share) for share in (4, 2, 1)})
    parts = tuple(Part(inputs[:rows], inputs[:rows].T) for rows in sizes)
    return TeacherSamples(inputs, outputs(weights, inputs) + noises, used, power, parts)


def outputs(weights: Weights, inputs: Vectors) -> Values:
    """``(1/K) sum_j relu(w_j^T x)`` of every row of inputs."""
    return jnp.mean(jax.nn.relu(inputs @ weights.T), axis=1)


def risk(weights: Weights, inputs: Vectors, values: Values, used: Values) -> Scalar:
    """``(1 / 2N) sum_n (yhat_n - y_n)^2`` over the N rows in use: the paper's f, with its factor 1/2."""
    residual = outputs(weights, inputs) - values
    return jnp.sum(used * residual**2) / (2 * jnp.maximum(jnp.sum(used), 1))


def risk_and_gradient(weights: Weights, samples: TeacherSamples) -> tuple[Scalar, Weights]:
    """:func:`risk` of the samples and its gradient ``(1 / KN) sum_n used_n (yhat_n - y_n) 1[w_j^T x_n > 0] x_n``.

    On a CPU the fewest rows are read that hold those in use: cells of few samples in a program made for many cost
    little more than they must. These are the smallest of ``samples.parts``, or as many blocks of :data:`BLOCK` rows.
    """
    inputs, values, used, parts = samples.inputs, samples.values, samples.used, samples.parts
    n, neurons = inputs.shape[0], weights.shape[0]
    count = jnp.maximum(jnp.sum(used), 1)
    last = jnp.max(jnp.where(used > 0, jnp.arange(1, n + 1, dtype=jnp.int32), 0))

    def sums(at: Weights, x: Vectors, across: Array, y: Values, weight: Values) -> tuple[Scalar, Weights]:
        active = at @ across
        residual = jnp.mean(jax.nn.relu(active), axis=0) - y
        pull = weight * residual
        return jnp.sum(pull * residual), jnp.where(active > 0, pull[None, :], 0.0) @ x

    def add_block(index: Integer, before: tuple[Scalar, Weights]) -> tuple[Scalar, Weights]:
        first = jnp.minimum(index * BLOCK, n - BLOCK)
        x, y, weight = (jax.lax.dynamic_slice_in_dim(each, first, BLOCK) for each in (inputs, values, used))
        fresh = first + jnp.arange(BLOCK, dtype=jnp.int32) >= index * BLOCK  # the last begins inside the one before
        square, slope = sums(weights, x, x.T, y, jnp.where(fresh, weight, 0.0))
        return before[0] + square, before[1] + slope

    none = jnp.zeros((), weights.dtype), jnp.zeros_like(weights)
    if jax.default_backend() != "cpu" or len(parts) == 1:
        square, slope = sums(weights, inputs, parts[-1].across if parts else inputs.T, values, used)
    elif parts:
        square, slope = none
        rows = 0
        for part in parts:
            fewer, rows = rows, part.inputs.shape[0]

            def read(index: Integer, before: tuple[Scalar, Weights], part: Part = part) -> tuple[Scalar, Weights]:
                at = jnp.where(index < 0, 0.0, weights)  # what no index enters would be done whether or not it is read
                return sums(at, *part, values[: len(part.inputs)], used[: len(part.inputs)])

            wanted = (last > fewer) & (last <= rows)
            square, slope = jax.lax.fori_loop(0, wanted.astype(jnp.int32), read, (square, slope))
    else:
        square, slope = jax.lax.fori_loop(0, (last + BLOCK - 1) // BLOCK, add_block, none)
    return square / (2 * count), slope / (neurons * count)


def student_mask(
    key: RandomKey, support: NeuronMask, sizes: Float[Array, " neurons"], accuracy: ScalarLike
) -> NeuronMask:
    """A mask of so many inputs a neuron that covers a share ``accuracy`` of each support, the others drawn outside.

    Of neuron j ``round(accuracy r_j)`` inputs lie in its support, as far as sizes_j and dim leave them room, and
    ``sizes_j`` less those outside: a size too large for what is outside takes more of the support. Nested: a larger
    size keeps what a smaller one did, and a larger accuracy what a smaller one did of the support.
    """
    check_key(key)
    neurons, dim = support.shape
    dtype = sizes.dtype
    draw = jax.random.uniform(key, (neurons * dim,), dtype).reshape(neurons, dim)
    inside = jnp.sum(support, axis=1).astype(dtype)
    right = jnp.minimum(jnp.round(jnp.asarray(accuracy, dtype) * inside), sizes)
    right = jnp.maximum(right, sizes - (dim - inside))
    among = _ranks(jnp.where(support, draw, 2.0))
    beyond = _ranks(jnp.where(support, 2.0, draw))
    return jnp.where(support, among < right[:, None], beyond < (sizes - right)[:, None])


def near_start(key: RandomKey, teacher: Weights, mask: NeuronMask, distance: ScalarLike) -> Weights:
    """A point at ``||W - W*||_F = distance ||W*||_F`` in a random direction of the mask, from W* on the mask."""
    check_key(key)
    neurons, dim = teacher.shape
    draw = jax.random.normal(key, (neurons * dim,), teacher.dtype).reshape(neurons, dim)
    draw = jnp.where(mask, draw, 0.0)
    length = jnp.asarray(distance, teacher.dtype) * jnp.linalg.norm(teacher) / jnp.linalg.norm(draw)
    return jnp.where(mask, teacher, 0.0) + length * draw


def random_start(key: RandomKey, teacher: Weights, mask: NeuronMask, scale: ScalarLike) -> Weights:
    """Gaussian rows on the mask of expected squared norm ``scale^2 ||W*||_F^2 / K``."""
    check_key(key)
    neurons, dim = teacher.shape
    draw = jax.random.normal(key, (neurons * dim,), teacher.dtype).reshape(neurons, dim)
    count = jnp.maximum(jnp.sum(mask, axis=1, keepdims=True).astype(teacher.dtype), 1)
    row = jnp.asarray(scale, teacher.dtype) * jnp.linalg.norm(teacher) / jnp.sqrt(neurons * count)
    return jnp.where(mask, row * draw, 0.0)


def _ranks(draw: Float[Array, "... dim"]) -> Float[Array, "... dim"]:
    """Place of every entry along the last axis when sorted."""
    return jnp.argsort(jnp.argsort(draw, axis=-1), axis=-1).astype(draw.dtype)
