"""Trace-norm minimisation over positive semidefinite matrices, the convex baseline."""

from dataclasses import dataclass
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp

from gpsense._types import Factor, RandomKey, Scalar, Symmetric
from gpsense.sensing.losses import Objective
from gpsense.sensing.methods._common import compose, inner, largest_curvature, leading, relative_change, units
from gpsense.sensing.methods._contract import Tuning, register

DECAY = 0.9


class Accelerated(eqx.Module):
    """Iterate X, extrapolated point Y, momentum, weight w, ``pace`` 1 / bound, and ``top`` b_1, as in TraceNorm."""

    matrix: Symmetric
    ahead: Symmetric
    momentum: Scalar
    weight: Scalar
    pace: Scalar
    top: Scalar
    width: int = eqx.field(static=True)


@register
@dataclass(frozen=True)
class TraceNorm:
    """``min L(X) + 2 w b_1 tr X`` over X PSD by FISTA: ``X <- P_PSD(Y - step (R(Y) + w b_1 I))``, with restarts.

    ``R(X) = A*(A(X) - y)/n``. b_1 is the largest eigenvalue of ``A*(y)/n``: for ``w >= 1`` the solution is 0. The step
    is ``rate / bound``, with an upper bound of the largest eigenvalue of ``A* A / n``, so that every rate up to 1 is
    within the source's theory. The weight w falls from 1/2 by a constant factor per step to ``penalty``, or to rounding
    level. Momentum restarts where it points uphill. Once w is constant, a run stops by the step's fixed-point residual,
    ``||X - Y||_F / ||Y||_F``, which is 0 only at the solution. In the null space of A only the trace moves
    X, by an amount proportional to w, so the tolerance must be well below w: in float64 a run with penalty 0 ends at a
    feasible X before the trace has acted.
    """

    name: ClassVar[str] = "trace_norm"
    knows_rank: ClassVar[bool] = False
    holds_out: ClassVar[bool] = False
    source: ClassVar[str] = "Beck and Teboulle 2009 (FISTA); O'Donoghue and Candès 2015 (restart), arXiv 1204.3982"
    tuning: ClassVar[str] = (
        "rate: step is rate / a bound of the largest curvature; at most 1 in theory; penalty: w, between 0 and 1; "
        "tolerance: a thousandth of w or less; w falls by 0.9 a step, our rule"
    )

    def begin(self, objective: Objective, dim: int, width: int, tuning: Tuning, key: RandomKey) -> Accelerated:
        top = units(objective)[0]
        # not a constant: XLA's fused products with a constant matrix are wrong in float32 on some CPUs
        zero = 0.0 * objective.back_projection()
        half = jnp.maximum(jnp.asarray(0.5, top.dtype), tuning.penalty)
        pace = 1.0 / largest_curvature(objective, key)
        return Accelerated(zero, zero, jnp.ones((), top.dtype), half, pace, top, width)

    def step(self, objective: Objective, tuning: Tuning, state: Accelerated) -> tuple[Accelerated, Scalar]:
        size = tuning.rate * state.pace
        # without any weight, rounding errors would add up in the null space of A
        last = jnp.maximum(tuning.penalty, 8 * jnp.finfo(state.weight.dtype).eps)
        pull = objective.residual(state.ahead)[1] + state.weight * state.top * jnp.eye(
            len(state.ahead), dtype=state.top.dtype
        )
        root = compose(*leading(state.ahead - size * pull, len(state.ahead)))
        moved = root @ root.T
        uphill = inner(state.ahead - moved, moved - state.matrix) > 0
        momentum = jnp.where(uphill, 1.0, 0.5 * (1.0 + jnp.sqrt(1.0 + 4.0 * state.momentum**2)))
        carry = jnp.where(uphill, 0.0, (state.momentum - 1.0) / momentum)
        after = Accelerated(
            matrix=moved,
            ahead=moved + carry * (moved - state.matrix),
            momentum=momentum,
            weight=jnp.maximum(DECAY * state.weight, last),
            pace=state.pace,
            top=state.top,
            width=state.width,
        )
        residual = relative_change(moved, state.ahead)
        return after, jnp.where(state.weight > last, jnp.maximum(residual, 1.0), residual)

    def factor(self, state: Accelerated) -> Factor:
        return compose(*leading(state.matrix, state.width))
