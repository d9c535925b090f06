"""Input-feature pruning at the start: scores of input coordinates from gradients, and rules that keep some.

A rule is an entry of :data:`INPUT_RULES`: how it decides, how many inputs it needs and what it costs.

Scores follow Algorithm 1 of arXiv 2406.08658. A neuron whose weights are ``e~_i = c e_i + sqrt(1-c^2) e_z``, a shifted
basis vector with e_z along an input of pure noise, has the gradient
``G_i = (1/n) sum_l y_l x_l phi'(<e~_i, x_l> + b)`` for the activation phi and the bias b; the even and odd parts of
phi(t + b) in ``t = <e~_i, x>`` detect even and odd information exponents.
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
    """The parts of an activation that each give a score; ``linear``: whether the noise input gives one, too."""

    parts: tuple[str, ...]
    linear: bool = False

    @property
    def pools(self) -> int:
        """The number of scores, each of which contributes a pool of coordinates."""
        return len(self.parts) + self.linear


PARITIES: dict[str, Parity] = {
    "both": Parity(("even", "odd"), linear=True),
    "even": Parity(("even",)),
    "odd": Parity(("odd",), linear=True),
    "none": Parity(("none",)),
    "linear": Parity((), linear=True),
}


class Scores(NamedTuple):
    """Squared scores (parts, dim), a row per part of the activation that is used, and linear scores (dim,).

    The parts are its even part, its odd part, or the whole. ``linear`` is ``|(1/n) sum_l y_l x_l phi_-'(z_l)|``, the
    absolute gradient of a neuron whose weights lie along the noise input z, with phi_- the odd part of the activation
    (:func:`slope_part`); None if not used.
    """

    squares: Float[Array, "parts dim"]
    linear: Float[Array, " dim"] | None


def slope_part(activation: Activation, part: str, t: Float[Array, "..."], bias: ScalarLike) -> Float[Array, "..."]:
    """The derivative in t of ``phi(t + b)`` (``part`` none), or of its even or odd part in t.

    The even part is ``(phi(t + b) + phi(-t + b)) / 2``, the odd part ``(phi(t + b) - phi(-t + b)) / 2``.
    """
    one = activation.slope(t + bias)
    if part == "none":
        return one
    other = activation.slope(-t + bias)
    return (one - other if part == "even" else one + other) / 2


def gradients(
    samples: Samples, biases: Float[Array, " biases"], contraction: ScalarLike, activation: Activation, parity: str
) -> tuple[Float[Array, "biases parts dim dim"], Float[Array, " dim"]]:
    """The gradients ``G[b, part, i]`` (dim,) of neurons along each e~_i, and one (dim,) for the odd part along e_z.

    The latter is at the bias |b_0|, b_0 the first of ``biases``. Gradients have an entry for each of the dim inputs,
    none for the noise coordinate. Working memory: biases x parts x dim^2 numbers, whatever the number of samples.
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
    """The scores ``Score(i)^2 = sum_b ||the pool largest entries of G[b, part, i]||^2``: Algorithm 1, arXiv 2406.08658.

    G are the :func:`gradients` at the ``biases`` b and for the ``contraction`` c. ``parity`` says which part of the
    activation gives scores: even, odd, both, or none (the whole activation; not the paper's). With odd and both there
    are linear scores besides, and with linear these alone: the gradient of one neuron whose weights lie along e_z, an
    input of pure noise. They are for ``y = <beta, x>``, where every G_i has the large entries of beta, so that even and
    odd scores cannot tell coordinates apart (derived, not the paper's).

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
    """The mask of the ``pool`` largest scores of each part and of ``linear``: at most ``3 * pool`` coordinates."""
    rows: Sequence[Array] = [*scores.squares, *([] if scores.linear is None else [scores.linear])]
    masks = [largest(row, pool) for row in rows]
    return jnp.any(jnp.stack(masks), axis=0)


def strengths(scores: Scores) -> Float[Array, " dim"]:
    """One score per coordinate: the largest over the parts, not squared, or ``linear`` where there are no parts."""
    if scores.squares.shape[0] == 0 and scores.linear is not None:
        return scores.linear
    return jnp.sqrt(jnp.max(scores.squares, axis=0))


def largest(values: Float[Array, " dim"], count: int) -> Bool[Array, " dim"]:
    """The mask of the ``count`` largest values; among equal values the first are taken."""
    _, places = jax.lax.top_k(values, count)
    return jnp.zeros(values.shape, bool).at[places].set(True)


class Candidates(NamedTuple):
    """What a rule may read: the samples, its own random key, and the options of the scores.

    ``columns()`` returns a first layer on all coordinates: the trained one, or that after one dense (unpruned) step.
    ``oracle()`` returns the decision by the coordinates that truly matter.
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
    """A rule that decides which coordinates are kept, and what must be known about it before anything is drawn.

    ``room``: the pool may be at most dim / room; ``everything``: all coordinates are kept;
    ``products(biases, parts)``: number of passes over the samples, of n dim^2 multiplications each.
    """

    decide: Callable[[Candidates], Decided]
    words: str = ""
    room: int = 1
    everything: bool = False
    products: Callable[[int, int], int] = lambda biases, parts: 0

    def most_pool(self, dim: int) -> int:
        """The largest pool allowed with ``dim`` coordinates."""
        return dim // self.room


def by_gradient(given: Candidates) -> Decided:
    """The mask of all pools of Algorithm 1 together, and the :func:`strengths` of all coordinates."""
    scores = gradient_scores(given.samples, given.biases, given.contraction, given.pool, given.activation, given.parity)
    return chosen(scores, given.pool), strengths(scores)


def by_magnitude(given: Candidates) -> Decided:
    """The mask of the ``3 * pool`` coordinates with the largest rows of the first layer, and the norms of all rows."""
    score = jnp.sqrt(jnp.sum(given.columns() ** 2, axis=1))
    return largest(score, 3 * given.pool), score


def at_random(given: Candidates) -> Decided:
    """The mask of ``3 * pool`` coordinates drawn at random, and the random scores of all coordinates."""
    score = jax.random.uniform(given.key, (given.samples.dim,), given.samples.dtype)
    return largest(score, 3 * given.pool), score


def keep_all(given: Candidates) -> Decided:
    """The mask of all coordinates, and scores of 0."""
    dim = given.samples.dim
    return jnp.ones((dim,), bool), jnp.zeros((dim,), given.samples.dtype)


INPUT_RULES: dict[str, InputRule] = {
    "gradient": InputRule(
        by_gradient, "scores at the start, Algorithm 1", products=lambda biases, parts: biases * parts
    ),
    "magnitude": InputRule(by_magnitude, "largest rows after a dense step or training", room=3),
    "random": InputRule(at_random, "drawn at random", room=3),
    "oracle": InputRule(lambda given: given.oracle(), "the true support"),
    "none": InputRule(keep_all, "all", everything=True),
}
