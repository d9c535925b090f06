"""Train -> prune -> fine-tune, one cell.

The phases are separate pure functions, so that a grid can stop, save and compact its batch between them;
:func:`run_cell` strings them together for one cell inside one program.
"""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from gpsense import baselines, pruning
from gpsense._linalg import singular_values
from gpsense._types import Integer, RandomKey, Scalar
from gpsense.descent import BUDGET, DIVERGED, RUNNING, Descent, Method, Target, advance, begin
from gpsense.stationarity import certificate
from gpsense.systems import Sensing, SensingInstance, SensingSetting, SensingSpec, System


@dataclass(frozen=True)
class Schedule:
    """Steps of training and of fine-tuning at most, and how often loss and error are recorded."""

    train_steps: int = 500
    fine_tune_steps: int = 200
    record_every: int = 50

    def segments(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Lengths of the stretches between records, for training and for fine-tuning."""

        def cut(steps: int) -> tuple[int, ...]:
            whole, rest = divmod(steps, self.record_every)
            return (self.record_every,) * whole + ((rest,) if rest else ())

        return cut(self.train_steps), cut(self.fine_tune_steps)

    def recorded_steps(self) -> tuple[list[int], list[int]]:
        """Step numbers of the records, counted through both phases; the first record is at step 0."""
        train, fine_tune = self.segments()
        steps = [0]
        for length in train + fine_tune:
            steps.append(steps[-1] + length)
        return steps[: len(train) + 1], steps[len(train) + 1 :]


class Keys(eqx.Module):
    """One key per role, derived from a seed by identity: seed 7 is seed 7 in every grid."""

    problem: RandomKey
    start: RandomKey
    noise: RandomKey


def seed_keys(seed: Integer | int) -> Keys:
    """``fold_in(key(0), seed)`` split by role."""
    return Keys(*jax.random.split(jax.random.fold_in(jax.random.key(0), seed), 3))


class Pruned(eqx.Module):
    """What training left behind, at the moment of pruning."""

    mask: Any
    scores: Any
    rank: Scalar
    margin: Scalar
    error_trained: Scalar
    error_pruned: Scalar
    loss_trained: Scalar
    gradient_norm_trained: Scalar
    curvature_trained: Scalar
    curvature_residual: Scalar
    coherence: Scalar
    steps_train: Integer
    status_train: Integer


def begin_training(system: System, spec: Any, problem: Any, setting: Any, keys: Keys) -> Descent | baselines.Run:
    """The start of a cell: parameters drawn, optimiser fresh; a baseline's own start where the spec names one."""
    rival = system.rival(spec)
    if rival is not None:
        tuning = system.tuning(setting)
        return baselines.start(rival, problem.objective, spec.dim, spec.width, tuning, keys.start)
    rates, _ = system.rates(setting)
    return begin(system.method(spec), system.start(spec, setting, keys.start), rates, keys.noise)


def train(system: System, spec: Any, problem: Any, setting: Any, state: Any, n_steps: int) -> Any:
    """Up to ``n_steps`` more steps on loss plus penalty, or of the baseline."""
    rival = system.rival(spec)
    if rival is not None:
        return baselines.advance(rival, problem.objective, system.tuning(setting), state, n_steps)
    objective, _ = system.objectives(spec, problem, setting)
    return advance(system.method(spec), objective, state, system.rates(setting)[0], n_steps)


def parameters(system: System, spec: Any, state: Any) -> Any:
    """The parameters a state stands at."""
    rival = system.rival(spec)
    return state.factor if rival is None or isinstance(state, Descent) else rival.factor(state.state)


def _turned(system: System, spec: Any, state: Any) -> Any:
    """The trained parameters in the coordinates that pruning sees; a baseline's as they are."""
    params = parameters(system, spec, state)
    return params if system.rival(spec) else system.rotate(spec, params)


def prune(system: System, spec: Any, problem: Any, setting: Any, state: Any) -> Pruned:
    """Score the trained parameters, set the rule to work, and measure before and after.

    A baseline is not pruned: its scores are singular values, its rank the number above a tenth of the largest.
    """
    trained, params = parameters(system, spec, state), _turned(system, spec, state)
    active = system.active(spec, setting)
    if system.rival(spec) is None:
        scores = jnp.where(active, system.scores(params), jnp.nan)
        counted = mask = system.mask(spec, problem, setting, scores)
        margin = system.margin(spec, setting, scores, mask)
    else:
        scores, mask = singular_values(params), active
        counted, margin = pruning.threshold_mask(scores, 0.1 * scores[0]), pruning.margin(scores, 0.1 * scores[0])
    pruned = system.prune(params, mask)
    penalised, plain = system.objectives(spec, problem, setting)
    loss, _ = plain(trained)
    _, gradient = penalised(trained)
    norm = penalised.gradient_norm(trained, gradient, system.rates(setting)[0].rate)
    curvature, residual = _curvature(system, spec, penalised, trained, active)
    return Pruned(
        mask=mask,
        scores=-jnp.sort(-scores),
        rank=counted.sum().astype(loss.dtype),
        margin=margin,
        error_trained=system.error(problem, trained),
        error_pruned=system.error(problem, pruned),
        loss_trained=loss,
        gradient_norm_trained=norm,
        curvature_trained=curvature,
        curvature_residual=residual,
        coherence=system.coherence(params, mask),
        steps_train=state.steps,
        status_train=jnp.where(state.status == RUNNING, jnp.int32(BUDGET), state.status),
    )


def _curvature(system: System, spec: Any, penalised: Target, params: Any, active: Any) -> tuple[Scalar, Scalar]:
    """Smallest Hessian eigenvalue of what training minimised and its residual; NaN where the spec asks for none."""
    if system.rival(spec) is not None or spec.curvature_steps == 0:
        nan = jnp.full((), jnp.nan, params.dtype)
        return nan, nan
    found = certificate(lambda at: penalised(at)[1], params, jax.random.key(0), spec.curvature_steps, active)
    return found.curvature, found.residual


def begin_fine_tuning(system: System, spec: Any, setting: Any, state: Any, pruned: Pruned, width: int) -> Descent:
    """The pruned parameters at a static width, optimiser fresh; a cell that diverged stays stopped, a baseline ends."""
    _, rates = system.rates(setting)
    params = system.compact(_turned(system, spec, state), pruned.mask, width)
    fresh = begin(_plain(system, spec), params, rates)
    ended = pruned.status_train == DIVERGED if system.rival(spec) is None else jnp.asarray(True)
    return eqx.tree_at(lambda s: s.status, fresh, jnp.where(ended, pruned.status_train, fresh.status))


def fine_tune(system: System, spec: Any, problem: Any, setting: Any, state: Descent, n_steps: int) -> Descent:
    """Up to ``n_steps`` more steps on the loss alone."""
    _, objective = system.objectives(spec, problem, setting)
    return advance(_plain(system, spec), objective, state, system.rates(setting)[1], n_steps)


def record(system: System, spec: Any, problem: Any, setting: Any, state: Any) -> dict[str, Scalar]:
    """Loss (without penalty) and error of the state as it stands."""
    params = parameters(system, spec, state)
    loss, _ = system.objectives(spec, problem, setting)[1](params)
    return {"loss_curve": loss, "error_curve": system.error(problem, params)}


def finish(system: System, spec: Any, problem: Any, setting: Any, state: Descent, pruned: Pruned) -> dict[str, Any]:
    """All measures of a finished cell by name; numbers of a diverged cell are NaN, its status says why."""
    loss, gradient = system.objectives(spec, problem, setting)[1](state.factor)
    status = jnp.where(state.status == RUNNING, jnp.int32(BUDGET), state.status)
    measures = {
        "rank": pruned.rank,
        "error_trained": pruned.error_trained,
        "error_pruned": pruned.error_pruned,
        "error": system.error(problem, state.factor),
        "loss_trained": pruned.loss_trained,
        "loss": loss,
        "gradient_norm_trained": pruned.gradient_norm_trained,
        "curvature_trained": pruned.curvature_trained,
        "curvature_residual": pruned.curvature_residual,
        "coherence": pruned.coherence,
        "gradient_norm": jnp.sqrt(jnp.sum(gradient**2)),
        "margin": pruned.margin,
        "column_norms": pruned.scores,
    }
    diverged = status == DIVERGED
    measures = {name: jnp.where(diverged, jnp.nan, value) for name, value in measures.items()}
    return measures | {
        "steps_train": pruned.steps_train,
        "steps_fine_tune": state.steps,
        "status_train": pruned.status_train,
        "status": status,
    }


def run_cell(system: System, spec: Any, schedule: Schedule, instance: Any, setting: Any, keys: Keys) -> dict[str, Any]:
    """One whole experiment as a pure function; its curves have one record per stretch, the start first."""
    problem = system.sample(spec, instance, keys.problem)
    train_segments, fine_tune_segments = schedule.segments()

    def phase(move: Any, state: Any, segments: tuple[int, ...]) -> tuple[Any, dict[str, jax.Array]]:
        """Stretches of equal length as one scan; a shorter last one after it."""

        def stretch(state: Any, length: int) -> tuple[Any, dict[str, Scalar]]:
            state = move(system, spec, problem, setting, state, length)
            return state, record(system, spec, problem, setting, state)

        equal = sum(length == segments[0] for length in segments)
        state, curves = jax.lax.scan(lambda s, _: stretch(s, segments[0]), state, None, length=equal)
        for length in segments[equal:]:
            state, last = stretch(state, length)
            curves = jax.tree.map(lambda curve, point: jnp.append(curve, point), curves, last)
        return state, curves

    state = begin_training(system, spec, problem, setting, keys)
    first = jax.tree.map(lambda point: point[None], record(system, spec, problem, setting, state))
    state, trained = phase(train, state, train_segments)
    pruned = prune(system, spec, problem, setting, state)
    state = begin_fine_tuning(system, spec, setting, state, pruned, spec.width)
    state, tuned = phase(fine_tune, state, fine_tune_segments)
    curves = jax.tree.map(lambda *parts: jnp.concatenate(parts), first, trained, tuned)
    return finish(system, spec, problem, setting, state, pruned) | curves | {"factor": state.factor}


def run_sensing(
    spec: SensingSpec, schedule: Schedule, instance: SensingInstance, setting: SensingSetting, seed: Integer | int
) -> dict[str, Any]:
    """One matrix-sensing cell of a seed: :func:`run_cell` of the sensing system, every automatic choice made."""
    system = Sensing()
    system.check(spec)
    spec = system.resolve(spec, schedule.train_steps + schedule.fine_tune_steps)
    return run_cell(system, spec, schedule, instance, setting, seed_keys(seed))


def _plain(system: System, spec: Any) -> Method:
    """The system's optimiser without perturbation: fine-tuning is plain descent."""
    return Method(system.method(spec).optimizer)
