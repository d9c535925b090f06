"""Shared by figures and page: which axes span the map, medians without failed cells, labels and number formats."""

from collections.abc import Collection
from typing import Any

import numpy as np
import xarray as xr

SETTINGS = ("method", "optimizer", "rate", "batch", "penalty", "smoothing", "rule", "kept", "threshold")
RULED = "rule threshold"
LISTED = "listed"  # the attribute that marks axes of the grid, also after one of their values was selected
FAILED = (-1, 3)  # the codes of "missing" and "diverged" in the flag_meanings of results.nc


def without_failures(dataset: xr.Dataset) -> xr.Dataset:
    """The dataset with every number of diverged and missing cells NaN, the curves included."""
    alive = ~dataset["status"].isin(FAILED)
    if bool(alive.all()):
        return dataset
    real = {name: v.where(alive) for name, v in dataset.data_vars.items() if v.dtype.kind == "f"}
    return dataset.assign(real)


def listed_axes(dataset: xr.Dataset) -> list[str]:
    """The names of the axes that are dimensions, in order, without the seeds."""
    return [str(name) for name in dataset["status"].dims if name != "seed"]


def plane(dataset: xr.Dataset) -> tuple[str, ...]:
    """The axes of a map, x first: the two longest with more than one value, those of numbers before those of names.

    If penalty is one of them, it is x. One name, or none, if there are fewer than two such axes.
    """
    long = [name for name in listed_axes(dataset) if dataset.sizes[name] > 1]
    ranked = sorted(long, key=lambda a: (not numeric(dataset[a]), -dataset.sizes[a], a != "penalty"))[:2]
    return tuple(sorted(ranked, key=lambda a: a != "penalty"))


def threshold_of(dataset: xr.Dataset) -> xr.DataArray | None:
    """The threshold on column norms: as given, else ``2 sqrt(smoothing)``; None where neither is known."""
    if "threshold" in dataset.coords:
        return dataset["threshold"]
    return 2 * dataset["smoothing"] ** 0.5 if "smoothing" in dataset.coords else None


def over_seeds(array: xr.DataArray, *quantiles: float) -> list[np.ndarray]:
    """The quantiles (default: the median) over the seeds, linearly interpolated, ignoring NaN; NaN if all are NaN."""
    values = np.sort(np.moveaxis(array.values, array.dims.index("seed"), 0).astype(float), axis=0)  # NaN comes last
    last = np.maximum((~np.isnan(values)).sum(axis=0) - 1, 0)
    found = []
    for quantile in quantiles or (0.5,):
        at = np.floor(quantile * last).astype(int)
        low = np.take_along_axis(values, at[None], axis=0)[0]
        high = np.take_along_axis(values, np.minimum(at + 1, last)[None], axis=0)[0]
        found.append(low + (quantile * last - at) * (high - low))
    return found


def measure_label(array: xr.DataArray) -> str:
    """A variable's description, with its unit where it has one that the description does not contain."""
    words, units = str(array.attrs.get("long_name", array.name)), str(array.attrs.get("units", "1"))
    return words if units in ("1", "code", "loss") or units in words else f"{words} [{units}]"


def stage_label(dataset: xr.Dataset, name: str) -> str:
    """A variable's description; for the error with "after fine-tuning" if it was also measured after training."""
    staged = name == "error" and fine_tuned(dataset) and "error_trained" in dataset
    return measure_label(dataset[name]) + (", after fine-tuning" if staged else "")


def value_text(value: Any) -> str:
    """The value of an axis as text."""
    value = getattr(value, "item", lambda: value)()
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def axis_label(dataset: xr.Dataset, name: str) -> str:
    """The description of an axis that its system gives; its name if the dataset has none."""
    return measure_label(dataset[name]) if name in dataset.variables else name


def main_measures(dataset: xr.Dataset) -> list[str]:
    """The measures to show first: rank and error, then :func:`own_measures`; if none, all :func:`numbers`."""
    named = [name for name in ("rank", "error") if name in dataset]
    return list(dict.fromkeys([*named, *own_measures(dataset)])) or numbers(dataset)


def own_measures(dataset: xr.Dataset) -> list[str]:
    """The measures of one number per cell that a user's own function or system defines; none for the package's."""
    return [name for name in numbers(dataset) if dataset[name].attrs.get("origin") == "own"]


def numbers(dataset: xr.Dataset) -> list[str]:
    """The measures that are one real number per cell."""
    dims = dataset["status"].dims
    return [str(n) for n, v in dataset.data_vars.items() if v.dims == dims and v.dtype.kind == "f"]


def others(dataset: xr.Dataset, shown: Collection[str]) -> str:
    """A line that names the measures of a user's own function or system that are not ``shown``, with their shapes.

    Curves and column norms are left out, as they are drawn. Empty if no measure remains, and for the package's systems.
    """
    if all(values.attrs.get("origin") != "own" for values in dataset.data_vars.values()):
        return ""
    dims = dataset["status"].dims
    left = []
    for name, values in dataset.data_vars.items():
        if name not in shown and name not in (*curves(dataset), "column_norms", "status", "status_train"):
            shape = " x ".join(str(dataset.sizes[dim]) for dim in values.dims if dim not in dims)
            left.append(f"{name} ({shape})" if shape else str(name))
    return f"also in results.nc: {', '.join(left)}" if left else ""


def selected_words(dataset: xr.Dataset) -> dict[str, str]:
    """The text ``name value`` for every axis of the grid of which one value was selected, by the axis's name."""
    chosen = {str(n): value for n, value in dataset.coords.items() if value.ndim == 0 and value.attrs.get(LISTED)}
    return {name: f"{name} {value_text(value)}" for name, value in chosen.items()}


def problem_words(dataset: xr.Dataset) -> dict[str, str]:
    """The text ``name value``, by name, for fields of the problem or parameters of a function, if equal in all cells.

    For measurements = population nothing is sampled, so that n and noise are left out.
    """
    population = "measurements" in dataset.coords and bool((dataset["measurements"] == "population").all())
    words = {}
    for name, value in dataset.coords.items():
        mine = value.ndim == 0 and value.attrs.get("section") in ("problem", "cell") and value.dtype.kind != "b"
        if mine and not (population and name in ("n", "noise")):
            words[str(name)] = f"{name} {value_text(value)}"
    return words


def setting_words(dataset: xr.Dataset) -> dict[str, str]:
    """The text ``name value``, by name, for the main settings of training and pruning that are equal in all cells."""
    held = {name: dataset.coords[name] for name in SETTINGS if name in dataset.coords}
    same = {name: f"{name} {value_text(value)}" for name, value in held.items() if value.ndim == 0}
    level, train = threshold_of(dataset), int(dataset.attrs.get("train_steps", 0))
    if "column_norms" in dataset and level is not None and level.ndim == 0 and same.get("rule", RULED) == RULED:
        same["threshold"] = f"threshold {value_text(level)}"
    if train:
        same["steps"] = f"{train} steps of training"
    if fine_tuned(dataset) and "step" in dataset.coords:
        same["fine_tune"] = f"{int(dataset['step'][-1]) - train} of fine-tuning"
    return same


def short_name(array: xr.DataArray) -> str:
    """A variable's name; a rank that counts coordinates is called ``kept``, a rank of other parts ``PARTS_kept``."""
    units = str(array.attrs.get("units", "1"))
    if array.name != "rank" or units in ("1", "columns"):
        return str(array.name)
    return "kept" if units == "coordinates" else f"{units.replace(' ', '_')}_kept"


def spoken_name(array: xr.DataArray) -> str:
    """:func:`short_name` for a heading or an axis, where ``PARTS_kept`` is written with spaces."""
    return short_name(array).replace("_", " ") if array.name == "rank" else short_name(array)


def part_noun(dataset: xr.Dataset) -> str:
    """The noun for one of the things that pruning keeps or deletes and whose norms are drawn: column, part, ..."""
    units = str(dataset["rank"].attrs.get("units", "")) if "rank" in dataset else ""
    return units.removesuffix("s") if units.endswith("s") else "column"


def curves(dataset: xr.Dataset) -> list[str]:
    """The names of the curves to draw: none if no step was taken, and no error curve that equals the loss curve."""
    names = [name for name in ("loss_curve", "error_curve") if name in dataset and dataset.sizes["step"] > 1]
    same = len(names) == 2 and np.array_equal(*(dataset[name].values for name in names), equal_nan=True)
    return names[:1] if same else names


def fine_tuned(dataset: xr.Dataset) -> bool:
    """Whether there was a phase of fine-tuning; True if the dataset does not say."""
    return "phase" not in dataset.coords or bool((dataset["phase"] == "fine_tune").any())


def numeric(array: xr.DataArray) -> bool:
    """Whether an axis holds numbers rather than names."""
    return array.dtype.kind in "iuf"
