"""Writes figures to files: as PNG for the page; as PNG, PDF, SVG or PGF, one or two columns wide, for papers."""

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
    """Write the figures "columns", "curves" and a map of each main measure, such as "rank"; returns the paths.

    Each is written in every one of the ``formats``, see :data:`FORMATS`. A figure without data in the dataset is left
    out. Maps need an axis other than the seeds with at least two values. Nothing is drawn if every cell diverged or is
    missing.
    """
    return [path for name, axes in drawn(dataset) for path in save(axes, *(directory / f"{name}.{f}" for f in formats))]


def drawn(dataset: xr.Dataset, width: float | None = None) -> Iterator[tuple[str, Any]]:
    """Yields name and axes of each figure that has data; figures of a given ``width`` in inches have no title."""
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
    """Write and close a figure, given itself or by its axes, to each path, in its suffix's format; makes folders."""
    figure = figure_of(drawn)
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = path.suffix[1:]
        with atomic(path) as aside, matplotlib.rc_context({"svg.hashsalt": path.name, "pdf.fonttype": 42}):
            figure.savefig(aside, format=kind, dpi=dpi, metadata=_UNDATED.get(kind))
    pyplot.close(figure)
    return list(paths)
