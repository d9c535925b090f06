"""A recovery drawn on Axes: the path of penalties, the fit, and points found from their distances."""

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes

from gpsense.plots._axes import axes_for

if TYPE_CHECKING:
    from gpsense.estimators.recover import Recovery

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "0.55"


def plot_path(result: "Recovery", axes: Any = None) -> np.ndarray:
    """Held-out error, rank and column norms along the penalties, a line at the chosen one: three Axes."""
    all_axes, figure = axes_for(axes, 3, (11, 4.2))
    left, middle, right = all_axes
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
    for one in all_axes:
        one.set_xlabel("penalty λ")
        one.axvline(path.penalty[chosen], color=ORANGE, linewidth=1)
    if figure is not None:
        figure.suptitle(f"Path of penalties; the orange line is the chosen one, rank {result.rank}")
    return all_axes


def plot_fit(result: "Recovery", predicted: Any, values: Any, axes: Any = None) -> Axes:
    """Predicted against measured values; ``predicted`` is the forward map of the recovered factor."""
    (one,), _ = axes_for(axes, 1, (5.2, 5))
    values = np.asarray(values)
    one.plot([values.min(), values.max()], [values.min(), values.max()], color=GREY, linewidth=1)
    one.plot(values, np.asarray(predicted), ".", color=BLUE, markersize=3, alpha=0.6)
    one.set_xlabel("measured y")
    one.set_ylabel("predicted by the factor")
    share = result.residual / float(np.abs(values).max())
    one.set_title(f"Fit: rank {result.rank}, residual {result.residual:.3g} = {share:.2g} of the largest y")
    return one


def plot_map(names: list[str], places: np.ndarray, found: np.ndarray, axes: Any = None) -> Axes:
    """Points found in the plane (m, 2) over their true places in km (m, 2), each pair joined by a line."""
    (one,), _ = axes_for(axes, 1, (9.5, 7.8))
    for pair in zip(places, found, strict=True):
        one.plot(*np.stack(pair).T, color=ORANGE, linewidth=1)
    one.plot(*places.T, "o", markerfacecolor="none", color=GREY, markersize=7, label="true place")
    one.plot(*found.T, ".", color=BLUE, markersize=5, label="recovered from distances")
    for name, (x, y) in zip(names, places, strict=True):
        one.annotate(name, (x, y), xytext=(5, 3), textcoords="offset points", fontsize=6.5)
    one.set_aspect("equal")
    one.set_xlabel("east [km]")
    one.set_ylabel("north [km]")
    one.legend(loc="upper left")
    return one
