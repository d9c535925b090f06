"""Samples of a regression as a stream of blocks, so that their number is bounded by time and not by memory.

A block holds a fixed number of samples, coordinates first: ``x (coordinates, rows)``. Gaussian samples are drawn on
request and not stored; a coordinate's draws depend on the key, the block and the coordinate alone, so that a pass over
the few coordinates that were kept draws only those. Beside the inputs 0 to dim - 1 there is a noise coordinate, of
index ``dim``: a standard Gaussian that ``y`` does not depend on. Every fifth sample is held out: the stream's ``part``
says which part a pass sees; it is traced, so that under ``vmap`` one pass serves several parts.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gpsense._types import Integer, RandomKey, Scalar, ScalarLike
from gpsense.fields import check_key
from gpsense.sparse.hermite import Link, additive

ROWS, BLOCKS = 640, 65536
ALL, FIT, HELD = 0, 1, 2
T = TypeVar("T")


class Block(NamedTuple):
    """Inputs (coordinates, rows), outputs minus the stream's offset, 0/1 weights."""

    x: Float[Array, "coordinates rows"]
    y: Float[Array, " rows"]
    used: Float[Array, " rows"]


@runtime_checkable
class Samples(Protocol):
    """A stream: ``blocks`` of samples of ``dim`` inputs; ``offset`` is subtracted from the outputs."""

    @property
    def dim(self) -> int: ...
    @property
    def blocks(self) -> Integer: ...
    @property
    def offset(self) -> Scalar: ...
    @property
    def dtype(self) -> Any: ...
    def block(self, index: Integer, coordinates: Int[Array, " k"] | None) -> Block: ...
    def seen_as(self, part: Integer | int) -> "Samples": ...


class GaussianSamples(eqx.Module):
    """``y = link(V^T x) + noise e`` with x ~ N(0, I_dim), V (dim, r) given by its rows on ``support``.

    For several directions the link is additive: ``sum_k link(v_k^T x) / sqrt(r)``. ``count``, the number of samples, is
    traced: with the same key a larger count adds samples to those of a smaller one.
    """

    key: RandomKey
    count: ScalarLike
    noise: ScalarLike
    support: Int[Array, " s"]
    rows: Float[Array, "s r"]
    offset: Scalar
    dim: int = eqx.field(static=True)
    link: Link = eqx.field(static=True)
    part: Integer | int = ALL

    @property
    def blocks(self) -> Integer:
        return (jnp.asarray(self.count).astype(jnp.int32) + ROWS - 1) // ROWS

    @property
    def dtype(self) -> Any:
        return self.rows.dtype

    def block(self, index: Integer, coordinates: Int[Array, " k"] | None) -> Block:
        noise = jnp.asarray([self.dim + 1])
        if coordinates is None:
            drawn = draw_coordinates(self.key, index, jnp.arange(self.dim + 2), self.dtype)
            x, active, noise = drawn[:-1], drawn[self.support], drawn[-1]
        else:
            which = jnp.concatenate([self.support, noise, coordinates])
            drawn = draw_coordinates(self.key, index, which, self.dtype)
            active, noise, x = jnp.split(drawn, [len(self.support), len(self.support) + 1])
            noise = noise[0]
        y = additive(self.link, (self.rows.T @ active).T) + jnp.asarray(self.noise, self.dtype) * noise - self.offset
        return Block(x, y, _used(index, self.count, self.part, self.dtype))

    def seen_as(self, part: Integer | int) -> "GaussianSamples":
        return replace(self, part=part)

    def directions(self) -> Float[Array, "dim r"]:
        """V with all its rows, zero off the support."""
        empty = jnp.zeros((self.dim, self.rows.shape[1]), self.dtype)
        return empty.at[self.support].set(self.rows)


class TableSamples(eqx.Module):
    """Given samples: ``x (dim + 1, blocks * ROWS)``, ``y`` and 0/1 weights, padded with zeros; see :func:`table`.

    The last row of x is the noise coordinate.
    """

    x: Float[Array, "coordinates padded"]
    y: Float[Array, " padded"]
    given: Float[Array, " padded"]
    offset: Scalar
    part: Integer | int = ALL

    @property
    def dim(self) -> int:
        return self.x.shape[0] - 1

    @property
    def blocks(self) -> Integer:
        return jnp.int32(self.x.shape[1] // ROWS)

    @property
    def dtype(self) -> Any:
        return self.x.dtype

    def block(self, index: Integer, coordinates: Int[Array, " k"] | None) -> Block:
        cut = lambda values: jax.lax.dynamic_slice_in_dim(values, index * ROWS, ROWS, -1)  # noqa: E731
        x = cut(self.x) if coordinates is None else cut(self.x)[coordinates]
        used = cut(self.given) * _used(index, self.x.shape[1], self.part, self.dtype)
        return Block(x, cut(self.y) - self.offset, used)

    def seen_as(self, part: Integer | int) -> "TableSamples":
        return replace(self, part=part)


def table(
    x: Float[Array, "n dim"],
    y: Float[Array, " n"],
    key: RandomKey,
    used: Float[Array, " n"] | None = None,
) -> TableSamples:
    """The stream of a table without the rows whose ``used`` is 0; its offset is the mean ``y`` of the rows used.

    The key draws the noise coordinate.
    """
    weights = jnp.ones_like(y) if used is None else used
    padding = -(-y.shape[0] // ROWS) * ROWS - y.shape[0]
    order = np.concatenate([start + _numbers(ROWS) for start in range(0, y.shape[0] + padding, ROWS)])
    fill = lambda values: jnp.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, padding)])[..., order]  # noqa: E731
    x, y, weights = fill(x.T), fill(y), fill(weights)
    blocks = jnp.arange(x.shape[1] // ROWS)
    draw = lambda index: draw_coordinates(key, index, jnp.asarray([x.shape[0]]), x.dtype)  # noqa: E731
    noise = jax.vmap(draw)(blocks).reshape(1, -1)
    return TableSamples(jnp.concatenate([x, noise]), y, weights, jnp.sum(weights * y) / jnp.sum(weights))


def fold(samples: Samples, body: Callable[[T, Block], T], start: T, coordinates: Int[Array, " k"] | None = None) -> T:
    """``body`` applied to all blocks in turn; ``coordinates`` None: all dim in order, then the noise coordinate."""
    return jax.lax.fori_loop(0, samples.blocks, lambda i, carry: body(carry, samples.block(i, coordinates)), start)


def outputs(samples: Samples) -> tuple[Scalar, Scalar]:
    """Mean of the outputs, including the offset, and their variance."""
    nothing = jnp.zeros((), samples.dtype)

    def add(sums: tuple[Scalar, ...], block: Block) -> tuple[Scalar, ...]:
        weighted = block.used * block.y
        return sums[0] + weighted.sum(), sums[1] + weighted @ block.y, sums[2] + block.used.sum()

    first, second, count = fold(samples, add, (nothing, nothing, nothing), jnp.arange(0))
    return samples.offset + first / count, second / count - (first / count) ** 2


def draw_coordinates(
    key: RandomKey, index: Integer, coordinates: Int[Array, " k"], dtype: Any
) -> Float[Array, "k rows"]:
    """A block's Gaussian inputs at these coordinates: one key per coordinate and block, for up to BLOCKS blocks."""
    check_key(key)
    numbers = coordinates.astype(jnp.uint32) * BLOCKS + index.astype(jnp.uint32)
    keys = jax.vmap(lambda number: jax.random.fold_in(key, number))(numbers)
    return jax.vmap(lambda each: jax.random.normal(each, (ROWS,), dtype))(keys)


def held_out(numbers: np.ndarray) -> np.ndarray:
    """Whether the samples with these indices are held out: every fifth."""
    return numbers % 5 == 4


def _numbers(rows: int) -> np.ndarray:
    """The sample index of each row of a block: held-out samples last, so that each part is contiguous."""
    numbers = np.arange(rows)
    return np.concatenate([numbers[~held_out(numbers)], numbers[held_out(numbers)]])


def _used(index: Integer, count: ScalarLike, part: Integer | int, dtype: Any) -> Float[Array, " rows"]:
    """Weights of a block's rows: 1 for samples of the part with an index below ``count``, else 0."""
    numbers = _numbers(ROWS)
    held = jnp.asarray(held_out(numbers))
    member = jnp.where(jnp.asarray(part) == ALL, True, held == (jnp.asarray(part) == HELD))
    inside = jnp.asarray(numbers, jnp.int32) + index.astype(jnp.int32) * ROWS < jnp.asarray(count).astype(jnp.int32)
    return (member & inside).astype(dtype)
