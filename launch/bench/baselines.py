"""The engine against its alternatives: the same work on the same numbers, with results compared."""

from statistics import median

import numpy as np

from launch import bench
from launch.bench import jax_baselines, numpy_baselines, torch_baselines
from launch.bench.rows import Absent, Row, make_row
from launch.bench.timing import Baseline, Outcome, cell_by_cell
from launch.bench.workload import Engine, Workload, draw, run_engine

AGREE = 1e-3
FLAT = "JAX, flat vmap, every cell its own A"
TEXTBOOK = "JAX, loop of a jitted cell, textbook form"
CLOSED = "JAX, loop of a jitted cell, Gram form"
EAGER = "PyTorch, loop of cells, autograd"
BATCHED = "PyTorch, penalties batched by hand, A shared"
BASELINES: dict[str, Baseline] = {
    FLAT: jax_baselines.flat,
    TEXTBOOK: cell_by_cell(jax_baselines.textbook),
    CLOSED: cell_by_cell(jax_baselines.closed_form),
    EAGER: torch_baselines.autograd,
    BATCHED: torch_baselines.batched,
    "NumPy, loop of cells": numpy_baselines.loop,
    "NumPy, loop of cells over processes": numpy_baselines.processes,
}
TARGETS: dict[str, float | None] = {FLAT: 40.0, TEXTBOOK: 8.0, CLOSED: 3.0}


def grid() -> list[Row]:
    """The engine and every baseline at the size of :mod:`launch.bench`."""
    seeds = tuple(range(bench.SEEDS))
    shape = bench.DIM, bench.DIM, bench.MEASUREMENTS, seeds, bench.LISTED
    return compare("grid", Workload(*shape, bench.TRAIN, bench.FINE_TUNE), BASELINES, TARGETS)


def sizes() -> list[Row]:
    """PyTorch at smaller and larger matrices, with fewer seeds."""
    baselines = {name: BASELINES[name] for name in (EAGER, BATCHED) if name in BASELINES}
    rows = []
    for workload, (eager, batched) in bench.OTHER_SIZES:
        rows += compare("sizes", workload, baselines, {EAGER: eager, BATCHED: batched})
    return rows


def compare(
    group: str, workload: Workload, baselines: dict[str, Baseline], targets: dict[str, float | None]
) -> list[Row]:
    """A row for the engine, then one per baseline; ratio: the baseline's seconds for all cells over the engine's.

    The engine is timed before the first and after every baseline, so that both see the same load of the machine.
    """
    problems, engine = draw(workload), run_engine(workload)
    seconds, found = [engine.again(), engine.again()], {}
    for name, baseline in baselines.items():
        try:
            found[name] = baseline(workload, problems)
        except Absent as absent:
            found[name] = absent
        seconds.append(engine.again())
    ours, size = median(seconds), f", d = k = {workload.dim}"
    note = (
        f"{workload.cells} cells, n = {workload.n}, {workload.train} + {workload.fine_tune} steps, form {engine.form}; "
        f"from sampling to measures, median of {len(seconds)} runs, {min(seconds):.3g} to {max(seconds):.3g} s"
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
    """A text that says whether a baseline's errors agree with the engine's, and to what relative difference."""
    columns = [workload.penalties.index(penalty) for penalty in outcome.part.penalties]
    theirs = engine.errors[: len(outcome.part.seeds), columns]
    gaps = np.abs(outcome.errors - theirs) / theirs
    wrong = int((~(gaps <= AGREE)).sum())
    if wrong:
        return f"DISAGREES with the engine in {wrong} of {gaps.size} cells, by up to {np.max(gaps):.1g}"
    return f"agrees with the engine in {gaps.size} cells to {np.max(gaps):.1g}"
