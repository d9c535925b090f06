"""Writes figures to files: PNG for the page; for papers PNG, PDF, SVG or PGF at the widths of columns."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import xarray as xr
from matplotlib import pyplot
from matplotlib.figure import Figure

from gpsense.grid.files import atomic
from gpsense.plots import plot_columns, plot_curves, plot_measure
from gpsense.plots.view import FAILED, curves, main_measures, plane

matplotlib.use("agg")  # a command draws into files: it needs no screen


FORMATS = ("png", "pdf", "svg", "pgf")
_UNDATED = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}  # no dates: the same bytes each time


def draw(dataset: xr.Dataset, directory: Path, formats: Sequence[str] = ("png",)) -> list[Path]:
    """Write columns.png, curves.png, rank.png, error.png and one map per measure of a user's code; returns the paths.

    A figure is left out where the dataset lacks its data, curves where they have no step, maps (all but the first two)
    where no axis besides the seeds has two values, and everything where every cell diverged or is missing. ``formats``
    are some of :data:`FORMATS`.
    """
    return [path for name, axes in drawn(dataset) for path in save(axes, *(directory / f"{name}.{f}" for f in formats))]


def drawn(dataset: xr.Dataset, width: float | None = None) -> Iterator[tuple[str, Any]]:
    """Yields name and axes of each figure that has data; with a ``width`` in inches, for a paper, it has no title."""
    if bool(dataset["status"].isin(FAILED).all()):
        return
    if "column_norms" in dataset:
        yield "columns", plot_columns(dataset, width=width)
    if curves(dataset):
        yield "curves", plot_curves(dataset, width=width)
    if plane(dataset):
        for name in main_measures(dataset):
            yield name, plot_measure(dataset, name, log=name == "error", width=width)


def figure_of(drawn: Any) -> Figure:
    """The figure given, or the one that the axes given are in."""
    return drawn if isinstance(drawn, Figure) else np.ravel(drawn)[0].figure


def save(drawn: Any, *paths: Path, dpi: int = 150) -> list[Path]:
    """Write a figure (or that of the axes given) to each path, in its suffix's format, and close it; makes folders."""
    figure = figure_of(drawn)
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = path.suffix[1:]
        with atomic(path) as aside, matplotlib.rc_context({"svg.hashsalt": path.name, "pdf.fonttype": 42}):
            figure.savefig(aside, format=kind, dpi=dpi, metadata=_UNDATED.get(kind))
    pyplot.close(figure)
    return list(paths)
