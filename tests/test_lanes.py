"""In lanes a function is the function that vmap makes of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense._lanes import in_lanes

SHARED = np.random.default_rng(9).normal(size=(4, 3))


def _products(x, rate):
    """Small and shared products, reductions, broadcasting, comparisons, and a derivative."""
    shared = jnp.asarray(SHARED)
    slope = jax.grad(lambda u: jnp.sum(jnp.sqrt(jnp.sum(u**2, axis=0) + rate)))(x)
    kept = jnp.where(x > rate, x, -slope)
    return {"gram": kept @ kept.T, "shared": shared @ kept, "best": jnp.max(x, axis=1), "same": jnp.sum(shared)}


def _loops(x, rate):
    """A scan with outputs whose first step differs, inside a loop that ends at another step in every cell."""

    def step(carry, index):
        total, seen = carry
        seen = jax.lax.cond(index == 0, lambda: jnp.sum(total), lambda: seen)
        return (0.5 * total + rate * index, seen), total[0, 0]

    def body(carry):
        count, total, _, _ = carry
        (total, seen), path = jax.lax.scan(step, (total, jnp.zeros_like(rate)), jnp.arange(3.0))
        return count + 1, total, seen, path

    start = (jnp.int32(0), x, jnp.zeros_like(rate), jnp.zeros(3))
    return jax.lax.while_loop(lambda carry: (carry[0] < 6) & (jnp.abs(carry[1][0, 0]) > rate), body, start)


def _others(x, rate):
    """Operations without a rule of their own."""
    order = jnp.argsort(x[0])
    return (
        jnp.sort(x, axis=1),
        x[:, order],
        jnp.concatenate([x, x[:1]]),
        jnp.linalg.solve(x @ x.T + rate * jnp.eye(3), x),
    )


@pytest.mark.parametrize("function", [_products, _loops, _others])
@pytest.mark.parametrize("cells", [1, 5, 8, 11])
def test_lanes_are_a_batch(function, cells):
    rng = np.random.default_rng(cells)
    x, rate = jnp.asarray(rng.normal(size=(cells, 3, 3))), jnp.asarray(rng.uniform(0.05, 0.5, size=cells))
    expected = [function(*each) for each in zip(x, rate, strict=True)]
    expected = jax.tree.map(lambda *leaves: jnp.stack(leaves), *expected)
    found = jax.jit(jax.vmap(lambda *at: in_lanes(function, *at)))(x, rate)
    close = lambda got, want: np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)  # noqa: E731
    jax.tree.map(close, found, expected)
    closed_over = jax.jit(jax.vmap(lambda u, r: in_lanes(lambda v: function(v, r), u)))(x, rate)
    jax.tree.map(close, closed_over, expected)


def test_a_loop_in_lanes_carries_the_batch_as_the_last_axis():
    run = lambda x: jax.lax.scan(lambda u, _: (u - 0.1 * jnp.tanh(u), None), x, None, length=5)[0]  # noqa: E731
    traced = jax.make_jaxpr(jax.vmap(lambda x: in_lanes(run, x)))(jnp.ones((16, 3, 2)))
    (loop,) = [eqn for eqn in traced.jaxpr.eqns if eqn.primitive.name == "scan"]
    assert loop.params["jaxpr"].out_avals[0].shape == (3, 2, 16)
