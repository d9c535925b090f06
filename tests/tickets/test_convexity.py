"""Monotone gradients: against loops in NumPy, in the limit of short steps, and where the risk is surely convex."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense.tickets import convexity, teacher

NEURONS, DIM, ROWS = 3, 5, 40


@pytest.fixture(scope="module")
def problem():
    """A mask that leaves each neuron some inputs, a teacher on it, a student, and samples of which 30 count."""
    rng = np.random.default_rng(0)
    mask = np.asarray([[1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [1, 0, 1, 0, 1]], bool)
    truth, student = (np.where(mask, rng.normal(size=mask.shape), 0.0) for _ in range(2))
    samples = teacher.draw_samples(jax.random.key(0), jnp.asarray(truth), ROWS, 30.0, 0.0)
    return mask, truth, student, samples


def gradient(weights, samples, mask):
    """Of ``(1/2N) sum (yhat - y)^2``, sample by sample."""
    total = np.zeros(weights.shape)
    for x, y, used in zip(*(np.asarray(each) for each in (samples.inputs, samples.values, samples.used)), strict=True):
        residual = sum(max(row @ x, 0.0) for row in weights) / NEURONS - y
        for j, row in enumerate(weights):
            total[j] += used * residual * (row @ x > 0) * x / NEURONS
    return np.where(mask, total, 0.0) / np.asarray(samples.used).sum()


def secant(one, other, samples, mask):
    apart = one - other
    return np.sum((gradient(one, samples, mask) - gradient(other, samples, mask)) * apart) / np.sum(apart**2)


def flat(weights, samples, mask, count):
    """The flattest directions on the mask, of ``J^T J / N`` by loops, least first."""
    hessian, inside = np.zeros((NEURONS * DIM,) * 2), mask.reshape(-1)
    for x, used in zip(np.asarray(samples.inputs), np.asarray(samples.used), strict=True):
        slope = np.concatenate([used * (row @ x > 0) * x / NEURONS for row in weights])
        hessian += np.outer(slope, slope) / np.asarray(samples.used).sum()
    values, vectors = np.linalg.eigh(hessian[np.ix_(inside, inside)])
    found = np.zeros((count, NEURONS * DIM))
    found[:, inside] = vectors[:, :count].T
    return values[:count], found.reshape(count, NEURONS, DIM)


def test_secants_are_those_of_loops(problem):
    mask, truth, student, samples = problem
    found = jax.jit(convexity.secant_curvature)(student, truth, samples, mask)
    np.testing.assert_allclose(found, secant(student, truth, samples, mask), rtol=1e-10)


def test_the_least_is_along_the_flattest_directions(problem):
    mask, _, student, samples = problem
    least = jax.jit(convexity.least_secant_curvature, static_argnums=4)
    _, directions = flat(student, samples, mask, 2)
    for length in (0.3, 1.0):
        ends = [student + sign * length * each for each in directions for sign in (1, -1)]
        expected = min(secant(end, student, samples, mask) for end in ends)
        np.testing.assert_allclose(least(student, samples, mask, length, 2), expected, rtol=1e-8)


def test_of_a_step_that_meets_no_kink_it_is_the_least_eigenvalue(problem):
    mask, _, student, samples = problem
    values, _ = flat(student, samples, mask, 1)
    found = jax.jit(convexity.least_secant_curvature, static_argnums=4)(student, samples, mask, 1e-6, 3)
    np.testing.assert_allclose(found, values[0], rtol=1e-5)


def test_a_neuron_that_stops_firing_below_its_target_makes_for_a_gradient_that_is_not_monotone():
    x = jnp.ones((1, 1))
    samples = teacher.TeacherSamples(x, x[0], x[0], x[0, 0], (teacher.Part(x, x.T),))
    mask, at = jnp.ones((1, 1), bool), jnp.full((1, 1), 0.1)  # (relu(w) - 1)^2 / 2: flat below 0, falling above
    least = jax.jit(convexity.least_secant_curvature, static_argnums=4)
    np.testing.assert_allclose(least(at, samples, mask, 0.05, 1), 1.0)
    np.testing.assert_allclose(least(at, samples, mask, 0.2, 1), -0.9 / 0.2)
