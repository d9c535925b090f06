"""Factor pairs as one stacked factor ``W = [U; V]``, so that ``U V^T`` is the off-diagonal block of ``W W^T``."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from gpsense._types import Factor, Symmetric

Block = Float[Array, "rows columns"]


def halves(factor: Factor, rows: int) -> tuple[Float[Array, "rows width"], Float[Array, "columns width"]]:
    """``U`` (rows, width) and ``V`` (columns, width) of a stacked factor (rows + columns, width)."""
    return factor[:rows], factor[rows:]


def product(factor: Factor, rows: int) -> Block:
    """``U V^T``, shape (rows, columns), of a stacked factor."""
    left, right = halves(factor, rows)
    return left @ right.T


def turned(block: Block, factor: Factor) -> Factor:
    """``[Y V; Y^T U]`` for the ``block`` Y, shape (rows + columns, width): :func:`embedded` Y times ``[U; V]``."""
    left, right = halves(factor, block.shape[0])
    return jnp.concatenate([block @ right, block.T @ left])


def embedded(block: Block) -> Symmetric:
    """``[[0, Y], [Y^T, 0]]`` for the ``block`` Y; its eigenvalues are plus and minus the singular values of Y, or 0."""
    rows, columns = block.shape
    matrix = jnp.zeros((rows + columns, rows + columns), block.dtype)
    return matrix.at[:rows, rows:].set(block).at[rows:, :rows].set(block.T)
