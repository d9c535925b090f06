"""The systems, which are kinds of experiments: one subclass of :class:`System` per file, imported when first used."""

from collections import UserDict
from importlib import import_module
from typing import Any

from gpsense.systems._contract import AnySystem, Cost, Evaluator, Learner, Measure, Measures, System


class Systems(UserDict[str, Any]):
    """The system classes by name; add your own. An entry may be text, ``module:Class``, imported when it is first read.

    >>> sorted(gpsense.SYSTEMS)[:3], gpsense.SYSTEMS["sensing"] is gpsense.Sensing
    (['diabetes', 'digits', 'images'], True)
    """

    def __getitem__(self, name: str) -> type[AnySystem]:
        entry = self.data[name]
        if isinstance(entry, str):
            module, _, attribute = entry.partition(":")
            entry = self.data[name] = getattr(import_module(module), attribute)
        return entry

    def holds(self, system: AnySystem) -> bool:
        """Whether the class of this system is registered here; nothing is imported."""
        kind = type(system)
        return any(entry in (kind, f"{kind.__module__}:{kind.__name__}") for entry in self.data.values())


SYSTEMS = Systems(
    {
        "sensing": "gpsense.systems.sensing:Sensing",
        "rectangular": "gpsense.systems.rectangular:Rectangular",
        "quadratic_network": "gpsense.systems.quadratic_network:QuadraticNetwork",
        "digits": "gpsense.systems.digits:Digits",
        "sparse_features": "gpsense.systems.sparse_features:SparseFeatures",
        "diabetes": "gpsense.systems.diabetes:Diabetes",
        "teacher_student": "gpsense.systems.teacher_student:TeacherStudent",
        "images": "gpsense.systems.images:Images",
        "patches": "gpsense.systems.patches:Patches",
    }
)

__all__ = ["SYSTEMS", "AnySystem", "Cost", "Evaluator", "Learner", "Measure", "Measures", "System", "Systems"]
