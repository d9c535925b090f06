"""Approximate Gauss-Newton: the linearised problem, with the data's normal map approximated by a multiple of I."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp

from gpsense._linalg import eigh
from gpsense._types import Factor, RandomKey, Scalar
from gpsense.sensing.losses import Objective
from gpsense.sensing.methods._common import random_factor, relative_change, units
from gpsense.sensing.methods._contract import Tuning, register
from gpsense.sensing.methods.scaled_gd import Scaled


@register
@dataclass(frozen=True)
class AGN:
    """``U <- U - (rate / c) (I - P/2) R U (U^T U)^+``, P projecting onto the columns of U; random start, any width.

    ``R = A*(A(U U^T) - y)/n``. With ``H = A* A / n`` approximated by c I, its mean for isotropic measurements, the
    change D of U at rate 1 solves the Gauss-Newton problem ``min ||R + c (D U^T + U D^T)||_F``:
    ``c (D U^T + U D^T) = -(P R + R P - P R P)``. c is the curvature of the data along the leading eigenvector of
    ``A*(y)/n``. Only the source's abstract was available: the step is derived from the method's name. The
    pseudo-inverse drops eigenvalues of U^T U below rounding.
    """

    name: ClassVar[str] = "agn"
    knows_rank: ClassVar[bool] = False
    holds_out: ClassVar[bool] = False
    source: ClassVar[str] = (
        "Jia, Feng, Meng and Sun, NeurIPS 2024, Globally Q-linear Gauss-Newton method for overparameterized non-convex "
        "matrix sensing [recalled; the step is derived]"
    )
    tuning: ClassVar[str] = (
        "rate: multiplies the Gauss-Newton step (1: whole); start_scale: column norms at the start, relative to the "
        "square root of the size of a solution"
    )

    def begin(self, objective: Objective, dim: int, width: int, tuning: Tuning, key: RandomKey) -> Scaled:
        top, curvature = units(objective)
        return Scaled(random_factor(objective, width, tuning.start_scale, key), curvature, top / curvature)

    def step(self, objective: Objective, tuning: Tuning, state: Scaled) -> tuple[Scaled, Scalar]:
        factor = state.factor
        pull = 0.25 * objective.value_and_gradient(factor)[1]  # R U
        values, frame = eigh(factor.T @ factor)
        kept = values > len(values) * jnp.finfo(values.dtype).eps * values[-1]
        inverse = jnp.where(kept, 1.0 / jnp.where(kept, values, 1.0), 0.0)
        solve = lambda right: ((right @ frame) * inverse[None, :]) @ frame.T  # noqa: E731
        direction = solve(pull)
        direction = direction - 0.5 * solve(factor) @ (factor.T @ direction)
        moved = factor - (tuning.rate / state.curvature) * direction
        return Scaled(moved, state.curvature, state.size), relative_change(moved, factor)

    def factor(self, state: Scaled) -> Factor:
        return state.factor
