"""Cells of a grid of weight-pruned networks: as one program, one by one in JAX, and as arrays for other packages."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gpsense.descent import RUNNING
from gpsense.grid import Axis, Grid, Layout, Program, make_plan
from gpsense.keys import Keys, seed_keys
from gpsense.pipeline import End, Schedule, completed
from gpsense.systems import SYSTEMS, AnySystem, Learner
from gpsense.systems.images import Images
from launch.bench.ticket_baselines import Pruned, Student

Loop = Callable[[], np.ndarray]


class Work(NamedTuple):
    """A grid as one program and one chunk, and the fields (seed and others) of the cells that baselines run."""

    grid: Grid
    program: Program
    chunk: Any
    part: list[dict[str, Any]]


def make_work(
    name: str, schedule: Schedule, seeds: tuple[int, ...], axes: tuple[Axis, ...], size: dict[str, Any]
) -> Work:
    """The grid as one program and one chunk, compiled with the effort that a plan chooses; baselines run the cells
    of its first seed.
    """
    grid, memory = Grid(SYSTEMS[name](), schedule, seeds, axes, size), 8 * 2**30
    chosen = make_plan(grid, memory).programs[0].layout.effort
    plan = make_plan(grid, memory, (Layout(len(grid.outer), len(grid.inner), chosen),))
    first = [{"seed": seed, **fields} for seed, fields in grid.outer if seed == seeds[0]]
    part = [cell | setting for cell in first for setting in grid.inner]
    return Work(grid, Program(grid, plan.programs[0]), plan.chunks[0], part)


def loop(work: Work, cell: Callable[..., Any], names: tuple[str, ...] = ("error", "steps_fine_tune")) -> Loop:
    """A loop over the baselines' cells, one at a time, by one function compiled for all."""
    system, schedule = work.program.plan.system, work.grid.schedule

    @jax.jit
    def one(seed: jax.Array, fields: dict[str, jax.Array]) -> list[jax.Array]:
        found = cell(system, schedule, *_roles(work, fields), seed_keys(seed))
        return [found[name] for name in names]

    def run() -> np.ndarray:
        calls = [one(*_traced(work, fields)) for fields in work.part]
        return np.asarray([[float(number) for number in numbers] for numbers in calls])

    return run


def _traced(work: Work, cell: dict[str, Any]) -> tuple[jax.Array, dict[str, jax.Array]]:
    """A cell's seed and its other fields, as arrays."""
    dtype = jnp.dtype(work.program.plan.system.dtype)
    return jnp.uint32(cell["seed"]), {name: jnp.asarray(cell[name], dtype) for name in cell if name != "seed"}


def _roles(work: Work, fields: dict[str, jax.Array]) -> tuple[Any, Any]:
    """The Data and the Setting of a cell, from its fields and the grid's constants."""
    roles = (work.grid.system.Data, work.grid.system.Setting)
    values = [
        work.grid.constants_of(role) | {name: fields[name] for name in Grid.fields(role) if name in fields}
        for role in roles
    ]
    dtype = jnp.dtype(work.program.plan.system.dtype)
    strong = [{name: jnp.asarray(value, dtype) for name, value in given.items()} for given in values]
    return roles[0](**strong[0]), roles[1](**strong[1])


def stopping(system: AnySystem, schedule: Schedule, data: Any, setting: Any, keys: Keys) -> dict[str, Any]:
    """One cell as by :func:`gpsense.pipeline.run_cell`, without records and without steps after it has stopped."""
    problem, learner = system.draw(data, keys.problem), _learner(system)
    stride = learner.stride

    def phase(move: Callable[..., Any], state: Any, steps: int) -> Any:
        going = lambda carry: (carry[0] < steps // stride) & (carry[1].status == RUNNING)  # noqa: E731
        further = lambda carry: (carry[0] + 1, move(problem, setting, carry[1], stride))  # noqa: E731
        _, state = jax.lax.while_loop(going, further, (0, state))
        return move(problem, setting, state, steps % stride) if steps % stride else state

    def end(state: Any) -> End:
        return End(learner.record(problem, setting, state), state.status, state.steps)

    state = phase(learner.train, learner.start(problem, setting, keys), schedule.train_steps)
    trained = end(state)
    pruned = learner.prune(problem, setting, state)
    state = learner.start_fine_tuning(problem, setting, state, pruned, pruned.mask.shape[0])
    error_pruned = end(state).record["error_curve"]
    state = phase(learner.fine_tune, state, schedule.fine_tune_steps)
    return completed(learner.measure(problem, setting, state, pruned), trained, error_pruned, end(state))


def _learner(system: AnySystem) -> Learner[Any, Any, Any, Any, Any]:
    assert isinstance(system.learner, Learner)
    return system.learner


def _begun(work: Work) -> Iterator[tuple[Any, Any, Any]]:
    """Yields problem, setting and first state of every cell that the baselines run."""
    system = work.program.plan.system

    @jax.jit
    def start(seed: jax.Array, fields: dict[str, jax.Array]) -> tuple[Any, Any, Any]:
        data, setting = _roles(work, fields)
        problem = system.draw(data, seed_keys(seed).problem)
        return problem, setting, _learner(system).start(problem, setting, seed_keys(seed))

    for cell in work.part:
        yield start(*_traced(work, cell))


def students(work: Work) -> list[Student]:
    """The cells of a phase map as arrays."""
    tasks, steps = [], work.grid.schedule.fine_tune_steps
    for problem, setting, state in _begun(work):
        samples, used = problem.samples, np.asarray(problem.samples.used) > 0
        arrays = samples.inputs[used], samples.values[used], state.mask, state.original, problem.teacher
        x, y, mask, start, truth = (np.array(each) for each in arrays)
        mask, start = mask.reshape(truth.shape), start.reshape(truth.shape)
        numbers = setting.rate, setting.momentum, setting.fine_tune_tolerance, setting.success
        rate, momentum, tolerance, success = (float(each) for each in numbers)
        tasks.append(Student(x, y, mask, start, truth, rate, momentum, tolerance, success, steps))
    return tasks


def pruned_cells(work: Work) -> list[Pruned]:
    """The cells of iterative pruning as arrays, with the indices of the images that their steps draw."""
    system, schedule, tasks = work.program.plan.system, work.grid.schedule, []
    assert isinstance(system, Images)

    @jax.jit
    def drawn(key: jax.Array, steps: jax.Array) -> jax.Array:
        keys = jax.vmap(lambda step: jax.random.fold_in(jax.random.fold_in(key, 1), step))(steps)
        return jax.vmap(lambda each: jax.random.randint(each, (system.batch or 1,), 0, jnp.int32(system.n)))(keys)

    steps = jnp.arange(max(schedule.train_steps, schedule.fine_tune_steps), dtype=jnp.int32)
    for cell, (problem, setting, state) in zip(work.part, _begun(work), strict=True):
        train, test = (
            (np.array(part.inputs).reshape(len(part.inputs), -1), np.array(part.targets))
            for part in (problem.train, problem.test)
        )
        start = [np.array(leaf) for leaf in jax.tree.leaves(system.learner.numbers.tree(state.original))]
        numbers = cell["kept"], float(setting.share), float(setting.rate), system.round_steps, schedule.fine_tune_steps
        tasks.append(Pruned(train, test, start, np.array(drawn(state.run.key, steps)), *numbers))
    return tasks
