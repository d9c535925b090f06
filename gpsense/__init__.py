"""gpsense: train, prune greedily, fine-tune, and measure when that generalises.

Pure functions of arrays make up one experiment; :mod:`gpsense.grid` runs whole grids of experiments, and
``python -m launch.grid`` does so from a config, with files, progress and figures. Names are imported when first used.
Examples in docstrings assume that ``jax``, ``jax.numpy as jnp``, ``numpy as np`` and ``gpsense`` are imported.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from gpsense import theory
    from gpsense.descent import Method, Rates, Target, advance_descent, start_descent
    from gpsense.errors import BadInput
    from gpsense.estimators import find_tickets, fit_sparse, recover
    from gpsense.fields import Field
    from gpsense.grid import Axis, Grid, run_grid
    from gpsense.grid.sweep import sweep
    from gpsense.keys import seed_keys
    from gpsense.penalties import group_lasso, smoothed_group_lasso, weight_decay
    from gpsense.pipeline import Schedule, run_cell
    from gpsense.pruning import apply_mask, column_norms, compact, threshold_mask
    from gpsense.pruning.inputs import gradient_scores
    from gpsense.pruning.weights import keep_largest
    from gpsense.sensing.losses import Empirical, population_loss, sensing_loss
    from gpsense.sensing.measurements import (
        Distances,
        Entries,
        Measurements,
        RankOne,
        dense_measurements,
        gaussian_measurements,
    )
    from gpsense.sensing.truths import low_rank_truth
    from gpsense.stationarity import certificate
    from gpsense.systems import SYSTEMS, Measure, System
    from gpsense.systems.diabetes import Diabetes
    from gpsense.systems.digits import Digits
    from gpsense.systems.images import Images
    from gpsense.systems.own import TrainPruneFineTune
    from gpsense.systems.quadratic_network import QuadraticNetwork
    from gpsense.systems.rectangular import Rectangular
    from gpsense.systems.sensing import Sensing
    from gpsense.systems.sparse_features import SparseFeatures
    from gpsense.systems.teacher_student import TeacherStudent

_HOMES = {
    "gpsense.descent": ("Method", "Rates", "Target", "advance_descent", "start_descent"),
    "gpsense.errors": ("BadInput",),
    "gpsense.estimators": ("find_tickets", "fit_sparse", "recover"),
    "gpsense.fields": ("Field",),
    "gpsense.grid": ("Axis", "Grid", "run_grid"),
    "gpsense.grid.sweep": ("sweep",),
    "gpsense.keys": ("seed_keys",),
    "gpsense.penalties": ("group_lasso", "smoothed_group_lasso", "weight_decay"),
    "gpsense.pipeline": ("Schedule", "run_cell"),
    "gpsense.pruning": ("apply_mask", "column_norms", "compact", "threshold_mask"),
    "gpsense.pruning.inputs": ("gradient_scores",),
    "gpsense.pruning.weights": ("keep_largest",),
    "gpsense.sensing.losses": ("Empirical", "population_loss", "sensing_loss"),
    "gpsense.sensing.measurements": (
        "Distances",
        "Entries",
        "Measurements",
        "RankOne",
        "dense_measurements",
        "gaussian_measurements",
    ),
    "gpsense.sensing.truths": ("low_rank_truth",),
    "gpsense.stationarity": ("certificate",),
    "gpsense.systems": ("SYSTEMS", "Measure", "System"),
    "gpsense.systems.diabetes": ("Diabetes",),
    "gpsense.systems.digits": ("Digits",),
    "gpsense.systems.images": ("Images",),
    "gpsense.systems.own": ("TrainPruneFineTune",),
    "gpsense.systems.quadratic_network": ("QuadraticNetwork",),
    "gpsense.systems.rectangular": ("Rectangular",),
    "gpsense.systems.sensing": ("Sensing",),
    "gpsense.systems.sparse_features": ("SparseFeatures",),
    "gpsense.systems.teacher_student": ("TeacherStudent",),
}
_PLACES = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "SYSTEMS",
    "Axis",
    "BadInput",
    "Diabetes",
    "Digits",
    "Distances",
    "Empirical",
    "Entries",
    "Field",
    "Grid",
    "Images",
    "Measure",
    "Measurements",
    "Method",
    "QuadraticNetwork",
    "RankOne",
    "Rates",
    "Rectangular",
    "Schedule",
    "Sensing",
    "SparseFeatures",
    "System",
    "Target",
    "TeacherStudent",
    "TrainPruneFineTune",
    "advance_descent",
    "apply_mask",
    "certificate",
    "column_norms",
    "compact",
    "dense_measurements",
    "find_tickets",
    "fit_sparse",
    "gaussian_measurements",
    "gradient_scores",
    "group_lasso",
    "keep_largest",
    "low_rank_truth",
    "population_loss",
    "recover",
    "run_cell",
    "run_grid",
    "seed_keys",
    "sensing_loss",
    "smoothed_group_lasso",
    "start_descent",
    "sweep",
    "theory",
    "threshold_mask",
    "weight_decay",
]


def __getattr__(name: str) -> Any:
    """A public name, imported from its module when first used."""
    if name == "theory":
        return import_module("gpsense.theory")
    if name == "__version__":
        return _version()
    if name not in _PLACES:
        raise AttributeError(f"module 'gpsense' has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def _version() -> str:
    """The installed version, or ``(not installed)`` where the package is used without being installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("gpsense")
    except PackageNotFoundError:
        return "(not installed)"


def __dir__() -> list[str]:
    return sorted((*globals(), *__all__))
