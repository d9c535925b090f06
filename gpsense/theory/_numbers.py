"""Converts Python numbers and JAX arrays to arrays of one floating type."""

import jax
import jax.numpy as jnp

from gpsense._types import Elementwise


def floats(*values: Elementwise | float | int) -> list[jax.Array]:
    """The values as arrays of their common floating type."""
    dtype = jnp.result_type(*values, 0.0)
    return [jnp.asarray(value, dtype) for value in values]
