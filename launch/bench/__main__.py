"""Speed, measured side by side in one run: ``python -m launch.bench [--out DIR] [--group NAME]``.

Prints one table and writes bench.json: ratios are written so that more is better, and every rival's results are
compared with the engine's in the same run. What is scaled up from fewer cells or steps says so.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from launch.bench.rows import Row, text
from launch.config import Refusal


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    groups: dict[str, Callable[[], list[Row]]] = {"machine": machine, "grid": grid, "sizes": sizes, "solvers": solvers}
    parser = argparse.ArgumentParser("python -m launch.bench", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("bench"), help="folder for bench.json (default bench)")
    parser.add_argument("--group", choices=sorted(groups), help="measure this group only")
    arguments = parser.parse_args(argv)

    from launch import device, store

    try:
        store.writable(arguments.out)
    except Refusal as refusal:
        print(f"error: {refusal}", file=sys.stderr)
        return 2
    device.configure("float32")
    names = [arguments.group] if arguments.group else list(groups)
    rows = [row for name in names for row in groups[name]()]
    arguments.out.mkdir(parents=True, exist_ok=True)
    store.write_json(arguments.out / "bench.json", rows)
    print(text(rows))
    print(f"\nwritten to {arguments.out / 'bench.json'}")
    return 0


def machine() -> list[Row]:
    """Matrix products of this machine."""
    from launch.bench.machine import machine as measure

    return measure()


def grid() -> list[Row]:
    """The engine and everything one would run instead, at the size of :mod:`launch.bench`."""
    from launch.bench.rivals import grid as measure

    return measure()


def sizes() -> list[Row]:
    """The same at smaller and larger matrices."""
    from launch.bench.rivals import sizes as measure

    return measure()


def solvers() -> list[Row]:
    """Other ways to recover one matrix."""
    from launch.bench.solvers import solvers as measure

    return measure()


if __name__ == "__main__":
    sys.exit(main())
