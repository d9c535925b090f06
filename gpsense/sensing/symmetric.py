"""Symmetric matrices packed to vectors with the inner product kept.

``svec`` stores the upper triangle of a ``dim x dim`` symmetric matrix, row by row, with the off-diagonal
numbers multiplied by sqrt(2), so that ``<svec(X), svec(Y)> = <X, Y>``. A linear map on symmetric matrices then
is an ordinary matrix with ``dim (dim + 1) / 2`` columns.
"""

from collections.abc import Sequence
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

from gpsense._types import Hessian, Packed, Symmetric


def packed_size(dim: int) -> int:
    """Numbers in a packed symmetric matrix: ``dim (dim + 1) / 2``."""
    return dim * (dim + 1) // 2


def packed_dim(size: int) -> int:
    """Side of the matrix that packs to ``size`` numbers; ValueError if there is none."""
    dim = (int(np.sqrt(8 * size + 1)) - 1) // 2
    if packed_size(dim) != size:
        raise ValueError(f"no symmetric matrix packs to {size} numbers; dim (dim + 1) / 2 does")
    return dim


@lru_cache(maxsize=64)
def _layout(dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Flat positions of the upper triangle, where each matrix entry lies in the packed vector, off-diagonal flags."""
    rows, cols = np.triu_indices(dim)
    place = np.zeros((dim, dim), np.int32)
    place[rows, cols] = place[cols, rows] = np.arange(rows.size)
    return (rows * dim + cols).astype(np.int32), place, rows != cols


def svec(matrix: Symmetric) -> Packed:
    """Pack a symmetric matrix: ``svec(X)_(ij) = X_ij`` for i = j, ``sqrt(2) X_ij`` for i < j.

    Reads the upper triangle only. Shapes: (dim, dim) -> (dim (dim + 1) / 2,). Inverse: :func:`smat`.
    """
    upper, _, off = _layout(matrix.shape[0])
    scale = np.where(off, np.sqrt(2.0), 1.0).astype(matrix.dtype)
    return matrix.reshape(-1).at[upper].get(mode="promise_in_bounds", unique_indices=True) * scale


def smat(vector: Packed) -> Symmetric:
    """Unpack a vector to the symmetric matrix X with ``svec(X) = vector``; also the adjoint of :func:`svec`.

    Shapes: (dim (dim + 1) / 2,) -> (dim, dim). Raises ValueError for a length that is no triangle number.
    """
    _, place, off = _layout(packed_dim(vector.shape[0]))
    scale = np.where(off, np.sqrt(0.5), 1.0).astype(vector.dtype)
    return (vector * scale).at[place].get(mode="promise_in_bounds")


def svec_of_many(matrices: Float[Array, "cells dim dim"]) -> Float[Array, "packed cells"]:
    """:func:`svec` of each matrix, one column each: (cells, dim, dim) -> (packed, cells)."""
    count, dim, _ = matrices.shape
    upper, _, off = _layout(dim)
    scale = np.where(off, np.sqrt(2.0), 1.0).astype(matrices.dtype)
    rows = matrices.reshape(count, dim * dim).T.at[upper].get(mode="promise_in_bounds", unique_indices=True)
    return rows * scale[:, None]


def smat_of_many(vectors: Float[Array, "packed cells"]) -> Float[Array, "cells dim dim"]:
    """:func:`smat` of each column: (packed, cells) -> (cells, dim, dim)."""
    _, place, off = _layout(packed_dim(vectors.shape[0]))
    scale = np.where(off, np.sqrt(0.5), 1.0).astype(vectors.dtype)
    return jnp.transpose((vectors * scale[:, None]).at[place].get(mode="promise_in_bounds"), (2, 0, 1))


def packed_map(hessian: Hessian, matrix: Symmetric) -> Symmetric:
    """``smat(H svec(X))`` for symmetric H and X (dim, dim): a linear map of symmetric matrices that is its own adjoint.

    A primitive of its own, because ``vmap`` over X is to be one product (packed, packed) @ (packed, cells), from the
    left: on CPUs half again as fast as the one it would be. ``custom_vmap`` does that, but has no reverse mode.
    """
    return _packed_map.bind(hessian, matrix)


def _map_of_one(hessian: Hessian, matrix: Symmetric) -> Symmetric:
    return smat(hessian @ svec(matrix))


def _map_batched(args: Sequence[jax.Array], dims: Sequence[int | None]) -> tuple[jax.Array, int]:
    hessian, matrices = args
    if dims[0] is not None:
        return jax.vmap(_map_of_one, tuple(dims))(hessian, matrices), 0
    matrices = jax.lax.optimization_barrier(jnp.moveaxis(matrices, dims[1] or 0, 0))
    return smat_of_many(hessian @ svec_of_many(matrices)), 0


def _map_transposed(slope: jax.Array, hessian: jax.Array, matrix: jax.Array) -> tuple[None, jax.Array]:
    return None, packed_map(hessian, 0.5 * (slope + slope.T))


_packed_map = Primitive("packed_map")
_packed_map.def_impl(_map_of_one)
_packed_map.def_abstract_eval(lambda hessian, matrix: matrix)
mlir.register_lowering(_packed_map, mlir.lower_fun(_map_of_one, multiple_results=False))
batching.primitive_batchers[_packed_map] = _map_batched
ad.primitive_transposes[_packed_map] = _map_transposed
ad.defjvp(
    _packed_map,
    lambda tangent, hessian, matrix: _map_of_one(tangent, matrix),
    lambda tangent, hessian, matrix: packed_map(hessian, tangent),
)
