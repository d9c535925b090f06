"""The cost of compiling: of the quickstart, against one naive jit; of configs, against what the plan saves.

That is, against every program compiled by itself with full effort (:data:`gpsense.grid.plan.FULL`).
"""

import json
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from launch import bench
from launch.bench.child import child
from launch.bench.rows import Row, make_row

TURNS = 3
MEMORY = 8 * 2**30


def compile() -> list[Row]:
    """A row for the quickstart and one for each config of :data:`launch.bench.COMPILE_CONFIGS`, measured in fresh
    processes without a cache.
    """
    rows = [quickstart()]
    for name in bench.COMPILE_CONFIGS:
        rows.append(effort(name))
    return rows


def quickstart() -> Row:
    """A row: seconds from config to Dataset; ratio: seconds of :func:`naive`, one jit of nested vmaps, over these."""
    ours, naive = in_turn("engine", "naive", "quickstart")
    agree = np.allclose(ours[-1]["error"], naive[-1]["error"], rtol=bench.COMPILE_AGREE, atol=0)
    seconds, theirs = (median(told["seconds"] for told in each) for each in (ours, naive))
    note = (
        f"config to Dataset, nothing compiled before; one naive jit takes {theirs:.3g} s; median of {TURNS}, in turn; "
    )
    note += "median errors agree" if agree else "median errors DISAGREE"
    ratio, target = theirs / seconds, bench.COMPILE_QUICKSTART
    return make_row("compile", "quickstart, cold, over one naive jit", seconds, note, ratio=ratio, target=target)


def effort(name: str) -> Row:
    """A row: CPU seconds to trace and compile all programs of a config as planned; ratio: :func:`full`'s over these."""
    ours, full = in_turn("planned", "full", name)
    seconds, theirs = (median(told["seconds"] for told in each) for each in (ours, full))
    note = (
        f"CPU seconds to trace {ours[-1]['traced']} phases and compile {ours[-1]['programs']} programs, "
        f"with the effort of the plan; {theirs:.3g} s with full effort and each program by itself; median of "
        f"{TURNS}, in turn; wall {median(told['wall'] for told in ours):.3g} and "
        f"{median(told['wall'] for told in full):.3g} s"
    )
    ratio = theirs / seconds
    return make_row("compile", f"programs of {name}", seconds, note, ratio=ratio, target=bench.COMPILE_EFFORT)


def in_turn(one: str, other: str, name: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The reports of two ways (see :func:`tell`) on a config, in alternation, each in :data:`TURNS` fresh processes."""
    code = "from launch.bench import compile; compile.tell({!r}, {!r})"
    told: tuple[list[dict[str, Any]], ...] = [], []
    for _ in range(TURNS):
        for way, found in zip((one, other), told, strict=True):
            found.append(json.loads(child(["-c", code.format(way, name)], GPSENSE_CACHE="").splitlines()[-1]))
    return told[0], told[1]


def tell(way: str, name: str) -> None:
    """Print the report of one way (engine, naive, planned or full) on a config, as JSON."""
    print(json.dumps({"engine": engine, "naive": naive, "planned": planned, "full": full}[way](grid_of(name))))


def grid_of(name: str) -> Any:
    """The grid of a config of the package; sets up devices and precision for it."""
    from launch import device
    from launch.config import build, read_yaml
    from launch.paths import configs
    from launch.work import to_grid

    path: Path = configs() / f"{name}.yaml"
    config = build(read_yaml(path), path.parent)
    device.configure(config.values["run.precision"])
    return to_grid(config)


def engine(grid: Any) -> dict[str, Any]:
    """The engine's seconds to plan, compile, run and collect a grid, and its median errors."""
    from gpsense.grid import run_grid

    begun = time.perf_counter()
    dataset = run_grid(grid)
    seconds = time.perf_counter() - begun
    return {"seconds": seconds, "error": dataset["error"].median("seed").values.ravel().tolist()}


def naive(grid: Any) -> dict[str, Any]:
    """Seconds and median errors of one program: a cell, vmapped over settings, data and seeds."""
    import jax
    import jax.numpy as jnp

    from gpsense.keys import seed_keys
    from gpsense.pipeline import run_cell

    begun = time.perf_counter()
    (_, system), *_ = grid.programs()
    same = [grid.constants_of(role) for role in (system.Data, system.Setting)]

    def stacked(rows: list[dict[str, Any]]) -> dict[str, Any]:
        return {name: jnp.asarray([row[name] for row in rows], system.dtype) for name in rows[0]}

    data, setting = (stacked(grid.labels(role)) for role in (system.Data, system.Setting))

    def cell(seed: Any, data: Any, setting: Any) -> Any:
        numbers = system.Data(**same[0], **data), system.Setting(**same[1], **setting)
        return run_cell(system, grid.schedule, *numbers, seed_keys(seed))

    over = jax.vmap(jax.vmap(jax.vmap(cell, (None, None, 0)), (None, 0, None)), (0, None, None))
    results = jax.jit(over)(jnp.asarray(grid.seeds.values, jnp.uint32), data, setting)
    results = {name: np.asarray(value) for name, value in results.items() if name != "state"}
    seconds = time.perf_counter() - begun
    return {"seconds": seconds, "error": np.median(results["error"], 0).ravel().tolist()}


def planned(grid: Any) -> dict[str, Any]:
    """Seconds to trace and compile all programs of a grid as a run does."""
    from gpsense.grid import make_plan
    from gpsense.grid.tracing import Traces

    plan, known = make_plan(grid, MEMORY), Traces()
    return _compiled(plan, [known] * len(plan.programs))


def full(grid: Any) -> dict[str, Any]:
    """Seconds to trace and compile all programs of a grid with full effort, sharing nothing between them."""
    from gpsense.grid import make_plan
    from gpsense.grid.plan import FULL
    from gpsense.grid.tracing import Traces

    plan = make_plan(grid, MEMORY)
    programs = tuple(replace(each, layout=replace(each.layout, effort=FULL)) for each in plan.programs)
    return _compiled(replace(plan, programs=programs), [Traces() for _ in programs])


def _compiled(plan: Any, known: list[Any]) -> dict[str, Any]:
    """Seconds to trace and compile the programs of a plan; ``known`` has the phases traced before, for each."""
    from gpsense.grid import Program, compiling

    wall, cpu = time.perf_counter(), time.process_time()
    for index, each in enumerate(plan.programs):
        if index and known[index] is not known[0]:
            compiling.forget()
        program = Program(plan.grid, each, known=known[index])
        program.begin(next(chunk for chunk in plan.chunks if chunk.program == index), bench.COMPILE_WIDTH)
        assert program.memory  # waits until all is compiled
    seconds = {"seconds": time.process_time() - cpu, "wall": time.perf_counter() - wall}
    traced = sum(sum(one.counts.values()) for one in {id(each): each for each in known}.values())
    return seconds | {"programs": len(plan.programs), "traced": traced}
