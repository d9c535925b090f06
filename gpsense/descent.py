"""Gradient descent by optax, advanced in chunks of steps; runs that have stopped are frozen.

``advance_descent`` is a pure function: 20 calls of 100 steps give the same bits as one of 2000, if ``check_every``
divides 100. At the start of a call and every ``check_every`` steps in it a run is checked: it stops with status
CONVERGED (gradient norm at or below the tolerance) or DIVERGED (loss, gradient or factor no longer finite; the factor
of the last check stays). From then on its state stays unchanged while others in the same batch go on. The factor may be
any tree of floating-point arrays of one type; its norm is that of all its numbers together.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from gpsense._types import Elementwise, Integer, Parameters, RandomKey, Scalar, ScalarLike
from gpsense.errors import BadInput
from gpsense.optimizers import Optimizer, build

RUNNING, CONVERGED, BUDGET, DIVERGED = 0, 1, 2, 3
COLLAPSED = 4  # set by gpsense.pipeline, not by a descent: pruning left a layer without weights
STATUS_NAMES = ("running", "converged", "budget", "diverged", "collapsed")

ValueAndGradient = Callable[[Parameters], tuple[Scalar | Callable[[], Scalar], Parameters]]


class Target(NamedTuple):
    """What a descent minimises: a smooth part with its gradient, and what else a step needs.

    - ``value_and_gradient(factor)``: the value may be a function without arguments, which is called only when a run is
      checked.
    - ``proximal(factor, rate)``: the proximal map of ``rate`` times a part that is not smooth. The value then
      includes this part, the gradient does not.
    - ``sampled(factor, key, step)``: an estimate of the gradient, from a random minibatch say. Steps follow it, but
      runs are checked by the full gradient.
    - ``carried``: an array of the factor's shape, True for numbers that are not parameters but state, such as that of a
      spectral norm. At these places the sampled gradient holds their new values.

    >>> target = gpsense.Target(lambda u: (jnp.sum(u**2) / 2, u))
    >>> value, gradient = target(jnp.array([[3.0], [4.0]]))
    >>> float(value), gradient.tolist()
    (12.5, [[3.0], [4.0]])
    """

    value_and_gradient: ValueAndGradient
    proximal: Callable[[Parameters, ScalarLike], Parameters] | None = None
    sampled: Callable[[Parameters, RandomKey, Integer], Parameters] | None = None
    carried: Any = None

    def __call__(self, factor: Parameters) -> tuple[Scalar, Parameters]:
        """The value and the gradient at a factor."""
        value, gradient = self.value_and_gradient(factor)
        return value() if callable(value) else value, gradient

    def gradient_norm(self, factor: Parameters, gradient: Parameters, rate: ScalarLike) -> Scalar:
        """``||g||_F``, or with a proximal map ``||U - prox(U - rate g)||_F / rate``: zero where U is stationary."""
        if self.proximal is not None:
            moved = self.proximal(jax.tree.map(lambda u, g: u - rate * g, factor, gradient), rate)
            gradient = jax.tree.map(lambda u, new: (u - new) / rate, factor, moved)
        return norm(gradient)


@dataclass(frozen=True)
class Method:
    """How to descend: by which optimizer, and when a run is checked and perturbed.

    - ``optimizer``: a name in :data:`gpsense.optimizers.OPTIMIZERS`, or a function from the rate to an optax optimizer.
    - ``check_every``: the number of steps between checks of a run, which can stop only at a check.
    - ``perturb``: a run that meets its tolerance is perturbed by noise. If ``patience`` steps later its objective is
      not lower, it returns to the point before the noise and stops (perturbed gradient descent; Jin et al. 2017).
    - ``stochastic``: steps follow the target's sampled gradient. Checks use all samples. One is made at the start of a
      call and every ``check_every`` steps in it; without ``perturb``, only where the step number is a multiple of
      ``check_every``.

    >>> import optax
    >>> gpsense.Method("adam").optimizer, gpsense.Method(lambda rate: optax.adamw(rate)).check_every
    ('adam', 10)
    """

    optimizer: Optimizer = "gd"
    perturb: bool = False
    patience: int = 200
    check_every: int = 10
    stochastic: bool = False

    def build(self, rate: ScalarLike, momentum: ScalarLike) -> optax.GradientTransformation:
        """The optax optimizer at a (traced) rate; ``momentum`` is read by momentum and nesterov only."""
        return build(self.optimizer, rate, momentum)


class Rates(eqx.Module):
    """Traced numbers of a descent: ``rate`` (the step size), ``momentum``, ``tolerance``, ``perturbation``.

    A run stops at a gradient norm of at most ``tolerance``; ``perturbation`` is the norm of the noise that perturbs it.

    >>> rates = gpsense.Rates(rate=0.1, momentum=0.9, tolerance=1e-6, perturbation=0.0)
    >>> rates.rate
    0.1
    """

    rate: ScalarLike
    momentum: ScalarLike
    tolerance: ScalarLike
    perturbation: ScalarLike


class Escape(eqx.Module):
    """The point before a perturbation, its objective and gradient norm, and the steps to the check (-1: none due)."""

    anchor: Parameters
    objective: Scalar
    gradient_norm: Scalar
    countdown: Integer


class Descent(eqx.Module):
    """State of one run: factor, optimizer state, objective and gradient norm of its last evaluation."""

    factor: Parameters
    optimizer: Any
    objective: Scalar
    gradient_norm: Scalar
    steps: Integer
    status: Integer
    key: RandomKey | None
    escape: Escape | None


def ended(status: Integer) -> Integer:
    """The status at the end of a phase: BUDGET for a run that is still RUNNING, as its steps are used up."""
    return jnp.where(status == RUNNING, jnp.int32(BUDGET), status)


def start_descent(method: Method, factor: Parameters, rates: Rates, key: RandomKey | None = None) -> Descent:
    """A new run from a factor; the key is used only if the method perturbs or samples.

    The run has status DIVERGED if a number of the factor is not finite.

    >>> state = gpsense.start_descent(gpsense.Method("adam"), jnp.zeros((3, 2)), gpsense.Rates(0.1, 0.0, 1e-6, 0.0))
    >>> int(state.steps), state.factor.shape
    (0, (3, 2))
    """
    leaves = jax.tree.leaves(factor)
    nan = jnp.full((), jnp.nan, leaves[0].dtype)
    finite = reduce(operator.and_, [jnp.all(jnp.isfinite(leaf)) for leaf in leaves])
    random = method.perturb or method.stochastic
    if random and key is None:
        raise BadInput("key", "a method that perturbs or samples needs a key", "give jax.random.key(0)")
    escape = Escape(factor, nan, nan, jnp.int32(-1)) if method.perturb else None
    return Descent(
        factor=factor,
        optimizer=method.build(rates.rate, rates.momentum).init(factor),
        objective=nan,
        gradient_norm=nan,
        steps=jnp.int32(0),
        status=jnp.where(finite, jnp.int32(RUNNING), jnp.int32(DIVERGED)),
        key=key if random else None,
        escape=escape,
    )


def advance_descent(
    method: Method, target: Target | ValueAndGradient, state: Descent, rates: Rates, n_steps: int
) -> Descent:
    """The state after up to ``n_steps`` more steps; a state that has stopped is returned unchanged.

    Raises BadInput for a stochastic method where the target has no ``sampled``.

    >>> target = gpsense.Target(lambda u: (jnp.sum((u - 1) ** 2) / 2, u - 1))
    >>> method, rates = gpsense.Method("gd"), gpsense.Rates(0.5, 0.0, 1e-3, 0.0)
    >>> state = gpsense.start_descent(method, jnp.zeros((2, 1)), rates)
    >>> state = gpsense.advance_descent(method, target, state, rates, n_steps=100)
    >>> int(state.steps), bool(state.gradient_norm < 1e-3)
    (20, True)
    """
    target = target if isinstance(target, Target) else Target(target)
    if method.stochastic and target.sampled is None:
        problem = "a stochastic method needs a target with a sampled gradient"
        raise BadInput("target", problem, "give Target(..., sampled=...)")
    whole, rest = divmod(n_steps, method.check_every)

    def block(state: Descent, length: int) -> Descent:
        return _block(method, target, state, rates, length)

    if whole:  # a scan of no steps would be traced and compiled all the same
        state = jax.lax.scan(lambda s, _: (block(s, method.check_every), None), state, None, length=whole)[0]
    return block(state, rest) if rest else state


def _block(method: Method, target: Target, state: Descent, rates: Rates, length: int) -> Descent:
    """The state after a check and ``length`` steps; a run that stops keeps none of these.

    The gradient of the check is that of the first step, so that the program contains it once, unless steps sample it.
    """
    move = _mover(method, target, state, rates)

    def check(factor: Parameters) -> tuple[Parameters, Callable[[], tuple[Scalar, Scalar]]]:
        """The gradient at a factor, and a function that returns the objective and the gradient norm there."""
        value, gradient = target.value_and_gradient(factor)
        norm = lambda: target.gradient_norm(factor, gradient, rates.rate)  # noqa: E731
        return gradient, lambda: (value() if callable(value) else value, norm())

    running, seen = state.status == RUNNING, (state.objective, state.gradient_norm)
    if method.stochastic:
        at = (state.steps % method.check_every == 0) | jnp.isnan(state.objective) | method.perturb
        look = lambda carry: (jnp.asarray(False), check(state.factor)[1]())  # noqa: E731
        # a loop of at most one turn, so that a segment without a check computes no gradient of all samples
        seen = jax.lax.while_loop(lambda carry: carry[0], look, (running & at, seen))[1]
    noise = None
    if state.escape is not None:
        noise = _noise(state.key, state.steps, state.factor, rates.perturbation)  # pyright: ignore[reportArgumentType]

    def step(carry: Any, index: Integer) -> tuple[Any, None]:
        factor, memory, seen = carry
        gradient = None
        if not method.stochastic:
            gradient, look = check(factor)
            seen = jax.lax.cond(index == 0, look, lambda: seen)
        moved, memory = move(factor, memory, index, gradient)
        if state.escape is not None:
            kick, _, _ = _check(state.escape, state, seen[0], seen[1], rates, method.patience, length)
            kick = kick & (index == 0)
            moved = optax.tree.where(kick, jax.tree.map(jnp.add, factor, noise), moved)
        return (moved, memory, seen), None

    steps = jnp.arange(length, dtype=jnp.int32)
    (moved, memory, (value, slope)), _ = jax.lax.scan(step, (state.factor, state.optimizer, seen), steps)
    finite = jnp.isfinite(value) & jnp.isfinite(slope)
    stationary, rest, escape = slope <= rates.tolerance, state.factor, state.escape
    if escape is not None:
        _, stationary, escape = _check(escape, state, value, slope, rates, method.patience, length)
        rest = escape.anchor
        value = jnp.where(stationary, escape.objective, value)
        slope = jnp.where(stationary, escape.gradient_norm, slope)
    finite = finite & jnp.isfinite(_total(jnp.abs, moved))
    going = running & finite & ~stationary
    verdict = jnp.where(finite, jnp.where(stationary, CONVERGED, RUNNING), DIVERGED).astype(jnp.int32)
    return Descent(
        factor=optax.tree.where(going, moved, optax.tree.where(running & finite, rest, state.factor)),
        optimizer=optax.tree.where(going, memory, state.optimizer),
        objective=jnp.where(running, value, state.objective),
        gradient_norm=jnp.where(running, slope, state.gradient_norm),
        steps=state.steps + jnp.where(going, length, 0).astype(jnp.int32),
        status=jnp.where(running, verdict, state.status),
        key=state.key,
        escape=optax.tree.where(running, escape, state.escape),
    )


def _mover(method: Method, target: Target, state: Descent, rates: Rates) -> Callable[..., tuple[Parameters, Any]]:
    """A function ``move(factor, memory, index, gradient)``: one step, the gradient sampled if the method does so."""
    optimizer = method.build(rates.rate, rates.momentum)

    def move(factor: Parameters, memory: Any, index: Integer, gradient: Parameters) -> tuple[Parameters, Any]:
        if method.stochastic:
            draw = jax.random.fold_in(jax.random.fold_in(state.key, 1), state.steps + index)  # pyright: ignore
            gradient = target.sampled(factor, draw, state.steps + index)  # pyright: ignore[reportOptionalCall]
        new, carried = gradient, target.carried
        if carried is not None:
            gradient = jnp.where(carried, 0.0, gradient)
        updates, memory = optimizer.update(gradient, memory, factor)  # pyright: ignore[reportArgumentType]
        moved: Any = optax.apply_updates(factor, updates)  # pyright: ignore[reportArgumentType]
        moved = moved if carried is None else jnp.where(carried, new, moved)
        return _flush(moved if target.proximal is None else target.proximal(moved, rates.rate)), memory

    return move


def _check(
    escape: Escape,
    state: Descent,
    value: Scalar,
    slope: Scalar,
    rates: Rates,
    patience: int,
    length: int,
) -> tuple[jax.Array, jax.Array, Escape]:
    """Whether to perturb now, whether to stop now, and the updated escape."""
    stationary = slope <= rates.tolerance
    free, due = escape.countdown < 0, escape.countdown == 0
    slack = 16 * jnp.finfo(value.dtype).eps * jnp.abs(escape.objective)
    lower = value < escape.objective - slack
    kick = free & stationary & (rates.perturbation > 0)
    unmoved = free & stationary & ~kick
    start = kick | unmoved
    after = jnp.maximum(escape.countdown - length, 0)
    escape = Escape(
        anchor=optax.tree.where(start, state.factor, escape.anchor),
        objective=jnp.where(start, value, escape.objective),
        gradient_norm=jnp.where(start, slope, escape.gradient_norm),
        countdown=jnp.where(kick, jnp.int32(patience), jnp.where(due | free, -1, after)).astype(jnp.int32),
    )
    return kick, unmoved | (due & ~lower), escape


def _noise(key: RandomKey, steps: Integer, factor: Parameters, radius: ScalarLike) -> Parameters:
    """Noise drawn uniformly from the sphere of Frobenius norm ``radius``, with the structure of the factor."""
    flat, unravel = ravel_pytree(factor)
    draw = unravel(jax.random.normal(jax.random.fold_in(key, steps), flat.shape, flat.dtype))
    length = norm(draw)
    return jax.tree.map(lambda leaf: radius * leaf / length, draw)


def _flush(factor: Parameters) -> Parameters:
    """The factor, numbers whose square underflows set to 0: denormals in vanishing columns slow a CPU tenfold."""

    def flushed(leaf: Elementwise) -> Elementwise:
        floor = float(jnp.finfo(leaf.dtype).tiny) ** 0.5
        return jnp.where(jnp.abs(leaf) < floor, jnp.zeros((), leaf.dtype), leaf)

    return jax.tree.map(flushed, factor)


def norm(tree: Parameters) -> Scalar:
    """``sqrt(sum x^2)`` over all numbers of a tree: the Frobenius norm of an array."""
    return optax.tree.norm(tree)


def _total(function: Callable[[Elementwise], Elementwise], tree: Parameters) -> Scalar:
    """The sum of a function of every number of a tree."""
    return reduce(operator.add, [jnp.sum(function(leaf)) for leaf in jax.tree.leaves(tree)])
