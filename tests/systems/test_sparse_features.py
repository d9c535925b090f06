"""The system of sparse features: what is drawn, what its rules keep, and cells alone and in the grid."""

from dataclasses import replace
from functools import partial
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
from gpsense.sparse.methods import BASELINES, Baseline
from gpsense.sparse.network import kept_coordinates, mean_part
from gpsense.sparse.samples import table
from gpsense.systems.sparse_features import SparseFeatures
from tests.sparse.test_samples import everything

SYSTEM = SparseFeatures(dim=12, sparsity=3, n=700, test=640, pool=2, neurons=8, biases=2, dtype="float64")
SCHEDULE = Schedule(0, 20, 10)
HUGE, OVERFLOWING = 1e30, 1e200
MEASURES = ("error", "error_pruned", "energy", "captured", "rank", "loss", "selected")

_draw = jax.jit(SparseFeatures.draw, static_argnums=0)
_table = jax.jit(table)


@partial(jax.jit, static_argnums=0)
def _prune(system: SparseFeatures, problem: Any) -> Any:
    """What is kept, and how it is measured."""
    setting = SparseFeatures.Setting()
    pruned = system.learner.prune(problem, setting, system.learner.start(problem, setting, seed_keys(0)))
    return pruned.mask, system.measure_kept(problem, pruned)


def numbers(n: float = 700.0, noise: float = 0.1) -> SparseFeatures.Data:
    return SparseFeatures.Data(n=jnp.asarray(n), noise=jnp.asarray(noise))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"method": "niht"}, "method"),
        ({"rule": "top_r"}, "rule"),
        ({"parity": "all"}, "parity"),
        ({"spread": "flat"}, "spread"),
        ({"activation": "sine"}, "activation"),
        ({"residual": "ridge"}, "residual"),
        ({"second_layer": "free"}, "second_layer"),
        ({"optimizer": "lbgfs"}, "optimizer"),
        ({"link": (0.0, 0.0)}, "link"),
        ({"sparsity": 13}, "sparsity"),
        ({"directions": 4}, "directions"),
        ({"spread": "spike", "directions": 2}, "spread"),
        ({"spread": "spike", "softness": 0.5}, "spread"),
        ({"pool": 0}, "pool"),
        ({"pool": 13}, "pool"),
        ({"pool": 5, "rule": "random"}, "pool"),
        ({"bias_values": ()}, "bias_values"),
        ({"test": 99}, "test"),
    ],
)
def test_bad_fields_are_refused_by_name(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(BadInput) as refusal:
        replace(SYSTEM, **changes)
    assert refusal.value.field == field


def test_a_spike_has_norm_one() -> None:
    spike, most = replace(SYSTEM, spread="spike"), 0.5**0.5
    spike.check_data(SparseFeatures.Data(tilt=most))
    SYSTEM.check_data(SparseFeatures.Data(tilt=1.0))
    with pytest.raises(BadInput, match=r"tilt: .*use at most 0\.7071"):
        spike.check_data(SparseFeatures.Data(tilt=most + 1e-6))
    with pytest.raises(BadInput, match="tilt"):
        Grid(spike, axes=(Axis("tilt", (0.1, 1.0)),))


def test_outputs_have_variance_one_and_tests_are_fresh_and_free_of_noise() -> None:
    system = replace(SYSTEM, directions=2, link=(0.5, 1.0), test=3000, n=3000)
    problem = _draw(system, numbers(3000.0, 0.3), seed_keys(0).problem)
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
    quiet, loud, few = (_draw(SYSTEM, numbers(*each), key) for each in ((700.0, 0.0), (700.0, 2.0), (300.0, 0.0)))
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


def _pruned(rule: Any, problem: Any) -> tuple[np.ndarray, dict[str, float]]:
    mask, found = _prune(replace(SYSTEM, rule=rule), problem)
    return np.asarray(mask), {name: float(value) for name, value in found.items()}


def test_rules_keep_what_they_say() -> None:
    problem = _draw(replace(SYSTEM, link=(1.0,)), numbers(), seed_keys(0).problem)
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


@pytest.mark.slow
def test_a_rule_and_an_activation_of_ones_own() -> None:
    """A rule that keeps the largest means of y x; a ReLU written anew is the ReLU."""

    def by_means(given: inputs.Candidates) -> inputs.Decided:
        score = jnp.abs(mean_part(given.samples, kept_coordinates(jnp.ones(12, bool), 12)))
        return inputs.largest(score, given.pool), score

    problem = _draw(replace(SYSTEM, link=(1.0,)), numbers(), seed_keys(0).problem)
    x, y = everything(problem.train)
    np.testing.assert_array_equal(np.flatnonzero(_pruned(by_means, problem)[0]), np.sort(np.argsort(-abs(x.T @ y))[:2]))

    @jax.jit
    def networks() -> Any:
        kept = kept_coordinates(jnp.arange(12) < 3, 3)
        systems = SYSTEM, replace(SYSTEM, activation=lambda t: jnp.where(t > 0, t, 0.0))
        return [learner.fit(problem.train, kept, each.recipe, seed_keys(1).start).network for each in systems]

    for one, other in zip(*map(jax.tree.leaves, networks()), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


def test_a_baseline_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry of the registry is a method; the coordinates kept are those of its directions that are not 0."""
    first = lambda fit, held, r, kept: jnp.zeros((12, r), fit.xy.dtype).at[:kept].set(1.0)  # noqa: E731
    monkeypatch.setitem(BASELINES, "first", Baseline("first", "made up", "the number of coordinates", first))
    system = replace(SYSTEM, method="first")
    mask, _ = _prune(system, _draw(system, numbers(), seed_keys(0).problem))
    np.testing.assert_array_equal(np.flatnonzero(mask), [0, 1, 2])
    assert system.describe() == "first, no network, dim 12, n up to 700, 16 neurons"
    with pytest.raises(BadInput, match="use one of greedy_pruning, descent, linear, .*, first"):
        replace(SYSTEM, method="second")


def test_scores_agree_in_float32_and_float64() -> None:
    """On the same table, and along the basis itself: a draw's numbers depend on its type."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(600, 6)), rng.normal(size=600)
    score = jax.jit(lambda stream, bias: inputs.gradients(stream, bias, 1.0, RELU, "even")[0])
    given = [(x.astype(dtype), y.astype(dtype), np.asarray([0.3], dtype)) for dtype in ("f4", "f8")]
    one, other = (score(_table(x, y, jax.random.key(0)), bias) for x, y, bias in given)
    assert (one.dtype, other.dtype) == (jnp.float32, jnp.float64)
    np.testing.assert_allclose(one, other, atol=2e-5)


def test_a_fit_to_nothing_is_a_constant() -> None:
    """A method that finds no direction has error 1, not none: the network's output is the mean."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(640, 3)), rng.normal(size=640)

    @jax.jit
    def errors() -> Any:
        stream = table(jnp.asarray(x), jnp.asarray(y), jax.random.key(0))
        kept = kept_coordinates(jnp.zeros(3, bool), 2)
        still = network.stepped(jnp.zeros((2, 4)), jnp.zeros(2), jnp.linspace(-1.0, 1.0, 8))
        path = network.ridge(network.statistics(stream, kept, still, RELU), still, jnp.asarray([1e-5]))
        return *network.squared_errors(stream, kept, path, RELU), learner.energy(jnp.zeros((2, 4)), jnp.zeros((2, 1)))

    error, variance, energy = errors()
    np.testing.assert_allclose(np.asarray(error)[0], variance, rtol=1e-9)
    assert float(energy) == 0


def _grid(
    schedule: Schedule, axes: dict[str, tuple[Any, ...]], link: tuple[float, ...] | None = None, **changes: Any
) -> Grid:
    fields = {"dim": 12, "sparsity": 3, "test": 640, "pool": 2, "neurons": 8, "biases": 2} | changes
    lists = {name: (value,) for name, value in fields.items() if value is not None} | {"n": (300, 700)} | axes
    spans = [Axis(name, values, len(values) > 1) for name, values in lists.items()]
    constants = {"dtype": "float64"} | ({"link": link} if link else {})
    spans = spans if "noise" in lists else [Axis("noise", (0.1,), False), *spans]
    return Grid(SparseFeatures(), schedule, (0, 1, 7), tuple(spans), constants)


def _compare(grid: Grid, dataset: xr.Dataset, places: list[dict[str, Any]]) -> None:
    """Cells alone are those of the grid; a record that overflows is inf or NaN, by the order in which it is summed."""
    system, numbers_of = make_plan(grid, 2**30).programs[0].system, {"n", "noise", "tilt"}

    @jax.jit
    def alone(fields: Any, setting: Any, seed: Any) -> Any:
        given = SparseFeatures.Data(**{"noise": 0.1} | fields)
        return run_cell(system, grid.schedule, given, SparseFeatures.Setting(**setting), seed_keys(seed))

    for place in places:
        values = {name: jnp.asarray(float(value)) for name, value in place.items() if name != "seed"}
        fields = {name: value for name, value in values.items() if name in numbers_of}
        setting = {name: value for name, value in values.items() if name not in numbers_of}
        expected = alone(fields, setting, place["seed"])
        cell = dataset.sel({name: value for name, value in place.items() if name in dataset.dims})
        for name in cell.data_vars:
            one, other = np.asarray(cell[name]), np.asarray(expected[name])
            if place.get("noise") == OVERFLOWING and name.endswith("_curve"):
                late = np.arange(one.shape[-1]) > 0  # what it starts from is the same to the last
                one, other = (np.where(late & ~np.isfinite(each), np.nan, each) for each in (one, other))
            np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-9, err_msg=f"{name} {place}")


@pytest.fixture(scope="module")
def greedy() -> tuple[Grid, xr.Dataset]:
    """Two contractions; two levels of noise, one of which overflows; two rates, one of which is too large."""
    axes = {"contraction": (0.4, 0.8), "noise": (0.1, OVERFLOWING), "rate": (0.02, HUGE)}
    grid = _grid(SCHEDULE, axes, spread="spike", tilt=0.5)
    with pytest.warns(UserWarning, match="36 of 48 cells diverged"):
        return grid, run_grid(grid)


def test_a_cell_alone_equals_the_cell_in_the_grid(greedy: tuple[Grid, xr.Dataset]) -> None:
    """Before and after fine-tuning, with a rate too large, and with a noise that overflows."""
    grid, dataset = greedy
    assert make_plan(grid, 2**30).programs[0].system.n == 700
    assert dataset["error"].dims == ("seed", "n", "noise", "contraction", "rate")
    assert dataset["selected"].dims[-1] == "coordinate"
    places = [{"seed": 0, "n": 300, "contraction": 0.8}, {"seed": 7, "n": 700, "contraction": 0.4}]
    places = [place | {"tilt": 0.5, "noise": 0.1, "rate": 0.02} for place in places]
    _compare(grid, dataset, [*places, places[1] | {"noise": OVERFLOWING}, places[1] | {"rate": HUGE}])


def test_a_cell_that_fails_says_so_and_the_others_stand(greedy: tuple[Grid, xr.Dataset]) -> None:
    _, dataset = greedy
    left = dataset.sel(noise=0.1, rate=0.02)
    assert (left["status"] == BUDGET).all()
    assert (dataset["status_train"] == CONVERGED).all()
    for lost in (dataset.sel(noise=OVERFLOWING), dataset.sel(noise=0.1, rate=HUGE)):
        assert (lost["status"] == DIVERGED).all()
        for name in MEASURES:
            assert np.isnan(lost[name]).all(), name
    for name in MEASURES:
        assert np.isfinite(left[name]).all(), name


def test_measures_describe_the_coordinates_kept(greedy: tuple[Grid, xr.Dataset]) -> None:
    """The error before fine-tuning is that of the network as it begins, the last records are those of its end."""
    dataset = greedy[1].sel(noise=0.1, rate=0.02)
    np.testing.assert_array_equal(dataset["rank"], dataset["selected"].sum("coordinate"))
    assert ((dataset["rank"] >= 2) & (dataset["rank"] <= 6)).all()
    assert (dataset["error_curve"].isel(step=0) == 1).all()
    assert (dataset["steps_fine_tune"] == 20).all()
    np.testing.assert_allclose(dataset["error_curve"].isel(step=-1), dataset["error"], rtol=1e-12)
    np.testing.assert_allclose(dataset["loss_curve"].isel(step=-1), dataset["loss"], rtol=1e-12)
    many = dataset.sel(n=700)
    assert float(many["captured"].mean()) > 0.5
    assert float(many["error_pruned"].median()) < 0.8


UNREAD: dict[str, Any] = {"pool": None, "biases": None}  # left at their defaults
OTHERS = {
    "lasso": (Schedule(0, 0, 10), {"method": "lasso", "link": (1.0,)} | UNREAD, {}),
    "diagonal_spectral": (SCHEDULE, {"method": "diagonal_spectral"} | UNREAD, {}),
    "rule none": (Schedule(0, 0, 10), {"rule": "none", "residual": "ols"} | UNREAD, {}),
    "descent": (
        Schedule(20, 10, 10),
        {"method": "descent", "rule": "magnitude", "optimizer": "momentum", "biases": None},
        {},
    ),
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
    if not schedule.fine_tune_steps:
        np.testing.assert_allclose(dataset["error"], dataset["error_pruned"], rtol=1e-12)
    if name == "rule none":
        assert (dataset["rank"] == 12).all()
    if name == "descent":
        assert (dataset["steps_train"] == 20).all()
        assert (dataset["error_curve"].isel(step=0) != dataset["error_trained"]).all()
        assert (dataset["rank"] == 6).all()
