"""Baselines in NumPy: a loop over cells, and the same loop spread over processes.

It imports NumPy but not JAX, so that the processes of the pool start quickly.
"""

import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from launch.bench.timing import Baseline, Cell, Outcome, cell_by_cell, errors, fastest
from launch.bench.workload import Problem, Workload

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def closed_form(workload: Workload, problem: Problem) -> Cell:
    """The cell as a function of the penalty: closed-form gradient by a packed Gram matrix, pruned columns deleted."""
    upper, place, gram, slope = packed_gram(problem)

    def gradient(factor: np.ndarray) -> np.ndarray:
        residual = (factor @ factor.T).ravel().take(upper) @ gram - slope
        return 4 * (residual.take(place) @ factor)

    def cell(penalty: float) -> np.ndarray:
        factor = problem.start
        for _ in range(workload.train):
            squares = (factor * factor).sum(0)
            shrink = (squares + 2 * workload.smoothing) / (squares + workload.smoothing) ** 1.5
            factor = factor * (1 - workload.rate * penalty * shrink) - workload.rate * gradient(factor)
        factor = factor[:, np.sqrt((factor * factor).sum(0)) > workload.threshold]
        for _ in range(workload.fine_tune):
            factor = factor - workload.rate * gradient(factor)
        return factor

    return cell


def packed_gram(problem: Problem) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Flat positions of the upper triangle (D,), each entry's place in it (dim, dim), and G (D, D), b (D,) such that
    ``upper(X) @ G - b`` is the upper triangle of ``(1/n) A*(A(X) - y)``."""
    n, dim, _ = problem.matrices.shape
    rows, columns = np.triu_indices(dim)
    upper, place = rows * dim + columns, np.zeros((dim, dim), np.intp)
    place[rows, columns] = place[columns, rows] = np.arange(rows.size)
    packed = problem.matrices.reshape(n, -1)[:, upper]
    twice = packed * np.where(rows == columns, 1, 2).astype(np.float32)
    return upper, place, twice.T @ packed / np.float32(n), problem.values @ packed / np.float32(n)


def over_processes(most: int) -> Baseline:
    """The loop spread over at most ``most`` processes of one thread and one seed each; their start is not counted."""

    def run(workload: Workload, problems: list[Problem]) -> Outcome:
        count = min(most, len(workload.seeds))
        part = workload.part(count, len(workload.penalties))
        with _one_thread_each(), multiprocessing.get_context("spawn").Pool(count) as pool:
            pool.map(_seed, [(workload.part(1, 1), problems[0])] * count, chunksize=1)
            begun = time.perf_counter()
            factors = pool.map(_seed, [(part, problem) for problem in problems[:count]], chunksize=1)
            seconds = time.perf_counter() - begun
        note = f"{count} x 1 thread, starting the processes not counted; timed on {part.cells} cells and scaled"
        return Outcome(seconds / count * len(workload.seeds), part, errors(factors, problems), note)

    return run


def _seed(task: tuple[Workload, Problem]) -> list[np.ndarray]:
    workload, problem = task
    cell = closed_form(workload, problem)
    return [cell(penalty) for penalty in workload.penalties]


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """A context in which new processes use one thread for their matrix products."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


loop = fastest({"NumPy's default threads": cell_by_cell(closed_form), "one thread": over_processes(1)})
processes = over_processes(os.cpu_count() or 1)
