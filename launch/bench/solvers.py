"""Other packages that recover one low-rank matrix: cvxpy by the least trace norm, pymanopt at the known rank.

``y = A(M) + noise`` with M (dim, dim) positive semidefinite. Solvers work in float64 with their default accuracy and
return the matrix.
"""

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from launch.bench.rows import Absent, once, optional
from launch.bench.workload import Problem, Workload, draw

LIMIT = 30.0


class Task(NamedTuple):
    """One problem: A_i (n, dim, dim) and y (n,) in float64, the noise level, and the truth (dim, dim) with its rank."""

    matrices: np.ndarray
    values: np.ndarray
    noise: float
    rank: int
    truth: np.ndarray


class Answer(NamedTuple):
    """The matrix found, the seconds it took (packages imported before), and the status that the solver reports."""

    matrix: np.ndarray
    seconds: float
    status: str = ""


def external(task: Task) -> Iterator[tuple[str, Answer | Absent, str]]:
    """Yields for every solver its name, its answer or Absent, and a note on what it is given."""
    for name, (solve, note) in SOLVERS.items():
        try:
            yield name, solve(task), note
        except Absent as absent:
            yield name, absent, note


def make_task(dim: int, rank: int, n: int, noise: float, seed: int = 0) -> Task:
    """Gaussian measurements, values and truth of a seed by gpsense's sampler; in float64 where JAX has it enabled."""
    dtype = str(jax.dtypes.canonicalize_dtype("float64"))
    problem: Problem = draw(Workload(dim, rank, n, (seed,), rank=rank, noise=noise, dtype=dtype))[0]
    matrices, values, truth = (part.astype(np.float64) for part in (problem.matrices, problem.values, problem.truth))
    return Task(matrices, values, noise, rank, truth)


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
        warnings.simplefilter("ignore")  # the status tells of an inaccurate solution
        _, seconds = once(lambda: problem.solve(solver=solver, **settings))
    found = np.full((dim, dim), np.nan) if matrix.value is None else matrix.value
    return Answer(found, seconds, problem.status)


def fixed_rank(task: Task) -> Answer:
    """Least squares over PSD matrices of the true rank by pymanopt's trust regions, with exact gradient and Hessian.

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
