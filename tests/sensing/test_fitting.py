"""Fine-tuning to working precision: exact without noise in either precision, least squares with it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense.sensing.fitting import fit, fit_many
from gpsense.sensing.losses import Empirical
from gpsense.sensing.measurements import gaussian_measurements, rank_one_measurements
from gpsense.sensing.truths import low_rank_truth


def _error(factor, truth):
    x, m = (np.asarray(u, np.float64) @ np.asarray(u, np.float64).T for u in (factor, truth))
    return np.linalg.norm(x - m) / np.linalg.norm(m)


def _problem(dtype, draw=gaussian_measurements, noise=0.0):
    truth = low_rank_truth(jax.random.key(0), 12, jnp.asarray([1.0, 0.4], dtype))
    measurements = draw(jax.random.key(1), 120, 12, dtype)
    values = measurements.forward(truth) + noise * jax.random.normal(jax.random.key(2), (120,), dtype)
    start = truth + 0.05 * jax.random.normal(jax.random.key(3), truth.shape, dtype)
    return measurements, values, truth, start


@pytest.mark.parametrize("draw", [gaussian_measurements, rank_one_measurements])
@pytest.mark.parametrize(
    ("dtype", "accuracy"), [pytest.param(jnp.float32, 1e-6, marks=pytest.mark.slow), (jnp.float64, 1e-12)]
)
def test_noiseless_fine_tuning_reaches_the_working_precision(draw, dtype, accuracy):
    measurements, values, truth, start = _problem(dtype, draw)
    assert _error(start, truth) > 0.02
    factor = fit(measurements, values, start, 3 * float(jnp.finfo(dtype).eps), rounds=4)
    assert _error(factor, truth) < accuracy


def test_a_fit_to_noise_is_stationary_and_no_worse_than_the_start():
    measurements, values, _, start = _problem(jnp.float64, noise=0.1)
    objective = Empirical(measurements, values)
    factor = fit(measurements, values, start, 1e-12, rounds=4)
    loss, gradient = objective.value_and_gradient(factor)
    assert float(loss) < float(objective(start))
    # descent by the loss alone, which rounding blurs by n eps of it, ends at |g|^2 = 2 h times that; h is below 10
    assert float(jnp.linalg.norm(gradient)) < np.sqrt(2 * 10 * 120 * np.finfo(float).eps * float(loss))
    np.testing.assert_array_equal(fit(measurements, values, factor, 1e-3)[:, :1].shape, (12, 1))


def test_side_by_side_equals_one_by_one_and_zero_columns_stay():
    measurements, values, _, start = _problem(jnp.float64, noise=0.1)
    filled = jnp.pad(start, ((0, 0), (0, 2)))
    many = fit_many(measurements, values, jnp.stack([filled, 0.5 * filled]), 1e-9)
    np.testing.assert_array_equal(many[:, :, 2:], 0.0)
    alone = fit(measurements, values, start, 1e-9)
    np.testing.assert_allclose(many[0][:, :2] @ many[0][:, :2].T, alone @ alone.T, rtol=1e-6, atol=1e-8)


def test_the_tolerance_bounds_the_error():
    measurements, values, truth, start = _problem(jnp.float64)
    for tolerance in (1e-3, 1e-6, 1e-9):
        assert _error(fit(measurements, values, start, tolerance), truth) < 3 * tolerance


def test_a_start_that_is_not_finite_comes_back():
    measurements, values, _, start = _problem(jnp.float64)
    broken = fit(measurements, values, start.at[0, 0].set(jnp.nan), 1e-6)
    assert broken.shape == start.shape
