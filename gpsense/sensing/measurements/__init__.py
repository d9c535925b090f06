"""Linear maps from symmetric matrices to values, one ensemble per file."""

from gpsense.sensing.measurements._base import Measurements
from gpsense.sensing.measurements.centred import Centred, centred_measurements
from gpsense.sensing.measurements.dense import Dense, dense_measurements, gaussian_measurements
from gpsense.sensing.measurements.distances import Distances
from gpsense.sensing.measurements.entries import Entries
from gpsense.sensing.measurements.rank_one import RankOne, rank_one_measurements
from gpsense.sensing.measurements.rectangular import DenseBlocks, rectangular_measurements

__all__ = [
    "Centred",
    "Dense",
    "DenseBlocks",
    "Distances",
    "Entries",
    "Measurements",
    "RankOne",
    "centred_measurements",
    "dense_measurements",
    "gaussian_measurements",
    "rank_one_measurements",
    "rectangular_measurements",
]
