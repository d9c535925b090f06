"""The axes that are drawn on: those given, or new ones in a figure of their own."""

from typing import Any

import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gpsense.errors import BadInput


def axes_for(given: Any, count: int, size: tuple[float, float]) -> tuple[np.ndarray, Figure | None]:
    """So many Axes as a flat array; with the figure made for them (of this size, in inches) where none were given."""
    if given is None:
        figure = pyplot.figure(figsize=size, layout="constrained")
        return figure.subplots(1, count, squeeze=False)[0], figure
    axes = np.ravel(np.asarray(given, object))
    if axes.size != count or not all(isinstance(each, Axes) for each in axes):
        raise BadInput("axes", "not the matplotlib Axes that this draws on", f"give {count}, or None for a new figure")
    return axes, None
