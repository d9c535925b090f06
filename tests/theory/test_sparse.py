"""Population gradients by tensor quadrature, the laws of a dense step by sampling, the cancellation at an axis."""

from itertools import pairwise
from math import factorial, sqrt

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.polynomial.hermite_e import hermegauss, hermeval
from numpy.polynomial.legendre import leggauss

from gpsense import theory
from gpsense.sparse.hermite import ACTIVATIONS, RELU, link

LINK = link([0.5, -1.0, 0.3, 0.7])
SLOPES = {"relu": lambda t: (t > 0) * 1.0, "tanh": lambda t: 1 / np.cosh(t) ** 2}
CANCELLING = link([0.0, 1.0, 0.0, 2 * sqrt(3)])  # gamma_4 = 12 gamma_2


@pytest.fixture(scope="module")
def gradient():
    return jax.jit(theory.population_gradient, static_argnums=(0, 1, 5))


def _directions(rng, dim, rank):
    return np.linalg.qr(rng.normal(size=(dim, rank)))[0]


def _first_points(bias):
    """Points and weights of N(0, 1) with no kink of ``phi'(+-t + b)`` inside a panel."""
    points, weights = [], []
    ends = [-10.0, -abs(bias), abs(bias), 10.0]
    for start, end in pairwise(ends):
        nodes, areas = leggauss(60)
        nodes = (start + end) / 2 + (end - start) / 2 * nodes
        points.append(nodes)
        weights.append((end - start) / 2 * areas * np.exp(-(nodes**2) / 2) / sqrt(2 * np.pi))
    return np.concatenate(points), np.concatenate(weights)


def _integral(activation, w, v, bias, parity):
    """The definition, in coordinates whose first axis is w; exact for polynomial links, dim = 3."""
    frame = np.linalg.qr(np.column_stack([w, np.eye(3)[:, :2]]))[0]
    frame[:, 0] = w
    first, weights = _first_points(bias)
    nodes, areas = hermegauss(8)
    areas = areas / sqrt(2 * np.pi)
    slope = SLOPES[activation.name]
    total = np.zeros(3)
    for t, weight in zip(first, weights, strict=True):
        fired = {
            "both": slope(t + bias),
            "even": (slope(t + bias) - slope(-t + bias)) / 2,
            "odd": (slope(t + bias) + slope(-t + bias)) / 2,
        }[parity]
        for s, area in zip(nodes, areas, strict=True):
            x = frame @ np.stack([np.full(8, t), np.full(8, s), nodes])
            terms = [0, *(g / factorial(k) for k, g in enumerate(LINK.gamma, start=1))]
            target = hermeval(v.T @ x, terms).sum(0) / sqrt(v.shape[1])
            total += weight * area * fired * (x * target) @ areas
    return total


@pytest.mark.parametrize(
    ("name", "rank", "parity"),
    [("relu", 1, "both"), ("relu", 2, "even"), ("relu", 2, "odd"), ("tanh", 2, "even")],
)
def test_population_gradient_is_the_mean(gradient, name, rank, parity):
    rng = np.random.default_rng(rank)
    v, w = _directions(rng, 3, rank), _directions(rng, 3, 1)[:, 0]
    found = gradient(LINK, ACTIVATIONS[name], jnp.asarray(w), jnp.asarray(v), 0.6, parity)
    np.testing.assert_allclose(found, _integral(ACTIVATIONS[name], w, v, 0.6, parity), atol=1e-10)


def test_population_gradient_turns_with_its_arguments_and_splits_by_parity(gradient):
    rng = np.random.default_rng(3)
    v, w, turn = _directions(rng, 6, 2), _directions(rng, 6, 1)[:, 0], _directions(rng, 6, 6)
    both = gradient(LINK, RELU, jnp.asarray(w), jnp.asarray(v), -0.4, "both")
    turned = gradient(LINK, RELU, jnp.asarray(turn @ w), jnp.asarray(turn @ v), -0.4, "both")
    np.testing.assert_allclose(turned, turn @ both, atol=1e-13)
    parts = [gradient(LINK, RELU, jnp.asarray(w), jnp.asarray(v), -0.4, parity) for parity in ("even", "odd")]
    np.testing.assert_allclose(parts[0] + parts[1], both, atol=1e-13)
    single = gradient(LINK, RELU, *(jnp.asarray(array, jnp.float32) for array in (w, v)), -0.4, "both")
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, both, atol=1e-6)


@pytest.mark.parametrize(("exponent", "constant"), [(1, 1.5), (2, 2.72070), (3, 3.6276)])
def test_samples_of_a_dense_step(exponent, constant):
    target = link([0.0] * (exponent - 1) + [1.0])
    law = jax.jit(jax.vmap(lambda dim, noise: theory.unpruned_samples(target, dim, noise)))
    samples = law(jnp.full(2, 100.0), jnp.asarray([0.0, 0.5]))
    np.testing.assert_allclose(samples / 100.0**exponent, [constant, 1.25 * constant], rtol=1e-4)
    single = law(jnp.full(2, 100.0, jnp.float32), jnp.asarray([0.0, 0.5], jnp.float32))
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, samples, rtol=1e-5)


def test_energy_of_a_dense_step_is_its_law():
    """One step of a dense network on noisy data, in NumPy; the part 1/d of the noise that lies in v is added."""
    rng, dim, n, noise = np.random.default_rng(0), 32, 2700, 0.5
    energies = []
    for _ in range(40):
        w, b = rng.normal(size=(dim, 40)), rng.normal(size=40)
        x = rng.normal(size=(n, dim))
        y = (x[:, 0] ** 2 - 1) / sqrt(2) + noise * rng.normal(size=n)
        step = (x * y[:, None]).T @ SLOPES["tanh"](x @ (w / np.linalg.norm(w, axis=0)) + b)
        energies.append((step[0] ** 2).sum() / (step**2).sum())
    law = jax.jit(lambda dim: theory.unpruned_energy(link([0.0, 1.0]), dim, n, noise, ACTIVATIONS["tanh"]))
    expected = float(law(float(dim)))
    np.testing.assert_allclose(np.mean(energies), expected + (1 - expected) / dim, rtol=0.08)


def test_population_energy_of_a_dense_step_is_nearly_all():
    """Mean of the part off v over the mean of all of it, in the plane of v and w."""
    rng, dim = np.random.default_rng(1), 400
    w = rng.normal(size=(20_000, dim))
    rho, bias = w[:, 0] / np.linalg.norm(w, axis=1), rng.normal(size=20_000)
    weights = jnp.asarray(np.stack([rho, np.sqrt(1 - rho**2)], axis=1))
    for exponent, lost in ((1, 0.092), (3, 2.593)):
        target = link([0.0] * (exponent - 1) + [1.0])
        step = jax.jit(jax.vmap(lambda a, b, t=target: theory.population_gradient(t, RELU, a, jnp.eye(2, 1), b)))
        squares = np.square(step(weights, jnp.asarray(bias))).mean(0)
        np.testing.assert_allclose(squares[1] / squares.sum() * dim, lost, rtol=0.1)


def _spread(dim, small):
    """``v = (sqrt(1 - (sqrt(d) - 1) e^2), e, ..., e, 0, ..., 0)`` with sqrt(d) - 1 entries e, and a coordinate z."""
    many = round(sqrt(dim)) - 1
    return np.concatenate([[sqrt(1 - many * small**2)], np.full(many, small), np.zeros(dim - many)])[:, None]


def test_axis_gradient_cancels_and_a_shifted_axis_does_not(gradient):
    """At b = 0, gamma_4 = 12 gamma_2: entry 1 is ``a v_1^2 (1 - v_1^2) / 2`` and ``a c (1 - c^2) (1 - 1.5 c^2)``."""
    scale = CANCELLING.gamma[1] / sqrt(2 * np.pi)
    v, axis, z = _spread(64, 0.05), np.eye(65)[0], np.eye(65)[64]

    def at(c, directions, bias=0.0):
        weight = c * axis + sqrt(1 - c**2) * z
        return (
            np.asarray(gradient(CANCELLING, RELU, jnp.asarray(weight), jnp.asarray(directions), bias, "even")) / scale
        )

    first = v[0, 0]
    np.testing.assert_allclose(at(1.0, v)[0], first**2 * (1 - first**2) / 2, atol=1e-14)
    np.testing.assert_allclose(at(1.0, v)[1:8], 0.05 * first * (1 - 2 * first**2), atol=1e-14)
    assert np.abs(at(1.0, axis[:, None])).max() < 1e-15
    for c in (0.36, 0.5, 0.7):
        np.testing.assert_allclose(at(c, axis[:, None])[0], c * (1 - c**2) * (1 - 1.5 * c**2), rtol=1e-12)
        towards = sqrt(1 - c**2) * c**2 * (1.5 * c**2 - 0.5)
        np.testing.assert_allclose(at(c, axis[:, None])[64], towards, rtol=1e-12)
        assert at(c, v)[0] > 0.09
    bias = np.array([0.5, 1.0, 2.0])
    found = [at(1.0, axis[:, None], b)[0] for b in bias]
    np.testing.assert_allclose(found, np.exp(-(bias**2) / 2) * bias**2 * (bias**2 - 1) / 2, atol=1e-14)


def test_exponents_rates_and_row_norms():
    np.testing.assert_allclose(theory.csq_exponent(3, 0.4), 1.2)
    np.testing.assert_allclose([theory.csq_exponent(3, 0.8), theory.csq_exponent(3)], 1.5)
    np.testing.assert_allclose([theory.pruned_exponent(3, 0.4), theory.unpruned_exponent(3)], [1.2, 3.0])
    np.testing.assert_allclose(theory.risk_rate(4, 10, 100), 0.3)
    rng = np.random.default_rng(4)
    v = np.where(np.arange(9)[:, None] < 4, rng.normal(size=(9, 2)), 0.0)
    lengths = [sqrt(sum(entry**2 for entry in row)) for row in v[:4]]
    for q in (0.5, 1.0, 2.0):
        expected = sum(length**q for length in lengths) ** (1 / q)
        np.testing.assert_allclose(theory.row_norm(jnp.asarray(v), q), expected, rtol=1e-12)
    single = jax.jit(theory.row_norm)(jnp.asarray(v, jnp.float32), 0.0)
    assert single == 4.0
    assert single.dtype == jnp.float32
