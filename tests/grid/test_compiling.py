"""Phases are traced once for systems that they cannot tell apart, and compiled with an effort that is recorded."""

import json
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated

import jax
import jax.experimental
import jax.numpy as jnp
import numpy as np
import pytest

import gpsense.grid.plan as plan_module
from gpsense import Field, TrainPruneFineTune, sweep
from gpsense.fields import Traced
from gpsense.grid import Axis, Grid, Program, compiling, make_plan, run_grid
from gpsense.grid.plan import FULL, Effort, effort
from gpsense.grid.tracing import Reader, Traces
from gpsense.keys import keys_of, seed_keys, threefry
from gpsense.pipeline import Schedule
from gpsense.pruning import COLUMN_RULES, ColumnRule
from gpsense.systems import Cost
from gpsense.systems._weights import PruneWeights
from gpsense.systems.own import groups
from gpsense.systems.sensing import Sensing
from gpsense.systems.teacher_student import TeacherStudent

GIB = 2.0**30
SEEDS = np.asarray([0, 1, 7, 2**31, 2**32 - 1], np.uint32)
LEAST = Effort("least", "least", "least")


def _grid(*axes, seeds=(0, 1), **constants):
    system = Sensing(dim=8, n=60, width=6, dtype="float64", curvature_steps=0)
    return Grid(system, Schedule(80, 40, 40), Axis("seed", seeds), axes, {"rate": 0.03} | constants)


@pytest.mark.parametrize("partitionable", [True, False])
def test_keys_of_many_seeds_are_those_of_each(partitionable):
    with jax.threefry_partitionable(partitionable):
        for many, one in zip(jax.tree.leaves(keys_of(SEEDS)), jax.tree.leaves(jax.vmap(seed_keys)(SEEDS)), strict=True):
            np.testing.assert_array_equal(jax.random.key_data(many), jax.random.key_data(one))


def test_the_hash_gives_the_published_numbers():
    """Three known answers of Threefry-2x32 with 20 rounds, as Random123 has them."""
    words = lambda *values: tuple(np.asarray(value, np.uint32) for value in values)  # noqa: E731
    ones = words(0xFFFFFFFF, 0xFFFFFFFF)
    with np.errstate(over="ignore"):
        assert tuple(map(int, threefry(words(0, 0), words(0, 0)))) == (0x6B200159, 0x99BA4EFE)
        assert tuple(map(int, threefry(ones, ones))) == (0x1CB996FC, 0xBB002BE7)
        pi = words(0x13198A2E, 0x03707344), words(0x243F6A88, 0x85A308D3)
        assert tuple(map(int, threefry(*pi))) == (0xC4923A9C, 0x483DF7A0)


def test_programs_share_the_phases_that_read_nothing_they_differ_in():
    grid = _grid(Axis("rule", ("threshold", "top_r")), Axis("penalty", (0.05, 0.2)))
    plan, known = make_plan(grid, GIB), Traces()
    for chunk in plan.chunks:
        program = Program(grid, plan.programs[chunk.program], known=known)
        alone = Program(grid, plan.programs[chunk.program]).run(chunk)
        for name, values in program.run(chunk).items():
            np.testing.assert_array_equal(values, alone[name], err_msg=name)
    assert known.counts["start"] == known.counts["train"] == 1
    assert known.counts["measure"] <= 2  # one for every width
    assert known.counts["prune"] == 2


def test_programs_that_differ_in_what_a_phase_reads_share_nothing_of_it():
    grid = _grid(Axis("optimizer", ("gd", "momentum")), Axis("penalty", (0.1,)))
    plan, known = make_plan(grid, GIB), Traces()
    results = [Program(grid, plan.programs[c.program], known=known).run(c) for c in plan.chunks]
    assert known.counts["train"] == known.counts["fine_tune"] == 2
    assert known.counts["prune"] == 2  # what it is given, the state of the optimizer, is of another shape
    assert (results[0]["error"] != results[1]["error"]).all()


def test_rules_that_train_as_they_fine_tune_share_one_program_and_its_bits(monkeypatch):
    """Rounds have a program of training of their own, and so does a rewinding that training has to take note of."""
    axes = (Axis("rule", ("magnitude", "snip", "iterative_magnitude")), Axis("kept", (0.5,)))
    fields = {"dim": 8, "support": 4, "neurons": 2, "n": 30, "round_steps": 10}

    def run(**changes):
        grid = Grid(TeacherStudent(**fields, **changes), Schedule(20, 10, 10), 1, axes, {"share": 0.5})
        plan, known = make_plan(grid, GIB), Traces()
        programs = [(Program(grid, plan.programs[chunk.program], known=known), chunk) for chunk in plan.chunks]
        return known.counts, {program.plan.system.rule: program.run(chunk) for program, chunk in programs}

    counts, found = run()
    assert (counts["train"], counts["fine_tune"]) == (1, 1)
    assert run(rewind_step=5)[0]["train"] == 2
    monkeypatch.setattr(PruneWeights, "trains_as_it_tunes", lambda *_: False)
    counts, apart = run()
    assert (counts["train"], counts["fine_tune"]) == (3, 1)
    for rule, arrays in found.items():
        for name, values in arrays.items():
            np.testing.assert_array_equal(values, apart[rule][name], err_msg=f"{rule} {name}")


def test_a_reader_notes_fields_wherever_they_are_read(monkeypatch):
    system = Sensing(dim=8, n=60, rule="top_r")
    reader = Reader(system)
    with reader.reading() as (copy, names):
        assert isinstance(copy, Sensing)
        assert copy.full_width == 8
    assert names == {"width", "dim"}
    with reader.reading() as (copy, names):
        assert replace(copy, n=50).n == 50
    assert names == set(reader.fields) - {"n"}
    reads = reader.values({"rule"})
    assert reader.equal(reader.values({"dim", "rule"}))
    assert not Reader(replace(system, rule="threshold")).equal(reads)
    assert Reader(replace(system, n=10)).equal(reads)
    monkeypatch.setitem(COLUMN_RULES, "top_r", ColumnRule(lambda norms, given: norms > 1))
    assert not Reader(system).equal(reads)  # another rule of the same name


class Nothing(Traced):
    pass


@dataclass(frozen=True, kw_only=True)
class Shifted(TrainPruneFineTune):
    """Least squares from a start and with a constant that are made of a field, once."""

    name, Data, parts = "shifted", Nothing, groups(lambda w: w, axis=0)
    shift: Annotated[int, Field("problem", "of everything")] = 0

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "constant", 0.1 * self.shift)

    @cached_property
    def begin(self):
        return 1.0 + self.shift

    def draw(self, data, key):
        return jax.random.normal(key, (4,), self.dtype)

    def init(self, setting, key):
        return jnp.full(4, self.begin, self.dtype)

    def loss(self, w, problem):
        return jnp.sum((w - problem) ** 2) + self.constant


def test_what_a_system_makes_of_its_fields_tells_programs_apart():
    run = lambda *shifts: run_grid(Grid(Shifted(optimizer="gd"), Schedule(20, 0, 20), 2, (Axis("shift", shifts),)))  # noqa: E731
    together = run(1, 2, 3)
    for shift in (1, 2, 3):
        alone = run(shift)
        for name in ("loss", "loss_curve", "error_pruned"):
            np.testing.assert_array_equal(together[name].sel(shift=shift), alone[name].sel(shift=shift), err_msg=name)
    assert len(set(together["loss_curve"].isel(seed=0, step=0).values.tolist())) == 3


def test_programs_that_call_back_into_python_are_told_apart():
    def cell(key, a, k):
        shape = jax.ShapeDtypeStruct((), a.dtype)
        return {"v": jax.pure_callback(lambda v: v * k, shape, a, vmap_method="sequential")}

    assert sweep(cell, seeds=1, a=[2.0], k=[1, 10, 100], static=["k"])["v"].values.ravel().tolist() == [2, 20, 200]


@pytest.mark.slow
def test_a_setting_of_one_thread_holds_for_every_program():
    grid = _grid(Axis("rule", ("threshold", "top_r", "largest_gap")), seeds=(0,))
    expected = run_grid(grid)["error"].values
    jax.config.update("jax_enable_x64", False)
    enable = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64  # its place before jax 0.8
    with enable(True):
        np.testing.assert_array_equal(run_grid(grid)["error"].values, expected)


@pytest.mark.slow
def test_the_least_effort_gives_the_same_numbers(monkeypatch):
    """A problem and its training, compiled in every way: "full" as without the flags of the tests."""
    whole = {"xla_backend_optimization_level": 3, "xla_cpu_parallel_codegen_split_count": 32}
    whole |= {name: True for name in compiling.options("least") if name == "xla_cpu_use_fusion_emitters"}
    given = compiling.options
    monkeypatch.setattr(compiling, "options", lambda effort: whole if effort == "full" else given(effort))
    setting = Sensing.Setting(penalty=0.2, rate=0.03, tolerance=0.0)
    system = _grid().system

    def trained(seed):
        keys = seed_keys(seed)
        problem = system.draw(Sensing.Data(noise=0.1), keys.problem)
        state = system.learner.start(problem, setting, keys)
        return system.learner.train(problem, setting, state, 100)

    lowered, devices = jax.jit(trained).lower(1), jax.devices()[:1]
    full, *others = (compiling.compile_later(lowered, effort, devices).result().call(1) for effort in compiling.EFFORTS)
    for other in others:
        np.testing.assert_allclose(other.factor, full.factor, rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(other.objective, full.objective, rtol=1e-8)


def test_effort_grows_with_the_work():
    small = Cost(flops=1e3, problem_bytes=1, sample_bytes=10, cell_bytes=1, kept_bytes=1)
    assert effort(small, 10, 10, 100) == LEAST
    assert effort(small, 10, 10_000, 1000) == Effort("least", "least", "less")
    assert effort(small, 10_000, 10_000, 1000) == Effort("least", "full", "full")
    assert effort(replace(small, sample_bytes=10**9), 100, 1, 0).draw == "full"
    assert effort(replace(small, products=False), 10, 1_000, 100).steps == "less"
    assert effort(replace(small, once=1e9), 10, 100, 0) == Effort("least", "less", "least")


@pytest.mark.slow
def test_a_run_is_resumed_with_the_effort_it_began_with(tmp_path, monkeypatch):
    grid = _grid(Axis("penalty", (0.05, 0.2)))
    first = run_grid(grid, out=tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["layouts"] == [[2, 2, *LEAST]]
    monkeypatch.setattr(plan_module, "LIMITS", dict.fromkeys(plan_module.LIMITS, (0.0, 0.0)))
    assert make_plan(grid, GIB).programs[0].layout.effort == FULL
    efforts = []
    begin = compiling.compile_later
    monkeypatch.setattr(
        "gpsense.grid.program.compile_later", lambda low, effort, on: efforts.append(effort) or begin(low, effort, on)
    )
    (tmp_path / "chunks" / "000000.chunk").unlink()
    again = run_grid(grid, out=tmp_path)
    assert set(efforts) == {"least"}
    np.testing.assert_array_equal(again["error"], first["error"])


def test_options_that_are_not_known_are_left_out(monkeypatch):
    monkeypatch.setitem(compiling.EFFORTS, "odd", {"xla_no_such_option": 1, "xla_backend_optimization_level": 1})
    assert compiling.options("odd") == {"xla_backend_optimization_level": 1}
    assert compiling.options("full").get("xla_cpu_use_fusion_emitters", True)


def test_equal_programs_are_compiled_once():
    lower = lambda scale: jax.jit(lambda x: scale * x).lower(1.0)  # noqa: E731
    same, again, other = (
        compiling.compile_later(lower(scale), "least", jax.devices()[:1]) for scale in (3.25, 3.25, 4.5)
    )
    assert same is again
    assert [float(each.result().call(2.0)) for each in (same, other)] == [6.5, 9.0]
