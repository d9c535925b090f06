"""Certificates of stationary points: against whole Hessians, laws of Ritz values, the saddle of identical columns."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense import theory
from gpsense.descent import CONVERGED, Method, Rates, advance_descent, start_descent
from gpsense.penalties import smoothed_group_lasso
from gpsense.sensing.losses import Empirical, Population, gram_objective
from gpsense.sensing.measurements import gaussian_measurements
from gpsense.stationarity import Certificate, certificate, certify, second_order, smallest_eigenvalue
from tests import reference

DIM, WIDTH, N = 4, 3, 9
SIZE = DIM * WIDTH
KEY = jax.random.key(8)
SMOOTHING = 0.04
_verdict = jax.jit(second_order)


def _gradient(objective, penalty):
    slope = jax.grad(lambda factor: smoothed_group_lasso(factor, SMOOTHING))
    return lambda factor: objective.value_and_gradient(factor)[1] + penalty * slope(factor)


@cache
def _compiled(steps):
    def find(objective, factor, penalty, active=None):
        return certificate(_gradient(objective, penalty), factor, KEY, steps, active)

    return jax.jit(find)


def _certificate(objective, factor, penalty=0.1, steps=SIZE):
    return _compiled(steps)(objective, factor, np.asarray(penalty, factor.dtype))


@jax.jit
def _hessian(objective, factor, penalty):
    gradient = _gradient(objective, penalty)
    return jax.jacfwd(lambda flat: gradient(flat.reshape(factor.shape)).reshape(-1))(factor.reshape(-1))


def _spectrum(objective, factor, penalty=0.1):
    """All Hessian eigenvalues at a factor."""
    return np.linalg.eigvalsh(_hessian(objective, factor, penalty))


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    factor, truth = rng.normal(size=(DIM, WIDTH)), rng.normal(size=(DIM, 2))

    @jax.jit
    def draw():
        measurements = gaussian_measurements(jax.random.key(1), N, DIM, jnp.float64)
        return measurements, measurements.forward(jnp.asarray(truth))

    return *draw(), factor


@pytest.fixture(scope="module")
def objectives(data):
    return {"empirical": Empirical(*data[:2]), "gram": jax.jit(gram_objective)(*data[:2])}


@pytest.mark.parametrize("name", ["empirical", "gram"])
def test_as_many_steps_as_numbers_give_the_smallest_eigenvalue(objectives, data, name):
    found = _certificate(objectives[name], data[2])
    np.testing.assert_allclose(found.curvature, _spectrum(objectives[name], data[2])[0], rtol=1e-8)
    gradient = jax.jit(_gradient(objectives[name], 0.1))(data[2])
    np.testing.assert_allclose(found.gradient_norm, np.linalg.norm(gradient), rtol=1e-12)


def test_the_curvature_is_that_of_the_loops(objectives, data):
    """Central differences of central differences of the objective in NumPy."""
    measurements, values, factor = data
    matrices = reference.unpacked(np.asarray(measurements.rows), DIM)

    def slope(u):
        whole = lambda v: (  # noqa: E731
            reference.sensing_loss(matrices, np.asarray(values), v) + 0.1 * reference.smoothed_group_lasso(v, SMOOTHING)
        )
        return reference.gradient(whole, u, 1e-4).reshape(-1)

    moves = 1e-4 * np.eye(SIZE).reshape(SIZE, DIM, WIDTH)
    hessian = np.stack([(slope(np.asarray(factor) + m) - slope(np.asarray(factor) - m)) / 2e-4 for m in moves])
    found = _certificate(objectives["empirical"], factor)
    np.testing.assert_allclose(found.curvature, np.linalg.eigvalsh(hessian)[0], rtol=1e-4)
    np.testing.assert_allclose(found.gradient_norm, np.linalg.norm(slope(np.asarray(factor))), rtol=1e-6)


def test_more_steps_fall_to_the_smallest_and_an_eigenvalue_lies_within_the_residual(objectives, data):
    exact = _spectrum(objectives["gram"], data[2])
    found = [_certificate(objectives["gram"], data[2], steps=steps) for steps in (2, SIZE, 30)]
    curvatures = np.array([float(each.curvature) for each in found])
    assert np.all(np.diff(curvatures) < 1e-9)
    assert np.all(curvatures > exact[0] - 1e-9)
    for each in found:
        assert np.min(np.abs(exact - float(each.curvature))) <= float(each.residual) + 1e-9


def test_without_penalty_a_rotation_changes_nothing(objectives, data):
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(WIDTH, WIDTH)))
    found, turned = (_certificate(objectives["gram"], u, 0.0) for u in (data[2], data[2] @ turn))
    np.testing.assert_allclose(found[:2], turned[:2], rtol=1e-8)


def test_cells_of_a_grid_equal_one_by_one(data):
    """Problems outside, settings inside with the problem unmapped, as the grid nests them; and one problem alone."""
    measurements, values, factor = data
    problem = lambda scale: gram_objective(measurements, scale * values)  # noqa: E731
    scales, penalties = np.asarray([1.0, 0.5]), np.asarray([0.0, 0.1, 0.3])
    factors = np.stack([factor, 0.5 * factor, -2.0 * factor])
    row = jax.vmap(_compiled(SIZE), in_axes=(None, 0, 0))
    problems = jax.jit(jax.vmap(problem))(scales)
    grid = jax.tree.map(np.asarray, jax.jit(jax.vmap(row, in_axes=(0, None, None)))(problems, factors, penalties))
    each = [jax.tree.map(lambda leaf, i=i: np.asarray(leaf)[i], problems) for i in range(2)]
    alone = jax.tree.map(np.asarray, jax.jit(row)(each[1], factors, penalties))
    for j in range(3):
        first, second = (_certificate(one, factors[j], penalties[j]) for one in each)
        np.testing.assert_allclose([x[0, j] for x in grid[:2]], first[:2], rtol=1e-8)
        np.testing.assert_allclose([x[1, j] for x in grid[:2]], second[:2], rtol=1e-8)
        np.testing.assert_allclose([x[j] for x in alone[:2]], second[:2], rtol=1e-8)


def test_inactive_columns_are_not_varied():
    """Zero columns beyond the width in use would show the eigenvalue they could cover."""
    population = Population(np.diag([1.0, 0.5, 0.0, 0.0]), np.asarray(0.0))
    wide = np.zeros((DIM, WIDTH))
    wide[0, 0] = 1.0
    some, every = (_compiled(SIZE)(population, wide, np.asarray(0.0), np.arange(WIDTH) < n) for n in (1, WIDTH))
    np.testing.assert_allclose(some.curvature, _spectrum(population, wide[:, :1], 0.0)[0], atol=1e-9)
    np.testing.assert_allclose(every.curvature, -2.0, rtol=1e-9)


def test_a_minimum_has_no_spurious_negative_curvature_in_float32():
    """An exact fit without penalty, its smallest eigenvalue 0 many times over; from many starts."""
    truth = np.asarray(np.random.default_rng(2).normal(size=(8, 2)), np.float32)
    gradient = lambda u: 4.0 * ((u @ u.T - truth @ truth.T) @ u)  # noqa: E731
    factor = jnp.asarray(np.pad(truth, ((0, 0), (0, 6))))
    found = jax.jit(jax.vmap(lambda key: certificate(gradient, factor, key, 60)))(jax.random.split(KEY, 200))
    scale = 8 * np.linalg.norm(truth, 2) ** 2  # the largest eigenvalue; every number may add a rounding of it
    assert np.min(found.curvature) > -factor.size * np.finfo(np.float32).eps * scale
    assert np.max(found.curvature) < 1e-3 * scale
    assert found.curvature.dtype == jnp.float32


def test_an_exhausted_space_adds_nothing():
    """A multiple of the identity has one Ritz value, whatever the steps; 0 among the multiples."""
    start, scales = jnp.asarray(np.random.default_rng(8).normal(size=(DIM, WIDTH))), np.asarray([2.0, 0.0, -1.0])
    values, residuals, _ = jax.jit(jax.vmap(lambda scale: smallest_eigenvalue(lambda v: scale * v, start, 20)))(scales)
    np.testing.assert_allclose(values, scales, rtol=1e-12)
    np.testing.assert_allclose(residuals, 0.0, atol=1e-12)


def test_the_gap_keeps_to_its_probability():
    """Kuczynski and Wozniakowski's bound over starts: eigenvalues 0 .. 1, ten steps, a gap of a tenth."""
    eigenvalues = np.linspace(0.0, 1.0, 100).reshape(10, 10)
    starts = np.random.default_rng(8).normal(size=(500, 10, 10))
    values, _, _ = jax.jit(jax.vmap(lambda start: smallest_eigenvalue(lambda v: eigenvalues * v, start, 10)))(starts)
    assert np.min(values) > -1e-12
    assert np.mean(np.asarray(values) > 0.1) <= 1.648 * 10 * np.exp(-np.sqrt(0.1) * 19)


def test_what_is_not_finite_is_nan_and_certifies_nothing():
    truth = np.eye(DIM, 2, dtype=np.float32)
    gradient = lambda u: 4.0 * ((u @ u.T - truth @ truth.T) @ u)  # noqa: E731
    factors = np.zeros((4, DIM, WIDTH), np.float32)
    factors[:, 0, 0] = 1.0, np.nan, np.inf, 1e30
    found = jax.jit(jax.vmap(lambda u: certificate(gradient, u, KEY, 5)))(factors)
    for each in found:
        assert each.dtype == jnp.float32
        np.testing.assert_array_equal(np.isnan(each), [False, True, True, True])
    np.testing.assert_array_equal(_verdict(found, 1e9, 1e9), [0, -1, -1, -1])  # 5 steps: no lower bound


def test_both_tolerances_are_needed_and_between_the_bounds_it_is_undecided():
    gradients = np.asarray([1e-3, 1e-3, 1e-1, np.nan, 1e-3])
    high, low = np.asarray([-0.1, -0.3, 0.5, 0.5, -0.1]), np.asarray([-0.15, -0.4, 0.4, 0.4, -0.25])
    found = Certificate(gradients, high, np.zeros(5), low)
    np.testing.assert_array_equal(_verdict(found, 1e-2, 0.2), [1, -1, -1, -1, 0])


def test_the_lower_bound_is_below_the_smallest_eigenvalue_and_meets_it_as_steps_grow(objectives, data):
    """From 100 starts each, where the upper bound after few steps is of the wrong sign."""
    rng = np.random.default_rng(9)
    turn, _ = np.linalg.qr(rng.normal(size=(120, 120)))
    eigenvalues = np.concatenate([[-0.01], np.linspace(0.0, 1.0, 119)])
    matrix = (turn * eigenvalues) @ turn.T
    product = lambda v: (matrix @ v.reshape(120)).reshape(12, 10)  # noqa: E731
    starts = rng.normal(size=(100, 12, 10))
    slack = []
    for steps in (8, 40, 120):
        found = jax.jit(jax.vmap(lambda start, steps=steps: smallest_eigenvalue(product, start, steps)))(starts)
        assert np.all(found.low <= -0.01)
        share = (np.log(2 * 1.648 * np.sqrt(120) / 1e-3) / (2 * steps - 1)) ** 2
        assert np.all(found.value - found.low >= share * 0.99)
        slack.append(float(np.median(found.value - found.low)))
        if steps == 8:
            assert np.median(found.value) > 0
    assert slack[0] > 10 * slack[1] > 40 * slack[2]
    assert slack[2] < 0.002
    assert np.all(np.isneginf(jax.jit(jax.vmap(lambda start: smallest_eigenvalue(product, start, 5)))(starts).low))


def test_the_whole_hessian_leaves_rounding_alone(objectives, data):
    exact = _spectrum(objectives["gram"], data[2])[0]
    gradient = _gradient(objectives["gram"], 0.1)
    found = jax.jit(lambda u: certificate(gradient, u, KEY, None))(data[2])
    np.testing.assert_allclose(found[1:], [exact, found.residual, exact - found.residual], rtol=1e-9, atol=1e-12)
    assert float(found.residual) < 1e-10 * abs(exact) + 1e-10
    half = np.arange(WIDTH) < 1
    some = jax.jit(lambda u: certificate(gradient, u, KEY, None, jnp.asarray(half)))(data[2])
    few = jax.jit(lambda u: certificate(gradient, u, KEY, SIZE, jnp.asarray(half)))(data[2])
    np.testing.assert_allclose(some.curvature, few.curvature, rtol=1e-8)


@pytest.mark.parametrize(("least", "expected"), [(-0.02, -1), (0.0, 1)])
def test_steps_are_added_until_the_sign_is_told(least, expected):
    """One eigenvalue of 4096, -0.02 or 0 under others from 0.05 to 1; a saddle of that size is told in the end."""
    eigenvalues = jnp.asarray(np.concatenate([[least], np.linspace(0.05, 1.0, 4095)]).reshape(64, 64))
    gradient = lambda u: eigenvalues * u  # noqa: E731
    point = jnp.zeros((64, 64))
    assert int(_verdict(certificate(gradient, point, KEY, 8), 1.0, 0.01)) == 0
    found, verdict = certify(gradient, point, KEY, 1.0, 0.01)
    assert verdict == expected
    assert float(found.low) <= least <= float(found.curvature) + 1e-14  # a bound to rounding, of eigenvalues up to 1
    assert certify(gradient, point, KEY, 1.0, 1e-7 - min(least, 0.0), most=60)[1] == 0


@pytest.fixture(scope="module")
def identical():
    """The saddle of 8 identical columns by its closed form: squared column norm and curvature."""
    return [
        float(jax.jit(theory.column_root)(1 / 8, 0.1 / 8, SMOOTHING)),
        float(jax.jit(theory.saddle_curvature)(1.0, 8, 0.1, SMOOTHING)),
    ]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_identical_columns_are_a_saddle_of_known_curvature(identical, dtype):
    """r = 1, k = 8, lambda = 0.1, beta = 0.04, population loss: stationary, curvature -0.33433, in either precision."""
    truth = np.eye(6, 1, dtype=dtype)
    saddle = np.sqrt(identical[0]).astype(dtype) * np.tile(truth, (1, 8))
    found = _certificate(Population(truth @ truth.T, np.zeros((), dtype)), saddle, steps=30)
    # the root and its square root within 8 roundings, times the curvature along the columns, which is below 8
    assert float(found.gradient_norm) < 8 * 8 * np.finfo(dtype).eps
    np.testing.assert_allclose([found.curvature, identical[1]], -0.33433, atol=1e-4 if dtype == jnp.float32 else 2e-6)


def test_plain_descent_stays_at_identical_columns_and_a_perturbation_of_a_millionth_leaves(identical):
    """The same saddle from 8 equal columns: 8 of them at the end without noise, one above the threshold with it."""
    truth = np.eye(6, 1)
    population = Population(jnp.asarray(truth @ truth.T), jnp.asarray(0.0))
    penalty = jax.value_and_grad(lambda u: 0.1 * smoothed_group_lasso(u, SMOOTHING))
    rates = Rates(*(jnp.asarray(x) for x in (0.05, 0.9, 1e-9, 1e-6)))

    def run(method, factor):
        objective = lambda u: jax.tree.map(jnp.add, population.value_and_gradient(u), penalty(u))  # noqa: E731
        state = jax.jit(
            lambda u: advance_descent(method, objective, start_descent(method, u, rates, KEY), rates, 20_000)
        )(factor)
        assert int(state.status) == CONVERGED
        return state, _certificate(population, state.factor, steps=30)

    plain, saddle = run(Method(), np.tile(0.3 * truth, (1, 8)))
    factor = np.asarray(plain.factor)
    np.testing.assert_array_equal(factor, np.tile(factor[:, :1], 8))
    np.testing.assert_allclose(factor[0], np.sqrt(identical[0]), rtol=1e-7)
    np.testing.assert_allclose(saddle.curvature, identical[1], rtol=1e-6)
    assert int(_verdict(saddle, 1e-8, 0.3)) == -1
    left, minimum = run(Method(perturb=True, patience=1000), plain.factor)
    norms = np.sort(np.linalg.norm(left.factor, axis=0))
    assert norms[-1] > 2 * np.sqrt(SMOOTHING)
    assert norms[-2] < 1e-5
    assert float(left.objective) < float(plain.objective)
    assert int(_verdict(minimum, 1e-8, 1e-6)) == 1
