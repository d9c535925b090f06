"""The Axes to draw on, those given or new ones in a new figure, and their ticks and labels."""

import textwrap
from typing import Any

import numpy as np
from matplotlib import pyplot, rcParams
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogFormatterSciNotation, LogLocator, MaxNLocator, NullFormatter

from gpsense.errors import BadInput

LETTERS = 11.5  # letters of 10 points per inch
NARROW = 5.0  # inches: in a narrower figure panels stand one above the other


def axes_for(
    given: Any, count: int, size: tuple[float, float], width: float | None = None
) -> tuple[np.ndarray, Figure | None]:
    """The Axes to draw ``count`` panels on, as a flat array, and the new figure (None if Axes were ``given``).

    ``size``: of the figure, in inches; panels stand one above the other if it is higher than wide. With ``width``
    (inches) the figure is as wide as that instead, and its height suits its panels.
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
        raise BadInput("axes", f"these are not {count} matplotlib Axes", f"give {count}, or None for a new figure")
    return axes, None


def fitting(axes: Axes, label: str) -> str:
    """A label, wrapped to the width of the Axes."""
    place, figure = axes.get_subplotspec(), axes.get_figure(root=True)
    assert isinstance(figure, Figure)
    beside = 1 if place is None else place.get_gridspec().ncols
    letters = 0.9 * LETTERS * figure.get_figwidth() / beside * 10 / rcParams["font.size"]
    return textwrap.fill(label, max(int(letters), 10), break_on_hyphens=False)


def short_number(value: float) -> str:
    """A number as written at ticks: ``2e7`` for ``2e+07``."""
    return f"{value:g}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")


def whole_ticks(axis: Axis) -> None:
    """Write the number at each tick in full, where matplotlib would put a common factor at the end of the axis."""
    if not 1e-4 < max(map(abs, axis.get_view_interval())) < 1e5:
        axis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))


def log_ticks(axis: Axis, low: float, high: float) -> None:
    """Put numbers on a logarithmic axis, the more per decade the shorter its range; powers of ten on a long one."""
    wide = LogLocator(subs=(1.0, 2.0, 5.0) if high < 300 * low else (1.0,))
    axis.set_major_locator(MaxNLocator(5) if high < 5 * low else wide)
    powers = high > 1e5 * low
    short = FuncFormatter(lambda value, _: short_number(value))
    axis.set_major_formatter(LogFormatterSciNotation() if powers else short)
    axis.set_minor_formatter(NullFormatter())
