"""Pruning by columns: scores, threshold, mask, compaction."""

import jax.core as jax_core
import jax.numpy as jnp
from jaxtyping import Array, Float

from gpsense._types import Factor, Mask, Norms, Scalar, ScalarLike


def column_norms(factor: Factor) -> Norms:
    """Scores ``||U e_i||_2`` of the columns, shape (width,)."""
    return jnp.sqrt(jnp.sum(factor**2, axis=0))


def default_threshold(smoothing: ScalarLike) -> Scalar:
    """``2 sqrt(beta)``, where the smoothed group lasso is most concave in a column's norm (arXiv 2303.11453)."""
    return 2.0 * jnp.sqrt(jnp.asarray(smoothing))


def threshold_mask(norms: Norms, threshold: ScalarLike) -> Mask:
    """True for the columns that stay: norm strictly above the threshold; shape (width,)."""
    return norms > threshold


def margin(norms: Norms, threshold: ScalarLike) -> Scalar:
    """Distance of the nearest column norm to the threshold: how far the mask is from changing."""
    return jnp.min(jnp.abs(norms - threshold))


def apply_mask(factor: Factor, mask: Mask) -> Factor:
    """The factor with the pruned columns set to zero, shape kept; a pruned NaN column becomes zero too."""
    return jnp.where(mask, factor, 0.0)


def compact(factor: Factor, mask: Mask, width: int) -> Float[Array, "dim kept"]:
    """The kept columns, in their order, padded with zero columns to (dim, width).

    A zero column has zero gradient in every loss here, so the padding never moves. Raises ValueError if more columns
    are kept than ``width``, as far as the mask is known outside of a trace; inside, surplus columns would be lost.
    """
    if not isinstance(mask, jax_core.Tracer) and int(mask.sum()) > width:
        raise ValueError(f"{int(mask.sum())} columns are kept, more than width {width}")
    kept_first = jnp.argsort(~mask, stable=True)[:width]
    return apply_mask(factor, mask)[:, kept_first]
