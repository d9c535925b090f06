"""The system of teacher and student: descent and pruning against NumPy loops, cells alone and in the grid, laws."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import jax
import numpy as np
import pytest
import xarray as xr

from gpsense import theory
from gpsense.descent import BUDGET, DIVERGED
from gpsense.errors import BadInput
from gpsense.grid import Axis, Grid, make_plan, run_grid
from gpsense.keys import seed_keys
from gpsense.pipeline import Schedule, run_cell
from gpsense.systems import SYSTEMS, System
from gpsense.systems._weights import PruneWeights
from gpsense.systems.teacher_student import TeacherModel, TeacherStudent, TeacherStudentProblem

SYSTEM = TeacherStudent(dim=8, neurons=3, support=2, n=40, round_steps=20, dtype="float64")
HUGE = 1e9
MEASURES = ("error", "error_pruned", "rank", "loss", "risk", "mask_accuracy", "effective_size")


_draw = jax.jit(TeacherStudent.draw, static_argnums=0)


@partial(jax.jit, static_argnums=(0, 3))
def _cell(system: TeacherStudent, problem: Any, setting: Any, schedule: Schedule, seed: int) -> Any:
    """Weights that a cell of this problem starts from, those it would start from anew, and all it ends with."""
    keys, learner = seed_keys(seed), system.learner
    begun = learner.numbers.tree(learner.start(problem, setting, keys).run.factor)
    redrawn = system.model.start(problem, setting, None, jax.random.fold_in(keys.start, 2))
    cell = run_cell(Given(system=system, problem=problem), schedule, None, setting, keys)
    state = cell.pop("state")
    ended = {"mask": learner.numbers.tree(state.mask), "weights": learner.numbers.tree(state.run.factor)}
    return begun, redrawn, cell | ended


@dataclass(frozen=True, kw_only=True)
class Given(System[Any, Any, Any]):
    """A problem that is there already."""

    name: ClassVar[str] = "given"
    Data: ClassVar[type] = TeacherStudent.Data
    Setting: ClassVar[type] = TeacherStudent.Setting
    system: Any
    problem: Any

    def draw(self, data: Any, key: Any) -> Any:
        return self.problem

    @property
    def learner(self) -> Any:
        return self.system.learner


def test_the_contract_is_met() -> None:
    assert SYSTEMS["teacher_student"] is TeacherStudent
    assert isinstance(SYSTEM.learner, PruneWeights)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"rule": "threshold"}, "rule"),
        ({"rewind": "end"}, "rewind"),
        ({"rewind_step": 20}, "rewind_step"),
        ({"rewind_step": -1}, "rewind_step"),
        ({"optimizer": "lbfgs"}, "optimizer"),
        ({"start": "identical"}, "start"),
        ({"start": "tensor", "dim": 2}, "start"),
        ({"supports": "disjoint"}, "supports"),
        ({"entries": "flat"}, "entries"),
        ({"batch": 41}, "batch"),
        ({"round_steps": 0}, "round_steps"),
        ({"support": 9}, "support"),
        ({"subsets": 41}, "subsets"),
        ({"subsets": 2, "batch": 4}, "batch"),
    ],
)
def test_bad_specs_are_refused_by_name(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(BadInput) as refusal:
        replace(SYSTEM, **changes)
    assert refusal.value.field == field


def test_independent_supports_have_no_overlap() -> None:
    with pytest.raises(BadInput, match="overlap: independent supports have none; set supports to overlap"):
        Grid(SYSTEM, axes=(Axis("overlap", (0.0, 0.5)),))
    Grid(replace(SYSTEM, supports="overlap"), axes=(Axis("overlap", (0.0, 0.5)),))
    Grid(SYSTEM, axes=(Axis("overlap", (0.0,)),))


def test_records_that_cut_rounds_and_steps_that_are_too_few_are_refused() -> None:
    constants = {"round_steps": 20, "rule": "iterative_magnitude"}
    grid = Grid(TeacherStudent(), Schedule(60, 10, 30), 1, (Axis("kept", (0.8,)),), constants)
    with pytest.raises(BadInput, match="kept: rule iterative_magnitude needs the share"):
        make_plan(replace(grid, axes=()), 2**30)
    with pytest.raises(BadInput, match="record_every"):
        make_plan(grid, 2**30)
    for record_every in (5, 40):
        make_plan(replace(grid, schedule=Schedule(80, 10, record_every)), 2**30)
    harder = replace(grid, axes=(Axis("kept", (0.5, 0.06)), Axis("share", (0.5,))), schedule=Schedule(60, 10, 20))
    with pytest.raises(BadInput, match="train_steps: 60 steps, but the share kept needs 4 rounds of 20"):
        make_plan(harder, 2**30)
    make_plan(replace(harder, schedule=Schedule(80, 10, 20)), 2**30)


def _problem(system: TeacherStudent, seed: int = 0, **data: Any) -> TeacherStudentProblem:
    given = TeacherStudent.Data(**{name: float(value) for name, value in data.items()})
    return _draw(system, given, seed_keys(seed).problem)


def _gradient(weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of ``(1/2N) sum (yhat - y)^2``, sample by sample and neuron by neuron."""
    total = np.zeros_like(weights)
    for row, value in zip(x, y, strict=True):
        residual = np.maximum(weights @ row, 0).sum() / len(weights) - value
        for j, w in enumerate(weights):
            total[j] += residual * (w @ row > 0) * row / len(weights)
    return total / len(y)


def _descend(w: np.ndarray, mask: np.ndarray, x: np.ndarray, y: np.ndarray, steps: int, **how: Any) -> list[np.ndarray]:
    """Heavy ball on the mask; step t sees samples t, t + S, t + 2 S, ...: all points of the way."""
    parts, velocity, way = how.get("subsets", 1), np.zeros_like(w), [w]
    for step in range(steps):
        rows = slice(step % parts, None, parts)
        velocity = how["momentum"] * velocity + np.where(mask, _gradient(way[-1], x[rows], y[rows]), 0.0)
        way.append(way[-1] - how["rate"] * velocity)
    return way


def _rows(problem: TeacherStudentProblem, count: int = 40) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(problem.samples.inputs)[:count], np.asarray(problem.samples.values)[:count]


def _errors(way: list[np.ndarray], truth: Any) -> list[np.floating]:
    return [np.linalg.norm(w - truth) / np.linalg.norm(truth) for w in way[::10]]


def test_descent_is_heavy_ball_on_the_samples_of_each_step() -> None:
    """Four parts take turns, of 23 samples in use; there is room for 40."""
    system = replace(SYSTEM, subsets=4)
    problem = _problem(system, n=23, noise=0.2)
    setting = TeacherStudent.Setting(rate=1.5, momentum=0.6, distance=0.5, accuracy=0.5, success=0.0)
    start, _, cell = _cell(system, problem, setting, Schedule(0, 30, 10), 1)
    mask = np.asarray(cell["mask"])
    way = _descend(np.asarray(start), mask, *_rows(problem, 23), 30, rate=1.5, momentum=0.6, subsets=4)
    np.testing.assert_allclose(cell["weights"], way[-1], atol=1e-10)
    assert np.abs(way[-1] - start).max() > 0.01
    np.testing.assert_allclose(cell["error_curve"], _errors(way, problem.teacher), atol=1e-10)
    np.testing.assert_array_equal(mask.sum(1), 2)
    assert float(cell["mask_accuracy"]) == pytest.approx(0.5)
    assert int(cell["steps_fine_tune"]) == 30


def test_identical_supports_leave_nothing_of_the_other_inputs() -> None:
    """A law: the masked problem in 8 inputs is the dense one in the 3 that all neurons see, full data each step."""
    system = replace(SYSTEM, support=3, supports="overlap")
    problem = _problem(system, overlap=1)
    setting = TeacherStudent.Setting(rate=3.0, momentum=0.5, distance=0.4, success=0.0)
    start, _, cell = _cell(system, problem, setting, Schedule(0, 40, 10), 0)
    seen = np.flatnonzero(np.asarray(problem.support).all(0))
    assert len(seen) == 3
    x, y = _rows(problem)
    dense = _descend(np.asarray(start)[:, seen], np.ones((3, 3), bool), x[:, seen], y, 40, rate=3.0, momentum=0.5)
    np.testing.assert_allclose(cell["error_curve"], _errors(dense, np.asarray(problem.teacher)[:, seen]), atol=1e-12)
    np.testing.assert_allclose(np.asarray(cell["weights"])[:, seen], dense[-1], atol=1e-12)
    assert float(cell["error"]) < 0.5 * float(cell["error_pruned"]) == pytest.approx(0.2)
    assert float(cell["effective_size"]) == pytest.approx(3)
    assert (float(cell["rank"]), float(cell["mask_accuracy"])) == (9, 1)


def _largest(weights: np.ndarray, mask: np.ndarray, count: int) -> np.ndarray:
    scores = np.where(mask, np.abs(weights), -1.0).ravel()
    keep = np.zeros(scores.size, bool)
    keep[np.argsort(-scores)[:count]] = True
    return keep.reshape(mask.shape)


def _schedule(start: np.ndarray, redrawn: np.ndarray, x: np.ndarray, y: np.ndarray, **how: Any) -> Any:
    """Rounds of training, pruning and rewinding, the last cut, training of what is left: mask, weights, rounds."""
    rounds = round(np.log(how["kept"]) / np.log(1 - how["share"]))
    mask, weights, origin = np.ones(start.shape, bool), start, start
    iterative = how["rule"] == "iterative_magnitude"
    move = {"rate": how["rate"], "momentum": how["momentum"]}
    lengths = [20] * rounds if iterative else [20 * rounds]
    for index, length in enumerate(lengths):
        way = _descend(weights, mask, x, y, length, **move)
        if index == 0:
            origin = way[how["rewind_step"]]
        last = index == len(lengths) - 1
        share = how["kept"] if last else (1 - how["share"]) ** (index + 1)
        mask = _largest(way[-1], mask, round(share * start.size))
        weights = {"start": origin, "none": way[-1], "redraw": redrawn if last else origin}[how["rewind"]]
        weights = np.where(mask, weights, 0.0)
    return mask, _descend(weights, mask, x, y, 20, **move)[-1], rounds


@pytest.mark.parametrize(
    ("rule", "rewind", "rewind_step"),
    [
        ("iterative_magnitude", "start", 0),
        pytest.param("magnitude", "start", 7, marks=pytest.mark.slow),
        pytest.param("iterative_magnitude", "none", 0, marks=pytest.mark.slow),
        pytest.param("iterative_magnitude", "redraw", 15, marks=pytest.mark.slow),
    ],
)
def test_magnitude_pruning_is_its_schedule(rule: str, rewind: str, rewind_step: int) -> None:
    """Rounds of 20 steps and a share of 0.3, to 0.35 of the weights: three rounds, whatever the gradient."""
    system = replace(SYSTEM, rule=rule, rewind=rewind, rewind_step=rewind_step)
    how = {"kept": 0.35, "share": 0.3, "rate": 2.0, "momentum": 0.5}
    problem = _problem(system)
    tolerance = 1e3 if rule == "iterative_magnitude" else 0.0
    setting = TeacherStudent.Setting(**how, distance=0.8, success=0.0, tolerance=tolerance)
    begun, redrawn, cell = _cell(system, problem, setting, Schedule(80, 20, 40), 2)
    x, y = _rows(problem)
    how |= {"rule": rule, "rewind": rewind, "rewind_step": rewind_step}
    mask, weights, rounds = _schedule(np.asarray(begun), np.asarray(redrawn), x, y, **how)
    assert rounds == 3
    np.testing.assert_array_equal(cell["mask"], mask)
    np.testing.assert_allclose(cell["weights"], weights, atol=1e-9)
    assert (int(cell["steps_train"]), int(cell["steps_fine_tune"])) == (60, 20)
    assert int(cell["rank"]) == round(0.35 * 24)
    np.testing.assert_allclose(cell["kept_share"], 8 / 24, rtol=1e-12)


@pytest.mark.slow
def test_errors_contract_at_the_rate_of_the_hessian() -> None:
    """The teacher is found; what the eigenvalues are is counted sample by sample."""
    system = replace(SYSTEM, dim=20, support=6, n=400, hessian=True)
    problem = _problem(system)
    setting = TeacherStudent.Setting(rate=12.0, momentum=0.2, success=0.0)
    cell = _cell(system, problem, setting, Schedule(0, 120, 20), 0)[2]
    curve = np.asarray(cell["error_curve"])
    np.testing.assert_allclose(curve[0], 0.1, rtol=1e-12)
    measured = (curve[5] / curve[2]) ** (1 / 60)
    least, largest = float(cell["least_eigenvalue"]), float(cell["largest_eigenvalue"])
    expected = float(theory.momentum_rate(least, largest, 12.0, 0.2))
    assert measured == pytest.approx(expected, abs=0.01)
    assert 1e-13 < curve[5] < 1e-5

    teacher, support, x = (np.asarray(a) for a in (problem.teacher, problem.support, problem.samples.inputs))
    hessian = np.zeros((60, 60))
    for row in x:
        slope = np.where(support & (teacher @ row > 0)[:, None], row, 0.0).ravel() / 3
        hessian += np.outer(slope, slope) / 400
    inside = support.ravel()
    spectrum = np.linalg.eigvalsh(hessian[np.ix_(inside, inside)])
    np.testing.assert_allclose([least, largest], spectrum[[0, -1]], rtol=1e-9)
    np.testing.assert_allclose(cell["conditioning"], np.linalg.cond(teacher), rtol=1e-6)


def test_rows_count_in_any_order_where_the_start_does_not_know_them() -> None:
    problem = _problem(replace(SYSTEM, support=3))
    order = np.array([2, 0, 1])
    params, mask = problem.teacher[order], problem.support[order]
    setting = TeacherStudent.Setting()

    @jax.jit
    def judged() -> Any:
        models = {start: TeacherModel(replace(SYSTEM, start=start)) for start in ("gaussian", "near")}
        ended = {start: model.succeeded(problem, setting, params) for start, model in models.items()}
        return {start: model.measures(problem, setting, params, mask) for start, model in models.items()}, ended

    measured, ended = judged()
    assert (bool(ended["gaussian"]), bool(ended["near"])) == (True, False)
    assert float(measured["gaussian"]["mask_accuracy"]) == float(measured["gaussian"]["success"]) == 1
    np.testing.assert_allclose(measured["gaussian"]["risk"], 0.0, atol=1e-12)
    support = np.asarray(problem.support)
    assert float(measured["near"]["mask_accuracy"]) == pytest.approx((support & support[order]).sum() / 9)
    assert float(measured["near"]["success"]) == 0


def _grid(rule: str, schedule: Schedule) -> Grid:
    lists = {
        "rule": (rule,),
        "n": (20, 40),
        "support": (2, 3),
        "kept": (0.25, 0.5),
        "distance": (0.1, 0.5),
        "rate": (2.0, HUGE),
        "share": (0.5,),
        "noise": (0.05,),
    }
    axes = tuple(Axis(name, values, len(values) > 1) for name, values in lists.items())
    return Grid(SYSTEM, schedule, (0, 7), axes)


def _compare(asked: Grid, dataset: xr.Dataset) -> None:
    """Cells alone are those of the grid."""
    (program,) = make_plan(asked, 2**30).programs
    system = program.system
    assert isinstance(system, TeacherStudent)
    assert (system.n, system.support) == (40, 3)

    @jax.jit
    def alone(data: Any, setting: Any, seed: Any) -> Any:
        given, told = TeacherStudent.Data(noise=0.05, **data), TeacherStudent.Setting(share=0.5, **setting)
        return run_cell(system, asked.schedule, given, told, seed_keys(seed))

    for data, setting, seed in (
        ({"n": 20.0, "support": 3.0}, {"kept": 0.25, "distance": 0.5, "rate": 2.0}, 0),
        ({"n": 40.0, "support": 2.0}, {"kept": 0.5, "distance": 0.1, "rate": 2.0}, 7),
        ({"n": 40.0, "support": 3.0}, {"kept": 0.25, "distance": 0.1, "rate": HUGE}, 7),
    ):
        place = data | setting | {"seed": seed}
        cell, expected = dataset.sel(place), alone(data, setting, seed)
        for name in cell.data_vars:
            np.testing.assert_allclose(cell[name], expected[name], rtol=1e-7, atol=1e-10, err_msg=f"{name} {place}")


def _one_rate_fails(dataset: xr.Dataset) -> xr.Dataset:
    """The cells of the other rate, which stand."""
    lost, left = dataset.sel(rate=HUGE), dataset.sel(rate=2.0)
    assert (lost["status"] == DIVERGED).all()
    assert (left["status"] == BUDGET).all()
    for name in MEASURES:
        assert np.isnan(lost[name]).all(), name
        assert np.isfinite(left[name]).all(), name
    return left


def test_known_masks_in_a_grid() -> None:
    """Larger than the teacher's, or smaller; alone and in the grid; a rate too large leaves the others standing."""
    grid = _grid("teacher", Schedule(0, 40, 20))
    with pytest.warns(UserWarning, match="32 of 64 cells diverged"):
        dataset = run_grid(grid)
    left = _one_rate_fails(dataset)
    assert (left["rank"] == 24 * left["kept"]).all()
    covered = np.minimum(24 * left["kept"] / (3 * left["support"]), 1)
    assert (abs(left["mask_accuracy"] - covered) < 1e-12).all()
    assert (left["error"] < left["error_pruned"]).mean() > 0.5
    _compare(grid, dataset)


@pytest.mark.slow
def test_other_rules_and_starts_take_the_same_steps() -> None:
    """Masks before training, a random start, minibatches: a share of 0.35 exactly, three rounds, one to train it."""
    problem = _problem(SYSTEM)
    setting = TeacherStudent.Setting(kept=0.35, share=0.3, rate=1.0, momentum=0.5, success=0.0)

    for rule, start, batch in (("random", "gaussian", 5), ("synflow", "near", None)):
        system = replace(SYSTEM, rule=rule, start=start, batch=batch)
        cell = _cell(system, problem, setting, Schedule(80, 20, 40), 2)[2]
        assert (int(cell["steps_train"]), int(cell["steps_fine_tune"])) == (60, 20), rule
        mask, weights = np.asarray(cell["mask"]), np.asarray(cell["weights"])
        assert mask.sum() == float(cell["rank"]) == 8
        np.testing.assert_array_equal(weights[~mask], 0.0)
        assert np.isfinite(float(cell["error"]))
        assert float(cell["loss"]) < float(cell["loss_curve"][0]), rule
