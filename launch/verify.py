"""``python -m launch.grid --verify DIR`` recomputes some cells of a run, each alone in float64, and compares them.

The engine's batches, its division over devices and its compaction after pruning take no part in this.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from gpsense.errors import BadInput, counted
from launch.shell import Refusal
from launch.work import collected, stored

if TYPE_CHECKING:
    from gpsense.grid import Plan

CELLS, PROGRAMS = 8, 3  # most cells that are recomputed, and most programs they come from
TOLERANCE = {"float32": 1e-4, "float64": 1e-9}  # relative to a number plus a tenth of its measure's largest
LANCZOS = ("curvature_trained", "curvature_low", "curvature_residual")
ROUNDING = 10.0  # allowed multiple of a cell's own difference between its precision and float64


class Cell(NamedTuple):
    """A cell: its program, row and column in the plan, its indices in the results, and its axis values in words."""

    program: int
    outer: int
    inner: int
    place: dict[str, int]
    words: str


class Difference(NamedTuple):
    """The relative difference of a stored measure from the recomputed one, and whether it is too large.

    ``sensitive``: the difference exceeds the tolerance, but rounding in the run's own precision explains it.
    """

    name: str
    size: float
    wrong: bool
    sensitive: bool


def verify(directory: Path, allow_plugins: bool = False, seed: int | None = None) -> int:
    """Recompute a random sample of cells and print how they compare; returns 1 if one disagrees, else 0."""
    from gpsense.grid.store import read_dataset

    try:
        work = stored(directory, allow_plugins)
    except BadInput as error:
        raise Refusal(f"--verify: {error.problem}; {error.remedy}") from None
    path, precision = directory / "results.nc", work.config.values["run.precision"]
    try:
        dataset = read_dataset(path) if path.exists() else collected(work)
    except (OSError, ValueError) as error:
        raise Refusal(f"{path} cannot be read ({' '.join(str(error).split())[:120]}); run the grid again") from None
    begun = path.exists() or dataset.data_vars
    cells = sample(work.plan, dataset, np.random.default_rng(seed)) if begun else []
    if not cells:
        raise Refusal(f"{directory} has no finished cell yet; wait for the first chunk")
    source = "results.nc" if path.exists() else "its chunks, not finished"
    of_all = f"{len(cells)} of {counted(work.plan.cells, 'cell')}"
    print(f"{directory} ({source}): {of_all} recomputed, each alone, in float64")
    wrong = sensitive = 0
    for cell, differences in zip(cells, compared(work.plan, dataset, cells, precision), strict=True):
        worst = max((each for each in differences if not each.sensitive), key=lambda each: each.size)
        bad = [each.name for each in differences if each.wrong]
        rounded = [each.name for each in differences if each.sensitive]
        wrong, sensitive = wrong + bool(bad), sensitive + bool(rounded)
        verdict = f"DISAGREES in {', '.join(bad)}" if bad else f"agrees in {len(differences)} measures"
        notes = f"; within rounding in {', '.join(rounded)}" if rounded else ""
        print(f"  {cell.words}: {verdict}, by {worst.size:.1e} at most ({worst.name}){notes}")
    tolerance = TOLERANCE[precision]
    print(
        f"{len(cells) - wrong} agree, {wrong} disagree; tolerance for {precision}: {tolerance:g} of a number plus "
        f"{tolerance / 10:g} of its measure's largest; for Lanczos eigenvalues also their residuals; none for integers"
        + (
            f"; more is allowed in {counted(sensitive, 'cell')}, where {precision} and float64 differ by rounding alone"
            if sensitive
            else ""
        )
    )
    return 1 if wrong else 0


def sample(plan: "Plan", dataset: xr.Dataset, random: np.random.Generator) -> list[Cell]:
    """A random sample of at most CELLS stored cells, of at most PROGRAMS programs."""
    from gpsense.grid.results import MISSING, shown_value

    grid, found = plan.grid, []
    programs = random.permutation(len(plan.programs))[:PROGRAMS]
    size = plan.n_outer * plan.n_inner
    for program in map(int, programs):
        wanted, labels = -(-CELLS // len(programs)), plan.programs[program].labels
        for index in map(int, random.choice(size, min(size, 20 * wanted), replace=False)):
            outer, inner = divmod(index, plan.n_inner)
            seed, data = grid.outer[outer]
            values = {**labels, "seed": seed, **data, **grid.inner[inner]}
            axes = [axis for axis in grid.dimensions() if axis.listed]
            named = {f"true_{axis.name}" if axis.name in dataset.data_vars else axis.name: axis for axis in axes}
            place = {name: axis.values.index(values[axis.name]) for name, axis in named.items()}
            words = ", ".join(f"{name} {shown_value(values[axis.name])}" for name, axis in named.items())
            try:
                there = int(dataset["status"].isel(place)) != MISSING
            except (KeyError, ValueError, IndexError, TypeError):
                raise Refusal(f"the results are not those of the manifest ({words}); run the grid again") from None
            if there and wanted:
                wanted -= 1
                found.append(Cell(program, outer, inner, place, words))
    return found[:CELLS]


def compared(plan: "Plan", dataset: xr.Dataset, cells: list[Cell], precision: str) -> list[list[Difference]]:
    """The differences between stored and recomputed measures, for each cell."""
    from gpsense.grid.alone import Alone

    alone, largest = Alone(plan), {str(name): _largest(values.values) for name, values in dataset.data_vars.items()}
    return [_differences(alone, cell, dataset.isel(cell.place), largest, TOLERANCE[precision]) for cell in cells]


def _differences(
    alone: Any, cell: Cell, stored_cell: xr.Dataset, largest: dict[str, float], tolerance: float
) -> list[Difference]:
    """The difference of each stored measure of a cell from the same one computed alone in float64.

    Above the tolerance the cell is also computed alone in its own precision, to see what rounding does. A Lanczos
    eigenvalue, which rounding moves within its residual, may differ by the sum of both residuals.
    """
    where = (cell.program, cell.outer, cell.inner)
    exact, narrow, found = alone.measures(*where, wide=True), None, []
    for name, reference in exact.items():
        if name not in stored_cell:
            found.append(Difference(name, np.inf, True, False))
            continue
        value, scale = stored_cell[name].values, largest.get(name, 0.0)
        value = value[tuple(map(slice, reference.shape))] if value.ndim == reference.ndim else value
        residuals = (np.abs(each["curvature_residual"]) for each in (stored_cell, exact)) if name in LANCZOS else ()
        slack = float(np.nan_to_num(sum(residuals)))
        size = _difference(value, reference, scale, slack)
        if size <= (0 if reference.dtype.kind in "iub" else tolerance):
            found.append(Difference(name, size, False, False))
            continue
        narrow = narrow or alone.measures(*where, wide=False)
        own = _difference(value, narrow[name], scale) <= (0 if reference.dtype.kind in "iub" else tolerance)
        rounding = _difference(narrow[name], reference, scale)
        found.append(Difference(name, size, not (own or size <= ROUNDING * rounding), True))
    return [each._replace(sensitive=each.sensitive and not each.wrong) for each in found]


def _difference(value: np.ndarray, reference: np.ndarray, scale: float, slack: float = 0.0) -> float:
    """The largest ``max(|value - reference| - slack, 0) / (|reference| + scale / 10)`` of two arrays.

    NaN equals NaN; infinite for arrays of different shapes.
    """
    if value.shape != reference.shape:
        return np.inf
    one, two = (np.asarray(each).astype(complex if np.iscomplexobj(each) else float) for each in (value, reference))
    with np.errstate(all="ignore"):
        apart = np.maximum(np.abs(one - two) - slack, 0) / (np.abs(two) + 0.1 * scale)
    apart = np.where((one == two) | (np.isnan(one) & np.isnan(two)), 0.0, np.where(np.isnan(apart), np.inf, apart))
    return float(apart.max(initial=0.0))


def _largest(values: np.ndarray) -> float:
    """The largest finite absolute value in an array of floating-point numbers; 0 for other arrays."""
    sizes = np.abs(values[np.isfinite(values)]) if values.dtype.kind in "fc" else np.zeros(0)
    return float(sizes.max(initial=0.0))
