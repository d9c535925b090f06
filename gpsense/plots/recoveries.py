"""Pictures of a recovery: the path of penalties, the fit, and the map of the example."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from gpsense.estimators.recover import Recovery
    from launch.cities import Example

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "0.55"


def save(figure: Figure, path: Path) -> Path:
    """PNG, made aside and renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.aside")
    figure.savefig(aside, dpi=150, format="png")
    aside.replace(path)
    return path


def draw(result: "Recovery", predicted: np.ndarray, values: np.ndarray, directory: Path) -> list[Path]:
    """path.png: held-out error, rank and column norms along the penalties; fit.png: measured against predicted."""
    return [save(_path(result), directory / "path.png"), save(_fit(result, predicted, values), directory / "fit.png")]


def _path(result: "Recovery") -> Figure:
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    path, chosen = result.path, result.chosen
    left.loglog(path.penalty, path.held_out_error, "o-", color=BLUE)
    left.set_ylabel("held-out root mean square error [units of y]")
    middle.semilogx(path.penalty, path.rank, "o-", color=BLUE)
    middle.set_ylabel("columns kept (rank)")
    middle.yaxis.get_major_locator().set_params(integer=True)
    norms = -np.sort(-path.column_norms, axis=1)
    right.loglog(path.penalty, np.where(norms > 1e-4 * norms.max(), norms, np.nan), color=GREY, linewidth=0.8)
    right.loglog(path.penalty, 2 * np.sqrt(path.smoothing), "--", color=ORANGE, label="threshold")
    right.set_ylabel("column norms after training [norm of U]")
    right.legend()
    for axes in (left, middle, right):
        axes.set_xlabel("penalty λ")
        axes.axvline(path.penalty[chosen], color=ORANGE, linewidth=1)
    figure.suptitle(f"Path of penalties; the orange line is the chosen one, rank {result.rank}")
    return figure


def _fit(result: "Recovery", predicted: np.ndarray, values: np.ndarray) -> Figure:
    figure = Figure(figsize=(5.2, 5), layout="constrained")
    axes = figure.subplots()
    axes.plot([values.min(), values.max()], [values.min(), values.max()], color=GREY, linewidth=1)
    axes.plot(values, predicted, ".", color=BLUE, markersize=3, alpha=0.6)
    axes.set_xlabel("measured y")
    axes.set_ylabel("predicted by the factor")
    share = result.residual / float(np.abs(values).max())
    axes.set_title(f"Fit: rank {result.rank}, residual {result.residual:.3g} = {share:.2g} of the largest y")
    return figure


def draw_map(example: "Example", factor: np.ndarray, path: Path, headline: str) -> Path:
    """The recovered places over the true ones, turned onto them."""
    figure = Figure(figsize=(9.5, 7.8), layout="constrained")
    axes = figure.subplots()
    found = example.aligned(factor)
    for true, place in zip(example.places, found, strict=True):
        axes.plot(*np.stack([true, place]).T, color=ORANGE, linewidth=1)
    axes.plot(*example.places.T, "o", markerfacecolor="none", color=GREY, markersize=7, label="true place")
    axes.plot(*found.T, ".", color=BLUE, markersize=5, label="recovered from distances")
    for name, (x, y) in zip(example.names, example.places, strict=True):
        axes.annotate(name, (x, y), xytext=(5, 3), textcoords="offset points", fontsize=6.5)
    axes.set_aspect("equal")
    axes.set_xlabel("east [km]")
    axes.set_ylabel("north [km]")
    axes.legend(loc="upper left")
    axes.set_title(headline)
    return save(figure, path)
