"""Masks that miss a part of the teacher: the effect of more pruning at a fixed accuracy, with few or many samples."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from launch.claims.drawing import PALETTE, panels, points
from launch.claims.experiment import Outcome, Runs
from launch.claims.quantities import Quantity, each, over_seeds, values

MEASURES = {"error": "relative error of the weights", "risk": "risk E (yhat - y)² / E y²"}


def wrong_masks(runs: Runs) -> Outcome:
    """Error and risk against the share kept, for masks of fixed accuracy and for GraSP's, at few and many samples."""
    cells, grasp = (runs[name].sortby("kept") for name in ("", "grasp"))
    kept, counts = cells["kept"].values, cells["n"].values
    figure, panes = panels(2 * len(counts))
    quantities: dict[str, Quantity] = {}
    for row, (name, words) in enumerate(MEASURES.items()):
        for column, n in enumerate(counts):
            axes = panes[row * len(counts) + column]
            for index, one in enumerate(each(cells.sel(n=n), "accuracy")):
                found = values(one[name], "seed", "kept")
                accuracy = float(one["accuracy"])
                points(axes, kept + 0.004 * index, found, index, f"accuracy {accuracy:g}", "os^d"[index % 4])
                if accuracy < 1:
                    key = f"{name}, most over fewest kept, N = {int(n)}, accuracy {accuracy:g}"
                    quantities[key] = over_seeds(lambda v: np.median(v[:, -1]) / np.median(v[:, 0]), found)
            found = values(grasp.sel(n=n)[name], "seed", "kept")
            points(axes, grasp["kept"].values, found, 5, "GraSP", "x")
            key = f"{name}, most over fewest kept, N = {int(n)}, GraSP"
            quantities[key] = over_seeds(lambda v: np.median(v[:, -1]) / np.median(v[:, 0]), found)
            axes.set(xlabel="share of the weights kept", ylabel=words, title=f"N = {int(n)}")
            axes.set_ylim(bottom=-0.03 * axes.get_ylim()[1])
            axes.legend(fontsize=7)
    quantities[f"accuracy of GraSP's masks, N = {int(counts[0])}"] = over_seeds(
        lambda v: np.median(v, axis=0), values(grasp.isel(n=0)["mask_accuracy"], "seed", "kept")
    )
    _floors(cells, panes[2 * len(counts) - 1])
    return Outcome(quantities, figure)


def _floors(cells: xr.Dataset, axes: Axes) -> None:
    """Draws risk / E y^2 of the teacher cut to masks of each accuracy; for orthogonal neurons, to leading order."""
    neurons = int(cells["neurons"])
    label = "the teacher cut to each accuracy, to leading order"
    for index, accuracy in enumerate(cells["accuracy"].values):
        if accuracy < 1:
            floor = (1 - accuracy) / (1 + (neurons - 1) / np.pi)
            axes.axhline(floor, color=PALETTE[index % len(PALETTE)], ls=":", lw=1.4, label=label)
            label = None
            axes.set_ylim(top=max(axes.get_ylim()[1], 1.1 * floor))
    axes.legend(fontsize=7)
