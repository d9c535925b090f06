"""Damped scaled gradient descent from a small random start, rank unknown."""

from dataclasses import dataclass
from typing import ClassVar

from gpsense._types import Factor, RandomKey, Scalar
from gpsense.sensing.losses import Objective
from gpsense.sensing.methods._common import own_or, precondition, random_factor, units
from gpsense.sensing.methods._contract import Tuning, register
from gpsense.sensing.methods.scaled_gd import Scaled, move

DAMPING = 0.1


@register
@dataclass(frozen=True)
class ScaledGDLambda:
    """``U <- U - step R U (U^T U + damping I)^-1``, overparameterised, damping fixed; step ``rate / (2 c)``.

    ``R = A*(A(U U^T) - y)/n``; c is the curvature of the data along the leading eigenvector of ``b = A*(y)/n``; with
    its eigenvalue b_1, b_1/c estimates the size of a solution, the unit of ``damping``. The source asks for damping of
    the order of the smallest eigenvalue of the truth: with eigenvalues from 1 to 1/kappa that is a ``penalty`` of the
    order of ``1 / kappa``.
    """

    name: ClassVar[str] = "scaled_gd_lambda"
    knows_rank: ClassVar[bool] = False
    holds_out: ClassVar[bool] = False
    source: ClassVar[str] = "Xu, Shen, Chi and Ma 2023, arXiv 2302.01186"
    tuning: ClassVar[str] = (
        "rate: step is rate / (2 c), our rule; penalty: damping in units of the size of a solution (0: 0.1, our "
        "rule); start_scale: column norms at the start, relative to the root of that size"
    )

    def begin(self, objective: Objective, dim: int, width: int, tuning: Tuning, key: RandomKey) -> Scaled:
        top, curvature = units(objective)
        return Scaled(random_factor(objective, width, tuning.start_scale, key), curvature, top / curvature)

    def step(self, objective: Objective, tuning: Tuning, state: Scaled) -> tuple[Scaled, Scalar]:
        gradient = objective.value_and_gradient(state.factor)[1]
        damping = own_or(tuning.penalty, DAMPING) * state.size
        return move(tuning, state, precondition(gradient, state.factor, damping))

    def factor(self, state: Scaled) -> Factor:
        return state.factor
