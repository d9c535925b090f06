"""Moments against loops, summed in blocks, with samples left out, and in float32 far from a mean of 0."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense.sparse.moments import Sums, moments

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(30, 4)), RNG.normal(size=30) + 0.7
USED = RNG.uniform(size=30) < 0.7
together = jax.jit(moments)


def by_loops(x, y, used):
    """Every moment, one sample and one entry at a time."""
    chosen = [i for i in range(len(y)) if used[i]]
    mean = sum(float(y[i]) for i in chosen) / len(chosen)
    dim = x.shape[1]
    xy, xx, yxx, y2 = np.zeros(dim), np.zeros((dim, dim)), np.zeros((dim, dim)), 0.0
    for i in chosen:
        gap = float(y[i]) - mean
        y2 += gap**2 / len(chosen)
        for a in range(dim):
            xy[a] += gap * float(x[i, a]) / len(chosen)
            for b in range(dim):
                xx[a, b] += float(x[i, a]) * float(x[i, b]) / len(chosen)
                yxx[a, b] += gap * float(x[i, a]) * float(x[i, b]) / len(chosen)
    return {"count": len(chosen), "mean_y": mean, "xy": xy, "xx": xx, "yxx": yxx, "y2": y2}


@jax.jit
def streamed(x, y, used):
    """In six blocks of five."""
    blocks = (x.reshape(6, 5, 4), y.reshape(6, 5), used.reshape(6, 5))
    sums = Sums.zeros(4, x.dtype)
    return jax.lax.scan(lambda s, block: (s.add(*block), None), sums, blocks)[0].moments()


@pytest.mark.parametrize("used", [np.ones(30) > 0, USED, np.arange(30) >= 7], ids=["all", "some", "not the first"])
@pytest.mark.parametrize("summed", [together, streamed], ids=["together", "streamed"])
def test_moments_are_those_of_loops(used, summed):
    found = summed(jnp.asarray(X), jnp.asarray(Y), jnp.asarray(used))
    for name, expected in by_loops(X, Y, used).items():
        np.testing.assert_allclose(getattr(found, name), expected, rtol=1e-12, atol=1e-14, err_msg=name)


def test_float32_keeps_its_digits_far_from_a_mean_of_zero():
    x, y = X.astype(np.float32), (Y + 1e4).astype(np.float32)
    found = streamed(jnp.asarray(x), jnp.asarray(y), jnp.ones(30, jnp.float32))
    for name, expected in by_loops(x, y, np.ones(30)).items():
        assert getattr(found, name).dtype == np.float32
        np.testing.assert_allclose(getattr(found, name), expected, rtol=2e-6, atol=2e-6, err_msg=name)


def test_samples_left_out_may_hold_anything_and_none_gives_zeros():
    spoilt = jnp.asarray(np.where(USED[:, None], X, np.nan)), jnp.asarray(np.where(USED, Y, np.inf))
    found = together(*spoilt, jnp.asarray(USED))
    np.testing.assert_allclose(found.yxx, by_loops(X, Y, USED)["yxx"], rtol=1e-12, atol=1e-14)
    none = together(*spoilt, jnp.zeros(30))
    assert all(np.all(np.asarray(leaf) == 0) for leaf in jax.tree.leaves(none))


def test_a_constant_added_to_y_moves_its_mean_alone():
    here, there = (together(jnp.asarray(X), jnp.asarray(Y + shift), jnp.ones(30)) for shift in (0.0, 3.0))
    np.testing.assert_allclose(there.mean_y - here.mean_y, 3.0, rtol=1e-13)
    for name in ("xy", "xx", "yxx", "y2"):
        np.testing.assert_allclose(getattr(there, name), getattr(here, name), rtol=1e-11, atol=1e-13)
