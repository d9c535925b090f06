"""One contract for every baseline: the formulas by loops, recovery, units, freezing, batches."""

from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense.descent import CONVERGED, DIVERGED, RUNNING
from gpsense.errors import BadInput
from gpsense.sensing import losses
from gpsense.sensing.losses import Empirical
from gpsense.sensing.measurements import Dense, gaussian_measurements, rank_one_measurements
from gpsense.sensing.methods import BASELINES, Tuning, advance, start
from gpsense.sensing.methods._common import largest_curvature
from gpsense.sensing.symmetric import svec
from gpsense.sensing.truths import low_rank_truth
from tests import reference
from tests import reference_baselines as loops

DIM, RANK, WIDTH, CHUNK = 6, 2, 4, 5
NAMES = tuple(BASELINES)
WITH_RATE = tuple(name for name in NAMES if name != "irls")
gram_objective, packed = jax.jit(losses.split_objective), jax.jit(lambda measurements: measurements.packed())
OVERPARAMETERISED = ("scaled_gd_lambda", "prec_gd", "small_start")
TWICE = (*OVERPARAMETERISED, "small_start_held_out")  # start small and do not reach rounding in 400 steps


def width(name):
    return RANK if BASELINES[name].knows_rank else WIDTH


def tuned(**numbers):
    return jax.tree.map(jnp.asarray, Tuning(**numbers))


@cache
def data(n, noise=0.0, condition=2.0, seed=0):
    """Gaussian measurements, values, the truth's matrix; in Gram form the shapes do not depend on n."""

    @jax.jit
    def draw():
        keys = jax.random.split(jax.random.key(seed), 3)
        measurements = gaussian_measurements(keys[0], n, DIM, jnp.float64)
        truth = low_rank_truth(keys[1], DIM, jnp.array([1.0, 1.0 / condition]))
        values = measurements.forward(truth) + noise * jax.random.normal(keys[2], (n,))
        return measurements, values, truth @ truth.T

    return draw()


@eqx.filter_jit
def begin(method, objective, k, tuning, key):
    return start(method, objective, DIM, k, tuning, key)


@eqx.filter_jit
def chunk(method, objective, tuning, run):
    return advance(method, objective, tuning, run, CHUNK)


def launch(name, objective, tuning):
    return begin(BASELINES[name], objective, width(name), tuning, jax.random.key(3))


def go(name, objective, tuning, steps):
    run = launch(name, objective, tuning)
    for _ in range(0, steps, CHUNK):
        run = chunk(BASELINES[name], objective, tuning, run)
    return run


@eqx.filter_jit
def squared(method, state):
    factor = method.factor(state)
    return factor @ factor.T


def estimate(name, run):
    """U U^T of a run."""
    return np.asarray(squared(BASELINES[name], run.state))


def off(matrix, truth):
    return np.linalg.norm(matrix - truth) / np.linalg.norm(truth)


def explicit(measurements, values):
    return reference.unpacked(np.asarray(packed(measurements)), DIM), np.asarray(values)


def test_every_method_is_documented_under_its_own_name():
    assert len({method.name for method in BASELINES.values()}) == len(BASELINES)
    for name, method in BASELINES.items():
        assert method.name == name
        assert method.source
        assert method.tuning
        assert (type(method).__doc__ or "").strip()
        assert hash(method) == hash(type(method)())


def expected(name, run, tuning, matrices, values):
    """The method's X after one chunk, by loops, from the start of a run."""
    rate, penalty = float(tuning.rate), float(tuning.penalty)
    first = np.asarray(BASELINES[name].factor(run.state))
    if name in ("spectral", "small_start"):
        u = loops.descend(matrices, values, first, rate, CHUNK)
        return u @ u.T
    if name == "niht":
        return loops.best_psd(loops.niht(matrices, values, RANK, rate, CHUNK), RANK)
    if name == "trace_norm":
        return loops.best_psd(loops.trace_norm(matrices, values, rate * float(run.state.pace), penalty, CHUNK), WIDTH)
    if name == "irls":
        return loops.best_psd(loops.irls(matrices, values, WIDTH, penalty, CHUNK), WIDTH)
    top, curvature = loops.units(matrices, values)
    if name == "small_start_held_out":
        u, _ = loops.held_out_stop(matrices, values, first, rate, CHUNK)
        return u @ u.T
    if name == "agn":
        u = loops.gauss_newton(matrices, values, first, rate, curvature, CHUNK)
        return u @ u.T
    if name == "scaled_gd_lambda":
        damping = (penalty or 0.1) * top / curvature
        u = loops.scaled(matrices, values, first, rate, curvature, lambda x: damping, CHUNK)
        return u @ u.T
    factor = (penalty or 1.0) if name == "prec_gd" else 0.0
    u = loops.scaled(
        matrices,
        values,
        first,
        rate,
        curvature,
        lambda x: factor * (loops.loss(matrices, values, x) / curvature) ** 0.5,
        5,
    )
    return u @ u.T


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("penalty", [0.0, 0.2])
def test_steps_equal_the_loops(name, penalty):
    measurements, values, _ = data(14 if name == "irls" else 30, 0.1)
    objective, tuning = gram_objective(measurements, values), tuned(rate=0.9, penalty=penalty, start_scale=0.2)
    run = launch(name, objective, tuning)
    after = chunk(BASELINES[name], objective, tuning, run)
    assert int(after.steps) == CHUNK
    matrix = expected(name, run, tuning, *explicit(measurements, values))
    np.testing.assert_allclose(estimate(name, after), matrix, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("name", ["spectral", "scaled_gd", "prec_gd"])
def test_spectral_starts_equal_the_loops(name):
    measurements, values, _ = data(30, 0.1)
    run = launch(name, gram_objective(measurements, values), tuned())
    matrices, values = explicit(measurements, values)
    matrix = loops.spectral_estimate(matrices, values, width(name))
    np.testing.assert_allclose(estimate(name, run), matrix, rtol=1e-9, atol=1e-10)


def test_the_step_of_agn_solves_the_linearised_problem():
    """``min ||R + c (D U^T + U D^T)||_F`` by least squares over all entries of D; the step itself is checked above."""
    measurements, values, _ = data(30, 0.1)
    run = launch("agn", gram_objective(measurements, values), tuned(start_scale=0.5))
    matrices, values = explicit(measurements, values)
    u, (_, c) = np.asarray(run.state.factor), loops.units(matrices, values)
    r = loops.residual(matrices, values, u @ u.T)
    step = loops.gauss_newton(matrices, values, u, 1.0, c, 1) - u
    basis = np.eye(u.size).reshape(u.size, *u.shape)
    lines = np.stack([(c * (d @ u.T + u @ d.T)).reshape(-1) for d in basis], axis=1)
    best, *_ = np.linalg.lstsq(lines, -r.reshape(-1), rcond=1e-12)
    least = np.linalg.norm(r.reshape(-1) + lines @ best)
    np.testing.assert_allclose(np.linalg.norm(r + c * (step @ u.T + u @ step.T)), least, rtol=1e-10)


def test_held_out_measurements_stop_the_descent_before_it_fits_the_noise():
    """By loops on the two parts, with noise: the least held-out loss comes before the last step and is returned."""
    measurements, values, _ = data(30, 0.6)
    objective, tuning = gram_objective(measurements, values), tuned(start_scale=0.1)
    run = launch("small_start_held_out", objective, tuning)
    matrices, numbers = explicit(measurements, values)
    u, curve = loops.held_out_stop(matrices, numbers, np.asarray(run.state.best), 1.0, 60)
    assert 0 < np.argmin(curve) < 60
    after = go("small_start_held_out", objective, tuning, 60)
    np.testing.assert_allclose(estimate("small_start_held_out", after), u @ u.T, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(after.state.least, min(curve), rtol=1e-8)
    with pytest.raises(BadInput, match="held out"):
        launch("small_start_held_out", jax.jit(losses.gram_objective)(measurements, values), tuning)


@pytest.mark.parametrize("name", ["small_start", "scaled_gd_lambda"])
def test_random_starts_have_the_size_asked_for(name):
    measurements, values, _ = data(30, 0.1)
    objective = gram_objective(measurements, values)
    sizes = [np.trace(estimate(name, launch(name, objective, tuned(start_scale=scale)))) for scale in (0.01, 0.2)]
    np.testing.assert_allclose(sizes[1] / sizes[0], 400.0, rtol=1e-9)
    top, curvature = loops.units(*explicit(measurements, values))
    assert 0.3 < sizes[1] / (0.2**2 * WIDTH * top / curvature) < 3.0


def test_the_convex_step_is_within_the_theory():
    """At most 1 / L, from any of 100 starts, and not far below it."""
    measurements, values, _ = data(14)
    rows = np.asarray(packed(measurements))
    objective = gram_objective(measurements, values)
    bounds = jax.jit(jax.vmap(lambda key: largest_curvature(objective, key)))(jax.random.split(jax.random.key(5), 100))
    ratios = np.asarray(bounds) / np.linalg.eigvalsh(rows.T @ rows / 14)[-1]
    assert ratios.min() >= 1.0
    assert ratios.max() < 1.02
    run = launch("trace_norm", objective, tuned())
    assert np.min(bounds) * 0.99 < 1 / float(run.state.pace) < np.max(bounds) * 1.01


def test_the_convex_method_stops_where_its_step_moves_nothing():
    """The fixed-point residual at the end, by loops, with the weight that was asked for."""
    measurements, values, _ = data(30, 0.1)
    objective, tuning = gram_objective(measurements, values), tuned(penalty=0.01, tolerance=1e-8)
    run = go("trace_norm", objective, tuning, 2000)
    assert int(run.status) == CONVERGED
    x, (matrices, values) = np.asarray(run.state.matrix), explicit(measurements, values)
    step, top = float(run.state.pace), loops.units(matrices, values)[0]
    moved = loops.best_psd(x - step * (loops.residual(matrices, values, x) + 0.01 * top * np.eye(DIM)), DIM)
    assert off(moved, x) < 1e-7


@pytest.mark.parametrize("name", NAMES)
def test_noiseless_truth_is_recovered(name):
    measurements, values, truth = data(60)
    run = go(name, gram_objective(measurements, values), tuned(start_scale=1e-3), 25 if name == "irls" else 400)
    assert int(run.status) in (RUNNING, CONVERGED)
    assert off(estimate(name, run), truth) < (2e-2 if name in TWICE else 1e-6)


def test_fewer_measurements_than_numbers_are_enough():
    """18 measurements, 21 numbers in X, 11 degrees of freedom: no linear solve could do it."""
    measurements, values, truth = data(18, seed=1)
    objective = gram_objective(measurements, values)
    for name in ("irls", "niht"):
        assert off(estimate(name, go(name, objective, tuned(), 25 if name == "irls" else 400)), truth) < 1e-5, name


@pytest.mark.parametrize("name", NAMES)
def test_units_of_data_change_only_the_unit_of_the_factor(name):
    measurements, values, _ = data(30, 0.1)
    tuning = tuned(penalty=0.3, start_scale=0.2)
    plain = estimate(name, go(name, gram_objective(measurements, values), tuning, CHUNK))
    unit = 1.0 if name == "niht" else 3.0  # the start of the source's rule is in units of isotropic measurements
    scaled = gram_objective(Dense(unit * np.asarray(packed(measurements))), 0.6 * np.asarray(values))
    expected = 0.6 / unit * plain
    np.testing.assert_allclose(estimate(name, go(name, scaled, tuning, CHUNK)), expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", ["trace_norm", "spectral", "scaled_gd", "prec_gd", "niht", "irls"])
def test_a_turned_problem_has_the_turned_solution(name):
    measurements, values, _ = data(30, 0.1)
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(DIM, DIM)))
    matrices, _ = explicit(measurements, values)
    turned = Dense(jax.jit(jax.vmap(svec))(turn @ matrices @ turn.T))
    tuning = tuned(penalty=0.3)
    plain = estimate(name, go(name, gram_objective(measurements, values), tuning, CHUNK))
    after = go(name, gram_objective(turned, values), tuning, CHUNK)
    # the step of the convex method comes from a random start of Lanczos
    tolerance = 1e-3 if name == "trace_norm" else 1e-7
    np.testing.assert_allclose(estimate(name, after), turn @ plain @ turn.T, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", WITH_RATE)
def test_divergence_is_reported_and_keeps_the_last_finite_state(name):
    measurements, values, _ = data(30, 0.1)
    objective, tuning = gram_objective(measurements, values), tuned(rate=1e60, start_scale=0.2)
    run = go(name, objective, tuning, 4 * CHUNK)
    assert int(run.status) == DIVERGED
    assert np.all(np.isfinite(jax.tree.leaves(run.state)[0]))
    again = chunk(BASELINES[name], objective, tuning, run)
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(run), jax.tree.leaves(again), strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_data_that_are_not_finite_diverge_at_the_start(name):
    measurements, values, _ = data(30, 0.1)
    objective = gram_objective(measurements, np.where(np.arange(30) == 3, np.nan, values))
    run = chunk(BASELINES[name], objective, tuned(), launch(name, objective, tuned()))
    assert int(run.status) == DIVERGED
    assert int(run.steps) == 0


@pytest.mark.parametrize("name", NAMES)
def test_a_run_stops_at_its_tolerance_and_stays(name):
    measurements, values, _ = data(30, 0.1)
    objective, tuning = gram_objective(measurements, values), tuned(tolerance=0.05, penalty=0.2, start_scale=0.2)
    run = go(name, objective, tuning, 60)
    assert int(run.status) == CONVERGED
    assert int(run.steps) < 60
    again = chunk(BASELINES[name], objective, tuning, run)
    np.testing.assert_array_equal(estimate(name, again), estimate(name, run))


@pytest.mark.parametrize("name", NAMES)
def test_cells_of_a_batch_equal_the_cell_alone(name):
    measurements, values, _ = data(30, 0.1)
    objective, method = gram_objective(measurements, values), BASELINES[name]
    rates, penalties, keys = (
        np.array([0.5, 1.0, 1e60]),
        np.array([0.1, 0.2, 0.3]),
        jax.random.split(jax.random.key(4), 3),
    )

    def cell(rate, penalty, key):
        tuning = tuned(rate=rate, penalty=penalty, start_scale=0.2)
        run = start(method, objective, DIM, width(name), tuning, key)
        return method.factor(advance(method, objective, tuning, run, CHUNK).state)

    batch = np.asarray(jax.jit(jax.vmap(cell))(rates, penalties, keys))
    for j in range(2):
        tuning = tuned(rate=rates[j], penalty=penalties[j], start_scale=0.2)
        run = chunk(method, objective, tuning, begin(method, objective, width(name), tuning, keys[j]))
        alone = estimate(name, run)
        np.testing.assert_allclose(batch[j] @ batch[j].T, alone, rtol=1e-8, atol=1e-9)


def test_scaled_steps_do_not_feel_the_condition_number():
    """After equal steps the scaled method is as far on at condition number 50 as at 2; plain descent is not."""
    errors = {}
    for condition in (2.0, 50.0):
        measurements, values, truth = data(60, condition=condition)
        for name in ("spectral", "scaled_gd"):
            run = go(name, gram_objective(measurements, values), tuned(), 60)
            errors[name, condition] = off(estimate(name, run), truth)
    assert errors["scaled_gd", 50.0] < 1e-6
    assert errors["spectral", 50.0] > 1e-3


def test_damping_that_follows_the_loss_restores_the_linear_rate():
    """At twice the rank, from the same kind of start, preconditioned descent is far ahead of plain descent."""
    measurements, values, truth = data(60)
    objective = gram_objective(measurements, values)
    errors = {
        name: off(estimate(name, go(name, objective, tuned(start_scale=0.3), 200)), truth) for name in OVERPARAMETERISED
    }
    assert errors["prec_gd"] < 1e-4
    assert errors["small_start"] > 1e-3


def test_the_convex_solution_satisfies_its_optimality_conditions():
    """``S = R + w b_1 I`` is positive semidefinite and ``S X = 0``."""
    measurements, values, _ = data(30, 0.1)
    objective = gram_objective(measurements, values)
    run = go("trace_norm", objective, tuned(penalty=0.1), 400)
    x, (matrices, values) = np.asarray(run.state.matrix), explicit(measurements, values)
    slack = loops.residual(matrices, values, x) + 0.1 * loops.units(matrices, values)[0] * np.eye(DIM)
    assert np.linalg.eigvalsh(slack)[0] > -1e-9
    np.testing.assert_allclose(slack @ x, 0.0, atol=1e-9)
    nothing = go("trace_norm", objective, tuned(penalty=1.0), CHUNK)
    np.testing.assert_allclose(estimate("trace_norm", nothing), 0.0, atol=1e-12)


def test_reweighting_keeps_the_constraints():
    measurements, values, _ = data(14, 0.1)
    run = go("irls", gram_objective(measurements, values), tuned(), CHUNK)
    images = jax.jit(lambda matrix: measurements.apply(matrix))(run.state.matrix)
    np.testing.assert_allclose(images, values, atol=1e-7)


def test_a_form_of_the_data_that_is_never_packed_does_as_well():
    """Rank-one measurements, not isotropic, through the map's own products."""

    @jax.jit
    def draw():
        measurements = rank_one_measurements(jax.random.key(0), 60, DIM, jnp.float64)
        truth = low_rank_truth(jax.random.key(1), DIM, jnp.array([1.0, 0.5]))
        return Empirical(measurements, measurements.forward(truth)), truth @ truth.T

    objective, matrix = draw()
    for name in ("scaled_gd", "niht"):
        assert off(estimate(name, go(name, objective, tuned(), 400)), np.asarray(matrix)) < 1e-6, name
