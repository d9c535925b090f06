"""Random keys of a cell: one for each role, so that no draw depends on another."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt32

from gpsense._types import Integer, RandomKey

MOST_SEED = 2**32 - 1
MOST_SEEDS = 10_000_000  # in one grid
GENERATOR = {"jax_default_prng_impl": "threefry2x32", "jax_threefry_partitionable": True}  # what keys_of computes


class Keys(eqx.Module):
    """The keys of a seed, which are the same in every grid.

    ``problem`` draws the problem; ``start`` the initial parameters, and what a learner draws later outside of its
    steps, such as random masks of weights; ``noise`` what its steps draw, such as minibatches.
    """

    problem: RandomKey
    start: RandomKey
    noise: RandomKey


def seed_keys(seed: Integer | int) -> Keys:
    """The random keys of a seed: ``fold_in(key(0), seed)``, split into ``problem``, ``start`` and ``noise``.

    ``problem`` draws the problem, its noise included, ``start`` the initial parameters, and ``noise`` what the steps
    draw, such as minibatches. In a sweep, ``problem`` is passed to the function ``draw``, and ``start`` to the cell as
    its parameter ``key``.

    >>> keys = gpsense.seed_keys(7)
    >>> jax.random.normal(keys.problem, (2,)).shape
    (2,)
    """
    return Keys(*jax.random.split(jax.random.fold_in(jax.random.key(0), seed), 3))


def key_shapes() -> Keys:
    """The shapes of :func:`seed_keys`, to trace with; nothing is compiled."""
    return jax.eval_shape(seed_keys, 0)


def keys_of(seeds: UInt32[np.ndarray, " seeds"]) -> Keys:
    """The keys :func:`seed_keys` of many seeds, each an array of keys (seeds,).

    Under JAX's default generator they are computed here in NumPy, to the same bits: as a part of every program they
    would take longer to compile than to compute.
    """
    if any(getattr(jax.config, name, value) != value for name, value in GENERATOR.items()):
        return jax.vmap(seed_keys)(jnp.asarray(seeds))
    words = np.asarray(seeds, np.uint32)
    zero = np.zeros_like(words)
    folded = threefry((zero, zero), (zero, words))
    split = [np.stack(threefry(folded, (zero, zero + np.uint32(role))), -1) for role in range(3)]
    return Keys(*(jax.random.wrap_key_data(jnp.asarray(words)) for words in split))


Words = tuple[UInt32[np.ndarray, "..."], UInt32[np.ndarray, "..."]]


def threefry(key: Words, count: Words) -> Words:
    """The hash Threefry-2x32 with 20 rounds (Salmon et al. 2011) of keys and counts, each two 32-bit words."""
    first, second = key
    schedule = (first, second, first ^ second ^ np.uint32(0x1BD11BDA))
    left, right = count[0] + first, count[1] + second
    for turn in range(5):
        for distance in ((13, 15, 26, 6), (17, 29, 16, 24))[turn % 2]:
            left = left + right
            right = (right << np.uint32(distance) | right >> np.uint32(32 - distance)) ^ left
        left = left + schedule[(turn + 1) % 3]
        right = right + schedule[(turn + 2) % 3] + np.uint32(turn + 1)
    return left, right
