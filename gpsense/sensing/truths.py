"""Ground truths: factors U* with a chosen spectrum of M = U* U*^T."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from gpsense._types import Factor, RandomKey, ScalarLike
from gpsense.errors import BadInput
from gpsense.fields import check_key, check_shape, check_sizes


def geometric_spectrum(
    rank: int, condition: ScalarLike, dtype: DTypeLike = jnp.float32, traced_rank: ScalarLike | None = None
) -> Float[Array, " rank"]:
    """Eigenvalues ``mu_j = condition^(-j / (rank - 1))``, j from 0: from 1 to 1/condition, evenly spaced in the log.

    A ``traced_rank`` of at most ``rank`` gives the spectrum of that rank, padded with zeros.
    """
    index = jnp.arange(rank, dtype=dtype)
    count = jnp.asarray(rank if traced_rank is None else traced_rank, dtype)
    falling = jnp.asarray(condition, dtype) ** -(index / jnp.maximum(count - 1, 1))
    return jnp.where(index < count, falling, 0.0)


def low_rank_truth(key: RandomKey, dim: int, spectrum: Float[Array, " rank"] | Sequence[float]) -> Factor:
    """``U* = Q diag(sqrt(mu))``, (dim, rank), for the ``spectrum`` mu, with Q uniform among orthonormal frames.

    The leading columns of Q do not depend on the rank. Raises BadInput if the rank exceeds the dimension.

    >>> truth = gpsense.low_rank_truth(jax.random.key(0), dim=5, spectrum=[4.0, 1.0])
    >>> truth.shape, round(float(jnp.sum(truth**2)), 3)  # the trace of M = U* U*^T
    ((5, 2), 5.0)
    """
    check_key(key)
    check_sizes(dim=dim)
    spectrum = jnp.asarray(spectrum)
    check_shape("spectrum", spectrum, "rank")
    rank = spectrum.shape[0]
    if rank > dim:
        raise BadInput("spectrum", f"rank {rank} exceeds dim {dim}", f"give at most {dim} eigenvalues")
    draw = jax.random.normal(key, (rank * dim,), spectrum.dtype).reshape(rank, dim).T
    frame, upper = jnp.linalg.qr(draw)
    return frame * (jnp.sign(jnp.diagonal(upper)) * jnp.sqrt(spectrum))[None, :]
