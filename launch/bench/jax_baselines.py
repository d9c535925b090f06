"""Baselines in JAX without gpsense's grid: a loop of jitted cells, and one flat vmap over all cells."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from gpsense.penalties import smoothed_group_lasso
from gpsense.pruning.columns import apply_mask, column_norms, threshold_mask
from gpsense.sensing.losses import Gram, gram_objective, sensing_loss
from gpsense.sensing.measurements import Dense, dense_measurements
from gpsense.sensing.symmetric import svec
from launch import bench
from launch.bench.rows import timed
from launch.bench.timing import CHECKED, Cell, Outcome, errors
from launch.bench.workload import Problem, Workload


def textbook(workload: Workload, problem: Problem) -> Cell:
    """The cell as a function of the penalty, jitted once for all cells; JAX differentiates the loss on dense A."""
    rows, values = dense_measurements(jnp.asarray(problem.matrices)).rows, jnp.asarray(problem.values)
    start = jnp.asarray(problem.start)
    return lambda penalty: np.asarray(_textbook(workload, rows, values, start, np.float32(penalty)))


def closed_form(workload: Workload, problem: Problem) -> Cell:
    """The cell as a function of the penalty, jitted once for all cells: Gram matrix and gradient in closed form."""
    measurements = dense_measurements(jnp.asarray(problem.matrices))
    centre = svec(jnp.asarray(problem.truth))
    objective = jax.block_until_ready(_gram(measurements, jnp.asarray(problem.values), centre))
    start = jnp.asarray(problem.start)
    return lambda penalty: np.asarray(_closed_form(workload, objective, start, np.float32(penalty)))


def flat(workload: Workload, problems: list[Problem]) -> Outcome:
    """One vmap over cells, each with its own copy of the measurements; timed on a few training steps and scaled."""
    count = min(bench.FLAT_STEPS, workload.train)
    few, cells = replace(workload, train=count, fine_tune=0), _stacked(workload, problems)
    seconds = timed(lambda: _flat(few, *cells), 3) / count * (workload.train + workload.fine_tune)
    del cells
    part = workload.part(1, CHECKED[1])
    factors = np.asarray(_flat(part, *_stacked(part, problems)))
    note = f"all cells on {count} training steps and scaled; errors from {part.cells} cells run to the end"
    return Outcome(seconds, part, errors([list(factors)], problems), note)


@partial(jax.jit, static_argnums=0)
def _textbook(
    workload: Workload, rows: jax.Array, values: jax.Array, start: jax.Array, penalty: jax.Array
) -> jax.Array:
    """The factor of one cell after training, pruning and fine-tuning by automatic differentiation; pruned columns 0."""
    loss = lambda factor: sensing_loss(factor, Dense(rows), values)  # noqa: E731

    def objective(factor: jax.Array) -> jax.Array:
        return loss(factor) + penalty * smoothed_group_lasso(factor, workload.smoothing)

    move = lambda of: lambda _, factor: factor - workload.rate * jax.grad(of)(factor)  # noqa: E731
    factor = jax.lax.fori_loop(0, workload.train, move(objective), start)
    factor = apply_mask(factor, threshold_mask(column_norms(factor), workload.threshold))
    return jax.lax.fori_loop(0, workload.fine_tune, move(loss), factor)


_gram = jax.jit(gram_objective)


@partial(jax.jit, static_argnums=0)
def _closed_form(workload: Workload, objective: Gram, start: jax.Array, penalty: jax.Array) -> jax.Array:
    """The factor of one cell after training, pruning and fine-tuning in its Gram form; pruned columns 0."""
    slope = jax.grad(smoothed_group_lasso)
    loss = lambda factor: objective.value_and_gradient(factor)[1]  # noqa: E731
    penalised = lambda factor: loss(factor) + penalty * slope(factor, workload.smoothing)  # noqa: E731
    move = lambda gradient: lambda _, factor: factor - workload.rate * gradient(factor)  # noqa: E731
    factor = jax.lax.fori_loop(0, workload.train, move(penalised), start)
    factor = apply_mask(factor, threshold_mask(column_norms(factor), workload.threshold))
    return jax.lax.fori_loop(0, workload.fine_tune, move(loss), factor)


_flat = jax.jit(jax.vmap(_textbook, in_axes=(None, 0, 0, 0, 0)), static_argnums=0)


def _stacked(workload: Workload, problems: list[Problem]) -> tuple[jax.Array, ...]:
    """Packed measurements, values, start and penalty, one row per cell."""
    seeds, count = problems[: len(workload.seeds)], len(workload.penalties)
    packed = [np.asarray(dense_measurements(jnp.asarray(problem.matrices)).rows) for problem in seeds]
    leaves = (packed, [problem.values for problem in seeds], [problem.start for problem in seeds])
    penalties = jnp.tile(jnp.asarray(workload.penalties, jnp.float32), len(seeds))
    return (*(jnp.asarray(np.repeat(np.stack(leaf), count, axis=0)) for leaf in leaves), penalties)
