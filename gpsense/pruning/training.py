"""Pruning in a training loop of one's own: what share is kept when, an optax optimizer on a mask, modules with a mask.

Scores are in :mod:`gpsense.pruning.weight_scores`, masks by scores in :mod:`gpsense.pruning.weights`, which leaves can
be pruned in :mod:`gpsense.pruning.leaves`. All of it works under ``jit`` and ``vmap`` with traced shares and steps.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer

from gpsense._types import Integer, Scalar, ScalarLike
from gpsense.errors import BadInput
from gpsense.fields import Field, shown
from gpsense.pruning.weights import SHARE, MaskTree, apply

Shares = Callable[[Integer | ScalarLike], Scalar]
ModuleT = TypeVar("ModuleT", bound=Callable[..., Any])


def one_shot(at: ScalarLike, kept: ScalarLike) -> Shares:
    """The share kept at a step: 1 before step ``at``, ``kept`` from it on; BadInput for a share that is none."""
    kept = SHARE.check(kept)
    return lambda step: jnp.where(jnp.asarray(step) < at, 1.0, jnp.asarray(kept, float))


def iterative(every: ScalarLike, share: ScalarLike, kept: ScalarLike = 0.0) -> Shares:
    """The share kept at a step: ``max(kept, (1 - share)^floor(step / every))``, a ``share`` of what is left each time.

    Iterative magnitude pruning, Frankle and Carbin (ICLR 2019), with rewinding: after each cut go on from
    :func:`gpsense.pruning.weights.apply` of the mask to the parameters of the start, or of a later step (Frankle,
    Dziugaite, Roy and Carbin, ICML 2020), with a fresh state of the optimizer. BadInput for shares and a number of
    steps that are none.
    """
    every = Field(name="every", kind="number", above=0).check(every)
    share = Field(name="share", kind="number", above=0, below=1).check(share)
    kept = Field(name="kept", kind="number", at_least=0, at_most=1).check(kept)

    def at(step: Any) -> Scalar:
        rounds = jnp.floor(jnp.asarray(step, float) / every)
        return jnp.maximum(jnp.asarray(kept, float), (1.0 - jnp.asarray(share, float)) ** rounds)

    return at


def cubic(
    first: ScalarLike, last: ScalarLike, kept: ScalarLike, start: ScalarLike = 1.0, every: ScalarLike = 1
) -> Shares:
    """The share kept at a step: ``kept + (start - kept) (1 - t)^3``, t from 0 at step ``first`` to 1 at ``last``.

    It changes every so many steps. Gradual pruning, Zhu and Gupta (2017), whose formula is of the share deleted.
    BadInput for a share that is not above 0 and at most 1, an ``every`` that is not above 0, and a ``last``
    before ``first``.
    """
    kept, start = SHARE.check(kept), replace(SHARE, name="start").check(start)
    every = Field(name="every", kind="number", above=0).check(every)
    if not isinstance(first, Tracer) and not isinstance(last, Tracer) and not last >= first:
        raise BadInput(
            "last", f"{shown(last)} is before step {shown(first)}, the first", "use that step or a later one"
        )

    def at(step: Any) -> Scalar:
        step, begin, end = (jnp.asarray(each, float) for each in (step, first, last))
        step = jnp.where(step < end, begin + every * jnp.floor((step - begin) / every), end)
        past = jnp.clip((step - begin) / jnp.maximum(end - begin, 1.0), 0.0, 1.0)
        return kept + (jnp.asarray(start, float) - kept) * (1.0 - past) ** 3

    return at


def pruned(
    optimizer: optax.GradientTransformation, mask: MaskTree | None = None
) -> optax.GradientTransformationExtraArgs:
    """An optax optimizer whose updates keep pruned weights at exactly 0, whatever momentum or decay it has.

    The mask is given here, or to each ``update(gradients, state, params, mask=mask)``, where it may be traced and
    change from step to step. Inside, gradients and parameters are masked, so that pruned weights count in no norm and
    no moment; outside, the update of a pruned weight w is ``-w``: one that has just been pruned is 0 after the step.
    Other arguments go on to the optimizer. Where the parameters are the two copies that ``optax.lookahead`` takes, one
    mask holds for both.
    BadInput for what is no optimizer, and for an update without parameters or without a mask.
    """
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise BadInput("optimizer", f"{shown(optimizer)} is not one of optax", "give one, such as optax.adam(1e-3)")
    inner, fixed = optax.with_extra_args_support(optimizer), mask

    def init(params: Any) -> Any:
        return inner.init(params if fixed is None else apply(_copies(fixed, params), params))

    def update(updates: Any, state: Any, params: Any = None, *, mask: MaskTree | None = None, **others: Any) -> Any:
        mask = fixed if mask is None else mask
        if mask is None:
            raise BadInput("mask", "none is given", "give it to pruned(optimizer, mask), or to update(..., mask=mask)")
        if params is None:
            raise BadInput("params", "the update has no parameters", "call update(gradients, state, params)")
        if "grad" in others:
            others["grad"] = apply(mask, others["grad"])
        each = _copies(mask, params)
        moves, state = inner.update(apply(mask, updates), state, apply(each, params), **others)

        def moved(keep: Any, move: Any, leaf: Any) -> Any:
            return move if keep is None or move is None else jnp.where(keep, move, -leaf.astype(move.dtype))

        return jax.tree.map(moved, each, moves, params, is_leaf=lambda node: node is None), state

    return optax.GradientTransformationExtraArgs(init, update)


def _copies(mask: MaskTree, params: Any) -> MaskTree:
    """The mask, or one for each copy of the parameters."""
    return optax.LookaheadParams(mask, mask) if isinstance(params, optax.LookaheadParams) else mask


class Masked(eqx.Module, Generic[ModuleT]):
    """A module that is called with 0 in its pruned weights: these keep their values and have gradients of 0."""

    module: ModuleT
    mask: MaskTree

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return unmask_module(self)(*args, **kwargs)


def mask_module(module: ModuleT, mask: MaskTree) -> Masked[ModuleT]:
    """The module with a mask, its weights as they are; any mask may take the place of this one later."""
    return Masked(module, mask)


def unmask_module(masked: Masked[ModuleT]) -> ModuleT:
    """The plain module, its pruned weights 0; ``masked.module`` has them as they were."""
    return apply(masked.mask, masked.module)
