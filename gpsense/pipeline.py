"""One cell: train -> prune -> fine-tune.

The phases are separate pure functions of a learner, so that a grid can stop, save and compact its batch between them;
:func:`run_cell` runs them one after another for one cell in one program.
"""

from collections.abc import Callable
from dataclasses import dataclass
from inspect import Signature, signature
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gpsense.descent import BUDGET, COLLAPSED, DIVERGED, RUNNING
from gpsense.errors import BadInput
from gpsense.fields import Field, check_fields
from gpsense.keys import Keys
from gpsense.systems import AnySystem, Evaluator

MOST_STEPS, MOST_RECORDS = 10**9, 100_000


@dataclass(frozen=True)
class Schedule:
    """The maximum numbers of training and fine-tuning steps (either may be 0), and the steps between records.

    >>> schedule = gpsense.Schedule(train_steps=100, fine_tune_steps=50, record_every=50)
    >>> schedule.recorded_steps()
    ([0, 50, 100], [150])
    """

    train_steps: Annotated[
        int,
        Field(
            "train",
            "steps at most (0: prune without training)",
            at_least=0,
            at_most=MOST_STEPS,
            axis=False,
            key="steps",
        ),
    ] = 500
    fine_tune_steps: Annotated[
        int,
        Field(
            "fine_tune", "steps at most (0: no fine-tuning)", at_least=0, at_most=MOST_STEPS, axis=False, key="steps"
        ),
    ] = 200
    record_every: Annotated[int, Field("run", "steps between records of loss and error", at_least=1, axis=False)] = 50

    def __post_init__(self) -> None:
        check_fields(self)
        if (records := self.steps // self.record_every) > MOST_RECORDS:
            least = self.steps // (MOST_RECORDS + 1) + 1
            problem = f"{records:,} records of a run, more than {MOST_RECORDS:,}"
            raise BadInput("record_every", problem, f"use {least:,} or more")

    @property
    def steps(self) -> int:
        """The maximum number of steps of both phases together."""
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


def _short(kind: Any) -> None:
    """Reduce a signature, as ``help`` shows it, to names and defaults: types and ranges stand with the fields."""
    parameters = [each.replace(annotation=each.empty) for each in signature(kind).parameters.values()]
    kind.__signature__ = Signature(parameters)


_short(Schedule)


Record = dict[str, jax.Array]


class End(NamedTuple):
    """How a phase ended: its last record, status and steps; arrays of one cell or of many."""

    record: dict[str, Any]
    status: Any
    steps: Any


def completed(measures: dict[str, Any], trained: End, error_pruned: Any, tuned: End) -> dict[str, Any]:
    """All measures of finished cells: the learner's own, and those that follow from records and states.

    They are arrays of NumPy or JAX, with any axes of cells in front. A phase still running gets the status BUDGET. A
    cell whose loss or error is not finite has diverged, and its measures are NaN. A cell whose pruning left a layer
    without weights (``kept_by_layer``) has collapsed; its measures stay.
    """
    xp = jnp if isinstance(tuned.status, jax.Array) else np
    told = {name: value for name, value in tuned.record.items() if not name.endswith("_curve")}
    told |= {"error_trained": trained.record["error_curve"], "loss_trained": trained.record["loss_curve"]}
    told |= {"error_pruned": error_pruned, "error": tuned.record["error_curve"], "loss": tuned.record["loss_curve"]}
    told |= measures
    status, status_train = (xp.where(end.status == RUNNING, xp.int32(BUDGET), end.status) for end in (tuned, trained))
    finite = xp.isfinite(told["error"]) & xp.isfinite(told["loss"])
    status = xp.where(finite, status, xp.int32(DIVERGED))
    if "kept_by_layer" in told:
        gone = xp.any(told["kept_by_layer"] == 0, axis=-1)
        status = xp.where(gone & (status != DIVERGED), xp.int32(COLLAPSED), status)

    def masked(value: Any) -> Any:
        lost = (status == DIVERGED).reshape(status.shape + (1,) * (value.ndim - status.ndim))
        return xp.where(lost, xp.nan, value) if xp.issubdtype(value.dtype, xp.inexact) else value

    ends = {"steps_train": trained.steps, "steps_fine_tune": tuned.steps}
    ends |= {"status_train": status_train, "status": status}
    return {name: masked(value) for name, value in told.items()} | ends


def run_cell(system: AnySystem, schedule: Schedule, data: Any, setting: Any, keys: Keys) -> dict[str, Any]:
    """Run one cell from draw to measures, as a pure function; returns measures, curves and the last state by name.

    ``data`` is a ``system.Data``, ``setting`` a ``system.Setting``. Fields of the system that are None are set by
    ``system.resolve``, where it can choose them. A curve holds the start, then a record every ``record_every`` steps of
    a phase and at its end. ``state`` is the state at the end of fine-tuning, at full width. Where columns or input
    coordinates are pruned, those kept come first, then zeros; pruned weights of other models are 0 where they stood. A
    system that trains nothing returns measures only.

    >>> system = gpsense.Sensing(dim=6, rank=1, n=60)
    >>> data, setting = system.Data(noise=0.05), system.Setting(penalty=0.1)
    >>> schedule = gpsense.Schedule(train_steps=200, fine_tune_steps=100, record_every=100)
    >>> run = jax.jit(lambda keys: gpsense.run_cell(system, schedule, data, setting, keys))
    >>> cell = run(gpsense.seed_keys(0))
    >>> int(cell["rank"]), bool(cell["error"] < 0.1)
    (1, True)
    """
    system = system.resolve(max(schedule.steps, 1))
    learner = system.learner
    problem = system.draw(data, keys.problem)
    if isinstance(learner, Evaluator):
        return learner.evaluate(problem, setting, keys)
    train_segments, fine_tune_segments = schedule.segments()

    def phase(move: Callable[..., Any], cell: Any, segments: tuple[int, ...]) -> tuple[Any, Record, list[Record]]:
        """The state, last record and records of a phase: segments of equal length as one scan, then a shorter one."""

        def segment(state: Any, length: int) -> tuple[Any, Record]:
            state = move(problem, setting, state, length)
            return state, learner.record(problem, setting, state)

        state, last = cell
        if not segments:
            return state, last, []
        equal = sum(length == segments[0] for length in segments)
        state, curves = jax.lax.scan(lambda s, _: segment(s, segments[0]), state, None, length=equal)
        parts = [curves]
        for length in segments[equal:]:
            state, last = segment(state, length)
            parts.append(jax.tree.map(lambda point: point[None], last))
        return state, jax.tree.map(lambda points: points[-1], parts[-1]), parts

    state = learner.start(problem, setting, keys)
    begun = learner.record(problem, setting, state)
    state, last, trained = phase(learner.train, (state, begun), train_segments)
    before = End(last, state.status, state.steps)
    pruned = learner.prune(problem, setting, state)
    state = learner.start_fine_tuning(problem, setting, state, pruned, pruned.mask.shape[0])
    narrowed = learner.record(problem, setting, state)
    state, last, tuned = phase(learner.fine_tune, (state, narrowed), fine_tune_segments)
    after = End(last, state.status, state.steps)
    measures = completed(learner.measure(problem, setting, state, pruned), before, narrowed["error_curve"], after)
    first = jax.tree.map(lambda point: point[None], begun)
    parts = [first, *trained, *tuned]
    curves = {name: jnp.concatenate([part[name] for part in parts]) for name in first if name.endswith("_curve")}
    return measures | curves | {"state": state}
