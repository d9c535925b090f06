"""The directions V (dim, r) that outputs depend on: orthonormal columns, and rows mostly zero or decaying fast."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gpsense import _linalg
from gpsense._types import RandomKey, ScalarLike
from gpsense.fields import check_key, check_sizes

Rows = Float[Array, "count r"]


@dataclass(frozen=True)
class Spread:
    """A distribution of V's nonzero rows: ``rows(draw, key, tilt)`` makes them from standard Gaussians and a key.

    ``exact``: whether these rows are V's own; else their columns are made orthonormal after scaling by the softness.
    ``tilted``: whether it reads ``tilt``; it then needs one direction (r = 1) with several nonzero rows.
    """

    rows: Callable[[Rows, RandomKey, ScalarLike], Rows]
    words: str
    exact: bool = False
    tilted: bool = False


def draw_directions(
    key: RandomKey, dim: int, sparsity: int, r: int, spread: str, softness: float, tilt: ScalarLike, dtype: Any
) -> tuple[Int[Array, " s"], Float[Array, "s r"]]:
    """The indices of V's nonzero rows, drawn without replacement, and these rows; ``V^T V = I``.

    ``spread``: a name of :data:`SPREADS`. With ``softness`` q > 0 all dim rows are nonzero, the i-th scaled by
    ``(1 + i / sparsity)^(-1/q)``: V lies in a weak l_q ball, with ``||V||_{2,q}`` of the order of
    ``sparsity^(1/q - 1/2)`` up to logarithms.
    """
    check_key(key)
    check_sizes(dim=dim, sparsity=sparsity, r=r)
    place_key, row_key, turn_key = jax.random.split(key, 3)
    count = dim if softness > 0 else sparsity
    support = jax.random.permutation(place_key, dim)[:count]
    kind = SPREADS[spread]
    rows = kind.rows(jax.random.normal(row_key, (count, r), dtype), turn_key, tilt)
    if kind.exact:
        return support, rows
    if softness > 0:
        rows = rows * ((1 + jnp.arange(count, dtype=dtype) / sparsity) ** (-1 / softness))[:, None]
    return support, orthonormal(rows)


def _equal(draw: Rows, key: RandomKey, tilt: ScalarLike) -> Rows:
    count, r = draw.shape
    if r == 1:
        return jnp.sign(draw)
    if r == count:
        return draw
    turn = orthonormal(jax.random.normal(key, (r, r), draw.dtype))
    return jnp.sign(draw[:, :1]) * (_harmonic(count, r, draw.dtype) @ turn)


def _spike(draw: Rows, key: RandomKey, tilt: ScalarLike) -> Rows:
    count, dtype = len(draw), draw.dtype
    tilt = jnp.asarray(tilt, dtype)
    rest = jnp.full((count - 1, 1), 1.0, dtype) * tilt
    return jnp.concatenate([jnp.sqrt(1 - (count - 1) * tilt**2)[None, None], rest])


SPREADS: dict[str, Spread] = {
    "equal": Spread(_equal, "norms sqrt(r / sparsity), random signs"),
    "random": Spread(lambda draw, key, tilt: draw, "uniform among orthonormal columns"),
    "axes": Spread(
        lambda draw, key, tilt: jnp.eye(*draw.shape, dtype=draw.dtype), "r coordinates of the support", exact=True
    ),
    "spike": Spread(_spike, "one entry sqrt(1 - (sparsity - 1) tilt^2), the others tilt", exact=True, tilted=True),
}


def _harmonic(count: int, r: int, dtype: Any) -> Float[Array, "count r"]:
    """Orthonormal columns with rows of equal norm: cosines and sines of frequencies 1, 2, ..., a constant for odd r."""
    angles = (
        2 * jnp.pi * jnp.arange(count, dtype=dtype)[:, None] * (1 + jnp.arange(r // 2, dtype=dtype))[None, :] / count
    )
    constant = [jnp.ones((count, 1), dtype) / jnp.sqrt(2.0).astype(dtype)] if r % 2 else []
    return jnp.concatenate([*constant, jnp.cos(angles), jnp.sin(angles)], axis=1) * jnp.asarray(2 / count, dtype) ** 0.5


def orthonormal(matrix: Float[Array, "rows r"]) -> Float[Array, "rows r"]:
    """The Q of ``A = Q R`` with positive diagonal of R; rows as long as those of ``A (A^T A)^{-1/2}``.

    Q is uniform among matrices with orthonormal columns if A is Gaussian.
    """
    if matrix.shape[1] == 1:
        return matrix / jnp.sqrt(jnp.sum(matrix**2))
    columns = _linalg.orthonormal(matrix)
    return columns * jnp.sign(jnp.sum(columns * matrix, axis=0))[None, :]
