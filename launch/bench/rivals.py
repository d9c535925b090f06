"""The engine and what one would run instead of it: the same work on the same numbers, results compared."""

from statistics import median

import numpy as np

from launch import bench
from launch.bench import jax_rivals, numpy_rivals, torch_rivals
from launch.bench.rows import Absent, Row, make_row
from launch.bench.timing import Outcome, Rival, cell_by_cell
from launch.bench.workload import Engine, Workload, draw, run_engine

AGREE = 1e-3
FLAT = "JAX, flat vmap, every cell its own A"
TEXTBOOK = "JAX, loop of a jitted cell, textbook form"
CLOSED = "JAX, loop of a jitted cell, Gram form"
EAGER = "PyTorch, loop of cells, autograd"
BATCHED = "PyTorch, penalties batched by hand, A shared"
RIVALS: dict[str, Rival] = {
    FLAT: jax_rivals.flat,
    TEXTBOOK: cell_by_cell(jax_rivals.textbook),
    CLOSED: cell_by_cell(jax_rivals.closed_form),
    EAGER: torch_rivals.autograd,
    BATCHED: torch_rivals.batched,
    "NumPy, loop of cells": numpy_rivals.loop,
    "NumPy, loop of cells over processes": numpy_rivals.processes,
}
TARGETS: dict[str, float | None] = {FLAT: 40.0, TEXTBOOK: 8.0, CLOSED: 3.0}


def grid() -> list[Row]:
    """The engine and every rival at the size of :mod:`launch.bench`."""
    seeds = tuple(range(bench.SEEDS))
    shape = bench.DIM, bench.DIM, bench.MEASUREMENTS, seeds, bench.LISTED
    return compare("grid", Workload(*shape, bench.TRAIN, bench.FINE_TUNE), RIVALS, TARGETS)


def sizes() -> list[Row]:
    """PyTorch at smaller and larger matrices, with fewer seeds."""
    rivals = {name: RIVALS[name] for name in (EAGER, BATCHED) if name in RIVALS}
    rows = []
    for workload, (eager, batched) in bench.OTHER_SIZES:
        rows += compare("sizes", workload, rivals, {EAGER: eager, BATCHED: batched})
    return rows


def compare(group: str, workload: Workload, rivals: dict[str, Rival], targets: dict[str, float | None]) -> list[Row]:
    """A row for the engine, then one for every rival: its seconds for the whole workload over the engine's.

    The engine is timed before the first and after every rival, so that all meet the machine as busy as it is.
    """
    problems, engine = draw(workload), run_engine(workload)
    seconds, found = [engine.again(), engine.again()], {}
    for name, rival in rivals.items():
        try:
            found[name] = rival(workload, problems)
        except Absent as absent:
            found[name] = absent
        seconds.append(engine.again())
    ours, size = median(seconds), f", d = k = {workload.dim}"
    note = (
        f"{workload.cells} cells, n = {workload.n}, {workload.train} + {workload.fine_tune} steps, form {engine.form}; "
        f"sampling to measures, median of {len(seconds)} among the others, {min(seconds):.3g} to {max(seconds):.3g} s"
    )
    rows = [make_row(group, "engine" + size, ours, note, engine.flops / ours / 1e9)]
    for name, outcome in found.items():
        target = targets.get(name)
        if isinstance(outcome, Absent):
            rows.append(make_row(group, name + size, None, str(outcome), target=target))
            continue
        note = f"{agreement(workload, engine, outcome)}; {outcome.note}; sampling not counted"
        ratio = outcome.seconds / ours
        rows.append(make_row(group, name + size, outcome.seconds, note, ratio=ratio, target=target))
    return rows


def agreement(workload: Workload, engine: Engine, outcome: Outcome) -> str:
    """Whether the rival's errors are the engine's, in words that say how far apart they are at most."""
    columns = [workload.penalties.index(penalty) for penalty in outcome.part.penalties]
    theirs = engine.errors[: len(outcome.part.seeds), columns]
    gaps = np.abs(outcome.errors - theirs) / theirs
    wrong = int((~(gaps <= AGREE)).sum())
    if wrong:
        return f"DISAGREES with the engine in {wrong} of {gaps.size} cells, by up to {np.max(gaps):.1g}"
    return f"agrees with the engine in {gaps.size} cells to {np.max(gaps):.1g}"
