"""Laws of masked teacher and student networks against loops, companion matrices, quadrature, and noisy fits."""

from math import pi, sqrt

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense import theory


def _problem(seed, neurons=3, dim=6, size=3, n=40):
    """Teacher, inputs, and masks that keep ``size`` random inputs of every neuron."""
    rng = np.random.default_rng(seed)
    masks = np.stack([rng.permutation(dim) < size for _ in range(neurons)])
    return np.where(masks, rng.uniform(-0.5, 0.5, (neurons, dim)), 0.0), rng.normal(size=(n, dim)), masks


def _network(rows, inputs):
    return np.maximum(inputs @ rows.T, 0).mean(1)


def _masks(*supports, dim):
    return np.array([[i in support for i in range(dim)] for support in supports])


@pytest.fixture(scope="module")
def hessian():
    return jax.jit(theory.teacher_hessian)


@pytest.fixture(scope="module")
def risk():
    return jax.jit(jax.value_and_grad(theory.population_risk))


def test_effective_size_by_loops_and_in_its_two_limits():
    law = jax.jit(theory.effective_size)
    for masks in (_masks({0, 1, 2}, {2, 3}, {4}, dim=6), _masks({0}, set(), {0, 5}, dim=6), _problem(1)[2]):
        total = 0.0
        for one in masks:
            for other in masks:
                total += (1 + any(one & other)) * sqrt(one.sum() + other.sum())
        np.testing.assert_allclose(law(jnp.asarray(masks)), total**2 / (8 * 3**4), rtol=1e-14)
    assert float(law(jnp.asarray(_masks({1, 4}, {1, 4}, {1, 4}, dim=6)))) == pytest.approx(2)
    assert float(law(jnp.asarray(_masks({0, 1}, {2, 3}, {4, 5}, dim=6)))) == pytest.approx(2 * (4 / 3) ** 2 / 4)


def test_teacher_hessian_is_the_second_difference_of_the_risk(hessian):
    """f is a quadratic around a noise-free teacher until a neuron changes sides on a sample."""
    truth, inputs, masks = _problem(2)
    used = np.arange(40) < 30
    held = jnp.asarray(np.where(used[:, None], inputs, np.nan))
    found = np.asarray(hessian(jnp.asarray(truth), held, jnp.asarray(masks), jnp.asarray(used * 1.0)))
    rng = np.random.default_rng(3)
    for _ in range(4):
        move = 1e-6 * np.where(masks, rng.normal(size=truth.shape), 0)
        errors = _network(truth + move, inputs[used]) - _network(truth, inputs[used])
        assert np.mean(errors**2) == pytest.approx(move.ravel() @ found @ move.ravel(), rel=1e-6)
    assert not found[~masks.ravel()].any()
    assert not found[:, ~masks.ravel()].any()


def test_hessian_range_and_noise_are_those_of_the_kept_entries(hessian):
    problems = [_problem(seed) for seed in (4, 5)]
    stacked = [np.stack(arrays) for arrays in zip(*problems, strict=True)]

    def laws(truth, inputs, masks):
        found = theory.teacher_hessian(truth, inputs, masks, jnp.ones(inputs.shape[0], truth.dtype))
        noise = [theory.linearised_noise(found, masks, 0.3, n) for n in (40, 8)]
        return (*theory.hessian_range(found, masks), *noise)

    mu, largest, error, few = map(np.asarray, jax.jit(jax.vmap(laws))(*stacked))
    single = jax.jit(laws)(*(array[0].astype(np.float32) for array in stacked[:2]), stacked[2][0])
    for cell, (truth, inputs, masks) in enumerate(problems):
        full = np.asarray(hessian(*(jnp.asarray(array) for array in (truth, inputs, masks)), jnp.ones(40)))
        kept = full[np.ix_(masks.ravel(), masks.ravel())]
        values = np.linalg.eigvalsh(kept)
        np.testing.assert_allclose([mu[cell], largest[cell]], values[[0, -1]], rtol=1e-9)
        np.testing.assert_allclose(error[cell], sqrt(0.09 / 40 * np.trace(np.linalg.inv(kept))), rtol=1e-9)
    assert np.isinf(few).all()
    assert {value.dtype for value in single} == {jnp.dtype(jnp.float32)}
    np.testing.assert_allclose(single[:3], [mu[0], largest[0], error[0]], rtol=1e-3)
    nothing = jax.jit(theory.hessian_range)(np.ones((4, 4)), np.zeros((2, 2), bool))
    np.testing.assert_array_equal(nothing, [0, 0])


def test_linearised_noise_is_the_error_of_noisy_least_squares(hessian):
    """Gauss-Newton from the teacher on y with small noise, in NumPy."""
    truth, inputs, masks = _problem(6, n=90)
    found = hessian(*(jnp.asarray(array) for array in (truth, inputs, masks)), jnp.ones(90))
    expected = float(jax.jit(theory.linearised_noise)(found, jnp.asarray(masks), 1e-4, 90.0))
    rng, squares = np.random.default_rng(7), []
    for _ in range(200):
        y = _network(truth, inputs) + 1e-4 * rng.normal(size=90)
        rows = truth.copy()
        for _ in range(3):
            features = (inputs @ rows.T > 0)[:, :, None] * inputs[:, None, :] / 3
            rows[masks] += np.linalg.lstsq(features[:, masks], y - _network(rows, inputs))[0]
        squares.append(np.sum((rows - truth) ** 2))
    assert sqrt(np.mean(squares)) == pytest.approx(expected, rel=0.06)


def test_noise_law_and_least_curvature_for_disjoint_supports():
    """The free constant is derived there; the least population curvature is nearly twice the law's."""
    neurons, size, n = 4, 12, 400
    masks = jnp.asarray(np.kron(np.eye(neurons), np.ones(size)) > 0)

    @jax.jit
    def compared(truth, inputs):
        found = theory.teacher_hessian(truth, inputs, masks, jnp.ones(n))
        rms = jnp.sqrt(theory.population_risk(jnp.zeros_like(truth), truth))
        error = theory.linearised_noise(found, masks, 0.1, n) / jnp.linalg.norm(truth)
        law = theory.noise_error(0.1, rms, neurons, size, n)
        return error / law, theory.hessian_range(found, masks)[0] / theory.least_curvature(neurons, size, n)

    ratios = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        truth = np.where(masks, rng.uniform(-0.5, 0.5, masks.shape), 0)
        ratios.append(compared(jnp.asarray(truth), jnp.asarray(rng.normal(size=(n, neurons * size)))))
    error, curvature = np.mean(ratios, axis=0)
    assert error == pytest.approx(1, abs=0.06)
    assert curvature == pytest.approx(1.8, abs=0.3)
    np.testing.assert_allclose(theory.noise_error(0.1, 0.5, 2, 10, 120, 3.0), 3 * 0.2 * sqrt(20 / 100))
    assert np.isinf(theory.noise_error(0.1, 1.0, 5, 20, 100))
    assert theory.least_curvature(5, 20, 100) == theory.least_curvature(5, 20, 50) == 0


def test_momentum_rate_is_the_largest_radius_of_the_companions():
    spectrum = np.geomspace(0.02, 1.0, 30)
    rates, momenta = (grid.ravel() for grid in np.meshgrid([0.1, 1.0, 1.9, 2.8], [0.0, 0.2, 0.7, 0.95]))
    law = jax.jit(jax.vmap(lambda rate, momentum: theory.momentum_rate(0.02, 1.0, rate, momentum)))
    found = np.asarray(law(jnp.asarray(rates), jnp.asarray(momenta)))
    for nu, rate, momentum in zip(found, rates, momenta, strict=True):
        radii = [max(abs(np.linalg.eigvals([[1 + momentum - rate * value, -momentum], [1, 0]]))) for value in spectrum]
        assert nu == pytest.approx(max(radii), rel=1e-6)
    plateau = np.isclose(found, np.sqrt(momenta))
    assert 0 < plateau.sum() < plateau.size


def test_tuned_rates_are_the_best():
    """Nothing around them is faster; their factors are those of the formula and of the condition number."""
    mu, largest = 0.04, 1.0
    law = jax.jit(jax.vmap(lambda rate, momentum: theory.momentum_rate(mu, largest, rate, momentum)))
    rate, factor = theory.tuned_descent(mu, largest)
    assert float(factor) == pytest.approx(24 / 26)
    near = float(rate) * np.linspace(0.8, 1.2, 41)
    slower = law(jnp.asarray(near), jnp.zeros(41))
    assert np.argmin(slower) == 20
    assert float(slower[20]) == pytest.approx(float(factor))
    rate, momentum, factor = theory.tuned_momentum(mu, largest)
    assert float(factor) == pytest.approx(4 / 6)
    rates, momenta = np.meshgrid(float(rate) * np.linspace(0.8, 1.2, 21), float(momentum) * np.linspace(0.6, 1.4, 21))
    slower = law(jnp.asarray(rates.ravel()), jnp.asarray(momenta.ravel()))
    assert np.argmin(slower) == 220
    assert float(slower[220]) == pytest.approx(float(factor), rel=1e-6)


def test_population_risk_is_a_quadrature_in_the_plane(risk):
    """In two dimensions the integral over the radius is 2, and the angle's is a sum; zero and equal rows among them."""
    truth = np.array([[0.5, -0.2], [0.0, 0.0], [-0.3, 0.4], [0.6, -0.24]])
    weights = np.array([[0.5, -0.2], [0.3, 0.1], [0.3, -0.4], [0.0, 0.0]])
    angles = 2 * pi * (np.arange(50_000) + 0.5) / 50_000
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    expected = 2 * np.mean((_network(weights, circle) - _network(truth, circle)) ** 2)
    value, slope = risk(jnp.asarray(weights), jnp.asarray(truth))
    assert float(value) == pytest.approx(expected, rel=1e-7)
    assert np.isfinite(slope).all()
    residuals = _network(weights, circle) - _network(truth, circle)
    for row in range(3):
        fired = circle @ weights[row] > 0
        gradient = 2 * np.mean((2 / 4 * residuals * fired)[:, None] * circle, axis=0)
        np.testing.assert_allclose(slope[row], gradient, atol=1e-6)
    single, rough = risk(jnp.asarray(weights, jnp.float32), jnp.asarray(truth, jnp.float32))
    assert (single.dtype, rough.dtype) == (jnp.float32, jnp.float32)
    assert float(single) == pytest.approx(expected, rel=1e-4)


def test_population_risk_vanishes_at_the_teacher_and_turns_with_it(risk):
    rng = np.random.default_rng(8)
    truth, weights = rng.normal(size=(2, 4, 5))
    turn = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    value = risk(jnp.asarray(weights), jnp.asarray(truth))[0]
    np.testing.assert_allclose(risk(jnp.asarray(weights @ turn), jnp.asarray(truth @ turn))[0], value, rtol=1e-12)
    zero, slope = risk(jnp.asarray(truth[::-1].copy()), jnp.asarray(truth))
    np.testing.assert_allclose(zero, 0, atol=1e-14)
    np.testing.assert_allclose(slope, 0, atol=1e-7)


def test_inaccurate_floor_is_the_limit_for_orthogonal_neurons(risk):
    """Kept parts orthonormal on inputs that all keep: the limit of small m. Of random rows it is a few per cent off."""
    rng = np.random.default_rng(9)
    kept = np.concatenate([np.linalg.qr(rng.normal(size=(12, 12)))[0][:4], np.zeros((4, 12))], axis=1)
    removed = np.concatenate([np.zeros((4, 12)), rng.uniform(-0.5, 0.8, (4, 12))], axis=1)
    floors, ratios = jax.jit(theory.inaccurate_floor), []
    for scale in (1e-1, 1e-2, 1e-3):
        floor = floors(jnp.asarray(scale * removed))
        ratios.append(float(risk(jnp.asarray(kept), jnp.asarray(kept + scale * removed))[0] / floor))
    misses = np.abs(np.array(ratios) - 1)
    assert misses[0] > 3 * misses[1] > 9 * misses[2]
    assert misses[2] < 1e-3
    rows = rng.uniform(-0.5, 0.5, (4, 24))
    keeps = rng.random((4, 24)) < 0.9
    floor = floors(jnp.asarray(np.where(keeps, 0, rows)))
    rough = float(risk(jnp.asarray(np.where(keeps, rows, 0)), jnp.asarray(rows))[0] / floor)
    assert 0.85 < rough < 1.1
    assert abs(rough - 1) > 0.005


def test_reference_lines_and_counts():
    assert (theory.paper_rate_exponent(momentum=False), theory.paper_rate_exponent(momentum=True)) == (-1.0, -0.5)
    assert float(theory.samples_needed(5, 20)) == pytest.approx(120)
    assert float(theory.samples_needed(5, 20, 1.0)) == pytest.approx(100)
    expected = sum(sqrt(size * np.log(100) / 400) for size in (4, 9)) * 0.2
    assert float(theory.paper_noise_floor(jnp.asarray([4.0, 9.0]), 100, 400, -0.2)) == pytest.approx(expected)
