"""Grids of cells: axes -> plan -> compiled programs -> labelled results.

:func:`run_grid` does all of it in memory; ``python -m launch.grid`` adds files, progress and resuming.
"""

from gpsense.grid.axes import Axis, Grid
from gpsense.grid.plan import Chunk, Layout, Plan, make_plan
from gpsense.grid.program import Program, fit_to_memory
from gpsense.grid.results import chunk_dataset, collect
from gpsense.grid.run import run_grid

__all__ = [
    "Axis",
    "Chunk",
    "Grid",
    "Layout",
    "Plan",
    "Program",
    "chunk_dataset",
    "collect",
    "fit_to_memory",
    "make_plan",
    "run_grid",
]
