"""The machine's rate of matrix products, which bounds the speed of everything else."""

from functools import cache, partial
from statistics import median
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from gpsense.sensing.symmetric import packed_size
from launch import bench
from launch.bench.rows import Row, make_row, once

REPEATS = 5
UNROLLED = 8


class Rate(NamedTuple):
    """A way to multiply matrices of given shapes, the seconds of one product, and GFLOP/s over all devices."""

    way: str
    seconds: float
    gflops: float


def machine() -> list[Row]:
    """Rows for products of a large square shape, and of the shape of an engine's step at every size of the bench."""
    dims = sorted({workload.dim for workload, _ in bench.ENGINE})
    shapes = [(bench.SQUARE, bench.SQUARE), *((bench.PENALTIES, packed_size(dim)) for dim in dims)]
    rows = []
    for count, size in shapes:
        rates = product_rates(count, size)
        best = fastest(rates)
        others = ", ".join(f"{rate.way} {rate.gflops:.3g}" for rate in rates)
        name = f"matrix product of ({size} x {size}) with {count} vectors, float32"
        rows.append(make_row("machine", name, best.seconds, f"the fastest of: {others} GFLOP/s", best.gflops))
    return rows


def fastest(*rounds: list[Rate]) -> Rate:
    """The way with the highest rate, after taking each way's median over the rounds."""
    middle = [sorted(rates, key=lambda rate: rate.gflops)[len(rates) // 2] for rates in zip(*rounds, strict=True)]
    return max(middle, key=lambda rate: rate.gflops)


def product_rates(count: int, size: int) -> list[Rate]:
    """The rate of every way to multiply ``count`` vectors by a matrix (size, size), one matrix per device.

    The ways are ``H x`` and ``x H``, on one device with all its threads and on all devices at once; each rate is the
    median of five runs of one program that makes many products in a row.
    """
    flops, rates = 2.0 * count * size**2, []
    steps = max(1, min(int(bench.PRODUCT_FLOPS / flops), 8000))
    for devices in sorted({1, jax.device_count()}):
        for left in (True, False):
            run = _products(count, size, steps, devices, left)
            seconds = median(once(run)[1] for _ in range(REPEATS)) / steps
            way = f"{'H x' if left else 'x H'} on {devices} device{'s' * (devices > 1)}"
            rates.append(Rate(way, seconds, devices * flops / seconds / 1e9))
    return rates


@cache
def _products(count: int, size: int, steps: int, devices: int, left: bool) -> Any:
    """A compiled call that runs ``steps`` products on each device.

    H is a reflection, so that repeated products neither overflow nor vanish.
    """
    rng = np.random.default_rng(0)
    normal = rng.standard_normal(size)
    reflection = np.eye(size) - 2 * np.outer(normal, normal) / (normal @ normal)
    vectors = rng.standard_normal((size, count) if left else (count, size))
    mesh = Mesh(np.asarray(jax.devices()[:devices]), ("device",))
    spread = NamedSharding(mesh, P("device"))
    place = lambda array: jax.device_put(jnp.stack([jnp.asarray(array, jnp.float32)] * devices), spread)  # noqa: E731

    def many(matrix: jax.Array, vectors: jax.Array) -> jax.Array:
        step = (lambda _, x: matrix[0] @ x) if left else (lambda _, x: x @ matrix[0])
        return jax.lax.fori_loop(0, steps, step, vectors[0], unroll=min(UNROLLED, steps))[None]

    each = P("device")
    program = jax.jit(jax.shard_map(many, mesh=mesh, in_specs=(each, each), out_specs=each, check_vma=False))
    run = partial(program, place(reflection), place(vectors))
    jax.block_until_ready(run())
    return run
