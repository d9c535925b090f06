"""A grid's results drawn on Axes: column norms, curves, and a measure over the plane of two axes.

Reads a labelled Dataset and nothing else; what it shares with the interactive page is in :mod:`gpsense.plots.view`.
Diverged and missing cells are left out. A figure that is made here gets a title that says what is held fixed.
"""

import textwrap
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from gpsense.errors import BadInput, counted, unknown_name
from gpsense.plots._axes import LETTERS, NARROW, axes_for, fitting, log_ticks, whole_ticks
from gpsense.plots.view import (
    FAILED,
    axis_label,
    curves,
    fine_tuned,
    listed_axes,
    measure_label,
    numbers,
    numeric,
    over_seeds,
    part_noun,
    plane,
    problem_words,
    selected_words,
    setting_words,
    spoken_name,
    stage_label,
    threshold_of,
    value_text,
    without_failures,
)

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito
MOST_ANNOTATED = 12
MOST_TICKS = 12
BAND = "median and 16-84 % band"
CROWDED = 1.4  # least distance of two numbers at a colour bar, in heights of a letter


def _cells(dataset: xr.Dataset) -> xr.Dataset:
    """The results with failed cells as NaN, and a seed axis also for one selected seed; BadInput if there are none."""
    if not isinstance(dataset, xr.Dataset) or "status" not in dataset:
        raise BadInput("dataset", "it holds no results of a grid", "give the Dataset of a run, with its status")
    if "seed" not in dataset.coords:
        remedy = "give the results with their seeds, over which the plot takes the median"
        raise BadInput("dataset", "it has no seeds", remedy)
    dataset = without_failures(dataset)
    return dataset if "seed" in dataset.dims else dataset.expand_dims("seed")


def _fix(dataset: xr.Dataset, free: tuple[str, ...]) -> tuple[xr.Dataset, str]:
    """The cells to draw, with every axis not in ``free`` at its first value, and words for all that is held fixed."""
    held = [name for name in listed_axes(dataset) if name not in free]
    cells = dataset.isel(dict.fromkeys(held, 0))
    same = {n: text for n, text in (selected_words(cells) | problem_words(cells)).items() if n not in (*held, "seed")}
    words = {name: f"{name} {value_text(cells[name])}" for name in held} | same
    words |= {n: f"{words[n]} (first of {dataset.sizes[n]})" for n in held if dataset.sizes[n] > 1}
    return cells, ", ".join(words.values())


def _lw(points: float) -> float:
    """A width of lines or markers, scaled as the style in force scales lines."""
    return points * rcParams["lines.linewidth"] / 1.5


def _finish(figure: Figure, headline: str, fixed: str, cells: xr.Dataset, note: str, bare: bool) -> None:
    """Title a figure with ``headline`` and what is held ``fixed``; put ``note`` and the count of left-out cells below.

    The title has at most two lines: if ``fixed`` takes more than one, it is put below. All of it also becomes the
    figure's label; if ``bare`` (for a figure with a caption), nothing else is written.
    """
    left_out = int(cells["status"].isin(FAILED).sum())
    if left_out:
        note += f"; left out: {left_out} of {cells['status'].size} cells, diverged or missing"
    more = [text for text in setting_words(cells).values() if text not in fixed]
    figure.set_label("; ".join([f"{headline}, {note}", *filter(None, [fixed, ", ".join(more)])]) + ".")
    if bare:
        return
    width = int(figure.get_figwidth() * LETTERS)
    lines = partial(textwrap.wrap, width=width, break_on_hyphens=False)
    title = [*lines(headline), *lines(fixed)]
    if len(title) > 2:
        title, note = lines(headline, max_lines=2), f"{fixed}; {note}"
    figure.suptitle("\n".join(title), fontsize="medium")
    figure.supxlabel("\n".join(textwrap.wrap(note, int(1.15 * width))), fontsize="small", color="0.35")


def _seeds(cells: xr.Dataset, words: str) -> str:
    """The number of seeds after ``words``, such as "pooled over 8 seeds"; for a single one, which seed it is."""
    if cells.sizes["seed"] == 1:
        return f"seed {value_text(cells['seed'][0])}"
    return f"{words} over {counted(cells.sizes['seed'], 'seed')}"


def _lines(dataset: xr.Dataset, most: int) -> tuple[xr.Dataset, str, str, list[tuple[str, xr.Dataset]]]:
    """The lines to draw: one per penalty (else per value of the longest axis), at most ``most``, both ends included."""
    axes = plane(dataset)
    hue = axes[0] if axes else ""
    cells, fixed = _fix(dataset, (hue,))
    if not hue:
        return cells, fixed, "", [("", cells)]
    size = cells.sizes[hue]
    chosen = np.unique(np.linspace(0, size - 1, min(size, most)).round().astype(int))
    lines = [(value_text(cells[hue][i]), cells.isel({hue: i})) for i in chosen]
    fewer = f" ({len(chosen)} of {size} values)" if len(chosen) < size else ""
    return cells, fixed, axis_label(dataset, hue) + fewer, lines


def plot_columns(dataset: xr.Dataset, axes: Any = None, width: float | None = None) -> np.ndarray:
    """Plot the share of columns with norm >= x times the largest, and a histogram of the norms; returns two Axes.

    Both are averages over the seeds. ``axes``: two Axes to draw on; None: those of a new figure. With a ``width``, in
    inches, that figure has this width and no titles, for a paper; ``figure.get_label()`` is its caption.
    """
    cells, fixed, hue, lines = _lines(_cells(dataset), 4)
    both, figure = axes_for(axes, 2, (5.4, 7), width)
    left, right = both
    norms = [cell["column_norms"].transpose("seed", "column").values for _, cell in lines]
    top = max((np.nanmax(n) for n in norms if np.isfinite(n).any()), default=1.0) or 1.0
    edges, shares = np.linspace(0, 1.02 * top, 42), np.linspace(0, 1, 201)
    for (name, cell), values, colour in zip(lines, norms, PALETTE, strict=False):
        values = values[np.isfinite(values).any(axis=1)]
        ranked = f"median {spoken_name(cell['rank'])} {over_seeds(cell['rank'])[0]:g}" if "rank" in cell else ""
        kept = ranked if len(values) else "no cell left"
        label = f"{name} ({kept})" if name and kept else name or kept
        left.plot(shares, share_above(values, shares), color=colour, lw=_lw(2), label=label)
        if len(values):
            heights = np.histogram(values[np.isfinite(values)], edges)[0] / len(values)
            right.stairs(heights, edges, color=colour, lw=_lw(1.6))
            right.stairs(heights, edges, color=colour, alpha=0.12, fill=True)
    _thresholds(right, lines)
    _log_y(right, bottom=0.5 / cells.sizes["seed"])
    name = measure_label(cells["column_norms"]).replace(", largest first", "")
    words = str(cells["column_norms"].attrs.get("long_name", "column norms after training")).split(", ")[0]
    left.set(xlabel="x [share of the largest norm]", ylabel="share of norms ≥ x")
    left.set(xlim=(0, 1), ylim=(-0.02, 1.02))
    right.set(
        xlabel=fitting(right, name), ylabel=f"{part_noun(cells)}s per seed and bin", xlim=(-0.02 * edges[-1], edges[-1])
    )
    if left.get_legend_handles_labels()[0]:
        left.legend(title=hue or None, fontsize="small")
    if figure is not None:
        _finish(figure, words[0].upper() + words[1:], fixed, cells, _seeds(cells, "pooled"), width is not None)
    return both


def share_above(norms: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Mean over seeds of the fraction of columns with norm >= share * largest."""
    if not len(norms):
        return np.full(len(shares), np.nan)
    largest, counts = np.nanmax(norms, axis=1, keepdims=True), np.isfinite(norms).sum(axis=1)
    return np.array([np.mean((norms >= share * largest).sum(axis=1) / counts) for share in shares])


def _thresholds(axes: Axes, lines: list[tuple[str, xr.Dataset]]) -> None:
    """Draw a dashed line at the threshold: a black one, or one per colour if thresholds differ."""
    found = [threshold_of(cell) for _, cell in lines]
    values = [float(t) for t in found if t is not None]
    same = len(set(values)) == 1
    for value, colour in zip(values[:1] if same else values, PALETTE, strict=False):
        label = f"threshold {value:.3g}"
        axes.axvline(value, color="black" if same else colour, ls="--", lw=_lw(1.4), label=label)
    if values:
        axes.legend(fontsize="small")


def plot_curves(dataset: xr.Dataset, axes: Any = None, width: float | None = None) -> np.ndarray:
    """Plot loss and error along both phases, median and 16-84 % band over seeds; returns one Axes per curve present.

    ``axes``, ``width``: see :func:`plot_columns`. Raises BadInput where no curve in the dataset has a step.
    """
    dataset = _cells(dataset)
    names = curves(dataset)
    if not names:
        trained = "train for at least one step, and give loss_curve or error_curve with the whole step axis"
        remedy = trained if "step" in dataset.dims else "draw its measures by plot_measure"
        raise BadInput("dataset", "it has no curves along steps", remedy)
    cells, fixed, hue, lines = _lines(dataset, 6)
    all_axes, figure = axes_for(axes, len(names), (5.4, 3.7 * len(names)), width)
    for one, name in zip(all_axes, names, strict=True):
        _curve(one, cells, name, lines)
    handles = all_axes[0].get_legend_handles_labels()
    if hue and width is None:
        all_axes[0].legend(*handles, title=hue, fontsize="small", ncols=1 if figure is None else 2)
    if figure is None:
        return all_axes
    if hue and width is not None:
        narrow = width < NARROW
        place = {"loc": "outside upper center", "ncols": 3} if narrow else {"loc": "outside right upper"}
        figure.legend(*handles, title=hue, fontsize="small", **place)
    headline = " and ".join(name.removesuffix("_curve") for name in names).capitalize()
    phases = [*["training"] * bool(cells.attrs["train_steps"]), *["fine-tuning"] * fine_tuned(cells)]
    note = _seeds(cells, BAND) + "; dotted: across pruning" * (len(phases) > 1)
    _finish(figure, f"{headline} along {' and '.join(phases)}", fixed, cells, note, width is not None)
    return all_axes


def _curve(axes: Axes, cells: xr.Dataset, name: str, lines: list[tuple[str, xr.Dataset]]) -> None:
    """Draw the curve ``name`` of every line, with the phases marked."""
    for (label, cell), colour in zip(lines, PALETTE, strict=False):
        _phases(axes, cell, name, colour, label)
    axes.set(xlabel="step [gradient updates]", ylabel=measure_label(cells[name]))
    axes.set_xlim(0, max(1, int(cells["step"][-1])))
    _log_y(axes)
    end, above = int(cells.attrs["train_steps"]), axes.get_xaxis_transform()
    if fine_tuned(cells):
        axes.axvspan(end, int(cells["step"][-1]), color="0.93", zorder=0)
        axes.axvline(end, color="0.6", lw=_lw(1), zorder=0)
        axes.text(end, 1.01, "fine-tune →", transform=above, ha="left", va="bottom", fontsize="small")
        if end > 0:
            axes.text(end, 1.01, "← train  ", transform=above, ha="right", va="bottom", fontsize="small")
        if name == "error_curve" and "error_pruned" in cells:
            axes.legend(handles=axes.plot([], [], "D", color="0.4", label="just after pruning"), fontsize="small")


def _phases(axes: Axes, cell: xr.Dataset, name: str, colour: str, label: str) -> None:
    """Draw one line with its band; dotted across pruning, to the error just after it or to the first record."""
    bands = np.array(over_seeds(cell[name], 0.16, 0.5, 0.84))
    steps, tuning = cell["step"].values, (cell["phase"] == "fine_tune").values
    parts = [(steps[~tuning], bands[:, ~tuning])]
    if tuning.any():
        parts.append((steps[tuning], bands[:, tuning]))
    if tuning.any() and name == "error_curve" and "error_pruned" in cell:
        end = int(cell.attrs["train_steps"])
        pruned = np.array(over_seeds(cell["error_pruned"], 0.16, 0.5, 0.84))[:, None]
        axes.plot([end, end], [parts[0][1][1, -1], pruned[1, 0]], color=colour, lw=_lw(1.2), ls=":")
        axes.plot(end, pruned[1, 0], "D", color=colour, ms=_lw(6), mec="white", zorder=5)
        parts[1] = (np.append(end, parts[1][0]), np.append(pruned, parts[1][1], axis=1))
    elif tuning.any() and len(parts[0][0]):
        ends = [(at[place], band[1, place]) for (at, band), place in zip(parts, (-1, 0), strict=True)]
        axes.plot(*zip(*ends, strict=True), color=colour, lw=_lw(1.2), ls=":")
    for number, (at, band) in enumerate(parts):
        low, middle, high = np.where(band > 0, band, np.nan)
        mark = "o" if len(at) == 1 else None
        axes.plot(at, middle, color=colour, lw=_lw(1.8), marker=mark, label=label if number == 0 else None)
        axes.fill_between(at, low, high, color=colour, alpha=0.18, lw=0)


def plot_measure(
    dataset: xr.Dataset, name: str, axes: Any = None, log: bool = False, width: float | None = None
) -> Axes:
    """Plot the median of a measure over the seeds, as a map over two axes of the grid or as a line over one.

    ``log``: colours of the map, or heights of the line, on a logarithmic scale. ``width``: see :func:`plot_columns`.
    Raises BadInput where no axis besides the seeds has two values, and for a measure that is not one number per cell.
    """
    dataset = _cells(dataset)
    _verify_measure(dataset, name)
    span = plane(dataset)
    if not span:
        raise BadInput("dataset", "no axis besides the seeds has two values", "give an axis more values")
    cells, fixed = _fix(dataset, span)
    size = (5.4, 3.9)
    if len(span) == 2:
        columns, rows = (cells.sizes[name] for name in span)
        size = (float(np.clip(0.55 * columns + 2.1, 5.4, 12)), float(np.clip(0.5 * rows + 2.2, 4, 9)))
    (one,), figure = axes_for(axes, 1, size, width)
    if len(span) == 2:
        _heat(one, cells, span[0], span[1], name, log)
    else:
        _profile(one, cells, span[0], name, log)
    if figure is not None:
        words = stage_label(cells, name)
        note = _seeds(cells, "median" if len(span) == 2 else BAND)
        headline = words if words == name else words[0].upper() + words[1:]
        _finish(figure, headline, fixed, cells, note, width is not None)
    return one


def _verify_measure(dataset: xr.Dataset, name: Any) -> None:
    """Raises BadInput for a name that no measure has, and for a measure with other axes than the cells have."""
    if name not in dataset.data_vars:
        raise unknown_name("name", name, numbers(dataset))
    cells = dataset["status"].dims
    if more := [str(dim) for dim in dataset[name].dims if dim not in cells]:
        sizes = " and ".join(f"{dim} ({dataset.sizes[dim]} values)" for dim in more)
        problem = f"{name} has a further axis, {sizes}, beside those of the cells"
        raise BadInput("name", problem, f"select one value, as dataset.isel({', '.join(f'{dim}=0' for dim in more)})")
    if lacking := [str(dim) for dim in cells if dim not in dataset[name].dims]:
        remedy = f"give a variable of the dataset that has the axes {', '.join(map(str, cells))}"
        raise BadInput("name", f"{name} lacks the axis {lacking[0]}", remedy)


def _profile(axes: Axes, cells: xr.Dataset, x: str, name: str, log: bool) -> None:
    """Draw a measure against one axis; values that are names are not joined by a line."""
    low, middle, high = over_seeds(cells[name].transpose("seed", x), 0.16, 0.5, 0.84)
    at = np.arange(len(middle))
    if numeric(cells[x]):
        axes.fill_between(at, low, high, color=PALETTE[0], alpha=0.2, lw=0)
        axes.plot(at, middle, "o-", color=PALETTE[0], lw=_lw(2), ms=_lw(5))
    else:
        axes.errorbar(at, middle, [middle - low, high - middle], fmt="o", color=PALETTE[0], capsize=4)
    axes.set(ylabel=_median(cells, name), xlim=(-0.5, len(at) - 0.5))
    if log:
        _log_y(axes)
    else:
        axes.margins(y=0.1)
        least = np.nanmin(np.append(low, np.inf))
        if least >= 0:
            axes.set_ylim(bottom=0 if least > 0 else -0.04 * axes.get_ylim()[1])
        whole_ticks(axes.yaxis)
    axes.grid(alpha=0.3)
    _ordinal(axes, "x", cells[x], axis_label(cells, x))


def _heat(axes: Axes, cells: xr.Dataset, x: str, y: str, name: str, log: bool) -> None:
    """Draw a heatmap with ordinal axes; cells of which all seeds failed are hatched."""
    table = over_seeds(cells[name].transpose("seed", y, x))[0]
    scale = _scale(table, log)
    shown = np.where(table > 0, table, scale.vmin or 0.0) if log else table
    shown = np.where(np.isnan(table), np.nan, shown)
    image = axes.imshow(shown, norm=scale, cmap="viridis", aspect="auto", origin="lower")
    bar = axes.figure.colorbar(image, ax=axes, label=_median(cells, name))
    _bar_ticks(bar, log)
    for row, column in np.argwhere(np.isnan(table)):
        place = (column - 0.5, row - 0.5)
        axes.add_patch(Rectangle(place, 1, 1, facecolor="0.85", edgecolor="0.55", hatch="///", lw=0))
    if np.isnan(table).any():
        patch = Patch(facecolor="0.85", edgecolor="0.55", hatch="///", label="all seeds diverged or missing")
        axes.legend(handles=[patch], loc="lower right", bbox_to_anchor=(1, 1), fontsize="small", frameon=False)
    _ordinal(axes, "x", cells[x], axis_label(cells, x))
    _ordinal(axes, "y", cells[y], axis_label(cells, y))
    figure = axes.get_figure(root=True)
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()  # so that Axes have their place, and letters a size
    _bar_ticks(bar, log, CROWDED * _letter(bar.ax) / bar.ax.bbox.height)
    if max(table.shape) <= MOST_ANNOTATED:
        _annotate(axes, table, image)


def _median(cells: xr.Dataset, name: str) -> str:
    """The label of a measure's median on an axis; for the error, with the phase after which it was measured."""
    after = " after fine-tuning" if stage_label(cells, name) != measure_label(cells[name]) else ""
    return f"median {spoken_name(cells[name])}{after}"


def _letter(axes: Axes) -> float:
    """The height of the letters at the y axis, in pixels."""
    return float(axes.yaxis.get_ticklabels()[0].get_fontsize()) * axes.figure.dpi / 72


def _bar_ticks(bar: Any, log: bool, apart: float = 0.0) -> None:
    """Put numbers at the ends of a colour bar and between, neighbours at least ``apart``, a share of its height."""
    low, high = bar.mappable.get_clim()
    if log:
        decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
        between = np.outer(decades, (1.0, 2.0, 5.0) if high < 300 * low else (1.0,)).ravel()
    else:
        between = MaxNLocator(5).tick_values(low, high)
    ticks, last, apart = [low], 0.0, max(apart, 0.08)
    for value, place in zip(between, np.asarray(bar.mappable.norm(between), float), strict=True):
        if last + apart < place < 1 - apart:
            ticks.append(value)
            last = place
    ticks.append(high)
    bar.set_ticks(ticks, labels=[f"{value:.3g}" if log else f"{value:.4g}" for value in ticks])
    bar.minorticks_off()


def _scale(table: np.ndarray, log: bool) -> Normalize:
    """Colour limits around the finite (for ``log``: positive) values, never empty."""
    good = table[np.isfinite(table) & ((table > 0) | (not log))]
    low, high = (good.min(), good.max()) if good.size else (1.0, 1.0)
    if log:
        return LogNorm(low, high) if low < high else LogNorm(low / 1.5, high * 1.5)
    return Normalize(low, high) if low < high else Normalize(low - 0.5, high + 0.5)


def _annotate(axes: Axes, table: np.ndarray, image: Any) -> None:
    """Write each cell's value, black on bright and white on dark, with 3 or 2 digits, or not at all, as they fit."""
    room = np.array([axes.bbox.width / table.shape[1], axes.bbox.height / table.shape[0]])
    for digits in (3, 2):
        texts = []
        for (row, column), value in np.ndenumerate(table):
            if np.isfinite(value):
                red, green, blue, _ = image.cmap(image.norm(value))
                colour = "white" if 0.3 * red + 0.59 * green + 0.11 * blue < 0.5 else "black"
                style: Any = {"ha": "center", "va": "center", "fontsize": "small", "color": colour}
                texts.append(axes.text(column, row, _digits(value, digits), **style))
        sizes = [text.get_window_extent().size for text in texts]
        if not texts or (np.max(sizes, axis=0) + 0.6 * texts[0].get_fontsize() * axes.figure.dpi / 72 <= room).all():
            return
        for text in texts:
            text.remove()


def _digits(value: float, digits: int = 3) -> str:
    """A number with so many significant digits, one more from 10 on; whole numbers without a decimal point."""
    if abs(value) >= 10 or value == int(value):
        return f"{value:.{digits + 1}g}"
    return f"{value:#.{digits}g}"


def _scale_of(axes: Axes) -> float:
    """How many letters a figure has room for, relative to one of 6.8 inches with letters of 10 points."""
    figure: Any = axes.figure
    return figure.get_figwidth() / 6.8 * 10 / rcParams["font.size"]


def _ordinal(axes: Axes, which: str, coordinate: xr.DataArray, label: str) -> None:
    """Put evenly spaced ticks, labelled with the values of an axis and thinned if there are many, on x or y."""
    every = -(-coordinate.size // MOST_TICKS)
    at = np.arange(0, coordinate.size, every)
    texts = [value_text(coordinate[i]) for i in at]
    if which == "x":
        crowded = sum(map(len, texts)) > max(50 * _scale_of(axes), 1)
        axes.set_xticks(at, texts, rotation=40 if crowded else 0, ha="right" if crowded else "center")
        axes.set_xlabel(fitting(axes, label))
    else:
        axes.set_yticks(at, texts)
        axes.set_ylabel(label)


def _log_y(axes: Axes, bottom: float | None = None) -> None:
    """Make the y axis logarithmic, if there is anything positive to show."""
    if np.isfinite(axes.dataLim.minposy):
        axes.set_yscale("log")
        axes.set_ylim(bottom=bottom)
        log_ticks(axes.yaxis, *axes.get_ylim())
