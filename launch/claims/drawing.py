"""Parts that the claims' figures share: panels, measured points with intervals, and laws drawn over them."""

import textwrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import t

from gpsense.plots._axes import log_ticks
from gpsense.plots.grids import PALETTE
from launch.claims.quantities import share
from launch.claims.table import greek

__all__ = ["PALETTE", "curve", "finish", "law", "legend_below", "log_log", "panels", "points", "shares"]


def panels(count: int) -> tuple[Figure, list[Axes]]:
    """A figure with ``count`` panels: up to three in one row, more in rows of two."""
    columns = count if count <= 3 else 2
    rows = -(-count // columns)
    figure = Figure(figsize=(5.4 * columns, 4.4 * rows), layout="constrained")
    body: Any = figure.subfigures()  # the figure's legend stays clear of title and statement
    return figure, list(np.atleast_1d(body.subplots(rows, columns)).ravel()[:count])


def legend_below(axes: Axes, columns: int, size: float = 8) -> None:
    """Adds one legend for all panels, with the entries of ``axes``, below them."""
    axes.figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=columns, fontsize=size)


def finish(figure: Figure, name: str, statement: str) -> None:
    """Adds the claim's name above the panels, its statement below, and readable tick labels on logarithmic axes."""
    figure.suptitle(name.replace("_", " "), fontsize=11)
    words = "\n".join(textwrap.wrap(greek(statement), int(figure.get_figwidth() * 13)))
    figure.supxlabel(words, fontsize=8, color="0.35")
    for axes in figure.get_axes():
        for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            if axis.get_scale() == "log":
                log_ticks(axis, *sorted(limits))


def points(axes: Axes, x: Any, values: Any, colour: int, label: str, marker: str = "o") -> None:
    """Draws means over the seeds (first axis of ``values``) with Student's 95 % intervals."""
    values = np.asarray(values, float)
    count = len(values)
    spread = t.ppf(0.975, count - 1) * values.std(axis=0, ddof=1) / np.sqrt(count) if count > 1 else None
    style = {"fmt": _marker(marker, colour), "ms": 5, "capsize": 3, "lw": 1.4, "color": PALETTE[colour % len(PALETTE)]}
    axes.errorbar(np.asarray(x), values.mean(axis=0), spread, label=label, **style)


def _marker(marker: str, colour: int) -> str:
    """The marker; where the colours repeat, another shape in place of the circle."""
    return "s^D"[colour // len(PALETTE) % 3 - 1] if marker == "o" and colour >= len(PALETTE) else marker


def curve(axes: Axes, x: Any, values: Any, colour: int, label: str) -> None:
    """Draws the median over the seeds as a line, with the band from the 16th to the 84th percentile."""
    low, middle, high = np.quantile(np.asarray(values, float), [0.16, 0.5, 0.84], axis=0)
    axes.plot(x, middle, color=PALETTE[colour % len(PALETTE)], lw=1.8, label=label)
    axes.fill_between(x, low, high, color=PALETTE[colour % len(PALETTE)], alpha=0.18, lw=0)


def law(axes: Axes, x: Any, y: Any, label: str, style: str = "--", colour: int | None = None) -> None:
    """Draws the theory as a dashed line over the measurements: black, or in the ``colour`` of what it predicts.

    Laws of several colours share one grey legend entry: give ``label`` for the first, and an empty one for the others.
    """
    drawn = "black" if colour is None else PALETTE[colour % len(PALETTE)]
    if colour is not None and label:
        axes.plot([], [], style, color="0.4", lw=1.4, label=f"{label}, each in its colour")
    named = label if colour is None else "_nolegend_"
    axes.plot(np.asarray(x), np.asarray(y), style, color=drawn, lw=1.4, label=named, zorder=5)


def log_log(axes: Axes, x: str, y: str, both: bool = True) -> None:
    """Makes both axes logarithmic (or y alone) and adds labels, a light grid and a legend."""
    if both:
        axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set(xlabel=x, ylabel=y)
    axes.grid(alpha=0.3, which="major")
    axes.legend(fontsize=8)


def shares(axes: Axes, x: Any, successes: Any, colour: int, label: str, marker: str = "o") -> None:
    """Draws fractions of the seeds (first axis of ``successes``) with Wilson's 95 % intervals, joined by a line."""
    found = share(successes)
    assert found.low is not None
    assert found.high is not None
    spread = np.maximum([found.value - found.low, found.high - found.value], 0.0)
    style = {
        "fmt": _marker(marker, colour) + ("-" if colour < len(PALETTE) else "--"),
        "ms": 5,
        "capsize": 2,
        "lw": 1.4,
        "elinewidth": 0.8,
        "color": PALETTE[colour % len(PALETTE)],
    }
    axes.errorbar(np.asarray(x), found.value, spread, label=label, **style)
