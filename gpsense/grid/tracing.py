"""A phase is traced once for all systems that it cannot tell apart: those that are equal in every field it reads.

What a phase reads is seen while it is traced, on a copy of the system that notes its fields as they are read.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

from gpsense.fields import Field, declared
from gpsense.systems import AnySystem


class Reader:
    """A system whose fields are noted as they are read: ``system`` is the copy to use in its place."""

    def __init__(self, system: AnySystem):
        self.fields: Mapping[str, Field] = declared(type(system))
        self.system: AnySystem = object.__new__(_noting(type(system)))
        self._noted: set[str] = set()
        for name, value in {**vars(system), "_noted": self._noted}.items():
            object.__setattr__(self.system, name, value)
        self._original = system

    @contextmanager
    def noting(self) -> Iterator[set[str]]:
        """The names of the fields that are read meanwhile."""
        before, found = set(self._noted), set()
        self._noted.clear()
        yield found
        found |= self._noted
        self._noted |= before

    def values(self, names: set[str]) -> dict[str, Any]:
        """The values of fields; of a name, with the entry that it stands for."""
        return {name: self._value(name) for name in names}

    def equal(self, reads: Mapping[str, Any]) -> bool:
        """Whether the system has these values."""
        return all(_same(value, self._value(name)) for name, value in reads.items())

    def _value(self, name: str) -> Any:
        value, field = getattr(self._original, name), self.fields.get(name)
        entries = field.choices if field is not None else None
        return value, entries.get(value) if isinstance(entries, Mapping) and isinstance(value, str) else None


@cache
def _noting(system: type) -> type:
    """The system's class, whose objects note the fields that are read."""
    names = frozenset(declared(system))

    def read(self: Any, name: str) -> Any:
        if name in names or name == "__dict__":
            noted = object.__getattribute__(self, "__dict__").get("_noted", set())  # none in a copy of the copy
            noted.update({name} & names or names)
        return object.__getattribute__(self, name)

    return type(system.__name__, (system,), {"__getattribute__": read, "__module__": system.__module__})


def _same(value: tuple[Any, Any], other: tuple[Any, Any]) -> bool:
    """Whether two values are the same; functions and arrays are where they are one object."""
    (one, entry), (two, its) = value, other
    if entry is not its:
        return False
    plain = isinstance(one, bool | int | float | str | tuple) and type(one) is type(two)
    return one is two or (plain and one == two)


class Traces:
    """The traced phases of one run or of several, during which no code changes; ``counts`` how often each was."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._known: dict[tuple[Any, ...], list[tuple[Mapping[str, Any], Any]]] = {}
        self._lock = Lock()

    def once(self, name: str, key: tuple[Any, ...], reader: Reader, before: set[str], trace: Callable[[], Any]) -> Any:
        """What ``trace`` makes of a phase, or has made of it for a system that differs in nothing that it read.

        ``key``: what it depends on beside the system; ``before``: the fields that were read to set the phase up.
        """
        key = (name, *key)
        with self._lock:
            known = list(self._known.get(key, ()))
        for reads, made in known:
            if reader.equal(reads):
                return made
        with reader.noting() as names:
            made = trace()
        with self._lock:
            self.counts[name] += 1
            self._known.setdefault(key, []).append((reader.values(names | before), made))
        return made
