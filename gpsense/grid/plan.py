"""From axes to a plan: which programs, which chunks, how many bytes and operations, before anything is compiled."""

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

CHUNK_FLOPS = 2e11  # most operations of a chunk (_cut names the exceptions), so that a kill loses no more
OVERHEAD = 1e4  # operations that take as long as a step of the smallest cell
# The operations of all cells of a program up to which its phases are compiled with the least and with less effort: that
# saves 0.5 to 3 s per program, more than the slower code costs. It slows random numbers most, products hardly at all.
LIMITS = {"draw": (5e8, 1e11), "once": (2e10, 1e12), "steps": (5e9, 1.5e11)}
DRAWING = 20.0  # operations that drawing one byte of samples costs, about
PRUNING = 40.0  # pruning and its certificate cost about as much as so many steps
ELEMENTWISE = 10.0  # an elementwise operation takes about as long as so many operations of a matrix product


class Effort(NamedTuple):
    """How much effort to compile with, keys of :data:`gpsense.grid.compiling.EFFORTS`: for drawing the problems, for
    the other phases that run once per chunk, and for the steps.
    """

    draw: str = "full"
    once: str = "full"
    steps: str = "full"


FULL = Effort()


@dataclass(frozen=True)
class Layout:
    """The shape of a program's chunks, ``outer`` (seed, data) rows by ``inner`` settings, and its compiling effort."""

    outer: int
    inner: int
    effort: Effort = FULL

    @property
    def cells(self) -> int:
        """The number of cells of a chunk."""
        return self.outer * self.inner


@dataclass(frozen=True)
class ProgramPlan:
    """One program to compile: the values of its static axes, its system, the cost of a cell and the chunks' layout."""

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
    """The programs and chunks of a grid, with their cost; each program has ``n_outer`` x ``n_inner`` cells.

    ``parts`` and ``heavier``: as given to :func:`make_plan`.
    """

    grid: Grid
    programs: tuple[ProgramPlan, ...]
    chunks: tuple[Chunk, ...]
    n_outer: int
    n_inner: int
    parts: int = 1
    heavier: float = 1.0

    @property
    def cells(self) -> int:
        """The total number of cells."""
        return len(self.programs) * self.n_outer * self.n_inner

    @property
    def steps(self) -> int:
        """The largest number of steps of a cell, both phases together."""
        return self.grid.schedule.steps

    @property
    def flops(self) -> float:
        """The number of operations, counted as Cost says, if no cell stops early or is narrowed by pruning."""
        return sum(cell_flops(p.cost, self.steps) for p in self.programs) * self.n_outer * self.n_inner

    @property
    def bytes(self) -> int:
        """Peak memory of the largest chunk, estimated before compiling; for the exact one see Program.prepare."""
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
    """The number of operations of a cell that takes all its steps."""
    return cost.flops * steps + cost.once


def chunk_bytes(cost: Cost, layout: Layout) -> int:
    """Bytes of a chunk: problems and states of all its cells, and working memory of the problems run side by side."""
    kept = layout.outer * (cost.problem_bytes + layout.inner * cost.kept_bytes)
    at_once = min(layout.outer, outer_batch() * jax.local_device_count())
    return kept + at_once * max(layout.inner * cost.cell_bytes, cost.sample_bytes)


def effort(cost: Cost, outer: int, inner: int, steps: int) -> Effort:
    """The effort to compile a program with, chosen by the number of operations of all its cells."""
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
    """The number of problems of a chunk, rounded up so that every device has equally many."""
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
    """Plan a grid within ``memory`` bytes; ``layouts`` (one per program) repeats the chunks of an earlier plan.

    There are at least ``parts`` chunks, if there are as many combinations of seeds and data, along which chunks are
    cut. A running cell is assumed to need ``heavier`` times the bytes that its system states.
    Raises BadInput for an invalid system and, with the sizes, where a single cell or the results do not fit.
    """
    outer, inner = len(grid.outer), len(grid.inner)
    programs, chunks = [], []
    settings = settings_of(grid, _checked(grid))
    listed = list(grid.programs())
    if layouts and (len(layouts) != len(listed) or any(each.outer > outer or each.inner > inner for each in layouts)):
        problem = (
            f"the chunks in its manifest, for {len(layouts)} programs, do not fit this run: {len(listed)} programs of "
            f"{outer} x {inner} cells"
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
    """Raises BadInput where a measure has more axes in one program than in another; their lengths may differ."""
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
                raise BadInput("cell", problem, "return it with equally many axes everywhere")


def shard_of(plan: Plan, index: int, count: int) -> set[Chunk]:
    """The chunks of part ``index`` (from 0) of a plan that is divided into ``count`` parts.

    A part consists of consecutive chunks, so that it compiles few programs; all parts take about as many operations.
    """
    per_cell = [cell_flops(p.cost, plan.steps) + OVERHEAD * (plan.steps + PRUNING) for p in plan.programs]
    work = [per_cell[chunk.program] * chunk.cells for chunk in plan.chunks]
    middles = [end - each / 2 for end, each in zip(accumulate(work), work, strict=True)]
    places = [min(int(count * middle / sum(work)), count - 1) for middle in middles]
    return {chunk for chunk, place in zip(plan.chunks, places, strict=True) if place == index}


def one_cell(grid: Grid) -> tuple[Any, Any]:
    """The data and the setting of the first cell."""
    data, setting = grid.system.Data, grid.system.Setting

    def one(role: type, numbers: dict[str, Any]) -> Any:
        given = {name: field.default for name, field in declared(role).items()} | grid.constants_of(role) | numbers
        arrays = {n: jnp.asarray(v, grid.traced_dtype(n)) for n, v in given.items() if v is not None}
        return role(**arrays)

    return one(data, grid.outer[0][1]), one(setting, grid.inner[0])


def settings_of(grid: Grid, rows: Sequence[dict[str, Any]]) -> list[Any]:
    """The settings of a grid, one for each of ``rows``, which hold values on its axes."""
    constants = grid.constants_of(grid.system.Setting)
    return [grid.system.Setting(**constants, **each) for each in rows]


def _checked(grid: Grid) -> Sequence[dict[str, Any]]:
    """The settings that the schedule is checked against: all, or none if the system does not check its schedule."""
    return [] if type(grid.system).check_schedule is System.check_schedule else grid.inner


def size_text(size: float) -> str:
    """Bytes for people: 100 B, 36 kB, 1.2 GiB."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size:.3g} B"


def _trained(system: AnySystem, settings: Sequence[Any]) -> int | None:
    """The number of settings that are trained, if others share their training; None if every setting is trained."""
    learner = system.learner
    if isinstance(learner, Evaluator) or type(learner).shared is Learner.shared:
        return None
    count = sum(leader == place for place, (leader, _) in enumerate(learner.shared(settings)))
    return None if count == len(settings) else count


def _cut(cost: Cost, grid: Grid, trained: int | None, memory: float | int, parts: int, programs: int) -> Layout:
    """The layout of the largest chunks that fit the memory and take a few seconds at most, nearly equal in size.

    They may take longer, if otherwise some device would have no row, or settings that share their training would be
    separated. All ``programs`` together have at least ``parts`` chunks, if there are as many rows.
    """
    outer, inner, steps, parts = len(grid.outer), len(grid.inner), grid.schedule.steps, -(-parts // programs)
    if trained is not None:
        steps = ceil(trained * grid.schedule.train_steps / inner) + grid.schedule.fine_tune_steps
    least = chunk_bytes(cost, Layout(1, 1))
    if least > memory:
        raise BadInput(
            "memory",
            f"one cell needs {size_text(least)}, {size_text(memory)} allowed",
            "raise the budget or make the problem smaller",
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
    """The size of the pieces when ``total`` is cut into the fewest, nearly equal pieces of at most ``most``."""
    return ceil(total / ceil(total / most))
