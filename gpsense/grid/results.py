"""Labelled results: the chunks of a grid put together into one xarray Dataset whose dimensions are the axes."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from gpsense.descent import STATUS_NAMES
from gpsense.grid.axes import Grid
from gpsense.grid.plan import Chunk, Plan
from gpsense.grid.program import Arrays

MEASURES = {
    "error_trained": ("error after training", "1"),
    "error_pruned": ("error after pruning", "1"),
    "loss_trained": ("data loss after training, penalty not counted", "loss"),
    "loss": ("data loss after fine-tuning", "loss"),
    "steps_train": ("training steps taken", "steps"),
    "steps_fine_tune": ("fine-tuning steps taken", "steps"),
    "gradient_norm_trained": ("gradient norm of loss plus penalty where training stopped", "loss / norm of U"),
    "gradient_norm": ("gradient norm of the loss after fine-tuning", "loss / norm of U"),
    "curvature_trained": (
        "smallest Hessian eigenvalue of loss plus penalty where training stopped, by Lanczos, from above",
        "loss / norm of U^2",
    ),
    "curvature_residual": ("an eigenvalue lies within this of curvature_trained", "loss / norm of U^2"),
    "coherence": ("largest cos^2 of the angle between two kept columns before fine-tuning", "1"),
    "loss_curve": ("data loss along the run", "loss"),
    "error_curve": ("error along the run", "1"),
    "status_train": ("how training ended", "code"),
    "status": ("how the cell ended", "code"),
}
TAILS = {
    "column_norms": "column",
    "selected": "coordinate",
    "weights": "weight",
    "loss_curve": "step",
    "error_curve": "step",
}
MISSING = -1


def chunk_dataset(chunk: Chunk, arrays: Arrays) -> xr.Dataset:
    """A chunk's measures with dimensions (outer, inner, ...), its place in the attributes."""
    variables = {}
    for name, values in arrays.items():
        dims = ("outer", "inner", TAILS[name]) if name in TAILS else ("outer", "inner")
        variables[name] = (dims, values.astype(np.int16) if name.startswith("status") else values)
    place = {"chunk": chunk.number, "program": chunk.program, "outer_start": chunk.outer, "inner_start": chunk.inner}
    return xr.Dataset(variables, attrs=place)


def collect(plan: Plan, chunks: Iterable[tuple[Chunk, xr.Dataset]]) -> xr.Dataset:
    """One Dataset of all cells; cells of chunks that are not there are NaN with status -1 (missing).

    Dimensions: the listed axes in the order programs, seed, instances, settings, then that of :data:`TAILS`.
    Axes given as one number are scalar coordinates. An axis with the name of a measure is labelled ``true_NAME``.
    Where programs differ in the length of a tail, it is padded with NaN.
    """
    full: dict[str, np.ndarray] = {}
    cells = (len(plan.programs), plan.n_outer, plan.n_inner)
    tails: dict[str, int] = {}
    parts = list(chunks)
    for _, part in parts:
        for name in part.data_vars:
            tail = part[name].shape[2] if name in TAILS else 0
            tails[str(name)] = max(tails.get(str(name), 0), tail)
    for chunk, part in parts:
        for name, tail in tails.items():
            values = part[name].values
            if name not in full:
                empty = MISSING if name.startswith("status") else np.nan
                kind = np.int16 if name.startswith("status") else np.result_type(values.dtype, np.float32)
                full[name] = np.full(cells + ((tail,) if tail else ()), empty, kind)
            place = (chunk.program, slice(chunk.outer, chunk.outer_stop), slice(chunk.inner, chunk.inner_stop))
            full[name][place][(..., slice(values.shape[2])) if tail else ...] = values
    return _labelled(plan.grid, full)


def _labelled(grid: Grid, full: dict[str, np.ndarray]) -> xr.Dataset:
    axes = [replace(axis, name=f"true_{axis.name}") if axis.name in full else axis for axis in grid.dimensions()]
    named = MEASURES | grid.system.metrics
    variables: dict[str, Any] = {}
    for name, values in full.items():
        tail = (TAILS[name],) if name in TAILS else ()
        shape = tuple(len(axis) for axis in axes) + values.shape[3:]
        description, units = named.get(name, (name, "1"))
        attrs: dict[str, Any] = {"long_name": description, "units": units}
        if name.startswith("status"):
            attrs |= {
                "flag_values": np.arange(-1, len(STATUS_NAMES)),
                "flag_meanings": " ".join(("missing", *STATUS_NAMES)),
            }
        variables[name] = ((*(axis.name for axis in axes), *tail), values.reshape(shape), attrs)
    dataset = xr.Dataset(variables, coords={axis.name: list(axis.values) for axis in axes})
    dataset = dataset.squeeze([axis.name for axis in axes if not axis.listed])
    train, fine_tune = grid.schedule.recorded_steps()
    if "step" in dataset.dims:
        phase = ["train"] * len(train) + ["fine_tune"] * len(fine_tune)
        dataset = dataset.assign_coords(step=train + fine_tune, phase=("step", phase))
    dataset.attrs["train_steps"] = grid.schedule.train_steps
    return dataset
