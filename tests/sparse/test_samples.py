"""Streams of samples: what a block holds, whatever is asked of it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense.sparse.hermite import link
from gpsense.sparse.samples import ALL, FIT, HELD, ROWS, GaussianSamples, Samples, fold, outputs, table

DIM = 6
_table, _blocks = jax.jit(table), jax.jit(lambda samples: samples.blocks)
_block = jax.jit(lambda samples, index, coordinates: samples.block(index, coordinates))


def stream(count: float, noise: float = 0.3) -> GaussianSamples:
    rows = jnp.asarray([[0.6], [0.8]], jnp.float64)
    nothing = jnp.zeros((), jnp.float64)
    return GaussianSamples(
        jax.random.key(3),
        jnp.asarray(count, jnp.float64),
        jnp.asarray(noise),
        jnp.asarray([4, 1]),
        rows,
        nothing,
        DIM,
        link([1.0, 0.5]),
    )


def everything(samples: Samples, coordinates: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
    """All blocks side by side, the rows that are used: x (n, coordinates), y (n,)."""
    which = np.arange(samples.dim) if coordinates is None else coordinates
    blocks = [_block(samples, np.int32(i), which) for i in range(int(_blocks(samples)))]
    x, y, used = (np.concatenate([np.asarray(part) for part in parts], -1) for parts in zip(*blocks, strict=True))
    return x.T[used > 0], y[used > 0]


def test_outputs_follow_the_model() -> None:
    x, y = everything(stream(1000, 0.0))
    t = 0.6 * x[:, 4] + 0.8 * x[:, 1]
    expected = (t + 0.5 * (t**2 - 1) / np.sqrt(2)) / np.sqrt(1.25)
    np.testing.assert_allclose(y, expected, atol=1e-12)
    assert x.shape == (1000, DIM)


def test_inputs_are_independent_standard_normals() -> None:
    x, y = everything(stream(20 * ROWS), np.arange(DIM + 1))
    np.testing.assert_allclose(x.T @ x / len(x), np.eye(DIM + 1), atol=5 / np.sqrt(len(x)))
    assert abs(x[:, DIM] @ y) / len(x) < 5 / np.sqrt(len(x))
    _, quiet = everything(stream(20 * ROWS, 0.0))
    np.testing.assert_allclose(np.std(y - quiet), 0.3, rtol=0.03)


def test_more_samples_extend_fewer_and_coordinates_stand_alone() -> None:
    few, many = everything(stream(900)), everything(stream(1500))
    some = everything(stream(900), np.asarray([5, 2]))
    rows = {tuple(row) for row in many[0]}
    assert len(few[0]) == 900
    assert all(tuple(row) in rows for row in few[0])
    np.testing.assert_array_equal(some[0], few[0][:, [5, 2]])
    np.testing.assert_array_equal(some[1], few[1])


@pytest.mark.parametrize("count", [3, 640, 1003])
def test_parts_split_the_samples(count: int) -> None:
    whole, fit, held = (everything(stream(count).seen_as(part))[1] for part in (ALL, FIT, HELD))
    assert len(held) == count // 5
    assert sorted(np.concatenate([fit, held])) == sorted(whole)


def test_mean_and_variance() -> None:
    samples = stream(1003)
    _, y = everything(samples)
    mean, variance = jax.jit(outputs)(samples)
    np.testing.assert_allclose([mean, variance], [y.mean(), y.var()], rtol=1e-12)
    shifted = dataclasses.replace(samples, offset=mean)
    np.testing.assert_allclose(jax.jit(outputs)(shifted), [y.mean(), y.var()], rtol=1e-12)


def test_a_table_is_read_as_given() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(1403, 3)), rng.normal(size=1403) + 5
    weights = (np.arange(1403) % 7 > 0).astype(float)
    samples = _table(x, y, jax.random.key(0), weights)
    found = everything(samples)
    order, expected = np.lexsort(found[0].T), np.lexsort(x[weights > 0].T)
    np.testing.assert_array_equal(found[0][order], x[weights > 0][expected])
    centred = y[weights > 0][expected] - y[weights > 0].mean()
    rounding = y.size * np.finfo(float).eps * np.abs(y).max()  # of the mean, added up in any order
    np.testing.assert_allclose(found[1][order], centred, rtol=0, atol=rounding)
    held = everything(samples.seen_as(HELD))[0]
    np.testing.assert_array_equal(np.sort(held[:, 0]), np.sort(x[4::5][weights[4::5] > 0][:, 0]))


def test_a_table_draws_its_noise_coordinate() -> None:
    samples = _table(np.zeros((2000, 2)), np.arange(2000.0), jax.random.key(0))
    noise = everything(samples, np.asarray([2, 0]))[0]
    np.testing.assert_allclose([noise[:, 0].std(), noise[:, 1].std()], [1.0, 0.0], atol=0.05)


def test_fold_is_a_sum_over_samples() -> None:
    samples = stream(1003)
    x, y = everything(samples)
    total = jax.jit(
        lambda s: fold(s, lambda sums, block: sums + block.x[:DIM] @ (block.used * block.y), jnp.zeros(DIM))
    )(samples)
    np.testing.assert_allclose(total, x.T @ y, rtol=1e-9)
