"""A grid of sparse-feature cells, run by its compiled program and by a Python loop over one jitted cell."""

from collections.abc import Callable
from statistics import median

import jax
import jax.numpy as jnp
import numpy as np

from gpsense.grid import Axis, Grid, Layout, Program, make_plan
from gpsense.keys import seed_keys
from gpsense.pipeline import Schedule, run_cell
from gpsense.systems import AnySystem
from gpsense.systems.sparse_features import SparseFeatures
from launch import bench
from launch.bench.rows import Row, make_row, once

TURNS, AGREE = 3, 1e-3


def cells() -> list[Row]:
    """Rows for program and loop, timed in alternation; a cell takes sampling, pruning, one step, ridge and measures."""
    contractions = bench.SPARSE_CONTRACTIONS
    axes = (Axis("contraction", contractions),)
    grid = Grid(SparseFeatures(), Schedule(0, 0, 1), bench.SPARSE_SEEDS, axes, bench.SPARSE_SIZE)
    plan = make_plan(grid, 8 * 2**30, (Layout(len(grid.outer), len(grid.inner)),))
    program, chunk, cell = Program(grid, plan.programs[0]), plan.chunks[0], _cell(plan.programs[0].system)
    seeds, columns = bench.SPARSE_SEEDS[:2], sorted({0, len(contractions) - 1})
    errors = program.run(chunk)["error"][: len(seeds), columns]
    loop = lambda: np.asarray([[cell(seed, contractions[i]) for i in columns] for seed in seeds])  # noqa: E731
    gap = float(np.max(np.abs(loop() / errors - 1)))
    both = [[once(lambda: program.run(chunk))[1], once(loop)[1]] for _ in range(TURNS)]
    ours, theirs = (median(seconds) for seconds in zip(*both, strict=True))
    theirs *= plan.cells / errors.size
    size = f", {len(grid.outer)} seeds x {len(grid.inner)} settings"
    constants = ", ".join(f"{name} = {value}" for name, value in bench.SPARSE_SIZE.items())
    note = f"{constants}; sampling, pruning, one step, ridge and measures, {1e3 * ours / plan.cells:.3g} ms a cell"
    word = "agrees" if gap <= AGREE else "DISAGREES"
    told = f"{word} with the grid to {gap:.1g}; timed on {errors.size} cells and scaled"
    return [
        make_row("sparse", "grid" + size, ours, note),
        make_row("sparse", "JAX, loop of a jitted cell" + size, theirs, told, ratio=theirs / ours),
    ]


def _cell(system: AnySystem) -> Callable[[int, float], float]:
    """A function that gives the error of one cell, by seed and contraction, compiled once for all."""

    @jax.jit
    def error(seed: jax.Array, contraction: jax.Array) -> jax.Array:
        setting = system.Setting(contraction=contraction)
        return run_cell(system, Schedule(0, 0, 1), system.Data(), setting, seed_keys(seed))["error"]

    return lambda seed, contraction: float(error(jnp.uint32(seed), jnp.float32(contraction)))
