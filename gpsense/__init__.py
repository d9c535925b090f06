"""gpsense: train, prune greedily, fine-tune, and measure when that generalises.

Pure functions of arrays for one experiment; :mod:`gpsense.grid` runs whole grids of them, ``python -m launch.grid``
does so from a config, with files, progress and pictures.
"""

from gpsense import theory
from gpsense.descent import Method, Rates, advance, begin
from gpsense.errors import BadInput
from gpsense.isometry import IsometryBound, isometry_constant_bound
from gpsense.measurements import (
    Dense,
    Distances,
    Entries,
    Measurements,
    RankOne,
    dense_measurements,
    gaussian_measurements,
    rank_one_measurements,
)
from gpsense.objectives import (
    Empirical,
    Gram,
    Objective,
    Population,
    cheapest_objective,
    gram_objective,
    population_loss,
    sensing_loss,
)
from gpsense.penalties import group_lasso, smoothed_group_lasso, weight_decay
from gpsense.pipeline import Schedule, run_cell, run_sensing, seed_keys
from gpsense.pruning import apply_mask, column_norms, compact, default_threshold, margin, threshold_mask
from gpsense.recovery import Recovery, recover
from gpsense.stationarity import Certificate, certificate, second_order_stationary
from gpsense.symmetric import smat, svec
from gpsense.systems import (
    SYSTEMS,
    Sensing,
    SensingInstance,
    SensingProblem,
    SensingSetting,
    SensingSpec,
    System,
    sample_sensing,
)
from gpsense.truths import geometric_spectrum, low_rank_truth

__all__ = [
    "SYSTEMS",
    "BadInput",
    "Certificate",
    "Dense",
    "Distances",
    "Empirical",
    "Entries",
    "Gram",
    "IsometryBound",
    "Measurements",
    "Method",
    "Objective",
    "Population",
    "RankOne",
    "Rates",
    "Recovery",
    "Schedule",
    "Sensing",
    "SensingInstance",
    "SensingProblem",
    "SensingSetting",
    "SensingSpec",
    "System",
    "advance",
    "apply_mask",
    "begin",
    "certificate",
    "cheapest_objective",
    "column_norms",
    "compact",
    "default_threshold",
    "dense_measurements",
    "gaussian_measurements",
    "geometric_spectrum",
    "gram_objective",
    "group_lasso",
    "isometry_constant_bound",
    "low_rank_truth",
    "margin",
    "population_loss",
    "rank_one_measurements",
    "recover",
    "run_cell",
    "run_sensing",
    "sample_sensing",
    "second_order_stationary",
    "seed_keys",
    "sensing_loss",
    "smat",
    "smoothed_group_lasso",
    "svec",
    "theory",
    "threshold_mask",
    "weight_decay",
]
