"""The system of images: parts of the data, what is refused, files through the system, cells alone and in the grid."""

import struct
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gpsense import datasets
from gpsense.descent import BUDGET, CONVERGED
from gpsense.errors import BadInput
from gpsense.grid import Axis, Grid, make_plan, run_grid
from gpsense.keys import seed_keys
from gpsense.pipeline import Schedule, run_cell
from gpsense.systems import SYSTEMS
from gpsense.systems._weights import PruneWeights
from gpsense.systems.images import Images
from gpsense.tickets.images import MNIST_FILES

SYSTEM = Images(n=100, test=300, layers=(8,), round_steps=20, dtype="float64")
WEIGHTS = 64 * 8 + 8 * 10


_draw = jax.jit(Images.draw, static_argnums=0)


def test_the_contract_is_met() -> None:
    assert SYSTEMS["images"] is Images
    assert isinstance(SYSTEM.learner, PruneWeights)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"data": "letters"}, "data"),
        ({"data": "mnist"}, "folder"),
        ({"folder": "files"}, "folder"),
        ({"data": "mnist", "folder": "nowhere"}, "folder"),
        ({"n": 1698}, "n"),
        ({"validation": 1598}, "n"),
        ({"validation": 1697}, "validation"),
        ({"rule": "magnitude", "redraw_rounds": True}, "redraw_rounds"),
        ({"spread": "widely"}, "spread"),
        ({"layers": ()}, "layers"),
        ({"rule": "teacher"}, "rule"),
        ({"optimizer": "lbfgs"}, "optimizer"),
    ],
)
def test_bad_specs_are_refused_by_name(changes: dict[str, Any], field: str) -> None:
    replace(SYSTEM, n=1697)
    with pytest.raises(BadInput) as refusal:
        replace(SYSTEM, **changes)
    assert refusal.value.field == field


def _places(inputs: Any, used: Any) -> list[int]:
    """Where these images stand among all digits."""
    known = {row.tobytes(): place for place, row in enumerate(datasets.digits()[0].astype(np.float64))}
    return [known[np.asarray(row).tobytes()] for row, count in zip(inputs, used, strict=True) if count]


def test_digits_to_train_on_grow_and_those_to_test_on_are_others() -> None:
    system = replace(SYSTEM, test=3000)
    large, small, other = (
        _draw(system, Images.Data(n=jnp.asarray(n)), seed_keys(seed).problem)
        for n, seed in ((100.0, 0), (40.0, 0), (100.0, 1))
    )
    labels = datasets.digits()[1]
    train, test = _places(*large.train[::2]), _places(*large.test[::2])
    assert sorted(train + test) == list(range(1797))
    assert len(train) == 100
    for part, places in ((large.train, train), (large.test, test)):
        np.testing.assert_array_equal(part.targets, labels[places])
    assert _places(*small.train[::2]) == train[:40]
    assert _places(*small.test[::2]) == test
    assert len(set(_places(*other.train[::2])) & set(train)) < 20
    few = jax.eval_shape(_draw, SYSTEM, Images.Data(), seed_keys(0).problem)
    assert few.test.inputs.shape == (300, 64)


def test_files_are_read_through_the_system(tmp_path: Any) -> None:
    """Of 9 images to train on 3 are drawn, from the first 6; 2 of the 4 to test on are used."""
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (9, 2, 3), dtype=np.uint8), np.arange(9, dtype=np.uint8)
    for name, array in zip(MNIST_FILES, (pixels, labels, pixels[:4], labels[:4]), strict=True):
        head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
        (tmp_path / name).write_bytes(head + array.tobytes())
    system = replace(SYSTEM, data="mnist", folder=str(tmp_path), n=3, test=2)
    with pytest.raises(BadInput, match="use at most 9"):
        replace(system, n=10)
    problem = _draw(system, Images.Data(), seed_keys(0).problem)
    places = np.asarray(problem.train.targets)
    assert len(set(places)) == 3
    assert places.max() < 6
    np.testing.assert_allclose(problem.train.inputs[:, 0], pixels[places] / 255, rtol=1e-6)
    np.testing.assert_allclose(problem.test.inputs[:, 0], pixels[:2] / 255, rtol=1e-6)
    params = system.model.start(problem, Images.Setting(), None, jax.random.key(0))
    first, shift, second, last = (np.asarray(leaf) for leaf in jax.tree.leaves(params))
    outputs = [second @ np.maximum(first @ image.ravel() + shift, 0) + last for image in pixels[:2] / 255]
    error = np.mean([np.argmax(row) != label for row, label in zip(outputs, labels, strict=False)])
    assert float(system.model.error(problem, params)) == error
    assert system.cost().flops == 6 * 3 * (6 * 8 + 8 + 8 * 10 + 10)


def test_optimizers_that_tell_arrays_apart_are_given_the_arrays() -> None:
    """LAMB scales the step of each array by its norm: five steps are those of optax on the tree."""
    system = replace(SYSTEM, optimizer="lamb", rule="none")
    problem, keys = _draw(system, Images.Data(), seed_keys(0).problem), seed_keys(1)
    model, numbers, setting = system.model, system.learner.numbers, Images.Setting(rate=0.1)

    @jax.jit
    def both() -> Any:
        state = system.learner.start(problem, setting, keys)
        found = system.learner.train(problem, setting, state, 5).run.factor
        optimizer, params = optax.lamb(0.1), numbers.tree(state.run.factor)
        memory = optimizer.init(params)
        for _ in range(5):
            gradient = jax.grad(lambda tree: model.loss(problem, tree))(params)
            updates, memory = optimizer.update(gradient, memory, params)
            params = optax.apply_updates(params, updates)
        return state.run.factor, found, numbers.vector(params)

    with jax.numpy_dtype_promotion("standard"):  # optax relies on it
        start, found, expected = both()
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    assert np.abs(found - start).max() > 0.05


def test_images_to_stop_by_are_others_and_change_no_training() -> None:
    with_some = replace(SYSTEM, validation=50)
    problem, before = (_draw(each, Images.Data(), seed_keys(3).problem) for each in (with_some, SYSTEM))
    assert before.validation is None
    np.testing.assert_array_equal(problem.train.inputs, before.train.inputs)
    parts = [_places(*part[::2]) for part in (problem.train, problem.validation, problem.test)]
    assert [len(part) for part in parts] == [100, 50, 300]
    assert len({place for part in parts for place in part}) == 450
    params = with_some.model.start(problem, Images.Setting(), None, jax.random.key(0))
    first, shift, second, last = (np.asarray(leaf) for leaf in jax.tree.leaves(params))
    outputs = np.maximum(np.asarray(problem.validation.inputs) @ first.T + shift, 0) @ second.T + last
    own = np.take_along_axis(outputs, np.asarray(problem.validation.targets)[:, None], 1)[:, 0]
    expected = np.mean(np.log(np.exp(outputs).sum(1)) - own)
    found = with_some.model.records(problem, params)["validation_curve"]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_rounds_that_train_masks_drawn_anew_find_the_same_tickets_of_the_same_layers() -> None:
    """On all samples; half of the first layer and a quarter of the last go in each round."""
    plain = replace(SYSTEM, spread="layer")
    numbers = {"share": 0.5, "last_layer": 0.5, "rate": 0.1, "kept": 0.25}
    cells = {
        steps: run_grid(Grid(system, Schedule(steps, 20, 20), (0, 7), (), {"optimizer": "momentum"} | numbers))
        for steps, system in ((40, plain), (80, replace(plain, redraw_rounds=True)))
    }
    alone, both = cells[40], cells[80]
    np.testing.assert_array_equal(alone["kept_by_layer"].squeeze(), [[128 / 512, 45 / 80]] * 2)
    np.testing.assert_array_equal(both["kept_by_layer"], alone["kept_by_layer"])
    for steps, later in ((20, 20), (40, 60), (60, 100)):
        one, other = alone["loss_curve"].sel(step=steps), both["loss_curve"].sel(step=later)
        np.testing.assert_allclose(one, other, rtol=1e-9)
    drawn = both["loss_curve"].sel(step=[40, 80]).values
    assert (drawn != both["loss_curve"].sel(step=[20, 60]).values).all()
    assert (drawn < both["loss_curve"].sel(step=0).values[..., None]).all()
    with pytest.raises(BadInput, match="spread global does not use last_layer") as refusal:
        make_plan(Grid(SYSTEM, Schedule(40, 20, 20), (0,), (), numbers), 2**30)
    assert refusal.value.field == "last_layer"
    with pytest.raises(BadInput, match="2 rounds of 40"):
        make_plan(Grid(replace(plain, redraw_rounds=True), Schedule(40, 20, 20), (0,), (), numbers), 2**30)


@pytest.mark.parametrize(
    ("rule", "train_steps"), [("iterative_magnitude", 60), pytest.param("magnitude", 40, marks=pytest.mark.slow)]
)
def test_settings_that_share_their_training_are_those_trained_by_themselves(rule: str, train_steps: int) -> None:
    """Three rounds, two, one and none of 20 steps, a record each 10; by magnitude the schedule ends the third."""
    system, kept = replace(SYSTEM, rule=rule), (0.5, 0.125, 1.0, 0.25, 0.13)
    schedule, numbers = Schedule(train_steps, 10, 10), {"share": 0.5, "rate": 0.1, "optimizer": "momentum"}
    settings = [Images.Setting(kept=each, share=0.5) for each in kept]
    assert system.learner.shared(settings) == [(1, 20), (1, 60), (2, 0), (1, 40), (1, 60)]
    apart = [Images.Setting(kept=0.25, share=0.5, rate=rate) for rate in (0.1, 0.2)]
    assert system.learner.shared(apart) == [(0, 40), (1, 40)]
    assert system.learner.shared([Images.Setting(kept=0.5**1.5, share=0.5)]) == [(0, 0)]  # 1 or 2 rounds
    together = run_grid(Grid(system, schedule, (0, 7), (Axis("kept", kept),), numbers))
    for place in (2, 3):
        alone = run_grid(Grid(system, schedule, (0, 7), (Axis("kept", kept[place : place + 1]),), numbers))
        cells = together.isel(kept=[place])
        assert set(cells.data_vars) == set(alone.data_vars)
        for name in alone.data_vars:
            np.testing.assert_allclose(cells[name], alone[name], rtol=1e-9, atol=1e-12, err_msg=f"{name} {place}")


@pytest.mark.slow
def test_a_cell_alone_equals_the_cell_in_the_grid() -> None:
    """Iterative pruning, half of the weights in each round; what is kept is exact, and alone it is the same twice."""
    lists = {"rule": ("iterative_magnitude",), "n": (60, 100), "kept": (1.0, 0.25), "share": (0.5,), "rate": (0.1,)}
    axes = tuple(Axis(name, values, len(values) > 1) for name, values in lists.items())
    grid = Grid(SYSTEM, Schedule(40, 20, 20), (0, 7), axes, {"optimizer": "momentum"})
    dataset = run_grid(grid)
    assert (dataset["rank"] == np.floor(dataset["kept"] * WEIGHTS + 0.5)).all()
    assert (dataset["steps_train"] == 40 * (dataset["kept"] < 1)).all()
    assert (dataset["steps_fine_tune"] == 20).all()
    assert (dataset["status_train"] == CONVERGED).all()
    assert (dataset["status"] == BUDGET).all()
    assert (dataset["error"] < 0.7).all()
    assert (dataset["error"] < dataset["error_pruned"]).all()
    (program,) = make_plan(grid, 2**30).programs

    @jax.jit
    def alone(n: Any, kept: Any, seed: Any) -> Any:
        setting = Images.Setting(kept=kept, share=0.5, rate=0.1)
        return run_cell(program.system, grid.schedule, Images.Data(n=n), setting, seed_keys(seed))

    for n, kept, seed in ((60.0, 0.25, 0), (100.0, 0.25, 7), (100.0, 1.0, 7)):
        cell, expected = dataset.sel(n=n, kept=kept, seed=seed), alone(n, kept, seed)
        for name in cell.data_vars:
            np.testing.assert_allclose(cell[name], expected[name], rtol=1e-7, atol=1e-10, err_msg=name)
    again = alone(n, kept, seed)
    np.testing.assert_array_equal(expected["state"].run.factor, again["state"].run.factor)
    assert expected["state"].mask.all()
