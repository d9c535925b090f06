"""How time grows with the number of cells, how long planning takes, and whether memory is as predicted."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from launch import bench
from launch.bench.child import child
from launch.bench.rows import Row, make_row, once
from launch.bench.workload import compiled, to_grid

STATM = Path("/proc/self/statm")
BUDGET = 8 * 2**30


def scale() -> list[Row]:
    """Rows: seconds for growing numbers of cells, seconds to plan the largest, and predicted over measured memory."""
    rows, first = [], None
    for cells in bench.SCALE_CELLS:
        seconds, note = whole_grid(cells)
        first = first or seconds / cells
        note += f"; {1e6 * seconds / cells:.3g} us a cell; ratio: seconds a cell of the first size over this one's"
        rows.append(make_row("scale", f"{cells:,} small cells", seconds, note, ratio=first / (seconds / cells)))
    return [*rows, planning(bench.SCALE_CELLS[-1]), memory()]


def whole_grid(cells: int) -> tuple[float, str]:
    """Seconds to plan, run and collect a grid of small cells, without compiling, and a note on its chunks."""
    from gpsense.grid import Program, collect, make_plan

    grid = _small(cells)
    plan = make_plan(grid, BUDGET)
    programs = [Program(grid, program) for program in plan.programs]

    def run() -> Any:
        plan = make_plan(grid, BUDGET)
        parts = [(chunk, programs[chunk.program].run(chunk)) for chunk in plan.chunks]
        return collect(plan, parts)

    run()
    repeats = 3 if cells < bench.SCALE_CELLS[-1] else 1
    seconds = median(_wall(run) for _ in range(repeats))
    layout = plan.programs[0].layout
    size = bench.SCALE_SIZE
    note = f"d = {size.dim}, k = {size.width}, n = {size.n}, {size.train} + {size.fine_tune} steps; plan to dataset, "
    return seconds, note + f"{len(plan.chunks)} chunk(s) of {layout.outer} x {layout.inner}, median of {repeats}"


def planning(cells: int) -> Row:
    """Row: seconds to build and plan a grid of ``cells`` cells."""
    from gpsense.grid import make_plan

    seconds = median(once(lambda: make_plan(_small(cells), BUDGET) and None)[1] for _ in range(3))
    note = f"median of 3; ratio: {bench.PLAN_SECONDS:g} s over it"
    return make_row("scale", f"plan of {cells:,} cells", seconds, note, ratio=bench.PLAN_SECONDS / seconds, target=1.0)


def memory() -> Row:
    """Row: seconds of one large chunk in a new process; ratio: predicted bytes over those by which the process grew."""
    name = "predicted memory of a large chunk"
    if not STATM.exists():
        return make_row("scale", name, None, f"not measured: there is no {STATM}")
    code = "from launch.bench import scale; scale.tell_memory()"
    told = json.loads(child(["-c", code]).splitlines()[-1])
    size, ratio = bench.MEMORY_SIZE, told["predicted"] / told["measured"]
    note = (
        f"{len(size.seeds)} seeds x {len(size.penalties)} settings, d = k = {size.dim}, n = {size.n}: predicted "
        f"{told['predicted'] / 2**20:.0f} MiB, resident memory grew by {told['measured'] / 2**20:.0f} MiB at most; "
        "ratio: predicted over measured, from 0.8 to 1.2 is good"
    )
    return make_row("scale", name, told["seconds"], note, ratio=ratio)


def tell_memory() -> None:
    """Print predicted and measured bytes of a chunk of :data:`launch.bench.MEMORY_SIZE`, and the seconds it took."""
    from launch import device

    device.configure("float32")
    print(json.dumps(measure_memory(bench.MEMORY_SIZE)))


def measure_memory(size: Any) -> dict[str, float]:
    """The predicted bytes of a chunk, the bytes by which this process grows while it runs, and its seconds."""
    program, chunk = compiled(size)
    predicted = program.prepare(chunk)
    with _peak() as highest:
        before = _resident()
        _, seconds = once(lambda: program.run(chunk))
    return {"predicted": predicted, "measured": highest() - before, "seconds": seconds}


def _small(cells: int) -> Any:
    settings = min(bench.SCALE_SETTINGS, cells)
    penalties = tuple(0.4 * index / settings for index in range(settings))
    return to_grid(replace(bench.SCALE_SIZE, seeds=tuple(range(cells // settings)), penalties=penalties))


def _wall(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _resident() -> int:
    """The resident memory of this process in bytes."""
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def _peak() -> Iterator[Callable[[], int]]:
    """A context that gives a function for the largest resident bytes since it began, sampled every 2 ms."""
    seen, done = [_resident()], threading.Event()

    def watch() -> None:
        while not done.wait(0.002):
            seen[0] = max(seen[0], _resident())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield lambda: seen[0]
    finally:
        done.set()
        thread.join()
