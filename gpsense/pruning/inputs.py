"""Which input coordinates a network at its start can see: scores from gradients, and the rules that keep some.

Algorithm 1 of arXiv 2406.08658. A neuron that looks along the shifted basis vector ``e~_i = c e_i + sqrt(1-c^2) e_z``,
e_z an input of pure noise, has the gradient ``G_i = (1/n) sum_l y_l x_l phi'(<e~_i, x_l> + b)``; its even and odd parts
in <e~_i, x> see even and odd information exponents.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gpsense._types import ScalarLike
from gpsense.sparse.hermite import Activation
from gpsense.sparse.samples import Block, Samples, fold

PARITIES = {"both": ("even", "odd"), "even": ("even",), "odd": ("odd",), "none": ("none",), "linear": ()}


class Scores(NamedTuple):
    """Squared scores of the coordinates (parts, dim), one row a part of the activation; ``linear`` (dim,) = |G_z|.

    ``linear`` is the odd part's gradient along e_z, ``|(1/n) sum y x_i phi'_-(z; b)|``: None where it is not used.
    """

    squares: Float[Array, "parts dim"]
    linear: Float[Array, " dim"] | None


def slope_part(activation: Activation, part: str, t: Float[Array, "..."], bias: ScalarLike) -> Float[Array, "..."]:
    """Slope in t of a part of ``phi(t + b)``: even ``(phi(t+b) + phi(-t+b))/2``, odd the difference; none: whole."""
    one = activation.slope(t + bias)
    if part == "none":
        return one
    other = activation.slope(-t + bias)
    return (one - other if part == "even" else one + other) / 2


def gradients(
    samples: Samples, biases: Float[Array, " biases"], contraction: ScalarLike, activation: Activation, parity: str
) -> tuple[Float[Array, "biases parts dim dim"], Float[Array, " dim"]]:
    """``G[b, part, i] (dim,)`` of neurons along every e~_i, and that of the odd part at bias |b_0| along e_z.

    The entries of the dim inputs; that of the noise coordinate is left out. Working memory: biases x parts x dim^2
    numbers, whatever the number of samples.
    """
    dim, dtype, parts = samples.dim, samples.dtype, PARITIES[parity]
    c = jnp.asarray(contraction, dtype)
    aside = jnp.sqrt(1 - c**2)

    def add(sums: tuple[Array, ...], block: Block) -> tuple[Array, ...]:
        x, z, weights = block.x[:dim], block.x[dim], block.used * block.y
        seen, along = x * weights[None, :], c * x + aside * z[None, :]
        products = [[slope_part(activation, part, along, bias) @ seen.T for part in parts] for bias in biases]
        linear = seen @ slope_part(activation, "odd", z, jnp.abs(biases[0]))
        squares = sums[0] + jnp.stack([jnp.stack(row) for row in products]) if parts else sums[0]
        return squares, sums[1] + linear, sums[2] + block.used.sum()

    empty = jnp.zeros((biases.shape[0], len(parts), dim, dim), dtype)
    start = (empty, jnp.zeros((dim,), dtype), jnp.zeros((), dtype))
    total, linear, count = fold(samples, add, start)
    return total / count, linear / count


def gradient_scores(
    samples: Samples,
    biases: Float[Array, " biases"],
    contraction: ScalarLike,
    pool: int,
    activation: Activation,
    parity: str = "both",
) -> Scores:
    """``Score(i)^2 = sum_b ||the pool largest entries of G[b, part, i]||^2`` (Algorithm 1 of arXiv 2406.08658).

    ``parity``: both, even or odd parts of the activation. Two that are not the paper's: none, the activation as it is;
    linear, the gradient along e_z alone. Where y is linear, ``y = <beta, x>``, every G_i has the large entries of beta,
    so that even and odd scores tell nothing and only e_z does (derived).
    """
    found, linear = gradients(samples, biases, contraction, activation, parity)
    largest, _ = jax.lax.top_k(jnp.abs(found), pool)
    squares = jnp.sum(largest**2, axis=(0, 3))
    return Scores(squares, jnp.abs(linear) if sees_linear(parity) else None)


def sees_linear(parity: str) -> bool:
    """Whether the gradient along e_z takes part: with the odd part, or alone."""
    return parity in ("both", "odd", "linear")


def chosen(scores: Scores, pool: int) -> Bool[Array, " dim"]:
    """The union J of the ``pool`` largest of every part's scores and of ``linear``: at most 3 pool coordinates."""
    rows: Sequence[Array] = [*scores.squares, *([] if scores.linear is None else [scores.linear])]
    masks = [largest(row, pool) for row in rows]
    return jnp.any(jnp.stack(masks), axis=0)


def strengths(scores: Scores) -> Float[Array, " dim"]:
    """One number a coordinate: the larger of its scores, ``linear`` where there is no other."""
    if scores.squares.shape[0] == 0 and scores.linear is not None:
        return scores.linear
    return jnp.sqrt(jnp.max(scores.squares, axis=0))


def largest(values: Float[Array, " dim"], count: int) -> Bool[Array, " dim"]:
    """Mask of the ``count`` largest values; of equal ones the first."""
    _, places = jax.lax.top_k(values, count)
    return jnp.zeros(values.shape, bool).at[places].set(True)


def most_pool(parity: str) -> int:
    """Pools that a union can have: 3 for both parts, 2 for the odd, 1 for the others."""
    return len(PARITIES[parity]) + sees_linear(parity)
