"""Losses of a stacked factor: every form is the same function, with the gradient it claims."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense.sensing.losses import Empirical
from gpsense.sensing.measurements import rectangular_measurements
from gpsense.sensing.stacked import embedded, halves, product, turned
from gpsense.sensing.stacked_losses import StackedPopulation, stacked_gram
from tests import reference

DIM, COLUMNS, WIDTH, N = 4, 3, 2, 9


def _loss(matrices, values, factor):
    """``(1/n) sum_i (<A_i, U V^T> - y_i)^2``, term by term."""
    total = 0.0
    for matrix, value in zip(matrices, values, strict=True):
        predicted = 0.0
        for a in range(DIM):
            for b in range(COLUMNS):
                for j in range(WIDTH):
                    predicted += matrix[a, b] * factor[a, j] * factor[DIM + b, j]
        total += (predicted - value) ** 2
    return total / len(values)


@pytest.fixture(scope="module")
def data():
    measurements = rectangular_measurements(jax.random.key(3), N, DIM, COLUMNS, jnp.float64)
    rng = np.random.default_rng(0)
    factor, truth = rng.normal(size=(2, DIM + COLUMNS, WIDTH))
    values = measurements.forward(jnp.asarray(truth)) + 0.1 * rng.normal(size=N)
    centre = product(jnp.asarray(truth), DIM)
    forms = {"direct": Empirical(measurements, values), "gram": stacked_gram(measurements, values, centre)}
    return measurements, values, jnp.asarray(factor), centre, forms


def test_values_and_gradients_equal_loops_and_central_differences(data):
    measurements, values, factor, _, forms = data
    matrices = np.asarray(measurements.rows).reshape(N, DIM, COLUMNS)
    loss = lambda w: _loss(matrices, np.asarray(values), w)  # noqa: E731
    slope = reference.gradient(loss, np.asarray(factor))
    for name, form in forms.items():
        value, gradient = form.value_and_gradient(factor)
        np.testing.assert_allclose(value, loss(np.asarray(factor)), rtol=1e-11, err_msg=name)
        np.testing.assert_allclose(gradient, slope, rtol=1e-6, atol=1e-6, err_msg=name)


def test_population_loss_is_that_of_a_complete_orthonormal_map(data):
    """With ``A_i`` the unit matrices, n of them, the empirical loss is the population loss over n."""
    _, _, factor, centre, _ = data
    n = DIM * COLUMNS
    unit = rectangular_measurements(jax.random.key(0), n, DIM, COLUMNS, jnp.float64)
    unit = jax.tree.map(lambda rows: jnp.eye(n), unit)
    direct, population = (
        Empirical(unit, centre.reshape(-1)),
        StackedPopulation((DIM, COLUMNS), centre, jnp.asarray(0.0)),
    )
    for part, whole in zip(direct.value_and_gradient(factor), population.value_and_gradient(factor), strict=True):
        np.testing.assert_allclose(n * part, whole, rtol=1e-11)
    matrix = factor @ factor.T
    for part, whole in zip(direct.residual(matrix), population.residual(matrix), strict=True):
        np.testing.assert_allclose(n * part, whole, rtol=1e-11)
    np.testing.assert_allclose(n * direct.back_projection(), population.back_projection(), rtol=1e-11)


def test_losses_of_the_symmetric_matrix_agree(data):
    """As losses of ``W W^T``: loss and R by the map, in Gram form, and the gradient ``4 R W``."""
    _, _, factor, _, forms = data
    expected = forms["direct"].residual(factor @ factor.T)
    for part, whole in zip(forms["gram"].residual(factor @ factor.T), expected, strict=True):
        np.testing.assert_allclose(part, whole, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(4 * expected[1] @ factor, forms["gram"].value_and_gradient(factor)[1], rtol=1e-10)
    for form in forms.values():
        nothing = jnp.zeros((DIM + COLUMNS,) * 2)
        np.testing.assert_allclose(form.back_projection(), -form.residual(nothing)[1], rtol=1e-10, atol=1e-12)


def test_measurements_not_used_do_not_count(data):
    measurements, values, factor, centre, _ = data
    part = stacked_gram(measurements.take(jnp.arange(5)), values[:5], centre)
    masked = stacked_gram(measurements, values, centre, jnp.arange(N) < 5)
    np.testing.assert_allclose(masked(factor), part(factor), rtol=1e-12)


def test_only_the_product_counts(data):
    """Any invertible T: ``U T, V T^-T`` has the same loss; many factors at once equal one by one."""
    _, _, factor, _, forms = data
    turn = np.random.default_rng(5).normal(size=(WIDTH, WIDTH))
    left, right = halves(factor, DIM)
    other = jnp.concatenate([left @ turn, right @ np.linalg.inv(turn).T])
    many = jax.vmap(forms["gram"].value_and_gradient)(jnp.stack([factor, other]))
    np.testing.assert_allclose(many[0], [forms["gram"](factor)] * 2, rtol=1e-9)
    np.testing.assert_allclose(many[1][0], forms["gram"].value_and_gradient(factor)[1], rtol=1e-10, atol=1e-12)


def test_embedding_has_the_singular_values_of_the_block(data):
    _, _, factor, centre, _ = data
    singular = np.linalg.svd(centre, compute_uv=False)
    eigenvalues = np.linalg.eigvalsh(embedded(centre))
    np.testing.assert_allclose(eigenvalues[-COLUMNS:][::-1], singular, atol=1e-12)
    np.testing.assert_allclose(eigenvalues[:COLUMNS], -singular, atol=1e-12)
    np.testing.assert_allclose(turned(centre, factor), embedded(centre) @ factor, rtol=1e-12, atol=1e-12)
