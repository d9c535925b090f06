"""Penalties on the columns of a factor: the smoothed group lasso, its limit, and weight decay for comparison."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from gpsense._types import Factor, Norms, Scalar, ScalarLike
from gpsense.fields import NUMBER, Field, check_shape

SMOOTHING = Field(name="smoothing", kind=NUMBER, at_least=0)  # checked where its value is known, not under jit
AMOUNT = Field(name="amount", kind=NUMBER, at_least=0)


def smoothed_group_lasso(factor: Factor, smoothing: ScalarLike) -> Scalar:
    """The penalty ``sum_i s_i / sqrt(s_i + beta)`` of a factor U, ``s_i = ||U e_i||^2``, with smoothing beta > 0.

    It is twice differentiable, and below the group lasso by at most 0.3003 sqrt(beta) per column. Its gradient in a
    column v is ``(s + 2 beta) / (s + beta)^(3/2) v``, s = ||v||^2; it is convex in v up to the norm sqrt(2 beta). The
    form is believed to be that of arXiv 2303.11453; the constants are derived here. A zero column with beta = 0 gives
    NaN.

    >>> round(float(gpsense.smoothed_group_lasso(jnp.array([[3.0], [4.0]]), smoothing=1e-4)), 3)
    5.0
    """
    check_shape("factor", factor, "dim", "width")
    return jnp.sum(_smoothed(jnp.sum(factor**2, axis=0), SMOOTHING.check(smoothing)))


@jax.custom_jvp
def _smoothed(squares: Norms, smoothing: ScalarLike) -> Norms:
    """``s / sqrt(s + beta)`` of the squared norms s; its derivative is ``(s / 2 + beta) / (s + beta)^(3/2)``."""
    return squares / jnp.sqrt(squares + smoothing)


@_smoothed.defjvp
def _smoothed_jvp(primals, tangents):
    squares, smoothing = primals
    total = squares + smoothing
    cubed = total * jnp.sqrt(total)
    return _smoothed(*primals), (0.5 * squares + smoothing) / cubed * tangents[0] - 0.5 * squares / cubed * tangents[1]


def group_lasso(factor: Factor) -> Scalar:
    """The group lasso ``sum_i ||U e_i||``, the limit of :func:`smoothed_group_lasso` for smoothing beta -> 0.

    The gradient at a zero column is 0.

    >>> float(gpsense.group_lasso(jnp.array([[3.0, 0.0], [4.0, 1.0]])))
    6.0
    """
    check_shape("factor", factor, "dim", "width")
    squares = jnp.sum(factor**2, axis=0)
    safe = jnp.where(squares > 0, squares, 1.0)
    return jnp.sum(jnp.where(squares > 0, jnp.sqrt(safe), 0.0))


def weight_decay(factor: Factor) -> Scalar:
    """The penalty ``||U||_F^2 = tr(U U^T)``, which is the nuclear norm of ``U U^T``.

    Rotations ``U -> U Q`` do not change it, so that it favours no column.

    >>> float(gpsense.weight_decay(jnp.array([[3.0], [4.0]])))
    25.0
    """
    check_shape("factor", factor, "dim", "width")
    return jnp.sum(factor**2)


def shrink_columns(factor: Factor, amount: ScalarLike) -> Factor:
    """The proximal map of ``amount`` a times the group lasso: ``(1 - a / ||U e_i||)_+ U e_i`` for each column i."""
    check_shape("factor", factor, "dim", "width")
    amount = AMOUNT.check(amount)
    squares = jnp.sum(factor**2, axis=0)
    alive = squares > jnp.asarray(amount, factor.dtype) ** 2
    return factor * jnp.where(alive, 1 - amount / jnp.sqrt(jnp.where(alive, squares, 1.0)), 0.0)[None, :]


@dataclass(frozen=True)
class Penalty:
    """A penalty ``value(factor, smoothing)``; if it is not smooth, ``proximal(factor, amount)`` is the proximal map of
    ``amount`` times the penalty, and training takes proximal steps.
    """

    value: Callable[[Factor, ScalarLike], Scalar]
    proximal: Callable[[Factor, ScalarLike], Factor] | None = None


PENALTIES: dict[str, Penalty] = {
    "smoothed_group_lasso": Penalty(smoothed_group_lasso),
    "group_lasso": Penalty(lambda factor, smoothing: group_lasso(factor), shrink_columns),
    "weight_decay": Penalty(lambda factor, smoothing: weight_decay(factor)),
    "none": Penalty(lambda factor, smoothing: jnp.zeros((), factor.dtype)),
}
