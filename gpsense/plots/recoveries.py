"""Plots of a recovery: the ranks tried, the fit, and points found from their distances."""

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis

from gpsense.plots._axes import axes_for, log_ticks, whole_ticks

if TYPE_CHECKING:
    from gpsense.estimators.recover import Recovery

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "0.55"
CHOSEN = {
    "exact": "explains the values to rounding",
    "edge": "the residual looks like noise",
    "held out": "predicts held-out values best",
    "evidence": "despite outliers, explains most by the fewest numbers",
    "full": "fewer columns fit far worse, or the trace is given and no column stands out",
    "shrunk": "with the penalty kept, predicts held-out values best",
    "given": "as given",
    "bounded": "the largest allowed; the residual is more than noise",
}
LETTER = 6.5  # points


def plot_ranks(result: "Recovery", axes: Any = None) -> np.ndarray:
    """Plot the sizes of the columns along the penalties, and the residual of each rank tried; returns two Axes.

    Beside each residual's size, the second Axes show the largest eigenvalue (if X is rectangular, singular value) of
    ``A*(residual)`` divided by a bound for noise. If ``chosen_by`` is "edge", the rank is the smallest at which this
    ratio is at most 1 and one more column explains no more than noise would.
    """
    all_axes, figure = axes_for(axes, 2, (9.5, 4.9))
    left, right = all_axes
    penalties = np.array([step.penalty for step in result.path])
    most = max((step.sizes.size for step in result.path), default=0)
    sizes = np.full((penalties.size, most), np.nan)
    for row, step in zip(sizes, result.path, strict=True):
        row[: step.sizes.size] = step.sizes
    if penalties.size:
        drawn = left.loglog(
            penalties, np.where(sizes > 0, sizes, np.nan), ".-", color=GREY, linewidth=0.8, markersize=4
        )
        if drawn:
            drawn[0].set_label("a column")
        smoothing = np.array([step.smoothing for step in result.path])
        left.loglog(penalties, 2 * smoothing, "--", color=ORANGE, label="threshold 2β: columns above it count")
        left.invert_xaxis()
        _readable(left.xaxis, left.get_xlim())
        _readable(left.yaxis, left.get_ylim())
        _legend(left)
    else:
        left.set(xticks=[], yticks=[])
        left.text(0.5, 0.5, "no path of penalties\nled to this answer", ha="center", transform=left.transAxes)
    left.set_xlabel("penalty λ, falling")
    left.set_ylabel("sizes of the columns [units of X]")
    left.set_title("Columns along the path")
    fits = [(rank, fit) for rank, fit in sorted(result.fits.items()) if 0 < fit.edge < np.inf]
    if fits:
        ranks = [rank for rank, _ in fits]
        right.semilogy(
            ranks,
            [fit.left / fit.edge for _, fit in fits],
            "o-",
            color=BLUE,
            label="largest eigenvalue left (noise: 1)",
        )
        right.axhline(1.0, color=ORANGE, linestyle="--", linewidth=1, label="largest from noise alone")
    tried = sorted(result.fits.items())
    misfits = [max(fit.misfit, 1e-16) for _, fit in tried]
    right.semilogy([rank for rank, _ in tried], misfits, "s:", color=GREY, label="residual (values: 1)")
    right.axvline(result.rank, color=ORANGE, linewidth=1, label=f"chosen: rank {result.rank}")
    right.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    right.set_xlabel("rank")
    right.set_ylabel("left unexplained [ratio]")
    right.set_title("Ranks tried")
    _readable(right.yaxis, right.get_ylim())
    _legend(right)
    if figure is not None:
        figure.suptitle(f"Rank {result.rank}: {CHOSEN[result.chosen_by]}")
        above = max((step.rank for step in result.path), default=result.rank)
        if above < result.rank:
            figure.supxlabel(_beyond(above, result.rank), fontsize="small", color="0.35")
    return all_axes


def _beyond(above: int, rank: int) -> str:
    """A sentence that explains a chosen ``rank`` above the ranks in the left panel."""
    count = f"{above or 'no'} column{'s' * (above > 1)} had passed the threshold"
    return f"Where the path ended, {count}; rank {rank} was found by adding columns to the fit, see the right panel."


def _readable(axis: Axis, limits: tuple[float, float]) -> None:
    log_ticks(axis, *sorted(limits))


def _legend(axes: Axes) -> None:
    """Put the legend below the Axes, where it hides nothing."""
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, fontsize="small", frameon=False)


def plot_fit(result: "Recovery", predicted: Any, values: Any, axes: Any = None) -> Axes:
    """Plot ``predicted`` values ``A(X)``, X the recovered matrix, against the measured ``values``."""
    (one,), _ = axes_for(axes, 1, (5.2, 5))
    values, predicted, out = np.asarray(values, float), np.asarray(predicted, float), result.outliers
    share = result.residual / result.scale(values)
    if result.squared:
        values, predicted = np.sqrt(values), np.sqrt(np.maximum(predicted, 0.0))
    used = np.setdiff1d(np.arange(values.size), out)
    ends = [values[used].min(), values[used].max()]
    one.plot(ends, ends, color=GREY, linewidth=1)
    one.plot(values[used], predicted[used], ".", color=BLUE, markersize=3, alpha=0.6)
    if out.size:
        wide = np.array(ends) + np.array([-0.5, 0.5]) * (ends[1] - ends[0] or 1.0)
        near = (values[out] >= wide[0]) & (values[out] <= wide[1])
        label = "left out" if near.all() else f"left out ({out.size - near.sum()} of {out.size} beyond the axes)"
        one.plot(values[out][near], predicted[out][near], "x", color=ORANGE, markersize=6, label=label)
        one.legend(loc="upper left")
    whole_ticks(one.xaxis)
    whole_ticks(one.yaxis)
    one.set_xlabel("measured distance" if result.squared else "measured y")
    one.set_ylabel("predicted by the factor")
    one.set_title(f"Rank {result.rank}, root mean square residual {result.residual:.3g}\n({share:.2%} of the rms of y)")
    return one


def plot_map(names: list[str], places: np.ndarray, found: np.ndarray, axes: Any = None) -> Axes:
    """Plot points ``found`` in the plane (m, 2) over their true ``places`` in km (m, 2), each pair joined by a line."""
    (one,), _ = axes_for(axes, 1, (9.5, 7.8))
    for pair in zip(places, found, strict=True):
        one.plot(*np.stack(pair).T, color=ORANGE, linewidth=1)
    one.plot(*places.T, "o", markerfacecolor="none", color=GREY, markersize=7, label="true place")
    one.plot(*found.T, ".", color=BLUE, markersize=5, label="recovered from distances")
    one.set_aspect("equal")
    one.margins(0.08)
    _name(one, names, np.asarray(places))
    one.set_xlabel("east [km]")
    one.set_ylabel("north [km]")
    one.legend(loc="upper left")
    return one


def _name(axes: Axes, names: list[str], places: np.ndarray) -> None:
    """Write each name beside its point, on the side where it meets the fewest points and other names."""
    figure = axes.get_figure()
    assert figure is not None
    axes.apply_aspect()
    points = axes.transData.transform(places) * 72 / figure.dpi
    sides = [("left", 5, "center"), ("right", -5, "center"), ("center", 0, "bottom"), ("center", 0, "top")]
    sides += [(anchor, right, vertical) for vertical in ("bottom", "top") for anchor, right, _ in sides[:2]]
    taken = [(x - 3, y - 3, x + 3, y + 3) for x, y in points]
    for name, place, (x, y) in zip(names, places, points, strict=True):
        wide = 0.58 * LETTER * len(name)
        boxes = []
        for anchor, right, vertical in sides:
            up = {"center": 0, "bottom": 5, "top": -5}[vertical]
            left = x + right - {"left": 0, "right": 1, "center": 0.5}[anchor] * wide
            low = y + up - {"center": 0.5, "bottom": 0, "top": 1}[vertical] * LETTER
            boxes.append((left, low, left + wide, low + LETTER, (anchor, vertical, right, up)))
        meets = [sum(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3] for b in taken) for a in boxes]
        *box, (anchor, vertical, right, up) = boxes[int(np.argmin(meets))]
        taken.append(tuple(box))
        where = {"xytext": (right, up), "textcoords": "offset points", "ha": anchor, "va": vertical}
        axes.annotate(name, place, fontsize=LETTER, **where)
