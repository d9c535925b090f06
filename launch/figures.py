"""Figures as PNG files."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import xarray as xr
from matplotlib import pyplot
from matplotlib.figure import Figure

from gpsense.grid.files import atomic
from gpsense.plots import plot_columns, plot_curves, plot_measure
from gpsense.plots.view import curves, main_measures, plane

matplotlib.use("agg")  # a command draws into files: it needs no screen


def draw(dataset: xr.Dataset, directory: Path) -> list[Path]:
    """Write columns.png, curves.png, rank.png and error.png (or what a cell measures) there; returns paths.

    The maps are left out where no axis besides the seeds has two values, and so is a picture of what the dataset does
    not hold and of curves without a step.
    """
    figures = {}
    if "column_norms" in dataset:
        figures["columns.png"] = plot_columns(dataset)
    if curves(dataset):
        figures["curves.png"] = plot_curves(dataset)
    if plane(dataset):
        for name in main_measures(dataset):
            figures[f"{name}.png"] = plot_measure(dataset, name, log=name == "error")
    return [save(axes, directory / name) for name, axes in figures.items()]


def save(drawn: Any, path: Path) -> Path:
    """Write a figure, or the one that axes are in, and close it; makes the folder."""
    figure = drawn if isinstance(drawn, Figure) else np.ravel(drawn)[0].figure
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as aside:
        figure.savefig(aside, format="png", dpi=150)
    pyplot.close(figure)
    return path
