"""The grid gives what single cells give, by name, without retracing, whatever happens to a neighbour."""

import subprocess
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import gpsense.grid.plan as plan_module
import gpsense.grid.program as program_module
from gpsense.errors import BadInput
from gpsense.grid import (
    Axis,
    Grid,
    Layout,
    Program,
    collect,
    compaction,
    fit_to_memory,
    make_plan,
    run_grid,
)
from gpsense.grid.axes import Combinations
from gpsense.grid.compaction import bucket, smaller
from gpsense.keys import seed_keys
from gpsense.pipeline import Schedule, run_cell
from gpsense.systems.sensing import Sensing

GIB = 2.0**30
SCHEDULE = Schedule(120, 40, 40)


def _grid(*axes, seeds=(0, 1, 7), schedule=SCHEDULE, **constants):
    fixed = (Axis("dim", (8,), False), Axis("n", (60,), False), Axis("rate", (0.03,), False))
    names = {axis.name for axis in axes}
    kept = tuple(axis for axis in fixed if axis.name not in names)
    fixed = {"dtype": "float64", "width": 6, "curvature_steps": 0}
    constants = {name: value for name, value in fixed.items() if name not in names} | constants
    return Grid(Sensing(), schedule, Axis("seed", seeds), (*kept, *axes), constants)


def _cube(*axes, noise=(0.0, 0.5), condition=(1.0, 3.0), penalty=(0.0, 0.05, 0.2), **fields):
    """Grids of one shape; few steps of Lanczos, so that they do not amplify rounding."""
    values = {"noise": noise, "condition": condition, "penalty": penalty}
    return _grid(*(Axis(name, each) for name, each in values.items()), *axes, curvature_steps=4, **fields)


@pytest.fixture(scope="module")
def grid():
    return _cube()


@pytest.fixture(scope="module")
def rerun(grid):
    """Runs another grid of the same shape by the program of the first."""
    program = Program(grid, make_plan(grid, GIB).programs[0])

    def run(other):
        plan, program.grid = make_plan(other, GIB), other
        return collect(plan, [(chunk, program.run(chunk)) for chunk in plan.chunks])

    return run


@pytest.fixture(scope="module")
def dataset(grid, rerun):
    return rerun(grid)


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


def test_fields_of_one_value_are_labelled_coordinates(grid, dataset):
    """Each that is declared and shown, whether given or not; the truth's rank beside the measure of that name."""
    assert dataset["true_rank"].item() == 2
    assert dataset["true_rank"].attrs == {"long_name": "rank r of the truth", "section": "problem"}
    assert {"rank", "penalty"} & set(dataset.coords) == {"penalty"}
    for name, field in grid.known.items():
        coordinate = dataset.coords.get("true_rank" if name == "rank" else name)
        if field.hidden:
            assert coordinate is None, name
        elif name not in ("noise", "condition", "penalty"):
            value = getattr(grid.system, name, 0.03 if name == "rate" else field.default)
            assert (coordinate is None) == (value is None), name
            assert coordinate is None or coordinate.item() == value, name
        if coordinate is not None:
            assert coordinate.attrs["long_name"] == field.words, name
            assert coordinate.attrs["section"] == field.section, name
    assert dataset["noise"].attrs["long_name"] == "noise σ"
    assert (dataset["measurements"].item(), dataset["dtype"].item()) == ("gaussian", "float64")


def test_a_cell_alone_equals_the_cell_in_the_grid(grid, dataset):
    """In float64 to 1e-9: the products are summed in another order, nothing else differs."""
    system = make_plan(grid, GIB).programs[0].system
    alone = jax.jit(lambda d, s, seed: run_cell(system, SCHEDULE, d, s, seed_keys(seed)))
    for place in (
        {"seed": 0, "noise": 0.0, "condition": 1.0, "penalty": 0.2},
        {"seed": 7, "noise": 0.5, "condition": 3.0, "penalty": 0.0},
        {"seed": 1, "noise": 0.5, "condition": 1.0, "penalty": 0.05},
    ):
        data = Sensing.Data(noise=place["noise"], condition=place["condition"])
        expected = alone(data, Sensing.Setting(penalty=place["penalty"], rate=0.03), place["seed"])
        cell = dataset.sel(place)
        assert set(cell.data_vars) == set(expected) - {"state"}
        for name in cell.data_vars:
            np.testing.assert_allclose(cell[name], expected[name], rtol=1e-9, atol=1e-12, err_msg=name)


def test_a_seed_is_the_same_seed_in_every_grid(dataset, rerun):
    """Wherever it stands among others, and beside other data and settings."""
    other = rerun(_cube(noise=(0.5, 0.1), condition=(3.0, 2.0), penalty=(0.3, 0.2, 0.1), seeds=(7, 3, 4)))
    place = {"seed": 7, "noise": 0.5, "condition": 3.0, "penalty": 0.2}
    np.testing.assert_allclose(other["error_curve"].sel(place), dataset["error_curve"].sel(place), rtol=1e-9)


@pytest.mark.slow
def test_chunks_give_the_same_numbers_as_one_program(grid, dataset):
    layouts = (Layout(5, 2),)
    plan = make_plan(grid, GIB, layouts)
    assert [chunk.cells for chunk in plan.chunks] == [10, 5, 10, 5, 4, 2]
    program = Program(grid, plan.programs[0])
    parts = [(chunk, program.run(chunk)) for chunk in plan.chunks]
    whole = collect(plan, parts)
    for name in dataset.data_vars:
        np.testing.assert_allclose(whole[name], dataset[name], rtol=1e-9, atol=1e-12, err_msg=name)
    buckets = program.traces["narrow"]
    assert buckets <= 3
    assert program.traces == {"draw": 1, "start": 1, "train": 1, "prune": 1} | dict.fromkeys(
        ("narrow", "fine_tune", "measure"), buckets
    )
    part = collect(plan, parts[:1])
    assert int((part["status"] == -1).sum()) == 36 - 10
    assert int(np.isnan(part["error"]).sum()) == 36 - 10


@pytest.mark.slow
def test_a_chunk_run_twice_has_the_same_bits(grid):
    plan = make_plan(grid, GIB, (Layout(4, 3),))
    program = Program(grid, plan.programs[0])
    first, second = (program.run(plan.chunks[1]) for _ in range(2))
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


@pytest.mark.slow
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


@pytest.mark.parametrize("penalty", [1e9, float("nan")])
def test_a_cell_that_fails_leaves_the_others_bit_equal(dataset, rerun, penalty):
    """One that diverges; and a NaN setting, which reaches every product of its cell and no product of another."""
    failing = _cube()
    inner = [each | {"penalty": penalty} if place == 1 else each for place, each in enumerate(failing.inner)]
    failing.__dict__["inner"] = inner  # an axis would refuse NaN
    hurt = rerun(failing)
    assert (hurt["status"].isel(penalty=1) == 3).all()
    assert bool(hurt["error"].isel(penalty=1).isnull().all())
    # its XLA sums a cell in another order where it moves to another place in a batch, as those that remain do
    rounding = 1e-11 if jax.__version_info__ <= (0, 7, 2) else 0
    for name in dataset.data_vars:
        others = (each[name].isel(penalty=[0, 2]) for each in (dataset, hurt))
        np.testing.assert_allclose(*others, rtol=rounding, atol=0, err_msg=name)


@pytest.mark.slow
def test_static_axes_make_programs_and_are_dimensions_too():
    grid = _grid(Axis("rank", (1, 2)), Axis("optimizer", ("gd", "momentum")), seeds=(0,))
    assert len(make_plan(grid, GIB).programs) == 2
    dataset = run_grid(grid)
    assert dataset["error"].dims == ("optimizer", "seed", "true_rank")
    assert dataset["error"].sel(optimizer="momentum", true_rank=2).shape == (1,)
    assert bool((dataset["status"] > 0).all())


PHASE = {"n": (25, 60), "rank": (1, 3), "noise": (0.0, 0.4), "width": (3, 6), "penalty": (0.05, 0.2)}


@pytest.fixture(scope="module")
def phase():
    """A phase diagram over n x rank x noise x width x penalty x seed: its program, and its results."""
    axes = tuple(Axis(name, values) for name, values in PHASE.items())
    grid = _grid(*axes, Axis("threshold", (0.0,), False), seeds=(0, 3))
    plan = make_plan(grid, GIB)
    program = Program(grid, plan.programs[0])
    parts = [(chunk, program.run(chunk)) for chunk in plan.chunks]
    return plan, program, collect(plan, parts)


def test_a_phase_diagram_is_one_program_traced_once(phase):
    plan, program, dataset = phase
    assert (len(plan.programs), plan.cells) == (1, 64)
    assert plan.grid.traced == {"n", "rank", "width"}
    assert program.traces == dict.fromkeys(("draw", "start", "train", "prune", "narrow", "fine_tune", "measure"), 1)
    assert dataset["error"].dims == ("seed", "n", "true_rank", "noise", "width", "penalty")


@pytest.mark.slow
def test_a_traced_size_gives_what_a_program_of_that_size_gives(phase):
    dataset = phase[2]
    for place in (
        {"n": 25, "rank": 1, "noise": 0.4, "width": 3, "penalty": 0.2, "seed": 3},
        {"n": 60, "rank": 3, "noise": 0.0, "width": 6, "penalty": 0.05, "seed": 0},
        {"n": 25, "rank": 3, "noise": 0.4, "width": 6, "penalty": 0.05, "seed": 3},
    ):
        names = ("n", "rank", "width")
        system = Sensing(dim=8, form="gram", dtype="float64", **{name: place[name] for name in names})
        setting = Sensing.Setting(penalty=place["penalty"], rate=0.03, threshold=0.0)
        alone = jax.jit(lambda d, s, seed, system=system: run_cell(system, SCHEDULE, d, s, seed_keys(seed)))
        expected = alone(Sensing.Data(noise=place["noise"]), setting, place["seed"])
        cell = dataset.sel({"true_rank" if name == "rank" else name: value for name, value in place.items()})
        for name in ("error", "error_curve", "loss", "margin", "rank", "steps_train"):
            np.testing.assert_allclose(cell[name], expected[name], rtol=1e-8, atol=1e-11, err_msg=name)
        norms = cell["column_norms"].values
        np.testing.assert_allclose(norms[: place["width"]], expected["column_norms"], rtol=1e-8, atol=1e-11)
        assert np.isnan(norms[place["width"] :]).all()


def test_sizes_stay_static_where_that_is_cheaper():
    assert _grid(Axis("n", (10, 12)), Axis("dim", (40,), False)).traced == frozenset()  # direct: cost grows with n
    assert _grid(Axis("width", (2, 9)), Axis("n", (500,), False)).traced == {"width"}  # the product with H dominates
    assert _grid(Axis("width", (2, 3, 900)), Axis("n", (500,), False)).traced == frozenset()
    assert _grid(Axis("width", (2, 6)), perturb=True).traced == frozenset()
    assert _grid(Axis("rank", (1, 2)), method="niht").traced == frozenset()


def test_stopped_cells_leave_the_batch_and_nothing_changes(monkeypatch):
    """Rates over a decade stop at different times; the fast ones are left out, the rest go on as before."""
    rates = (0.005, 0.02, *(0.05 + 0.002 * i for i in range(10)))
    axes = (Axis("rate", rates), Axis("tolerance", (0.02,), False))
    grid = _grid(*axes, Axis("penalty", (0.05,), False), schedule=Schedule(400, 40, 40), seeds=(0, 1, 2))
    plan = make_plan(grid, GIB)
    program = Program(grid, plan.programs[0])
    expected = program.run(plan.chunks[0])
    assert program.traces["train"] == 1
    monkeypatch.setattr(compaction, "COMPACT_FLOPS", 0.0)
    results = program.run(plan.chunks[0])
    assert program.traces["train"] > 1
    assert np.ptp(results["steps_train"]) >= 100
    for name, values in expected.items():
        np.testing.assert_allclose(results[name], values, rtol=1e-9, atol=1e-12, err_msg=name)
    assert [smaller(n) for n in (1, 2, 6, 9)] == [[], [1], [4, 3, 2, 1], [6, 4, 3, 2, 1]]
    # along the last axis whole registers, half of one and one
    assert [smaller(n, True) for n in (1, 2, 9, 17, 64)] == [[], [1], [1], [8, 1], [48, 32, 16, 8, 1]]


@pytest.mark.slow
def test_problems_in_batches_give_the_same_as_one_by_one(grid, dataset, monkeypatch):
    """What an accelerator runs side by side, surplus rows included."""
    for module in (program_module, plan_module):
        monkeypatch.setattr(module, "outer_batch", lambda: 5)
    batched = run_grid(grid)
    for name in dataset.data_vars:
        np.testing.assert_allclose(batched[name], dataset[name], rtol=1e-9, atol=1e-12, err_msg=name)


SHARDED = """
import jax, sys
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_enable_x64", True)
from gpsense.grid import Axis, Grid, run_grid
from gpsense.pipeline import Schedule
from gpsense.systems.sensing import Sensing
axes = tuple(Axis(n, (v,), False) for n, v in (("dim", 8), ("n", 60), ("rate", 0.03), ("condition", 3.0)))
axes += (Axis("noise", (0.0, 0.5)), Axis("penalty", (0.05, 0.2)))
grid = Grid(Sensing(dtype="float64", width=6, curvature_steps=0), Schedule(120, 40, 40), Axis("seed", (0, 1, 7)), axes)
assert len(jax.devices()) == 4
run_grid(grid).to_netcdf(sys.argv[1], engine="h5netcdf")
"""


@pytest.mark.slow
def test_devices_share_the_problems(dataset, tmp_path):
    """Six problems over four devices, filled up to eight; equal to one device."""
    subprocess.run([sys.executable, "-c", SHARDED, tmp_path / "out.nc"], check=True)
    spread = xr.load_dataset(tmp_path / "out.nc", engine="h5netcdf")
    place = {"condition": 3.0, "penalty": [0.05, 0.2]}
    for name in ("error", "loss_curve", "column_norms", "steps_train", "status"):
        np.testing.assert_allclose(spread[name], dataset[name].sel(place), rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.slow
def test_methods_are_an_axis():
    methods = ("scaled_gd", "trace_norm")
    fixed = {"noise": 0.1, "penalty": 0.2, "rate": Sensing.Setting().rate}  # which baselines do not read
    axes = [Axis("method", methods), *(Axis(name, (value,), False) for name, value in fixed.items())]
    grid = _grid(*axes, seeds=(0, 1))
    dataset = run_grid(grid)
    assert dataset["error"].dims == ("method", "seed")
    assert bool((dataset["error"] < 0.2).all())
    assert bool((dataset["status"] == 2).all())
    known = dataset.sel({"method": "scaled_gd"})
    assert bool((known["rank"] == 2).all())
    assert bool((known["error_pruned"] == known["error"]).all())
    assert bool((known["steps_fine_tune"] == 0).all())
    system = make_plan(grid, GIB).programs[1].system
    setting = Sensing.Setting(penalty=0.2)
    alone = jax.jit(lambda s: run_cell(system, SCHEDULE, Sensing.Data(noise=0.1), s, seed_keys(1)))(setting)
    cell = dataset.sel({"method": "trace_norm", "seed": 1})
    for name in ("error", "error_curve", "rank", "steps_train"):
        np.testing.assert_allclose(cell[name], alone[name], rtol=1e-7, atol=1e-10, err_msg=name)
    with pytest.raises(BadInput, match="^width: 9 exceeds dim 8 for irls"):
        make_plan(_grid(Axis("method", ("irls",)), Axis("width", (9,), False)), GIB)


def test_an_early_end_changes_no_curve(rerun):
    """Once every cell has stopped, the rest of the phase is skipped and the curves are held."""
    easy = rerun(_cube(Axis("tolerance", (1e6,), False)))
    assert (easy["steps_train"] == 0).all()
    assert (easy["status_train"] == 1).all()
    curve = easy["error_curve"]
    assert (curve.isel(step=slice(1, 4)) == curve.isel(step=0)).all()


def test_given_truth_and_spectrum_are_used():
    truth = np.eye(8)[:, :2] * [1.0, 0.5]
    axes = (Axis("penalty", (0.02,), False), Axis("smoothing", (0.005,), False), Axis("momentum", (0.98,), False))
    rest = {"schedule": Schedule(2000, 500, 500), "measurements": "population", "optimizer": "momentum"}
    axes += (Axis("n", (Sensing().n,), False),)
    given = run_grid(_grid(*axes, Axis("rate", (0.01,), False), truth=truth, **rest))
    drawn = run_grid(_grid(*axes, Axis("rate", (0.01,), False), spectrum=(1.0, 0.25), **rest))
    for dataset in (given, drawn):
        np.testing.assert_allclose(dataset["column_norms"].values[0][:2], [1.0, 0.5], atol=0.02)
        assert float(dataset["error"].max()) < 1e-4


@pytest.mark.slow
def test_forms_of_the_data_agree(grid):
    results = [
        run_grid(_grid(Axis("noise", (0.3,)), Axis("rate", (0.01,)), measurements="rank_one", form=form))
        for form in ("gram", "direct")
    ]
    for name in ("error", "column_norms", "loss_curve"):
        np.testing.assert_allclose(results[0][name], results[1][name], rtol=1e-8, atol=1e-10, err_msg=name)


def test_the_cheaper_form_is_chosen():
    choose = lambda **fields: Sensing(**fields).resolve(10_000).form  # noqa: E731
    assert choose(dim=20, n=400) == "gram"
    assert choose(dim=50, n=300) == "direct"
    assert choose(dim=15, n=1500, measurements="rank_one") == "gram"
    assert choose(dim=200, width=4, n=1000, measurements="rank_one") == "direct"


def test_plans_fit_the_memory_or_are_refused(grid):
    assert len(make_plan(grid, GIB).chunks) == 1
    many = _grid(Axis("penalty", tuple(np.linspace(0, 1, 20))), seeds=tuple(range(500)))
    plan = make_plan(many, GIB)
    assert plan.cells == 10_000
    small = plan.bytes / 10
    cut = make_plan(many, small)
    assert cut.bytes <= small
    assert len(cut.chunks) >= 10
    assert sum(chunk.cells for chunk in cut.chunks) == 10_000
    with pytest.raises(BadInput, match=r"^memory: one cell needs \d+ kB, 100 B allowed; raise the budget"):
        make_plan(grid, 100.0)


@pytest.mark.slow
def test_memory_is_that_of_the_compiled_program_and_plans_are_cut_by_it():
    grid = _grid(Axis("penalty", tuple(np.linspace(0, 1, 16))), seeds=tuple(range(200)))
    plan = make_plan(grid, GIB)
    program = Program(grid, plan.programs[0])
    needed = program.prepare(plan.chunks[0])
    held = 8 * 200 * (36 * 36 + 16 * 8 * 6)  # H of every seed and U of every cell
    assert held < max(program.memory.values()) <= needed
    assert 0.25 < plan.bytes / needed < 4.0
    cut = fit_to_memory(plan, 0.5 * needed)
    assert len(cut.chunks) > 1
    assert Program(grid, cut.programs[0]).prepare(cut.chunks[0]) <= 0.5 * needed
    assert fit_to_memory(plan, 5 * plan.bytes) is plan


def test_bad_axes_are_refused_by_name():
    with pytest.raises(BadInput, match="penalty: the axis is empty"):
        Axis("penalty", ())
    with pytest.raises(BadInput, match="penalty: the axis repeats a value"):
        Axis("penalty", (0.1, 0.1))
    with pytest.raises(BadInput, match="^penalty: 0.1 is not a list of values; give "):
        Axis("penalty", 0.1)
    with pytest.raises(BadInput, match="^optimizer: 'adam' is not a list of values; give "):
        Axis("optimizer", "adam")
    with pytest.raises(BadInput, match=r"^penalty: '0.1' is not a list of values; give \(0.1,\)"):
        Axis("penalty", "0.1")
    with pytest.raises(BadInput, match=r"^penelty: system sensing has no such field; did you mean penalty\?"):
        _grid(Axis("penelty", (0.1,)))
    with pytest.raises(BadInput, match="^noise: it is given twice; give one axis or one constant for each field"):
        _grid(Axis("noise", (0.1,)), Axis("noise", (0.2,)))
    with pytest.raises(BadInput, match="^noise: it is given twice"):
        _grid(Axis("noise", (0.1,)), noise=0.2)
    with pytest.raises(BadInput, match="^penalty: -0.1 is not allowed; use a number 0 or more"):
        _grid(Axis("penalty", (0.1, -0.1)))
    with pytest.raises(BadInput, match="^dim: 5.7 is not a whole number"):
        _grid(Axis("dim", (5, 5.7)))
    with pytest.raises(BadInput, match="^rule: there is no 'threshhold'; did you mean threshold"):
        _grid(Axis("rule", ("top_r", "threshhold")))
    with pytest.raises(BadInput, match=r"^system: .* is not a system; give an instance, such as Sensing\(dim=20\)"):
        Grid(Sensing)
    for values in ({0.1: 1}, {0.1}, (x for x in (0.1,)), np.asarray(0.1), b"x"):
        with pytest.raises(BadInput, match="^noise: .* is not a list of values; give "):
            Axis("noise", values)
    with pytest.raises(BadInput, match=r"^noise: array\(\[1., 1.\]\) is not a single value; give one number"):
        Axis("noise", np.ones((2, 2)))
    with pytest.raises(BadInput, match="^name: 3 is not the name of a field; write Axis"):
        Axis(3, (1,))
    for schedule in (None, 100):
        with pytest.raises(BadInput, match=f"^schedule: {schedule} is not a Schedule; give Schedule"):
            Grid(Sensing(), schedule)
    for axes in (Axis("noise", (0.1,)), {"noise": [0.1]}, [("noise", [0.1])], iter(())):
        with pytest.raises(BadInput, match="^axes: .* is not (a list of axes; give|an Axis; write) .*Axis"):
            Grid(Sensing(), axes=axes)
    for constants in ([("noise", 0.1)], None):
        with pytest.raises(BadInput, match="^constants: .* is not a mapping; give {field: value}"):
            Grid(Sensing(), constants=constants)
    with pytest.raises(BadInput, match="^3: system sensing has no such field"):
        Grid(Sensing(), constants={3: 0.1})
    with pytest.raises(BadInput, match="^seeds: 0 is not allowed; use a whole number from 1 to 10000000$"):
        Grid(Sensing(), seeds=0)
    for seeds in (0, -1, 2.5, "3", (1, 1), (0, -1), (2**32,)):
        with pytest.raises(BadInput, match="^seeds?: "):
            Grid(Sensing(), seeds=seeds)
    with pytest.raises(BadInput, match="^rank: 9 exceeds dim 8"):
        make_plan(_grid(Axis("rank", (2, 9))), GIB)
    with pytest.raises(BadInput, match="^width: 6 is below rank 7"):
        make_plan(_grid(Axis("rank", (7,))), GIB)


def test_axes_take_arrays_and_seeds_a_count_or_a_list():
    for values in (np.asarray([0.5, 0.25]), jnp.asarray([0.5, 0.25]), [jnp.asarray(0.5), np.float32(0.25)]):
        (axis,) = Grid(Sensing(), axes=(Axis("penalty", values),)).axes
        assert axis.values == (0.5, 0.25)
        assert all(type(value) is float for value in axis.values)
    (axis,) = Grid(Sensing(), axes=(Axis("dim", np.asarray([5.0, 6.0])),)).axes
    assert [type(value) for value in axis.values] == [int, int]
    for seeds, values in ((3, (0, 1, 2)), ([3], (3,)), (np.asarray([4, 2]), (4, 2)), (Axis("seed", (7,)), (7,))):
        assert Grid(Sensing(), seeds=seeds).seeds.values == values


def test_fine_tuning_runs_at_the_kept_width():
    assert [bucket(kept, 20) for kept in (0, 1, 2, 3, 5, 17, 20)] == [1, 1, 2, 4, 8, 20, 20]


@pytest.mark.slow
def test_perturbed_grids_run_and_compile_away_when_unused():
    perturbed = _grid(Axis("perturbation", (0.0, 1e-3)), perturb=True, patience=20)
    plain = _grid(Axis("perturbation", (0.0,)))
    np.testing.assert_allclose(
        run_grid(perturbed)["error"].sel(perturbation=0.0), run_grid(plain)["error"].sel(perturbation=0.0), rtol=1e-9
    )


@pytest.mark.slow
def test_schedule_with_a_remainder_records_its_end(rerun):
    dataset = rerun(_cube(schedule=Schedule(50, 30, 40)))
    np.testing.assert_array_equal(dataset["step"], [0, 40, 50, 80])
    assert (dataset["steps_train"] == 50).all()
    assert np.isfinite(dataset["error"]).all()
    assert replace(SCHEDULE, train_steps=50).segments()[0] == (40, 10)


def test_a_damaged_chunk_is_set_aside_and_run_again(tmp_path):
    system = Sensing(dim=5, n=30, width=4, dtype="float64", curvature_steps=0)
    grid = Grid(system, Schedule(20, 10, 10), (0, 1, 2), (Axis("penalty", (0.05, 0.2)),), {"rate": 0.03})
    first = run_grid(grid, out=tmp_path)
    (path,) = (tmp_path / "chunks").glob("*.chunk")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.warns(
        UserWarning, match=r"000000\.chunk was set aside in .*damaged, and its chunk must be run again: its check"
    ):
        again = run_grid(grid, out=tmp_path)
    xr.testing.assert_identical(again, first)
    assert (tmp_path / "chunks" / "damaged" / "000000.chunk").read_bytes() == data


def test_chunks_are_cut_by_work_however_small_the_cells():
    """A million cells of 16 numbers are several chunks; of one row settings are cut."""
    system = Sensing(dim=4, n=20, width=4, form="gram")
    many, more = (Axis("penalty", tuple(np.linspace(0.0, 1.0, count).tolist())) for count in (1000, 200_000))
    for axes, least in (((Axis("noise", many.values), many), 4), ((more,), 1)):
        plan = make_plan(Grid(system, Schedule(50, 10, 10), (0,), axes), GIB * 64)
        assert least < len(plan.chunks) < 60


def test_combinations_are_made_when_asked_for():
    axes = (Axis("noise", (0.1, 0.2, 0.3)), Axis("condition", (1.0, 2.0)))
    listed = [{"noise": a, "condition": b} for a in (0.1, 0.2, 0.3) for b in (1.0, 2.0)]
    lazy = Combinations(axes)
    assert list(lazy) == [lazy[place] for place in range(6)] == lazy[:] == listed
    assert (lazy[-1], lazy[1:5:2], len(lazy)) == (listed[-1], listed[1:5:2], 6)
    with pytest.raises(IndexError):
        lazy[6]
    seeded = Combinations(axes, Axis("seed", (4, 7)))
    assert list(seeded) == seeded[:] == [(seed, each) for seed in (4, 7) for each in listed]
    assert Combinations(())[:] == [{}]


def test_grids_too_large_to_run_are_refused_by_number_and_large_ones_planned():
    system, many = Sensing(dim=4, n=20, width=4, form="gram"), tuple(np.linspace(0.0, 1.0, 3000).tolist())
    axes = (Axis("noise", many), Axis("penalty", many))
    plan = make_plan(Grid(system, Schedule(50, 10, 50), (0,), axes), GIB * 64)
    assert plan.cells == 9_000_000
    assert sum(chunk.cells for chunk in plan.chunks) == plan.cells
    with pytest.raises(
        BadInput, match=r"^noise: 1.8e\+08 combinations of the axes, 1e\+08 allowed; give this axis fewer than"
    ):
        Grid(system, Schedule(50, 10, 50), 20, axes)
    words = "^record_every: 1,000,200 records of a run, more than 100,000; use 11 or more$"
    with pytest.raises(BadInput, match=words):
        Schedule(1_000_000, 200, 1)
    with pytest.raises(BadInput, match="use 11 or more$"):
        Schedule(1_000_000, 200, 10)
    assert Schedule(1_000_000, 200, 11).record_every == 11


def test_conditions_of_many_data_are_checked_at_the_ends_of_each_axis():
    """One value of thousands that the system refuses, wherever it is."""
    noises, conditions = (tuple(np.linspace(low, low + 1, 300).tolist()) for low in (0.0, 1.0))
    with pytest.raises(BadInput, match="^rank"):
        Grid(
            Sensing(dim=4, n=20, width=4, form="gram"),
            axes=(
                Axis("noise", noises),
                Axis("condition", conditions),
                Axis("rank", (1, 5)),
            ),
        )


def test_a_field_that_nothing_reads_is_refused_before_anything_is_planned():
    for grid, line in (
        (
            Grid(Sensing(), constants={"keep": 2}),
            "keep: rule threshold does not read it; use rule top_r or random",
        ),
        (
            Grid(Sensing(optimizer="adam"), constants={"momentum": 0.5}),
            "momentum: optimizer adam does not read it",
        ),
    ):
        with pytest.raises(BadInput, match=f"^{line}"):
            run_grid(grid)
    Grid(Sensing(), axes=(Axis("rule", ("threshold", "top_r")),), constants={"keep": 2}).verify_read()


def test_cells_that_diverge_are_told_by_a_warning():
    axes = (Axis("rate", (0.02, 50.0)), Axis("penalty", (0.05,), False))
    with pytest.warns(
        UserWarning, match=r"3 of 6 cells diverged \(status 3\), the first at .*rate 50.*: lower the rate"
    ):
        run_grid(_grid(*axes, schedule=Schedule(200, 40, 40), seeds=(0, 1, 2)))
