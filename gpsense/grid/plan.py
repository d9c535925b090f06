"""From axes to a plan: which programs, which chunks, how many bytes and operations, before anything compiles."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from math import ceil
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gpsense.errors import BadInput
from gpsense.fields import declared, shown
from gpsense.grid.axes import Grid
from gpsense.grid.estimate import estimate_cost
from gpsense.systems import AnySystem, Cost, Evaluator, Learner, System

CHUNK_FLOPS = 2e11  # operations of a chunk at most, where a row for every device has fewer: a kill loses no more
OVERHEAD = 1e4  # operations that take as long as a step of the smallest cell
# Operations of all cells of a program up to which its phases are compiled with the least and with less effort: what
# that saves, .5 to 3 s a program, is more than it costs. Random numbers then take longest, products hardly longer.
LIMITS = {"draw": (5e8, 1e11), "once": (2e10, 1e12), "steps": (5e9, 1.5e11)}
DRAWING = 20.0  # operations that drawing a byte of what is sampled costs, about
PRUNING = 40.0  # steps that pruning and its certificate cost, about
ELEMENTWISE = 10.0  # operations of products that take as long as another one


class Effort(NamedTuple):
    """How much effort compiling is worth, entries of :data:`gpsense.grid.compiling.EFFORTS`: for drawing the problems,
    for the other phases that run once a chunk, and for the steps.
    """

    draw: str = "full"
    once: str = "full"
    steps: str = "full"


FULL = Effort()


@dataclass(frozen=True)
class Layout:
    """Shape of every chunk of a program, seeds-and-data by settings, and the effort its phases are compiled with."""

    outer: int
    inner: int
    effort: Effort = FULL

    @property
    def cells(self) -> int:
        """Cells of a chunk."""
        return self.outer * self.inner


@dataclass(frozen=True)
class ProgramPlan:
    """One compilation: its system, the labels of its static axes, what it costs and how it is cut."""

    labels: dict[str, Any]
    system: AnySystem
    cost: Cost
    layout: Layout


@dataclass(frozen=True)
class Chunk:
    """Part of a program's cells: rows [outer, outer_stop) by columns [inner, inner_stop), run and stored as one."""

    number: int
    program: int
    outer: int
    outer_stop: int
    inner: int
    inner_stop: int

    @property
    def cells(self) -> int:
        return (self.outer_stop - self.outer) * (self.inner_stop - self.inner)


@dataclass(frozen=True)
class Plan:
    """Programs and chunks of a grid with their cost."""

    grid: Grid
    programs: tuple[ProgramPlan, ...]
    chunks: tuple[Chunk, ...]
    n_outer: int
    n_inner: int
    parts: int = 1
    heavier: float = 1.0

    @property
    def cells(self) -> int:
        """Cells in all."""
        return len(self.programs) * self.n_outer * self.n_inner

    @property
    def steps(self) -> int:
        """Steps of a cell at most, both phases."""
        return self.grid.schedule.steps

    @property
    def flops(self) -> float:
        """Operations at most, the products only, no cell stopping early and none narrowed by pruning."""
        return sum(cell_flops(p.cost, self.steps) for p in self.programs) * self.n_outer * self.n_inner

    @property
    def bytes(self) -> int:
        """Peak memory of the largest chunk, estimated before compiling; :meth:`Program.bytes` is exact."""
        return max(chunk_bytes(p.cost, p.layout) for p in self.programs)

    @property
    def stored_bytes(self) -> int:
        """Size of the results before compression, estimated."""
        if told := [p.cost.result_bytes for p in self.programs if p.cost.result_bytes]:
            return self.n_outer * self.n_inner * sum(told)
        points = sum(len(part) for part in self.grid.schedule.recorded_steps())
        widest = max(getattr(p.system, "width", None) or 1 for p in self.programs)
        return self.cells * 4 * (2 * points + widest + 14)


def cell_flops(cost: Cost, steps: int) -> float:
    """Operations of a cell that takes all its steps."""
    return cost.flops * steps + cost.once


def chunk_bytes(cost: Cost, layout: Layout) -> int:
    """Memory of a chunk: problems and states of all its cells, the work of the problems that are run at a time."""
    kept = layout.outer * (cost.problem_bytes + layout.inner * cost.kept_bytes)
    at_once = min(layout.outer, outer_batch() * jax.local_device_count())
    return kept + at_once * max(layout.inner * cost.cell_bytes, cost.sample_bytes)


def effort(cost: Cost, outer: int, inner: int, steps: int) -> Effort:
    """The effort that compiling a program is worth, by the operations of all its cells."""
    cells = outer * inner
    flops = {
        "draw": outer * DRAWING * cost.sample_bytes,
        "once": cells * (cost.once + min(steps, PRUNING) * cost.flops),
        "steps": cells * cost.flops * steps,
    }
    slower = 1.0 if cost.products else ELEMENTWISE

    def chosen(work: str) -> str:
        least, less = LIMITS[work]
        return "least" if slower * flops[work] <= least else "less" if slower * flops[work] <= less else "full"

    return Effort(**{work: chosen(work) for work in flops})


def padded_outer(outer: int, devices: int) -> int:
    """Problems of a chunk, filled up so that every device has as many."""
    return -(-outer // devices) * devices


def outer_batch() -> int:
    """Problems run side by side: one on a CPU, whose cache holds one; many on an accelerator."""
    return 1 if jax.default_backend() == "cpu" else 64


def make_plan(
    grid: Grid,
    memory: float | int,
    layouts: tuple[Layout, ...] | None = None,
    parts: int = 1,
    heavier: float = 1.0,
) -> Plan:
    """Plan a grid within ``memory`` bytes; ``layouts`` (one a program) repeats the cut of an earlier plan.

    It is cut into ``parts`` chunks at least, by seeds and data, where there are so many. A cell that is run takes
    ``heavier`` times the bytes that its system tells.
    Raises BadInput for a system that cannot be and, with the numbers, for a single cell that does not fit.
    """
    outer, inner = len(grid.outer), len(grid.inner)
    programs, chunks = [], []
    settings = settings_of(grid, _checked(grid))
    listed = list(grid.programs())
    if layouts and (len(layouts) != len(listed) or any(each.outer > outer or each.inner > inner for each in layouts)):
        problem = (
            f"its manifest cuts {len(layouts)} programs, not the {len(listed)} of {outer} x {inner} cells of this run"
        )
        raise BadInput("out", problem, "choose another directory")
    for index, (labels, system) in enumerate(listed):
        system.check_schedule(grid.schedule.train_steps, grid.schedule.record_every, settings)
        cost = system.cost() or estimate_cost(system, *one_cell(grid))
        cost = replace(cost, cell_bytes=int(cost.cell_bytes * heavier))
        layout = layouts[index] if layouts else _cut(cost, grid, _trained(system, settings), memory, parts, len(listed))
        programs.append(ProgramPlan(labels, system, cost, layout))
        for start in range(0, outer, layout.outer):
            for left in range(0, inner, layout.inner):
                stop, right = min(start + layout.outer, outer), min(left + layout.inner, inner)
                chunks.append(Chunk(len(chunks), index, start, stop, left, right))
    _check_axes(programs)
    plan = Plan(grid, tuple(programs), tuple(chunks), outer, inner, parts, heavier)
    if plan.stored_bytes > memory:
        sizes = f"{plan.cells} cells make results of {size_text(plan.stored_bytes)}, {size_text(memory)} allowed"
        raise BadInput("memory", sizes, "raise the budget, record less often or run fewer cells")
    return plan


def _check_axes(programs: Sequence[ProgramPlan]) -> None:
    """BadInput where a measure has more axes in one program than in another; they may differ in length."""
    known: dict[str, tuple[int, ProgramPlan]] = {}
    for program in programs:
        for name, count in program.cost.axes:
            other, first = known.setdefault(name, (count, program))
            if other != count:
                places = [
                    ", ".join(f"{key} = {shown(value)}" for key, value in each.labels.items())
                    for each in (first, program)
                ]
                problem = f"its {name} has {other} axes where {places[0]} and {count} where {places[1]}"
                raise BadInput("cell", problem, "return arrays with as many axes everywhere")


def shard_of(plan: Plan, index: int, count: int) -> set[Chunk]:
    """The chunks of part ``index`` (from 0) of a plan in ``count`` parts.

    They follow one another, so that few programs are compiled for each part, and take about as many operations.
    """
    per_cell = [cell_flops(p.cost, plan.steps) + OVERHEAD * (plan.steps + PRUNING) for p in plan.programs]
    work = [per_cell[chunk.program] * chunk.cells for chunk in plan.chunks]
    middles = [end - each / 2 for end, each in zip(accumulate(work), work, strict=True)]
    places = [min(int(count * middle / sum(work)), count - 1) for middle in middles]
    return {chunk for chunk, place in zip(plan.chunks, places, strict=True) if place == index}


def one_cell(grid: Grid) -> tuple[Any, Any]:
    """Data and setting of the first cell."""
    data, setting = grid.system.Data, grid.system.Setting

    def one(role: type, numbers: dict[str, Any]) -> Any:
        given = {name: field.default for name, field in declared(role).items()} | grid.constants_of(role) | numbers
        arrays = {n: jnp.asarray(v, grid.traced_dtype(n)) for n, v in given.items() if v is not None}
        return role(**arrays)

    return one(data, grid.outer[0][1]), one(setting, grid.inner[0])


def settings_of(grid: Grid, rows: Sequence[dict[str, Any]]) -> list[Any]:
    """Settings of a grid with these numbers on its axes."""
    constants = grid.constants_of(grid.system.Setting)
    return [grid.system.Setting(**constants, **each) for each in rows]


def _checked(grid: Grid) -> Sequence[dict[str, Any]]:
    """The settings that a system's schedule is checked against: all, or none where it checks nothing."""
    return [] if type(grid.system).check_schedule is System.check_schedule else grid.inner


def size_text(size: float) -> str:
    """Bytes for people: 100 B, 36 kB, 1.2 GiB."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size:.3g} B"


def _trained(system: AnySystem, settings: Sequence[Any]) -> int | None:
    """How many settings train, where others share their training; None where every one does."""
    learner = system.learner
    if isinstance(learner, Evaluator) or type(learner).shared is Learner.shared:
        return None
    count = sum(leader == place for place, (leader, _) in enumerate(learner.shared(settings)))
    return None if count == len(settings) else count


def _cut(cost: Cost, grid: Grid, trained: int | None, memory: float | int, parts: int, programs: int) -> Layout:
    """The largest chunk that fits the memory and stays within a few seconds of work, evenly cut.

    Beyond those seconds too, if only so every device has a row, and so that settings that share their training stay
    together. The ``programs`` have ``parts`` chunks at least, if there are such rows.
    """
    outer, inner, steps, parts = len(grid.outer), len(grid.inner), grid.schedule.steps, -(-parts // programs)
    if trained is not None:
        steps = ceil(trained * grid.schedule.train_steps / inner) + grid.schedule.fine_tune_steps
    least = chunk_bytes(cost, Layout(1, 1))
    if least > memory:
        raise BadInput(
            "memory",
            f"one cell needs {size_text(least)}, {size_text(memory)} allowed",
            "raise the budget or lower the sizes of the system",
        )
    per_inner = cost.cell_bytes + cost.kept_bytes
    fits = int((memory - cost.problem_bytes - cost.sample_bytes) / per_inner)
    patience = CHUNK_FLOPS / (cell_flops(cost, steps) + OVERHEAD * (steps + PRUNING))  # cells of a chunk
    wanted = inner if trained is not None else int(patience / min(outer, jax.local_device_count()))
    columns = _even(inner, max(1, min(inner, fits, wanted)))
    share = max(1, outer * ceil(inner / columns) // parts)
    rows = _even(outer, int(min(outer, share, max(jax.local_device_count(), patience / columns))))
    while chunk_bytes(cost, Layout(rows, columns)) > memory:
        rows = _even(outer, rows - 1)
    return Layout(rows, columns, effort(cost, outer, inner, steps))


def _even(total: int, most: int) -> int:
    """Size of the pieces when a total is cut into as few as possible of at most this size, nearly equal."""
    return ceil(total / ceil(total / most))
