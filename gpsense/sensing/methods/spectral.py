"""Spectral start, then gradient descent at the exact rank."""

from dataclasses import dataclass
from typing import ClassVar

import equinox as eqx

from gpsense._types import Factor, RandomKey, Scalar
from gpsense.sensing.losses import Objective
from gpsense.sensing.methods._common import relative_change, spectral_factor, units
from gpsense.sensing.methods._contract import Tuning, register


class Descending(eqx.Module):
    """A factor, and the step size (``pace``) at rate 1."""

    factor: Factor
    pace: Scalar


@register
@dataclass(frozen=True)
class Spectral:
    """Gradient descent on ``L`` from the spectral estimate: ``U <- U - step R U`` (Procrustes flow).

    ``R = A*(A(U U^T) - y)/n``. Step: ``rate / (2 b_1)`` with b_1 the largest eigenvalue of ``A*(y)/n``; the source's
    step is proportional to ``1 / ||U_0||^2``, U_0 the start, and b_1 estimates ``||U_0||^2``.
    """

    name: ClassVar[str] = "spectral"
    knows_rank: ClassVar[bool] = True
    holds_out: ClassVar[bool] = False
    source: ClassVar[str] = "Tu, Boczar, Simchowitz, Soltanolkotabi and Recht 2015, arXiv 1507.03566"
    tuning: ClassVar[str] = "rate: step of R U is rate / (2 b_1), our rule"

    def begin(self, objective: Objective, dim: int, width: int, tuning: Tuning, key: RandomKey) -> Descending:
        return Descending(spectral_factor(objective, width), 0.5 / units(objective)[0])

    def step(self, objective: Objective, tuning: Tuning, state: Descending) -> tuple[Descending, Scalar]:
        return descend(objective, tuning, state)

    def factor(self, state: Descending) -> Factor:
        return state.factor


def descend(objective: Objective, tuning: Tuning, state: Descending) -> tuple[Descending, Scalar]:
    """One step of plain gradient descent; the gradient of L is ``4 R U``."""
    gradient = objective.value_and_gradient(state.factor)[1]
    moved = state.factor - (0.25 * tuning.rate * state.pace) * gradient
    return Descending(moved, state.pace), relative_change(moved, state.factor)
