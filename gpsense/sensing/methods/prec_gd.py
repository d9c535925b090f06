"""Preconditioned gradient descent whose damping follows the loss, rank unknown."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp

from gpsense._types import Factor, RandomKey, Scalar
from gpsense.sensing.losses import Objective
from gpsense.sensing.methods._common import own_or, precondition
from gpsense.sensing.methods._contract import Tuning, register
from gpsense.sensing.methods.scaled_gd import Scaled, move, spectral_scaled


@register
@dataclass(frozen=True)
class PrecGD:
    """``U <- U - step R U (U^T U + eta_k I)^-1`` with ``eta_k = sqrt(L(U_k) / c)``; step ``rate / (2 c)``.

    ``R = A*(A(U U^T) - y)/n``. Starts from the spectral estimate of the given width. c is the curvature of the data
    along the leading eigenvector of ``A*(y)/n``; for isotropic measurements it is 1, and eta_k the source's rule for
    noiseless data. The damping is kept above rounding.
    """

    name: ClassVar[str] = "prec_gd"
    knows_rank: ClassVar[bool] = False
    holds_out: ClassVar[bool] = False
    source: ClassVar[str] = "Zhang, Fattahi and Zhang 2021 (NeurIPS)"
    tuning: ClassVar[str] = "rate: step is rate / (2 c), our rule; penalty: multiplies eta_k (0: 1, the source's)"

    def begin(self, objective: Objective, dim: int, width: int, tuning: Tuning, key: RandomKey) -> Scaled:
        return spectral_scaled(objective, width)

    def step(self, objective: Objective, tuning: Tuning, state: Scaled) -> tuple[Scaled, Scalar]:
        loss, gradient = objective.value_and_gradient(state.factor)
        damping = own_or(tuning.penalty, 1.0) * jnp.sqrt(jnp.maximum(loss, 0.0) / state.curvature)
        floor = jnp.finfo(loss.dtype).eps * state.size
        return move(tuning, state, precondition(gradient, state.factor, jnp.maximum(damping, floor)))

    def factor(self, state: Scaled) -> Factor:
        return state.factor
