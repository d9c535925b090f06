"""A free constant eliminated and samples left out: the loss against loops, and what it does not see."""

import jax.numpy as jnp
import numpy as np
import pytest

from gpsense.sensing.losses import Empirical, cheapest_objective, gram_objective, sensing_loss
from gpsense.sensing.measurements import RankOne, centred_measurements
from tests import reference

DIM, N, WIDTH = 4, 20, 3


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(3)
    return rng.normal(size=(N, DIM)), rng.normal(size=N) + 2.0, rng.random(N) < 0.7, rng.normal(size=(DIM, WIDTH))


def _built(data, centre=True):
    vectors, values, used, _ = data
    return centred_measurements(RankOne(jnp.asarray(vectors)), jnp.asarray(values), jnp.asarray(used), centre)


def _loss(data, factor, constant=None):
    """Mean over the used samples of ``(h + b - y)^2``, sample by sample; b the mean misfit unless given."""
    vectors, values, used, _ = data
    misfits = [values[i] - reference.inner(np.outer(vectors[i], vectors[i]), reference.gram(factor)) for i in range(N)]
    misfits = [gap for gap, use in zip(misfits, used, strict=True) if use]
    constant = sum(misfits) / len(misfits) if constant is None else constant
    return sum((gap - constant) ** 2 for gap in misfits) / len(misfits), constant


def test_the_loss_is_that_of_the_best_constant_in_every_form(data):
    measurements, values = _built(data)
    factor = data[3]
    best, constant = _loss(data, factor)
    assert all(_loss(data, factor, constant + shift)[0] > best for shift in (-1e-3, 1e-3))
    slope = reference.gradient(lambda u: _loss(data, u)[0], factor)
    for objective in (Empirical(measurements, values), gram_objective(measurements, values)):
        value, gradient = objective.value_and_gradient(jnp.asarray(factor))
        np.testing.assert_allclose(value, best, rtol=1e-11)
        np.testing.assert_allclose(gradient, slope, rtol=1e-6, atol=1e-6)


def test_without_centring_the_constant_is_zero(data):
    measurements, values = _built(data, centre=False)
    assert measurements.mean is None
    factor = jnp.asarray(data[3])
    np.testing.assert_allclose(sensing_loss(factor, measurements, values), _loss(data, data[3], 0.0)[0], rtol=1e-12)
    rows, other = measurements.packed(), jnp.asarray(np.random.default_rng(4).normal(size=(DIM, WIDTH)))
    np.testing.assert_allclose(rows @ rows.T @ values, measurements.apply(measurements.adjoint(values)), rtol=1e-11)
    np.testing.assert_allclose(measurements.pull(other, values), measurements.adjoint(values) @ other, rtol=1e-11)
    np.testing.assert_allclose(measurements.bilinear(factor, factor), measurements.forward(factor), rtol=1e-12)


def test_all_used_and_nothing_centred_is_the_map_itself(data):
    vectors, values, _, factor = data
    inner = RankOne(jnp.asarray(vectors))
    same, kept = centred_measurements(inner, jnp.asarray(values), jnp.ones(N, bool), centre=False)
    np.testing.assert_allclose(same.forward(jnp.asarray(factor)), inner.forward(jnp.asarray(factor)), rtol=1e-14)
    np.testing.assert_array_equal(kept, values)


def test_left_out_samples_and_a_shift_of_the_values_do_not_count(data):
    vectors, values, used, factor = data
    inner, factor = RankOne(jnp.asarray(vectors)), jnp.asarray(factor)
    changed = RankOne(jnp.where(jnp.asarray(used)[:, None], inner.vectors, 7.0))
    shifted = jnp.asarray(np.where(used, values + 5.0, -3.0))
    losses = [
        gram_objective(*centred_measurements(map_, y, jnp.asarray(used)))(factor)
        for map_, y in ((inner, jnp.asarray(values)), (changed, shifted))
    ]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-11)


def test_what_baselines_read_of_a_loss_is_the_same_in_both_forms(data):
    measurements, values = _built(data)
    direct, gram = Empirical(measurements, values), gram_objective(measurements, values)
    matrix = jnp.asarray(data[3] @ data[3].T)
    for one, other in zip(direct.residual(matrix), gram.residual(matrix), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(direct.back_projection(), gram.back_projection(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(direct.back_projection(), -direct.residual(0 * matrix)[1], rtol=1e-10, atol=1e-12)
    assert type(cheapest_objective(measurements, values, 4)) is type(cheapest_objective(measurements.inner, values, 4))
