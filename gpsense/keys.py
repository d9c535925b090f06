"""Random keys of a cell: one for each role, so that no draw depends on another."""

import equinox as eqx
import jax

from gpsense._types import Integer, RandomKey

MOST_SEED = 2**32 - 1
MOST_SEEDS = 10_000_000  # in one grid


class Keys(eqx.Module):
    """One key per role, derived from a seed by identity: seed 7 is seed 7 in every grid."""

    problem: RandomKey
    start: RandomKey
    noise: RandomKey


def seed_keys(seed: Integer | int) -> Keys:
    """``fold_in(key(0), seed)`` split by role."""
    return Keys(*jax.random.split(jax.random.fold_in(jax.random.key(0), seed), 3))
