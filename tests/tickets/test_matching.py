"""Permutations against all of them, in a batch; single precision weights where double is the default."""

from itertools import permutations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense.tickets.matching import assigned, matched, relative_error


def _squares(weights, truth):
    """Smallest sum of squared distances over all orders, and the order."""
    orders = {
        order: sum((weights[i, k] - truth[j, k]) ** 2 for j, i in enumerate(order) for k in range(truth.shape[1]))
        for order in permutations(range(len(truth)))
    }
    best = min(orders, key=orders.__getitem__)
    return orders[best], best


@pytest.fixture(scope="module")
def compare():
    return jax.jit(jax.vmap(lambda weights, truth: (matched(weights, truth), relative_error(weights, truth))))


def test_best_of_all_permutations(compare):
    rng = np.random.default_rng(0)
    truth, weights = rng.normal(size=(2, 6, 4, 3))
    order, error = compare(jnp.asarray(weights, jnp.float32), jnp.asarray(truth, jnp.float32))
    assert error.dtype == jnp.float32
    for i in range(6):
        least, best = _squares(weights[i], truth[i])
        assert tuple(order[i].tolist()) == best
        np.testing.assert_allclose(error[i], np.sqrt(least / (truth[i] ** 2).sum()), rtol=1e-5)


def test_error_ignores_the_order_and_shows_what_is_not_a_number(compare):
    rng = np.random.default_rng(1)
    truth = rng.normal(size=(6, 4, 3))
    order = np.array([2, 0, 3, 1])
    weights = truth[:, order]
    weights[1, 1, 2] = np.nan
    found, error = compare(jnp.asarray(weights, jnp.float32), jnp.asarray(truth, jnp.float32))
    np.testing.assert_array_equal(jnp.isnan(error), np.arange(6) == 1)
    np.testing.assert_array_equal(np.delete(error, 1), 0.0)
    np.testing.assert_array_equal(found, np.tile(np.argsort(order), (6, 1)))


def test_forbidden_costs_are_avoided():
    cost = jnp.asarray([[0.0, jnp.inf, 5.0], [0.0, 9.0, jnp.nan], [jnp.inf, 0.0, -3.0]])
    assert jax.jit(assigned)(cost).tolist() == [1, 2, 0]  # 0 + 0 + 5, the only other is 0 + 9 - 3
