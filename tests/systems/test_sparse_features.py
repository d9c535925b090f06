"""The system of sparse features: what is drawn, what its rules keep, and cells alone and in the grid."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from gpsense.descent import BUDGET, CONVERGED, DIVERGED
from gpsense.errors import BadInput
from gpsense.grid import Axis, Grid, make_plan, run_grid
from gpsense.keys import seed_keys
from gpsense.pipeline import Schedule, run_cell
from gpsense.pruning import inputs
from gpsense.sparse import learner, network
from gpsense.sparse.hermite import RELU
from gpsense.sparse.network import kept_coordinates
from gpsense.sparse.samples import table
from gpsense.systems import SYSTEMS, CoordinatesSetting, SparseFeaturesInstance, SparseFeaturesSpec, System
from gpsense.systems.sparse_features import sample_sparse_features
from tests.sparse.test_samples import everything

SYSTEM = SYSTEMS["sparse_features"]
SPEC = SparseFeaturesSpec(dim=12, sparsity=3, n=700, test=640, pool=2, neurons=8, biases=2, dtype="float64")
SCHEDULE = Schedule(0, 20, 10)
HUGE, IMPOSSIBLE = 1e30, 2.0
MEASURES = ("error", "error_pruned", "energy", "captured", "rank", "loss", "selected")

_sample = jax.jit(sample_sparse_features, static_argnums=0)


@pytest.fixture(scope="module", autouse=True)
def _quick(quick_compiling: None) -> None:
    """Programs here are large and run for milliseconds."""


def instance(n: float = 700.0, noise: float = 0.1) -> SparseFeaturesInstance:
    return SparseFeaturesInstance(n=jnp.asarray(n), noise=jnp.asarray(noise))


def test_the_contract_is_met() -> None:
    assert isinstance(SYSTEM, System)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"method": "niht"}, "train.method"),
        ({"rule": "top_r"}, "prune.rule"),
        ({"parity": "all"}, "prune.parity"),
        ({"spread": "flat"}, "problem.spread"),
        ({"activation": "sine"}, "train.activation"),
        ({"residual": "ridge"}, "train.residual"),
        ({"second_layer": "free"}, "train.second_layer"),
        ({"optimizer": "lbfgs"}, "train.optimizer"),
        ({"link": (0.0, 0.0)}, "problem.link"),
        ({"sparsity": 13}, "problem.sparsity"),
        ({"directions": 4}, "problem.directions"),
        ({"spread": "spike", "directions": 2}, "problem.spread"),
        ({"spread": "spike", "softness": 0.5}, "problem.spread"),
        ({"pool": 0}, "prune.pool"),
        ({"pool": 13}, "prune.pool"),
        ({"pool": 5, "rule": "random"}, "prune.pool"),
        ({"bias_values": ()}, "prune.bias_values"),
    ],
)
def test_bad_specs_are_refused_by_name(changes: dict[str, Any], field: str) -> None:
    SYSTEM.check(SPEC)
    with pytest.raises(BadInput) as refusal:
        SYSTEM.check(replace(SPEC, **changes))
    assert refusal.value.field == field


def test_outputs_have_variance_one_and_tests_are_fresh_and_free_of_noise() -> None:
    spec = replace(SPEC, directions=2, link=(0.5, 1.0), test=3000, n=3000)
    problem = _sample(spec, instance(3000.0, 0.3), seed_keys(0).problem)
    x, y = everything(problem.train)
    fresh, outputs = everything(problem.test)
    np.testing.assert_allclose([y.mean(), y.var()], [0.0, problem.variance], atol=1e-12)
    np.testing.assert_allclose([y.var(), outputs.var()], [1.09, 1.0], rtol=0.15)
    assert not np.isin(x, fresh).any()
    t = fresh @ np.asarray(problem.truth)
    expected = np.sum(0.5 * t + (t**2 - 1) / np.sqrt(2), axis=1) / np.sqrt(2) / np.sqrt(1.25)
    np.testing.assert_allclose(outputs + float(problem.test.offset), expected, atol=1e-12)


def test_noise_levels_and_numbers_of_samples_share_their_draws() -> None:
    key = seed_keys(3).problem
    quiet, loud, few = (_sample(SPEC, instance(*each), key) for each in ((700.0, 0.0), (700.0, 2.0), (300.0, 0.0)))
    (x, y), (same, shifted), (some, less) = (everything(problem.train) for problem in (quiet, loud, few))
    np.testing.assert_array_equal(x, same)
    noise = (shifted + float(loud.train.offset) - y - float(quiet.train.offset)) / 2.0
    np.testing.assert_allclose([noise.mean(), noise.std()], [0.0, 1.0], atol=0.12)
    places = [int(np.flatnonzero((x == row).all(axis=1))[0]) for row in some]
    assert len(places) == 300
    np.testing.assert_allclose(less + few.train.offset, y[places] + quiet.train.offset, atol=1e-12)
    for problem in (loud, few):
        np.testing.assert_array_equal(problem.truth, quiet.truth)
        np.testing.assert_array_equal(*(everything(p.test)[0] for p in (problem, quiet)))


def _pruned(rule: str, problem: Any) -> tuple[np.ndarray, dict[str, float]]:
    spec, setting = replace(SPEC, rule=rule), CoordinatesSetting()
    SYSTEM.check(spec)
    pruned = SYSTEM.prune(spec, problem, setting, SYSTEM.begin(spec, problem, setting, seed_keys(0)))
    return np.asarray(pruned.mask), {name: float(value) for name, value in SYSTEM.found(problem, pruned).items()}


def test_rules_keep_what_they_say() -> None:
    problem = _sample(replace(SPEC, link=(1.0,)), instance(), seed_keys(0).problem)
    rows = np.asarray(problem.truth)[:, 0] ** 2
    mask, found = _pruned("oracle", problem)
    np.testing.assert_array_equal(mask, rows > 0)
    assert found == {"captured": pytest.approx(1.0), "missed": 0, "ahead": 0}
    mask, found = _pruned("random", problem)
    assert mask.sum() == 6
    assert found["captured"] == pytest.approx(rows[mask].sum())
    assert found["missed"] == (rows[~mask] > 0).sum()
    mask, found = _pruned("magnitude", problem)
    assert (mask.sum(), found["captured"]) == (6, pytest.approx(1.0))
    assert _pruned("none", problem)[0].all()


def test_scores_agree_in_float32_and_float64() -> None:
    """On the same table, and along the basis itself: a draw's numbers depend on its type."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(600, 6)), rng.normal(size=600)
    score = jax.jit(lambda stream, bias: inputs.gradients(stream, bias, 1.0, RELU, "even")[0])
    given = [(jnp.asarray(x, dtype), jnp.asarray(y, dtype), jnp.asarray([0.3], dtype)) for dtype in ("f4", "f8")]
    one, other = (score(table(x, y, jax.random.key(0)), bias) for x, y, bias in given)
    assert (one.dtype, other.dtype) == (jnp.float32, jnp.float64)
    np.testing.assert_allclose(one, other, atol=2e-5)


def test_a_fit_to_nothing_is_a_constant() -> None:
    """A method that finds no direction has error 1, not none: the network's output is the mean."""
    rng = np.random.default_rng(1)
    stream = table(jnp.asarray(rng.normal(size=(640, 3))), jnp.asarray(rng.normal(size=640)), jax.random.key(0))
    kept = kept_coordinates(jnp.zeros(3, bool), 2)
    still = network.stepped(jnp.zeros((2, 4)), jnp.zeros(2), jnp.linspace(-1.0, 1.0, 8))
    path = network.ridge(network.statistics(stream, kept, still, RELU), still, jnp.asarray([1e-5]))
    error, variance = network.squared_errors(stream, kept, path, RELU)
    np.testing.assert_allclose(error[0], variance, rtol=1e-9)
    assert float(learner.energy(jnp.zeros((2, 4)), jnp.zeros((2, 1)))) == 0


def _grid(
    schedule: Schedule, axes: dict[str, tuple[Any, ...]], link: tuple[float, ...] | None = None, **changes: Any
) -> Grid:
    fields = {"dim": 12, "sparsity": 3, "test": 640, "pool": 2, "neurons": 8, "biases": 2} | changes
    lists = {name: (value,) for name, value in fields.items()} | {"n": (300, 700)} | axes
    spans = [Axis(name, values, len(values) > 1) for name, values in lists.items()]
    constants = {"dtype": "float64"} | ({"link": link} if link else {})
    return Grid(SYSTEM, schedule, Axis("seed", (0, 1, 7)), (Axis("noise", (0.1,), False), *spans), constants)


def _compare(grid: Grid, dataset: xr.Dataset, places: list[dict[str, Any]]) -> None:
    """Cells alone are those of the grid."""
    spec, numbers_of = make_plan(grid, 2**30).programs[0].spec, {"n", "tilt"}

    def alone(fields: Any, setting: Any, seed: Any) -> Any:
        given = SparseFeaturesInstance(noise=0.1, **fields)
        return run_cell(SYSTEM, spec, grid.schedule, given, CoordinatesSetting(**setting), seed_keys(seed))

    alone = jax.jit(alone)
    for place in places:
        values = {name: jnp.asarray(float(value)) for name, value in place.items() if name != "seed"}
        fields = {name: value for name, value in values.items() if name in numbers_of}
        setting = {name: value for name, value in values.items() if name not in numbers_of}
        expected = alone(fields, setting, place["seed"])
        cell = dataset.sel({name: value for name, value in place.items() if name in dataset.dims})
        for name in cell.data_vars:
            np.testing.assert_allclose(cell[name], expected[name], rtol=1e-6, atol=1e-9, err_msg=f"{name} {place}")


@pytest.fixture(scope="module")
def greedy() -> tuple[Grid, xr.Dataset]:
    """Two contractions; spikes, one of them with entries that no unit vector has."""
    axes = {"contraction": (0.4, 0.8), "tilt": (0.5, IMPOSSIBLE)}
    grid = _grid(Schedule(0, 0, 10), axes, spread="spike")
    return grid, run_grid(grid)


def test_a_cell_alone_equals_the_cell_in_the_grid(greedy: tuple[Grid, xr.Dataset]) -> None:
    grid, dataset = greedy
    assert make_plan(grid, 2**30).programs[0].spec.n == 700
    assert dataset["error"].dims == ("seed", "n", "tilt", "contraction")
    assert dataset["selected"].dims[-1] == "coordinate"
    places = [{"seed": 0, "n": 300, "contraction": 0.8}, {"seed": 7, "n": 700, "contraction": 0.4}]
    _compare(grid, dataset, [place | {"tilt": 0.5} for place in places] + [places[1] | {"tilt": IMPOSSIBLE}])


def test_a_cell_that_fails_says_so_and_the_others_stand(greedy: tuple[Grid, xr.Dataset]) -> None:
    _, dataset = greedy
    lost, left = dataset.sel(tilt=IMPOSSIBLE), dataset.sel(tilt=0.5)
    assert (lost["status"] == DIVERGED).all()
    assert (left["status"] == BUDGET).all()
    assert (dataset["status_train"] == CONVERGED).all()
    for name in MEASURES:
        assert np.isnan(lost[name]).all(), name
        assert np.isfinite(left[name]).all(), name


def test_measures_describe_the_coordinates_kept(greedy: tuple[Grid, xr.Dataset]) -> None:
    dataset = greedy[1].sel(tilt=0.5)
    np.testing.assert_array_equal(dataset["rank"], dataset["selected"].sum("coordinate"))
    assert ((dataset["rank"] >= 2) & (dataset["rank"] <= 6)).all()
    np.testing.assert_allclose(dataset["error"], dataset["error_pruned"], rtol=1e-12)
    assert (dataset["error_curve"] == 1).all()
    many = dataset.sel(n=700)
    assert float(many["captured"].mean()) > 0.5
    assert float(many["error"].median()) < 0.8


@pytest.mark.slow
def test_a_rate_too_large_leaves_the_others_standing() -> None:
    """Fine-tuning as well is the same alone and in the grid, and its records are those of what it ends with."""
    grid = _grid(SCHEDULE, {"contraction": (0.4, 0.8), "rate": (0.02, HUGE)})
    dataset = run_grid(grid)
    lost, left = dataset.sel(rate=HUGE), dataset.sel(rate=0.02)
    assert (lost["status"] == DIVERGED).all()
    for name in MEASURES:
        assert np.isnan(lost[name]).all(), name
        assert np.isfinite(left[name]).all(), name
    assert (left["steps_fine_tune"] == 20).all()
    np.testing.assert_allclose(left["error_curve"].isel(step=-1), left["error"], rtol=1e-12)
    np.testing.assert_allclose(left["loss_curve"].isel(step=-1), left["loss"], rtol=1e-12)
    places = [{"seed": 0, "n": 300, "contraction": 0.8, "rate": 0.02}]
    _compare(grid, dataset, [*places, {"seed": 7, "n": 700, "contraction": 0.4, "rate": HUGE}])


OTHERS = {
    "lasso": (Schedule(0, 0, 10), {"method": "lasso", "link": (1.0,)}, {}),
    "diagonal_spectral": (SCHEDULE, {"method": "diagonal_spectral"}, {}),
    "rule none": (Schedule(0, 0, 10), {"rule": "none", "residual": "ols"}, {}),
    "descent": (Schedule(20, 10, 10), {"method": "descent", "rule": "magnitude", "optimizer": "momentum"}, {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_cells_of_other_methods_alone_and_in_the_grid(name: str) -> None:
    schedule, changes, axes = OTHERS[name]
    grid = _grid(schedule, axes | {"rate": (0.005, 0.02)}, **changes)
    dataset = run_grid(grid)
    assert np.isfinite(dataset["error"]).all()
    assert int(dataset["status"].max()) <= BUDGET
    _compare(grid, dataset, [{"seed": 0, "n": 300, "rate": 0.02}, {"seed": 7, "n": 700, "rate": 0.005}])
    if name == "rule none":
        assert (dataset["rank"] == 12).all()
    if name == "descent":
        assert (dataset["steps_train"] == 20).all()
        assert (dataset["error_curve"].isel(step=0) != dataset["error_trained"]).all()
        assert (dataset["rank"] == 6).all()
