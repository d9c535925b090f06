"""Symmetric matrices packed to vectors, preserving the inner product.

``svec`` stores the upper triangle of a ``dim x dim`` symmetric matrix, row by row, with the off-diagonal
numbers multiplied by sqrt(2), so that ``<svec(X), svec(Y)> = <X, Y>``. A linear map on symmetric matrices then
is an ordinary matrix with ``dim (dim + 1) / 2`` columns.
"""

import operator
from collections.abc import Callable, Sequence
from functools import lru_cache, reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import ad, batching
from jaxtyping import Array, Float

from gpsense._lanes import primitive
from gpsense._types import Factor, Hessian, Packed, Symmetric
from gpsense.errors import BadInput

Factors = Float[Array, "dim width cells"]
PackedMany = Float[Array, "packed cells"]
UNROLLED = 64  # sides up to which products of many small matrices are written out, term by term


def packed_size(dim: int) -> int:
    """Numbers in a packed symmetric matrix: ``dim (dim + 1) / 2``."""
    return dim * (dim + 1) // 2


def packed_dim(size: int) -> int:
    """Side of the matrix that packs to ``size`` numbers; BadInput if there is none."""
    dim = (int(np.sqrt(8 * size + 1)) - 1) // 2
    if packed_size(dim) != size:
        raise BadInput("size", f"no symmetric matrix packs to {size} numbers", "give dim (dim + 1) / 2 of them")
    return dim


@lru_cache(maxsize=64)
def _layout(dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Flat indices of the upper triangle, the packed index of each entry, and which packed numbers are off-diagonal."""
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
    return jnp.ravel(matrix).at[upper].get(mode="promise_in_bounds", unique_indices=True) * scale


def smat(vector: Packed) -> Symmetric:
    """Unpack a vector to the symmetric matrix X with ``svec(X) = vector``; also the adjoint of :func:`svec`.

    Shapes: (dim (dim + 1) / 2,) -> (dim, dim). Raises BadInput for a length of another form.
    """
    _, place, off = _layout(packed_dim(vector.shape[0]))
    scale = np.where(off, np.sqrt(0.5), 1.0).astype(vector.dtype)
    return jnp.asarray(vector * scale).at[place].get(mode="promise_in_bounds")


def squared(factor: Factor) -> Packed:
    """``svec(U U^T)``: (dim, width) -> (dim (dim + 1) / 2,)."""
    return _squared.bind(jnp.asarray(factor))


def crossed(first: Factor, second: Factor) -> Packed:
    """``svec(U V^T + V U^T)`` for U ``first`` and V ``second``: the derivative of :func:`squared` at U along V."""
    return _crossed.bind(jnp.asarray(first), jnp.asarray(second))


def times(vector: Packed, factor: Factor) -> Factor:
    """``smat(v) U`` for the ``vector`` v (dim (dim + 1) / 2,) and the ``factor`` U (dim, width): (dim, width)."""
    return _times.bind(jnp.asarray(vector), jnp.asarray(factor))


def mapped(hessian: Hessian, vector: Packed) -> Packed:
    """``H v`` for symmetric H (packed, packed); a batch of vectors v takes one matrix product, with H on the left."""
    return _mapped.bind(jnp.asarray(hessian), jnp.asarray(vector))


def _mapped_many(values: Sequence[jax.Array], axes: Sequence[int | None]) -> tuple[jax.Array, int]:
    """Batched :func:`mapped`, vectors as columns: on CPUs 1.5 times as fast as XLA's choice, vectors as rows."""
    hessian, vectors = values
    if axes[0] is not None or axes[1] is None:
        return jax.vmap(jnp.matmul, tuple(axes))(hessian, vectors), 0
    columns = jax.lax.optimization_barrier(jnp.moveaxis(vectors, axes[1], 1))
    return jax.lax.optimization_barrier(hessian @ columns), 1


def _crossed_alone(first: Factor, second: Factor) -> Packed:
    product = first @ second.T
    return svec(product + product.T)


def _squared_alone(factor: Factor) -> Packed:
    return svec(factor @ factor.T)


def _squared_in_lanes(factors: Factors) -> PackedMany:
    dim, width, cells = factors.shape
    if max(dim, width) > UNROLLED:
        return jax.vmap(_squared_alone, -1, -1)(factors)
    upper, _, off = _layout(dim)
    scale = np.where(off, np.sqrt(2.0), 1.0).astype(factors.dtype)
    squares = _summed([column * jnp.swapaxes(column, 0, 1) for column in _slices(factors, 1)])
    return _rows(squares.reshape(dim * dim, cells), upper) * scale[:, None]


def _times_alone(vector: Packed, factor: Factor) -> Factor:
    return smat(vector) @ factor


def _times_in_lanes(vectors: PackedMany, factors: Factors) -> Factors:
    dim, width, _ = factors.shape
    if max(dim, width) > UNROLLED:
        return jax.vmap(_times_alone, -1, -1)(vectors, factors)
    _, place, off = _layout(dim)
    scale = np.where(off, np.sqrt(0.5), 1.0).astype(vectors.dtype)
    pairs = zip(_slices(_rows(vectors * scale[:, None], place), 0), _slices(factors, 0), strict=True)
    return _summed([jnp.swapaxes(row, 0, 1) * part for row, part in pairs])


def _summed(terms: list[jax.Array]) -> jax.Array:
    """The sum, as two independent partial sums: in a single chain every addition would wait for the one before."""
    return reduce(operator.add, [reduce(operator.add, terms[start::2]) for start in range(min(2, len(terms)))])


def _slices(array: jax.Array, axis: int) -> list[jax.Array]:
    return [jax.lax.slice_in_dim(array, place, place + 1, axis=axis) for place in range(array.shape[axis])]


def _rows(array: jax.Array, index: np.ndarray) -> jax.Array:
    return array.at[index].get(mode="promise_in_bounds")


_mapped, _crossed = primitive("mapped", jnp.matmul), primitive("crossed", _crossed_alone)
_squared = primitive("squared", _squared_alone, _squared_in_lanes)
_times = primitive("times", _times_alone, _times_in_lanes)
batching.primitive_batchers[_mapped] = _mapped_many
ad.defjvp(_mapped, lambda t, hessian, vector: mapped(t, vector), lambda t, hessian, vector: mapped(hessian, t))
ad.defjvp(_squared, lambda t, factor: crossed(t, factor))
ad.defjvp(_crossed, lambda t, first, second: crossed(t, second), lambda t, first, second: crossed(first, t))
ad.defjvp(_times, lambda t, vector, factor: times(t, factor), lambda t, vector, factor: times(vector, t))


def _of_first(first: Any, of: Callable[[], jax.Array], otherwise: Callable[[], jax.Array]) -> tuple[Any, Any]:
    """The cotangents of a bilinear map: that of its undefined (linear) operand, and None for the other."""
    return (of(), None) if ad.is_undefined_primal(first) else (None, otherwise())


ad.primitive_transposes[_mapped] = lambda slope, hessian, vector: _of_first(
    hessian, lambda: jnp.outer(slope, vector), lambda: mapped(hessian, slope)
)
ad.primitive_transposes[_crossed] = lambda slope, first, second: _of_first(
    first, lambda: 2.0 * times(slope, second), lambda: 2.0 * times(slope, first)
)
ad.primitive_transposes[_times] = lambda slope, vector, factor: _of_first(
    vector, lambda: 0.5 * crossed(slope, factor), lambda: times(vector, slope)
)
