"""Columns of unregularised training: quadratures and sampler against Monte Carlo and against gradient descent."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense import theory
from tests.compiled import Compiled

LAWS = Compiled(theory)


def _kept_errors(factors, kept):
    """Relative error of the longest columns, for each of many factors (..., rank, width)."""
    order = np.argsort(-(factors**2).sum(1))[:, None, :kept]
    longest = np.take_along_axis(factors, order, axis=2)
    whole = factors @ factors.transpose(0, 2, 1)
    left = whole - longest @ longest.transpose(0, 2, 1)
    return np.linalg.norm(left, axis=(1, 2)) / np.linalg.norm(whole, axis=(1, 2))


def test_fraction_and_kept_error_at_the_setting_of_the_papers_figure():
    """d = k = 500, r = 4: 89 % of the columns are a quarter of the largest or more; keeping four leaves 97 %."""
    rng = np.random.default_rng(0)
    draws = np.linalg.qr(rng.normal(size=(500, 500, 4)))[0].transpose(0, 2, 1)
    norms = np.sqrt((draws**2).sum(1))
    for level, value in ((0.25, 0.888), (0.5, 0.345)):
        fraction = float(LAWS.column_fraction(level, 500, 4))
        np.testing.assert_allclose(fraction, value, atol=1e-3)
        np.testing.assert_allclose(fraction, (norms >= level * norms.max(1)[:, None]).mean(), atol=0.015)
    measured = np.sqrt((_kept_errors(draws, 4) ** 2).mean())
    np.testing.assert_allclose(LAWS.kept_columns_error(4, 500, 4), measured, atol=1e-3)
    np.testing.assert_allclose(measured, 0.969, atol=1e-3)


@pytest.mark.parametrize(("kept", "width", "rank"), [(3, 10, 1), (20, 30, 4), (1, 2, 3)])
def test_quadratures_are_exact_for_independent_normal_columns(kept, width, rank):
    draws = np.random.default_rng(1).normal(size=(20_000, width, rank))
    squares = (draws**2).sum(2)
    fraction = (squares >= 0.16 * squares.max(1)[:, None]).mean()
    np.testing.assert_allclose(LAWS.column_fraction(0.4, width, rank), fraction, atol=0.005)
    order = np.argsort(-squares, axis=1)[:, :kept, None]
    longest = np.take_along_axis(draws, order, axis=1)
    left = np.eye(rank) - longest.transpose(0, 2, 1) @ longest / width
    measured = np.sqrt((left**2).sum((1, 2)).mean() / rank)
    np.testing.assert_allclose(LAWS.kept_columns_error(kept, width, rank), measured, rtol=0.015)


def test_limits_of_the_quadratures():
    np.testing.assert_allclose(LAWS.column_fraction(0.0, 500, 4), 1.0, rtol=1e-12)
    np.testing.assert_allclose(LAWS.column_fraction(1.0, 500, 4), 1 / 500, rtol=1e-9)
    np.testing.assert_allclose(LAWS.column_fraction(0.5, 1, 4), 1.0, rtol=1e-12)
    np.testing.assert_allclose(LAWS.kept_columns_error(0, 500, 4), 1.0, rtol=1e-12)
    assert LAWS.kept_columns_error(500, 500, 4) == 0.0


def test_sampler_draws_what_gradient_descent_finds(key):
    """Same mean error of the two longest columns, and of all norms' fourth powers, from a small start and a large."""
    spectrum, width, runs = np.array([1.0, 0.4]), 8, 1000
    sample = lambda one: theory.sample_columns(one, jnp.asarray(spectrum), width)  # noqa: E731
    factors = np.asarray(jax.jit(jax.vmap(sample))(jax.random.split(key, runs)))
    whole = factors @ factors.transpose(0, 2, 1)
    np.testing.assert_allclose(whole, np.broadcast_to(np.diag(spectrum), whole.shape), atol=1e-12)
    drawn = _kept_errors(factors, 2)
    np.testing.assert_allclose(jax.jit(lambda u: theory.dropped_error(u, 2))(factors[0]), drawn[0], rtol=1e-9)
    fourth = ((factors**2).sum(1) ** 2).mean()
    for dim, scale in ((4, 1e-3), (2, 0.25)):  # above the truth's rank only a small start reaches U U^T = M soon
        found = np.random.default_rng(2).normal(size=(runs, dim, width)) * scale
        truth = np.diag(np.r_[spectrum, np.zeros(dim - 2)])
        for _ in range(200):
            found -= 0.15 * (found @ found.transpose(0, 2, 1) - truth) @ found
        np.testing.assert_allclose(drawn.mean(), _kept_errors(found, 2).mean(), rtol=0.02)
        np.testing.assert_allclose(fourth, ((found**2).sum(1) ** 2).mean(), rtol=0.02)
