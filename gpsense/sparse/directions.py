"""The directions V (dim, r) that outputs depend on: orthonormal columns, few or fast-falling rows."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gpsense import _linalg
from gpsense._types import RandomKey, ScalarLike

SPREADS = ("equal", "random", "axes", "spike")


def draw_directions(
    key: RandomKey, dim: int, sparsity: int, r: int, spread: str, softness: float, tilt: ScalarLike, dtype: Any
) -> tuple[Int[Array, " s"], Float[Array, "s r"]]:
    """The rows of V that are not 0 and their places, drawn without replacement; ``V^T V = I``.

    ``spread`` of the rows: equal norms ``sqrt(r / sparsity)`` with random signs; random, uniform among orthonormal
    columns; axes, the first r coordinates of the support; spike, for r = 1: one entry
    ``sqrt(1 - (sparsity - 1) tilt^2)``, the others ``tilt``. With ``softness`` q > 0 all dim rows are there, the i-th
    scaled by ``(1 + i / sparsity)^(-1/q)``: V lies in a weak l_q ball, ``||V||_{2,q}`` staying of the order of
    ``sparsity^(1/q - 1/2)`` up to logarithms.
    """
    place_key, row_key, turn_key = jax.random.split(key, 3)
    count = dim if softness > 0 else sparsity
    support = jax.random.permutation(place_key, dim)[:count]
    draw = jax.random.normal(row_key, (count, r), dtype)
    if spread == "spike":
        tilt = jnp.asarray(tilt, dtype)
        rest = jnp.full((count - 1, 1), 1.0, dtype) * tilt
        return support, jnp.concatenate([jnp.sqrt(1 - (count - 1) * tilt**2)[None, None], rest])
    if spread == "axes":
        return support, jnp.eye(count, r, dtype=dtype)
    if spread == "equal" and r == 1:
        draw = jnp.sign(draw)
    elif spread == "equal" and r < count:
        turn = orthonormal(jax.random.normal(turn_key, (r, r), dtype))
        draw = jnp.sign(draw[:, :1]) * (_harmonic(count, r, dtype) @ turn)
    if softness > 0:
        draw = draw * ((1 + jnp.arange(count, dtype=dtype) / sparsity) ** (-1 / softness))[:, None]
    return support, orthonormal(draw)


def _harmonic(count: int, r: int, dtype: Any) -> Float[Array, "count r"]:
    """Orthonormal columns with rows of equal norm: cosines and sines of frequencies 1, 2, ..., a constant for odd r."""
    angles = (
        2 * jnp.pi * jnp.arange(count, dtype=dtype)[:, None] * (1 + jnp.arange(r // 2, dtype=dtype))[None, :] / count
    )
    constant = [jnp.ones((count, 1), dtype) / jnp.sqrt(2.0).astype(dtype)] if r % 2 else []
    return jnp.concatenate([*constant, jnp.cos(angles), jnp.sin(angles)], axis=1) * jnp.asarray(2 / count, dtype) ** 0.5


def orthonormal(matrix: Float[Array, "rows r"]) -> Float[Array, "rows r"]:
    """``Q`` of ``A = Q R``, R's diagonal positive: row norms those of ``A (A^T A)^{-1/2}``; uniform for Gaussian A."""
    if matrix.shape[1] == 1:
        return matrix / jnp.sqrt(jnp.sum(matrix**2))
    columns = _linalg.orthonormal(matrix)
    return columns * jnp.sign(jnp.sum(columns * matrix, axis=0))[None, :]
