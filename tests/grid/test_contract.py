"""The grid and the commands take any system that keeps the contract: parameters in a tree, a mask over inputs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense._types import ScalarLike
from gpsense.descent import BUDGET, RUNNING, Method, Rates, advance_descent, start_descent
from gpsense.errors import BadInput
from gpsense.fields import Field, Traced
from gpsense.grid import Axis, Grid, Program, make_plan, run_grid
from gpsense.keys import seed_keys
from gpsense.pipeline import Schedule, run_cell
from gpsense.systems import SYSTEMS, Cost, Learner, Measure, System
from gpsense.systems.sensing import Sensing
from launch import figures, report, table
from launch.config import build
from launch.grid import certified, describe
from launch.shell import Refusal
from launch.work import to_grid
from tests.launch.test_report import fill, numbers_of

GIB = 2.0**30


class RegressionData(Traced):
    noise: Annotated[ScalarLike, Field("problem", "standard deviation of the noise", at_least=0)] = 0.0


class RegressionSetting(Traced):
    kept: Annotated[ScalarLike, Field("prune", "inputs kept", at_least=1, whole=True)] = 2.0
    rate: Annotated[ScalarLike, Field("train", "step size", above=0)] = 0.1


class Pruned(eqx.Module):
    mask: Any
    scores: Any


class State(eqx.Module):
    """A descent, the inputs its weights belong to, and whether they are kept."""

    descent: Any
    places: Any
    used: Any

    @property
    def status(self) -> Any:
        return self.descent.status

    @property
    def steps(self) -> Any:
        return self.descent.steps


@final
@dataclass(frozen=True)
class PruneInputs(Learner[Any, RegressionSetting, State, Pruned, State]):
    """Inputs pruned by the gradients of their weights."""

    dim: int

    @property
    def stride(self) -> int:
        return 10

    def donates(self, width: int) -> bool:
        return width == self.dim

    def start(self, problem: Any, setting: Any, keys: Any) -> Any:
        places = jnp.arange(self.dim)
        start = {"w": 0.01 * jax.random.normal(keys.start, (self.dim,), jnp.float64), "b": jnp.zeros((), jnp.float64)}
        return State(start_descent(Method(), start, self.rates(setting)), places, places >= 0)

    def train(self, problem: Any, setting: Any, state: Any, n_steps: int) -> Any:
        moved = advance_descent(Method(), self.target(problem, state), state.descent, self.rates(setting), n_steps)
        return State(moved, state.places, state.used)

    def prune(self, problem: Any, setting: Any, state: Any) -> Any:
        scores = jnp.abs(self.target(problem, state)(state.descent.factor)[1]["w"])
        return Pruned(jnp.argsort(jnp.argsort(-scores)).astype(scores.dtype) < setting.kept, scores)

    def start_fine_tuning(self, problem: Any, setting: Any, state: Any, pruned: Any, width: int) -> Any:
        places = jnp.argsort(~pruned.mask, stable=True)[:width]
        kept = {"w": state.descent.factor["w"][places], "b": state.descent.factor["b"]}
        return State(start_descent(Method(), kept, self.rates(setting)), places, pruned.mask[places])

    fine_tune = train

    def record(self, problem: Any, setting: Any, state: Any) -> Any:
        loss = self.loss(problem, state, state.descent.factor)
        return {"loss_curve": loss, "error_curve": loss}

    def measure(self, problem: Any, setting: Any, state: Any, pruned: Any) -> Any:
        error = self.record(problem, setting, state)["error_curve"]
        status = jnp.where(state.status == RUNNING, jnp.int32(BUDGET), state.status)
        measures = {"rank": pruned.mask.sum().astype(error.dtype), "error": error, "selected": pruned.scores}
        return measures | {"status": status, "steps_fine_tune": state.steps}

    def loss(self, problem: Any, state: Any, params: Any) -> Any:
        weights = jnp.where(state.used, params["w"], 0.0)
        return jnp.mean((problem[0][:, state.places] @ weights + params["b"] - problem[1]) ** 2)

    def target(self, problem: Any, state: Any) -> Any:
        return jax.value_and_grad(lambda params: self.loss(problem, state, params))

    def rates(self, setting: Any) -> Rates:
        return Rates(setting.rate, 0.0, 1e-6, 0.0)


@final
@dataclass(frozen=True, kw_only=True)
class Regression(System[RegressionData, RegressionSetting, Any]):
    """Least squares with a constant, inputs pruned at the start by their gradients: ``y = x_1 - 2 x_2 + 1 + noise``."""

    name: ClassVar[str] = "regression"
    Data: ClassVar[type[RegressionData]] = RegressionData
    Setting: ClassVar[type[RegressionSetting]] = RegressionSetting
    measures: ClassVar[Mapping[str, Measure]] = {
        "error": Measure("squared error"),
        "rank": Measure("inputs kept", "inputs"),
        "selected": Measure("gradients of the weights", dims=("coordinate",)),
    }
    table: ClassVar[tuple[str, ...]] = ("rank", "error", "not measured")
    steps: ClassVar[tuple[int, int]] = (40, 20)

    dim: Annotated[int, Field("problem", "inputs, of which two count", at_least=1)] = 6
    n: Annotated[int, Field("problem", "samples", at_least=1)] = 200

    @property
    def learner(self) -> PruneInputs:
        return PruneInputs(self.dim)

    def check(self) -> None:
        if self.dim < 2:
            raise BadInput("dim", "too few inputs", "use two")

    def resolve(self, evaluations: int) -> Any:
        assert evaluations >= 1
        return self

    def cost(self) -> Cost:
        numbers = 8 * self.n * self.dim
        return Cost(4.0 * numbers, numbers, numbers, numbers, numbers, once=7.0)

    def describe(self) -> str:
        return f"regression, dim {self.dim}"

    def draw(self, data: Any, key: Any) -> Any:
        x, noise = (jax.random.normal(k, (self.n, self.dim), jnp.float64) for k in jax.random.split(key))
        return x, x[:, 0] - 2.0 * x[:, 1] + 1.0 + data.noise * noise[:, 0]


def _grid(schedule, system: System | None = None, axes=(), seeds=(0, 7), **constants):
    return Grid(system or Regression(dtype="float64"), schedule, Axis("seed", seeds), tuple(axes), constants)


def _same(cell, alone):
    for name in cell.data_vars:
        np.testing.assert_allclose(cell[name], alone[name], rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.fixture(scope="module")
def regression():
    """No training: pruned at the start, then 45 steps of a tree of parameters."""
    axes = (Axis("noise", (0.0, 0.3)), Axis("kept", (2.0, 3.0)))
    return _grid(Schedule(0, 45, 20), axes=axes)


@pytest.fixture(scope="module")
def dataset(regression):
    return run_grid(regression)


def test_a_system_of_its_own_runs_in_a_grid_as_alone(dataset):
    assert dataset["selected"].dims == ("seed", "noise", "kept", "coordinate")
    np.testing.assert_array_equal(dataset["step"], [0, 20, 40, 45])
    np.testing.assert_array_equal(dataset["phase"], ["train"] + ["fine_tune"] * 3)
    alone = jax.jit(
        lambda noise, kept, seed: run_cell(
            Regression(dtype="float64"),
            Schedule(0, 45, 20),
            RegressionData(noise),
            RegressionSetting(kept, 0.1),
            seed_keys(seed),
        )
    )
    for place in ({"noise": 0.0, "kept": 3.0, "seed": 7}, {"noise": 0.3, "kept": 2.0, "seed": 0}):
        _same(dataset.sel(place), alone(**place))
    assert float(dataset["error"].sel(noise=0.0).max()) < 1e-3 < float(dataset["error_curve"].min("seed").max())
    assert (dataset["rank"] == dataset["kept"]).all()


def test_what_a_cell_costs_once_is_planned(regression):
    plan = make_plan(regression, GIB)
    assert plan.flops == 8 * (45 * 4.0 * 8 * 1200 + 7.0)
    idle = make_plan(_grid(Schedule(0, 0, 20), seeds=(7,)), GIB)
    assert idle.flops == 7.0
    told = []
    results = Program(idle.grid, idle.programs[0]).run(idle.chunks[0], told.append)
    assert told == [1.0]
    assert results["error_curve"].shape == (1, 1, 1)
    assert "program 0: regression, dim 6; chunks of 1 x 1 cells, 3.84e+04 flops a step and 7 once" in describe(idle)


def test_the_commands_show_what_there_is(dataset, tmp_path):
    rows = table.rows(dataset, Regression.table)
    assert list(rows[0]) == ["noise", "kept", "rank", "error", "diverged"]
    assert certified(dataset) is None
    for name, part in {"all": dataset, "no curves": dataset.drop_dims("step")}.items():
        run = fill(tmp_path / name, part)
        names = [path.name for path in figures.draw(part, run / "figures")]
        assert names == (["curves.png"] if name == "all" else []) + ["rank.png", "error.png"]
        page = numbers_of(report.write_report(run).read_text(encoding="utf-8"))
        assert (page["norms"], page["columns"], list(page["medians"])) == (
            [],
            0,
            ["rank", "error", "error_trained", "error_pruned"],
        )
        assert list(page["curves"]) == (["loss"] if name == "all" else [])
    assert len(figures.draw(dataset.isel(step=slice(1)), tmp_path / "one record")) == 2


def test_a_config_gives_a_system_the_fields_it_has(monkeypatch):
    monkeypatch.setitem(SYSTEMS, "regression", Regression)
    of = lambda **fields: to_grid(build({"system": "regression"} | fields))  # noqa: E731
    grid = of(problem={"dim": 9}, train={"steps": 0}, fine_tune={"steps": 30})
    assert {axis.name for axis in grid.axes} == {"dim", "n", "noise", "rate", "kept"}
    assert grid.system.dtype == "float32"
    assert (make_plan(grid, GIB).programs[0].system.dim, grid.schedule) == (9, Schedule(0, 30, 50))
    for section, name, value in (("run", "form", "gram"), ("train", "patience", 5), ("problem", "width", 3)):
        with pytest.raises(Refusal, match=rf"{section}\.{name}: system regression has no such field"):
            of(**{section: {name: value}})


def test_a_system_that_is_not_fine_tuned_ends_as_pruned():
    dataset = run_grid(_grid(Schedule(30, 0, 30), axes=(Axis("kept", (2.0,)), Axis("rate", (0.1,)))))
    np.testing.assert_array_equal(dataset["phase"], ["train"] * 2)
    system, schedule, data = Regression(dtype="float64"), Schedule(30, 0, 30), RegressionData()
    alone = jax.jit(lambda: run_cell(system, schedule, data, RegressionSetting(2.0, 0.1), seed_keys(7)))()
    _same(dataset.isel(kept=0, rate=0).sel(seed=7), alone)
    assert (dataset["steps_fine_tune"] == 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("schedule", [Schedule(0, 20, 10), Schedule(20, 0, 10)], ids=["no training", "no fine-tuning"])
def test_sensing_may_leave_a_phase_out(schedule):
    axes = (Axis("penalty", (0.05, 0.2)), Axis("threshold", (0.25,), False), Axis("rate", (0.03,), False))
    constants = {"dim": 5, "n": 20, "width": 4, "dtype": "float64", "curvature_steps": 0}
    grid = _grid(schedule, Sensing(), axes, **constants)
    dataset = run_grid(grid)
    assert dataset.sizes["step"] == 3
    system = make_plan(grid, GIB).programs[0].system
    setting = Sensing.Setting(penalty=0.2, rate=0.03, threshold=0.25)
    alone = jax.jit(lambda seed: run_cell(system, schedule, Sensing.Data(), setting, seed_keys(seed)))(7)
    _same(dataset.sel(penalty=0.2, seed=7), alone)
    if schedule.fine_tune_steps == 0:
        np.testing.assert_allclose(dataset["error"], dataset["error_pruned"], rtol=1e-12)
    else:
        assert (dataset["steps_train"] == 0).all()
