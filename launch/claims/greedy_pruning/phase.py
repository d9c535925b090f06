"""From how many measurements a matrix is recovered, by greedy pruning and by what one would use instead."""

from typing import NamedTuple

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from gpsense.plots.view import value_text
from launch.claims.drawing import law, panels, shares
from launch.claims.experiment import Outcome, Runs
from launch.claims.quantities import Quantity, mean, over_seeds, values

RECOVERED = 1e-3  # largest relative error of U U^T that counts as recovered
FITTED = 1e-6  # largest loss of a cell of a path that the data allow
NEEDED = 0.9  # share of instances that have to be recovered
PAIRED = 1.25  # the n / (d r) at which methods are compared instance by instance
METHODS = ("greedy_pruning", "trace_norm", "scaled_gd_lambda", "small_start", "irls")


class Curve(NamedTuple):
    """Which instances (seed, n) a method recovered, against ``n / (d r)``, and its setting in words."""

    ratio: np.ndarray
    recovered: np.ndarray
    setting: str

    def needed(self) -> Quantity:
        """The smallest ``n / (d r)`` from which on the share NEEDED is recovered; infinite where there is none."""
        return over_seeds(lambda recovered: threshold(self.ratio, recovered), self.recovered)

    def at(self, ratio: float) -> np.ndarray:
        """The instances recovered (seed,) at the ``n / (d r)`` nearest to this one."""
        return self.recovered[:, np.abs(self.ratio - ratio).argmin()].astype(float)


def threshold(ratio: np.ndarray, recovered: np.ndarray) -> float:
    """The smallest ratio from which on the share NEEDED of the seeds is recovered; infinite where there is none."""
    enough = np.logical_and.accumulate((recovered.mean(axis=0) >= NEEDED)[::-1])
    return float(ratio[-enough.sum()]) if enough.any() else np.inf


Panel = dict[str, Curve]
Size = tuple[int, int, float]  # d, r, condition


def phase_diagram(runs: Runs) -> Outcome:
    """Share of instances recovered against ``n / (d r)``, one panel for each size of problem."""
    sizes: dict[Size, Panel] = {}
    for cells in runs.values():
        size = int(cells["dim"]), int(cells["true_rank"]), float(cells["condition"])
        sizes.setdefault(size, {})[str(cells["method"].values)] = curve_of(cells)
    figure, axes = panels(len(sizes))
    for place, size in zip(axes, sorted(sizes), strict=True):
        _draw(place, size, sizes[size])
    axes[0].set_ylabel(f"share recovered (relative error < {RECOVERED:g})")
    first = sizes[min(sizes)]
    ours = [panel["greedy_pruning"] for panel in sizes.values()]
    quantities = {f"n/(d r), {name}": first[name].needed() for name in METHODS}
    quantities["greedy_pruning, worst panel"] = over_seeds(
        lambda *found: max(threshold(one.ratio, hits) for one, hits in zip(ours, found, strict=True)),
        *(one.recovered for one in ours),
    )
    for name in METHODS[1:]:
        lead = first["greedy_pruning"].at(PAIRED) - first[name].at(PAIRED)
        quantities[f"lead over {name}"] = mean(lead)
    return Outcome(quantities, figure)


def curve_of(cells: xr.Dataset) -> Curve:
    """The instances a grid recovered; along a path of penalties, those its chosen cell did.

    The cell of a path: the smallest rank whose loss is below FITTED, at the largest penalty that gives it. An instance
    without such a cell is not recovered.
    """
    ratio = cells["n"].values / (int(cells["dim"]) * int(cells["true_rank"]))
    if "penalty" not in cells.dims:
        return Curve(ratio, values(cells["error"], "seed", "n") < RECOVERED, setting_of(cells))
    axes = "seed", "n", "penalty"
    falling = cells.sortby("penalty", ascending=False)
    fitted = values(falling["loss"], *axes) < FITTED
    ranks = np.where(fitted, values(falling["rank"], *axes), np.inf)
    chosen = ranks.argmin(axis=-1)[..., None]
    good = fitted & (values(falling["error"], *axes) < RECOVERED)
    return Curve(ratio, np.take_along_axis(good, chosen, axis=-1)[..., 0], setting_of(cells))


def setting_of(cells: xr.Dataset) -> str:
    """What a legend says of a grid: the method and the numbers it was given."""
    method = str(cells["method"].values)
    if method == "greedy_pruning":
        path = np.atleast_1d(cells["penalty"].values)
        shown = f"{path.max():g} … {path.min():g}" if len(path) > 1 else f"{path[0]:g}"
        return f"greedy_pruning, λ = {shown}, β = {float(cells['smoothing']):g}"
    numbers = [f"k = {int(cells['width'])}", f"{cells.attrs['train_steps']} steps"]
    if float(cells["baseline_penalty"]) > 0:
        numbers.insert(0, f"penalty {value_text(cells['baseline_penalty'])}")
    return f"{method}, {', '.join(numbers)}"


def _draw(axes: Axes, size: Size, panel: Panel) -> None:
    """One panel: every method's curve, set off a little, and the number of unknowns."""
    dim, rank, condition = size
    for index, name in enumerate(name for name in METHODS if name in panel):
        curve, place = panel[name], METHODS.index(name)
        shares(axes, curve.ratio + 0.012 * (index - 2), curve.recovered, place, curve.setting, "os^Dv"[place])
    unknowns = (rank * dim - rank * (rank - 1) / 2) / (dim * rank)
    law(axes, [unknowns, unknowns], [0, 1], "number of unknowns", ":")
    count = len(panel["greedy_pruning"].recovered)
    absent = [name for name in METHODS if name not in panel]
    title = f"d = {dim}, r = {rank}, condition {condition:g}; {count} instances"
    axes.set_title(title + (f"\nnot run: {', '.join(absent)}" if absent else ""), fontsize=10)
    axes.set(xlabel="n / (d r)", xlim=(0.9, 3.1), ylim=(-0.03, 1.03))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="lower right")
