"""Descent: the right steps, chunks that add up, freezing, divergence, perturbation."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gpsense.descent import (
    BUDGET,
    CONVERGED,
    DIVERGED,
    RUNNING,
    Method,
    Rates,
    advance_descent,
    start_descent,
)
from gpsense.errors import BadInput
from gpsense.optimizers import OPTIMIZERS
from gpsense.sensing.losses import Empirical, Population
from gpsense.systems.sensing import Sensing, SensingProblem
from tests import reference


def _rates(rate=0.05, momentum=0.9, tolerance=0.0, perturbation=0.0):
    return Rates(*(jnp.asarray(x) for x in (rate, momentum, tolerance, perturbation)))


def _problem(dim=6, rank=2, width=4, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(dim, rank)) / np.sqrt(dim)
    return Population(jnp.asarray(truth @ truth.T), jnp.asarray(0.0)), jnp.asarray(0.1 * rng.normal(size=(dim, width)))


def test_gradient_descent_equals_the_loops():
    from gpsense.sensing.measurements import gaussian_measurements

    measurements = gaussian_measurements(jax.random.key(1), 12, 4, jnp.float64)
    rng = np.random.default_rng(0)
    truth, start = rng.normal(size=(4, 1)), rng.normal(size=(4, 3)) * 0.3
    values = measurements.forward(jnp.asarray(truth))
    system = Sensing(dim=4, width=3, rank=1, n=12, dtype="float64")
    setting = Sensing.Setting(penalty=0.1, smoothing=0.05)
    problem = SensingProblem(Empirical(measurements, values), jnp.asarray(truth))
    objective, _ = system.targets(problem, setting)
    state = start_descent(Method(), jnp.asarray(start), _rates(0.01))
    state = advance_descent(Method(), objective, state, _rates(0.01), 25)
    matrices = reference.unpacked(np.asarray(measurements.rows), 4)
    expected = reference.train(matrices, np.asarray(values), start, 0.1, 0.05, 0.01, 25)
    np.testing.assert_allclose(state.factor, expected, rtol=1e-10)
    assert int(state.steps) == 25
    assert int(state.status) == RUNNING


@pytest.mark.parametrize("name", OPTIMIZERS.own)
def test_twenty_chunks_of_a_hundred_equal_one_of_two_thousand(name):
    objective, start = _problem()
    method, rates = Method(name), _rates(0.01, tolerance=1e-9)
    move = jax.jit(
        lambda state, n: advance_descent(method, objective.value_and_gradient, state, rates, n), static_argnums=1
    )
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam mixes an int count with floats
        once = move(start_descent(method, start, rates), 2000)
        state = start_descent(method, start, rates)
        for _ in range(20):
            state = move(state, 100)
    chex.assert_trees_all_equal(once, state)
    assert float(once.objective) < 1e-3 * float(objective(start))


def test_optimizers_are_optax_ones_and_momentum_is_heavy_ball():
    objective, start = _problem()
    fn = objective.value_and_gradient
    state = advance_descent(
        Method("momentum"), fn, start_descent(Method("momentum"), start, _rates()), _rates(0.02, 0.5), 3
    )
    u, velocity = np.asarray(start), np.zeros(start.shape)
    for _ in range(3):
        velocity = 0.5 * velocity + np.asarray(fn(jnp.asarray(u))[1])
        u = u - 0.02 * velocity
    np.testing.assert_allclose(state.factor, u, rtol=1e-12)
    line = r"^optimizer: there is no 'sgdd'; did you mean \w+\? use one of gd, momentum, nesterov, adam, "
    with pytest.raises(BadInput, match=line):
        Method("sgdd").build(0.1, 0.9)


def test_a_converged_run_is_frozen():
    objective, start = _problem(width=2)
    rates = _rates(0.05, tolerance=1e-6)
    state = advance_descent(
        Method(), objective.value_and_gradient, start_descent(Method(), start, rates), rates, 20_000
    )
    assert int(state.status) == CONVERGED
    assert 0 < int(state.steps) < 20_000
    assert float(state.gradient_norm) <= 1e-6
    again = advance_descent(Method(), objective.value_and_gradient, state, rates, 50)
    chex.assert_trees_all_equal(state, again)


def test_divergence_is_a_status_and_keeps_the_last_finite_factor():
    objective, start = _problem()
    state = advance_descent(
        Method(), objective.value_and_gradient, start_descent(Method(), start, _rates()), _rates(1e4), 100
    )
    assert int(state.status) == DIVERGED
    assert bool(jnp.all(jnp.isfinite(state.factor)))
    assert int(state.steps) < 100


def test_a_nan_start_has_diverged_and_leaves_its_neighbours_bit_equal():
    objective, start = _problem()
    starts = jnp.stack([start, 2 * start, 3 * start])
    broken = starts.at[1, 0, 0].set(jnp.nan)

    @jax.jit
    def run(starts):
        begun = jax.vmap(lambda u: start_descent(Method(), u, _rates()))(starts)
        return jax.vmap(lambda state: advance_descent(Method(), objective.value_and_gradient, state, _rates(), 100))(
            begun
        )

    whole, hurt = run(starts), run(broken)
    np.testing.assert_array_equal(hurt.status, [RUNNING, DIVERGED, RUNNING])
    for index in (0, 2):
        np.testing.assert_array_equal(whole.factor[index], hurt.factor[index])
        np.testing.assert_array_equal(whole.objective[index], hurt.objective[index])


def test_dying_columns_are_flushed_before_they_are_denormal():
    shrink = lambda u: (0.5 * jnp.sum(u**2), u)  # noqa: E731
    start = jnp.full((2, 2), 1e-10, jnp.float32)
    rates = Rates(*(jnp.asarray(x, jnp.float32) for x in (0.5, 0.0, -1.0, 0.0)))
    state = advance_descent(Method(), shrink, start_descent(Method(), start, rates), rates, 60)
    np.testing.assert_array_equal(state.factor, np.zeros((2, 2), np.float32))


def _saddle(perturb):
    """Law: k identical columns are an exact saddle (r = 1, k = 8, lambda = 0.1, beta = 0.04)."""
    system = Sensing(dim=6, width=8, rank=1, measurements="population", dtype="float64", perturb=perturb)
    truth = jnp.eye(6)[:, :1]
    problem = SensingProblem(Population(truth @ truth.T, jnp.asarray(0.0)), truth)
    objective, _ = system.targets(problem, Sensing.Setting(penalty=0.1, smoothing=0.04))
    start = jnp.tile(truth * 0.3, (1, 8))
    return objective, start


def test_identical_columns_are_a_saddle_that_plain_descent_never_leaves():
    objective, start = _saddle(False)
    rates = _rates(0.05, tolerance=1e-12)
    state = advance_descent(Method(), objective, start_descent(Method(), start, rates), rates, 5000)
    assert int(state.status) == CONVERGED
    hessian = jax.jacfwd(lambda u: objective(u.reshape(6, 8))[1].reshape(-1))(state.factor.reshape(-1))
    np.testing.assert_allclose(np.linalg.eigvalsh(hessian)[0], -0.33433, atol=2e-5)


def test_perturbation_leaves_the_saddle_and_stops_at_a_minimum(key):
    objective, start = _saddle(True)
    method, rates = Method(perturb=True, patience=400), _rates(0.05, tolerance=1e-9, perturbation=1e-4)
    state = advance_descent(method, objective, start_descent(method, start, rates, key), rates, 20_000)
    norms = np.sort(np.linalg.norm(state.factor, axis=0))
    assert int(state.status) == CONVERGED
    assert norms[-1] > 0.9
    assert norms[-2] < 1e-6
    assert float(state.gradient_norm) <= 1e-9
    settled = advance_descent(method, objective, state, rates, 10)
    np.testing.assert_array_equal(settled.factor, state.factor)


@pytest.mark.parametrize("perturb", [False, True])
def test_a_tree_of_two_arrays_descends_as_optax_does(perturb, key):
    """``|w - 1|^2 + |b - w_1|^2 / 2`` by Adam; judged by the norm of all numbers, frozen and kicked as a whole."""
    loss = lambda p: jnp.sum((p["w"] - 1.0) ** 2) + 0.5 * jnp.sum((p["b"] - p["w"][0]) ** 2)  # noqa: E731
    start = {"w": jnp.asarray([0.3, -0.2, 0.0]), "b": jnp.asarray([[0.5, -1.0]])}
    method, rates = Method("adam", perturb=perturb), _rates(0.05, perturbation=1e-2)
    optimizer, expected = optax.adam(0.05), start
    with jax.numpy_dtype_promotion("standard"):
        state = advance_descent(method, jax.value_and_grad(loss), start_descent(method, start, rates, key), rates, 20)
        memory = optimizer.init(start)
        for _ in range(20):
            updates, memory = optimizer.update(jax.grad(loss)(expected), memory)
            expected = optax.apply_updates(expected, updates)
        chex.assert_trees_all_close(state.factor, expected, rtol=1e-12)
        halt = _rates(0.05, tolerance=float(state.gradient_norm), perturbation=1e-2)
        after = advance_descent(method, jax.value_and_grad(loss), state, halt, 1)
    slope = jax.grad(loss)(state.factor)
    expected_norm = np.sqrt(sum(np.sum(np.asarray(leaf) ** 2) for leaf in slope.values()))
    np.testing.assert_allclose(after.gradient_norm, expected_norm, rtol=1e-12)
    moved = jax.tree.map(jnp.subtract, after.factor, state.factor)
    length = np.sqrt(sum(np.sum(np.asarray(leaf) ** 2) for leaf in moved.values()))
    np.testing.assert_allclose(length, 1e-2 if perturb else 0.0, rtol=1e-10)
    broken = start_descent(method, start | {"b": jnp.asarray([[0.5, jnp.nan]])}, rates, key)
    assert int(broken.status) == DIVERGED


def test_status_codes_are_those_of_the_results():
    assert (RUNNING, CONVERGED, BUDGET, DIVERGED) == (0, 1, 2, 3)
