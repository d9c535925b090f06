"""Small random start without a penalty, stopped early by held-out measurements."""

from dataclasses import dataclass
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp

from gpsense._types import Factor, RandomKey, Scalar
from gpsense.errors import BadInput
from gpsense.sensing.losses import Objective, Split
from gpsense.sensing.methods._common import random_factor, units
from gpsense.sensing.methods._contract import Tuning, register
from gpsense.sensing.methods.spectral import Descending, descend


class Validated(eqx.Module):
    """A descent, its factor of least held-out loss so far, and that loss."""

    descent: Descending
    best: Factor
    least: Scalar


@register
@dataclass(frozen=True)
class SmallStartHeldOut:
    """Gradient descent on four fifths of the measurements from a small start; gives the iterate of least held-out loss.

    ``U <- U - step R U`` as in small_start, with R and b_1 from the measurements not held out; every fifth is held out.
    The answer is ``argmin_t L_held(U_t)`` over the steps taken. Step size and held-out share are ours.
    """

    name: ClassVar[str] = "small_start_held_out"
    knows_rank: ClassVar[bool] = False
    holds_out: ClassVar[bool] = True
    source: ClassVar[str] = (
        "Ding, Qin, Jiang, Zhou and Zhu 2022, A validation approach to over-parameterized matrix and image recovery, "
        "arXiv 2209.10675"
    )
    tuning: ClassVar[str] = (
        "rate: step of R U is rate / (2 b_1), our rule; start_scale: column norms at the start, relative to the square "
        "root of the size of a solution"
    )

    def begin(self, objective: Objective, dim: int, width: int, tuning: Tuning, key: RandomKey) -> Validated:
        parts = _parts(objective)
        factor = random_factor(parts.fit, width, tuning.start_scale, key)
        return Validated(Descending(factor, 0.5 / units(parts.fit)[0]), factor, parts.held(factor))

    def step(self, objective: Objective, tuning: Tuning, state: Validated) -> tuple[Validated, Scalar]:
        parts = _parts(objective)
        descent, change = descend(parts.fit, tuning, state.descent)
        loss = parts.held(descent.factor)
        better = loss < state.least
        best = jnp.where(better, descent.factor, state.best)
        return Validated(descent, best, jnp.where(better, loss, state.least)), change

    def factor(self, state: Validated) -> Factor:
        return state.best


def _parts(objective: Objective) -> Split:
    if not isinstance(objective, Split):
        raise BadInput("method", "the objective has no measurements held out", "make it by split_objective")
    return objective
