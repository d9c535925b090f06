"""A free constant eliminated and samples left out: the loss against loops, and what it does not see."""

import jax
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


_centred = jax.jit(centred_measurements, static_argnames="centre")
_gram = jax.jit(gram_objective)
_both = jax.jit(lambda objective, factor: objective.value_and_gradient(factor))


def _built(data, centre=True):
    vectors, values, used, _ = data
    return _centred(RankOne(jnp.asarray(vectors)), values, used, centre=centre)


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
    for objective in (Empirical(measurements, values), _gram(measurements, values)):
        value, gradient = _both(objective, factor)
        np.testing.assert_allclose(value, best, rtol=1e-11)
        np.testing.assert_allclose(gradient, slope, rtol=1e-6, atol=1e-6)


def test_without_centring_the_constant_is_zero(data):
    measurements, values = _built(data, centre=False)
    assert measurements.mean is None
    loss = jax.jit(sensing_loss)(data[3], measurements, values)
    np.testing.assert_allclose(loss, _loss(data, data[3], 0.0)[0], rtol=1e-12)

    @jax.jit
    def pairs(factor, other):
        rows, adjoint = measurements.packed(), measurements.adjoint(values)
        return (
            (rows @ (rows.T @ values), measurements.apply(adjoint)),
            (measurements.pull(other, values), adjoint @ other),
            (measurements.bilinear(factor, factor), measurements.forward(factor)),
        )

    for one, other in pairs(data[3], np.random.default_rng(4).normal(size=(DIM, WIDTH))):
        np.testing.assert_allclose(one, other, rtol=1e-11)


def test_all_used_and_nothing_centred_is_the_map_itself(data):
    vectors, values, _, factor = data
    inner = RankOne(jnp.asarray(vectors))
    same, kept = _centred(inner, values, np.ones(N, bool), centre=False)
    images = jax.jit(lambda factor: (same.forward(factor), inner.forward(factor)))(factor)
    np.testing.assert_allclose(*images, rtol=1e-14)
    np.testing.assert_array_equal(kept, values)


def test_left_out_samples_and_a_shift_of_the_values_do_not_count(data):
    vectors, values, used, factor = data
    changed, shifted = np.where(used[:, None], vectors, 7.0), np.where(used, values + 5.0, -3.0)

    @jax.jit
    def loss(vectors, values):
        return gram_objective(*centred_measurements(RankOne(vectors), values, jnp.asarray(used)))(jnp.asarray(factor))

    losses = loss(vectors, values), loss(changed, shifted)
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-11)


def test_what_baselines_read_of_a_loss_is_the_same_in_both_forms(data):
    measurements, values = _built(data)

    @jax.jit
    def read(matrix):
        forms = Empirical(measurements, values), gram_objective(measurements, values)
        return [(*form.residual(matrix), form.back_projection(), -form.residual(0 * matrix)[1]) for form in forms]

    direct, gram = read(data[3] @ data[3].T)
    for one, other in zip(direct, gram, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(direct[2], direct[3], rtol=1e-10, atol=1e-12)
    form = lambda maps: type(jax.eval_shape(lambda: cheapest_objective(maps, values, 4)))  # noqa: E731
    assert form(measurements) is form(measurements.inner)
