"""Labelled results: the chunks of a grid put together into one xarray Dataset whose dimensions are the axes.

xarray is imported when it is first needed, so that no run waits for it before its first chunk.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gpsense.descent import DIVERGED, STATUS_NAMES
from gpsense.errors import counted
from gpsense.grid.axes import Grid
from gpsense.grid.plan import Chunk, Plan
from gpsense.grid.program import Arrays
from gpsense.systems import SYSTEMS, AnySystem, Measure
from gpsense.systems.own import TrainPruneFineTune

if TYPE_CHECKING:
    import xarray as xr

MEASURES: dict[str, Measure] = {
    "error_trained": Measure("error after training"),
    "error_pruned": Measure("error after pruning"),
    "error": Measure("error"),
    "rank": Measure("parts kept by pruning", "parts"),
    "loss_trained": Measure("data loss after training, penalty not counted", "loss"),
    "loss": Measure("data loss after fine-tuning", "loss"),
    "steps_train": Measure("training steps taken", "steps"),
    "steps_fine_tune": Measure("fine-tuning steps taken", "steps"),
    "gradient_norm_trained": Measure("gradient norm of loss plus penalty where training stopped", "loss / units of U"),
    "gradient_norm": Measure("gradient norm of the loss after fine-tuning", "loss / units of U"),
    "curvature_trained": Measure(
        "upper bound of the smallest Hessian eigenvalue of loss plus penalty where training stopped, by Lanczos",
        "loss / units of U^2",
    ),
    "curvature_residual": Measure(
        "distance from curvature_trained within which an eigenvalue lies", "loss / units of U^2"
    ),
    "curvature_low": Measure("lower bound of the smallest eigenvalue, with probability 0.999", "loss / units of U^2"),
    "coherence": Measure("largest cos^2 of the angle between two kept columns before fine-tuning"),
    "loss_curve": Measure("data loss along the run", "loss", ("step",)),
    "error_curve": Measure("error along the run", "1", ("step",)),
    "status_train": Measure("how training ended", "code"),
    "status": Measure("how the cell ended", "code"),
}
MISSING = -1


def collect(plan: Plan, chunks: Iterable[tuple[Chunk, Arrays]]) -> "xr.Dataset":
    """One Dataset of all cells, put together from the measures (outer, inner, ...) of each chunk.

    Cells of absent chunks are NaN with status -1 (missing). Dimensions: the listed axes in the order
    programs, seed, data, settings, then the trailing axes of a measure. Fields with one value are scalar coordinates. A
    field with the name of a measure is labelled ``true_NAME``. Where programs differ in the length of a trailing axis,
    it is padded with NaN.
    """
    full: dict[str, np.ndarray] = {}
    cells = (len(plan.programs), plan.n_outer, plan.n_inner)
    for chunk, arrays in chunks:
        for name, values in arrays.items():
            status, tail = name.startswith("status"), values.shape[2:]
            kind, empty = (np.dtype(np.int16), MISSING) if status else (np.result_type(values, np.float32), np.nan)
            there = full.get(name, np.empty(cells + tail, kind)[:0])
            shape = cells + tuple(map(max, there.shape[3:], tail))
            if there.shape != shape or there.dtype != np.result_type(there, kind):
                grown = np.full(shape, empty, np.result_type(there, kind))
                grown[tuple(map(slice, there.shape))] = there
                full[name] = grown
            place = (chunk.program, slice(chunk.outer, chunk.outer_stop), slice(chunk.inner, chunk.inner_stop))
            full[name][place][(..., *map(slice, tail))] = values
    return _labelled(plan, full)


def _labelled(plan: Plan, full: dict[str, np.ndarray]) -> "xr.Dataset":
    import xarray as xr

    grid = plan.grid
    label = lambda name: f"true_{name}" if name in full else name  # noqa: E731
    axes = [replace(axis, name=label(axis.name)) for axis in grid.dimensions()]
    variables: dict[str, Any] = {}
    own = _own(grid.system, full)
    for name, values in full.items():
        measure = _measure(grid, name, values.ndim - 3)
        shape = tuple(len(axis) for axis in axes) + values.shape[3:]
        attrs: dict[str, Any] = {"long_name": measure.words, "units": measure.units}
        if name.startswith("status"):
            attrs |= {
                "flag_values": np.arange(-1, len(STATUS_NAMES)),
                "flag_meanings": " ".join(("missing", *STATUS_NAMES)),
            }
        if name in own:
            attrs["origin"] = "own"
        variables[name] = ((*(axis.name for axis in axes), *measure.dims), values.reshape(shape), attrs)
    coordinates = {
        axis.name: ["none" if value is None else shown_value(value) for value in axis.values] for axis in axes
    }
    dataset = xr.Dataset(variables, coords=coordinates)
    dataset = dataset.squeeze([axis.name for axis in axes if not axis.listed])
    single = {name: shown_value(value) for name, value in grid.single().items() if not grid.known[name].hidden}
    for name in [name for name, value in single.items() if value is None and name in grid.static]:
        chosen = {getattr(program.system, name) for program in plan.programs}
        single[name] = chosen.pop() if len(chosen) == 1 else None  # chosen for a field left open, such as width
    same = {label(name): value for name, value in single.items() if isinstance(value, bool | int | float | str)}
    dataset = dataset.assign_coords({name: value for name, value in same.items() if name not in dataset.coords})
    for name, field in grid.known.items():
        if label(name) in dataset.coords:
            words = {"long_name": field.words, "section": field.section}
            dataset[label(name)].attrs |= words | ({"units": field.unit} if field.unit else {})
    for axis in axes:
        if axis.listed:
            dataset[axis.name].attrs["listed"] = 1
    train, fine_tune = grid.schedule.recorded_steps()
    if "step" in dataset.dims:
        phase = ["train"] * len(train) + ["fine_tune"] * len(fine_tune)
        dataset = dataset.assign_coords(step=train + fine_tune, phase=("step", phase))
    labels = plan.programs[0].system.labels() if plan.programs else {}
    named = {dim: list(names) for dim, names in labels.items() if dataset.sizes.get(dim) == len(names)}
    dataset = dataset.assign_coords(named)
    dataset.attrs["train_steps"] = grid.schedule.train_steps
    return dataset


def diverged_words(dataset: "xr.Dataset") -> str:
    """A line that says how many cells diverged and which is the first; empty if none did."""
    lost = dataset["status"] == DIVERGED
    places = np.argwhere(lost.values)
    if not len(places):
        return ""
    first = (f"{dim} {lost[dim].values[at]}" for dim, at in zip(lost.dims, places[0], strict=True))
    which = f", the first at {', '.join(first)}" if len(places) < lost.size else ""
    return f"{len(places)} of {counted(lost.size, 'cell')} diverged (status {DIVERGED}){which}"


def _own(system: AnySystem, names: Iterable[str]) -> set[str]:
    """The names of the measures that a user's own function or system defines, not the engine or the package."""
    if SYSTEMS.holds(system):
        return set()
    common = {**MEASURES, **TrainPruneFineTune.measures} if system.steps else {"status": None}
    return {name for name in names if name not in common}


def _measure(grid: Grid, name: str, tails: int) -> Measure:
    """The description of a measure, with a name for each of its trailing axes."""
    common = MEASURES if grid.system.steps or name == "status" else {}  # a user's own measure may have any meaning
    found = {**common, **grid.system.measures}.get(name, Measure(name))
    if len(found.dims) == tails:
        return found
    return found._replace(dims=tuple(f"{name}_{index}" for index in range(tails)))


def shown_value(value: Any) -> Any:
    """A value as a coordinate: numbers and names as they are, a function by its name."""
    if callable(value):
        return getattr(value, "__qualname__", type(value).__qualname__)
    if isinstance(value, tuple):
        return str(value)
    return value.item() if isinstance(value, np.generic) else value
