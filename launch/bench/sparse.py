"""Sparse features: pruning at the start, one step, streams in bounded memory, and a grid of cells."""

from functools import partial
from statistics import median

import jax
import jax.numpy as jnp
import numpy as np

from gpsense.pruning import inputs
from gpsense.sparse import learner
from gpsense.sparse.hermite import RELU, link
from gpsense.sparse.network import Kept
from gpsense.sparse.samples import ROWS, GaussianSamples, fold
from launch import bench
from launch.bench.machine import fastest, product_rates
from launch.bench.rows import Absent, Row, make_row, once
from launch.bench.sparse_baselines import CONTRACTION, DRAWS, PRUNERS, Pruning, Size
from launch.bench.sparse_grid import cells

TURNS, AGREE, ACTIVE = 3, 1e-3, 8


def sparse() -> list[Row]:
    """Rows: pruning, a stream, one step, and a grid of cells."""
    return [*pruning(bench.PRUNE), streaming(bench.STREAM), *one_step(bench.STEP), *cells()]


def stream(size: Size) -> GaussianSamples:
    """A stream of ``y = he_2(<v, x>) + noise``, v with eight equal coordinates, in float32; n is traced."""
    rows = jnp.full((min(ACTIVE, size.dim), 1), min(ACTIVE, size.dim) ** -0.5, jnp.float32)
    count, noise, nothing = (jnp.float32(number) for number in (size.n, 0.1, 0.0))
    return GaussianSamples(
        jax.random.key(0), count, noise, jnp.arange(len(rows)), rows, nothing, size.dim, link((0.0, 1.0))
    )


def pruning(size: Size) -> list[Row]:
    """Rows: Algorithm 1 (arXiv 2406.08658) with both parts of the activation, against programs on whole arrays.

    Products, engine and baselines are timed in alternation. The engine's time includes drawing its samples, which the
    baselines are given.
    """
    samples, biases = stream(size), _biases(size)
    found, chosen = _prune(samples, biases, bench.PRUNE_POOL)
    task = Pruning(*laid_out(samples), np.asarray(biases), bench.PRUNE_POOL)
    notes, seconds, products = {name: "" for name in PRUNERS}, {name: [] for name in ("ours", *PRUNERS)}, []
    for _ in range(TURNS):
        products.append(product_rates(ROWS, size.dim))
        seconds["ours"].append(once(lambda: _prune(samples, biases, bench.PRUNE_POOL))[1])
        for name, baseline in PRUNERS.items():
            try:
                answer, taken = once(lambda baseline=baseline: baseline(task))
            except Absent as absent:
                notes[name] = str(absent)
                continue
            notes[name] = agreement(answer, (np.asarray(found.squares), np.asarray(chosen)))
            seconds[name].append(taken)
    ours, machine = median(seconds["ours"]), fastest(*products)
    rate, text = 4.0 * size.n * size.dim**2 * size.neurons / ours / 1e9, f", n = {size.n:,}, d = {size.dim}"
    note = f"{size.neurons} biases, both parities, drawing included, median of {TURNS}; ratio: "
    against = f"to {machine.gflops:.3g} GFLOP/s of products ({machine.way})"
    rows = [
        make_row("sparse", "pruning" + text, ours, f"{note}{bench.PRUNE_SECONDS:g} s over it", rate)
        | {"ratio": bench.PRUNE_SECONDS / ours, "target": 1.0},
        make_row("sparse", "pruning, share of products" + text, ours, note + against, rate, rate / machine.gflops),
    ]
    for name, taken in seconds.items():
        if name != "ours":
            middle = median(taken) if taken else None
            rows.append(make_row("sparse", name + text, middle, notes[name], ratio=middle and middle / ours))
    return rows


def laid_out(samples: GaussianSamples) -> tuple[np.ndarray, np.ndarray]:
    """A whole stream as arrays: x (n, dim + 1), the noise coordinate last, and y (n,)."""
    block = jax.jit(lambda index: samples.block(index, None))
    blocks = [block(index) for index in range(int(samples.blocks))]
    x, y, used = (np.concatenate([np.asarray(part) for part in parts], -1) for parts in zip(*blocks, strict=True))
    return np.ascontiguousarray(x.T[used > 0]), y[used > 0]


def agreement(theirs: tuple[np.ndarray, np.ndarray], ours: tuple[np.ndarray, np.ndarray]) -> str:
    """A text that says whether, and how far, a baseline's squared scores and coordinates agree with the engine's."""
    gap = float(np.max(np.abs(theirs[0] - ours[0])) / np.max(ours[0]))
    differ = int((theirs[1] != ours[1]).sum())
    word = "agrees" if gap <= AGREE and not differ else "DISAGREES"
    return f"{word} with the engine to {gap:.1g} of the largest score, {differ} coordinates chosen differently"


def streaming(size: Size) -> Row:
    """Row: exact bytes of the compiled scores at two numbers of samples, and seconds at the larger one, scaled up."""
    few, many = bench.STREAM_COUNTS
    biases, held = _biases(size), {}
    for n in (few, many):
        compiled = _prune.lower(stream(Size(n, size.dim, size.neurons)), biases, bench.PRUNE_POOL).compile()
        used = compiled.memory_analysis()
        assert used is not None
        held[n] = used.temp_size_in_bytes + used.output_size_in_bytes + used.argument_size_in_bytes
    samples = stream(size)
    seconds = median(once(lambda: _prune(samples, biases, bench.PRUNE_POOL))[1] for _ in range(TURNS))
    note = (
        f"{size.neurons} biases, both parities: {held[many]:,} bytes a cell ({held[many] / 2**20:.3g} MiB), at "
        f"n = {few:,} {held[few]:,}; timed at n = {size.n:,} and scaled; ratio: bytes at n = {few:,} over them"
    )
    flops, total = 4.0 * many * size.dim**2 * size.neurons, seconds * many / size.n
    name, ratio = f"pruning in a stream, n = {many:,}, d = {size.dim}", held[few] / held[many]
    return make_row("sparse", name, total, note, flops / total / 1e9, ratio, 1.0)


def one_step(size: Size) -> list[Row]:
    """Rows: a step on all coordinates against bare products, and its drawing of samples against other generators."""
    samples = stream(size)
    step, draw, products = [], [], []
    _step(samples, size.neurons)
    _draw(samples)
    for _ in range(TURNS):
        products.append(product_rates(size.neurons, size.dim))
        step.append(once(lambda: _step(samples, size.neurons))[1])
        draw.append(once(lambda: _draw(samples))[1])
    whole, drawing, machine = median(step), median(draw), fastest(*products)
    flops, numbers = 4.0 * size.n * size.dim * size.neurons, int(samples.blocks) * ROWS * (size.dim + 2)
    least, each = flops / machine.gflops / 1e9, 1e9 * drawing / numbers
    name = f"one step, unpruned, n = {size.n:,}, d = {size.dim}, {size.neurons} pairs"
    note = (
        f"{size.n / whole:,.0f} samples a second; drawing alone {drawing:.3g} s, its products at best {least:.3g} s "
        f"({machine.gflops:.3g} GFLOP/s); ratio: share of products"
    )
    rows = [make_row("sparse", name, whole, note, flops / whole / 1e9, least / whole)]
    note = f"{each:.3g} ns each, {each * machine.gflops:.0f} operations of products"
    rows.append(make_row("sparse", f"drawing {numbers:,} Gaussians and forgetting them", drawing, note))
    for name, generate in DRAWS.items():
        try:
            taken = median(once(lambda generate=generate: generate(numbers))[1] for _ in range(TURNS))
        except Absent as absent:
            rows.append(make_row("sparse", name, None, str(absent)))
            continue
        note = f"{1e9 * taken / numbers:.3g} ns each, one key for all"
        rows.append(make_row("sparse", name, taken, note, ratio=taken / drawing))
    return rows


@partial(jax.jit, static_argnames="pool")
def _prune(samples: GaussianSamples, biases: jax.Array, pool: int) -> tuple[inputs.Scores, jax.Array]:
    """The scores, and the mask of the coordinates kept."""
    found = inputs.gradient_scores(samples, biases, CONTRACTION, pool, RELU)
    return found, inputs.chosen(found, pool)


@partial(jax.jit, static_argnames="pairs")
def _step(samples: GaussianSamples, pairs: int) -> learner.Fitted:
    """One step on all coordinates; the second layer is left at 0."""
    kept = Kept(jnp.arange(samples.dim), jnp.ones((samples.dim,), bool))
    return learner.fit(samples, kept, learner.Recipe(pairs, RELU, second_layer="none"), jax.random.key(1))


@jax.jit
def _draw(samples: GaussianSamples) -> jax.Array:
    """The sum of a stream's blocks, so that all are drawn."""
    return fold(samples, lambda total, block: total + block.x, jnp.zeros((samples.dim + 1, ROWS), samples.dtype))


def _biases(size: Size) -> jax.Array:
    return jax.random.normal(jax.random.key(2), (size.neurons,), jnp.float32)
