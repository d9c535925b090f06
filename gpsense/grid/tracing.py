"""Traces a phase only once for all systems that are equal in every field that the phase reads.

Which fields it reads is found while it is traced, with a copy of the system that records them as they are read.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import Any

from gpsense.fields import Field, declared
from gpsense.systems import AnySystem


class Reader:
    """A system to trace phases with; ``reading`` gives a copy that records which of its fields are read."""

    def __init__(self, system: AnySystem):
        self.fields: Mapping[str, Field] = declared(type(system))
        self._system, self._class = system, _noting(type(system), frozenset(self.fields))

    @contextmanager
    def reading(self) -> Iterator[tuple[AnySystem, set[str]]]:
        """A copy of the system, and the set of the names of its fields that have been read.

        Any other attribute of a system may depend on every field, so reading it counts as reading all fields.
        """
        copy, noted = object.__new__(self._class), set[str]()
        for name, value in {**vars(self._system), "_noted": noted}.items():
            object.__setattr__(copy, name, value)
        yield copy, noted

    def values(self, names: set[str]) -> dict[str, Any]:
        """Each named field's value, paired with the entry of the field's ``choices`` under that value (else None)."""
        return {name: self._value(name) for name in names}

    def equal(self, reads: Mapping[str, Any]) -> bool:
        """Whether the system has these values, as :meth:`values` gives them."""
        return all(_same(value, self._value(name)) for name, value in reads.items())

    def _value(self, name: str) -> Any:
        value, field = getattr(self._system, name), self.fields.get(name)
        entries = field.choices if field is not None else None
        return value, entries.get(value) if isinstance(entries, Mapping) and isinstance(value, str) else None


def _noting(system: type, names: frozenset[str]) -> type:
    """A subclass of the system's class whose objects record the fields that are read."""

    def read(self: Any, name: str) -> Any:
        own = object.__getattribute__(self, "__dict__")
        if name in names or name in own or name == "__dict__":
            own.get("_noted", set()).update({name} & names or names)  # a copy of the copy records nothing
        return object.__getattribute__(self, name)

    return type(system.__name__, (system,), {"__getattribute__": read, "__module__": system.__module__})


def _same(value: tuple[Any, Any], other: tuple[Any, Any]) -> bool:
    """Whether two (value, entry) pairs are the same; functions and arrays are the same only if they are one object."""
    (one, entry), (two, its) = value, other
    if entry is not its:
        return False
    plain = isinstance(one, bool | int | float | str | tuple) and type(one) is type(two)
    return one is two or (plain and one == two)


class Traces:
    """The traced phases of one or several runs, during which code must not change; ``counts``: traces per phase."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._known: dict[tuple[Any, ...], list[tuple[Mapping[str, Any], Any]]] = {}
        self._lock = Lock()

    def once(self, name: str, key: tuple[Any, ...], reader: Reader, trace: Callable[[AnySystem], Any]) -> Any:
        """The result of ``trace`` for a phase of a system; reused if all fields that it read had the same values.

        ``key``: what the result depends on besides the system.
        """
        key = (name, *key)
        with self._lock:
            known = list(self._known.get(key, ()))
        for reads, made in known:
            if reader.equal(reads):
                return made
        with reader.reading() as (system, names):
            made = trace(system)
        with self._lock:
            self.counts[name] += 1
            self._known.setdefault(key, []).append((reader.values(names), made))
        return made
