"""Every form of the loss is the same function, with the gradient it claims."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense.measurements import gaussian_measurements, rank_one_measurements
from gpsense.objectives import Empirical, Population, gram_objective, population_loss, sensing_loss
from gpsense.symmetric import svec
from tests import reference

DIM, WIDTH, N = 4, 3, 9


@pytest.fixture(params=[gaussian_measurements, rank_one_measurements])
def data(request, key):
    measurements = request.param(key, N, DIM, jnp.float64)
    rng = np.random.default_rng(0)
    factor, truth = rng.normal(size=(DIM, WIDTH)), rng.normal(size=(DIM, 2))
    values = measurements.forward(jnp.asarray(truth)) + 0.1 * rng.normal(size=N)
    return measurements, values, factor, truth


def _forms(measurements, values, truth):
    centre = svec(jnp.asarray(truth @ truth.T))
    return {
        "direct": Empirical(measurements, values),
        "gram": gram_objective(measurements, values),
        "centred gram": gram_objective(measurements, values, centre),
    }


def test_values_equal_the_loops(data):
    measurements, values, factor, truth = data
    matrices = reference.unpacked(np.asarray(measurements.packed()), DIM)
    expected = reference.sensing_loss(matrices, np.asarray(values), factor)
    u = jnp.asarray(factor)
    np.testing.assert_allclose(sensing_loss(u, measurements, values), expected, rtol=1e-12)
    for name, form in _forms(measurements, values, truth).items():
        np.testing.assert_allclose(form(u), expected, rtol=1e-11, err_msg=name)


def test_gradients_equal_central_differences_and_autodiff(data):
    measurements, values, factor, truth = data
    matrices = reference.unpacked(np.asarray(measurements.packed()), DIM)
    expected = reference.gradient(lambda u: reference.sensing_loss(matrices, np.asarray(values), u), factor)
    u = jnp.asarray(factor)
    np.testing.assert_allclose(jax.grad(sensing_loss)(u, measurements, values), expected, rtol=1e-6, atol=1e-6)
    for name, form in _forms(measurements, values, truth).items():
        np.testing.assert_allclose(form.value_and_gradient(u)[1], expected, rtol=1e-6, atol=1e-6, err_msg=name)


def test_second_derivatives_equal_autodiff(data):
    measurements, values, factor, truth = data
    u, v = jnp.asarray(factor), jnp.asarray(np.random.default_rng(3).normal(size=factor.shape))
    loss = lambda u: sensing_loss(u, measurements, values)  # noqa: E731
    expected = jax.jvp(jax.grad(loss), (u,), (v,))[1]
    for name, form in _forms(measurements, values, truth).items():
        product = jax.jvp(lambda u, form=form: form.value_and_gradient(u)[1], (u,), (v,))[1]
        np.testing.assert_allclose(product, expected, rtol=1e-9, atol=1e-9, err_msg=name)


def test_residual_is_half_the_gradient_in_the_matrix(data):
    measurements, values, factor, truth = data
    x = factor @ factor.T - 0.3 * np.eye(DIM)
    matrices = reference.unpacked(np.asarray(measurements.packed()), DIM)
    misfit = np.array([np.sum(a * x) for a in matrices]) - np.asarray(values)
    expected = reference.adjoint(matrices, misfit / N)
    for name, form in _forms(measurements, values, truth).items():
        loss, residual = form.residual(jnp.asarray(x))
        np.testing.assert_allclose(loss, np.mean(misfit**2), rtol=1e-10, err_msg=name)
        np.testing.assert_allclose(residual, expected, rtol=1e-9, atol=1e-10, err_msg=name)
        back = reference.adjoint(matrices, np.asarray(values) / N)
        np.testing.assert_allclose(form.back_projection(), back, rtol=1e-9, atol=1e-10, err_msg=name)


def test_rotation_invariance(data):
    measurements, values, factor, _ = data
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(WIDTH, WIDTH)))
    np.testing.assert_allclose(
        sensing_loss(jnp.asarray(factor @ turn), measurements, values),
        sensing_loss(jnp.asarray(factor), measurements, values),
        rtol=1e-11,
    )


def test_population_equals_the_loops():
    rng = np.random.default_rng(2)
    factor, truth = rng.normal(size=(DIM, WIDTH)), rng.normal(size=(DIM, 2))
    residual = reference.gram(factor) - reference.gram(truth)
    form = Population(jnp.asarray(truth @ truth.T), jnp.asarray(0.25))
    value, gradient = form.value_and_gradient(jnp.asarray(factor))
    np.testing.assert_allclose(value, reference.inner(residual, residual) + 0.25, rtol=1e-12)
    loss = lambda u: population_loss(u, jnp.asarray(truth @ truth.T))  # noqa: E731
    np.testing.assert_allclose(loss(jnp.asarray(factor)), reference.inner(residual, residual), rtol=1e-12)
    np.testing.assert_allclose(
        gradient, reference.gradient(lambda u: float(loss(jnp.asarray(u))), factor), rtol=1e-6, atol=1e-5
    )


def test_many_measurements_approach_the_population(key):
    """The empirical loss tends to the population loss plus the noise variance."""
    rng = np.random.default_rng(5)
    factor, truth = jnp.asarray(rng.normal(size=(DIM, WIDTH))), jnp.asarray(rng.normal(size=(DIM, 2)))
    measurements = gaussian_measurements(key, 200_000, DIM, jnp.float64)
    values = measurements.forward(truth) + 0.5 * jax.random.normal(jax.random.key(3), (200_000,))
    expected = population_loss(factor, truth @ truth.T) + 0.25
    np.testing.assert_allclose(sensing_loss(factor, measurements, values), expected, rtol=0.02)


def test_centred_gram_keeps_accuracy_in_float32(key):
    """Near the truth the loss is 1e-12 of the data's size; only the centred form sees it in float32."""
    truth = np.random.default_rng(5).normal(size=(8, 2))
    near = truth * (1 + 1e-4)
    with jax.numpy_dtype_promotion("standard"):
        exact = gaussian_measurements(key, 60, 8, jnp.float64)
        expected = float(sensing_loss(jnp.asarray(near), exact, exact.forward(jnp.asarray(truth))))
        measurements = jax.tree.map(lambda x: x.astype(jnp.float32), exact)
        u, w = jnp.asarray(near, jnp.float32), jnp.asarray(truth, jnp.float32)
        values = measurements.forward(w)
        centred = gram_objective(measurements, values, svec(w @ w.T))(u)
        plain = gram_objective(measurements, values)(u)
    assert abs(float(centred) / expected - 1) < 5e-3
    assert abs(float(plain) / expected - 1) > 0.05
