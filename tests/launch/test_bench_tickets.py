"""Baselines of networks pruned by weights do the engine's work, and the rows say what was measured."""

import sys
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

from gpsense.grid import Axis
from gpsense.pipeline import Schedule
from launch import bench
from launch.bench import tickets
from launch.bench.convolutions import convolutions
from launch.bench.ticket_baselines import numpy_student, on_best_threads, rounds_to, torch_student
from launch.bench.ticket_cells import Work, loop, make_work, stopping, students

SMALL = {"dim": 12, "neurons": 2, "distance": 0.1, "rate": 4.0, "momentum": 0.9, "fine_tune_tolerance": 1e-8}
SMALL |= {"success": 1e-4, "dtype": "float64"}
LAYERS = {"layers": (6,), "n": 40, "test": 100, "round_steps": 20, "batch": 10, "rate": 0.02, "share": 0.3}
LAYERS |= {"dtype": "float64"}


@pytest.fixture
def one_thread(monkeypatch):
    """PyTorch on one thread: several wait for one another on a busy machine."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)


@pytest.fixture(scope="module")
def phase():
    """A tiny phase map, and errors and steps of its cells: some succeed, some do not."""
    axes = (Axis("support", (3, 6)), Axis("n", (4, 40)))
    with jax.numpy_dtype_promotion("standard"):
        work = make_work("teacher_student", Schedule(0, 200, 200), (0,), axes, SMALL)
        return students(work), loop(work, stopping)()


def test_numpy_descends_as_the_engine_does(phase):
    tasks, ours = phase
    np.testing.assert_allclose([numpy_student(task) for task in tasks], ours, rtol=1e-7)
    assert [len(task.y) for task in tasks] == [4, 4, 40, 40]
    assert {True, False} == set(ours[:, 0] <= 1e-4)


def test_pytorch_descends_as_the_engine_does(phase, one_thread):
    tasks, ours = phase
    np.testing.assert_allclose([torch_student(task) for task in tasks[1:3]], ours[1:3], rtol=1e-7)


def test_a_descent_ends_at_its_tolerance(phase):
    task = phase[0][0]
    assert numpy_student(task._replace(tolerance=1e6)) == (pytest.approx(0.1, rel=1e-6), 0)


def test_rounds_are_those_that_leave_the_share_kept():
    assert [rounds_to(kept, 0.2) for kept in (0.95, 0.8, 0.64, 0.107)] == [1, 1, 2, 10]


def test_results_that_differ_are_told(phase):
    _, ours = phase
    assert tickets._same_students(ours, ours).startswith("agrees")
    assert tickets._same_students(ours * [1.01, 1], ours).startswith("DISAGREES")
    assert tickets._same_students(ours + np.asarray([0, 20]), ours).startswith("DISAGREES")
    assert tickets._same_tickets(ours + np.asarray([0.03, 0]), ours).startswith("DISAGREES")


def test_the_faster_number_of_threads_is_chosen_once(one_thread):
    calls = []
    work = on_best_threads(lambda: calls.append("work") or 3, lambda: calls.append("trial"))
    assert [work(), work()] == [3, 3]
    assert calls[-2:] == ["work", "work"]
    assert calls[0] == "trial"


@pytest.fixture
def tiny(monkeypatch):
    """Sizes of both workloads at which compiling takes longest; loops of jitted cells that find something else."""
    monkeypatch.setattr(tickets, "loop", lambda work, *_: lambda: np.full((len(work.part), 2), 0.3))
    sizes = {"MAP_SEEDS": (0, 1), "MAP_SUPPORTS": (3,), "MAP_SAMPLES": (4, 40), "MAP_STEPS": 200, "MAP_SIZE": SMALL}
    sizes |= {"TICKET_SEEDS": (0,), "TICKET_KEPT": (0.7, 0.343), "TICKET_STEPS": 40, "TICKET_SIZE": LAYERS}
    for name, value in (sizes | {"PRODUCT_FLOPS": 1e4}).items():
        monkeypatch.setattr(bench, name, value)
    with jax.numpy_dtype_promotion("standard"):
        yield


def test_convolutions_by_products_and_by_xla_take_the_same_steps(monkeypatch):
    for name, value in {"CONVOLUTIONS": 2, "CONVOLUTION_ROWS": 4, "CONVOLUTION_STEPS": 2}.items():
        monkeypatch.setattr(bench, name, value)
    ours, theirs = convolutions()
    assert theirs["note"].startswith("agrees")
    assert theirs["ratio"] == pytest.approx(theirs["seconds"] / ours["seconds"])


@pytest.mark.slow
def test_a_phase_map_and_its_baselines(monkeypatch, tiny):
    monkeypatch.setitem(sys.modules, "torch", None)
    ours, *baselines, absent = tickets.phase_map()
    assert ours["name"] == "phase map, 4 cells, d = 12, K = 2"
    assert ours["ratio"] > 0
    assert [row["name"].split(",")[0] for row in baselines] == ["JAX", "JAX", "JAX", "JAX", "NumPy", "NumPy"]
    baselines, compiled = baselines[::2], baselines[1::2]
    assert all(row["name"].endswith(", with compiling") for row in compiled)
    assert all(one["seconds"] >= row["seconds"] for one, row in zip(compiled, baselines, strict=True))
    assert compiled[-1]["note"].startswith("0 s to compile")
    told = [row["note"].split(" cells")[0] for row in baselines]
    assert told == ["DISAGREES with the engine in 2"] * 2 + ["agrees with the engine in 2"]
    assert all(row["ratio"] == pytest.approx(row["seconds"] / ours["seconds"]) for row in baselines)
    assert (absent["seconds"], absent["note"]) == (None, "absent: pip install torch")


@pytest.mark.slow
def test_iterative_pruning_and_its_baselines(monkeypatch, tiny, one_thread):
    """The engine's place is taken by single cells, whose programs compile sooner."""
    names = ("error", "loss", "steps_train", "steps_fine_tune")

    def one_by_one(*given: Any) -> Work:
        work = make_work(*given)
        found = loop(work, stopping, names)()
        results = {name: column[None] for name, column in zip(names, found.T, strict=True)}
        program: Any = SimpleNamespace(plan=work.program.plan, run=lambda chunk: results)
        return work._replace(program=program)

    monkeypatch.setattr(tickets, "make_work", one_by_one)
    monkeypatch.setattr(tickets, "AGREE_TESTS", 1e-9)
    ours, alone, _, eager, _, shared, _ = tickets.iterative()
    assert "64-6-10 on 40 digits, batch 10, 60 to 100 steps" in ours["note"]
    assert alone["note"].startswith("DISAGREES")
    assert eager["note"].startswith("agrees with the engine in 2 cells")
    mean, each = eager["note"].split("losses to ")[1].split(";")[0].split(" in the mean, ")
    assert float(mean) <= float(each.removesuffix(" in each")) < 1e-6
    assert shared["note"].startswith("agrees with the engine in 2 cells")
    assert eager["ratio"] == pytest.approx(eager["seconds"] / ours["seconds"])
