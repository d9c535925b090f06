"""A whole grid in memory."""

import xarray as xr

from gpsense.grid.axes import Grid
from gpsense.grid.plan import make_plan
from gpsense.grid.program import Program, fit_to_memory
from gpsense.grid.results import chunk_dataset, collect


def run_grid(grid: Grid, memory: float | int = 4 * 2**30) -> xr.Dataset:
    """Run every cell of a grid within ``memory`` bytes and return the labelled Dataset."""
    plan = fit_to_memory(make_plan(grid, memory), memory)
    programs = [Program(grid, program) for program in plan.programs]
    return collect(plan, [(c, chunk_dataset(c, programs[c.program].run(c))) for c in plan.chunks])
