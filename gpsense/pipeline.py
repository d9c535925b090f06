"""Train -> prune -> fine-tune, one cell.

The phases are a learner's own, separate pure functions, so that a grid can stop, save and compact its batch between
them; :func:`run_cell` strings them together for one cell inside one program.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from gpsense._types import Scalar
from gpsense.fields import Field, check_fields
from gpsense.keys import Keys
from gpsense.systems import AnySystem, Evaluator


@dataclass(frozen=True)
class Schedule:
    """Steps of training and of fine-tuning at most (either may be 0), and how often loss and error are recorded."""

    train_steps: Annotated[
        int, Field("train", "steps at most; 0: pruned at the start", at_least=0, axis=False, key="steps")
    ] = 500
    fine_tune_steps: Annotated[
        int, Field("fine_tune", "steps at most; 0: measured as pruned", at_least=0, axis=False, key="steps")
    ] = 200
    record_every: Annotated[int, Field("run", "steps between records of loss and error", at_least=1, axis=False)] = 50

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def steps(self) -> int:
        """Steps at most, both phases."""
        return self.train_steps + self.fine_tune_steps

    def segments(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Lengths of the segments between records, for training and for fine-tuning."""

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


def run_cell(system: AnySystem, schedule: Schedule, data: Any, setting: Any, keys: Keys) -> dict[str, Any]:
    """One whole experiment as a pure function; its curves have one record per segment, the start first.

    ``data`` is a ``system.Data``, ``setting`` a ``system.Setting``. Automatic choices of the system are made here.
    Besides measures and curves, ``state`` is where fine-tuning ended, nothing compacted.
    """
    system = system.resolve(max(schedule.steps, 1))
    learner = system.learner
    problem = system.draw(data, keys.problem)
    if isinstance(learner, Evaluator):
        return learner.evaluate(problem, setting, keys)
    train_segments, fine_tune_segments = schedule.segments()

    def phase(
        move: Callable[..., Any], state: Any, segments: tuple[int, ...]
    ) -> tuple[Any, list[dict[str, jax.Array]]]:
        """Segments of equal length as one scan; a shorter last one after it."""

        def segment(state: Any, length: int) -> tuple[Any, dict[str, Scalar]]:
            state = move(problem, setting, state, length)
            return state, learner.record(problem, setting, state)

        if not segments:
            return state, []
        equal = sum(length == segments[0] for length in segments)
        state, curves = jax.lax.scan(lambda s, _: segment(s, segments[0]), state, None, length=equal)
        parts = [curves]
        for length in segments[equal:]:
            state, last = segment(state, length)
            parts.append(jax.tree.map(lambda point: point[None], last))
        return state, parts

    state = learner.start(problem, setting, keys)
    first = jax.tree.map(lambda point: point[None], learner.record(problem, setting, state))
    state, trained = phase(learner.train, state, train_segments)
    pruned = learner.prune(problem, setting, state)
    state = learner.start_fine_tuning(problem, setting, state, pruned, pruned.mask.shape[0])
    state, tuned = phase(learner.fine_tune, state, fine_tune_segments)
    curves = jax.tree.map(lambda *parts: jnp.concatenate(parts), first, *trained, *tuned)
    return learner.measure(problem, setting, state, pruned) | curves | {"state": state}
