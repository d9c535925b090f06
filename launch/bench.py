"""Speed, measured side by side in one run: ``python -m launch.bench [--out DIR] [--group NAME]``.

Prints one table and writes bench.json: medians of repeats, ratios written so that more is better. The work is the same
on both sides of every ratio; what is scaled up from fewer steps says so.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from launch.config import Refusal

Row = dict[str, Any]
SEEDS, PENALTIES, DIM, MEASUREMENTS = 8, 32, 30, 900
TRAIN, FINE_TUNE, FLAT_STEPS = 500, 200, 10


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    groups: dict[str, Callable[[], list[Row]]] = {"machine": machine, "grid": grid}
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


def text(rows: list[Row]) -> str:
    """The table for a terminal, ratios first."""
    lines = [f"{'ratio':>8} {'target':>7} {'seconds':>10} {'GFLOP/s':>8}  name"]
    for row in rows:
        ratio = "-" if row["ratio"] is None else f"{row['ratio']:.3g}"
        target = "-" if row["target"] is None else f"{row['target']:.3g}"
        rate = "-" if row["rate"] is None else f"{row['rate']:.3g}"
        lines.append(f"{ratio:>8} {target:>7} {row['seconds']:>10.4g} {rate:>8}  {row['name']}")
        lines.append(f"{'':>37}{row['note']}")
    return "\n".join(lines)


def timed(work: Callable[[], Any], repeats: int = 5) -> float:
    """Median seconds of a call, after one that compiles; waits for the result."""
    import jax

    jax.block_until_ready(work())
    seconds = []
    for _ in range(repeats):
        begun = time.perf_counter()
        jax.block_until_ready(work())
        seconds.append(time.perf_counter() - begun)
    return median(seconds)


def product_rate(rows: int, inner: int, columns: int) -> tuple[float, float]:
    """Seconds and GFLOP/s of float32 products (rows, inner) @ (inner, columns), many in one program."""
    import jax
    import jax.numpy as jnp

    flops = 2.0 * rows * inner * columns
    count = max(1, int(4e9 / flops))
    left = jax.random.normal(jax.random.key(0), (rows, inner), jnp.float32)
    right = jax.random.normal(jax.random.key(1), (inner, columns), jnp.float32) / inner**0.5

    @jax.jit
    def many(left: jax.Array, right: jax.Array) -> jax.Array:
        step = lambda _, x: x + 1e-6 * (x @ right)[:, :inner]  # noqa: E731
        return jax.lax.fori_loop(0, count, step, left)

    seconds = timed(lambda: many(left, right)) / count
    return seconds, flops / seconds / 1e9


def machine() -> list[Row]:
    """The machine's own matrix-product rate: the floor under everything else."""
    packed = DIM * (DIM + 1) // 2
    rows = []
    for shape in ((2048, 2048, 2048), (PENALTIES, packed, packed)):
        seconds, rate = product_rate(*shape)
        name = f"matrix product ({shape[0]} x {shape[1]}) @ ({shape[1]} x {shape[2]}), float32"
        rows.append(_row("machine", name, seconds, rate, None, None, "median of 5, many products in one program"))
    return rows


def grid() -> list[Row]:
    """256 cells by the engine, and by one flat vmap over cells that each carry their own measurements."""
    from gpsense.grid import Axis, Grid, Layout, Program, make_plan
    from gpsense.pipeline import Schedule
    from gpsense.systems import SYSTEMS

    penalties = tuple(0.4 * i / (PENALTIES - 1) for i in range(PENALTIES))
    axes = (Axis("dim", (DIM,)), Axis("n", (MEASUREMENTS,)), Axis("noise", (0.5,)), Axis("penalty", penalties))
    schedule = Schedule(TRAIN, FINE_TUNE, 100)
    constants = {"width": DIM, "dtype": "float32", "tolerance": 0.0, "fine_tune_tolerance": 0.0}
    cells = Grid(SYSTEMS["sensing"], schedule, Axis("seed", tuple(range(SEEDS))), axes, constants)
    plan = make_plan(cells, 8 * 2**30, (Layout(SEEDS, PENALTIES),))
    program = Program(cells, plan.programs[0])
    engine = timed(lambda: program.run(plan.chunks[0]), 3)
    rate = plan.flops / engine / 1e9
    packed = DIM * (DIM + 1) // 2
    _, peak = product_rate(PENALTIES, packed, packed)
    flat = _flat(penalties) * (TRAIN + FINE_TUNE)
    note = (
        f"{plan.cells} cells, d = k = {DIM}, n = {MEASUREMENTS}, {TRAIN} + {FINE_TUNE} steps, "
        f"form {plan.programs[0].spec.form}; ratio: products at full width over time, against the rate at this shape"
    )
    scaled = (
        f"same cells and steps, timed on {FLAT_STEPS} training steps and scaled, sampling not counted; "
        "ratio: its time over the engine's"
    )
    return [
        _row("grid", "engine, sampling to measures", engine, rate, rate / peak, None, note),
        _row("grid", "flat vmap, every cell its own A", flat, None, flat / engine, 10.0, scaled),
    ]


def _flat(penalties: tuple[float, ...]) -> float:
    """Seconds of a training step of all cells as one flat vmap, loss differentiated by JAX, A stacked per cell."""
    import jax
    import jax.numpy as jnp

    from gpsense.measurements import Dense, gaussian_measurements
    from gpsense.objectives import sensing_loss
    from gpsense.penalties import smoothed_group_lasso
    from gpsense.truths import low_rank_truth

    seeds = jnp.repeat(jnp.arange(SEEDS), PENALTIES)
    draw = lambda seed: gaussian_measurements(jax.random.key(seed), MEASUREMENTS, DIM).rows  # noqa: E731
    rows = jnp.repeat(jax.lax.map(draw, jnp.arange(SEEDS)), PENALTIES, axis=0)
    truth = low_rank_truth(jax.random.key(0), DIM, jnp.ones(2))
    values = jax.lax.map(lambda row: Dense(row).forward(truth), rows)
    starts = 0.3 / DIM**0.5 * jax.vmap(lambda s: jax.random.normal(jax.random.key(s), (DIM, DIM)))(seeds)
    weights = jnp.tile(jnp.asarray(penalties), SEEDS)

    def cell(row: jax.Array, value: jax.Array, start: jax.Array, weight: jax.Array) -> jax.Array:
        loss = lambda u: sensing_loss(u, Dense(row), value) + weight * smoothed_group_lasso(u, 0.04)  # noqa: E731
        return jax.lax.fori_loop(0, FLAT_STEPS, lambda _, u: u - 0.02 * jax.grad(loss)(u), start)

    run = jax.jit(jax.vmap(cell))
    return timed(lambda: run(rows, values, starts, weights), 3) / FLAT_STEPS


def _row(
    group: str, name: str, seconds: float, rate: float | None, ratio: float | None, target: float | None, note: str
) -> Row:
    row: Row = {"group": group, "name": name, "seconds": seconds, "rate": rate}
    return row | {"ratio": ratio, "target": target, "note": note}


if __name__ == "__main__":
    sys.exit(main())
