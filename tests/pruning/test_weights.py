"""Masks over trees: against loops over sorted lists, with ties, NaN and weights that are gone already."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense.errors import BadInput
from gpsense.pruning import training, weight_scores
from gpsense.pruning import weights as masks

TREE = {"a": (3, 4), "bias": (4, 1), "c": {"w": (2, 2, 2), "b": (5,)}}
CAN = {"a": True, "bias": False, "c": {"w": True, "b": False}}


def _tree(make):
    return jax.tree.map(make, TREE, is_leaf=lambda shape: isinstance(shape, tuple))


def _best(scores, mask, count):
    """Flat positions of the ``count`` best: sorted by kept or not, NaN or not, score, position."""
    order = sorted(range(len(scores)), key=lambda i: (not mask[i], np.isnan(scores[i]), -np.nan_to_num(scores[i]), i))
    return {i for i in order[: int(count)] if mask[i]}


def test_prunable_leaves_are_the_weights():
    params = _tree(lambda shape: jnp.zeros(shape))
    assert masks.prunable(params) == CAN
    make = lambda key: [eqx.nn.Conv2d(1, 2, 3, key=key), eqx.nn.LayerNorm(4), eqx.nn.Linear(1, 3, key=key)]  # noqa: E731
    can = masks.prunable(eqx.filter_eval_shape(make, jax.random.key(0)))
    assert can[0].weight
    assert can[2].weight
    assert sum(jax.tree.leaves(can)) == 2


def test_largest_are_kept_as_in_a_sorted_list():
    rng = np.random.default_rng(0)

    def one_cut(scores, mask, count):
        found = masks.keep_largest(scores, mask, CAN, count)
        return found, masks.flat(found, CAN), masks.kept_share(found, CAN)

    cut = jax.jit(jax.vmap(one_cut, (None, None, 0)))
    for dtype in (jnp.float64, jnp.float32):
        values = rng.integers(-2, 3, 20).astype(float)
        values[[1, 7, 15]], values[[2, 16]] = np.nan, -np.inf
        values[[0, 4, 9]] = -0.0, 0.0, np.inf
        kept = rng.random(20) < 0.7
        kept[[1, 2, 5]] = True
        empty = _tree(lambda shape, t=dtype: jnp.zeros(shape, t))
        scores = masks.unflat(jnp.asarray(values, dtype), empty, CAN)
        mask = masks.unflat(jnp.asarray(kept), masks.everything(empty), CAN)
        found, weights, shares = cut(scores, mask, jnp.arange(25, dtype=dtype))
        assert found["bias"].all()
        assert found["c"]["b"].all()
        for count in range(25):
            assert set(np.flatnonzero(weights[count])) == _best(values, kept, count)
        np.testing.assert_allclose(shares, np.minimum(np.arange(25), kept.sum()) / 20, rtol=1e-6)


def test_masked_entries_are_zero_and_vectors_go_back():
    params = _tree(lambda shape: jnp.asarray(1.0 + np.arange(np.prod(shape)).reshape(shape)))
    vector = masks.flat(params, CAN)
    np.testing.assert_array_equal(vector, [*range(1, 13), *range(1, 9)])
    back = masks.unflat(vector + 1, params, CAN)
    np.testing.assert_array_equal(back["c"]["w"], params["c"]["w"] + 1)
    np.testing.assert_array_equal(back["bias"], params["bias"])
    mask = masks.everything(params)
    assert masks.kept_share(mask, CAN) == 1.0
    mask["a"] = mask["a"].at[0].set(False)
    broken = params | {"a": params["a"].at[0].set(jnp.nan)}
    applied = masks.apply(mask, broken)
    np.testing.assert_array_equal(applied["a"][0], 0.0)
    np.testing.assert_array_equal(applied["a"][1:], params["a"][1:])
    np.testing.assert_allclose(masks.kept_share(mask, CAN), 16 / 20)


def test_all_numbers_of_a_tree_are_a_vector_and_go_back():
    params = _tree(lambda shape: jnp.asarray(1.0 + np.arange(np.prod(shape)).reshape(shape)))
    numbers = masks.Numbers(jax.eval_shape(lambda: params))
    vector = numbers.vector(params)
    np.testing.assert_array_equal(vector, [*range(1, 13), *range(1, 5), *range(1, 6), *range(1, 9)])
    np.testing.assert_array_equal(vector[numbers.prunable], masks.flat(params, CAN))
    back = numbers.tree(vector)
    assert jax.tree.structure(back) == jax.tree.structure(params)
    assert jax.tree.all(jax.tree.map(lambda one, other: bool((one == other).all()), back, params))


def test_counts_are_rounded_shares_and_never_none():
    shares = np.array([0.0, 0.001, 0.3, 0.8**10, 1.0])
    counts = jax.vmap(lambda kept: masks.kept_count(1234, kept))(jnp.asarray(shares))
    np.testing.assert_array_equal(counts, np.clip(np.round(1234 * shares), 1, None))
    assert masks.kept_count(2**25 + 1, jnp.float32(1.0)) == 2**25 + 1


SCORES = {"w": jnp.arange(1.0, 9.0).reshape(2, 4), "v": jnp.arange(1.0, 5.0).reshape(2, 2)}
BOTH = {"w": True, "v": True}


def _keep(kept, **how):
    return masks.keep_share(SCORES, BOTH, kept, **how)


@pytest.mark.parametrize(
    ("call", "field", "problem"),
    [
        *(
            (lambda kept=kept: _keep(kept), "kept", "above 0 and at most 1")
            for kept in (0.0, -0.1, 1.5, np.nan, "half")
        ),
        (lambda: _keep(jnp.array([0.5, 2.0]), spread="layer"), "kept", "2.0 is not allowed"),
        (lambda: masks.keep_groups(SCORES, BOTH, 0.5, axis=2), "axis", "v of shape .* has no axis 2"),
        (lambda: masks.keep_n_of_m(SCORES, BOTH, 3, 2), "n", "1 to 2"),
        (lambda: masks.keep_n_of_m(SCORES, BOTH, 0, 2), "n", "1 to 2"),
        (lambda: masks.keep_largest(SCORES, masks.everything(SCORES), CAN, -1), "count", "0 or more"),
        (lambda: masks.keep_share(SCORES, {"w": True, "v": True, "b": False}, 0.5), "prunable", "it has 3 leaves"),
        (lambda: masks.keep_share(SCORES, {"w": False, "v": False}, 0.5), "prunable", "no weight can be pruned"),
        (lambda: weight_scores.prune_by(weight_scores.magnitude, SCORES, kept=2.0), "kept", "2.0 is not allowed"),
        (lambda: weight_scores.prune_by("snip", SCORES, kept=0.5), "score", "'snip' is not a function"),
        (lambda: weight_scores.snip(SCORES, loss=lambda tree: tree["w"]), "loss", "it returned shape"),
        (lambda: training.pruned("adam"), "optimizer", "'adam' is not an optax optimizer"),
        (lambda: training.cubic(100, 50, 0.1), "last", "50 is before step 100"),
        (lambda: training.cubic(0, 50, 1.5), "kept", "1.5 is not allowed"),
        (lambda: training.iterative(0, 0.2), "every", "above 0"),
        (lambda: training.iterative(10, 1.0), "share", "above 0 and below 1"),
        (lambda: training.one_shot(10, -1.0), "kept", "above 0"),
    ],
)
def test_numbers_that_are_no_shares_are_refused(call, field, problem):
    """Where they are known; traced ones are cut to what there is."""
    with pytest.raises(BadInput, match=problem) as refused:
        call()
    assert refused.value.field == field


def test_a_share_for_each_layer_is_one_of_every_layer():
    scores = {"a": jnp.arange(6.0).reshape(2, 3), "b": jnp.arange(4.0).reshape(2, 2)}
    prunable = {"a": True, "b": True}
    kept = masks.keep_share(scores, prunable, jnp.array([0.5, 0.25]), spread="layer")
    assert [int(leaf.sum()) for leaf in jax.tree.leaves(kept)] == [3, 1]
    for spread, shares in (("global", [0.5, 0.25]), ("layer", [0.5, 0.25, 0.1])):
        with pytest.raises(BadInput, match="kept"):
            masks.keep_share(scores, prunable, jnp.array(shares), spread=spread)
