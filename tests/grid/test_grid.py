"""The grid gives what single cells give, by name, without retracing, whatever happens to a neighbour."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense.errors import BadInput
from gpsense.grid import Axis, Grid, Layout, Program, chunk_dataset, collect, make_plan, run_grid
from gpsense.grid.plan import chunk_bytes
from gpsense.grid.program import bucket
from gpsense.pipeline import Schedule, run_sensing
from gpsense.systems import SYSTEMS, SensingInstance, SensingSetting, SensingSpec

GIB = 2.0**30
SCHEDULE = Schedule(120, 40, 40)


def _grid(*axes, seeds=(0, 1, 7), schedule=SCHEDULE, **constants):
    fixed = (Axis("dim", (8,), False), Axis("n", (60,), False), Axis("rate", (0.03,), False))
    names = {axis.name for axis in axes}
    kept = tuple(axis for axis in fixed if axis.name not in names)
    constants = {"dtype": "float64", "width": 6} | constants
    return Grid(SYSTEMS["sensing"], schedule, Axis("seed", seeds), (*kept, *axes), constants)


@pytest.fixture(scope="module")
def grid():
    return _grid(Axis("noise", (0.0, 0.5)), Axis("condition", (1.0, 3.0)), Axis("penalty", (0.0, 0.05, 0.2)))


@pytest.fixture(scope="module")
def dataset(grid):
    return run_grid(grid)


def test_dimensions_are_the_axes_by_name_and_in_order(dataset):
    assert dataset["error"].dims == ("seed", "noise", "condition", "penalty")
    assert dataset["column_norms"].dims[-1] == "column"
    assert dataset["error_curve"].dims[-1] == "step"
    np.testing.assert_array_equal(dataset["seed"], [0, 1, 7])
    np.testing.assert_array_equal(dataset["penalty"], [0.0, 0.05, 0.2])
    assert dataset["dim"].ndim == 0
    np.testing.assert_array_equal(dataset["step"], [0, 40, 80, 120, 160])
    np.testing.assert_array_equal(dataset["phase"], ["train"] * 4 + ["fine_tune"])
    assert dataset.sel(penalty=0.2).mean("seed")["error"].dims == ("noise", "condition")
    assert all("long_name" in values.attrs for values in dataset.data_vars.values())


def test_a_cell_alone_equals_the_cell_in_the_grid(grid, dataset):
    """In float64 to 1e-9: the products are summed in another order, nothing else differs."""
    spec = make_plan(grid, GIB).programs[0].spec
    alone = jax.jit(lambda i, s, seed: run_sensing(spec, SCHEDULE, i, s, seed))
    for place in (
        {"seed": 0, "noise": 0.0, "condition": 1.0, "penalty": 0.2},
        {"seed": 7, "noise": 0.5, "condition": 3.0, "penalty": 0.0},
        {"seed": 1, "noise": 0.5, "condition": 1.0, "penalty": 0.05},
    ):
        instance = SensingInstance(noise=place["noise"], condition=place["condition"])
        expected = alone(instance, SensingSetting(penalty=place["penalty"], rate=0.03), place["seed"])
        cell = dataset.sel(place)
        assert set(cell.data_vars) == set(expected) - {"factor"}
        for name in cell.data_vars:
            np.testing.assert_allclose(cell[name], expected[name], rtol=1e-9, atol=1e-12, err_msg=name)


def test_a_seed_is_the_same_seed_in_every_grid(dataset):
    other = run_grid(_grid(Axis("noise", (0.5,)), Axis("condition", (3.0, 2.0)), Axis("penalty", (0.2,)), seeds=(7, 3)))
    place = {"seed": 7, "noise": 0.5, "condition": 3.0, "penalty": 0.2}
    np.testing.assert_allclose(other["error_curve"].sel(place), dataset["error_curve"].sel(place), rtol=1e-9)


def test_chunks_give_the_same_numbers_as_one_program(grid, dataset):
    layouts = (Layout(5, 2),)
    plan = make_plan(grid, GIB, layouts)
    assert [chunk.cells for chunk in plan.chunks] == [10, 5, 10, 5, 4, 2]
    program = Program(grid, plan.programs[0])
    parts = [(chunk, chunk_dataset(chunk, program.run(chunk))) for chunk in plan.chunks]
    whole = collect(plan, parts)
    for name in dataset.data_vars:
        np.testing.assert_allclose(whole[name], dataset[name], rtol=1e-9, atol=1e-12, err_msg=name)
    buckets = program.traces["narrow"]
    assert buckets <= 3
    assert program.traces == {"draw": 1, "start": 1, "train": 1, "prune": 1} | dict.fromkeys(
        ("narrow", "fine_tune", "finish"), buckets
    )
    part = collect(plan, parts[:1])
    assert int((part["status"] == -1).sum()) == 36 - 10
    assert int(np.isnan(part["error"]).sum()) == 36 - 10


def test_a_chunk_run_twice_has_the_same_bits(grid):
    plan = make_plan(grid, GIB, (Layout(4, 3),))
    program = Program(grid, plan.programs[0])
    first, second = (program.run(plan.chunks[1]) for _ in range(2))
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


def test_new_traced_values_do_not_retrace():
    """Nothing is traced again as long as pruning keeps as many columns (threshold 0: all of them)."""

    def values(noise, condition, penalty, rate):
        axes = (Axis("noise", noise), Axis("condition", condition), Axis("penalty", penalty))
        return _grid(*axes, Axis("rate", rate), Axis("threshold", (0.0,), False))

    grid = values((0.0, 0.5), (1.0, 3.0), (0.0, 0.2), (0.03, 0.02))
    plan = make_plan(grid, GIB)
    program = Program(grid, plan.programs[0])
    program.run(plan.chunks[0])
    before = dict(program.traces)
    program.grid = values((0.1, 0.9), (5.0, 2.0), (0.01, 0.3), (0.01, 0.025))
    program.run(plan.chunks[0])
    assert dict(program.traces) == before
    assert set(before.values()) == {1}


def test_a_cell_that_diverges_leaves_the_others_bit_equal():
    good = _grid(Axis("rate", (0.03, 0.02, 0.01)))
    bad = _grid(Axis("rate", (0.03, 1e3, 0.01)))
    whole, hurt = run_grid(good), run_grid(bad)
    np.testing.assert_array_equal(hurt["status"].isel(rate=1), 3)
    assert bool(hurt["error"].isel(rate=1).isnull().all())
    for name in whole.data_vars:
        np.testing.assert_array_equal(whole[name].isel(rate=[0, 2]), hurt[name].isel(rate=[0, 2]), err_msg=name)


def test_a_nan_in_one_cell_leaves_the_others_bit_equal(grid):
    """A NaN setting reaches every product of its cell and no product of another."""
    plan = make_plan(grid, GIB)
    program = Program(grid, plan.programs[0])
    whole = program.run(plan.chunks[0])
    program.grid = _grid(
        Axis("noise", (0.0, 0.5)), Axis("condition", (1.0, 3.0)), Axis("penalty", (0.0, float("nan"), 0.2))
    )
    hurt = program.run(plan.chunks[0])
    assert (hurt["status"][:, 1] == 3).all()
    for name in whole:
        np.testing.assert_array_equal(whole[name][:, [0, 2]], hurt[name][:, [0, 2]], err_msg=name)


def test_static_axes_make_programs_and_are_dimensions_too():
    dataset = run_grid(_grid(Axis("rank", (1, 2)), Axis("optimizer", ("gd", "momentum")), seeds=(0,)))
    assert dataset["error"].dims == ("true_rank", "optimizer", "seed")
    assert dataset["error"].sel(optimizer="momentum", true_rank=2).shape == (1,)
    assert bool((dataset["status"] > 0).all())


def test_widths_may_differ_between_programs():
    axes = (Axis("dim", (8,), False), Axis("n", (60,), False), Axis("width", (2, 5)))
    dataset = run_grid(Grid(SYSTEMS["sensing"], SCHEDULE, Axis("seed", (0,)), axes, {"dtype": "float64"}))
    assert dataset["column_norms"].sel(width=2).isnull().sum() == 3
    assert dataset["column_norms"].sel(width=5).isnull().sum() == 0


def test_an_early_end_changes_no_curve():
    """Once every cell has stopped, the rest of the phase is skipped and the curves are held."""
    easy = _grid(Axis("noise", (0.0,), False), Axis("tolerance", (1e6,), False), seeds=(0,))
    dataset = run_grid(easy)
    assert float(dataset["steps_train"][0]) == 0
    assert int(dataset["status_train"][0]) == 1
    curve = dataset["error_curve"].values[0]
    assert curve[0] == curve[1] == curve[3]


def test_given_truth_and_spectrum_are_used():
    truth = np.eye(8)[:, :2] * [1.0, 0.5]
    axes = (Axis("penalty", (0.02,), False), Axis("smoothing", (0.005,), False), Axis("momentum", (0.98,), False))
    rest = {"schedule": Schedule(2000, 500, 500), "measurements": "population", "optimizer": "momentum"}
    given = run_grid(_grid(*axes, Axis("rate", (0.01,), False), truth=truth, **rest))
    drawn = run_grid(_grid(*axes, Axis("rate", (0.01,), False), spectrum=(1.0, 0.25), **rest))
    for dataset in (given, drawn):
        np.testing.assert_allclose(dataset["column_norms"].values[0][:2], [1.0, 0.5], atol=0.02)
        assert float(dataset["error"].max()) < 1e-4


def test_forms_of_the_data_agree(grid):
    for measurements in ("gaussian", "rank_one"):
        results = [
            run_grid(_grid(Axis("noise", (0.3,)), Axis("rate", (0.01,)), measurements=measurements, form=form))
            for form in ("gram", "direct")
        ]
        for name in ("error", "column_norms", "loss_curve"):
            np.testing.assert_allclose(results[0][name], results[1][name], rtol=1e-8, atol=1e-10, err_msg=name)


def test_the_cheaper_form_is_chosen():
    system = SYSTEMS["sensing"]
    choose = lambda **fields: system.resolve(SensingSpec(**fields), 10_000).form  # noqa: E731
    assert choose(dim=20, n=400) == "gram"
    assert choose(dim=50, n=300) == "direct"
    assert choose(dim=15, n=1500, measurements="rank_one") == "gram"
    assert choose(dim=200, width=4, n=1000, measurements="rank_one") == "direct"


def test_plans_fit_the_memory_or_are_refused(grid):
    plan = make_plan(grid, GIB)
    assert len(plan.chunks) == 1
    assert plan.cells == 36
    small = plan.bytes / 2
    cut = make_plan(grid, small)
    assert cut.bytes <= small
    assert len(cut.chunks) > 1
    assert sum(chunk.cells for chunk in cut.chunks) == 36
    with pytest.raises(BadInput, match=r"one cell needs .* GiB of .*; raise the budget"):
        make_plan(grid, 100.0)


def test_estimated_memory_is_that_of_the_compiled_program():
    """Within a factor of two of what the compiler reports for training, arguments and scratch together."""
    axes = (Axis("dim", (20,), False), Axis("n", (400,), False), Axis("penalty", tuple(np.linspace(0, 1, 32))))
    grid = _grid(*axes, seeds=tuple(range(8)), width=20)
    plan = make_plan(grid, GIB)
    program = Program(grid, plan.programs[0])
    seeds, instances, settings = program.inputs(plan.chunks[0])
    problems = program._draw(seeds, instances)
    states, _ = program._start(problems, settings, (seeds,))
    used = program._train.lower(problems, settings, (states,), 10).compile().memory_analysis()
    measured = used.argument_size_in_bytes + used.temp_size_in_bytes
    estimate = chunk_bytes(plan.programs[0].cost, plan.programs[0].layout)
    assert 0.5 < estimate / measured < 2.0


def test_bad_axes_are_refused_by_name():
    with pytest.raises(BadInput, match="penalty: the axis is empty"):
        Axis("penalty", ())
    with pytest.raises(BadInput, match="penalty: the axis repeats a value"):
        Axis("penalty", (0.1, 0.1))
    with pytest.raises(BadInput, match="penelty: system sensing has no such field"):
        _grid(Axis("penelty", (0.1,)))
    with pytest.raises(BadInput, match=r"problem\.rank: 9 exceeds dim 8"):
        make_plan(_grid(Axis("rank", (2, 9))), GIB)
    with pytest.raises(BadInput, match=r"problem\.width: 6 is below rank 7"):
        make_plan(_grid(Axis("rank", (7,))), GIB)


def test_fine_tuning_runs_at_the_kept_width():
    assert [bucket(kept, 20) for kept in (0, 1, 2, 3, 5, 17, 20)] == [1, 1, 2, 4, 8, 20, 20]


def test_perturbed_grids_run_and_compile_away_when_unused():
    perturbed = _grid(Axis("perturbation", (0.0, 1e-3)), perturb=True, patience=20)
    plain = _grid(Axis("perturbation", (0.0,)))
    np.testing.assert_allclose(
        run_grid(perturbed)["error"].sel(perturbation=0.0), run_grid(plain)["error"].sel(perturbation=0.0), rtol=1e-9
    )


def test_schedule_with_a_remainder_records_its_end():
    dataset = run_grid(_grid(schedule=Schedule(50, 30, 40), seeds=(0,)))
    np.testing.assert_array_equal(dataset["step"], [0, 40, 50, 80])
    assert float(dataset["steps_train"][0]) == 50
    assert jnp.isfinite(dataset["error"].values).all()
    assert replace(SCHEDULE, train_steps=50).segments()[0] == (40, 10)
