"""Named axes of a grid, sorted by what they change: the program, the data, or neither.

A size (number of measurements, rank, width) is part of the program, unless the system can take it as a traced number
with a static upper bound: see :attr:`Grid.traced`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from math import isfinite, prod
from typing import Any

import jax.numpy as jnp

from gpsense.errors import BadInput
from gpsense.fields import Field, as_plain, declared, nearest, shown, verify_read
from gpsense.keys import MOST_SEED, MOST_SEEDS
from gpsense.pipeline import Schedule
from gpsense.systems import AnySystem, System


@dataclass(frozen=True)
class Axis:
    """The values of one field in a grid.

    ``listed``: whether the axis is a dimension of the results, even with a single value; if False, its one value is
    stored as a scalar coordinate.

    >>> axis = gpsense.Axis("noise", [0.1, 0.2, 0.5])
    >>> axis.values, len(axis)
    ((0.1, 0.2, 0.5), 3)
    """

    name: str
    values: tuple[Any, ...]
    listed: bool = True

    def __post_init__(self) -> None:
        given = self.values
        if not isinstance(self.name, str):
            raise BadInput("name", f"{shown(self.name)} is not the name of a field", f"write {_EXAMPLE}")
        if isinstance(given, Mapping | Set | Iterator):
            raise BadInput(self.name, f"a {type(given).__name__} is not a list of values", "give a list or a tuple")
        if isinstance(given, str | bytes) or not isinstance(given, Iterable) or getattr(given, "ndim", 1) == 0:
            raise BadInput(self.name, f"{shown(given)} is not a list of values", f"give ({_as_number(given)},)")
        object.__setattr__(self, "values", tuple(as_plain(value) for value in given))
        if not self.values:
            raise BadInput(self.name, "the axis is empty", "give at least one value")
        if wrong := [value for value in self.values if not _hashable(value)]:
            raise BadInput(self.name, f"{shown(wrong[0])} is not a single value", "give one number or name for each")
        if len(set(self.values)) < len(self.values):
            raise BadInput(self.name, "the axis repeats a value", "list each value once")

    def __len__(self) -> int:
        return len(self.values)


MOST_CELLS = 10**8
CHECKED = 20_000  # combinations of data values that a system checks one by one; of more, only those of _ends
_EXAMPLE = 'Axis("noise", [0.1, 0.2])'


def _as_number(given: Any) -> str:
    """The value as written in Python, without quotes if it is text that reads as a number."""
    try:
        number = float(given)
    except (TypeError, ValueError):
        return shown(given)
    return given if isinstance(given, str) and isfinite(number) else shown(given)


def _hashable(value: Any) -> bool:
    """Whether a value is hashable: a number, a name, a tuple of these, a function."""
    try:
        hash(value)
    except TypeError:
        return False
    return True


SEED = Field("run", "seeds: how many, or a list", at_least=0, at_most=MOST_SEED, name="seeds", kind="whole")


def seeds_axis(seeds: "int | Sequence[int] | Axis") -> Axis:
    """The axis of ``seeds``: their number (0, 1, ... are used), a list or an Axis; BadInput for anything else."""
    if isinstance(seeds, Axis):
        return Axis("seed", tuple(SEED.check(seed) for seed in seeds.values), seeds.listed)
    if (isinstance(seeds, Sequence) and not isinstance(seeds, str)) or getattr(seeds, "ndim", 0) == 1:
        listed = Axis("seeds", tuple(SEED.check(seed) for seed in seeds))  # pyright: ignore[reportGeneralTypeIssues]
        return replace(listed, name="seed")
    count = replace(SEED, at_least=1, at_most=MOST_SEEDS).check(seeds)
    return Axis("seed", tuple(range(count)))


@dataclass(frozen=True, eq=False)
class Grid:
    """A system, its schedule, axes over fields of the system, its Data or its Setting, seeds, and constants.

    A system's own fields are static (compiled in), those of its Data change the problem drawn, those of its Setting do
    not. ``system`` gives the static fields that are not axes, and ``axes`` the fields that vary. ``constants`` gives
    other fields of the system, its Data or its Setting one value each, which may be an array, such as a given truth.
    ``seeds``: how many, a list, or an Axis. Raises BadInput for a field that the system does not have, for one given
    twice, and for an invalid value.

    >>> axes = (gpsense.Axis("penalty", [0.1, 0.2]), gpsense.Axis("noise", [0.0, 0.1, 0.5]))
    >>> grid = gpsense.Grid(gpsense.Sensing(dim=20), seeds=8, axes=axes)
    >>> [len(axis) for axis in (grid.seeds, *grid.axes)]
    [8, 2, 3]
    """

    system: AnySystem
    schedule: Schedule = field(default_factory=Schedule)
    seeds: Any = 1
    axes: tuple[Axis, ...] = ()
    constants: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.system, System):
            raise BadInput("system", f"{self.system!r} is not a system", "give an instance, such as Sensing(dim=20)")
        put = lambda name, value: object.__setattr__(self, name, value)  # noqa: E731
        put("seeds", seeds_axis(self.seeds))
        self._check_types()
        names = [axis.name for axis in self.axes] + list(self.constants)
        for name in names:
            if name not in self.known:
                near = nearest(str(name), self.known)
                raise BadInput(str(name), f"system {self.system.name} has no such field", near or "remove it")
            if names.count(name) > 1:
                raise BadInput(name, "it is given twice", "give one axis or one constant for each field")
        put("axes", tuple(Axis(a.name, tuple(map(self.known[a.name].check, a.values)), a.listed) for a in self.axes))
        put("constants", {name: self.known[name].check(value) for name, value in self.constants.items()})
        cells = prod(map(len, (self.seeds, *self.axes)))
        if cells > MOST_CELLS:
            longest = max((self.seeds, *self.axes), key=len)
            problem = f"{cells:.3g} combinations of the axes, {MOST_CELLS:.0e} allowed"
            field = "seeds" if longest is self.seeds else longest.name
            raise BadInput(field, problem, f"give this axis fewer than {len(longest)} values")
        given = {a.name: a.values for a in self.axes} | {name: (v,) for name, v in self.constants.items()}
        first = {name: values[0] for name, values in given.items() if name in self.static}
        put("system", replace(self.system, **first | self.system.implied(given)))
        self._check_data()

    def _check_types(self) -> None:
        """Raises BadInput for a schedule, axes or constants of the wrong type."""
        if not isinstance(self.schedule, Schedule):
            remedy = "give Schedule(train_steps, fine_tune_steps, record_every)"
            raise BadInput("schedule", f"{shown(self.schedule)} is not a Schedule", remedy)
        if not isinstance(self.axes, list | tuple):
            remedy = f"give ({_EXAMPLE},)"
            raise BadInput("axes", f"{shown(self.axes)} is not a list of axes", remedy)
        if wrong := [axis for axis in self.axes if not isinstance(axis, Axis)]:
            raise BadInput("axes", f"{shown(wrong[0])} is not an Axis", f"write {_EXAMPLE}")
        if not isinstance(self.constants, Mapping):
            raise BadInput("constants", f"{shown(self.constants)} is not a mapping", "give {field: value}")

    def _check_data(self) -> None:
        """Has every program's system check the combinations of data values (of many, only those of :func:`_ends`)."""
        system, data = type(self.system), self.system.Data
        if system.check_data is System.check_data:
            return
        static = [axis for axis in self.axes if axis.name in self.static]
        numbers = [axis for axis in self.axes if axis.name in self.fields(data) and axis.name not in self.static]
        same = {name: value for name, value in self.constants.items() if name in self.fields(data)}
        same = {name: value for name, value in same.items() if name not in self.static}
        for labels in Combinations(static):
            one = replace(self.system, **labels)
            several = Combinations(numbers)
            for values in several if len(several) <= CHECKED else _ends(numbers):
                one.check_data(data(**same, **values))

    def verify_read(self) -> None:
        """Raises BadInput for a field that differs from its default but has no effect on any cell."""
        values = {name: (value,) for name, value in self.single().items()} | {a.name: a.values for a in self.axes}
        for name, one in self.known.items():
            if one.read_by and any(value != one.default for value in values[name]):
                verify_read(name, self.known, values)

    @cached_property
    def static(self) -> Mapping[str, Field]:
        """The system's own fields by name."""
        return declared(type(self.system), "static")

    @cached_property
    def known(self) -> Mapping[str, Field]:
        """All fields by name; for a size declared in two classes, the system's declaration."""
        data, setting = declared(self.system.Data, "data"), declared(self.system.Setting, "setting")
        return {**data, **setting, **self.static}

    @staticmethod
    def fields(role: type) -> tuple[str, ...]:
        """Field names of a system, Data or Setting class, in order."""
        return tuple(declared(role))

    @cached_property
    def traced(self) -> frozenset[str]:
        """The names of the traced size axes: all values of such an axis share one program, compiled for the largest.

        Each names a field of the system (the bound) and also a field of Data or Setting (the value).
        """
        data, setting = self.fields(self.system.Data), self.fields(self.system.Setting)
        sizes = {
            a.name: a.values for a in self.axes if len(a) > 1 and a.name in self.static and a.name in (*data, *setting)
        }
        fixed = [axis for axis in self.axes if axis.name in self.static and axis.name not in sizes]
        settings = [len(a) for a in self.axes if a.name in setting and a.name not in self.static]
        evaluations = prod(settings) * max(self.schedule.steps, 1)
        names = frozenset(sizes)
        for labels in Combinations(fixed) if sizes else []:
            bounds = self.program(labels | {name: max(values) for name, values in sizes.items()})
            names &= bounds.traceable(sizes, evaluations)
        return names

    def program(self, labels: Mapping[str, Any]) -> AnySystem:
        """The system of one program; ``labels``: values of its static axes and bounds of its traced sizes."""
        return replace(self.system, **labels)

    def programs(self) -> Iterator[tuple[dict[str, Any], AnySystem]]:
        """The labels and the resolved system of every program; each combination of traced sizes is checked first."""
        sizes = {axis.name: axis.values for axis in self.axes if axis.name in self.traced}
        evaluations = len(self.inner) * max(self.schedule.steps, 1)
        for labels in self.labels(type(self.system)):
            for values in product(*sizes.values()):
                self.program(labels | dict(zip(sizes, values, strict=True)))
            bounds = {name: max(values) for name, values in sizes.items()}
            yield labels, self.program(labels | bounds).resolve(evaluations)

    def of(self, role: type) -> tuple[Axis, ...]:
        """The axes over fields of ``role`` (class of the system, its Data or its Setting), in the order of its fields.

        A traced size counts as a field of Data or Setting, not of the system.
        """
        axes = {axis.name: axis for axis in self.axes}
        return tuple(axes[name] for name in self.fields(role) if name in axes and self._varies(name, role))

    def _varies(self, name: str, role: type) -> bool:
        return (name in self.traced) != (role is type(self.system)) if name in self.static else True

    def constants_of(self, role: type) -> dict[str, Any]:
        """The constants of a Data or Setting class."""
        names = [name for name in self.fields(role) if name in self.constants and name not in self.static]
        return {name: self.constants[name] for name in names}

    def labels(self, role: type) -> "Combinations":
        """Every combination of the values of the axes over fields of ``role``, last axis fastest."""
        return Combinations(self.of(role))

    @cached_property
    def outer(self) -> "Combinations":
        """Every combination of seed and data, as (seed, {field of Data: value}), the seed slowest."""
        return Combinations(self.of(self.system.Data), self.seeds)

    @cached_property
    def inner(self) -> "Combinations":
        """Every setting that is run on each problem, as {field of Setting: value}."""
        return self.labels(self.system.Setting)

    def dimensions(self) -> tuple[Axis, ...]:
        """All axes in the order of the result: programs, seed, data, settings."""
        return (*self.of(type(self.system)), self.seeds, *self.of(self.system.Data), *self.of(self.system.Setting))

    def traced_dtype(self, name: str) -> Any:
        """The dtype in which a number is traced: int32 for whole numbers, else the system's precision."""
        return jnp.dtype("int32") if self.known[name].integer else jnp.dtype(self.system.dtype)

    def single(self) -> dict[str, Any]:
        """The values that are the same in every cell, by field: the one given, else the default, which may be None."""
        axes = {axis.name for axis in self.axes}
        values = {}
        for role in (self.system.Setting, self.system.Data):
            values |= {name: one.default for name, one in declared(role).items()} | self.constants_of(role)
        values |= {name: getattr(self.system, name) for name in self.static}
        return {name: value for name, value in values.items() if name not in axes}


class Combinations(Sequence[Any]):
    """Every combination of the values of axes as ``{name: value}``, last axis fastest; each is made on demand.

    With ``seeds``, each is ``(seed, {name: value})``, the seed slowest.
    """

    def __init__(self, axes: Sequence[Axis], seeds: Axis | None = None):
        self._names = [axis.name for axis in axes]
        self._values = [*([seeds.values] if seeds else []), *(axis.values for axis in axes)]
        self._seeded = seeds is not None

    def __len__(self) -> int:
        return prod(map(len, self._values))

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place, picked = range(len(self))[index], []
        for values in reversed(self._values):
            place, inside = divmod(place, len(values))
            picked.append(values[inside])
        return self._named(tuple(reversed(picked)))

    def __iter__(self) -> Iterator[Any]:
        return map(self._named, product(*self._values))

    def _named(self, picked: tuple[Any, ...]) -> Any:
        if self._seeded:
            return picked[0], dict(zip(self._names, picked[1:], strict=True))
        return dict(zip(self._names, picked, strict=True))


def _ends(axes: Sequence[Axis]) -> Iterator[dict[str, Any]]:
    """Each value of each axis with all other axes at their first values, then each with all others at their last."""
    for end in (0, -1):
        others = {axis.name: axis.values[end] for axis in axes}
        for axis in axes:
            yield from (others | {axis.name: value} for value in axis.values)
