"""Roots, folds, thresholds and the saddle against brute force, differences and JAX's Hessian."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense import theory
from gpsense.penalties import smoothed_group_lasso
from gpsense.sensing.losses import Population

column_root, saddle_curvature = jax.jit(theory.column_root), jax.jit(theory.saddle_curvature)
fold_eigenvalue, fold_square = jax.jit(theory.fold_eigenvalue), jax.jit(theory.fold_square)
exceeds_threshold, shrinkage = jax.jit(theory.exceeds_threshold), jax.jit(theory.shrinkage)


def _left_side(square, penalty, smoothing):
    return square + penalty / 4 * (square + 2 * smoothing) / (square + smoothing) ** 1.5


def test_no_root_where_the_penalty_is_too_strong():
    assert np.isnan(column_root(0.05, 1.0, 0.01))
    np.testing.assert_allclose(column_root(0.7, 0.0, 0.01), 0.7, rtol=1e-12)


@pytest.mark.parametrize(("penalty", "smoothing"), [(0.1, 0.04), (0.3, 1e-3), (0.01, 0.1), (0.015999, 0.04)])
def test_fold_and_root_against_a_fine_grid(penalty, smoothing):
    squares = np.linspace(0, 1, 400_001)
    left = _left_side(squares, penalty, smoothing)
    np.testing.assert_allclose(fold_square(penalty, smoothing), squares[left.argmin()], atol=3e-6)
    np.testing.assert_allclose(fold_eigenvalue(penalty, smoothing), left.min(), rtol=1e-9)
    eigenvalues = np.array([1.0, 1 + 1e-4, 0.2]) * left.min()
    largest = [squares[left <= mu].max() if (left <= mu).any() else np.nan for mu in eigenvalues * (1 + 1e-9)]
    np.testing.assert_allclose(column_root(eigenvalues[1:], penalty, smoothing), largest[1:], atol=3e-6)
    assert np.isnan(column_root(left.min() * (1 - 1e-6), penalty, smoothing))
    assert bool(jax.jit(theory.bistable)(penalty, smoothing)) == (left.argmin() > 0)
    assert (left.min() < float(shrinkage(penalty, smoothing)) - 1e-12) == (left.argmin() > 0)


def test_fold_without_smoothing_scales_with_the_penalty():
    np.testing.assert_allclose(fold_eigenvalue(0.3, 1e-12), 0.75 * 0.3 ** (2 / 3), rtol=1e-9)
    assert fold_eigenvalue(0.0, 0.1) == 0.0


def test_derivatives_of_root_and_fold_are_their_differences():
    for of, at in (
        (column_root, (0.8, 0.2, 0.03)),
        (lambda *p: fold_eigenvalue(*p[1:]), (0.8, 0.2, 0.03)),
    ):
        slopes = jax.jit(jax.grad(of, argnums=(0, 1, 2)))(*at)
        for place, slope in enumerate(slopes):
            ends = [float(of(*(v + h * (i == place) for i, v in enumerate(at)))) for h in (1e-5, -1e-5)]
            np.testing.assert_allclose(slope, (ends[0] - ends[1]) / 2e-5, atol=1e-7)


def test_a_column_is_kept_above_the_closed_form_of_its_eigenvalue():
    """``mu > 4 beta + 3 tau / (5 sqrt(5))`` up to lambda = 5^(5/2) beta^(3/2), beyond it wherever a root exists."""
    for penalty, smoothing in ((0.1, 0.04), (0.4, 0.04), (0.5, 0.01)):
        least = 4 * smoothing + 3 * float(shrinkage(penalty, smoothing)) / 5**1.5
        if penalty > 5**2.5 * smoothing**1.5:
            least = float(fold_eigenvalue(penalty, smoothing))
        around = least * np.asarray([1 - 1e-6, 1 + 1e-6])
        assert exceeds_threshold(around, penalty, smoothing).tolist() == [False, True]


def test_the_smoothing_bound_keeps_every_column_and_no_larger_one_does():
    smoothing = float(jax.jit(theory.smoothing_bound)(0.7))
    np.testing.assert_allclose(smoothing, 0.1829 * 0.7, rtol=1e-3)
    taus = np.r_[np.linspace(0, 0.7, 50), 0.7]
    betas = smoothing * np.r_[np.full(50, 1 - 1e-9), 1.001]
    exceeds = jax.jit(jax.vmap(theory.exceeds_threshold, (None, 0, 0)))
    kept = exceeds(0.7, 2 * np.sqrt(betas) * taus, betas)
    assert kept.tolist() == [True] * 50 + [False]


def test_equal_columns_are_a_saddle_of_the_stated_curvature():
    width = 8

    @jax.jit
    def measure(flat, mu, penalty, smoothing):
        def loss(flat):
            factor = flat.reshape(2, width)
            form = Population(jnp.zeros((2, 2)).at[0, 0].set(mu), jnp.asarray(0.0))
            return form(factor) + penalty * smoothed_group_lasso(factor, smoothing)

        return jax.grad(loss)(flat), jax.hessian(loss)(flat)

    for mu, penalty, smoothing, expected in ((1.0, 0.1, 0.04, -0.33433), (0.6, 0.06, 0.02, None)):
        shares = np.linspace(0, mu / width, 1_000_001)
        residual = width * shares + penalty / 4 * (shares + 2 * smoothing) / (shares + smoothing) ** 1.5 - mu
        share = shares[np.nonzero(residual < 0)[0][-1]]
        point = np.r_[np.full(width, np.sqrt(share)), np.zeros(width)]
        gradient, hessian = measure(point, mu, penalty, smoothing)
        assert np.abs(gradient).max() < 1e-5
        least = np.linalg.eigvalsh(hessian)[0]
        np.testing.assert_allclose(saddle_curvature(mu, width, penalty, smoothing), least, rtol=1e-5)
        assert expected is None or abs(least - expected) < 5e-6
