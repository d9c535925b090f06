"""The smoothed group lasso against loops, differences, its limits and the constants derived for it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense.penalties import group_lasso, shrink_columns, smoothed_group_lasso, weight_decay
from gpsense.theory import penalty_slope
from tests import reference

FACTOR = np.random.default_rng(0).normal(size=(5, 4))


def test_value_equals_the_loops():
    expected = reference.smoothed_group_lasso(FACTOR, 0.3)
    np.testing.assert_allclose(smoothed_group_lasso(jnp.asarray(FACTOR), 0.3), expected, rtol=1e-13)


@pytest.mark.parametrize("penalty", [lambda u: smoothed_group_lasso(u, 0.3), group_lasso, weight_decay])
def test_gradient_equals_central_differences(penalty):
    expected = reference.gradient(lambda u: float(penalty(jnp.asarray(u))), FACTOR)
    np.testing.assert_allclose(jax.grad(penalty)(jnp.asarray(FACTOR)), expected, rtol=1e-7, atol=1e-8)


def test_gradient_is_psi_times_the_column():
    gradient = jax.grad(smoothed_group_lasso)(jnp.asarray(FACTOR), 0.3)
    squares = jnp.sum(jnp.asarray(FACTOR) ** 2, axis=0)
    np.testing.assert_allclose(gradient, penalty_slope(squares, 0.3)[None] * FACTOR, rtol=1e-12)


def test_vanishing_smoothing_gives_the_group_lasso():
    exact = float(group_lasso(jnp.asarray(FACTOR)))
    norms = sum(np.sqrt(sum(x * x for x in column)) for column in FACTOR.T)
    np.testing.assert_allclose(exact, norms, rtol=1e-13)
    gaps = [exact - float(smoothed_group_lasso(jnp.asarray(FACTOR), beta)) for beta in (1e-2, 1e-4, 1e-6)]
    assert gaps[0] > gaps[1] > gaps[2] > 0
    assert gaps[2] < 1e-5


def test_gap_to_the_group_lasso_is_at_most_its_constant():
    norms = np.linspace(1e-4, 5, 20_001)
    beta = 0.25
    gap = norms - norms**2 / np.sqrt(norms**2 + beta)
    column = jnp.asarray(norms[None, :])
    np.testing.assert_allclose(jnp.sum(column) - smoothed_group_lasso(column, beta), gap.sum(), rtol=1e-10)
    np.testing.assert_allclose(gap.max(), 0.3003 * np.sqrt(beta), rtol=1e-3)


def test_zero_columns():
    zero = jnp.zeros((3, 2))
    assert smoothed_group_lasso(zero, 0.1) == 0.0
    np.testing.assert_array_equal(jax.grad(smoothed_group_lasso)(zero, 0.1), zero)
    np.testing.assert_array_equal(jax.grad(group_lasso)(zero), zero)
    hessian = jax.hessian(lambda v: smoothed_group_lasso(v[:, None], 0.1))(jnp.zeros(3))
    np.testing.assert_allclose(hessian, 2 / np.sqrt(0.1) * np.eye(3), rtol=1e-12)


def test_curvature_changes_sign_and_is_least_at_the_threshold():
    """Convex below sqrt(2 beta), most concave at 2 sqrt(beta), where pruning cuts."""
    beta = 0.04
    second = jax.vmap(jax.grad(jax.grad(lambda t: smoothed_group_lasso(t[None, None], beta))))
    norms = jnp.linspace(1e-3, 2.0, 40_001)
    curvature = np.asarray(second(norms))
    np.testing.assert_allclose(norms[np.argmax(curvature < 0)], np.sqrt(2 * beta), atol=1e-4)
    np.testing.assert_allclose(norms[np.argmin(curvature)], 2 * np.sqrt(beta), atol=1e-4)


def test_columns_along_eigenvectors_are_the_cheapest_factor():
    """Among all U with the same U U^T the group lasso is least where columns are orthogonal; weight decay is blind."""
    frame, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(5, 4)))
    orthogonal = frame * np.array([1.5, 1.0, 0.5, 0.0])
    least = float(smoothed_group_lasso(jnp.asarray(orthogonal), 0.1))
    for seed in range(20):
        turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(4, 4)))
        turned = jnp.asarray(orthogonal @ turn)
        np.testing.assert_allclose(weight_decay(turned), weight_decay(jnp.asarray(orthogonal)), rtol=1e-12)
        assert float(smoothed_group_lasso(turned, 0.1)) > least + 0.1


def test_shrinking_equals_the_loops_and_ends_short_columns():
    factor = FACTOR * [1.0, 0.1, 0.0, 2.0]
    for amount in (0.0, 0.3, 10.0):
        expected = np.zeros_like(factor)
        for j in range(4):
            length = np.sqrt(sum(x * x for x in factor[:, j]))
            if length > amount:
                expected[:, j] = (1 - amount / length) * factor[:, j]
        np.testing.assert_allclose(shrink_columns(jnp.asarray(factor), amount), expected, rtol=1e-13)
    np.testing.assert_array_equal(shrink_columns(jnp.asarray(factor), 0.0), factor)


def test_shrinking_minimises_what_a_proximal_map_minimises():
    """``a R(X) + ||X - U||_F^2 / 2`` is larger at every neighbour, also where a column has ended."""
    amount, factor = 0.8, FACTOR * [1.0, 0.2, 0.0, 2.0]
    cost = lambda x: amount * np.linalg.norm(x, axis=0).sum() + 0.5 * ((x - factor) ** 2).sum()  # noqa: E731
    best = np.asarray(shrink_columns(jnp.asarray(factor), amount))
    assert (np.linalg.norm(best, axis=0) == 0).tolist() == [False, True, True, False]
    rng = np.random.default_rng(5)
    for size in (1e-4, 1e-2, 1.0):
        for _ in range(20):
            assert cost(best + size * rng.normal(size=best.shape)) > cost(best)
    kept = np.linalg.norm(best, axis=0) > 0
    slope = (best - factor) + amount * best / np.where(kept, np.linalg.norm(best, axis=0), 1.0)
    np.testing.assert_allclose(slope[:, kept], 0.0, atol=1e-13)
