"""The machine's own matrix-product rate: the floor under everything else."""

import jax
import jax.numpy as jnp

from gpsense.symmetric import packed_size
from launch import bench
from launch.bench.rows import Row, make_row, timed


def machine() -> list[Row]:
    """Products of a large square shape and of the shape of an engine's step at every size measured here."""
    dims = [bench.DIM, *(dim for dim, _ in bench.OTHER_SIZES)]
    steps = [(bench.PENALTIES, packed_size(dim), packed_size(dim)) for dim in dims]
    rows = []
    for rows_, inner, columns in ((2048, 2048, 2048), *steps):
        seconds, rate = product_rate(rows_, inner, columns)
        name = f"matrix product ({rows_} x {inner}) @ ({inner} x {columns}), float32"
        rows.append(make_row("machine", name, seconds, "median of 5, many products in one program", rate))
    return rows


def product_rate(rows: int, inner: int, columns: int) -> tuple[float, float]:
    """Seconds and GFLOP/s of float32 products (rows, inner) @ (inner, columns), many in one program."""
    flops = 2.0 * rows * inner * columns
    count = max(1, min(int(4e9 / flops), 20_000))
    left = jax.random.normal(jax.random.key(0), (rows, inner), jnp.float32)
    right = jax.random.normal(jax.random.key(1), (inner, columns), jnp.float32) / inner**0.5

    @jax.jit
    def many(left: jax.Array, right: jax.Array) -> jax.Array:
        step = lambda _, x: x + 1e-6 * (x @ right)[:, :inner]  # noqa: E731
        return jax.lax.fori_loop(0, count, step, left)

    seconds = timed(lambda: many(left, right)) / count
    return seconds, flops / seconds / 1e9
