"""Scores, threshold, mask and compaction."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError

from gpsense.errors import BadInput
from gpsense.pruning import columns
from gpsense.pruning.columns import column_norms, default_threshold, gap_mask, threshold_mask

FACTOR = np.asarray([[3.0, 0.0, 0.1, 1.0], [4.0, 0.0, 0.0, 1.0]])
MASK = np.asarray([True, False, False, True])
coherence, rotate, gap = jax.jit(columns.coherence), jax.jit(columns.rotate), jax.jit(columns.gap)
largest_mask, random_mask = jax.jit(columns.largest_mask), jax.jit(columns.random_mask)


def test_norms_equal_the_loops():
    expected = [np.sqrt(sum(x * x for x in column)) for column in np.asarray(FACTOR).T]
    np.testing.assert_allclose(jax.jit(column_norms)(FACTOR), expected, rtol=1e-15)


def test_threshold_is_strict_and_defaults_to_twice_the_root_of_the_smoothing():
    np.testing.assert_allclose(default_threshold(0.04), 0.4, rtol=1e-15)
    np.testing.assert_array_equal(threshold_mask(jnp.asarray([0.39, 0.4, 0.41]), 0.4), [False, False, True])


def test_margin_is_the_distance_of_the_nearest_norm():
    distance = jax.jit(lambda factor: columns.margin(column_norms(factor), 0.4))
    np.testing.assert_allclose(distance(FACTOR), 0.3, rtol=1e-12)


def test_compaction_keeps_the_columns_in_order_and_the_product():
    small = np.asarray(jax.jit(columns.compact, static_argnums=2)(FACTOR, MASK, 3))
    np.testing.assert_array_equal(small, [[3.0, 1.0, 0.0], [4.0, 1.0, 0.0]])
    kept = np.asarray(jax.jit(columns.apply_mask)(FACTOR, MASK))
    np.testing.assert_allclose(small @ small.T, kept @ kept.T, rtol=1e-15)


def test_compaction_refuses_to_lose_columns():
    with pytest.raises(ValueError, match="2 columns are kept, more than width 1"):
        columns.compact(jnp.asarray(FACTOR), jnp.asarray(MASK), 1)


def test_a_pruned_nan_column_is_gone():
    broken = FACTOR.copy()
    broken[0, 1] = np.nan
    mask = np.asarray([True, False, True, True])
    assert np.isfinite(jax.jit(columns.apply_mask)(broken, mask)).all()


def test_under_vmap():
    factors = np.stack([FACTOR, 10 * FACTOR])
    masks = np.asarray(jax.jit(jax.vmap(lambda u: threshold_mask(column_norms(u), 0.4)))(factors))
    np.testing.assert_array_equal(masks.sum(-1), [2, 3])
    assert jax.jit(jax.vmap(lambda u, m: columns.compact(u, m, 3)))(factors, masks).shape == (2, 2, 3)


def test_the_largest_norms_stay_of_equal_ones_the_first_and_nan_last():
    keep = lambda norms, count: largest_mask(np.asarray(norms), count).tolist()  # noqa: E731
    assert keep([0.1, 3.0, 2.0, 0.0], 2) == [False, True, True, False]
    assert keep([1.0, 2.0, 1.0, 1.0], 3) == [True, True, True, False]
    assert keep([1.0, float("nan"), 0.5], 2) == [True, False, True]
    assert keep([1.0, 2.0], 0) == [False, False]
    assert keep([1.0, 2.0], 5) == [True, True]
    norms = np.asarray([0.1, 3.0, 2.0])
    counts = jax.jit(jax.vmap(largest_mask, (None, 0)))(norms, np.arange(4))
    np.testing.assert_array_equal(np.sum(counts, -1), [0, 1, 2, 3])


@pytest.mark.parametrize(
    ("norms", "kept"),
    [
        ([0.9, 1.0, 0.1, 0.12], [True, True, False, False]),
        ([0.0, 5.0, 4.0], [False, True, True]),
        ([5.0, 4.9, 4.8], [True, True, True]),
        ([2.0, 1.0, 1.0], [True, False, False]),
        ([0.0, 0.0], [True, False]),
        ([0.3], [True]),
    ],
)
def test_the_largest_gap_between_neighbours_decides_and_zero_ends_them(norms, kept):
    assert jax.jit(gap_mask)(np.asarray(norms)).tolist() == kept


def test_a_random_mask_is_that_of_its_key_and_keeps_no_dead_column():
    norms = jnp.asarray([0.0, 2.0, 1.0, 0.0, 3.0, 0.5])
    keys = jax.random.split(jax.random.key(0), 2000)
    masks = np.asarray(jax.jit(jax.vmap(lambda key: random_mask(key, norms, 2)))(keys))
    np.testing.assert_array_equal(masks.sum(1), np.full(2000, 2))
    assert not masks[:, [0, 3]].any()
    np.testing.assert_allclose(masks[:, [1, 2, 4, 5]].mean(0), 0.5, atol=0.05)
    again = random_mask(keys[7], norms, 2)
    np.testing.assert_array_equal(again, masks[7])
    assert random_mask(jax.random.key(1), norms, 5).tolist() == [True, True, True, False, True, True]
    assert not np.asarray(random_mask(jax.random.key(1), np.asarray([np.nan, 1.0]), 1))[0]


def test_gap_is_of_the_kept_to_the_deleted_and_negative_where_a_mask_skips_the_largest():
    norms = np.asarray([3.0, 1.0, 2.0])
    np.testing.assert_allclose(gap(norms, np.asarray([True, False, True])), 1.0)
    np.testing.assert_allclose(gap(norms, np.asarray([False, True, False])), -2.0)
    assert gap(norms, np.ones(3, bool)) == np.inf


def test_rotation_makes_columns_orthogonal_and_keeps_the_product():
    factor = np.random.default_rng(0).normal(size=(6, 4))
    factor[:, 3] = 2 * factor[:, 0]  # rank three, so that one column ends
    turned = np.asarray(rotate(factor))
    np.testing.assert_allclose(turned @ turned.T, factor @ factor.T, atol=1e-12)
    values = np.linalg.svd(factor, compute_uv=False)
    np.testing.assert_allclose(turned.T @ turned, np.diag(values**2), atol=1e-12)
    again = np.asarray(rotate(turned))
    np.testing.assert_allclose(np.abs(again[:, :3]), np.abs(turned[:, :3]), atol=1e-10)
    wide = np.random.default_rng(1).normal(size=(2, 3))
    np.testing.assert_allclose(np.asarray(rotate(wide))[:, 2], 0.0, atol=1e-7)


def test_coherence_is_the_largest_squared_cosine_of_two_kept_columns():
    factor = np.random.default_rng(2).normal(size=(4, 5))
    mask = np.array([True, False, True, True, True])
    factor[:, 3] = 0.0
    expected = 0.0
    for i in range(5):
        for j in range(i):
            if mask[i] and mask[j] and i != 3 and j != 3:
                cosine = factor[:, i] @ factor[:, j] / (np.linalg.norm(factor[:, i]) * np.linalg.norm(factor[:, j]))
                expected = max(expected, cosine**2)
    np.testing.assert_allclose(coherence(factor, mask), expected, rtol=1e-12)
    np.testing.assert_allclose(coherence(7 * factor, mask), expected, rtol=1e-12)
    for lone in ([True] + [False] * 4, [False] * 5):
        assert coherence(factor, np.asarray(lone)) == 0.0
    np.testing.assert_allclose(coherence(np.ones((3, 2)), np.ones(2, bool)), 1.0, rtol=1e-12)
    broken = factor.copy()
    broken[:, 1] = np.nan
    np.testing.assert_allclose(coherence(broken, mask), expected, rtol=1e-12)


def test_the_tests_check_shapes_at_run_time() -> None:
    """Of every call of the modules that ``conftest`` lists."""
    with pytest.raises(TypeCheckError):
        columns.apply_mask(jnp.ones((3, 2)), jnp.ones(3, bool))


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("threshold_mask", (0.4, FACTOR[0]), r"norms: it has shape \(\), not \(width,\)"),
        ("threshold_mask", (FACTOR[0], FACTOR[0]), r"threshold: it has shape \(4,\), not \(\)"),
        ("threshold_mask", ([0.4, 0.1], 0.2), r"norms: it is a list; give an array, jax.numpy.array\(norms\)"),
        ("threshold_mask", (FACTOR[0], -0.1), "threshold: -0.1 is not allowed; use a number 0 or more"),
        ("largest_mask", (FACTOR[0], -1), "count: -1 is not allowed"),
        ("apply_mask", (MASK, FACTOR), "mask: it holds float64, not booleans; give the factor first"),
        ("apply_mask", (FACTOR, MASK[:1]), r"mask: it has shape \(1,\), not \(4,\)"),
        ("compact", (MASK, FACTOR, 2), "mask: it holds float64"),
        ("column_norms", (FACTOR[0],), r"factor: it has shape \(4,\), not \(dim, width\)"),
    ],
)
def test_arguments_swapped_or_out_of_range_are_refused(name, given, said):
    with pytest.raises(BadInput, match=f"^{said}"):
        inspect.unwrap(getattr(columns, name))(*given)
