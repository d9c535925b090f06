"""Measurements of a rectangular matrix ``U V^T``, seen as a map of ``W W^T`` for the stacked ``W = [U; V]``."""

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from gpsense._types import Factor, PackedRows, RandomKey, Symmetric, Values
from gpsense.fields import check_key, check_sizes
from gpsense.sensing.measurements._base import Measurements
from gpsense.sensing.stacked import embedded, halves, product, turned
from gpsense.sensing.symmetric import svec


class DenseBlocks(Measurements):
    """``<A_i, U V^T>`` for any A_i (dim, columns), held as rows ``vec(A_i)`` of shape (n, dim * columns).

    As a map of symmetric Z of side dim + columns it is ``<B_i, Z>``, ``B_i = [[0, A_i / 2], [A_i^T / 2, 0]]``, which
    reads the off-diagonal block of Z alone; B is never formed. ``sides`` is (dim, columns).
    """

    rows: Float[Array, "n entries"]
    sides: tuple[int, int] = eqx.field(static=True)

    def __check_init__(self) -> None:
        chex.assert_shape(self.rows, (None, self.sides[0] * self.sides[1]))

    @property
    def dim(self) -> int:
        return sum(self.sides)

    @property
    def n(self) -> int:
        return self.rows.shape[0]

    def forward(self, factor: Factor) -> Values:
        return self.rows @ product(factor, self.sides[0]).reshape(-1)

    def apply(self, matrix: Symmetric) -> Values:
        return self.rows @ matrix[: self.sides[0], self.sides[0] :].reshape(-1)

    def bilinear(self, first: Factor, second: Factor) -> Values:
        (left, right), (other_left, other_right) = (halves(factor, self.sides[0]) for factor in (first, second))
        return 0.5 * (self.rows @ (left @ other_right.T + other_left @ right.T).reshape(-1))

    def adjoint(self, values: Values) -> Symmetric:
        return embedded(self._half(values))

    def pull(self, factor: Factor, values: Values) -> Factor:
        return turned(self._half(values), factor)

    def take(self, index: Int[Array, " m"]) -> "DenseBlocks":
        return DenseBlocks(self.rows[index], self.sides)

    def packed(self) -> PackedRows:
        return jax.vmap(lambda row: svec(embedded(0.5 * row.reshape(self.sides))))(self.rows)

    def _half(self, values: Values) -> Float[Array, "rows columns"]:
        """``sum_i z_i A_i / 2``."""
        return 0.5 * (values @ self.rows).reshape(self.sides)


def rectangular_measurements(
    key: RandomKey, n: int, dim: int, columns: int, dtype: DTypeLike = jnp.float32
) -> DenseBlocks:
    """A_i (dim, columns) of independent N(0, 1) entries, so ``E<A, X>^2 = ||X||_F^2``; row i does not depend on n."""
    check_key(key)
    check_sizes(n=n, dim=dim, columns=columns)
    size = dim * columns
    return DenseBlocks(jax.random.normal(key, (n * size,), dtype).reshape(n, size), (dim, columns))
