"""Pruning in your own training loop: schedules of the share kept, masked optax optimizers, masked modules.

Scores are in :mod:`gpsense.pruning.weight_scores`, masks from scores in :mod:`gpsense.pruning.weights`, the choice of
prunable leaves in :mod:`gpsense.pruning.leaves`. All work under ``jit`` and ``vmap`` with traced shares and steps.
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
    """The schedule ``step -> share kept``: 1 before step ``at``, then ``kept``; raises BadInput unless in (0, 1]."""
    kept = SHARE.check(kept)
    return lambda step: jnp.where(jnp.asarray(step) < at, 1.0, jnp.asarray(kept, float))


def iterative(every: ScalarLike, share: ScalarLike, kept: ScalarLike = 0.0) -> Shares:
    """The schedule ``max(kept, (1 - share)^floor(step / every))`` of the share kept.

    Every ``every`` steps a cut deletes a ``share`` of the weights left, down to ``kept`` of all. To prune iteratively
    with rewinding (Frankle and Carbin, ICLR 2019), go on after each cut from the parameters of the start, or of a later
    step (Frankle, Dziugaite, Roy and Carbin, ICML 2020), with the mask applied
    (:func:`gpsense.pruning.weights.apply`) and a fresh optimizer state. Raises BadInput for an ``every`` not above 0, a
    ``share`` not in (0, 1) and a ``kept`` not in [0, 1].
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
    """The schedule ``kept + (start - kept) (1 - t)^3`` of the share kept, t from 0 at step ``first`` to 1 at ``last``.

    The share changes every ``every`` steps. This is gradual pruning by Zhu and Gupta (2017), whose formula gives the
    share deleted. Raises BadInput for a ``kept`` or ``start`` not in (0, 1], an ``every`` not above 0, and a ``last``
    before ``first``.
    """
    kept, start = SHARE.check(kept), replace(SHARE, name="start").check(start)
    every = Field(name="every", kind="number", above=0).check(every)
    if not isinstance(first, Tracer) and not isinstance(last, Tracer) and not last >= first:
        raise BadInput("last", f"{shown(last)} is before step {shown(first)} (first)", "use that step or a later one")

    def at(step: Any) -> Scalar:
        step, begin, end = (jnp.asarray(each, float) for each in (step, first, last))
        step = jnp.where(step < end, begin + every * jnp.floor((step - begin) / every), end)
        past = jnp.clip((step - begin) / jnp.maximum(end - begin, 1.0), 0.0, 1.0)
        return kept + (jnp.asarray(start, float) - kept) * (1.0 - past) ** 3

    return at


def pruned(
    optimizer: optax.GradientTransformation, mask: MaskTree | None = None
) -> optax.GradientTransformationExtraArgs:
    """The optimizer wrapped so that its updates keep pruned weights at exactly 0, whatever its momentum or decay.

    The mask is given here, or to each ``update(gradients, state, params, mask=mask)``, where it may be traced and
    change from step to step. The optimizer sees masked gradients and parameters, so that pruned weights enter no norm
    and no moment; the update of a pruned weight w is ``-w``, so that a weight just pruned is 0 after the step.
    Other arguments are passed on to the optimizer. For ``optax.lookahead``, whose parameters are two copies, one mask
    serves both. Raises BadInput for anything but an optax optimizer, and for an update without parameters or mask.
    """
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise BadInput("optimizer", f"{shown(optimizer)} is not an optax optimizer", "use one, e.g. optax.adam(1e-3)")
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
    """The mask, or one for each of the two copies of the parameters in ``optax.lookahead``."""
    return optax.LookaheadParams(mask, mask) if isinstance(params, optax.LookaheadParams) else mask


class Masked(eqx.Module, Generic[ModuleT]):
    """A module that is called with its pruned weights set to 0; they keep their stored values and have gradient 0."""

    module: ModuleT
    mask: MaskTree

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return unmask_module(self)(*args, **kwargs)


def mask_module(module: ModuleT, mask: MaskTree) -> Masked[ModuleT]:
    """The module with a mask, its weights unchanged; the mask can be replaced later, as no weight is lost."""
    return Masked(module, mask)


def unmask_module(masked: Masked[ModuleT]) -> ModuleT:
    """The plain module, its pruned weights set to 0; ``masked.module`` has their former values."""
    return apply(masked.mask, masked.module)
