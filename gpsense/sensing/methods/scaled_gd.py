"""Scaled gradient descent at the exact rank: its convergence does not depend on the condition number."""

from dataclasses import dataclass
from typing import ClassVar

import equinox as eqx

from gpsense._types import Factor, RandomKey, Scalar
from gpsense.sensing.losses import Objective
from gpsense.sensing.methods._common import precondition, relative_change, spectral_factor, units
from gpsense.sensing.methods._contract import Tuning, register


class Scaled(eqx.Module):
    """A factor, the data's curvature c (:class:`ScaledGD`), and ``b_1 / c``, the unit of damping."""

    factor: Factor
    curvature: Scalar
    size: Scalar


@register
@dataclass(frozen=True)
class ScaledGD:
    """``U <- U - step R U (U^T U)^-1`` from the spectral estimate; step ``rate / (2 c)``.

    ``R = A*(A(U U^T) - y)/n``; c is the curvature of the data along the leading eigenvector of ``A*(y)/n``, 1 for
    isotropic measurements.
    """

    name: ClassVar[str] = "scaled_gd"
    knows_rank: ClassVar[bool] = True
    holds_out: ClassVar[bool] = False
    source: ClassVar[str] = "Tong, Ma and Chi 2020, arXiv 2005.08898"
    tuning: ClassVar[str] = "rate: step of R U (U^T U)^-1 is rate / (2 c), our rule"

    def begin(self, objective: Objective, dim: int, width: int, tuning: Tuning, key: RandomKey) -> Scaled:
        return spectral_scaled(objective, width)

    def step(self, objective: Objective, tuning: Tuning, state: Scaled) -> tuple[Scaled, Scalar]:
        gradient = objective.value_and_gradient(state.factor)[1]
        return move(tuning, state, precondition(gradient, state.factor, 0.0))

    def factor(self, state: Scaled) -> Factor:
        return state.factor


def spectral_scaled(objective: Objective, width: int) -> Scaled:
    """The state at the spectral estimate, with the units of the data."""
    top, curvature = units(objective)
    return Scaled(spectral_factor(objective, width), curvature, top / curvature)


def move(tuning: Tuning, state: Scaled, direction: Factor) -> tuple[Scaled, Scalar]:
    """A step along ``direction = 4 R U P``, the gradient of L preconditioned by a matrix P (width, width)."""
    moved = state.factor - (0.125 * tuning.rate / state.curvature) * direction
    return Scaled(moved, state.curvature, state.size), relative_change(moved, state.factor)
