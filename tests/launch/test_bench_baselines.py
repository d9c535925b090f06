"""What is measured against the engine does the engine's work; a package that is absent is named."""

import sys

import jax
import numpy as np
import pytest

from launch.bench import baselines, rows, solvers
from launch.bench.workload import Workload, draw, relative_error, run_engine

WORK = Workload(6, 4, 40, seeds=(0, 1), penalties=(0.05, 0.2, 2.0), train=20, fine_tune=10, rate=0.03)


@pytest.fixture(scope="module")
def drawn():
    """The problems of a tiny workload and the engine's answer."""
    with jax.numpy_dtype_promotion("standard"):
        return draw(WORK), run_engine(WORK)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if "autograd" in name else ()) for name in baselines.BASELINES],
)
def test_a_baseline_ends_at_the_engines_errors(name, drawn, monkeypatch):
    problems, engine = drawn
    if name.startswith("PyTorch"):
        torch = pytest.importorskip("torch")
        torch.set_num_threads(1)  # several threads wait for one another on a busy machine
        monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    with jax.numpy_dtype_promotion("standard"):
        outcome = baselines.BASELINES[name](WORK, problems)
    columns = [WORK.penalties.index(penalty) for penalty in outcome.part.penalties]
    np.testing.assert_allclose(outcome.errors, engine.errors[: len(outcome.part.seeds), columns], rtol=1e-4)
    assert baselines.agreement(WORK, engine, outcome).startswith("agrees")
    wrong = outcome._replace(errors=outcome.errors * 1.01)
    assert baselines.agreement(WORK, engine, wrong).startswith("DISAGREES")


def test_the_workload_prunes_some_columns_here_and_all_there(drawn):
    _, engine = drawn
    assert (engine.errors[:, -1] == 1).all()
    assert (engine.errors[:, 0] != 1).all()


def test_a_part_keeps_the_ends_of_the_penalties():
    part = WORK.part(1, 2)
    assert (part.seeds, part.penalties) == ((0,), (0.05, 2.0))


def test_an_absent_package_is_a_row_that_names_it(monkeypatch, drawn):
    monkeypatch.setitem(sys.modules, "torch", None)
    torch = {name: baseline for name, baseline in baselines.BASELINES.items() if name.startswith("PyTorch")}
    monkeypatch.setattr(baselines, "draw", lambda workload: drawn[0])
    monkeypatch.setattr(baselines, "run_engine", lambda workload: drawn[1]._replace(again=lambda: 1.0))
    _, *absent = baselines.compare("grid", WORK, torch, baselines.TARGETS)
    assert [row["note"] for row in absent] == ["absent: pip install torch"] * len(torch)
    assert all(row["seconds"] is None for row in absent)
    assert "absent: pip install torch" in rows.text(absent)


@pytest.mark.parametrize(
    ("name", "package"),
    [("cvxpy, trace norm, SCS", "scs"), ("cvxpy, trace norm, SCS", "cvxpy"), ("pymanopt, fixed rank", "pymanopt")],
)
def test_an_absent_solver_is_named(monkeypatch, name, package):
    if package == "scs":
        pytest.importorskip("cvxpy")
    monkeypatch.setitem(sys.modules, package, None)
    task = solvers.Task(np.zeros((5, 3, 3)), np.zeros(5), 0.0, 1, np.zeros((3, 3)))
    with pytest.raises(rows.Absent, match=f"absent: pip install {package}"):
        solvers.SOLVERS[name][0](task)


def test_a_solver_that_is_absent_is_told_among_the_others(monkeypatch):
    monkeypatch.setitem(sys.modules, "pymanopt", None)
    monkeypatch.setattr(solvers, "SOLVERS", {"pymanopt": solvers.SOLVERS["pymanopt, fixed rank"]})
    task = solvers.Task(np.zeros((5, 3, 3)), np.zeros(5), 0.0, 1, np.zeros((3, 3)))
    [(name, answer, _)] = solvers.external(task)
    assert (name, str(answer)) == ("pymanopt", "absent: pip install pymanopt")


@pytest.fixture(scope="module")
def task():
    """A matrix of rank one to recover from noisy measurements."""
    return solvers.make_task(5, 1, 14, 0.01)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("noise", [0.0, 0.01])
@pytest.mark.parametrize("name", solvers.SOLVERS)
def test_a_solver_recovers_a_small_matrix(name, noise, task):
    pytest.importorskip(name.split(",")[0])
    if not noise:
        task = task._replace(noise=0.0, values=task.matrices.reshape(14, 25) @ task.truth.ravel())
    try:
        answer = solvers.SOLVERS[name][0](task)
    except rows.Absent as absent:
        pytest.skip(str(absent))
    assert np.linalg.norm(answer.matrix - task.truth) < (0.05 if noise else 1e-3)
    assert answer.seconds > 0


def test_the_relative_error_is_that_of_the_product(drawn):
    problem = drawn[0][0]
    assert relative_error(np.zeros((6, 0), np.float32), problem) == 1
    eigenvalues, vectors = np.linalg.eigh(problem.truth)
    assert relative_error(vectors[:, -2:] * np.sqrt(eigenvalues[-2:]), problem) < 1e-5
