"""Single entries of a symmetric matrix: matrix completion."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Int

from gpsense._types import Factor, Indices, Symmetric, Values
from gpsense.sensing.measurements._base import Measurements, array_of, check_indices


class Entries(Measurements):
    """Entries ``<A_i, X> = X[r, c]`` of a symmetric X: ``A_i = (e_r e_c^T + e_c e_r^T) / 2``.

    ``r = rows[i]`` and ``c = cols[i]`` are counted from 0 to ``side - 1``.

    >>> entries = gpsense.Entries([0, 0], [0, 1], side=2)
    >>> entries.apply(jnp.array([[4.0, 2.0], [2.0, 1.0]])).tolist()
    [4.0, 2.0]
    """

    rows: Indices = eqx.field(converter=array_of("rows"))
    cols: Indices = eqx.field(converter=array_of("cols"))
    side: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        check_indices(self.side, rows=self.rows, cols=self.cols)

    @property
    def dim(self) -> int:
        return self.side

    @property
    def n(self) -> int:
        return self.rows.shape[0]

    def forward(self, factor: Factor) -> Values:
        return jnp.sum(factor[self.rows] * factor[self.cols], axis=1)

    def apply(self, matrix: Symmetric) -> Values:
        return matrix[self.rows, self.cols]

    def bilinear(self, first: Factor, second: Factor) -> Values:
        products = first[self.rows] * second[self.cols] + first[self.cols] * second[self.rows]
        return 0.5 * jnp.sum(products, axis=1)

    def adjoint(self, values: Values) -> Symmetric:
        half = jnp.zeros((self.dim, self.dim), values.dtype).at[self.rows, self.cols].add(0.5 * values)
        return half + half.T

    def take(self, index: Int[Array, " m"]) -> "Entries":
        return Entries(self.rows[index], self.cols[index], self.dim)
