"""Hermite polynomials against NumPy's, links and activations against their definitions by quadrature."""

from math import factorial, sqrt

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.polynomial.hermite_e import hermegauss, hermeval

from gpsense.errors import BadInput
from gpsense.sparse.hermite import ACTIVATIONS, activation_coefficients, additive, gaussian_rule, hermite, link

T = np.linspace(-3, 3, 25)
STEP = 1e-5

COEFFICIENTS = jax.jit(activation_coefficients, static_argnums=(0, 2))
HERMITE = jax.jit(hermite, static_argnums=0)


def _central(function, points):
    return (np.asarray(function(jnp.asarray(points + STEP))) - function(jnp.asarray(points - STEP))) / (2 * STEP)


def test_polynomials_are_numpys_and_orthonormal():
    values = np.asarray(HERMITE(8, jnp.asarray(T.reshape(5, 5))))
    for k in range(9):
        expected = hermeval(T, [0] * k + [1]) / sqrt(factorial(k))
        np.testing.assert_allclose(values[k].ravel(), expected, rtol=1e-12, atol=1e-12)
    points, weights = hermegauss(12)
    table = np.asarray(HERMITE(8, jnp.asarray(points)))
    np.testing.assert_allclose(table * (weights / sqrt(2 * np.pi)) @ table.T, np.eye(9), atol=1e-12)


def test_a_link_is_its_series():
    function = link([0.0, 3.0, -4.0])
    gamma = [0.6 * sqrt(2), -0.8 * sqrt(6)]
    compiled = jax.jit(function.__call__)
    expected = gamma[0] / 2 * hermeval(T, [0, 0, 1]) + gamma[1] / 6 * hermeval(T, [0, 0, 0, 1])
    np.testing.assert_allclose(compiled(jnp.asarray(T)), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(jax.jit(function.slope)(jnp.asarray(T)), _central(compiled, T), atol=1e-8)
    np.testing.assert_allclose(function.gamma, [0, *gamma], rtol=1e-14)
    assert function.information_exponent == 2
    assert link(function.coefficients) == function
    z = T[:24].reshape(6, 4)
    looped = [sum(float(compiled(jnp.asarray(number))) for number in row) / 2 for row in z]
    np.testing.assert_allclose(additive(function, jnp.asarray(z)), looped, rtol=1e-12)


@pytest.mark.parametrize("coefficients", [[], [0.0, 0.0], [1.0, float("nan")], [float("inf")]])
def test_no_link_of_variance_one(coefficients):
    with pytest.raises(BadInput, match=r"^link"):
        link(coefficients)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_and_their_coefficients(name):
    """Slopes; the definition by a fine trapezoid; ``d/db g_k = g_(k+1)``."""
    activation, bias = ACTIVATIONS[name], np.array([[-1.3, 0.0], [0.4, 2.0]])
    value, points = jax.jit(activation.value), T + 0.01
    np.testing.assert_allclose(jax.jit(activation.slope)(jnp.asarray(points)), _central(value, points), atol=1e-8)
    found = np.asarray(COEFFICIENTS(activation, jnp.asarray(bias), 7))
    assert found.shape == (8, 2, 2)
    grid = np.linspace(-12, 12, 24_001)
    density = np.exp(-(grid**2) / 2) / sqrt(2 * np.pi) * (grid[1] - grid[0])
    for i, j in np.ndindex(2, 2):
        phi = np.asarray(value(jnp.asarray(grid + bias[i, j]))) * density
        expected = [phi @ hermeval(grid, [0] * k + [1]) for k in range(8)]
        np.testing.assert_allclose(found[:, i, j], expected, atol=1e-6)
    changes = _central(lambda b: COEFFICIENTS(activation, b, 7), bias)[:-1]
    np.testing.assert_allclose(changes, found[1:], atol=1e-7)


def test_quadrature_meets_the_closed_form_of_relu():
    relu, bias = ACTIVATIONS["relu"], jnp.asarray(np.append(np.linspace(-6, 6, 13), 20.0))
    points, weights = jax.jit(gaussian_rule)(-bias)
    np.testing.assert_allclose(weights.sum(-1), 1.0, rtol=1e-13)
    scale = np.sqrt([factorial(k) for k in range(11)])[:, None]
    table, outputs = np.asarray(HERMITE(10, points)), np.maximum(points + bias[:, None], 0.0)
    values = np.einsum("bt,kbt->kb", weights * outputs, table) * scale
    closed = COEFFICIENTS(relu, bias, 10)
    np.testing.assert_allclose(values / scale, closed / scale, atol=1e-12)
    np.testing.assert_allclose(COEFFICIENTS(relu, bias, 0), closed[:1], rtol=1e-14)


def test_batched_in_float32_as_alone_in_float64():
    bias, function = jnp.asarray([-0.5, 0.3]), link([1.0, 1.0, 2.0])

    def everything(b):
        activations = [ACTIVATIONS["relu"], ACTIVATIONS["gelu"]]
        parts = [(a.value(b), a.slope(b), activation_coefficients(a, b, 4)) for a in activations]
        return hermite(3, b), function(b), function.slope(b), parts

    single = jax.jit(jax.vmap(everything, out_axes=-1))(bias.astype(jnp.float32))
    for one, two in zip(jax.tree.leaves(jax.jit(everything)(bias)), jax.tree.leaves(single), strict=True):
        assert two.dtype == jnp.float32
        np.testing.assert_allclose(two, one, rtol=1e-5, atol=1e-5)
