"""Targets of a descent: proximal steps of the group lasso, and steps along gradients of random minibatches."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense.descent import CONVERGED, RUNNING, Method, Rates, Target, advance_descent, start_descent
from gpsense.sensing.losses import Empirical, Population
from gpsense.sensing.measurements import centred_measurements, gaussian_measurements, rank_one_measurements
from gpsense.systems.sensing import Sensing, SensingProblem
from tests import reference

RATE, WEIGHT = 0.05, 0.3
SAMPLED = Method(stochastic=True)


def _rates(rate=RATE, tolerance=0.0):
    return Rates(*(np.asarray(x) for x in (rate, 0.9, tolerance, 0.0)))


def _descend(method, target, start, rates, n_steps, key=None):
    """From a start, compiled as a whole."""
    return jax.jit(
        lambda start: advance_descent(method, target, start_descent(method, start, rates, key), rates, n_steps)
    )(start)


@pytest.fixture(scope="module")
def lasso():
    """The plain group lasso on a population loss of rank one, its matrix M, and a start (5, 3)."""
    truth = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 1)))[0]
    system = Sensing(dim=5, width=3, rank=1, measurements="population", penalty_kind="group_lasso")
    problem = SensingProblem(Population(jnp.asarray(truth @ truth.T), jnp.asarray(0.0)), jnp.asarray(truth))
    target, _ = system.targets(problem, Sensing.Setting(penalty=WEIGHT))
    return target, truth, 0.4 * np.random.default_rng(1).normal(size=(5, 3))


def test_proximal_steps_equal_the_loops(lasso):
    target, truth, start = lasso
    expected = start.copy()
    for _ in range(15):
        moved = expected - RATE * 4 * (reference.gram(expected) - truth @ truth.T) @ expected
        for j in range(3):
            length = np.sqrt(sum(x * x for x in moved[:, j]))
            expected[:, j] = 0.0 if length <= RATE * WEIGHT else (1 - RATE * WEIGHT / length) * moved[:, j]
    state = _descend(Method(), target, start, _rates(), 15)
    np.testing.assert_allclose(state.factor, expected, rtol=1e-10, atol=1e-14)


def test_value_counts_the_penalty_and_the_gradient_is_of_the_smooth_part(lasso):
    target, truth, start = lasso
    value, gradient = jax.jit(lambda factor: target(factor))(start)
    loss = ((reference.gram(start) - truth @ truth.T) ** 2).sum()
    np.testing.assert_allclose(value, loss + WEIGHT * np.linalg.norm(start, axis=0).sum(), rtol=1e-12)
    np.testing.assert_allclose(gradient, 4 * (start @ start.T - truth @ truth.T) @ start, rtol=1e-12)


def test_stationarity_vanishes_at_a_proximal_fixed_point_and_a_run_ends_there(lasso):
    """One column t u with ``4 t (t^2 - 1) + lambda = 0``, zero columns beside it; and the origin."""
    target, truth, start = lasso
    length = max(np.roots([4, 0, -4, WEIGHT]).real)
    point = np.concatenate([length * truth, np.zeros((5, 2))], axis=1)
    norm = jax.jit(lambda factor, rate: target.gradient_norm(factor, target(factor)[1], rate))
    for fixed in (point, np.zeros((5, 3))):
        for rate in (RATE, 0.01):
            np.testing.assert_allclose(norm(fixed, rate), 0.0, atol=1e-13)
    rates = _rates(tolerance=1e-9)
    state = _descend(Method(), target, start, rates, 4000)
    assert int(state.status) == CONVERGED
    factor = np.asarray(state.factor)
    np.testing.assert_allclose(factor @ factor.T, point @ point.T, atol=1e-8)


def test_stationarity_at_a_small_rate_is_the_least_subgradient(lasso):
    target, _, start = lasso
    plain = Target(target.value_and_gradient)

    @jax.jit
    def norms(start):
        gradient = target(start)[1]
        return gradient, target.gradient_norm(start, gradient, 1e-6), plain.gradient_norm(start, gradient, 1e-6)

    gradient, norm, smooth = norms(start)
    least = gradient + WEIGHT * start / np.linalg.norm(start, axis=0)
    np.testing.assert_allclose(norm, np.linalg.norm(least), rtol=1e-5)
    np.testing.assert_allclose(smooth, np.linalg.norm(gradient))


def test_steps_follow_the_sampled_gradient_and_judgement_the_full_one(key):
    target = Target(lambda u: (0.5 * jnp.sum(u**2), u), sampled=lambda u, *_: jnp.ones_like(u))
    start = np.full((2, 2), 3.0)
    state = _descend(SAMPLED, target, start, _rates(), 20, key)
    np.testing.assert_allclose(state.factor, start - 20 * RATE, rtol=1e-12)
    np.testing.assert_allclose(state.gradient_norm, np.linalg.norm(start - 10 * RATE), rtol=1e-12)
    np.testing.assert_allclose(state.objective, 0.5 * np.sum((start - 10 * RATE) ** 2), rtol=1e-12)
    still = _descend(SAMPLED, target, 0 * start, _rates(), 20, key)
    assert (int(still.status), int(still.steps)) == (CONVERGED, 0)
    np.testing.assert_array_equal(still.factor, 0 * start)


def _gaussian():
    return gaussian_measurements(jax.random.key(1), 6, 3, jnp.float64), jnp.linspace(-1.0, 1.0, 6)


def _centred():
    vectors = rank_one_measurements(jax.random.key(1), 6, 3, jnp.float64)
    return centred_measurements(vectors, jnp.linspace(-1.0, 1.0, 6), jnp.arange(6) != 2)


@pytest.mark.parametrize("draw", [_gaussian, _centred])
def test_minibatch_gradients_average_to_the_full_one(draw, key):
    """Over many draws, and exactly over the measurements one by one; some may be left out of the loss."""
    objective = Empirical(*jax.jit(draw)())
    factor = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2)))
    full = jax.jit(lambda: objective.value_and_gradient(factor)[1])()
    sampled = jax.jit(jax.vmap(lambda k: objective.minibatch(k, 4).value_and_gradient(factor)[1]))
    draws = sampled(jax.random.split(key, 4000))
    spread = np.std(draws, axis=0) / np.sqrt(4000)
    assert (np.abs(np.mean(draws, axis=0) - full) < 5 * spread).all()
    assert (spread < 0.1 * np.max(np.abs(full))).all()

    @jax.jit
    def of_one(i):
        one = Empirical(objective.measurements.take(i[None]), objective.values[i[None]])
        return one.value_and_gradient(factor)[1]

    np.testing.assert_allclose(np.mean([of_one(i) for i in np.arange(6)], axis=0), full, rtol=1e-12)


def test_chunks_of_a_stochastic_method_have_the_same_bits(key):
    """The draw of a step is that of its number, whatever calls it is reached by; the penalty is in every step."""
    system = Sensing(dim=4, width=3, rank=1, n=12, form="direct", batch=3, dtype="float64")
    truth, start = (np.random.default_rng(i).normal(size=(4, k)) for i, k in ((2, 1), (3, 3)))

    @jax.jit
    def draw():
        measurements = gaussian_measurements(jax.random.key(1), 12, 4, jnp.float64)
        return SensingProblem(Empirical(measurements, measurements.forward(jnp.asarray(truth))), jnp.asarray(truth))

    problem = draw()
    target, _ = system.targets(problem, Sensing.Setting())
    rates, method = _rates(0.01), system.descent
    assert method == SAMPLED
    move = jax.jit(lambda state, n: advance_descent(method, target, state, rates, n), static_argnums=1)
    begin = jax.jit(lambda key: start_descent(method, 0.3 * start, rates, key))
    state = begin(key)
    once = move(state, 60)
    for _ in range(3):
        state = move(state, 20)
    chex.assert_trees_all_equal(once, state)
    assert int(once.status) == RUNNING
    other = move(begin(jax.random.key(21)), 60)
    assert not np.allclose(once.factor, other.factor)


def test_what_a_stochastic_method_lacks_is_named(key):
    target = Target(lambda u: (0.5 * jnp.sum(u**2), u))
    for method in (SAMPLED, Method(perturb=True)):
        with pytest.raises(ValueError, match="a method that perturbs or samples needs a key"):
            start_descent(method, jnp.ones((2, 2)), _rates())
    state = start_descent(SAMPLED, jnp.ones((2, 2)), _rates(), key)
    with pytest.raises(ValueError, match="a stochastic method needs a target with a sampled gradient"):
        advance_descent(SAMPLED, target, state, _rates(), 10)
