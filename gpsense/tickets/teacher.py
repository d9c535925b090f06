"""Masked teacher networks: which inputs each neuron reads, its weights, samples, and masks for a student.

``y = (1/K) sum_j relu(w_j^T x) + noise``, x ~ N(0, I_d); the rows w_j of W (K, d) have ``r_j`` nonzero entries, and the
second layer is fixed, as in arXiv 2110.05667.
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

BLOCK, WHOLE = 128, 512  # BLOCK rows are read at a time where there are more than WHOLE
Weights = Float[Array, "neurons dim"]
NeuronMask = Bool[Array, "neurons dim"]


class Part(NamedTuple):
    """The first rows of inputs, and the same transposed: products with these copies are faster than with slices."""

    inputs: Vectors
    across: Float[Array, "dim n"]


class TeacherSamples(eqx.Module):
    """Inputs (n, dim), values (n,), ``used`` (n,): 1 for rows that count, else 0; ``power`` is E y^2 without noise.

    ``parts``: for n up to :data:`WHOLE`, copies of all rows and, if fewer may be used, of the first half and quarter.
    """

    inputs: Vectors
    values: Values
    used: Values
    power: Scalar
    parts: tuple[Part, ...] = ()


def support_sizes(neurons: int, size: ScalarLike, uneven: ScalarLike, dim: int, dtype: Any) -> Float[Array, " neurons"]:
    """The ``r_j``: evenly spaced from (1 - uneven) size to (1 + uneven) size, then rounded and clipped to 1..dim."""
    place = jnp.linspace(-1.0, 1.0, neurons, dtype=dtype) if neurons > 1 else jnp.zeros((1,), dtype)
    return jnp.clip(jnp.round(jnp.asarray(size, dtype) * (1 + jnp.asarray(uneven, dtype) * place)), 1, dim)


def independent_supports(key: RandomKey, dim: int, sizes: Float[Array, " neurons"], overlap: ScalarLike) -> NeuronMask:
    """Masks of ``sizes[j]`` inputs for neuron j, drawn independently of other neurons; ``overlap`` is not used."""
    check_key(key)
    neurons, dtype = sizes.shape[0], sizes.dtype
    draw = jax.random.uniform(key, (neurons * dim,), dtype).reshape(neurons, dim)
    return _ranks(draw) < sizes[:, None]


def overlapping_supports(key: RandomKey, dim: int, sizes: Float[Array, " neurons"], overlap: ScalarLike) -> NeuronMask:
    """Masks of the inputs of each neuron, ``round(overlap * min_j sizes[j])`` of which all neurons share.

    A neuron's other inputs are its own while there are enough; then those given to the first neurons are reused.
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
    """How supports are drawn: ``draw(key, dim, sizes, overlap)``, and whether it uses its argument ``overlap``."""

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
    """Weights with independent ``entries(key, count, dtype)`` on the mask, 0 outside it.

    Row j = 0..K-1 is multiplied by ``condition^(-j / (K - 1))``: by 1 for the first, by 1 / condition for the last.
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

    ``noise``: its standard deviation over the root mean square of y.
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
    """``(1/K) sum_j relu(w_j^T x)`` for each row of inputs."""
    return jnp.mean(jax.nn.relu(inputs @ weights.T), axis=1)


def risk(weights: Weights, inputs: Vectors, values: Values, used: Values) -> Scalar:
    """``(1 / 2N) sum_n (yhat_n - y_n)^2`` over the N rows in use: the paper's f, with its factor 1/2."""
    residual = outputs(weights, inputs) - values
    return jnp.sum(used * residual**2) / (2 * jnp.maximum(jnp.sum(used), 1))


def risk_and_gradient(weights: Weights, samples: TeacherSamples) -> tuple[Scalar, Weights]:
    """:func:`risk` of the samples and its gradient ``(1 / KN) sum_n used_n (yhat_n - y_n) 1[w_j^T x_n > 0] x_n``.

    On a CPU only leading rows up to the last in use are read: the smallest part in ``samples.parts`` that holds them,
    or whole blocks of :data:`BLOCK` rows. Cells of few samples are then cheap in a program compiled for many.
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
        fresh = first + jnp.arange(BLOCK, dtype=jnp.int32) >= index * BLOCK  # the last block overlaps the one before
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
                at = jnp.where(index < 0, 0.0, weights)  # else independent of index, and computed even without a turn
                return sums(at, *part, values[: len(part.inputs)], used[: len(part.inputs)])

            wanted = (last > fewer) & (last <= rows)
            square, slope = jax.lax.fori_loop(0, wanted.astype(jnp.int32), read, (square, slope))
    else:
        square, slope = jax.lax.fori_loop(0, (last + BLOCK - 1) // BLOCK, add_block, none)
    return square / (2 * count), slope / (neurons * count)


def student_mask(
    key: RandomKey, support: NeuronMask, sizes: Float[Array, " neurons"], accuracy: ScalarLike
) -> NeuronMask:
    """A random mask of ``sizes[j]`` inputs for neuron j that covers a share ``accuracy`` of each support.

    ``round(accuracy r_j)`` inputs are drawn from the support of neuron j, at most ``sizes[j]``, and the others outside
    it; where there are too few outside, more are drawn from the support. With the same key masks are nested: a larger
    size keeps the inputs of a smaller one, and a larger accuracy those inside the support.
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
    """The teacher W*, cut to the mask and then moved by ``distance ||W*||_F`` in a random direction on the mask."""
    check_key(key)
    neurons, dim = teacher.shape
    draw = jax.random.normal(key, (neurons * dim,), teacher.dtype).reshape(neurons, dim)
    draw = jnp.where(mask, draw, 0.0)
    length = jnp.asarray(distance, teacher.dtype) * jnp.linalg.norm(teacher) / jnp.linalg.norm(draw)
    return jnp.where(mask, teacher, 0.0) + length * draw


def random_start(key: RandomKey, teacher: Weights, mask: NeuronMask, scale: ScalarLike) -> Weights:
    """Gaussian rows on the mask, each of expected squared norm ``scale^2 ||W*||_F^2 / K``, W* the teacher."""
    check_key(key)
    neurons, dim = teacher.shape
    draw = jax.random.normal(key, (neurons * dim,), teacher.dtype).reshape(neurons, dim)
    count = jnp.maximum(jnp.sum(mask, axis=1, keepdims=True).astype(teacher.dtype), 1)
    row = jnp.asarray(scale, teacher.dtype) * jnp.linalg.norm(teacher) / jnp.sqrt(neurons * count)
    return jnp.where(mask, row * draw, 0.0)


def _ranks(draw: Float[Array, "... dim"]) -> Float[Array, "... dim"]:
    """The rank of each entry along the last axis, 0 for the smallest."""
    return jnp.argsort(jnp.argsort(draw, axis=-1), axis=-1).astype(draw.dtype)
