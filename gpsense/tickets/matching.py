"""Matching rows of weights, whose order is arbitrary, to the true rows, and the error after matching."""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from gpsense._types import Scalar


def assigned(cost: Float[Array, "rows rows"]) -> Int[Array, " rows"]:
    """The row assigned to each column so that the total cost is smallest: ``min_pi sum_j cost[pi(j), j]``.

    Costs that are not finite count as more than all the others together. Hungarian algorithm (optax).
    """
    finite = jnp.isfinite(cost)
    most = 1 + 2 * jnp.sum(jnp.where(finite, jnp.abs(cost), 0.0))
    # optax keeps its potentials in the default type, whatever the type of the costs.
    rows, columns = optax.assignment.hungarian_algorithm(jnp.where(finite, cost, most).astype(jnp.result_type(float)))
    return jnp.zeros_like(rows).at[columns].set(rows)


def matched(weights: Float[Array, "neurons dim"], truth: Float[Array, "neurons dim"]) -> Int[Array, " neurons"]:
    """Permutation pi with the smallest ``sum_j |w_pi(j) - w*_j|^2``: ``weights[pi]`` is in the order of ``truth``."""
    apart = weights[:, None, :] - truth[None, :, :]
    return assigned(jnp.sum(apart**2, axis=-1))


def relative_error(weights: Float[Array, "neurons dim"], truth: Float[Array, "neurons dim"]) -> Scalar:
    """``min_pi |W_pi - W*|_F / |W*|_F`` over the permutations pi of rows; NaN if a weight is NaN."""
    return jnp.linalg.norm(weights[matched(weights, truth)] - truth) / jnp.linalg.norm(truth)
