"""Seconds that a user waits from the start of the main job to its first results on disk."""

import tempfile
import time
from pathlib import Path
from statistics import median

from launch import bench
from launch.bench.child import child
from launch.bench.rows import Row, make_row

WARM = 3


def start() -> list[Row]:
    """Rows: with an empty cache of compiled programs, and with a filled one."""
    with tempfile.TemporaryDirectory() as folder:
        cold = first_chunk(Path(folder), "cold")
        warm = [first_chunk(Path(folder), f"warm{turn}") for turn in range(WARM)]
    seconds, limit = median(warm), bench.START_SECONDS
    what = "from process start to first chunk on disk, the main job with its defaults"
    return [
        make_row("start", "first chunk, empty cache", cold, f"{what}; once", ratio=limit / cold),
        make_row(
            "start",
            "first chunk, filled cache",
            seconds,
            f"{what}; median of {WARM}; ratio: {limit:g} s over it",
            ratio=limit / seconds,
            target=1.0,
        ),
    ]


def first_chunk(folder: Path, name: str) -> float:
    """Seconds from the start of ``python -m launch.grid`` to its first chunk; the folder caches compiled programs."""
    begun = time.time()
    child(["-m", "launch.grid", *bench.START_JOB, "--out", str(folder / name)], GPSENSE_CACHE=str(folder / "cache"))
    return min(path.stat().st_mtime for path in (folder / name / "chunks").iterdir()) - begun
