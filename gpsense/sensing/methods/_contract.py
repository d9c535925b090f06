"""What every baseline offers, and the loop that runs any of them."""

from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp

from gpsense._types import Factor, Integer, RandomKey, Scalar, ScalarLike
from gpsense.descent import CONVERGED, DIVERGED, RUNNING
from gpsense.sensing.losses import Objective


class Tuning(eqx.Module):
    """Tuning parameters, as traced numbers; each method's ``tuning`` says which it reads and how it uses them.

    ``rate`` multiplies the method's own step size (1: the rule in its docstring); ``penalty`` is its regularisation
    weight where it has one; ``start_scale`` the size of a random start; a run stops when the relative change of its
    factor or matrix in a step is at most ``tolerance``.
    """

    rate: ScalarLike = 1.0
    penalty: ScalarLike = 0.0
    start_scale: ScalarLike = 1e-3
    tolerance: ScalarLike = 0.0


@runtime_checkable
class Baseline(Protocol):
    """One baseline: a start, a step and the factor of a state; pure functions.

    ``knows_rank`` methods are given the true rank as ``width``; the others an upper bound of it. ``holds_out``
    methods are given a :class:`~gpsense.sensing.losses.Split`. ``source`` is the publication, ``tuning`` names the
    fields of :class:`Tuning` that the method reads, with its default rule.
    """

    name: ClassVar[str]
    knows_rank: ClassVar[bool]
    holds_out: ClassVar[bool]
    source: ClassVar[str]
    tuning: ClassVar[str]

    def begin(self, objective: Objective, dim: int, width: int, tuning: Tuning, key: RandomKey) -> Any:
        """The state from which a run starts: any tree of arrays."""
        ...

    def step(self, objective: Objective, tuning: Tuning, state: Any) -> tuple[Any, Scalar]:
        """The next state, and the relative change of the factor or matrix."""
        ...

    def factor(self, state: Any) -> Factor:
        """U (dim, width) with ``U U^T`` the method's estimate."""
        ...


Method = TypeVar("Method", bound=Baseline)


class Run(eqx.Module):
    """A run in progress: the method's state, steps taken and status (a code of :mod:`gpsense.descent`)."""

    state: Any
    steps: Integer
    status: Integer


def start(method: Baseline, objective: Objective, dim: int, width: int, tuning: Tuning, key: RandomKey) -> Run:
    """A run at its start; DIVERGED where the start is not finite."""
    state = method.begin(objective, dim, width, tuning, key)
    status = jnp.where(_finite(state), jnp.int32(RUNNING), jnp.int32(DIVERGED))
    return Run(state, jnp.int32(0), status)


def advance(method: Baseline, objective: Objective, tuning: Tuning, run: Run, n_steps: int) -> Run:
    """Up to ``n_steps`` more steps; a run that has stopped is returned unchanged.

    A run that converges keeps its last step; one that diverges goes back to its last finite state.
    """

    def step(run: Run, _: None) -> tuple[Run, None]:
        moved, change = method.step(objective, tuning, run.state)
        running = run.status == RUNNING
        finite = _finite(moved) & jnp.isfinite(change)
        going = running & finite
        verdict = jnp.where(finite, jnp.where(change <= tuning.tolerance, CONVERGED, RUNNING), DIVERGED)
        state = jax.tree.map(lambda new, old: jnp.where(going, new, old), moved, run.state)
        status = jnp.where(running, verdict.astype(jnp.int32), run.status)
        return Run(state, run.steps + going.astype(jnp.int32), status), None

    return jax.lax.scan(step, run, None, length=n_steps)[0]


def _finite(tree: Any) -> jax.Array:
    """Whether every number of a tree is finite."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))


BASELINES: dict[str, Baseline] = {}


def register(kind: type[Method]) -> type[Method]:
    """Class decorator that puts a baseline into :data:`BASELINES` under its name."""
    BASELINES[kind.name] = kind()
    return kind
