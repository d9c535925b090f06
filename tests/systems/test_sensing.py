"""The sensing system: what is drawn, and the error law that the whole pipeline must meet."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense import theory
from gpsense.errors import BadInput
from gpsense.grid import Axis, Grid, run_grid
from gpsense.keys import seed_keys
from gpsense.pipeline import Schedule
from gpsense.sensing.truths import geometric_spectrum, low_rank_truth
from gpsense.systems import SYSTEMS, System
from gpsense.systems.sensing import Sensing


def test_truths_have_the_spectrum_asked_for(key):
    np.testing.assert_allclose(geometric_spectrum(3, 4.0, jnp.float64), [1.0, 0.5, 0.25], rtol=1e-12)
    np.testing.assert_allclose(geometric_spectrum(1, 4.0, jnp.float64), [1.0])
    truth = low_rank_truth(key, 9, jnp.asarray([1.0, 0.5, 0.25]))
    eigenvalues = np.linalg.eigvalsh(truth @ truth.T)[::-1]
    np.testing.assert_allclose(eigenvalues[:3], [1.0, 0.5, 0.25], rtol=1e-12)
    np.testing.assert_allclose(eigenvalues[3:], 0, atol=1e-12)
    np.testing.assert_allclose(low_rank_truth(key, 9, jnp.asarray([1.0, 0.5])), truth[:, :2], rtol=1e-12)
    with pytest.raises(ValueError, match="rank 3 exceeds dim 2"):
        low_rank_truth(key, 2, jnp.ones(3))


def test_noise_levels_and_forms_share_their_draws():
    keys = seed_keys(5)
    system = Sensing(dim=6, width=4, n=30, form="direct", dtype="float64")
    quiet, loud = (system.draw(Sensing.Data(noise=s), keys.problem) for s in (0.0, 2.0))
    np.testing.assert_array_equal(quiet.truth, loud.truth)
    np.testing.assert_array_equal(quiet.objective.measurements.rows, loud.objective.measurements.rows)
    np.testing.assert_allclose(quiet.objective(quiet.truth), 0.0, atol=1e-24)
    noise = (loud.objective.values - quiet.objective.values) / 2.0
    assert 0.6 < float(jnp.std(noise)) < 1.4
    gram = replace(system, form="gram").draw(Sensing.Data(noise=2.0), keys.problem)
    np.testing.assert_allclose(gram.objective(loud.truth), loud.objective(loud.truth), rtol=1e-11)


def test_start_scale_is_the_expected_column_norm():
    system = Sensing(dim=400, width=50, dtype="float64")
    start = system.init(Sensing.Setting(start_scale=0.7), jax.random.key(1))
    np.testing.assert_allclose(np.linalg.norm(start, axis=0).mean(), 0.7, rtol=0.02)
    wider = replace(system, width=60).init(Sensing.Setting(start_scale=0.7), jax.random.key(1))
    np.testing.assert_array_equal(wider[:, :50], start)


@pytest.mark.parametrize(
    ("build", "line"),
    [
        (lambda: Sensing(rule="threshhold"), "rule: there is no 'threshhold'; did you mean threshold? use one of "),
        (lambda: Sensing(rotation="SVD"), "rotation: there is no 'SVD'; did you mean svd? use one of none, svd"),
        (lambda: Sensing(start="identicall"), "start: there is no 'identicall'; did you mean identical? use one of "),
        (lambda: Sensing(form="Gram"), "form: there is no 'Gram'; did you mean gram? use one of auto, gram, direct"),
        (lambda: Sensing(method="scaledgd"), "method: there is no 'scaledgd'; did you mean scaled_gd? use one of "),
        (
            lambda: Sensing(penalty_kind="grouplasso"),
            "penalty_kind: there is no 'grouplasso'; did you mean group_lasso?",
        ),
        (
            lambda: Sensing(measurements="gausian"),
            "measurements: there is no 'gausian'; did you mean gaussian? use one ",
        ),
        (lambda: Sensing(train_products="fast"), "train_products: there is no 'fast'; use one of highest, "),
        (lambda: Sensing(dtype="double"), "dtype: there is no 'double'; use one of float32, float64"),
        (lambda: Sensing(dim="abc"), "dim: 'abc' is not a whole number; use a whole number 1 or more"),
        (lambda: Sensing(dim=5.7), "dim: 5.7 is not a whole number; use a whole number 1 or more"),
        (lambda: Sensing(dim=0), "dim: 0 is not allowed; use a whole number 1 or more"),
        (lambda: Sensing(dim=2, rank=3), "rank: 3 exceeds dim 2; use a rank of at most dim"),
        (lambda: Sensing(width=1), "width: 1 is below rank 2; use a width of at least rank"),
        (lambda: Sensing(width=21, method="irls"), "width: 21 exceeds dim 20 for irls; "),
        (lambda: Sensing(n=10, batch=11), "batch: 11 of 10 measurements; use a batch of at most n, or leave it out"),
        (lambda: Sensing.Data(noise=-1), "noise: -1 is not allowed; use a number 0 or more"),
        (lambda: Sensing.Data(condition=0.5), "condition: 0.5 is not allowed; use a number 1 or more"),
        (
            lambda: Sensing.Data(spectrum=(1.0, 0.0)),
            "spectrum: 0.0 is not allowed; use a number above 0, or leave it out",
        ),
        (lambda: Sensing.Setting(rate=0), "rate: 0 is not allowed; use a number above 0"),
        (lambda: Sensing.Setting(momentum=1.0), "momentum: 1.0 is not allowed; use a number 0 or more and below 1"),
        (lambda: Sensing.Setting(smoothing=0.0), "smoothing: 0.0 is not allowed; use a number above 0"),
        (lambda: Schedule(-5, 10, 10), "train_steps: -5 is not allowed; use a whole number from 0 to 1000000000"),
        (lambda: Schedule(5, 10, 0), "record_every: 0 is not allowed; use a whole number 1 or more"),
    ],
)
def test_what_cannot_be_is_refused_where_it_is_said(build, line):
    """In Python, by the bare name of the field, with the nearest name or the range."""
    with pytest.raises(BadInput) as refusal:
        build()
    assert str(refusal.value).startswith(line)
    assert refusal.value.field == line.split(":")[0]
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"condition": 2.0, "spectrum": (1.0, 0.5)}, "condition: spectrum already fixes the eigenvalues"),
        ({"spectrum": (1.0, 0.5, 0.2)}, "spectrum: 3 eigenvalues for rank 2"),
        ({"truth": np.ones((19, 2))}, "truth: "),
        ({"truth": np.ones((20, 3))}, "truth: "),
        ({"truth": np.ones((20, 2)), "spectrum": (1.0, 0.5)}, "spectrum: the truth already fixes the eigenvalues"),
    ],
)
def test_truths_that_contradict_one_another_are_refused(changes, line):
    with pytest.raises(BadInput, match=f"^{line}"):
        Grid(Sensing(), constants=changes)


def test_seeds_differ_in_every_role():
    first, second = seed_keys(0), seed_keys(1)
    bits = [
        tuple(np.asarray(jax.random.key_data(k)))
        for keys in (first, second)
        for k in (keys.problem, keys.start, keys.noise)
    ]
    assert len(set(bits)) == 6


def test_the_contract_is_met():
    assert SYSTEMS["sensing"] is Sensing
    assert issubclass(Sensing, System)


def _grid(noise, penalty, n, seeds, schedule):
    axes = (Axis("noise", (noise,), False), Axis("penalty", penalty), Axis("rate", (0.03,), False))
    return Grid(Sensing(dim=30, width=30, n=n), schedule, seeds, axes)


@pytest.mark.slow
def test_error_law_after_fine_tuning():
    """Root mean square over 64 seeds within 15 % of ``sigma sqrt((r d - r (r - 1) / 2) / n)``, d = k = 30, n = 3000."""
    penalty = float(2 * 0.2 * np.sqrt(theory.noise_floor(1.0, 30, 3000)))
    with jax.numpy_dtype_promotion("standard"):
        result = run_grid(_grid(1.0, (penalty,), 3000, 64, Schedule(1600, 300, 400)))
    error = result["error"].values * np.sqrt(2.0)
    law = float(theory.exact_rank_error(1.0, 30, 2, 3000))
    assert (result["rank"] == 2).mean() >= 0.95
    np.testing.assert_allclose(np.sqrt(np.mean(error**2)), law, rtol=0.15)


@pytest.mark.slow
def test_the_rank_comes_out_between_the_noise_floor_and_the_eigenvalues():
    """d = 20, n = 400, sigma = 1, so nu = 0.32: tau = 0.25 keeps too many columns, tau = 0.5 mostly exactly two."""
    values = {"noise": 1.0, "rate": 0.03, "start_scale": 0.03}
    axes = (Axis("penalty", (0.1, 0.2)), *(Axis(name, (value,), False) for name, value in values.items()))
    grid = Grid(Sensing(dtype="float64"), Schedule(3000, 100, 500), 16, axes)
    assert float(theory.noise_floor(1.0, 20, 400)) == pytest.approx(0.316, abs=1e-3)
    assert [float(theory.shrinkage(penalty, 0.04)) for penalty in (0.1, 0.2)] == pytest.approx([0.25, 0.5])
    ranks = run_grid(grid)["rank"]
    assert (ranks.sel(penalty=0.2) == 2).mean() >= 0.7
    assert (ranks.sel(penalty=0.1) > 2).mean() >= 0.7
    assert float(ranks.sel(penalty=0.1).mean() - ranks.sel(penalty=0.2).mean()) > 1


def test_errors_may_be_measured_against_the_best_matrix_of_a_rank():
    """The same run; distance to the two largest eigenvalues of the truth, relative to them, in whatever order."""
    system = Sensing(dim=6, width=4, rank=3, measurements="population", dtype="float64")
    problem = system.draw(Sensing.Data(spectrum=jnp.asarray([0.25, 1.0, 0.5])), seed_keys(0).problem)
    factor = jax.random.normal(seed_keys(1).start, (6, 4))
    values, vectors = np.linalg.eigh(np.asarray(problem.truth @ problem.truth.T))
    best = (vectors[:, -2:] * values[-2:]) @ vectors[:, -2:].T
    expected = np.linalg.norm(np.asarray(factor @ factor.T) - best) / np.linalg.norm(best)
    np.testing.assert_allclose(replace(system, reference_rank=2).error(problem, factor), expected, rtol=1e-10)
    whole = system.error(problem, factor)
    np.testing.assert_allclose(replace(system, reference_rank=3).error(problem, factor), whole, rtol=1e-12)
    with pytest.raises(BadInput, match="^reference_rank: 4 exceeds rank 3; use at most rank"):
        replace(system, reference_rank=4)
