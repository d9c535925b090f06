"""The rectangular system: what is drawn, the laws of its stacked columns, and the grid."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense import theory
from gpsense.errors import BadInput
from gpsense.grid import Axis, Grid, make_plan, run_grid
from gpsense.keys import seed_keys
from gpsense.pipeline import Schedule, run_cell
from gpsense.sensing.measurements import rectangular_measurements
from gpsense.sensing.stacked import halves, product
from gpsense.systems import SYSTEMS, System
from gpsense.systems.rectangular import Rectangular

SINGULAR = (1.0, 0.8, 0.6)
SCHEDULE = Schedule(1500, 300, 300)
_draw = jax.jit(Rectangular.draw, static_argnums=0)
_init = jax.jit(Rectangular.init, static_argnums=0)


def test_the_contract_is_met():
    assert SYSTEMS["rectangular"] is Rectangular
    assert issubclass(Rectangular, System)


def test_truths_have_the_singular_values_asked_for():
    system = Rectangular(dim=7, columns=5, width=4, rank=3, measurements="population", dtype="float64")
    key = seed_keys(1).problem
    truth = np.asarray(_draw(system, Rectangular.Data(spectrum=jnp.asarray(SINGULAR)), key).truth)
    left, right = halves(truth, 7)
    for part in (left, right):
        np.testing.assert_allclose(part.T @ part, np.diag(SINGULAR), atol=1e-12)
    np.testing.assert_allclose(np.linalg.svd(left @ right.T, compute_uv=False)[:3], SINGULAR, rtol=1e-12)
    assert truth.shape == (12, 3)
    falling = _draw(system, Rectangular.Data(condition=4.0), key)
    np.testing.assert_allclose(np.linalg.svd(falling.objective.matrix)[1][:3], [1.0, 0.5, 0.25], rtol=1e-12)
    given = _draw(system, Rectangular.Data(truth=jnp.asarray(2.0 * truth)), key)
    error = jax.jit(lambda problem, factor: system.error(problem, factor))
    np.testing.assert_allclose(error(given, truth), 0.75, rtol=1e-12)


def test_noise_levels_and_forms_share_their_draws():
    system = Rectangular(dim=5, width=4, n=30, form="direct", dtype="float64")
    key = seed_keys(5).problem
    quiet, loud = (_draw(system, Rectangular.Data(noise=s), key) for s in (0.0, 2.0))
    assert quiet.objective.measurements.sides == (5, 5)
    np.testing.assert_array_equal(quiet.truth, loud.truth)
    loss = jax.jit(lambda problem, factor: problem.objective(factor))
    np.testing.assert_allclose(loss(quiet, quiet.truth), 0.0, atol=1e-24)
    assert 0.6 < np.std((np.asarray(loud.objective.values) - quiet.objective.values) / 2.0) < 1.4
    centred = _draw(replace(system, form="gram"), Rectangular.Data(noise=2.0), key)
    start = _init(system, Rectangular.Setting(), key)
    np.testing.assert_allclose(loss(centred, start), loss(loud, start), rtol=1e-11)


def test_start_scale_is_the_expected_stacked_norm():
    system = Rectangular(dim=300, columns=200, width=50, dtype="float64")
    start = _init(system, Rectangular.Setting(start_scale=0.7), jax.random.key(1))
    assert start.shape == (500, 50)
    np.testing.assert_allclose(np.linalg.norm(start, axis=0).mean(), 0.7, rtol=0.02)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"method": "spectral"}, "method"),
        ({"measurements": "rank_one"}, "measurements"),
        ({"columns": 1}, "columns"),
        ({"dim": 1}, "rank"),
        ({"width": 1}, "width"),
    ],
)
def test_bad_fields_are_refused_by_name(changes, field):
    with pytest.raises(BadInput) as refusal:
        Rectangular(**{"dim": 8, "columns": 6, "width": 5} | changes)
    assert refusal.value.field == field


def test_the_cheaper_form_is_chosen():
    few, many = (Rectangular(dim=20, columns=10, n=n).resolve(10_000) for n in (50, 2000))
    assert [few.form, many.form] == ["direct", "gram"]
    assert many.cost().flops == 6 * 200 * 20 + 2 * 200**2
    assert few.cost().flops == 6 * 200 * 20 + 4 * 50 * 200


@pytest.fixture(scope="module")
def population():
    """A converged population run on three distinct singular values, over-parameterised five times."""
    system = Rectangular(dim=15, columns=10, rank=3, measurements="population", optimizer="momentum", dtype="float64")
    setting = Rectangular.Setting(
        penalty=0.1, smoothing=0.04, rate=0.05, momentum=0.95, tolerance=1e-7, fine_tune_tolerance=1e-9
    )
    data, schedule = Rectangular.Data(spectrum=jnp.asarray(SINGULAR)), Schedule(20_000, 1000, 10_000)
    return jax.jit(lambda: run_cell(system, schedule, data, setting, seed_keys(0)))()


def test_root_law_on_a_converged_population_run(population):
    """``sigma - p = (lambda / 2) psi(2 p)`` with ``2 p = ||[u; v]||^2`` column by column, and exactly three columns."""
    assert (int(population["status_train"]), int(population["rank"])) == (1, 3)
    squares = np.asarray(population["column_norms"]) ** 2
    shrunk = 0.5 * 0.1 * (squares[:3] + 0.08) / (squares[:3] + 0.04) ** 1.5
    np.testing.assert_allclose(squares[:3] / 2, np.asarray(SINGULAR) - shrunk, atol=1e-7)
    roots = jax.jit(theory.rectangular_root)(np.asarray(SINGULAR), 0.1, 0.04)
    np.testing.assert_allclose(squares[:3], 2 * np.asarray(roots), atol=1e-7)
    np.testing.assert_allclose(
        population["error_trained"], np.linalg.norm(shrunk) / np.linalg.norm(SINGULAR), rtol=1e-6
    )
    assert squares[3:].max() < 1e-6
    np.testing.assert_allclose(population["margin"], 0.4, atol=1e-3)


def test_columns_are_balanced_and_fine_tuning_recovers_the_truth(population):
    left, right = halves(np.asarray(population["state"].factor), 15)
    np.testing.assert_allclose(np.sum(left**2, axis=0), np.sum(right**2, axis=0), atol=1e-7)
    assert int(population["status"]) == 1
    assert float(population["error"]) < 1e-8


def test_a_zero_column_is_unstable_where_a_singular_value_exceeds_tau():
    """Smallest Hessian eigenvalue ``2 (tau - sigma)``: sigma_1 at W = 0; sigma_2 beside a column on its root."""
    system = Rectangular(dim=4, width=2, rank=2, measurements="population", dtype="float64", columns=3)

    @jax.jit
    def slopes_and_hessians(penalty):
        problem = system.draw(Rectangular.Data(spectrum=jnp.asarray([1.0, 0.7])), seed_keys(2).problem)
        train, _ = system.targets(problem, Rectangular.Setting(penalty=penalty, smoothing=0.04))
        gradient = lambda w: train(w)[1]  # noqa: E731
        covered = problem.truth.at[:, 1].set(0.0) * jnp.sqrt(theory.rectangular_root(1.0, penalty, 0.04))
        points = jnp.stack([jnp.zeros((7, 2)), covered])
        return jax.vmap(gradient)(points), jax.vmap(jax.jacfwd(gradient))(points)

    for penalty in (0.05, 0.2, 0.3):
        slopes, hessians = slopes_and_hessians(jnp.asarray(penalty))
        np.testing.assert_allclose(slopes, 0.0, atol=1e-9)
        lowest = [np.linalg.eigvalsh(h[:, 1, :, 1])[0] for h in hessians]  # the zero column moves alone
        tau = float(jax.jit(theory.rectangular_shrinkage)(penalty, 0.04))
        np.testing.assert_allclose(lowest, [2 * (tau - 1.0), 2 * (tau - 0.7)], atol=1e-7)


def test_noise_floor_is_the_norm_of_the_noise():
    """Spectral norm of ``(1/n) sum_i sigma g_i A_i``; the half-blocks of the adjoint are doubled."""
    dim, columns, n = 40, 25, 100

    @jax.jit
    def image(key):
        first, second = jax.random.split(key)
        noise = 2.0 * jax.random.normal(second, (n,), jnp.float64)
        return 2 * rectangular_measurements(first, n, dim, columns, jnp.float64).adjoint(noise / n)

    norms = [np.linalg.norm(image(jax.random.key(seed)), 2) for seed in range(10)]
    floor = jax.jit(theory.rectangular_noise_floor)(2.0, dim, columns, n)
    np.testing.assert_allclose(np.mean(norms), floor, rtol=0.08)


@pytest.fixture(scope="module")
def grid():
    fixed = {"dim": 12, "noise": 1.0, "rate": 0.03, "start_scale": 0.1}
    axes = (Axis("n", (600, 1200)), Axis("penalty", (0.02, 0.12)))
    axes += tuple(Axis(name, (value,), False) for name, value in fixed.items())
    constants = {"columns": 8, "width": 8, "optimizer": "momentum", "dtype": "float64"}
    return Grid(Rectangular(), SCHEDULE, Axis("seed", tuple(range(16))), axes, constants)


@pytest.fixture(scope="module")
def dataset(grid):
    return run_grid(grid)


@pytest.mark.slow
def test_error_law_after_fine_tuning(dataset):
    """RMS over 16 seeds: ``sigma sqrt(r (d_1 + d_2 - r) / n)``; the rank is right, nu = 0.18 < tau = 0.6."""
    cells = dataset.sel(penalty=0.12, n=1200)
    assert float(theory.rectangular_noise_floor(1.0, 12, 8, 1200)) == pytest.approx(0.182, abs=1e-3)
    assert float(theory.rectangular_shrinkage(0.12, 0.04)) == pytest.approx(0.6)
    assert (cells["rank"] == 2).all()
    law = float(theory.rectangular_rank_error(1.0, 12, 8, 2, 1200))
    error = np.sqrt(2.0) * np.sqrt(np.mean(cells["error"].values ** 2))
    np.testing.assert_allclose(error, law, rtol=0.08)


@pytest.mark.slow
def test_columns_are_kept_for_noise_below_the_floor(dataset):
    """tau = 0.1 is below nu = 0.26 and 0.18."""
    assert (dataset["rank"].sel(penalty=0.02) > 2).mean() >= 0.9


@pytest.mark.slow
def test_a_cell_alone_equals_the_cell_in_the_grid(grid, dataset):
    """One program for both n, whose number is traced; alone the measurements are the n asked for."""
    plan = make_plan(grid, 2.0**30)
    system = plan.programs[0].system
    assert (len(plan.programs), system.form) == (1, "gram")
    setting = Rectangular.Setting(penalty=0.12, rate=0.03, start_scale=0.1)
    cell = jax.jit(
        lambda n, seed: run_cell(system, SCHEDULE, Rectangular.Data(n=n, noise=1.0), setting, seed_keys(seed))
    )
    expected, place = cell(600.0, 3), dataset.sel(n=600, seed=3, penalty=0.12)
    for name in ("rank", "error", "error_trained", "loss", "column_norms", "steps_train", "error_curve"):
        np.testing.assert_allclose(place[name], expected[name], rtol=1e-8, atol=1e-12, err_msg=name)
    problem = system.draw(Rectangular.Data(n=600, noise=1.0), seed_keys(3).problem)
    matrix = product(problem.truth, 12)
    gap = np.linalg.norm(product(expected["state"].factor, 12) - matrix) / np.linalg.norm(matrix)
    np.testing.assert_allclose(place["error"], gap, rtol=1e-8)
