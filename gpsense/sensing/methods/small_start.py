"""Small random start, no penalty: gradient descent's own bias towards low rank."""

from dataclasses import dataclass
from typing import ClassVar

from gpsense._types import Factor, RandomKey, Scalar
from gpsense.sensing.losses import Objective
from gpsense.sensing.methods._common import random_factor, units
from gpsense.sensing.methods._contract import Tuning, register
from gpsense.sensing.methods.spectral import Descending, descend


@register
@dataclass(frozen=True)
class SmallStart:
    """Overparameterised gradient descent from a small random factor: ``U <- U - step R U``.

    ``R = A*(A(U U^T) - y)/n``. Early stopping is by the number of steps: with noise, further steps fit it. Step:
    ``rate / (2 b_1)`` with b_1 the largest eigenvalue of ``A*(y)/n``.
    """

    name: ClassVar[str] = "small_start"
    knows_rank: ClassVar[bool] = False
    holds_out: ClassVar[bool] = False
    source: ClassVar[str] = "Li, Ma and Zhang 2018; Stöger and Soltanolkotabi 2021, arXiv 2106.15013"
    tuning: ClassVar[str] = (
        "rate: step of R U is rate / (2 b_1), our rule; start_scale: column norms at the start, relative to the square "
        "root of the size of a solution"
    )

    def begin(self, objective: Objective, dim: int, width: int, tuning: Tuning, key: RandomKey) -> Descending:
        factor = random_factor(objective, width, tuning.start_scale, key)
        return Descending(factor, 0.5 / units(objective)[0])

    def step(self, objective: Objective, tuning: Tuning, state: Descending) -> tuple[Descending, Scalar]:
        return descend(objective, tuning, state)

    def factor(self, state: Descending) -> Factor:
        return state.factor
