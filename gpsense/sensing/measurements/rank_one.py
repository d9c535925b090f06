"""Rank-one measurements A_i = x_i x_i^T, held by their vectors; the Gaussian ensemble."""

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Int

from gpsense._types import Factor, PackedRows, RandomKey, Symmetric, Values, Vectors
from gpsense.fields import check_key, check_sizes
from gpsense.sensing.measurements._base import ENSEMBLES, Ensemble, Measurements, array_of
from gpsense.sensing.symmetric import svec


class RankOne(Measurements):
    """``A_i = x_i x_i^T`` from vectors of shape (n, dim): ``<A_i, U U^T> = ||U^T x_i||^2``; A is never formed.

    For x ~ N(0, I): ``E<A, X>^2 = 2 ||X||_F^2 + (tr X)^2``, so the map is not isotropic. A two-layer network
    with quadratic activations and unit output weights is this map.

    >>> quadratic = gpsense.RankOne(jnp.array([[1.0, 1.0], [1.0, -1.0]]))
    >>> quadratic.forward(jnp.array([[1.0], [2.0]])).tolist()
    [9.0, 1.0]
    """

    vectors: Vectors = eqx.field(converter=array_of("vectors"))

    def __check_init__(self) -> None:
        chex.assert_rank(self.vectors, 2)

    @property
    def dim(self) -> int:
        return self.vectors.shape[1]

    @property
    def n(self) -> int:
        return self.vectors.shape[0]

    def forward(self, factor: Factor) -> Values:
        return jnp.sum((self.vectors @ factor) ** 2, axis=1)

    def apply(self, matrix: Symmetric) -> Values:
        return jnp.sum((self.vectors @ matrix) * self.vectors, axis=1)

    def bilinear(self, first: Factor, second: Factor) -> Values:
        return jnp.sum((self.vectors @ first) * (self.vectors @ second), axis=1)

    def adjoint(self, values: Values) -> Symmetric:
        return (self.vectors * values[:, None]).T @ self.vectors

    def pull(self, factor: Factor, values: Values) -> Factor:
        return self.vectors.T @ (values[:, None] * (self.vectors @ factor))

    def flops(self, width: int) -> float:
        return rank_one_flops(self.n, self.dim, width)

    def take(self, index: Int[Array, " m"]) -> "RankOne":
        return RankOne(self.vectors[index])

    def packed(self) -> PackedRows:
        return jax.vmap(lambda x: svec(jnp.outer(x, x)))(self.vectors)


def rank_one_measurements(key: RandomKey, n: int, dim: int, dtype: DTypeLike = jnp.float32) -> RankOne:
    """Vectors ``x_i ~ N(0, I)``, shape (n, dim); row i does not depend on n."""
    check_key(key)
    check_sizes(n=n, dim=dim)
    return RankOne(jax.random.normal(key, (n * dim,), dtype).reshape(n, dim))


def rank_one_flops(n: int, dim: int, width: int) -> float:
    """Operations per loss and gradient through the vectors: ``4 n d k`` with dim d and width k."""
    return 4.0 * n * dim * width


ENSEMBLES["rank_one"] = Ensemble(rank_one_measurements, numbers=lambda n, dim: n * dim, flops=rank_one_flops)
