"""Named axes of a grid, sorted by what they change: the program, the data, or neither."""

import dataclasses
from dataclasses import dataclass
from itertools import product
from typing import Any

from gpsense.errors import BadInput
from gpsense.pipeline import Schedule
from gpsense.systems import System


@dataclass(frozen=True)
class Axis:
    """Values of one field. ``listed`` axes are dimensions of the result; a number given alone is a coordinate."""

    name: str
    values: tuple[Any, ...]
    listed: bool = True

    def __post_init__(self) -> None:
        if not self.values:
            raise BadInput(self.name, "the axis is empty", "give at least one value")
        if len(set(self.values)) < len(self.values):
            raise BadInput(self.name, "the axis repeats a value", "list each value once")

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, eq=False)
class Grid:
    """Axes over the fields of a system's Spec, Instance and Setting, the seeds, and what is the same in every cell.

    ``constants`` holds fields that are no axis: arrays such as a given truth, or names such as the dtype. Raises
    BadInput for a field that the system does not have.
    """

    system: System
    schedule: Schedule
    seeds: Axis
    axes: tuple[Axis, ...]
    constants: dict[str, Any]

    def __post_init__(self) -> None:
        for name in [axis.name for axis in self.axes] + list(self.constants):
            if not any(name in self.fields(role) for role in self._roles()):
                raise BadInput(name, f"system {self.system.name} has no such field", "remove it")

    def _roles(self) -> tuple[type, type, type]:
        return self.system.Spec, self.system.Instance, self.system.Setting

    @staticmethod
    def fields(role: type) -> tuple[str, ...]:
        """Field names of a Spec, Instance or Setting class, in order."""
        return tuple(field.name for field in dataclasses.fields(role))

    def of(self, role: type) -> tuple[Axis, ...]:
        """The axes whose field stands in this class, in the order of the class."""
        known = {axis.name: axis for axis in self.axes}
        return tuple(known[name] for name in self.fields(role) if name in known)

    def constants_of(self, role: type) -> dict[str, Any]:
        """The constants whose field stands in this class."""
        return {name: value for name, value in self.constants.items() if name in self.fields(role)}

    def labels(self, role: type) -> list[dict[str, Any]]:
        """Every combination of this class's axes, last axis fastest."""
        axes = self.of(role)
        return [dict(zip([a.name for a in axes], values, strict=True)) for values in product(*(a.values for a in axes))]

    def outer(self) -> list[tuple[int, dict[str, Any]]]:
        """Seeds x instances: (seed, instance fields), instances fastest."""
        return list(product(self.seeds.values, self.labels(self.system.Instance)))

    def dimensions(self) -> tuple[Axis, ...]:
        """All axes in the order of the result: programs, seed, instances, settings."""
        spec, instance, setting = self._roles()
        return (*self.of(spec), self.seeds, *self.of(instance), *self.of(setting))
