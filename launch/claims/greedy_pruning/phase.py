"""How many measurements it takes to recover a matrix, by greedy pruning and by the baselines."""

from typing import NamedTuple

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from gpsense import theory
from gpsense.plots.view import value_text
from launch.claims.drawing import law, legend_below, panels, shares
from launch.claims.experiment import Outcome, Runs
from launch.claims.quantities import Quantity, each, exactly, mean, over_seeds, told, values

RECOVERED = 1e-3  # largest relative error of U U^T that counts as recovered
FITTED = 1e-6  # largest loss of a try that counts as fitting the data
NEEDED = 0.9  # share of instances that have to be recovered
PAIRED = (1.0, 1.25)  # the n / (d r) at which methods are compared instance by instance
OURS, SCAN = "greedy_pruning", "rank_scan"
METHODS = (OURS, SCAN, "irls", "niht", "agn", "scaled_gd_lambda", "small_start", "small_start_held_out", "trace_norm")
TRIES = ("penalty", "keep", "baseline_penalty", "baseline_start_scale", "baseline_rate")  # axes of tries
WORDS = {"penalty": "λ", "keep": "k", "baseline_penalty": "penalty", "baseline_start_scale": "start"}


class Curve(NamedTuple):
    """Whether a method recovered each instance (seed, n): 1, 0, or NaN if it failed; ``ratio`` is n / (d r) along n.

    ``setting`` is the legend entry.
    """

    ratio: np.ndarray
    recovered: np.ndarray
    setting: str

    def needed(self) -> Quantity:
        """The smallest ``n / (d r)`` from which on the share NEEDED is recovered; infinite where there is none.

        NaN where it depends on the outcome of instances that failed.
        """
        if np.isnan(self.recovered).any():
            ends = {threshold(self.ratio, np.nan_to_num(self.recovered, nan=fill)) for fill in (0.0, 1.0)}
            return exactly(ends.pop() if len(ends) == 1 else np.nan)
        return over_seeds(lambda recovered: threshold(self.ratio, recovered), self.recovered)

    def at(self, ratio: float) -> np.ndarray:
        """The instances recovered (seed,), 1 or 0, at the ``n / (d r)`` nearest to ``ratio``."""
        return self.recovered[:, np.abs(self.ratio - ratio).argmin()]


def threshold(ratio: np.ndarray, recovered: np.ndarray) -> float:
    """The smallest ratio from which on the share NEEDED of the seeds is recovered; infinite where there is none."""
    enough = np.logical_and.accumulate((recovered.mean(axis=0) >= NEEDED)[::-1])
    return float(ratio[-enough.sum()]) if enough.any() else np.inf


Panel = dict[str, Curve]
Size = tuple[int, int, float]  # d, r, condition


def phase_diagram(runs: Runs) -> Outcome:
    """Share of instances recovered against ``n / (d r)``, one panel per size (d, r) and condition number."""
    sizes: dict[Size, Panel] = {}
    for grid in runs.values():
        for cells in each(grid, "condition"):
            size = int(cells["dim"]), int(cells["true_rank"]), float(cells["condition"])
            sizes.setdefault(size, {})[name_of(cells)] = curve_of(cells)
    figure, axes = panels(len(sizes))
    quantities: dict[str, Quantity] = {}
    smallest = min(dim for dim, _, _ in sizes)
    for place, size in zip(axes, sorted(sizes), strict=True):
        _draw(place, size, sizes[size])
        if size[0] == smallest:
            quantities |= _quantities(sizes[size], f"condition {size[2]:g}")
    legend_below(max(axes, key=lambda each: len(each.get_legend_handles_labels()[1])), columns=3, size=7)
    axes[0].set_ylabel(f"share recovered (relative error < {RECOVERED:g})")
    return Outcome(quantities, figure)


def _quantities(panel: Panel, words: str) -> dict[str, Quantity]:
    """The ``n / (d r)`` that each method needs, and greedy pruning's lead over each baseline in share recovered."""
    found = {f"n/(d r), {name}, {words}": curve.needed() for name, curve in panel.items()}
    for ratio in PAIRED:
        for name, curve in panel.items():
            if name != OURS:
                found[f"lead over {name} at {ratio:g}, {words}"] = mean(panel[OURS].at(ratio) - curve.at(ratio))
    return found


def name_of(cells: xr.Dataset) -> str:
    """The method's name; greedy pruning that tries several numbers of columns to keep is the scan of ranks."""
    return SCAN if "keep" in cells.dims else str(cells["method"].values)


def curve_of(cells: xr.Dataset) -> Curve:
    """The instances that a grid recovered; where it makes several tries, those that the chosen try recovered.

    One of the tries with a loss below FITTED is chosen, without the truth: if the method prunes, that of the smallest
    rank (in a tie, of the largest penalty); for a baseline, the first in the order of its config. An instance without
    such a try is not recovered; one all of whose tries failed is NaN.
    """
    ratio = cells["n"].values / (int(cells["dim"]) * int(cells["true_rank"]))
    along = [name for name in TRIES if name in cells.dims]
    if not along:
        errors = values(cells["error"], "seed", "n")
        return Curve(ratio, told(errors < RECOVERED, errors), setting_of(cells))
    axes = "seed", "n", along[0]
    tries = cells.sortby(along[0], ascending=False) if along[0] == "penalty" else cells
    errors = values(tries["error"], *axes)
    fitted = values(tries["loss"], *axes) < FITTED
    prunes = along[0] in ("penalty", "keep")
    order = values(tries["rank"], *axes) if prunes else np.broadcast_to(np.arange(errors.shape[-1]), errors.shape)
    chosen = np.where(fitted, order, np.inf).argmin(axis=-1)[..., None]
    good = np.take_along_axis(fitted & (errors < RECOVERED), chosen, axis=-1)[..., 0]
    return Curve(ratio, np.where(np.isnan(errors).all(axis=-1), np.nan, good), setting_of(cells))


def setting_of(cells: xr.Dataset) -> str:
    """The legend entry of a grid: its method and the numbers it was given."""
    name, numbers = name_of(cells), [f"{cells.attrs['train_steps']} steps"]
    if name not in (OURS, SCAN):
        numbers.insert(0, f"k = {int(cells['width'])}")
    for along in TRIES:
        if along in cells.dims:
            numbers.insert(0, f"{WORDS.get(along, along)} = {', '.join(f'{x:g}' for x in cells[along].values)}")
    if "baseline_penalty" not in cells.dims and name not in (OURS, SCAN) and float(cells["baseline_penalty"]) > 0:
        numbers.insert(0, f"penalty {value_text(cells['baseline_penalty'])}")
    return f"{name.replace('_', ' ')}, {', '.join(numbers)}"


def _draw(axes: Axes, size: Size, panel: Panel) -> None:
    """Draws one panel: every method's curve, shifted slightly sideways, and a line at the number of unknowns."""
    dim, rank, condition = size
    for index, name in enumerate(name for name in METHODS if name in panel):
        curve, place = panel[name], METHODS.index(name)
        shares(axes, curve.ratio + 0.008 * (index - 4), curve.recovered, place, curve.setting, "os^Dv<>Px"[place])
    unknowns = (rank * dim - rank * (rank - 1) / 2) / (dim * rank)
    law(axes, [unknowns, unknowns], [0, 1], "number of unknowns", ":")
    count = len(panel[OURS].recovered)
    absent = [name for name in METHODS if name not in panel]
    title = f"d = {dim}, r = {rank}, condition {condition:g}; {count} instances"
    axes.set_title(title + (f"\nnot run: {', '.join(absent).replace('_', ' ')}" if absent else ""), fontsize=10)
    axes.set(xlabel="n / (d r)", ylim=(-0.03, 1.03))
    axes.grid(alpha=0.3)


def trace_norm_law(runs: Runs) -> Outcome:
    """Share of instances that the trace norm recovers against n over the statistical dimension, per rank."""
    figure, (axes,) = panels(1)
    halves = {}
    ordered = sorted(runs.values(), key=lambda cells: int(cells["true_rank"]))
    for index, cells in enumerate(ordered):
        dim, rank, n = int(cells["dim"]), int(cells["true_rank"]), cells["n"].values
        recovered = values(cells["error"], "seed", "n") < RECOVERED
        law_n = theory.trace_norm_samples(dim, rank)
        shares(axes, n / law_n, recovered, index, f"d = {dim}, r = {rank}")
        halves[rank] = over_seeds(lambda hits, n=n, law_n=law_n: crossing(n, hits) / law_n, recovered)
    axes.axvline(1.0, color="black", ls="--", lw=1.4, label="statistical dimension")
    axes.axhline(0.5, color="black", ls=":", lw=1.0)
    axes.set(xlabel="n / statistical dimension", ylabel=f"share recovered (relative error < {RECOVERED:g})")
    axes.legend(fontsize=8)
    parts = list(halves.values())
    value, low, high = (np.asarray([getattr(part, name) for part in parts], float) for name in ("value", "low", "high"))
    together = Quantity(value, low, high, parts[0].seeds)
    return Outcome({"half-recovery over the statistical dimension": together}, figure)


def crossing(n: np.ndarray, recovered: np.ndarray) -> float:
    """The n where the share of ``recovered`` (seed, n) first crosses one half, linearly interpolated; else NaN."""
    share = np.maximum.accumulate(recovered.mean(axis=0))
    above = np.flatnonzero(share >= 0.5)
    if not len(above) or above[0] == 0:
        return np.nan
    left, right = above[0] - 1, above[0]
    return float(n[left] + (n[right] - n[left]) * (0.5 - share[left]) / (share[right] - share[left]))
