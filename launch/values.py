"""The values of an axis, from what people write: one value, lists, and ranges.

``0.1``, a YAML list, ``0,1e-2,1e-1``, ``log:1e-3:1e-1:5`` (five values, evenly spaced in the log), ``lin:0:1:11`` or
``range:0:16``. Errors are ValueErrors whose text says what to write instead.
"""

import json
import math
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import core_schema

MOST = 100_000


@dataclass(frozen=True)
class Values:
    """The values of an axis; ``listed`` says whether they were given as a list (then they are a dimension)."""

    values: tuple[Any, ...]
    listed: bool


def expand(raw: Any) -> tuple[list[Any], bool]:
    """Raw config text or YAML to a list of values and whether it was a list; ValueError says what is wrong."""
    if isinstance(raw, Values):
        return list(raw.values), raw.listed
    if isinstance(raw, (list, tuple)):
        return [item for part in raw for item in _scalars(part)], True
    if isinstance(raw, str) and (":" in raw or "," in raw):
        return _scalars(raw), True
    return _scalars(raw), False


def _scalars(raw: Any) -> list[Any]:
    """One entry of an axis to its values."""
    if isinstance(raw, (bool, dict, list)) or raw is None:
        raise ValueError(f"an axis takes numbers or names, not {shown(raw)}")
    if not isinstance(raw, str):
        return [raw]
    kind, _, rest = raw.partition(":")
    if not rest:
        return [part.strip() for part in raw.split(",") if part.strip()]
    forms = {"log": _log, "lin": _lin, "range": _range}
    if kind not in forms:
        raise ValueError(f"'{raw}' is no range; write log:low:high:count, lin:low:high:count or range:start:stop")
    try:
        return forms[kind](*rest.split(":"))
    except (TypeError, ValueError) as error:
        usage = {
            "log": f"log:low:high:count with 0 < low < high and count from 2 to {MOST}",
            "lin": f"lin:low:high:count with count from 2 to {MOST}",
            "range": f"range:start:stop of at most {MOST} numbers",
        }
        raise ValueError(f"'{raw}' is no range; write {usage[kind]}") from error


def _spaced(low: float, high: float, count: str) -> list[float]:
    n = int(count)
    if not 2 <= n <= MOST:
        raise ValueError
    return [low + (high - low) * i / (n - 1) for i in range(n)]


def _lin(low: str, high: str, count: str) -> list[float]:
    a, b = float(low), float(high)
    return [a, *(float(f"{value:.12g}") for value in _spaced(a, b, count)[1:-1]), b]


def _log(low: str, high: str, count: str) -> list[float]:
    a, b = float(low), float(high)
    return [a, *(float(f"{math.exp(value):.12g}") for value in _spaced(math.log(a), math.log(b), count)[1:-1]), b]


def _range(start: str, stop: str) -> list[int]:
    first, end = int(start), int(stop)
    if end - first > MOST:
        raise ValueError
    return list(range(first, end))


def shown(raw: Any) -> str:
    """Input quoted in a refusal, cut to a readable length."""
    text = json.dumps(raw, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def checked(adapter: TypeAdapter[Any], raw: Any) -> Any:
    """A value as the adapter reads it; ValueError says what is wrong."""
    try:
        return adapter.validate_python(raw)
    except ValidationError as error:
        raise ValueError(f"{error.errors()[0]['msg']}, got {shown(raw)}") from error


@dataclass(frozen=True)
class AxisOf:
    """Marks a field as an axis over items of a type, and checks them one by one."""

    item: Any
    optional: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        dump = core_schema.plain_serializer_function_ser_schema(self._dump)
        return core_schema.no_info_plain_validator_function(self._parse, serialization=dump)

    def _parse(self, raw: Any) -> Values | None:
        if raw is None and self.optional:
            return None
        items, listed = expand(raw)
        if not items:
            raise ValueError("the axis is empty; give at least one value")
        read = [checked(_adapter(self.item), value) for value in items]
        if len(set(read)) < len(read):
            raise ValueError("the axis repeats a value; list each value once")
        return Values(tuple(read), listed)

    @staticmethod
    def _dump(axis: Values | None) -> Any:
        return None if axis is None else list(axis.values) if axis.listed else axis.values[0]


@cache
def _adapter(item: Any) -> TypeAdapter[Any]:
    return TypeAdapter(item)


def no_bool(raw: Any) -> Any:
    """YAML's true and false are no numbers."""
    if isinstance(raw, bool):
        raise ValueError(f"give a number, not {json.dumps(raw)}")
    return raw


def whole(raw: Any) -> Any:
    """``1e3`` is how people write 1000, and how PyYAML hands it over as text."""
    raw = no_bool(raw)
    try:
        number = float(raw) if isinstance(raw, str) else None
    except ValueError:
        return raw
    return int(number) if number is not None and number.is_integer() else raw
