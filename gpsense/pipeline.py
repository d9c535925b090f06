"""Train -> prune -> fine-tune, one cell.

The phases are a system's own, separate pure functions, so that a grid can stop, save and compact its batch between
them; :func:`run_cell` strings them together for one cell inside one program.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from gpsense._types import Integer, Scalar
from gpsense.keys import Keys, seed_keys
from gpsense.systems import Sensing, SensingInstance, SensingSetting, SensingSpec, System


@dataclass(frozen=True)
class Schedule:
    """Steps of training and of fine-tuning at most (either may be 0), and how often loss and error are recorded."""

    train_steps: int = 500
    fine_tune_steps: int = 200
    record_every: int = 50

    @property
    def steps(self) -> int:
        """Steps at most, both phases."""
        return self.train_steps + self.fine_tune_steps

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


def run_cell(system: System, spec: Any, schedule: Schedule, instance: Any, setting: Any, keys: Keys) -> dict[str, Any]:
    """One whole experiment as a pure function; its curves have one record per stretch, the start first.

    Besides measures and curves, ``state`` is where fine-tuning ended, nothing compacted.
    """
    problem = system.sample(spec, instance, keys.problem)
    train_segments, fine_tune_segments = schedule.segments()

    def phase(move: Any, state: Any, segments: tuple[int, ...]) -> tuple[Any, list[dict[str, jax.Array]]]:
        """Stretches of equal length as one scan; a shorter last one after it."""

        def stretch(state: Any, length: int) -> tuple[Any, dict[str, Scalar]]:
            state = move(spec, problem, setting, state, length)
            return state, system.record(spec, problem, setting, state)

        if not segments:
            return state, []
        equal = sum(length == segments[0] for length in segments)
        state, curves = jax.lax.scan(lambda s, _: stretch(s, segments[0]), state, None, length=equal)
        parts = [curves]
        for length in segments[equal:]:
            state, last = stretch(state, length)
            parts.append(jax.tree.map(lambda point: point[None], last))
        return state, parts

    state = system.begin(spec, problem, setting, keys)
    first = jax.tree.map(lambda point: point[None], system.record(spec, problem, setting, state))
    state, trained = phase(system.train, state, train_segments)
    pruned = system.prune(spec, problem, setting, state)
    state = system.begin_fine_tuning(spec, problem, setting, state, pruned, pruned.mask.shape[0])
    state, tuned = phase(system.fine_tune, state, fine_tune_segments)
    curves = jax.tree.map(lambda *parts: jnp.concatenate(parts), first, *trained, *tuned)
    return system.finish(spec, problem, setting, state, pruned) | curves | {"state": state}


def run_sensing(
    spec: SensingSpec, schedule: Schedule, instance: SensingInstance, setting: SensingSetting, seed: Integer | int
) -> dict[str, Any]:
    """One matrix-sensing cell of a seed: :func:`run_cell` of the sensing system, every automatic choice made."""
    system = Sensing()
    system.check(spec)
    spec = system.resolve(spec, max(schedule.steps, 1))
    return run_cell(system, spec, schedule, instance, setting, seed_keys(seed))
