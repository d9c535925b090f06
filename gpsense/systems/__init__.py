"""Systems of the papers, one per file, all behind the contract of :class:`System`."""

from gpsense.systems._contract import Cost, System
from gpsense.systems.rectangular import Rectangular, RectangularProblem, RectangularSpec, sample_rectangular
from gpsense.systems.sensing import (
    Sensing,
    SensingInstance,
    SensingProblem,
    SensingSetting,
    SensingSpec,
    sample_sensing,
)

SYSTEMS: dict[str, System] = {"sensing": Sensing(), "rectangular": Rectangular()}

__all__ = [
    "SYSTEMS",
    "Cost",
    "Rectangular",
    "RectangularProblem",
    "RectangularSpec",
    "Sensing",
    "SensingInstance",
    "SensingProblem",
    "SensingSetting",
    "SensingSpec",
    "System",
    "sample_rectangular",
    "sample_sensing",
]
