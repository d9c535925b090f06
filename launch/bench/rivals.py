"""The engine and what one would run instead of it: the same work on the same numbers, results compared."""

from statistics import median

import numpy as np

from gpsense.symmetric import packed_size
from launch import bench
from launch.bench import jax_rivals, numpy_rivals, torch_rivals
from launch.bench.machine import product_rate
from launch.bench.rows import Absent, Row, make_row
from launch.bench.timing import Outcome, Rival, cell_by_cell
from launch.bench.workload import Engine, Workload, draw, run_engine

AGREE = 1e-3
FLAT = "JAX, flat vmap, every cell its own A"
RIVALS: dict[str, Rival] = {
    FLAT: jax_rivals.flat,
    "JAX, loop of a jitted cell, textbook form": cell_by_cell(jax_rivals.textbook),
    "JAX, loop of a jitted cell, Gram form": cell_by_cell(jax_rivals.closed_form),
    "PyTorch, loop of cells, autograd": torch_rivals.autograd,
    "PyTorch, penalties batched by hand, A shared": torch_rivals.batched,
    "NumPy, loop of cells": numpy_rivals.loop,
    "NumPy, loop of cells over processes": numpy_rivals.processes,
}


def grid() -> list[Row]:
    """The engine and every rival at the size of :mod:`launch.bench`."""
    return compare("grid", _workload(bench.DIM, bench.MEASUREMENTS, bench.SEEDS))


def sizes() -> list[Row]:
    """The same at smaller and larger matrices, with fewer seeds."""
    works = [_workload(dim, n, bench.OTHER_SEEDS) for dim, n in bench.OTHER_SIZES]
    return [row for work in works for row in compare("sizes", work)]


def _workload(dim: int, n: int, seeds: int) -> Workload:
    penalties = tuple(0.4 * i / max(bench.PENALTIES - 1, 1) for i in range(bench.PENALTIES))
    return Workload(dim, dim, n, tuple(range(seeds)), penalties, bench.TRAIN, bench.FINE_TUNE)


def compare(group: str, workload: Workload) -> list[Row]:
    """A row for the engine, then one for every rival: its seconds for the whole workload over the engine's.

    The engine is timed before the first and after every rival, so that all meet the machine as busy as it is.
    """
    problems, engine = draw(workload), run_engine(workload)
    seconds, found = [engine.again(), engine.again()], {}
    for name, rival in RIVALS.items():
        try:
            found[name] = rival(workload, problems)
        except Absent as absent:
            found[name] = absent
        seconds.append(engine.again())
    ours, packed, size = median(seconds), packed_size(workload.dim), f", d = k = {workload.dim}"
    _, peak = product_rate(len(workload.penalties), packed, packed)
    note = (
        f"{workload.cells} cells, n = {workload.n}, {workload.train} + {workload.fine_tune} steps, form {engine.form}; "
        f"sampling to measures, median of {len(seconds)} among the others, {min(seconds):.3g} to {max(seconds):.3g} s; "
        "ratio: products at full width over time, against the rate at this shape"
    )
    rate = engine.flops / ours / 1e9
    rows = [make_row(group, "engine" + size, ours, note, rate, rate / peak)]
    for name, outcome in found.items():
        target = 10.0 if name == FLAT and group == "grid" else None
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
