"""Rules, rotation, starts and minibatches of the sensing system, alone and in a grid; curvature of every cell."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense.errors import BadInput
from gpsense.grid import Axis, Grid, run_grid
from gpsense.keys import seed_keys
from gpsense.pipeline import Schedule, run_cell
from gpsense.pruning import COLUMN_RULES, ColumnRule
from gpsense.systems.sensing import Sensing

SCHEDULE = Schedule(100, 20, 100)
SIZES = {"dim": 5, "width": 4, "rank": 2, "n": 30}
RULES = tuple(COLUMN_RULES)
FIXED = {"dtype": "float64", "form": "direct", "curvature_steps": 0}


def _grid(*axes, seeds=(0, 3), curvature_steps=0, **constants):
    known = (*axes, Axis("rate", (0.03,), False))
    system = Sensing(**FIXED | SIZES | {"curvature_steps": curvature_steps})
    return Grid(system, SCHEDULE, Axis("seed", seeds), known, constants)


def test_an_identical_start_is_one_drawn_column_in_all_places():
    system = Sensing(**SIZES, start="identical", dtype="float64")
    init = jax.jit(lambda system, **given: system.init(Sensing.Setting(**given), jax.random.key(1)), static_argnums=0)
    start = np.asarray(init(system, start_scale=0.7))
    np.testing.assert_array_equal(start, np.tile(start[:, :1], (1, 4)))
    other = np.asarray(init(Sensing(**SIZES, dtype="float64"), start_scale=0.7))
    np.testing.assert_array_equal(start[:, 0], other[:, 0])
    fewer = np.asarray(init(system, width=3.0))
    np.testing.assert_array_equal(np.any(fewer != 0, axis=0), [True, True, True, False])


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"batch": 31}, "batch: 31 of 30 measurements; use a batch of at most n"),
        ({"measurements": "population"}, "batch: population data have no measurements"),
        ({"form": "gram"}, "form: minibatches need the measurements themselves"),
    ],
)
def test_batches_that_cannot_be_drawn_are_refused(changes, line):
    with pytest.raises(BadInput, match=f"^{line}"):
        Sensing(**SIZES | {"batch": 4} | changes)
    Sensing(**SIZES, batch=30)


def test_batches_are_met_in_direct_form():
    system = Sensing(dim=5, n=3000, batch=10).resolve(10_000)
    assert system.form == "direct"
    assert system.descent.stochastic
    assert not Sensing().descent.stochastic


@pytest.fixture(scope="module")
def rules():
    """All rules, columns turned onto the singular vectors first."""
    return run_grid(_grid(Axis("rule", RULES), Axis("noise", (0.0, 0.3)), rotation="svd"))


def test_every_rule_keeps_what_it_says(rules):
    assert (rules["rank"].sel(rule=["top_r", "random"]) == 2).all()
    assert (rules["rank"].sel(rule="largest_gap") >= 1).all()
    norms = rules["column_norms"]
    above = (norms.sel(rule="threshold") > 2 * np.sqrt(0.04)).sum("column")
    shares = norms.sel(rule="relative") / norms.sel(rule="relative").isel(column=0)
    np.testing.assert_array_equal(rules["rank"].sel(rule="relative"), (shares > 0.1).sum("column"))
    np.testing.assert_array_equal(rules["rank"].sel(rule="threshold"), above)
    for rule in RULES[1:]:
        np.testing.assert_array_equal(norms.sel(rule=rule), norms.sel(rule="threshold"))
    falling = norms.sel(rule="top_r").transpose("seed", "noise", "column").values
    np.testing.assert_allclose(rules["margin"].sel(rule="top_r"), falling[..., 1] - falling[..., 2], rtol=1e-12)
    assert (rules["margin"].sel(rule=["top_r", "largest_gap"]) >= 0).all()
    assert float(rules["coherence"].max()) < 1e-10


def above_mean(norms, given):
    """A rule of one's own."""
    return (norms > jnp.mean(norms)) & given.active


@pytest.mark.slow
def test_a_rule_may_be_a_function_whose_margin_is_the_gap_it_leaves():
    dataset = run_grid(_grid(Axis("rule", (above_mean, "threshold"))))
    assert list(dataset["rule"].values) == ["above_mean", "threshold"]
    for seed in (0, 3):
        cell = dataset.sel(rule="above_mean", seed=seed)
        norms = cell["column_norms"].values
        kept = norms > norms.mean()
        assert 0 < kept.sum() < 4
        assert cell["rank"] == kept.sum()
        np.testing.assert_allclose(cell["margin"], norms[kept].min() - norms[~kept].max(), rtol=1e-12)
        nearest = np.abs(norms - 2 * np.sqrt(0.04)).min()
        np.testing.assert_allclose(dataset["margin"].sel(rule="threshold", seed=seed), nearest, rtol=1e-12)
    system = Sensing(**FIXED | SIZES, rule=above_mean)
    alone = jax.jit(lambda: run_cell(system, SCHEDULE, Sensing.Data(), Sensing.Setting(rate=0.03), seed_keys(3)))()
    np.testing.assert_allclose(alone["error"], dataset["error"].sel(rule="above_mean", seed=3), rtol=1e-8)


def test_an_entry_of_the_registry_is_a_rule_by_name(monkeypatch):
    with pytest.raises(BadInput, match="^rule: there is no 'loudest'; use one of threshold, "):
        Sensing(rule="loudest")
    far = ColumnRule(lambda norms, given: norms >= jnp.max(norms), lambda norms, mask, given: jnp.max(norms))
    monkeypatch.setitem(COLUMN_RULES, "loudest", far)
    cells = run_grid(_grid(rule="loudest"))
    assert (cells["rank"] == 1).all()
    np.testing.assert_array_equal(cells["margin"], cells["column_norms"].isel(column=0))
    assert cells["rule"].item() == "loudest"


def test_a_random_rule_on_turned_columns_gives_a_cell_alone_what_it_gives_it_in_the_grid(rules):
    system = Sensing(**FIXED, **SIZES, rule="random", rotation="svd")
    alone = jax.jit(lambda d, s, seed: run_cell(system, SCHEDULE, d, s, seed_keys(seed)))
    for seed, noise in ((0, 0.3), (3, 0.0)):
        expected = alone(Sensing.Data(noise=noise), Sensing.Setting(rate=0.03), seed)
        cell = rules.sel(rule="random", seed=seed, noise=noise)
        for name in ("error_trained", "error_pruned", "error", "margin", "rank", "column_norms"):
            np.testing.assert_allclose(cell[name], expected[name], rtol=1e-8, atol=1e-11, err_msg=name)


@pytest.mark.slow
def test_turning_leaves_the_trained_error_and_deletes_what_is_small_in_every_direction():
    """Unregularised columns are alike; turned, the largest ``r`` carry the truth's rank-r part."""
    axes = (Axis("rotation", ("none", "svd")), Axis("penalty", (0.0,), False))
    turned = run_grid(_grid(*axes, rule="top_r", seeds=(0,)))
    np.testing.assert_allclose(turned["error_trained"][1], turned["error_trained"][0], rtol=1e-12)
    assert float(turned["error_pruned"].sel(rotation="svd")[0]) < float(turned["error_pruned"].sel(rotation="none")[0])
    assert float(turned["coherence"].sel(rotation="svd")[0]) < 1e-12


@pytest.fixture(scope="module")
def certified():
    """A penalised grid with minibatches and as many Lanczos steps as the factor has numbers."""
    return run_grid(_grid(Axis("penalty", (0.02, 0.2)), batch=10, curvature_steps=60))


def test_curvature_of_a_cell_is_the_smallest_eigenvalue_of_the_whole_hessian(certified):
    system, keys = Sensing(**FIXED, **SIZES, batch=10), seed_keys(3)

    @jax.jit
    def trained(setting):
        problem = system.draw(Sensing.Data(), keys.problem)
        state = system.learner.start(problem, setting, keys)
        state = system.learner.train(problem, setting, state, 100)
        objective, _ = system.targets(problem, setting)
        return jax.hessian(lambda flat: objective(flat.reshape(5, 4))[0])(state.factor.reshape(-1))

    for penalty in (0.02, 0.2):
        spectrum = np.linalg.eigvalsh(trained(Sensing.Setting(penalty=jnp.asarray(penalty), rate=0.03)))
        cell = certified.sel(penalty=penalty, seed=3)
        np.testing.assert_allclose(cell["curvature_trained"], spectrum[0], rtol=1e-6, atol=1e-8)
        assert np.abs(spectrum - float(cell["curvature_trained"])).min() <= float(cell["curvature_residual"]) + 1e-6


def test_no_steps_give_no_curvature(certified):
    without = run_grid(_grid(Axis("penalty", (0.02, 0.2)), batch=10))
    assert without[["curvature_trained", "curvature_residual"]].to_array().isnull().all()
    for name in ("error", "coherence", "column_norms"):
        np.testing.assert_array_equal(without[name], certified[name], err_msg=name)


def test_top_r_keeps_as_many_columns_as_it_is_told_and_the_true_rank_otherwise():
    told = run_grid(_grid(Axis("keep", (1.0, 3.0)), rule="top_r", penalty=0.02))
    np.testing.assert_array_equal(told["rank"], [[1, 3], [1, 3]])
    alone = run_grid(_grid(rule="top_r", penalty=0.02))
    np.testing.assert_array_equal(alone["rank"], 2)


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"measurements": "population"}, "holds measurements out"), ({"form": "direct"}, "holds measurements out")],
)
def test_a_baseline_that_holds_measurements_out_needs_some(fields, words):
    with pytest.raises(BadInput, match=words):
        Sensing(method="small_start_held_out", **fields)
    assert Sensing(method="small_start_held_out").resolve(10).form == "gram"
