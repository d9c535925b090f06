"""Named axes of a grid, sorted by what they change: the program, the data, or neither.

A size (number of measurements, rank, width) is part of the program, unless the system can take it as a number below a
static bound: see :attr:`Grid.traced`.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod
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

    @cached_property
    def traced(self) -> frozenset[str]:
        """Axes over a size that the system takes as a traced number below a static bound, so that they share a program.

        Their fields stand in the Spec (the bound) and in Instance or Setting (the value).
        """
        spec, *others = self._roles()
        inside = {name for role in others for name in self.fields(role)}
        sizes = {a.name: a.values for a in self.axes if len(a) > 1 and a.name in self.fields(spec) and a.name in inside}
        fixed = [axis for axis in self.axes if axis.name in self.fields(spec) and axis.name not in sizes]
        settings = [len(a) for a in self.axes if a.name in self.fields(others[1]) and a.name not in self.fields(spec)]
        evaluations = prod(settings) * max(self.schedule.steps, 1)
        names = frozenset(sizes)
        for labels in _combinations(fixed) if sizes else []:
            bounds = self.spec_fields(labels | {name: max(values) for name, values in sizes.items()})
            names &= self.system.traceable(spec(**bounds), sizes, evaluations)
        return names

    def spec_fields(self, labels: dict[str, Any]) -> dict[str, Any]:
        """Fields of the Spec: constants, bounds of traced sizes, labels of a program; a width of None is dim."""
        spec = self.system.Spec
        fields = {name: value for name, value in self.constants.items() if name in self.fields(spec)} | labels
        if "width" in self.fields(spec) and fields.get("width") is None:
            fields["width"] = fields.get("dim", spec().dim)
        return fields

    def of(self, role: type) -> tuple[Axis, ...]:
        """The axes that vary in this class, in the order of the class."""
        known = {axis.name: axis for axis in self.axes}
        return tuple(known[name] for name in self.fields(role) if name in known and self._varies(name, role))

    def _varies(self, name: str, role: type) -> bool:
        spec = self.system.Spec
        return (name in self.traced) != (role is spec) if name in self.fields(spec) else True

    def constants_of(self, role: type) -> dict[str, Any]:
        """The constants of an Instance or Setting."""
        spec = self.fields(self.system.Spec)
        names = [name for name in self.fields(role) if name in self.constants and name not in spec]
        return {name: self.constants[name] for name in names}

    def labels(self, role: type) -> list[dict[str, Any]]:
        """Every combination of this class's axes, last axis fastest."""
        return _combinations(self.of(role))

    @cached_property
    def outer(self) -> list[tuple[int, dict[str, Any]]]:
        """Seeds x instances: (seed, instance fields), instances fastest."""
        return list(product(self.seeds.values, self.labels(self.system.Instance)))

    @cached_property
    def inner(self) -> list[dict[str, Any]]:
        """The settings of a problem."""
        return self.labels(self.system.Setting)

    def dimensions(self) -> tuple[Axis, ...]:
        """All axes in the order of the result: programs, seed, instances, settings."""
        spec, instance, setting = self._roles()
        return (*self.of(spec), self.seeds, *self.of(instance), *self.of(setting))


def _combinations(axes: Sequence[Axis]) -> list[dict[str, Any]]:
    names = [axis.name for axis in axes]
    return [dict(zip(names, values, strict=True)) for values in product(*(axis.values for axis in axes))]
