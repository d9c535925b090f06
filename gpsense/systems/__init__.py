"""Systems of the papers, one per file, all behind the contract of :class:`System`."""

from gpsense.systems._contract import Cost, System
from gpsense.systems.sensing import (
    Sensing,
    SensingInstance,
    SensingProblem,
    SensingSetting,
    SensingSpec,
    sample_sensing,
)

SYSTEMS: dict[str, System] = {"sensing": Sensing()}

__all__ = [
    "SYSTEMS",
    "Cost",
    "Sensing",
    "SensingInstance",
    "SensingProblem",
    "SensingSetting",
    "SensingSpec",
    "System",
    "sample_sensing",
]
