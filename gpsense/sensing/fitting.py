"""Fine-tuning to working precision: L-BFGS by optax on the loss alone, recentred on the iterate.

Gradient descent contracts the error by a fixed factor per step; where only the minimiser is wanted, L-BFGS finds it
with a tenth of the evaluations.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gpsense._types import Factor, Integer, Scalar, Values
from gpsense.sensing.losses import recentred
from gpsense.sensing.measurements import Measurements


def _optimizer(dtype: Any) -> optax.GradientTransformationExtraArgs:
    """L-BFGS; backtracking takes half the time of optax's zoom search, but works in JAX's default float type only."""
    if dtype == jnp.result_type(float):
        search = optax.scale_by_backtracking_linesearch(max_backtracking_steps=15, store_grad=True)
    else:
        search = optax.scale_by_zoom_linesearch(max_linesearch_steps=15)
    return optax.lbfgs(memory_size=10, linesearch=search)


def fit(
    measurements: Measurements, values: Values, factor: Factor, tolerance: float, iterations: int = 60, rounds: int = 2
) -> Factor:
    """A local minimiser of ``(1/n) ||A(U U^T) - y||^2`` near ``factor`` (dim, width), as wide; zero columns stay 0.

    Each round recentres on the iterate and descends until a step is below a tenth of ``tolerance`` relative to the
    factor; if ``iterations`` steps do not get there, another round follows, up to ``rounds``. The loss never increases.
    """
    accuracy, width = jnp.asarray(tolerance, values.dtype), factor.shape[1]
    factor = jnp.pad(jnp.asarray(factor), ((0, 0), (0, -width % 8)))  # few widths to compile for
    for _ in range(rounds):
        with jax.numpy_dtype_promotion("standard"):  # optax's L-BFGS mixes kinds of integers
            factor, steps = _round(measurements, values, factor, accuracy, iterations)
        if int(steps) < iterations:
            break
    return factor[:, :width]


def fit_many(
    measurements: Measurements, values: Values, factors: jax.Array, tolerance: float, iterations: int = 60
) -> jax.Array:
    """One round of :func:`fit` for each of several factors (cells, dim, width), batched."""
    with jax.numpy_dtype_promotion("standard"):
        return _rounds(measurements, values, factors, jnp.asarray(tolerance, values.dtype), iterations)


def _descend(
    measurements: Measurements, values: Values, factor: Factor, tolerance: Scalar, iterations: int
) -> tuple[Factor, Integer]:
    objective, optimizer = recentred(measurements, values, factor), _optimizer(factor.dtype)
    value_and_gradient = optax.value_and_grad_from_state(objective)
    size = jnp.sqrt(jnp.sum(factor**2))

    def step(carry: tuple[Any, ...]) -> tuple[Any, ...]:
        displacement, state, count, _ = carry
        value, gradient = value_and_gradient(displacement, state=state)
        updates, state = optimizer.update(gradient, state, displacement, value=value, grad=gradient, value_fn=objective)
        whole: Any = optax.apply_updates(displacement, updates)
        moved = jnp.where(jnp.all(jnp.isfinite(whole)), whole, displacement)
        return moved, state, count + 1, jnp.sqrt(jnp.sum((moved - displacement) ** 2))

    def going(carry: tuple[Any, ...]) -> jax.Array:
        return (carry[2] < iterations) & (carry[3] > 0.1 * tolerance * size)

    zero = jnp.zeros_like(factor)
    begin = (zero, optimizer.init(zero), jnp.int32(0), jnp.full_like(size, jnp.inf))
    displacement, _, count, _ = jax.lax.while_loop(going, step, begin)
    better = objective(displacement) <= objective(zero)
    return jnp.where(better, factor + displacement, factor), count


@partial(jax.jit, static_argnums=4)
def _round(
    measurements: Measurements, values: Values, factor: Factor, tolerance: Scalar, iterations: int
) -> tuple[Factor, Integer]:
    return _descend(measurements, values, factor, tolerance, iterations)


@partial(jax.jit, static_argnums=4)
def _rounds(
    measurements: Measurements, values: Values, factors: jax.Array, tolerance: Scalar, iterations: int
) -> jax.Array:
    return jax.vmap(lambda factor: _descend(measurements, values, factor, tolerance, iterations)[0])(factors)
