"""Standard Gaussians by key, the numbers of ``jax.random.normal`` in less time on a CPU.

There JAX runs the rounds of its generator as a loop over arrays; written out, they and the inverse of the distribution
function become one pass.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt32

from gpsense._types import RandomKey

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA
Words = UInt32[Array, " n"]


def normals(key: RandomKey, count: int, dtype: Any) -> Float[Array, " n"]:
    """``jax.random.normal(key, (count,), dtype)``: ``sqrt(2) erfinv(u)``, u uniform on (-1, 1) by threefry2x32.

    Keys of another generator are left to JAX.
    """
    if str(jax.random.key_impl(key)) != "threefry2x32":
        return jax.random.normal(key, (count,), dtype)
    high, low = threefry(jax.random.key_data(key), jnp.zeros((count,), jnp.uint32), jnp.arange(count, dtype=jnp.uint32))
    kind = jnp.finfo(dtype)
    unsigned = np.dtype(f"uint{kind.bits}")
    wide = jnp.asarray(32, unsigned)
    bits = high ^ low if kind.bits == 32 else high.astype(unsigned) << wide | low.astype(unsigned)
    mantissa = bits >> jnp.asarray(kind.bits - kind.nmant, unsigned) | np.ones((), dtype).view(unsigned)
    least = np.nextafter(np.asarray(-1, dtype), np.asarray(0, dtype))
    unit = jax.lax.bitcast_convert_type(mantissa, dtype) - np.ones((), dtype)
    uniform = jnp.maximum(least, unit * (1 - least) + least)
    return jnp.asarray(np.sqrt(2), dtype) * jax.lax.erf_inv(uniform)


def threefry(key: UInt32[Array, "2"], one: Words, other: Words) -> tuple[Words, Words]:
    """Two words of counts enciphered: 20 rounds of Threefry-2x32 (Salmon, Moraes, Dror and Shaw, SC 2011)."""
    keys = key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(PARITY)
    one, other = one + keys[0], other + keys[1]
    for turn in range(5):
        for places in ROTATIONS[turn % 2]:
            one = one + other
            other = one ^ (other << jnp.uint32(places) | other >> jnp.uint32(32 - places))
        one, other = one + keys[(turn + 1) % 3], other + keys[(turn + 2) % 3] + jnp.uint32(turn + 1)
    return one, other
