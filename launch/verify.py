"""``python -m launch.grid --verify DIR``: cells of a run computed again, each alone and in float64, and compared.

Nothing of the engine takes part but what a cell is: no batch, no devices, no narrowing of what is pruned.
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

CELLS, PROGRAMS = 8, 3  # cells that are computed again, and of how many programs at most
TOLERANCE = {"float32": 1e-4, "float64": 1e-9}  # of a number, plus a tenth of that of the measure's largest in the run
LANCZOS = ("curvature_trained", "curvature_low", "curvature_residual")
ROUNDING = 10.0  # times what a cell's numbers differ by between its precision and float64, alone


class Cell(NamedTuple):
    """A cell of a plan, and what it is in words."""

    program: int
    outer: int
    inner: int
    place: dict[str, int]
    words: str


class Difference(NamedTuple):
    """How a measure that is stored differs from the same one computed again: relative, and whether that is too much.

    ``sensitive``: it is no more than rounding in the run's own precision does to this cell.
    """

    name: str
    size: float
    wrong: bool
    sensitive: bool


def verify(directory: Path, allow_plugins: bool = False, seed: int | None = None) -> int:
    """Compare a random sample of cells and print what was checked; 1 if one disagrees. Refusal where DIR is no run."""
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
    print(f"{directory} ({source}): {of_all} computed again, each alone, in float64")
    wrong = sensitive = 0
    for cell, differences in zip(cells, compared(work.plan, dataset, cells, precision), strict=True):
        worst = max((each for each in differences if not each.sensitive), key=lambda each: each.size)
        bad = [each.name for each in differences if each.wrong]
        rounded = [each.name for each in differences if each.sensitive]
        wrong, sensitive = wrong + bool(bad), sensitive + bool(rounded)
        verdict = f"DISAGREES in {', '.join(bad)}" if bad else f"agrees in {len(differences)} measures"
        notes = f"; rounding decides {', '.join(rounded)}" if rounded else ""
        print(f"  {cell.words}: {verdict}, by {worst.size:.1e} at most ({worst.name}){notes}")
    tolerance = TOLERANCE[precision]
    print(
        f"{len(cells) - wrong} agree, {wrong} disagree; tolerance for {precision}: {tolerance:g} of a number plus "
        f"{tolerance / 10:g} of the measure's largest, whole numbers exactly, eigenvalues by Lanczos to their residuals"
        + (
            f"; in {counted(sensitive, 'cell')} more, as {precision} and float64 differ there by rounding alone"
            if sensitive
            else ""
        )
    )
    return 1 if wrong else 0


def sample(plan: "Plan", dataset: xr.Dataset, random: np.random.Generator) -> list[Cell]:
    """Up to CELLS cells of up to PROGRAMS programs, of those that are there."""
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
    """The differences of every cell, measure by measure."""
    from gpsense.grid.alone import Alone

    alone, largest = Alone(plan), {str(name): _largest(values.values) for name, values in dataset.data_vars.items()}
    return [_differences(alone, cell, dataset.isel(cell.place), largest, TOLERANCE[precision]) for cell in cells]


def _differences(
    alone: Any, cell: Cell, stored_cell: xr.Dataset, largest: dict[str, float], tolerance: float
) -> list[Difference]:
    """Each measure of a cell against the same one computed alone: in float64 and, where need be, in its own precision.

    Of an eigenvalue by Lanczos, which rounding moves within its residual, both residuals are allowed.
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
    """The largest difference of two arrays beyond ``slack``, relative to the number plus a tenth of a scale.

    NaN equals NaN.
    """
    if value.shape != reference.shape:
        return np.inf
    one, two = (np.asarray(each).astype(complex if np.iscomplexobj(each) else float) for each in (value, reference))
    with np.errstate(all="ignore"):
        apart = np.maximum(np.abs(one - two) - slack, 0) / (np.abs(two) + 0.1 * scale)
    apart = np.where((one == two) | (np.isnan(one) & np.isnan(two)), 0.0, np.where(np.isnan(apart), np.inf, apart))
    return float(apart.max(initial=0.0))


def _largest(values: np.ndarray) -> float:
    """The largest finite size of an array's numbers."""
    sizes = np.abs(values[np.isfinite(values)]) if values.dtype.kind in "fc" else np.zeros(0)
    return float(sizes.max(initial=0.0))
