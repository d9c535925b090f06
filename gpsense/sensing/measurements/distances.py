"""Squared distances between points: the map of a multidimensional-scaling problem."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Int

from gpsense._types import Factor, Indices, Symmetric, Values
from gpsense.sensing.measurements._base import Measurements, array_of, check_indices


class Distances(Measurements):
    """Squared distances of rows of U: ``<A_l, U U^T> = ||u_i - u_j||^2``, ``A_l = (e_i - e_j)(e_i - e_j)^T``.

    ``i = first[l]`` and ``j = second[l]`` are indices of rows, from 0 to ``side - 1``; both arrays have shape (n,).
    Adding one vector to all rows of U changes nothing, so compare results by their centred Gram matrices.

    >>> sides = gpsense.Distances([0, 0], [1, 2], side=3)
    >>> points = jnp.array([[0.0, 0.0], [3.0, 4.0], [1.0, 0.0]])
    >>> sides.forward(points).tolist()
    [25.0, 1.0]
    """

    first: Indices = eqx.field(converter=array_of("first"))
    second: Indices = eqx.field(converter=array_of("second"))
    side: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        check_indices(self.side, first=self.first, second=self.second)

    @property
    def dim(self) -> int:
        return self.side

    @property
    def n(self) -> int:
        return self.first.shape[0]

    def forward(self, factor: Factor) -> Values:
        return jnp.sum((factor[self.first] - factor[self.second]) ** 2, axis=1)

    def apply(self, matrix: Symmetric) -> Values:
        diagonal = jnp.diagonal(matrix)
        return diagonal[self.first] + diagonal[self.second] - 2 * matrix[self.first, self.second]

    def bilinear(self, first: Factor, second: Factor) -> Values:
        return jnp.sum((first[self.first] - first[self.second]) * (second[self.first] - second[self.second]), axis=1)

    def adjoint(self, values: Values) -> Symmetric:
        half = jnp.zeros((self.dim, self.dim), values.dtype).at[self.first, self.second].add(values)
        weights = half + half.T
        return jnp.diag(weights.sum(axis=1)) - weights

    def take(self, index: Int[Array, " m"]) -> "Distances":
        return Distances(self.first[index], self.second[index], self.dim)
