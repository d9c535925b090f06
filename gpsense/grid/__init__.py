"""Grids of cells: axes -> plan -> compiled programs -> labelled results.

:func:`run_grid` does all of it in memory; ``python -m launch.grid`` adds files, progress and resuming.
"""

import xarray as xr

from gpsense.grid.axes import Axis, Grid
from gpsense.grid.plan import Chunk, Layout, Plan, make_plan
from gpsense.grid.program import Program, fitted
from gpsense.grid.results import chunk_dataset, collect


def run_grid(grid: Grid, memory: float | int = 4 * 2**30) -> xr.Dataset:
    """Run every cell of a grid within ``memory`` bytes and return the labelled Dataset."""
    plan = fitted(make_plan(grid, memory), memory)
    programs = [Program(grid, program) for program in plan.programs]
    return collect(plan, [(c, chunk_dataset(c, programs[c.program].run(c))) for c in plan.chunks])


__all__ = [
    "Axis",
    "Chunk",
    "Grid",
    "Layout",
    "Plan",
    "Program",
    "chunk_dataset",
    "collect",
    "fitted",
    "make_plan",
    "run_grid",
]
