"""Directions of every spread: orthonormal columns, the support, and rows as large as said."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense.sparse.directions import draw_directions, orthonormal

DIM, SPARSITY = 14, 6
_draw = jax.jit(draw_directions, static_argnums=(1, 2, 3, 4, 5, 7))


def many(
    r: int, spread: str, softness: float, sparsity: int, tilt: float, n: int = 16
) -> tuple[np.ndarray, np.ndarray]:
    """Some draws, one after another."""
    keys = jax.random.split(jax.random.key(0), n)
    drawn = [_draw(key, DIM, sparsity, r, spread, softness, tilt, jnp.float64) for key in keys]
    return np.stack([support for support, _ in drawn]), np.stack([rows for _, rows in drawn])


CASES = [(r, spread, q) for r in (1, 2, 3) for spread in ("equal", "random", "axes") for q in (0.0, 0.5)]


@pytest.mark.parametrize(("r", "spread", "softness"), [*CASES, (1, "spike", 0.0)])
def test_columns_are_orthonormal_on_a_support_drawn_without_replacement(r: int, spread: str, softness: float) -> None:
    support, rows = many(r, spread, softness, SPARSITY, 0.1)
    np.testing.assert_allclose(np.swapaxes(rows, 1, 2) @ rows, np.tile(np.eye(r), (16, 1, 1)), atol=1e-12)
    count = DIM if softness else SPARSITY
    assert support.shape == (16, count)
    assert all(len(set(places)) == count for places in np.asarray(support).tolist())
    assert set(np.unique(support)) == set(range(DIM))


@pytest.mark.parametrize("r", [1, 2, 3])
@pytest.mark.parametrize("sparsity", [3, 6, 7])
def test_equal_rows_have_equal_norms(r: int, sparsity: int) -> None:
    """Of random signs, and however many rows: as many as directions too."""
    rows = many(r, "equal", 0.0, sparsity, 0.0)[1]
    np.testing.assert_allclose(np.sum(rows**2, axis=2), r / sparsity, rtol=1e-12)
    assert np.ptp(np.sign(rows), axis=0).min() == 2


def test_random_columns_are_uniform() -> None:
    """Each entry has mean 0 and variance 1/s, in either column."""
    rows = many(2, "random", 0.0, SPARSITY, 0.0, 60)[1]
    np.testing.assert_allclose(rows.mean(axis=(0, 1)), 0.0, atol=4 / np.sqrt(60 * SPARSITY * SPARSITY))
    assert np.abs(rows.mean(axis=0)).max() < 4 / np.sqrt(60 * SPARSITY)
    np.testing.assert_allclose((rows**2).mean(axis=0), 1 / SPARSITY, rtol=0.6)


def test_a_spike_and_axes() -> None:
    rows = many(1, "spike", 0.0, SPARSITY, 0.2)[1][0]
    np.testing.assert_allclose(rows[:, 0], [np.sqrt(1 - 5 * 0.2**2), *[0.2] * 5], rtol=1e-12)
    np.testing.assert_array_equal(many(2, "axes", 0.0, SPARSITY, 0.0)[1][0], np.eye(SPARSITY, 2))


def test_soft_rows_fall_as_a_power() -> None:
    """``||v_i|| ~ (1 + i/s)^(-1/q)``: exactly for one direction of equal rows; no end to the support."""
    rows = np.abs(many(1, "equal", 0.5, SPARSITY, 0.0)[1][:, :, 0])
    fall = (1 + np.arange(DIM) / SPARSITY) ** -2.0
    np.testing.assert_allclose(rows / rows[:, :1], np.tile(fall, (16, 1)), rtol=1e-12)
    norms = np.sqrt(np.sum(many(3, "random", 0.5, SPARSITY, 0.0)[1] ** 2, axis=2)).mean(axis=0)
    assert float(norms[0] / norms[-1]) > 3


def test_nearly_dependent_columns_are_made_orthonormal_in_float32() -> None:
    """And, whatever their directions, to the span and the orientation that they have."""
    given = np.asarray([[1.0, 1.0], [1.0, 1.001], [1.0, 1.0]], np.float32)
    columns = np.asarray(jax.jit(orthonormal)(given))
    assert columns.dtype == jnp.float32
    np.testing.assert_allclose(columns.T @ columns, np.eye(2), atol=1e-6)
    np.testing.assert_allclose(columns @ (columns.T @ given), given, atol=1e-6)
    assert (np.sum(columns * given, axis=0) > 0).all()
