"""The baselines at their best on one matrix: tuned by an oracle that knows the truth, timed for the steps they need.

A baseline needs no stopping rule: the number of steps after which its error is low enough is found beforehand, and one
compiled call of its start and exactly that many steps is timed.
"""

from functools import partial
from itertools import product
from statistics import median
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gpsense.sensing.losses import cheapest_objective
from gpsense.sensing.measurements import Dense
from gpsense.sensing.methods import BASELINES, Baseline, Run, Tuning, advance, start
from launch import bench
from launch.bench.rows import timed


class Tunable(NamedTuple):
    """A baseline, the tuning values tried without and with noise, and the share of SOLVE_STEPS that it may take."""

    method: str
    noiseless: dict[str, tuple[float, ...]]
    noisy: dict[str, tuple[float, ...]]
    share: float = 1.0

    @property
    def knows_rank(self) -> bool:
        """Whether it is given the true rank."""
        return BASELINES[self.method].knows_rank

    @property
    def steps(self) -> int:
        """The largest number of steps."""
        return max(1, round(self.share * bench.SOLVE_STEPS))

    def tunings(self, noise: float) -> list[dict[str, float]]:
        """Every combination of the tuning values."""
        tried = self.noisy if noise else self.noiseless
        return [dict(zip(tried, values, strict=True)) for values in product(*tried.values())]


PATH = (0.1, 0.05, 0.03, 0.02, 0.01, 0.005, 0.002)
TUNED = (
    Tunable("trace_norm", {"rate": (1.0, 1.2, 1.5)}, {"penalty": PATH}, 0.2),
    Tunable(
        "scaled_gd_lambda",
        {"rate": (1.4, 1.7), "penalty": (0.3, 0.5, 1.0), "start_scale": (1e-9, 1e-10, 1e-12)},
        {"rate": (0.5, 1.7), "penalty": (0.1, 0.5), "start_scale": (1e-9, 1e-3)},
        0.3,
    ),
    Tunable(
        "prec_gd", {"rate": (1.3, 1.5), "penalty": (0.1, 0.3, 0.5)}, {"rate": (0.5, 1.5), "penalty": (0.3, 1.0)}, 0.4
    ),
    Tunable(
        "small_start",
        {"rate": (1.2, 1.5), "start_scale": (1e-9, 1e-10, 1e-12)},
        {"rate": (0.5, 1.5), "start_scale": (1e-9, 1e-6, 1e-3)},
        0.4,
    ),
    Tunable("irls", {"penalty": (0.0,)}, {"penalty": (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4)}, 0.02),
    Tunable("spectral", {"rate": (1.0, 1.5)}, {"rate": (1.0,)}, 0.2),
    Tunable("scaled_gd", {"rate": (1.0, 1.4)}, {"rate": (1.0,)}, 0.2),
    Tunable("niht", {"rate": (0.8, 1.0)}, {"rate": (0.8,)}, 0.2),
)


class Problem(NamedTuple):
    """One matrix to recover: measurements, values (n,), and the truth M (dim, dim) with its rank."""

    measurements: Dense
    values: jax.Array
    truth: jax.Array
    rank: int


class Tuned(NamedTuple):
    """The best tuning, and for every problem the errors (steps + 1,) along its run."""

    settings: dict[str, float]
    errors: list[np.ndarray]


def tuned(baseline: Tunable, problems: list[Problem], noise: float, accuracy: float) -> Tuned:
    """The tuning that needs the fewest steps to ``accuracy`` or, with noise, has the least error along its run."""
    tunings = baseline.tunings(noise)
    stacked = jax.tree.map(lambda *leaves: jnp.asarray(leaves), *(_tuning(each) for each in tunings))
    # (problems, tunings, steps + 1)
    curves = np.array([np.asarray(_errors(baseline, problem, stacked)) for problem in problems])
    if noise:
        scores = np.median(np.nan_to_num(curves, nan=np.inf).min(-1), axis=0)
    else:
        scores = np.median([[_score(curve, accuracy) for curve in row] for row in curves], axis=0)
    best = int(np.argmin(scores))
    return Tuned(tunings[best], list(curves[:, best]))


def needed(errors: np.ndarray, accuracy: float) -> int | None:
    """The number of steps after which the error is first at most ``accuracy``; None where it never is."""
    below = np.flatnonzero(errors <= accuracy)
    return int(below[0]) if below.size else None


def _score(errors: np.ndarray, accuracy: float) -> float:
    """The number of steps to ``accuracy``; where it is not reached, all steps + 1 + the least error."""
    steps = needed(errors, accuracy)
    return len(errors) + float(np.nan_to_num(errors, nan=np.inf).min()) if steps is None else steps


def seconds_to(baseline: Tunable, problems: list[Problem], settings: dict[str, float], steps: list[int]) -> float:
    """The seconds that a compiled start and ``steps`` (by problem) take: median over problems, of medians of 5 runs."""
    width = _width(baseline, problems[0])
    run = partial(_run, BASELINES[baseline.method], width, _tuning(settings))
    return median(
        timed(lambda problem=problem, count=count: run(problem.measurements, problem.values, jnp.int32(count)))
        for problem, count in zip(problems, steps, strict=True)
    )


def _width(baseline: Tunable, problem: Problem) -> int:
    return problem.rank if baseline.knows_rank else min(bench.SOLVE_WIDTH, problem.measurements.dim)


def _tuning(settings: dict[str, float]) -> Tuning:
    return jax.tree.map(jnp.float64, Tuning(**settings))


def _errors(baseline: Tunable, problem: Problem, tunings: Tuning) -> jax.Array:
    """The relative errors (tunings, steps + 1) along the runs of all tunings."""
    method, width, steps = BASELINES[baseline.method], _width(baseline, problem), baseline.steps
    return _curves(method, width, steps, problem.measurements, problem.values, problem.truth, tunings)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _curves(
    method: Baseline, width: int, steps: int, measurements: Dense, values: jax.Array, truth: jax.Array, tunings: Tuning
) -> jax.Array:
    objective = cheapest_objective(measurements, values, width)

    def curve(tuning: Tuning) -> jax.Array:
        run = start(method, objective, measurements.dim, width, tuning, jax.random.key(0))

        def error(state: Any) -> jax.Array:
            factor = method.factor(state)
            return jnp.sqrt(jnp.sum((factor @ factor.T - truth) ** 2) / jnp.sum(truth**2))

        def step(run: Run, _: None) -> tuple[Run, jax.Array]:
            after = advance(method, objective, tuning, run, 1)
            return after, error(after.state)

        return jnp.append(error(run.state), jax.lax.scan(step, run, None, length=steps)[1])

    return jax.lax.map(curve, tunings)


@partial(jax.jit, static_argnums=(0, 1))
def _run(
    method: Baseline, width: int, tuning: Tuning, measurements: Dense, values: jax.Array, steps: jax.Array
) -> jax.Array:
    """The factor after ``steps`` steps."""
    objective = cheapest_objective(measurements, values, width)
    run = start(method, objective, measurements.dim, width, tuning, jax.random.key(0))
    moved = jax.lax.fori_loop(0, steps, lambda _, run: advance(method, objective, tuning, run, 1), run)
    return method.factor(moved.state)
