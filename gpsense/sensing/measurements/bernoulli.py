"""The Bernoulli ensemble: measurements by matrices of random signs."""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from gpsense._types import RandomKey
from gpsense.fields import check_key, check_sizes
from gpsense.sensing.measurements._base import ENSEMBLES, Ensemble
from gpsense.sensing.measurements.dense import Dense, dense_flops
from gpsense.sensing.symmetric import packed_size
from gpsense.theory.errors import exact_rank_error


def bernoulli_measurements(key: RandomKey, n: int, dim: int, dtype: DTypeLike = jnp.float32) -> Dense:
    """Packed rows of independent signs +-1, so that ``E<A_i, X>^2 = ||X||_F^2``, as for the Gaussian ensemble.

    Unpacked, the entries are +-1 on the diagonal and +-1/sqrt(2) off it. Row i does not depend on n. The signs are
    sub-Gaussian, hence the restricted isometry is that of Gaussian measurements up to constants (Recht, Fazel and
    Parrilo 2010, section 4).
    """
    check_key(key)
    check_sizes(n=n, dim=dim)
    size = packed_size(dim)
    return Dense(jax.random.rademacher(key, (n * size,), dtype).reshape(n, size))


ENSEMBLES["bernoulli"] = Ensemble(
    bernoulli_measurements,
    numbers=lambda n, dim: n * packed_size(dim),
    flops=dense_flops,
    error_law=exact_rank_error,
)
