"""Which input coordinates a network at its start can see: scores from gradients, and the rules that keep some.

A rule is an entry of :data:`INPUT_RULES`: what it needs of the inputs and costs, and how it decides.

Algorithm 1 of arXiv 2406.08658. A neuron that looks along the shifted basis vector ``e~_i = c e_i + sqrt(1-c^2) e_z``,
e_z an input of pure noise, has the gradient ``G_i = (1/n) sum_l y_l x_l phi'(<e~_i, x_l> + b)``; its even and odd parts
in <e~_i, x> see even and odd information exponents.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gpsense._types import RandomKey, ScalarLike
from gpsense.sparse.hermite import Activation
from gpsense.sparse.samples import Block, Samples, fold

Decided = tuple[Bool[Array, " dim"], Float[Array, " dim"]]  # the mask, and the scores behind it


@dataclass(frozen=True)
class Parity:
    """The parts of an activation that score on their own; ``linear``: the gradient along e_z does, too."""

    parts: tuple[str, ...]
    linear: bool = False

    @property
    def pools(self) -> int:
        """Pools that the union of the chosen can have."""
        return len(self.parts) + self.linear


PARITIES: dict[str, Parity] = {
    "both": Parity(("even", "odd"), linear=True),
    "even": Parity(("even",)),
    "odd": Parity(("odd",), linear=True),
    "none": Parity(("none",)),
    "linear": Parity((), linear=True),
}


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
    dim, dtype, parts = samples.dim, samples.dtype, PARITIES[parity].parts
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

    ``parity``: which parts of the activation score: even, odd or both. Two more are not the paper's: none, the
    activation as a whole, and linear, the gradient along e_z alone. The last is for a linear y, ``y = <beta, x>``:
    every G_i then has the large entries of beta, so that even and odd scores tell nothing (derived).

    >>> from gpsense.sparse.hermite import find_activation
    >>> from gpsense.sparse.samples import table
    >>> x = jax.random.normal(jax.random.key(0), (500, 4))
    >>> samples = table(x, x[:, 2] ** 2 - 1, jax.random.key(1))
    >>> scores = gpsense.gradient_scores(samples, jnp.zeros(1), 0.9, 1, find_activation("relu"), parity="even")
    >>> int(scores.squares[0].argmax())
    2
    """
    found, linear = gradients(samples, biases, contraction, activation, parity)
    largest, _ = jax.lax.top_k(jnp.abs(found), pool)
    squares = jnp.sum(largest**2, axis=(0, 3))
    return Scores(squares, jnp.abs(linear) if PARITIES[parity].linear else None)


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


class Candidates(NamedTuple):
    """What a rule may read: the samples, a key of its own, and the options of the scores.

    ``columns()`` is a first layer on all coordinates: the trained one, or that of one dense step. ``oracle()`` decides
    by the truth.
    """

    samples: Samples
    key: RandomKey
    pool: int
    parity: str
    contraction: ScalarLike
    biases: Float[Array, " biases"]
    activation: Activation
    columns: Callable[[], Float[Array, "dim columns"]]
    oracle: Callable[[], Decided]


@dataclass(frozen=True)
class InputRule:
    """A rule that keeps coordinates, and what is asked of it before anything is drawn.

    ``room``: coordinates that there must be for each of the pool; ``everything``: all stay;
    ``products(biases, parts)``: passes of n dim^2 multiplications over the samples.
    """

    decide: Callable[[Candidates], Decided]
    words: str = ""
    room: int = 1
    everything: bool = False
    products: Callable[[int, int], int] = lambda biases, parts: 0

    def most_pool(self, dim: int) -> int:
        """The largest pool that dim coordinates allow."""
        return dim // self.room


def by_gradient(given: Candidates) -> Decided:
    """The union of the pools of Algorithm 1, and its :func:`strengths`."""
    scores = gradient_scores(given.samples, given.biases, given.contraction, given.pool, given.activation, given.parity)
    return chosen(scores, given.pool), strengths(scores)


def by_magnitude(given: Candidates) -> Decided:
    """The three pools of largest rows of the first layer."""
    score = jnp.sqrt(jnp.sum(given.columns() ** 2, axis=1))
    return largest(score, 3 * given.pool), score


def at_random(given: Candidates) -> Decided:
    """Three pools drawn at random."""
    score = jax.random.uniform(given.key, (given.samples.dim,), given.samples.dtype)
    return largest(score, 3 * given.pool), score


def keep_all(given: Candidates) -> Decided:
    """All coordinates, without a score."""
    dim = given.samples.dim
    return jnp.ones((dim,), bool), jnp.zeros((dim,), given.samples.dtype)


INPUT_RULES: dict[str, InputRule] = {
    "gradient": InputRule(
        by_gradient, "scores at the start, Algorithm 1", products=lambda biases, parts: biases * parts
    ),
    "magnitude": InputRule(by_magnitude, "rows of a dense step or of the trained weights", room=3),
    "random": InputRule(at_random, "as many", room=3),
    "oracle": InputRule(lambda given: given.oracle(), "those that matter"),
    "none": InputRule(keep_all, "all", everything=True),
}
