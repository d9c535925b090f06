"""Other ways to recover one low-rank matrix: the trace norm by cvxpy, a known rank by pymanopt, gpsense's own recover.

``y = A(M) + noise`` with M (dim, dim) positive semidefinite; solvers work in float64 as they come, at their default
accuracy, and return the matrix.
"""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from launch import bench
from launch.bench.rows import Absent, Row, make_row, once, optional
from launch.bench.workload import Problem, Workload, draw

LIMIT = 120.0


class Task(NamedTuple):
    """A_i (n, dim, dim) and y (n,) in float64, the noise level and the rank of the truth (dim, dim)."""

    matrices: np.ndarray
    values: np.ndarray
    noise: float
    rank: int
    truth: np.ndarray


class Answer(NamedTuple):
    """The matrix found, the seconds it took (packages imported before), and what the solver says of it."""

    matrix: np.ndarray
    seconds: float
    status: str = ""


def solvers() -> list[Row]:
    """A row for each way, without noise and with it; ratios are its seconds over those of gpsense's recover."""
    rows = []
    for noise in (0.0, bench.SOLVE_NOISE):
        task, ours = make_task(bench.SOLVE_DIM, bench.SOLVE_RANK, bench.SOLVE_MEASUREMENTS, noise), None
        for name, (solve, note) in SOLVERS.items():
            name = f"{name}, d = {bench.SOLVE_DIM}, rank {task.rank}, n = {len(task.values)}, noise {noise:g}"
            try:
                answer = solve(task)
            except Absent as absent:
                rows.append(make_row("solvers", name, None, str(absent)))
                continue
            ours = answer.seconds if ours is None else ours
            error = np.linalg.norm(answer.matrix - task.truth) / np.linalg.norm(task.truth)
            note = "; ".join(part for part in (f"error {error:.2g}", answer.status, note) if part)
            rows.append(make_row("solvers", name, answer.seconds, note, ratio=answer.seconds / ours))
    return rows


def make_task(dim: int, rank: int, n: int, noise: float) -> Task:
    """Gaussian measurements of seed 0 by gpsense's sampler, values and noise in float64."""
    problem: Problem = draw(Workload(dim, rank, n, (0,), rank=rank, noise=0.0))[0]
    matrices, truth = problem.matrices.astype(np.float64), problem.truth.astype(np.float64)
    errors = noise * np.random.default_rng(0).standard_normal(n)
    return Task(matrices, matrices.reshape(n, -1) @ truth.ravel() + errors, noise, rank, truth)


def recover(task: Task) -> Answer:
    """gpsense's recover, in float32."""
    import jax.numpy as jnp

    import gpsense
    from gpsense.measurements import dense_measurements

    measurements = dense_measurements(jnp.asarray(task.matrices, jnp.float32))
    found, seconds = once(lambda: gpsense.recover(measurements, jnp.asarray(task.values, jnp.float32)))
    return Answer(found.factor @ found.factor.T, seconds, f"rank {found.rank} found")


def trace_norm(task: Task, solver: str, **settings: Any) -> Answer:
    """``min tr X`` over PSD X with ``A(X) = y``, or ``||A(X) - y|| <= sigma sqrt(n)`` under noise, by cvxpy.

    Raises Absent where cvxpy or the solver is not installed.
    """
    cvxpy = optional("cvxpy")
    optional(solver.lower())
    n, dim, _ = task.matrices.shape
    matrix = cvxpy.Variable((dim, dim), PSD=True)
    misfit = task.matrices.reshape(n, -1) @ cvxpy.vec(matrix, order="C") - task.values
    fits = cvxpy.norm(misfit) <= task.noise * n**0.5 if task.noise else misfit == 0
    problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.trace(matrix)), [fits])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an inaccurate end shows in the status
        _, seconds = once(lambda: problem.solve(solver=solver, **settings))
    found = np.full((dim, dim), np.nan) if matrix.value is None else matrix.value
    return Answer(found, seconds, problem.status)


def fixed_rank(task: Task) -> Answer:
    """Least squares over PSD matrices of the true rank by pymanopt's trust regions, gradient and Hessian given.

    Starts from the leading eigenpairs of ``A*(y)/n``. Raises Absent where pymanopt is not installed.
    """
    pymanopt = optional("pymanopt")
    n, dim, _ = task.matrices.shape
    rows = task.matrices.reshape(n, -1)
    forward = lambda matrix: rows @ matrix.ravel()  # noqa: E731
    adjoint = lambda values: (values @ rows).reshape(dim, dim)  # noqa: E731
    manifold = pymanopt.manifolds.PSDFixedRank(dim, task.rank)
    on = pymanopt.function.numpy(manifold)

    def gradient(y: np.ndarray) -> np.ndarray:
        return 4 / n * adjoint(forward(y @ y.T) - task.values) @ y

    def hessian(y: np.ndarray, move: np.ndarray) -> np.ndarray:
        turn = forward(y @ move.T + move @ y.T)
        return 4 / n * (adjoint(turn) @ y + adjoint(forward(y @ y.T) - task.values) @ move)

    cost = on(lambda y: np.mean((forward(y @ y.T) - task.values) ** 2))
    problem = pymanopt.Problem(manifold, cost, euclidean_gradient=on(gradient), euclidean_hessian=on(hessian))
    eigenvalues, vectors = np.linalg.eigh(adjoint(task.values) / n)
    start = vectors[:, -task.rank :] * np.sqrt(np.maximum(eigenvalues[-task.rank :], 1e-6))
    optimizer = pymanopt.optimizers.TrustRegions(verbosity=0, max_time=LIMIT)
    result, seconds = once(lambda: optimizer.run(problem, initial_point=start))
    return Answer(result.point @ result.point.T, seconds)


SOLVERS: dict[str, tuple[Callable[[Task], Answer], str]] = {
    "gpsense.recover": (recover, "rank and noise unknown, compilation counted"),
    "pymanopt, fixed rank": (fixed_rank, "true rank known"),
    "cvxpy, trace norm, SCS": (
        partial(trace_norm, solver="SCS", time_limit_secs=LIMIT),
        f"noise level known; SCS at its default accuracy, at most {LIMIT:.0f} s",
    ),
    "cvxpy, trace norm, Clarabel": (
        partial(trace_norm, solver="CLARABEL", time_limit=LIMIT),
        f"noise level known; Clarabel at its default accuracy, at most {LIMIT:.0f} s",
    ),
}
