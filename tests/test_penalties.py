"""The smoothed group lasso against loops, differences, its limits and the constants derived for it."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense import penalties
from gpsense.errors import BadInput
from gpsense.theory import penalty_slope
from tests import reference

FACTOR = np.random.default_rng(0).normal(size=(5, 4))
smoothed_group_lasso, group_lasso = jax.jit(penalties.smoothed_group_lasso), jax.jit(penalties.group_lasso)
weight_decay, shrink_columns = jax.jit(penalties.weight_decay), jax.jit(penalties.shrink_columns)
gradient_of_smoothed = jax.jit(jax.grad(penalties.smoothed_group_lasso))


def test_value_equals_the_loops():
    expected = reference.smoothed_group_lasso(FACTOR, 0.3)
    np.testing.assert_allclose(smoothed_group_lasso(FACTOR, 0.3), expected, rtol=1e-13)


@pytest.mark.parametrize("penalty", [lambda u: smoothed_group_lasso(u, 0.3), group_lasso, weight_decay])
def test_gradient_equals_central_differences(penalty):
    expected = reference.gradient(lambda u: float(penalty(u)), FACTOR)
    np.testing.assert_allclose(jax.jit(jax.grad(penalty))(FACTOR), expected, rtol=1e-7, atol=1e-8)


def test_gradient_is_psi_times_the_column():
    slope = np.asarray(jax.jit(penalty_slope)(np.sum(FACTOR**2, axis=0), 0.3))
    np.testing.assert_allclose(gradient_of_smoothed(FACTOR, 0.3), slope[None] * FACTOR, rtol=1e-12)


def test_vanishing_smoothing_gives_the_group_lasso():
    exact = float(group_lasso(FACTOR))
    norms = sum(np.sqrt(sum(x * x for x in column)) for column in FACTOR.T)
    np.testing.assert_allclose(exact, norms, rtol=1e-13)
    gaps = [exact - float(smoothed_group_lasso(FACTOR, beta)) for beta in (1e-2, 1e-4, 1e-6)]
    assert gaps[0] > gaps[1] > gaps[2] > 0
    assert gaps[2] < 1e-5


def test_gap_to_the_group_lasso_is_at_most_its_constant():
    norms = np.linspace(1e-4, 5, 20_001)
    beta = 0.25
    gap = norms - norms**2 / np.sqrt(norms**2 + beta)
    column = norms[None, :]
    np.testing.assert_allclose(np.sum(column) - smoothed_group_lasso(column, beta), gap.sum(), rtol=1e-10)
    np.testing.assert_allclose(gap.max(), 0.3003 * np.sqrt(beta), rtol=1e-3)


def test_zero_columns():
    zero = np.zeros((3, 2))
    assert smoothed_group_lasso(zero, 0.1) == 0.0
    np.testing.assert_array_equal(gradient_of_smoothed(zero, 0.1), zero)
    np.testing.assert_array_equal(jax.jit(jax.grad(group_lasso))(zero), zero)
    hessian = jax.jit(jax.hessian(lambda v: smoothed_group_lasso(v[:, None], 0.1)))(np.zeros(3))
    np.testing.assert_allclose(hessian, 2 / np.sqrt(0.1) * np.eye(3), rtol=1e-12)


def test_curvature_changes_sign_and_is_least_at_the_threshold():
    """Convex below sqrt(2 beta), most concave at 2 sqrt(beta), where pruning cuts."""
    beta = 0.04
    second = jax.jit(jax.vmap(jax.grad(jax.grad(lambda t: smoothed_group_lasso(t[None, None], beta)))))
    norms = np.linspace(1e-3, 2.0, 40_001)
    curvature = np.asarray(second(norms))
    np.testing.assert_allclose(norms[np.argmax(curvature < 0)], np.sqrt(2 * beta), atol=1e-4)
    np.testing.assert_allclose(norms[np.argmin(curvature)], 2 * np.sqrt(beta), atol=1e-4)


def test_columns_along_eigenvectors_are_the_cheapest_factor():
    """Among all U with the same U U^T the group lasso is least where columns are orthogonal; weight decay is blind."""
    frame, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(5, 4)))
    orthogonal = frame * np.array([1.5, 1.0, 0.5, 0.0])
    least = float(smoothed_group_lasso(orthogonal, 0.1))
    for seed in range(20):
        turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(4, 4)))
        turned = orthogonal @ turn
        np.testing.assert_allclose(weight_decay(turned), weight_decay(orthogonal), rtol=1e-12)
        assert float(smoothed_group_lasso(turned, 0.1)) > least + 0.1


def test_shrinking_equals_the_loops_and_ends_short_columns():
    factor = FACTOR * [1.0, 0.1, 0.0, 2.0]
    for amount in (0.0, 0.3, 10.0):
        expected = np.zeros_like(factor)
        for j in range(4):
            length = np.sqrt(sum(x * x for x in factor[:, j]))
            if length > amount:
                expected[:, j] = (1 - amount / length) * factor[:, j]
        np.testing.assert_allclose(shrink_columns(factor, amount), expected, rtol=1e-13)
    np.testing.assert_array_equal(shrink_columns(factor, 0.0), factor)


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


@pytest.mark.parametrize(("name", "said"), [("smoothed_group_lasso", "smoothing"), ("shrink_columns", "amount")])
def test_negative_weights_are_refused_where_they_are_known(name, said):
    with pytest.raises(BadInput, match=f"^{said}: -1.0 is not allowed; use a number 0 or more"):
        inspect.unwrap(getattr(penalties, name))(FACTOR, -1.0)


def test_a_penalty_of_no_factor_is_refused():
    for name, more in (("smoothed_group_lasso", [0.1]), ("group_lasso", []), ("weight_decay", [])):
        with pytest.raises(BadInput, match=r"^factor: it has shape \(4,\), not \(dim, width\)"):
            inspect.unwrap(getattr(penalties, name))(FACTOR[0], *more)
