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
    return Rates(*(np.asarray(x) for x in (rate, momentum, tolerance, perturbation)))


def _descend(method, target, start, rates, n_steps, key=None):
    """From a start, compiled as a whole."""
    return jax.jit(
        lambda start: advance_descent(method, target, start_descent(method, start, rates, key), rates, n_steps)
    )(start)


def _advance(method, target, state, rates, n_steps):
    return jax.jit(lambda state, rates: advance_descent(method, target, state, rates, n_steps))(state, rates)


def _problem(dim=6, rank=2, width=4, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(dim, rank)) / np.sqrt(dim)
    return Population(truth @ truth.T, np.asarray(0.0)), 0.1 * rng.normal(size=(dim, width))


def test_gradient_descent_equals_the_loops():
    from gpsense.sensing.measurements import gaussian_measurements

    rng = np.random.default_rng(0)
    truth, start = rng.normal(size=(4, 1)), rng.normal(size=(4, 3)) * 0.3

    @jax.jit
    def draw():
        measurements = gaussian_measurements(jax.random.key(1), 12, 4, jnp.float64)
        return measurements, measurements.forward(jnp.asarray(truth))

    measurements, values = draw()
    system = Sensing(dim=4, width=3, rank=1, n=12, dtype="float64")
    setting = Sensing.Setting(penalty=0.1, smoothing=0.05)
    problem = SensingProblem(Empirical(measurements, values), jnp.asarray(truth))
    objective, _ = system.targets(problem, setting)
    state = _descend(Method(), objective, start, _rates(0.01), 25)
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
        begun = jax.jit(lambda: start_descent(method, start, rates))()
        once, state = move(begun, 2000), begun
        for _ in range(20):
            state = move(state, 100)
    chex.assert_trees_all_equal(once, state)
    assert float(once.objective) < 1e-3 * np.sum((start @ start.T - objective.matrix) ** 2)


def test_optimizers_are_optax_ones_and_momentum_is_heavy_ball():
    objective, start = _problem()
    state = _descend(Method("momentum"), objective.value_and_gradient, start, _rates(0.02, 0.5), 3)
    u, velocity = start, np.zeros(start.shape)
    for _ in range(3):
        velocity = 0.5 * velocity + 4 * (u @ u.T - objective.matrix) @ u
        u = u - 0.02 * velocity
    np.testing.assert_allclose(state.factor, u, rtol=1e-12)
    line = r"^optimizer: there is no 'sgdd'; did you mean \w+\? use one of gd, momentum, nesterov, adam, "
    with pytest.raises(BadInput, match=line):
        Method("sgdd").build(0.1, 0.9)


def test_a_converged_run_is_frozen():
    objective, start = _problem(width=2)
    rates = _rates(0.05, tolerance=1e-6)
    state = _descend(Method(), objective.value_and_gradient, start, rates, 20_000)
    assert int(state.status) == CONVERGED
    assert 0 < int(state.steps) < 20_000
    assert float(state.gradient_norm) <= 1e-6
    again = _advance(Method(), objective.value_and_gradient, state, rates, 50)
    chex.assert_trees_all_equal(state, again)


def test_divergence_is_a_status_and_keeps_the_last_finite_factor():
    objective, start = _problem()
    state = _descend(Method(), objective.value_and_gradient, start, _rates(1e4), 100)
    assert int(state.status) == DIVERGED
    assert np.isfinite(state.factor).all()
    assert int(state.steps) < 100


def test_a_nan_start_has_diverged_and_leaves_its_neighbours_bit_equal():
    objective, start = _problem()
    starts = np.stack([start, 2 * start, 3 * start])
    broken = starts.copy()
    broken[1, 0, 0] = np.nan

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
    start = np.full((2, 2), 1e-10, np.float32)
    rates = Rates(*(np.asarray(x, np.float32) for x in (0.5, 0.0, -1.0, 0.0)))
    state = _descend(Method(), shrink, start, rates, 60)
    np.testing.assert_array_equal(state.factor, np.zeros((2, 2), np.float32))


def _saddle(perturb):
    """Law: k identical columns are an exact saddle (r = 1, k = 8, lambda = 0.1, beta = 0.04)."""
    system = Sensing(dim=6, width=8, rank=1, measurements="population", dtype="float64", perturb=perturb)
    truth = np.eye(6)[:, :1]
    problem = SensingProblem(Population(jnp.asarray(truth @ truth.T), jnp.asarray(0.0)), jnp.asarray(truth))
    objective, _ = system.targets(problem, Sensing.Setting(penalty=0.1, smoothing=0.04))
    start = np.tile(truth * 0.3, (1, 8))
    return objective, start


def test_identical_columns_are_a_saddle_that_plain_descent_never_leaves():
    objective, start = _saddle(False)
    rates = _rates(0.05, tolerance=1e-12)
    state = _descend(Method(), objective, start, rates, 5000)
    assert int(state.status) == CONVERGED
    hessian = jax.jit(jax.jacfwd(lambda u: objective(u)[1]))(state.factor).reshape(48, 48)
    np.testing.assert_allclose(np.linalg.eigvalsh(hessian)[0], -0.33433, atol=2e-5)


def test_perturbation_leaves_the_saddle_and_stops_at_a_minimum(key):
    objective, start = _saddle(True)
    method, rates = Method(perturb=True, patience=400), _rates(0.05, tolerance=1e-9, perturbation=1e-4)
    state = _descend(method, objective, start, rates, 20_000, key)
    norms = np.sort(np.linalg.norm(state.factor, axis=0))
    assert int(state.status) == CONVERGED
    assert norms[-1] > 0.9
    assert norms[-2] < 1e-6
    assert float(state.gradient_norm) <= 1e-9
    settled = _advance(method, objective, state, rates, 10)
    np.testing.assert_array_equal(settled.factor, state.factor)


@pytest.mark.parametrize("perturb", [False, True])
def test_a_tree_of_two_arrays_descends_as_optax_does(perturb, key):
    """``|w - 1|^2 + |b - w_1|^2 / 2`` by Adam; judged by the norm of all numbers, frozen and kicked as a whole."""
    loss = lambda p: jnp.sum((p["w"] - 1.0) ** 2) + 0.5 * jnp.sum((p["b"] - p["w"][0]) ** 2)  # noqa: E731
    start = {"w": np.asarray([0.3, -0.2, 0.0]), "b": np.asarray([[0.5, -1.0]])}
    slope_of, method, rates = jax.jit(jax.grad(loss)), Method("adam", perturb=perturb), _rates(0.05, perturbation=1e-2)
    optimizer, expected = optax.adam(0.05), start
    with jax.numpy_dtype_promotion("standard"):
        state = _descend(method, jax.value_and_grad(loss), start, rates, 20, key)
        memory, update = optimizer.init(start), jax.jit(optimizer.update)
        for _ in range(20):
            updates, memory = update(slope_of(expected), memory)
            expected = jax.tree.map(np.add, expected, updates)
        chex.assert_trees_all_close(state.factor, expected, rtol=1e-12)
        halt = _rates(0.05, tolerance=float(state.gradient_norm), perturbation=1e-2)
        after = _advance(method, jax.value_and_grad(loss), state, halt, 1)
    expected_norm = np.sqrt(sum(np.sum(np.asarray(leaf) ** 2) for leaf in slope_of(state.factor).values()))
    np.testing.assert_allclose(after.gradient_norm, expected_norm, rtol=1e-12)
    moved = jax.tree.map(np.subtract, after.factor, state.factor)
    length = np.sqrt(sum(np.sum(leaf**2) for leaf in moved.values()))
    np.testing.assert_allclose(length, 1e-2 if perturb else 0.0, rtol=1e-10)
    broken = start | {"b": np.asarray([[0.5, np.nan]])}
    assert int(jax.jit(lambda: start_descent(method, broken, rates, key))().status) == DIVERGED


def test_status_codes_are_those_of_the_results():
    assert (RUNNING, CONVERGED, BUDGET, DIVERGED) == (0, 1, 2, 3)
