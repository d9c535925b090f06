"""The rows of bench.json and their table, timing, and optional packages."""

import time
from collections.abc import Callable
from importlib import import_module
from statistics import median
from typing import Any

Row = dict[str, Any]


class Absent(Exception):
    """The error for a package that a row needs and that is not installed."""

    def __init__(self, package: str):
        super().__init__(f"absent: pip install {package}")


def optional(package: str) -> Any:
    """The module of a package that gpsense does not depend on; raises Absent where it is not installed."""
    try:
        return import_module(package)
    except ImportError:
        raise Absent(package.split(".")[0]) from None


def make_row(
    group: str,
    name: str,
    seconds: float | None,
    note: str,
    rate: float | None = None,
    ratio: float | None = None,
    target: float | None = None,
) -> Row:
    """One row; ``seconds`` None where nothing could be measured, the note then says why."""
    row: Row = {"group": group, "name": name, "seconds": seconds, "rate": rate}
    return row | {"ratio": ratio, "target": target, "note": note}


def text(rows: list[Row]) -> str:
    """The table of the rows for a terminal, ratios in the first column."""
    show = lambda value, digits: "-" if value is None else f"{value:.{digits}g}"  # noqa: E731
    lines = [f"{'ratio':>8} {'target':>7} {'seconds':>10} {'GFLOP/s':>8}  name"]
    for row in rows:
        ratio, target, rate = (show(row[column], 3) for column in ("ratio", "target", "rate"))
        lines.append(f"{ratio:>8} {target:>7} {show(row['seconds'], 4):>10} {rate:>8}  {row['name']}")
        lines.append(f"{'':>37}{row['note']}")
    return "\n".join(lines)


def timed(work: Callable[[], Any], repeats: int = 5) -> float:
    """Median seconds of ``repeats`` calls, after a first one that compiles; waits for the results."""
    import jax

    jax.block_until_ready(work())
    return median(once(work)[1] for _ in range(repeats))


def once(work: Callable[[], Any]) -> tuple[Any, float]:
    """The result of a call and its seconds; waits for the result."""
    import jax

    begun = time.perf_counter()
    result = jax.block_until_ready(work())
    return result, time.perf_counter() - begun
