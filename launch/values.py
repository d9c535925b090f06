"""Reads the values of an axis as a user writes them: one value, a list or a range.

``0.1``, a YAML list, ``0,1e-2,1e-1``, ``log:1e-3:1e-1:5`` (five values, evenly spaced in the log), ``lin:0:1:11`` or
``range:0:16`` (0 to 15). Errors are ValueErrors whose text says what to write instead.
"""

import math
from dataclasses import dataclass
from typing import Any

MOST = 100_000


@dataclass(frozen=True)
class Values:
    """The values of an axis; ``listed`` says whether they were given as a list (then they are a dimension)."""

    values: tuple[Any, ...]
    listed: bool


def expand(raw: Any) -> tuple[list[Any], bool]:
    """The values in a raw config text or YAML value, and whether it was a list; ValueError says what is wrong."""
    if isinstance(raw, Values):
        return list(raw.values), raw.listed
    if isinstance(raw, (list, tuple)):
        if len(raw) > MOST:
            raise ValueError(f"the axis lists {len(raw)} entries; give at most {MOST} values")
        items: list[Any] = []
        for part in raw:
            items += _items(part)
            if len(items) > MOST:
                raise ValueError(f"the axis has more than {MOST} values; give fewer")
        return items, True
    if isinstance(raw, str) and not raw.strip():
        return [], False
    return _items(raw), isinstance(raw, str) and (":" in raw or "," in raw)


def quoted(raw: str) -> str:
    """Text in quotation marks, cut to a readable length."""
    return repr(raw if len(raw) <= 60 else f"{raw[:57]}...")


def _items(raw: Any) -> list[Any]:
    """The values of one entry of an axis."""
    if not isinstance(raw, str):
        return [raw]
    if raw.count(",") >= MOST or len(raw) > 100 * MOST:
        raise ValueError(f"the axis lists {raw.count(',') + 1} values; give at most {MOST}")
    kind, _, rest = raw.partition(":")
    if not rest:
        parts = [part.strip() for part in raw.strip().removesuffix(",").split(",")]
        if not all(parts):
            raise ValueError(f"{quoted(raw)} has an empty entry; write one comma between two values")
        return parts
    forms = {"log": _log, "lin": _lin, "range": _range}
    if kind not in forms:
        forms_text = "log:low:high:count, lin:low:high:count or range:start:stop"
        raise ValueError(f"{quoted(raw)} is not a valid range; write {forms_text}")
    try:
        return forms[kind](*rest.split(":"))
    except (TypeError, ValueError) as error:
        usage = {
            "log": f"log:low:high:count with 0 < low < high and count from 2 to {MOST}",
            "lin": f"lin:low:high:count with count from 2 to {MOST}",
            "range": f"range:start:stop of at most {MOST} numbers",
        }
        raise ValueError(f"{quoted(raw)} is not a valid range; write {usage[kind]}") from error


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
