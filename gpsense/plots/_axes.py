"""The axes that are drawn on: those given, or new ones in a figure of their own."""

import textwrap
from typing import Any

import numpy as np
from matplotlib import pyplot, rcParams
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogFormatterSciNotation, LogLocator, MaxNLocator, NullFormatter

from gpsense.errors import BadInput

LETTERS = 11.5  # of 10 points, to an inch
NARROW = 5.0  # inches: below it panels stand one above the other


def axes_for(
    given: Any, count: int, size: tuple[float, float], width: float | None = None
) -> tuple[np.ndarray, Figure | None]:
    """So many Axes as a flat array; with the figure made for them where none were given.

    ``size`` in inches: panels stand one above the other where that is higher than wide. With a ``width`` the figure is
    as wide as that, and as high as suits its panels.
    """
    if given is None and width is not None:
        if not 1 <= width <= 50:
            raise BadInput("width", f"{width} inches", "give a width of 1 to 50 inches")
        rows = count if width < NARROW else 1
        beside = 0.46 if count > 1 else size[1] / size[0]
        height = 0.62 * width * rows if rows > 1 else width * beside
        figure = pyplot.figure(figsize=(width, height), layout="constrained")
        return figure.subplots(rows, count // rows, squeeze=False).ravel(), figure
    if given is None:
        figure = pyplot.figure(figsize=size, layout="constrained")
        rows = count if size[1] > size[0] else 1
        return figure.subplots(rows, count // rows, squeeze=False).ravel(), figure
    axes = np.ravel(np.asarray(given, object))
    if axes.size != count or not all(isinstance(each, Axes) for each in axes):
        raise BadInput("axes", "not the matplotlib Axes that this draws on", f"give {count}, or None for a new figure")
    return axes, None


def fitting(axes: Axes, label: str) -> str:
    """A label in as many lines as the Axes are wide enough for."""
    place, figure = axes.get_subplotspec(), axes.get_figure(root=True)
    assert isinstance(figure, Figure)
    beside = 1 if place is None else place.get_gridspec().ncols
    letters = 0.9 * LETTERS * figure.get_figwidth() / beside * 10 / rcParams["font.size"]
    return textwrap.fill(label, max(int(letters), 10), break_on_hyphens=False)


def short_number(value: float) -> str:
    """A number as ticks have it: ``2e7`` for ``2e+07``."""
    return f"{value:g}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")


def whole_ticks(axis: Axis) -> None:
    """Numbers that are whole by themselves, where matplotlib would put a common factor at the end of the axis."""
    if not 1e-4 < max(map(abs, axis.get_view_interval())) < 1e5:
        axis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))


def log_ticks(axis: Axis, low: float, high: float) -> None:
    """Numbers on a logarithmic axis, as many to a decade as the range leaves room for; powers of ten on a long one."""
    wide = LogLocator(subs=(1.0, 2.0, 5.0) if high < 300 * low else (1.0,))
    axis.set_major_locator(MaxNLocator(5) if high < 5 * low else wide)
    powers = high > 1e5 * low
    short = FuncFormatter(lambda value, _: short_number(value))
    axis.set_major_formatter(LogFormatterSciNotation() if powers else short)
    axis.set_minor_formatter(NullFormatter())
