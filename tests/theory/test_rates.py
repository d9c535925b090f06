"""Rates and curvatures against Hessians and plain gradient descent in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense import theory
from gpsense.penalties import smoothed_group_lasso
from gpsense.sensing.losses import Population
from tests.compiled import Compiled

LAWS = Compiled(theory)


def test_curvature_bound_bounds_the_hessian():
    rng = np.random.default_rng(0)
    factor, truth = rng.normal(size=(5, 3)), rng.normal(size=(5, 2))
    form = Population(jnp.asarray(truth @ truth.T), jnp.asarray(0.0))
    f = lambda v: form(v.reshape(5, 3)) + 0.7 * smoothed_group_lasso(v.reshape(5, 3), 0.1)  # noqa: E731
    top = np.linalg.eigvalsh(jax.jit(jax.hessian(f))(jnp.asarray(factor.reshape(-1))))[-1]
    residual = np.linalg.norm(factor @ factor.T - truth @ truth.T, 2)
    numbers = np.linalg.norm(factor, 2), residual, 0.7, 0.1
    assert top <= float(LAWS.curvature_bound(*numbers))
    np.testing.assert_allclose(LAWS.stable_rate(*numbers) * LAWS.curvature_bound(*numbers), 2, rtol=1e-12)


def test_descent_at_one_column_is_stable_exactly_up_to_the_stable_rate():
    """Without penalty the bound is the curvature ``8 mu`` at the truth itself."""
    limit = float(LAWS.stable_rate(1.0, 0.0, 0.0, 0.1))
    for rate, stays in ((0.98 * limit, True), (1.02 * limit, False)):
        column = 1.0 + 1e-3
        for _ in range(400):
            column -= rate * 4 * (column**2 - 1.0) * column
        assert (abs(column - 1) < 1e-3) is stays


@pytest.mark.parametrize("width", [5, 8, 40])
def test_surplus_directions_decay_as_one_over_t(width):
    dim, rank, rate, steps, rng = 8, 2, 0.02, 10_000, np.random.default_rng(0)
    truth = np.diag([1.0, 0.7] + [0.0] * (dim - rank))
    factor = rng.normal(size=(dim, width)) * (0.3 if width <= dim else 0.15)
    for _ in range(steps):
        factor -= 4 * rate * (factor @ factor.T - truth) @ factor
    error = np.linalg.norm(factor @ factor.T - truth)
    np.testing.assert_allclose(LAWS.surplus_error(rate, steps, dim, width, rank), error, rtol=0.03)


def test_one_surplus_eigenvalue_follows_its_law_from_the_start():
    eigenvalue, rate = 0.05, 0.02
    for step in range(1, 1001):
        eigenvalue *= (1 - 4 * rate * eigenvalue) ** 2
        if step in (10, 100, 1000):
            np.testing.assert_allclose(LAWS.surplus_eigenvalue(0.05, rate, step), eigenvalue, rtol=0.005)
