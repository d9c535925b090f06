"""Linear maps from symmetric matrices to values, one ensemble per file."""

from gpsense.measurements._base import Measurements
from gpsense.measurements.centred import Centred, centred_measurements
from gpsense.measurements.dense import Dense, dense_measurements, gaussian_measurements
from gpsense.measurements.distances import Distances
from gpsense.measurements.entries import Entries
from gpsense.measurements.rank_one import RankOne, rank_one_measurements
from gpsense.measurements.rectangular import DenseBlocks, rectangular_measurements

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
