"""The benchmark runs the same work on both sides and writes what its readers rely on; every group at a tiny size."""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import gpsense
from gpsense.grid import Axis, Grid
from gpsense.pipeline import Schedule
from gpsense.systems.sensing import Sensing
from launch import bench, device
from launch.bench import __main__ as command
from launch.bench import (
    baselines,
    child,
    engine,
    machine,
    recovery,
    recovery_baselines,
    scale,
    sparse,
    sparse_baselines,
    start,
    stopping,
    table_baselines,
    trial,
)
from launch.bench import compile as compiling
from launch.bench.workload import Workload, compiled, needed_flops
from tests.systems.least import LeastSquares

TINY = Workload(5, 4, 20, (0, 1), (0.05, 0.2, 0.3), train=20, fine_tune=20, record_every=10, form="gram")


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Sizes at which a group takes seconds; the process keeps the tests' precision, its promotion is the commands'."""
    monkeypatch.setattr(device, "configure", lambda precision: None)
    sizes = {"SEEDS": 2, "PENALTIES": 3, "LISTED": (0.05, 0.2, 0.3), "DIM": 5, "MEASUREMENTS": 20}
    sizes |= {"TRAIN": 20, "FINE_TUNE": 10, "FLAT_STEPS": 2, "PRODUCT_FLOPS": 1e4, "SQUARE": 16}
    sizes |= {"ENGINE": ((TINY, 0.7),), "OTHER_SIZES": ((TINY, (60.0, 1.5)),)}
    sizes |= {"STOP": replace(TINY, train=200), "STOP_CELLS": 4, "STOP_RATES": (0.01, 0.1), "STOP_TIMED": 40}
    sizes |= {"SCALE_CELLS": (4,), "SCALE_SETTINGS": 2, "SCALE_SIZE": TINY}
    sizes |= {"SOLVE_DIM": 6, "SOLVE_RANK": 1, "SOLVE_MEASUREMENTS": 40, "SOLVE_WIDTH": 3, "SOLVE_STEPS": 800}
    few = sparse_baselines.Size(700, 8, 2)
    sizes |= {"PRUNE": few, "PRUNE_POOL": 3, "STREAM": few, "STREAM_COUNTS": (700, 70_000), "STEP": few}
    sizes |= {"SPARSE_SEEDS": (0, 1), "SPARSE_CONTRACTIONS": (0.4, 0.6)}
    sizes |= {"SPARSE_SIZE": {"dim": 12, "sparsity": 2, "n": 700, "pool": 3, "neurons": 3, "test": 640}}
    for name, value in (sizes | {"SOLVE_SEEDS": 1, "TABLE_SHAPE": (14, 16), "TABLE_RANK": 1, "TABLE_SEEDS": 1}).items():
        monkeypatch.setattr(bench, name, value)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def ratios(rows: list[dict]) -> list[float]:
    """The ratios, all finite."""
    found = [row["ratio"] for row in rows if row["ratio"] is not None]
    assert np.isfinite(found).all()
    assert all(ratio > 0 for ratio in found)
    return found


@pytest.mark.slow
def test_the_table_has_its_columns(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(baselines, "BASELINES", {baselines.FLAT: baselines.BASELINES[baselines.FLAT]})
    assert bench.main(["--out", str(tmp_path), "--group", "grid"]) == 0
    rows = json.loads((tmp_path / "bench.json").read_text())
    assert all(set(row) == {"group", "name", "seconds", "rate", "ratio", "target", "note"} for row in rows)
    flat = next(row for row in rows if "flat vmap" in row["name"])
    ours = next(row for row in rows if "engine" in row["name"])
    assert flat["ratio"] == pytest.approx(flat["seconds"] / ours["seconds"])
    assert flat["target"] == 40
    assert "ratio" in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_to_is_refused(capsys):
    assert bench.main(["--out", "/proc/none"]) == 2
    assert capsys.readouterr().err.startswith("error: --out: /proc/none cannot be written to")


def test_one_run_measures_every_group_once(monkeypatch, tmp_path):
    monkeypatch.setattr(command, "measured", lambda name: [{"group": name}])
    monkeypatch.setattr(command, "apart", lambda name: [{"group": name, "apart": True}])
    monkeypatch.setattr(command, "text", str)
    assert bench.main(["--out", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "bench.json").read_text())
    assert [row["group"] for row in rows] == list(command.GROUPS)
    assert [row["group"] for row in rows if "apart" in row] == ["recovery"]


def test_what_other_groups_measured_is_kept_where_one_fails(monkeypatch, tmp_path, capsys):
    def fails(name: str) -> list[dict]:
        if name == "grid":
            raise TypeError("no such field")
        return [{"group": name}]

    monkeypatch.setattr(command, "measured", fails)
    monkeypatch.setattr(command, "apart", fails)
    monkeypatch.setattr(command, "text", str)
    assert bench.main(["--out", str(tmp_path)]) == 1
    rows = json.loads((tmp_path / "bench.json").read_text())
    assert [row["group"] for row in rows] == [name for name in command.GROUPS if name != "grid"]
    assert "group grid failed" in capsys.readouterr().err


def test_a_group_of_another_precision_comes_back_from_its_own_process(monkeypatch):
    def told(code: list[str], **environment: str) -> str:
        assert code[:4] == ["-m", "launch.bench", "--group", "recovery"]
        with open(f"{code[-1]}/bench.json", "w") as file:
            json.dump([{"ratio": 2.0}], file)
        return ""

    monkeypatch.setattr(command, "child", told)
    assert command.apart("recovery") == [{"ratio": 2.0}]


def test_products_are_measured_from_both_sides_and_on_all_devices():
    rows = machine.machine()
    assert [row["name"].split(",")[0] for row in rows] == [
        "matrix product of (16 x 16) with 16 vectors",
        "matrix product of (15 x 15) with 3 vectors",
    ]
    assert all(row["rate"] > 0 for row in rows)
    ways = [rate.way for rate in machine.product_rates(3, 4)]
    count = len({1, jax.device_count()})
    assert sum(way.startswith("H x") for way in ways) == sum(way.startswith("x H") for way in ways) == count


def test_the_fastest_way_is_the_fastest_in_the_middle_round():
    rates = lambda *values: [machine.Rate(str(way), 1.0, value) for way, value in enumerate(values)]  # noqa: E731
    assert machine.fastest(rates(1, 2), rates(9, 3), rates(1, 4)).way == "1"


@pytest.mark.slow
def test_the_engine_is_measured_against_products():
    rows = engine.engine()
    assert [(row["name"], row["target"]) for row in rows] == [("engine, d = 5, k = 4, 3 settings", 0.7)]
    assert len(ratios(rows)) == 1


def test_only_operations_of_steps_taken_at_the_width_kept_count():
    results = {"rank": np.array([[1.0, 3.0]]), "steps_train": np.array([[10, 20]])}
    results["steps_fine_tune"] = np.array([[5, 0]])
    workload = Workload(5, 5, 1000)
    assert needed_flops(workload, results) == 30 * (2 * 15**2 + 4 * 25 * 5) + 5 * (2 * 15**2 + 4 * 25 * 4)
    assert needed_flops(replace(workload, n=2), results) == 30 * (8 * 15 + 500) + 5 * (8 * 15 + 400)


@pytest.mark.slow
def test_stopped_cells_say_how_many_steps_they_took():
    (row,) = stopping.stopping()
    assert row["target"] == 4
    assert "steps, " in row["note"]
    assert len(ratios([row])) == 1


@pytest.mark.slow
def test_scale_rows(monkeypatch):
    told = '{"predicted": 120, "measured": 100, "seconds": 1.0}\n'
    monkeypatch.setattr(scale, "child", lambda code: told)
    rows = scale.scale()
    names = ["4 small cells", "plan of 4 cells", "predicted memory of a large chunk"]
    assert [row["name"] for row in rows] == names
    assert ratios(rows)[-1] == 1.2
    assert rows[1]["target"] == 1


@pytest.mark.slow
def test_memory_of_a_chunk_is_measured():
    if not scale.STATM.exists():
        pytest.skip("no /proc")
    found = scale.measure_memory(TINY)
    assert found["predicted"] > 0
    assert found["measured"] >= 0


def test_the_first_chunk_is_timed(monkeypatch):
    def run(code: list[str], **environment: str) -> str:
        out = code[code.index("--out") + 1]
        (scale.Path(out) / "chunks").mkdir(parents=True)
        (scale.Path(out) / "chunks" / "0.chunk").write_text("")
        return ""

    monkeypatch.setattr(start, "child", run)
    rows = start.start()
    assert [row["name"] for row in rows] == ["first chunk, empty cache", "first chunk, filled cache"]


def test_compiling_is_measured_and_the_naive_program_agrees(monkeypatch):
    axes = (Axis("noise", (0.0, 0.3)), Axis("penalty", (0.05, 0.2)), Axis("rule", ("threshold", "top_r")))
    system = Sensing(dim=6, n=30, width=4, dtype="float64", curvature_steps=0)
    grid = Grid(system, Schedule(40, 20, 20), 3, axes[:2], {"rate": 0.03})
    ours, naive = compiling.engine(grid), compiling.naive(grid)
    np.testing.assert_allclose(ours["error"], naive["error"], rtol=1e-8)
    least = LeastSquares(dim=6, dtype="float64", optimizer="gd")
    two = Grid(least, grid.schedule, 3, (axes[0], axes[2]), {"rate": 0.03})
    planned, full = compiling.planned(two), compiling.full(two)
    assert (planned["programs"], full["programs"], full["traced"]) == (2, 2, 14)
    assert planned["traced"] < full["traced"]
    told = {"engine": ours, "naive": naive, "planned": planned, "full": full}
    monkeypatch.setattr(compiling, "child", lambda code, **_: json.dumps(told[code[1].split("'")[1]]))
    rows = compiling.compile()
    assert [row["name"] for row in rows[1:]] == [f"programs of {name}" for name in bench.COMPILE_CONFIGS]
    assert rows[0]["ratio"] == pytest.approx(naive["seconds"] / ours["seconds"])
    assert "agree" in rows[0]["note"]


def test_every_config_that_is_compiled_is_there():
    assert all(compiling.grid_of(name).system for name in bench.COMPILE_CONFIGS)


def test_sparse_pruning_is_the_baselines_and_absent_packages_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    rows = sparse.pruning(bench.PRUNE)
    assert [row["name"].split(",")[:2] for row in rows[1:]] == [
        ["pruning", " share of products"],
        ["pruning", " NumPy"],
        ["pruning", " PyTorch"],
    ]
    assert rows[0]["ratio"] == pytest.approx(bench.PRUNE_SECONDS / rows[0]["seconds"])
    assert rows[2]["note"].startswith("agrees")
    assert (rows[3]["seconds"], rows[3]["note"]) == (None, "absent: pip install torch")
    assert len(ratios(rows)) == 3


def test_baselines_of_sparse_pruning_agree_and_a_wrong_one_is_told():
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal(shape).astype(np.float32) for shape in ((300, 9), (300,)))
    task = sparse_baselines.Pruning(x, y, np.asarray([0.3, -0.7], np.float32), 2)
    ours = sparse_baselines.numpy_prune(task)
    assert sparse.agreement((ours[0] * 1.01, ours[1]), ours).startswith("DISAGREES")
    assert sparse.agreement((ours[0], ~ours[1]), ours).startswith("DISAGREES")
    pytest.importorskip("torch")
    assert sparse.agreement(sparse_baselines.torch_prune(task), ours).startswith("agrees")


def test_a_stream_takes_the_same_bytes_whatever_its_length():
    row = sparse.streaming(bench.STREAM)
    assert (row["ratio"], row["target"]) == (1.0, 1.0)
    assert "n = 70,000, d = 8" in row["name"]


@pytest.mark.slow
def test_a_step_and_a_grid_of_sparse_features():
    rows = [*sparse.one_step(bench.STEP), *sparse.cells()]
    assert len(rows) == 6
    assert "samples a second" in rows[0]["note"]
    assert rows[-1]["note"].startswith("agrees")
    assert len(ratios(rows)) == 3 + (find_spec("torch") is not None)


def test_a_child_that_fails_is_told():
    assert child.child(["-c", "print(3)"]).strip() == "3"
    with pytest.raises(RuntimeError, match="ended with 3"):
        child.child(["-c", "import sys; sys.exit(3)"])


@pytest.fixture
def few_baselines(monkeypatch):
    """Three baselines with the first of every list of values they try, and no other packages."""
    first = lambda tried: {name: values[:1] for name, values in tried.items()}  # noqa: E731
    chosen = [
        baseline for baseline in recovery_baselines.TUNED if baseline.method in ("prec_gd", "small_start", "spectral")
    ]
    few = tuple(
        baseline._replace(noiseless=first(baseline.noiseless), noisy=first(baseline.noisy)) for baseline in chosen
    )
    monkeypatch.setattr(recovery, "TUNED", few)
    monkeypatch.setattr(recovery, "external", lambda task: iter(()))


@pytest.mark.slow
def test_recovery_rows(few_baselines):
    rows = recovery.noiseless() + recovery.noisy()
    ours = [row for row in rows if row["name"].startswith("gpsense.recover")]
    assert [row["target"] for row in ours] == [None, 2.0, 1 / 1.05]
    assert len(rows) == 3 * 4 + 1
    assert len(ratios(rows)) == len(rows)
    lean = rows[9]
    assert lean["name"].startswith("the leanest run, rank known")
    assert lean["ratio"] == pytest.approx(lean["seconds"] / ours[2]["seconds"])
    assert ours[1]["ratio"] == pytest.approx(min(row["seconds"] for row in rows[5:7]) / ours[1]["seconds"])
    assert "nothing tuned" in ours[1]["note"]


def test_the_trial_is_told_in_one_row(monkeypatch):
    monkeypatch.setattr(bench, "TRIAL_SEEDS", 5)
    row = trial.trial_row()
    assert "5 random problems" in row["name"]
    assert re.match(r"rank right in [\d.]+ of \d where .*: median [\d.]+, at most 1.25 in [\d.]+;", row["note"])
    assert row["ratio"] == pytest.approx(np.median(trial.trial(range(5)).ratios))


def test_an_error_above_the_accuracy_is_told(monkeypatch):
    found = SimpleNamespace(factor=np.ones((6, 1)), rank=1)
    monkeypatch.setattr(gpsense, "recover", lambda measurements, values: found)
    seconds, note = recovery._recover_to([recovery._problem(recovery._tasks(0.0)[0])], 1e-3)
    assert seconds > 0
    assert "NOT below the accuracy" in note


@pytest.mark.slow
def test_tables_are_compared_by_their_errors(monkeypatch):
    few = {name: table_baselines.TABLE_BASELINES[name] for name in ("GNMR", "small start")}
    monkeypatch.setattr(recovery, "TABLE_BASELINES", few)
    rows = recovery.tables()
    assert [row["name"].split(",")[0] for row in rows] == ["gpsense.recover", *few] * len(bench.TABLE_CASES)
    assert len(ratios(rows)) == len(rows)
    assert rows[0]["ratio"] == min(row["ratio"] for row in rows[1:3])


@pytest.mark.parametrize("name", ["GNMR", "MatrixIRLS"])
def test_baselines_of_tables_recover_an_easy_one(name):
    task = table_baselines.make_task((14, 16), 2, 2.0, 3.0, 0.0, 0)
    x = table_baselines.TABLE_BASELINES[name][0](task)
    assert np.linalg.norm(x - task.truth) < 1e-6 * np.linalg.norm(task.truth)


def test_those_that_hold_out_come_near():
    task = table_baselines.make_task((14, 16), 1, 1.0, 5.0, 0.0, 0)
    for name in ("soft-impute", "small start"):
        x = table_baselines.TABLE_BASELINES[name][0](task)
        assert np.linalg.norm(x - task.truth) < 0.1 * np.linalg.norm(task.truth), name


def test_soft_impute_ends_at_the_optimum_of_its_penalty():
    """There the residual's singular values are at most the penalty, and equal to it along X."""
    task = table_baselines.make_task((10, 12), 2, 2.0, 2.0, 0.1, 0)
    penalty = 0.2 * np.linalg.norm(task.matrix(task.values), 2)
    x = table_baselines.shrunk(task, penalty, np.zeros((10, 12)), steps=5000, tolerance=1e-12)
    left, sizes, right = np.linalg.svd(x)
    rest = task.matrix(task.values - x[task.rows, task.cols])
    rank = int(np.sum(sizes > 1e-8 * sizes[0]))
    assert rank >= 1
    np.testing.assert_allclose(left[:, :rank].T @ rest @ right[:rank].T, penalty * np.eye(rank), atol=1e-6 * penalty)
    assert np.linalg.norm(rest, 2) <= penalty * (1 + 1e-6)


def test_a_baseline_is_timed_to_the_first_step_below_the_accuracy():
    assert recovery_baselines.needed(np.array([1.0, 0.1, 0.01, 0.2]), 0.1) == 1
    assert recovery_baselines.needed(np.array([1.0, np.nan]), 0.1) is None


def test_axes_of_a_workload_replace_its_constants():
    program, chunk = compiled(replace(TINY, penalties=(0.1,)), {"rate": (0.01, 0.02)}, tolerance=1.0)
    assert (chunk.outer_stop, chunk.inner_stop) == (2, 2)
    assert program.grid.constants["tolerance"] == 1.0
    assert "rate" not in program.grid.constants
