"""Grids of cells: axes -> plan -> compiled programs -> labelled results.

:func:`run_grid` does all of it, in memory or in a directory; ``python -m launch.grid`` adds configs, a table, figures
and a page. Names are imported when first used, so that :mod:`gpsense.grid.files` can be imported without JAX.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpsense.grid.axes import Axis, Grid
    from gpsense.grid.plan import Chunk, Layout, Plan, make_plan
    from gpsense.grid.program import Program, fit_to_memory
    from gpsense.grid.results import collect
    from gpsense.grid.run import run_chunks, run_grid

_HOMES = {
    "axes": ("Axis", "Grid"),
    "plan": ("Chunk", "Layout", "Plan", "make_plan"),
    "program": ("Program", "fit_to_memory"),
    "results": ("collect",),
    "run": ("run_chunks", "run_grid"),
}
_PLACES = {name: f"gpsense.grid.{home}" for home, names in _HOMES.items() for name in names}

__all__ = [
    "Axis",
    "Chunk",
    "Grid",
    "Layout",
    "Plan",
    "Program",
    "collect",
    "fit_to_memory",
    "make_plan",
    "run_chunks",
    "run_grid",
]


def __getattr__(name: str) -> Any:
    """The public object of this name, from the module that defines it."""
    if name not in _PLACES:
        raise AttributeError(f"module 'gpsense.grid' has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)
