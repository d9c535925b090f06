"""Linear maps from symmetric matrices to values, one ensemble per file.

A random ensemble registers itself in :data:`ENSEMBLES`; every file of this folder is imported, so that a new one needs
no other edit.
"""

from importlib import import_module
from pkgutil import iter_modules

from gpsense.sensing.measurements._base import ENSEMBLES, Ensemble, Measurements
from gpsense.sensing.measurements.centred import Centred, centred_measurements
from gpsense.sensing.measurements.dense import Dense, dense_measurements, gaussian_measurements
from gpsense.sensing.measurements.distances import Distances
from gpsense.sensing.measurements.entries import Entries
from gpsense.sensing.measurements.rank_one import RankOne, rank_one_measurements
from gpsense.sensing.measurements.rectangular import DenseBlocks, rectangular_measurements

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = [
    "ENSEMBLES",
    "Centred",
    "Dense",
    "DenseBlocks",
    "Distances",
    "Ensemble",
    "Entries",
    "Measurements",
    "RankOne",
    "centred_measurements",
    "dense_measurements",
    "gaussian_measurements",
    "rank_one_measurements",
    "rectangular_measurements",
]
