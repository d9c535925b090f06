"""Scores, threshold, mask and compaction."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense.pruning import apply_mask, column_norms, compact, default_threshold, margin, threshold_mask

FACTOR = jnp.asarray([[3.0, 0.0, 0.1, 1.0], [4.0, 0.0, 0.0, 1.0]])


def test_norms_equal_the_loops():
    expected = [np.sqrt(sum(x * x for x in column)) for column in np.asarray(FACTOR).T]
    np.testing.assert_allclose(column_norms(FACTOR), expected, rtol=1e-15)


def test_threshold_is_strict_and_defaults_to_twice_the_root_of_the_smoothing():
    np.testing.assert_allclose(default_threshold(0.04), 0.4, rtol=1e-15)
    np.testing.assert_array_equal(threshold_mask(jnp.asarray([0.39, 0.4, 0.41]), 0.4), [False, False, True])


def test_margin_is_the_distance_of_the_nearest_norm():
    np.testing.assert_allclose(margin(column_norms(FACTOR), 0.4), 0.3, rtol=1e-12)


def test_compaction_keeps_the_columns_in_order_and_the_product():
    mask = threshold_mask(column_norms(FACTOR), 0.4)
    small = compact(FACTOR, mask, 3)
    np.testing.assert_array_equal(small, [[3.0, 1.0, 0.0], [4.0, 1.0, 0.0]])
    kept = apply_mask(FACTOR, mask)
    np.testing.assert_allclose(small @ small.T, kept @ kept.T, rtol=1e-15)


def test_compaction_refuses_to_lose_columns():
    with pytest.raises(ValueError, match="2 columns are kept, more than width 1"):
        compact(FACTOR, threshold_mask(column_norms(FACTOR), 0.4), 1)


def test_a_pruned_nan_column_is_gone():
    broken = FACTOR.at[0, 1].set(jnp.nan)
    mask = jnp.asarray([True, False, True, True])
    assert jnp.all(jnp.isfinite(apply_mask(broken, mask)))


def test_under_vmap():
    factors = jnp.stack([FACTOR, 10 * FACTOR])
    masks = jax.vmap(lambda u: threshold_mask(column_norms(u), 0.4))(factors)
    np.testing.assert_array_equal(masks.sum(-1), [2, 3])
    assert jax.vmap(lambda u, m: compact(u, m, 3))(factors, masks).shape == (2, 2, 3)
