"""Memory: predicted before anything compiles, measured within a fifth, and halved where it runs out."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense import Axis, BadInput, Grid, Schedule, Sensing
from gpsense.grid import Layout, Program, fit_to_memory, make_plan, run
from gpsense.grid.compiling import compile_later, scratch_of
from gpsense.grid.estimate import held_bytes, working_bytes
from gpsense.grid.plan import Chunk, one_cell
from gpsense.grid.sweep import sweep_grid
from gpsense.systems import SYSTEMS

MIB = 2**20


def held(function: Any, *args: Any) -> int:
    return held_bytes(jax.make_jaxpr(function)(*args).jaxpr)


def test_what_is_written_and_needed_at_once_counts() -> None:
    a = np.ones((10, 10), np.float32)

    def products(a: Any) -> Any:
        b = a @ a
        return ((b @ a) @ b).sum()

    assert held(lambda a: a @ a, a) == 400
    assert held(lambda a: jnp.sin(a) + jnp.cos(a), a) == 0
    assert held(lambda a: jnp.sin(a @ a) @ a, a) == 800
    assert held(products, a) == 1200
    assert held(lambda a: ((a @ a) @ a) @ a, a) == 800
    assert held(lambda a: jax.lax.scan(lambda c, _: (c @ a, None), a, length=9)[0], a) == 800


def system_bytes(**fields: Any) -> int:
    grid = Grid(Sensing(dtype="float32", **fields), Schedule(20, 10, 10))
    return working_bytes(make_plan(grid, 2**60).programs[0].system, *one_cell(grid))


def test_the_hessian_of_the_certificate_and_wide_factors_count() -> None:
    numbers = 20 * 20
    assert 2 < system_bytes(dim=20, n=60, curvature_steps=numbers) / (4 * numbers**2) < 8
    assert system_bytes(dim=20, n=60, curvature_steps=30) < 100_000
    assert 1 < system_bytes(dim=8, n=60, width=3000) / (4 * 3000**2) < 3


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="a CPU calls LAPACK")
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
def test_what_an_eigendecomposition_takes_besides_counts(dtype: str) -> None:
    matrices, wide = np.ones((3, 7, 7), dtype), np.ones((3, 5, 9), dtype)
    text = lambda call, given: jax.jit(jax.vmap(call)).lower(given).as_text()  # noqa: E731
    both = lambda each: (jnp.linalg.eigh(each), jnp.linalg.eigvalsh(each[:4, :4]))  # noqa: E731
    assert scratch_of(text(both, matrices)) == 2 * 7 * 7 * matrices.itemsize
    assert scratch_of(text(jnp.linalg.svd, wide)) == 0
    one = compile_later(jax.jit(jnp.linalg.eigh).lower(matrices[0]), "full", jax.devices()[:1]).result()
    used = one.call.memory_analysis()
    held = used.argument_size_in_bytes + used.output_size_in_bytes - used.alias_size_in_bytes
    assert one.bytes == held + used.temp_size_in_bytes + 2 * matrices[0].nbytes


@pytest.mark.parametrize(
    ("fields", "memory"),
    [({"width": 1_000_000, "dim": 8}, 64 * 2**30), ({"dim": 40, "curvature_steps": 1600}, 20 * MIB)],
)
def test_what_cannot_fit_is_refused_before_it_compiles(
    fields: dict[str, Any], memory: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Program, "prepare", lambda *_: pytest.fail("compiled"))
    plan = make_plan(Grid(Sensing(n=60, dtype="float32", **fields), Schedule(20, 10, 10)), memory)
    with pytest.raises(BadInput, match=r"^memory: one cell needs [\d.e+]+ [GM]iB, .* allowed; raise the budget"):
        fit_to_memory(plan, memory)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("sensing", "patience"),
        ("sparse_features", "test"),
        ("teacher_student", "round_steps"),
        ("teacher_student", "score_rounds"),
        ("patches", "count"),
    ],
)
def test_counts_that_a_program_could_not_hold_are_refused(name: str, field: str) -> None:
    with pytest.raises(BadInput, match=f"^{field}: 1000000000000 is not allowed; use a whole number from "):
        SYSTEMS[name](**{field: 10**12})


def test_what_is_too_much_together_is_cut() -> None:
    grid = Grid(
        Sensing(dim=8, n=60, width=300, dtype="float32"), Schedule(20, 10, 10), 4, (Axis("penalty", range(1, 41)),)
    )
    plan = make_plan(grid, 16 * MIB)
    cut = fit_to_memory(plan, 16 * MIB)
    assert cut.programs[0].layout.inner < plan.programs[0].layout.inner
    assert Program(grid, cut.programs[0]).prepare(cut.chunks[0]) <= 16 * MIB


def cell(problem: Any, shift: Any) -> Any:
    return {"total": problem.sum() + shift, "all": problem * shift}


def draw(key: Any, scale: Any) -> Any:
    return scale * jax.random.normal(key, (3,))


@pytest.fixture(scope="module")
def plan() -> Any:
    """Six rows and four settings as one chunk."""
    grid = sweep_grid(cell, draw, seeds=3, scale=[1.0, 2.0], shift=[0.1, 0.2, 0.3, 0.4])
    return make_plan(grid, 2**30, (Layout(6, 4),))


def short_of_memory(monkeypatch: pytest.MonkeyPatch, enough: int, error: Exception) -> list[tuple[int, int]]:
    """Programs of more cells than ``enough`` run out of memory; the layouts of those that did not."""
    real, ran = Program.run, []

    def run_or_fail(self: Program, *args: Any) -> Any:
        if self.plan.layout.cells > enough:
            raise error
        ran.append((self.plan.layout.outer, self.plan.layout.inner))
        return real(self, *args)

    monkeypatch.setattr(Program, "run", run_or_fail)
    return ran


@pytest.mark.parametrize("enough", [23, 8, 3, 1])
@pytest.mark.parametrize("error", [MemoryError(), jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")])
def test_out_of_memory_halves_the_batch_and_goes_on(
    plan: Any, enough: int, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole: list[Any] = []
    run.run_chunks(plan, plan.chunks, lambda chunk, arrays, line: whole.append((arrays, line)))
    ran, shares, begun = short_of_memory(monkeypatch, enough, error), [], []
    program = Program(plan.grid, plan.programs[0])
    arrays, used = run.in_memory(program, plan.chunks[0], shares.append, lambda: begun.append(1))
    assert {name: value.shape for name, value in arrays.items()} == {n: v.shape for n, v in whole[0][0].items()}
    for name, value in arrays.items():
        np.testing.assert_allclose(value, whole[0][0][name], rtol=1e-14)
    layout = {23: (3, 4), 8: (2, 4), 3: (1, 2), 1: (1, 1)}[enough]
    assert set(ran) == {layout} == {(used.plan.layout.outer, used.plan.layout.inner)}
    assert (sum(shares), begun) == (pytest.approx(1), [1])
    kept: list[Any] = []
    run.run_chunks(plan, plan.chunks, lambda chunk, arrays, line: kept.append(line))
    assert kept[0]["batch"] == list(layout)
    assert "batch" not in whole[0][1]


def test_a_cell_that_is_too_much_alone_is_refused_and_other_errors_go_up(
    plan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = Program(plan.grid, plan.programs[0])
    short_of_memory(monkeypatch, 0, MemoryError())
    with pytest.raises(BadInput, match="memory ran out while running a single cell"):
        run.in_memory(program, plan.chunks[0])
    short_of_memory(monkeypatch, 0, jax.errors.JaxRuntimeError("INTERNAL: something else"))
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        run.in_memory(program, plan.chunks[0])


def test_pieces_are_the_chunk() -> None:
    chunk = Chunk(3, 1, 10, 17, 4, 9)
    found = run.pieces(chunk, Layout(3, 2))
    cells = [
        (row, column)
        for piece in sum(found, start=list[Chunk]())
        for row in range(piece.outer, piece.outer_stop)
        for column in range(piece.inner, piece.inner_stop)
    ]
    assert sorted(cells) == [(row, column) for row in range(10, 17) for column in range(4, 9)]
    assert all(
        replace(chunk, outer=p.outer, outer_stop=p.outer_stop, inner=p.inner, inner_stop=p.inner_stop) == p
        for p in found[0]
    )


MEASURED = """
import gc, os, sys, jax, numpy as np
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_default_matmul_precision", "highest")
from launch.device import one_thread_a_call
from gpsense import Axis, Grid, Schedule, Sensing
from gpsense.grid import Layout, Program, make_plan
status = lambda key: next(int(l.split()[1]) * 1024 for l in open("/proc/self/status") if l.startswith(key))
def peak(program, chunk):
    gc.collect()
    open("/proc/self/clear_refs", "w").write("5")
    before = status("VmRSS")
    kept = program.run(chunk)
    return status("VmHWM") - before
def measure(fields, outer, inner, steps, every):
    one_thread_a_call()
    axes = (Axis("penalty", tuple(np.linspace(0.01, 1, inner))),)
    grid = Grid(Sensing(dtype="float32", **fields), Schedule(steps, steps, every), outer, axes)
    plan = make_plan(grid, 2**40, (Layout(outer, inner),))
    chunk, program = plan.chunks[0], Program(grid, plan.programs[0])
    told = program.prepare(chunk)
    program.run(chunk)  # compiles the rest
    measured = max(peak(program, chunk) for _ in range(3))  # devices of a busy machine take turns
    print(told, measured, flush=True)
for line in sys.stdin:  # each shape in a process of its own, which has imported all before
    if os.fork() == 0:
        measure(*eval(line))
        os._exit(0)
    if os.wait()[1]:
        print(flush=True)
"""
SHAPES = [
    ({"dim": 100, "n": 500}, 2, 1, 4, 4),
    ({"dim": 40, "n": 2000}, 2, 4, 4, 4),
    ({"dim": 30, "n": 3000, "form": "direct"}, 5, 8, 4, 4),
    ({"dim": 20, "n": 400, "width": 2000}, 4, 6, 4, 4),
    ({"dim": 40, "n": 800, "curvature_steps": 1600}, 2, 2, 4, 4),
    ({"dim": 20, "n": 400, "curvature_steps": 5}, 96, 64, 4, 4),
    ({"dim": 20, "n": 400, "curvature_steps": 5}, 32, 256, 4, 4),
    ({"dim": 200, "n": 500, "measurements": "rank_one", "form": "direct", "curvature_steps": 5}, 4, 6, 4, 4),
    ({"dim": 60, "n": 1200, "optimizer": "adam"}, 2, 6, 4, 4),
    ({"dim": 80, "measurements": "population", "curvature_steps": 5}, 24, 24, 4, 4),
]


@pytest.fixture(scope="module")
def measuring() -> Iterator["subprocess.Popen[str]"]:
    """A process that tells the memory of shapes."""
    exact = dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"), "65536")  # what is freed is given back
    command, pipe = [sys.executable, "-c", MEASURED], subprocess.PIPE
    with subprocess.Popen(command, env=os.environ | exact, stdin=pipe, stdout=pipe, text=True) as started:
        yield started


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="the peak is read as Linux tells it")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_memory_is_measured_within_a_fifth_of_what_is_told(shape: Any, measuring: "subprocess.Popen[str]") -> None:
    assert measuring.stdin
    assert measuring.stdout
    print(repr(shape), file=measuring.stdin, flush=True)
    told, measured = map(int, measuring.stdout.readline().split())
    assert measured > 20 * MIB
    assert told == pytest.approx(measured, rel=0.2)
