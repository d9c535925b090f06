"""gpsense: train, prune greedily, fine-tune, and measure when that generalises.

Pure functions of arrays for one experiment; :mod:`gpsense.grid` runs whole grids of them, ``python -m launch.grid``
does so from a config, with files, progress and pictures.
"""

from gpsense import theory
from gpsense.descent import Method, Rates, advance, begin
from gpsense.errors import BadInput
from gpsense.isometry import IsometryBound, isometry_constant_bound
from gpsense.keys import seed_keys
from gpsense.measurements import (
    Centred,
    Dense,
    DenseBlocks,
    Distances,
    Entries,
    Measurements,
    RankOne,
    centred_measurements,
    dense_measurements,
    gaussian_measurements,
    rank_one_measurements,
    rectangular_measurements,
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
from gpsense.pipeline import Schedule, run_cell, run_sensing
from gpsense.pruning import apply_mask, column_norms, compact, default_threshold, margin, threshold_mask
from gpsense.recovery import Recovery, recover
from gpsense.stacked_objectives import StackedGram, StackedPopulation, stacked_gram
from gpsense.stationarity import Certificate, certificate, second_order_stationary
from gpsense.symmetric import smat, svec
from gpsense.systems import (
    SYSTEMS,
    Digits,
    DigitsInstance,
    DigitsProblem,
    DigitsSpec,
    QuadraticNetwork,
    QuadraticNetworkInstance,
    QuadraticNetworkSpec,
    Rectangular,
    RectangularProblem,
    RectangularSpec,
    Sensing,
    SensingInstance,
    SensingProblem,
    SensingSetting,
    SensingSpec,
    System,
    sample_digits,
    sample_quadratic_network,
    sample_rectangular,
    sample_sensing,
)
from gpsense.truths import geometric_spectrum, low_rank_truth

__all__ = [
    "SYSTEMS",
    "BadInput",
    "Centred",
    "Certificate",
    "Dense",
    "DenseBlocks",
    "Digits",
    "DigitsInstance",
    "DigitsProblem",
    "DigitsSpec",
    "Distances",
    "Empirical",
    "Entries",
    "Gram",
    "IsometryBound",
    "Measurements",
    "Method",
    "Objective",
    "Population",
    "QuadraticNetwork",
    "QuadraticNetworkInstance",
    "QuadraticNetworkSpec",
    "RankOne",
    "Rates",
    "Recovery",
    "Rectangular",
    "RectangularProblem",
    "RectangularSpec",
    "Schedule",
    "Sensing",
    "SensingInstance",
    "SensingProblem",
    "SensingSetting",
    "SensingSpec",
    "StackedGram",
    "StackedPopulation",
    "System",
    "advance",
    "apply_mask",
    "begin",
    "centred_measurements",
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
    "rectangular_measurements",
    "run_cell",
    "run_sensing",
    "sample_digits",
    "sample_quadratic_network",
    "sample_rectangular",
    "sample_sensing",
    "second_order_stationary",
    "seed_keys",
    "sensing_loss",
    "smat",
    "smoothed_group_lasso",
    "stacked_gram",
    "svec",
    "theory",
    "threshold_mask",
    "weight_decay",
]
