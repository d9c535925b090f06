"""Paths of gradient descent without a penalty: its speed on U U^T and on U V^T, and the matrices it passes."""

import numpy as np

from launch.claims.drawing import PALETTE, curve, log_log, panels, points
from launch.claims.experiment import Outcome, Runs
from launch.claims.quantities import mean, over_seeds, values

FLOOR = 1e-14  # relative errors below are rounding


def two_forms(runs: Runs) -> Outcome:
    """Squared errors against steps t: for U U^T their slope in log t, for U V^T whether their log is linear in t."""
    forms = {"U Uᵀ": runs[""], "U Vᵀ": runs["asymmetric"]}
    steps = {name: cells["step"].values.astype(float) for name, cells in forms.items()}
    errors = {name: values(cells["error_curve"], "seed", "step") for name, cells in forms.items()}
    figure, (axes,) = panels(1)
    for index, (name, error) in enumerate(errors.items()):
        curve(axes, steps[name][1:], np.maximum(error[:, 1:], FLOOR) ** 2, index, name)
    log_log(axes, "steps t", "relative squared error")
    late = steps["U Uᵀ"] >= steps["U Uᵀ"][-1] / 10
    symmetric = 2 * np.log(errors["U Uᵀ"][:, late])
    slopes = np.polyfit(np.log(steps["U Uᵀ"][late]), symmetric.T, 1)[0]
    quantities = {
        "slope of log squared error in log t, U Uᵀ": mean(slopes),
        "bend of log error in t, U Vᵀ": mean(np.asarray([_bend(steps["U Vᵀ"], row) for row in errors["U Vᵀ"]])),
        "log10 of squared error at the end, U Vᵀ over U Uᵀ": over_seeds(
            lambda a, b: np.mean(2 * (np.log10(np.maximum(a, FLOOR)) - np.log10(b))),
            errors["U Vᵀ"][:, -1],
            errors["U Uᵀ"][:, -1],
        ),
    }
    return Outcome(quantities, figure)


def _bend(steps: np.ndarray, error: np.ndarray) -> float:
    """Ratio of the late to the early slope of log error in t, as it falls from 0.1 to rounding: 1 if exponential."""
    falling = np.flatnonzero((error < 0.1) & (error > 1e3 * FLOOR))
    early, late = np.array_split(falling, 2)
    slope = lambda part: np.polyfit(steps[part], np.log(error[part]), 1)[0]  # noqa: E731
    return float(slope(late) / slope(early)) if min(len(early), len(late)) > 2 else np.nan


def incremental(runs: Runs) -> Outcome:
    """The least distance of a run to the best approximation of each rank, against the size of the start."""
    cells = runs[""].sortby("start_scale")
    scales, ranks = cells["start_scale"].values, cells["reference_rank"].values
    paths = values(cells["error_curve"], "seed", "reference_rank", "start_scale", "step")
    closest, at = paths.min(axis=-1), cells["step"].values[paths.argmin(axis=-1)]
    figure, (left, right) = panels(2)
    for index, rank in enumerate(ranks):
        points(left, scales, closest[:, index], index, f"rank {rank}")
        middle = np.median(paths[:, index, 0], axis=0)
        right.plot(cells["step"].values[1:], middle[1:], color=PALETTE[index % len(PALETTE)], label=f"to rank {rank}")
    log_log(left, "size of the start", "closest to the best matrix of rank s (relative)")
    right.set(xlabel="steps", ylabel="distance to the best matrix of rank s", ylim=(1e-4, 3))
    right.set_title(f"start {scales[0]:g}", fontsize=9)
    log_log(right, "steps", "distance to the best matrix of rank s")
    quantities = {
        "closest to each rank, smallest start": mean(closest[:, :, 0]),
        "visited in turn, smallest start": mean((np.diff(at[:, :, 0], axis=1) > 0).all(axis=1)),
        "closest to rank s < r: smallest over largest start": over_seeds(
            lambda v: (v[:, :-1, 0].mean(axis=0) / v[:, :-1, -1].mean(axis=0)).max(), closest
        ),
    }
    return Outcome(quantities, figure)
