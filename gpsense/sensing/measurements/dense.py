"""Measurements given by their matrices, packed; the Gaussian ensemble."""

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from gpsense._types import Factor, PackedRows, RandomKey, Symmetric, Values
from gpsense.errors import BadInput
from gpsense.fields import check_key, check_sizes
from gpsense.sensing.measurements._base import ENSEMBLES, Ensemble, Measurements, array_of
from gpsense.sensing.symmetric import packed_dim, packed_size, smat, svec
from gpsense.theory.errors import exact_rank_error


class Dense(Measurements):
    """Any symmetric matrices A_i, held as rows ``svec(A_i)`` of shape (n, dim (dim + 1) / 2)."""

    rows: PackedRows

    def __check_init__(self) -> None:
        chex.assert_rank(self.rows, 2)

    @property
    def dim(self) -> int:
        return packed_dim(self.rows.shape[1])

    @property
    def n(self) -> int:
        return self.rows.shape[0]

    def forward(self, factor: Factor) -> Values:
        return self.rows @ svec(factor @ factor.T)

    def apply(self, matrix: Symmetric) -> Values:
        return self.rows @ svec(matrix)

    def adjoint(self, values: Values) -> Symmetric:
        return smat(values @ self.rows)

    def flops(self, width: int) -> float:
        return dense_flops(self.n, self.dim, width)

    def take(self, index: Int[Array, " m"]) -> "Dense":
        return Dense(self.rows[index])

    def packed(self) -> PackedRows:
        return self.rows


def dense_flops(n: int, dim: int, width: int) -> float:
    """Operations per loss and gradient through packed matrices: ``4 n D + 4 d^2 k``, ``D = d (d + 1) / 2``, width k."""
    return 4.0 * dim**2 * width + 4.0 * n * packed_size(dim)


def dense_measurements(matrices: Float[Array, "n dim dim"]) -> Dense:
    """Measurements from matrices A_i of shape (n, dim, dim); only their symmetric part acts on symmetric X.

    >>> matrices = jnp.array([[[1.0, 0.0], [0.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]]])
    >>> dense = gpsense.dense_measurements(matrices)
    >>> dense.apply(jnp.array([[4.0, 2.0], [2.0, 1.0]])).round(3).tolist()
    [4.0, 4.0]
    """
    matrices = array_of("matrices")(matrices)
    if matrices.ndim != 3 or matrices.shape[1] != matrices.shape[2]:
        raise BadInput("matrices", f"shape {matrices.shape}", "give n square matrices, an array (n, dim, dim)")
    return Dense(jax.vmap(svec)(0.5 * (matrices + matrices.transpose(0, 2, 1))))


def gaussian_measurements(key: RandomKey, n: int, dim: int, dtype: DTypeLike = jnp.float32) -> Dense:
    """Gaussian ensemble with ``E<A_i, X>^2 = ||X||_F^2``: packed rows of independent N(0, 1).

    Unpacked, entries have variance 1 on the diagonal, 1/2 off it (a symmetrised Gaussian matrix). Row i does not depend
    on n, so a larger n adds measurements to those of a smaller n. Source: the ensemble of arXiv 2303.11453, normalised
    here.

    >>> gaussian = gpsense.gaussian_measurements(jax.random.key(0), n=50, dim=6)
    >>> gaussian.apply(jnp.eye(6, dtype=jnp.float32)).shape
    (50,)
    """
    check_key(key)
    check_sizes(n=n, dim=dim)
    size = packed_size(dim)
    return Dense(jax.random.normal(key, (n * size,), dtype).reshape(n, size))


ENSEMBLES["gaussian"] = Ensemble(
    gaussian_measurements,
    numbers=lambda n, dim: n * packed_size(dim),
    flops=dense_flops,
    error_law=exact_rank_error,
)
