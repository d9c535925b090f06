"""Gradient steps of small convolutional networks, each with its own weights: as matrix products, and by XLA."""

from collections.abc import Callable
from statistics import median
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from gpsense.tickets.network import Task, cross_entropy
from launch import bench
from launch.bench.rows import Row, make_row, once

TURNS = 3
AGREE = 1e-3  # relative to the largest weight, in float32
RATE = 0.05
CLASSES, SIDE = 10, 8


class Network(eqx.Module):
    """Two 3 x 3 convolutions with 16 and 32 filters, each followed by 2 x 2 max pooling, and a linear layer."""

    filters: list[eqx.nn.Conv2d]
    pool: eqx.nn.MaxPool2d
    last: eqx.nn.Linear

    def __init__(self, key: jax.Array):
        one, two, three = jax.random.split(key, 3)
        self.filters = [eqx.nn.Conv2d(1, 16, 3, padding=1, key=one), eqx.nn.Conv2d(16, 32, 3, padding=1, key=two)]
        self.pool = eqx.nn.MaxPool2d(2, 2)
        self.last = eqx.nn.Linear(32 * (SIDE // 4) ** 2, CLASSES, key=three)

    def __call__(self, x: jax.Array) -> jax.Array:
        for filters in self.filters:
            x = self.pool(jax.nn.relu(filters(x)))
        return self.last(x.ravel())


def convolutions() -> list[Row]:
    """A row for convolutions as matrix products and one for XLA's; ratio: seconds of XLA over the products'."""
    task, rng = Task(Network, (1, SIDE, SIDE)), np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((bench.CONVOLUTION_ROWS, *task.shape)), jnp.float32)
    labels = jnp.asarray(rng.integers(0, CLASSES, len(x)))
    params = jax.vmap(lambda key: task.draw(key, jnp.float32))(jax.random.split(jax.random.key(0), bench.CONVOLUTIONS))
    own: Callable[..., Any] = lambda params, x: jax.vmap(task.model(params))(x)  # noqa: E731
    loops = [_steps(outputs, x, labels) for outputs in (task.outputs, own)]
    found = [run(params) for run in loops]
    taken = [[once(lambda run=run: run(params))[1] for run in loops] for _ in range(TURNS)]
    ours, theirs = (median(times) for times in zip(*taken, strict=True))
    pairs = list(zip(*map(jax.tree.leaves, found), strict=True))
    apart = max(float(jnp.max(jnp.abs(one - two)) / jnp.max(jnp.abs(two))) for one, two in pairs)
    agrees = f"{'agrees' if apart < AGREE else 'DISAGREES'} to {apart:.2g}"
    name = f"{bench.CONVOLUTIONS} cells, {len(x)} images of {SIDE} x {SIDE}, {bench.CONVOLUTION_STEPS} steps"
    return [
        make_row("tickets", f"convolutions as products, {name}", ours, f"median of {TURNS}"),
        make_row("tickets", f"convolutions of XLA, {name}", theirs, agrees, ratio=theirs / ours),
    ]


def _steps(outputs: Callable[..., Any], x: jax.Array, labels: jax.Array) -> Callable[[Any], Any]:
    """A compiled function that takes the steps of gradient descent of all cells."""
    slope = jax.grad(lambda params: jnp.mean(cross_entropy(outputs(params, x), labels)))
    step = lambda params: jax.tree.map(lambda leaf, by: leaf - RATE * by, params, slope(params))  # noqa: E731
    return jax.jit(lambda cells: jax.lax.fori_loop(0, bench.CONVOLUTION_STEPS, lambda _, c: jax.vmap(step)(c), cells))
