"""Times baselines: preparation counts once per seed, and the seconds of some cells are scaled up to all."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from launch.bench.rows import once
from launch.bench.workload import Problem, Workload, relative_error

Cell = Callable[[float], np.ndarray]
Seed = Callable[[tuple[float, ...]], list[np.ndarray]]
CHECKED = (2, 4)


class Outcome(NamedTuple):
    """Seconds for the whole workload, and errors (seeds, penalties) on the part of it that was run to the end."""

    seconds: float
    part: Workload
    errors: np.ndarray
    note: str


Baseline = Callable[[Workload, list[Problem]], Outcome]


def errors(factors: list[list[np.ndarray]], problems: list[Problem]) -> np.ndarray:
    """The relative errors (seeds, penalties) of ``factors``, lists over seeds and penalties."""
    pairs = zip(factors, problems, strict=False)
    return np.array([[relative_error(factor, problem) for factor in row] for row, problem in pairs])


def fastest(variants: dict[str, Baseline]) -> Baseline:
    """The fastest of several variants: three rounds of short trials choose two, of which the full run chooses."""

    def run(workload: Workload, problems: list[Problem]) -> Outcome:
        one = workload.part(1, len(workload.penalties))
        short = replace(one, train=min(30, workload.train), fine_tune=min(10, workload.fine_tune))
        rounds = [{name: baseline(short, problems).seconds for name, baseline in variants.items()} for _ in range(3)]
        leading = sorted(variants, key=lambda name: min(trial[name] for trial in rounds))[:2]
        outcomes = {name: variants[name](workload, problems) for name in leading}
        name = min(leading, key=lambda name: outcomes[name].seconds)
        outcome = outcomes[name]
        return outcome._replace(note=f"{name}, the fastest of {len(variants)} ways; {outcome.note}")

    return run


def cell_by_cell(prepare: Callable[[Workload, Problem], Cell]) -> Baseline:
    """A Python loop over cells, timed on a few of them; preparation is done and counted once per seed."""

    def run(workload: Workload, problems: list[Problem]) -> Outcome:
        part = workload.part(*CHECKED)
        prepare(part, problems[0])(part.penalties[0])
        preparing, running, factors = 0.0, 0.0, []
        for problem in problems[: len(part.seeds)]:
            cell, seconds = once(lambda problem=problem: prepare(part, problem))
            preparing += seconds
            results = [once(lambda cell=cell, penalty=penalty: cell(penalty)) for penalty in part.penalties]
            factors.append([factor for factor, _ in results])
            running += sum(seconds for _, seconds in results)
        total = preparing / len(part.seeds) * len(workload.seeds) + running / part.cells * workload.cells
        note = f"timed on {part.cells} cells and scaled"
        return Outcome(total, part, errors(factors, problems), note)

    return run


def seed_by_seed(prepare: Callable[[Workload, Problem], Seed]) -> Baseline:
    """A Python loop over seeds, all penalties of a seed at once, timed on a few seeds."""

    def run(workload: Workload, problems: list[Problem]) -> Outcome:
        part = workload.part(CHECKED[0], len(workload.penalties))
        short = replace(part, train=3, fine_tune=3)
        prepare(short, problems[0])(part.penalties)
        work = lambda problem: prepare(part, problem)(part.penalties)  # noqa: E731
        results = [once(lambda problem=problem: work(problem)) for problem in problems[: len(part.seeds)]]
        total = sum(seconds for _, seconds in results) / len(part.seeds) * len(workload.seeds)
        note = f"timed on {part.cells} cells and scaled"
        return Outcome(total, part, errors([factors for factors, _ in results], problems), note)

    return run
