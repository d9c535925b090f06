"""Gradient descent on a square factor, stopped by the loss on held-out measurements."""

import numpy as np

from gpsense import theory
from launch.claims.drawing import law, log_log, panels, points
from launch.claims.experiment import Outcome, Runs
from launch.claims.quantities import log_slope, over_seeds, values


def held_out(runs: Runs) -> Outcome:
    """Squared errors against n, relative to the law at known rank."""
    cells = runs[""]
    n, rank = cells["n"].values, int(cells["true_rank"])
    squares = values(cells["error"], "seed", "n") ** 2 * rank  # the truth has eigenvalues one
    known = [theory.exact_rank_error(float(cells["noise"]), int(cells["dim"]), rank, float(each)) for each in n]
    expected = np.asarray(known, float) ** 2
    figure, (axes,) = panels(1)
    points(axes, n, squares, 0, "stopped by a held-out loss")
    law(axes, n, expected, "law at known rank")
    log_log(axes, "measurements n", "‖UUᵀ - M‖² (squared Frobenius error)")
    ratios = over_seeds(lambda v: v.mean(axis=0), squares / expected)
    return Outcome({"squared error over the law of a known rank": ratios, "slope in n": log_slope(n, squares)}, figure)
