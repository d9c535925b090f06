"""Gradient descent by optax, advanced in chunks of steps, frozen where it has stopped.

``advance`` is a pure function: 20 calls of 100 steps give the same bits as one of 2000. Every ``check_every`` steps a
run is judged: it stops with status CONVERGED (gradient norm at or below the tolerance) or DIVERGED (loss, gradient or
factor no longer finite; the factor of the last judgement stays). From then on its state is left as it is while others
in the same batch go on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from gpsense._types import Factor, Integer, RandomKey, Scalar, ScalarLike

RUNNING, CONVERGED, BUDGET, DIVERGED = 0, 1, 2, 3
STATUS_NAMES = ("running", "converged", "budget", "diverged")

ValueAndGradient = Callable[[Factor], tuple[Scalar, Factor]]


@dataclass(frozen=True)
class Method:
    """How to descend: ``optimizer`` gd, momentum (heavy ball), nesterov or adam, and whether to perturb.

    With ``perturb`` a run that meets its tolerance is moved by noise and stops only if its objective is not lower
    ``patience`` steps later (perturbed gradient descent; Jin et al. 2017); it then returns to the point it left.
    Runs are judged every ``check_every`` steps, so steps taken are multiples of it.
    """

    optimizer: str = "gd"
    perturb: bool = False
    patience: int = 200
    check_every: int = 10

    def build(self, rate: ScalarLike, momentum: ScalarLike) -> optax.GradientTransformation:
        """The optax optimiser at a (traced) rate; ``momentum`` is read by momentum and nesterov only."""
        if self.optimizer == "gd":
            return optax.sgd(rate)
        if self.optimizer in ("momentum", "nesterov"):
            return optax.sgd(rate, momentum=momentum, nesterov=self.optimizer == "nesterov")  # pyright: ignore
        if self.optimizer == "adam":
            return optax.adam(rate)
        raise ValueError(f"unknown optimizer {self.optimizer!r}; use one of {', '.join(OPTIMIZERS)}")


OPTIMIZERS = ("gd", "momentum", "nesterov", "adam")


class Rates(eqx.Module):
    """Traced numbers of a descent: step size, momentum, gradient-norm tolerance, radius of the perturbation."""

    rate: ScalarLike
    momentum: ScalarLike
    tolerance: ScalarLike
    perturbation: ScalarLike


class Escape(eqx.Module):
    """The point a perturbed run left, its objective, and the steps until it is judged (-1: not perturbed)."""

    key: RandomKey
    anchor: Factor
    objective: Scalar
    gradient_norm: Scalar
    countdown: Integer


class Descent(eqx.Module):
    """State of one run: factor, optimiser state, objective and gradient norm of its last evaluation."""

    factor: Factor
    optimizer: Any
    objective: Scalar
    gradient_norm: Scalar
    steps: Integer
    status: Integer
    escape: Escape | None


def begin(method: Method, factor: Factor, rates: Rates, key: RandomKey | None = None) -> Descent:
    """A fresh run from a factor; the key is read where the method perturbs.

    A factor with a number that is not finite is DIVERGED from the start.
    """
    nan = jnp.full((), jnp.nan, factor.dtype)
    finite = jnp.all(jnp.isfinite(factor))
    escape = None
    if method.perturb:
        if key is None:
            raise ValueError("a method that perturbs needs a key")
        escape = Escape(key, factor, nan, nan, jnp.int32(-1))
    return Descent(
        factor=factor,
        optimizer=method.build(rates.rate, rates.momentum).init(factor),
        objective=nan,
        gradient_norm=nan,
        steps=jnp.int32(0),
        status=jnp.where(finite, jnp.int32(RUNNING), jnp.int32(DIVERGED)),
        escape=escape,
    )


def advance(
    method: Method, value_and_gradient: ValueAndGradient, state: Descent, rates: Rates, n_steps: int
) -> Descent:
    """Up to ``n_steps`` more steps; a state that has stopped is returned unchanged."""
    optimizer = method.build(rates.rate, rates.momentum)
    whole, rest = divmod(n_steps, method.check_every)

    def block(state: Descent, length: int) -> Descent:
        return _block(optimizer, value_and_gradient, state, rates, method.patience, length)

    state = jax.lax.scan(lambda s, _: (block(s, method.check_every), None), state, None, length=whole)[0]
    return block(state, rest) if rest else state


def _block(
    optimizer: optax.GradientTransformation,
    value_and_gradient: ValueAndGradient,
    state: Descent,
    rates: Rates,
    patience: int,
    length: int,
) -> Descent:
    """Evaluate, judge, and take ``length`` steps if the run goes on; only the first needs the loss's value."""
    value, gradient = value_and_gradient(state.factor)
    norm = jnp.sqrt(jnp.sum(gradient**2))
    finite = jnp.isfinite(value) & jnp.isfinite(norm)
    stationary, rest, escape = norm <= rates.tolerance, state.factor, state.escape
    moved, memory = _move(optimizer, gradient, state.factor, state.optimizer)
    if escape is not None:
        kick, stationary, escape = _judge(escape, state, value, norm, stationary, rates, patience, length)
        moved = jnp.where(kick, state.factor + _noise(escape.key, state.steps, state.factor, rates.perturbation), moved)
        rest = escape.anchor
        value = jnp.where(stationary, escape.objective, value)
        norm = jnp.where(stationary, escape.gradient_norm, norm)

    def step(carry: tuple[Factor, Any], _: None) -> tuple[tuple[Factor, Any], None]:
        factor, memory = carry
        return _move(optimizer, value_and_gradient(factor)[1], factor, memory), None

    (moved, memory), _ = jax.lax.scan(step, (moved, memory), None, length=length - 1)
    running = state.status == RUNNING
    finite = finite & jnp.isfinite(jnp.sum(jnp.abs(moved)))
    going = running & finite & ~stationary
    verdict = jnp.where(finite, jnp.where(stationary, CONVERGED, RUNNING), DIVERGED).astype(jnp.int32)

    def keep(flag: jax.Array, new: Any, old: Any) -> Any:
        return jax.tree.map(lambda n, o: jnp.where(flag, n, o), new, old)

    return Descent(
        factor=jnp.where(going, moved, jnp.where(running & finite, rest, state.factor)),
        optimizer=keep(going, memory, state.optimizer),
        objective=jnp.where(running, value, state.objective),
        gradient_norm=jnp.where(running, norm, state.gradient_norm),
        steps=state.steps + jnp.where(going, length, 0).astype(jnp.int32),
        status=jnp.where(running, verdict, state.status),
        escape=keep(running, escape, state.escape),
    )


def _move(optimizer: optax.GradientTransformation, gradient: Factor, factor: Factor, memory: Any) -> tuple[Factor, Any]:
    """One step of the optimiser."""
    updates, memory = optimizer.update(gradient, memory, factor)
    return _flush(optax.apply_updates(factor, updates)), memory  # pyright: ignore[reportArgumentType]


def _judge(
    escape: Escape,
    state: Descent,
    value: Scalar,
    norm: Scalar,
    stationary: jax.Array,
    rates: Rates,
    patience: int,
    length: int,
) -> tuple[jax.Array, jax.Array, Escape]:
    """Whether to perturb now, whether to stop now, and the escape that follows."""
    free, due = escape.countdown < 0, escape.countdown == 0
    slack = 16 * jnp.finfo(value.dtype).eps * jnp.abs(escape.objective)
    lower = value < escape.objective - slack
    kick = free & stationary & (rates.perturbation > 0)
    unmoved = free & stationary & ~kick
    start = kick | unmoved
    after = jnp.maximum(escape.countdown - length, 0)
    escape = Escape(
        key=escape.key,
        anchor=jnp.where(start, state.factor, escape.anchor),
        objective=jnp.where(start, value, escape.objective),
        gradient_norm=jnp.where(start, norm, escape.gradient_norm),
        countdown=jnp.where(kick, jnp.int32(patience), jnp.where(due | free, -1, after)).astype(jnp.int32),
    )
    return kick, unmoved | (due & ~lower), escape


def _noise(key: RandomKey, steps: Integer, factor: Factor, radius: ScalarLike) -> Factor:
    """A point drawn uniformly on the sphere of this Frobenius radius."""
    draw = jax.random.normal(jax.random.fold_in(key, steps), (factor.size,), factor.dtype).reshape(factor.shape)
    return radius * draw / jnp.sqrt(jnp.sum(draw**2))


def _flush(factor: Factor) -> Factor:
    """Numbers whose square underflows become zero: dying columns would else slow a CPU tenfold as denormals."""
    floor = float(jnp.finfo(factor.dtype).tiny) ** 0.5
    return jnp.where(jnp.abs(factor) < floor, jnp.zeros((), factor.dtype), factor)
