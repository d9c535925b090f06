"""One matrix of unknown rank: gpsense's recover against the baselines and other packages, in float64.

For positive semidefinite matrices from dense measurements it compares the time to reach an accuracy, without noise,
and the error, with noise; for tables with gaps and for many random problems, the error. Numbers are medians over
several problems, those of other packages are of one; compiling is not counted.
"""

import sys
from statistics import median
from typing import Any

import jax.numpy as jnp
import numpy as np

import gpsense
from gpsense.sensing.measurements import dense_measurements
from launch import bench
from launch.bench.recovery_baselines import TUNED, Problem, Tunable, Tuned, needed, seconds_to, tuned
from launch.bench.rows import Absent, Row, make_row, once, text
from launch.bench.solvers import Task, external, make_task
from launch.bench.table_baselines import TABLE_BASELINES
from launch.bench.table_baselines import make_task as make_table
from launch.bench.trial import trial_row

ACCURACIES = (1e-3, 1e-6)
FASTER, CLOSER = 2.0, 1 / 1.05
NEARLY, LEAN = 1.01, 0.25  # ratio of equal errors; target of the leanest run's time over recover's
EXACT = 1e-8
ORACLE, QUICK = "spectral", 1.0
KNOWN = {True: "rank known", False: "rank unknown"}


def recovery() -> list[Row]:
    """Rows: seconds to two accuracies without noise; errors with noise, on tables with gaps, on random problems."""
    rows = []
    for part in (noiseless, noisy, tables, lambda: [trial_row()]):
        measured = part()
        print(text(measured), file=sys.stderr)  # shows progress, as all parts together take long
        rows += measured
    return rows


def noiseless() -> list[Row]:
    """Rows: seconds to each accuracy; ratio: a baseline's seconds over recover's.

    In recover's own row, the baseline is the fastest of those that are not given the rank.
    """
    tasks = _tasks(0.0)
    problems = [_problem(task) for task in tasks]
    found = {baseline.method: tuned(baseline, problems, 0.0, ACCURACIES[-1]) for baseline in TUNED}
    rows, ours = [], 0.0
    for accuracy in ACCURACIES:
        ours, note = _recover_to(problems, accuracy)
        times = {
            baseline.method: _baseline_to(baseline, problems, found[baseline.method], accuracy) for baseline in TUNED
        }
        unknown = [times[baseline.method][0] for baseline in TUNED if not baseline.knows_rank]
        best = min((seconds for seconds in unknown if seconds is not None), default=None)
        target = FASTER if accuracy == ACCURACIES[-1] else None
        ratio = None if best is None else best / ours
        rows.append(_row("gpsense.recover, rank unknown", f"to {accuracy:g}", ours, note, ratio, target))
        for baseline in TUNED:
            seconds, note = times[baseline.method]
            ratio = None if seconds is None else seconds / ours
            rows.append(
                _row(f"{baseline.method}, {KNOWN[baseline.knows_rank]}", f"to {accuracy:g}", seconds, note, ratio)
            )
    for name, answer, note in external(tasks[0]):
        if isinstance(answer, Absent):
            rows.append(_row(name, "to its end", None, str(answer)))
            continue
        said = _solver_note(f"error {_error(answer.matrix, tasks[0].truth):.2g}", answer.status, note)
        rows.append(_row(name, "to its end", answer.seconds, said, answer.seconds / ours))
    return rows


def noisy() -> list[Row]:
    """Rows: errors under noise; ratio: the error of gradient descent at the known rank over the row's.

    In the row of recover's time the ratio is one of times, see :func:`_over_leanest`.
    """
    noise = bench.SOLVE_NOISE
    tasks = _tasks(noise)
    problems = [_problem(task) for task in tasks]
    found = {baseline.method: tuned(baseline, problems, noise, 0.0) for baseline in TUNED}
    oracle = median(float(errors[-1]) for errors in found[ORACLE].errors)
    where = f"noise {noise:g}"
    seconds, errors, ranks = _recover(problems)
    note = f"error {median(errors):.3g} (known rank {oracle:.3g}), ranks found {', '.join(map(str, ranks))}"
    ratio = oracle / median(errors)
    rows = [_row("gpsense.recover, rank unknown", where, seconds, note, ratio, CLOSER)]
    for baseline in TUNED:
        settings, curves = found[baseline.method]
        steps = [int(np.argmin(curve)) for curve in curves]
        last, best = median(float(curve[-1]) for curve in curves), median(float(curve.min()) for curve in curves)
        if baseline.method == ORACLE:
            best, steps = last, [baseline.steps] * len(curves)
        note = f"error {best:.3g} best on its path, {last:.3g} at the end of {baseline.steps} steps; {_told(settings)}"
        name = f"{baseline.method}, {KNOWN[baseline.knows_rank]}"
        rows.append(_row(name, where, seconds_to(baseline, problems, settings, steps), note, oracle / best))
    rows.insert(1, _over_leanest(problems, found, seconds, oracle))
    first = float(found[ORACLE].errors[0][-1])
    for name, answer, note in external(tasks[0]):
        if isinstance(answer, Absent):
            rows.append(_row(name, where, None, str(answer)))
            continue
        error = _error(answer.matrix, tasks[0].truth)
        said = _solver_note(f"error {error:.3g} (known rank {first:.3g})", answer.status, note)
        rows.append(_row(name, where, answer.seconds, said, first / error))
    return rows


def _over_leanest(problems: list[Problem], found: dict[str, Tuned], ours: float, oracle: float) -> Row:
    """Row: the fastest run given the rank, stopped within 1 % of its final error; ratio: its time over recover's."""
    times = {}
    for baseline in TUNED:
        settings, curves = found[baseline.method]
        steps = [needed(curve, NEARLY * float(curve[-1])) for curve in curves]
        if baseline.knows_rank and median(float(curve[-1]) for curve in curves) <= NEARLY * oracle:
            times[baseline.method] = seconds_to(baseline, problems, settings, [step or 0 for step in steps])
    name = min(times, key=lambda each: times[each])
    note = f"{name}, tuned and stopped by an oracle once its error is within 1 % of its final one; ratio: over recover"
    return _row(
        "the leanest run, rank known", f"noise {bench.SOLVE_NOISE:g}", times[name], note, times[name] / ours, LEAN
    )


def tables() -> list[Row]:
    """Rows: errors on tables with gaps; ratio: a baseline's error over recover's.

    In recover's own row, the baseline is the best of all. Errors below 1e-8 count as 1e-8, since all of them are exact.
    """
    rows = []
    (height, width), rank = bench.TABLE_SHAPE, bench.TABLE_RANK
    for ratio, noise in bench.TABLE_CASES:
        seeds = range(bench.TABLE_SEEDS)
        tasks = [make_table(bench.TABLE_SHAPE, rank, bench.TABLE_CONDITION, ratio, noise, seed) for seed in seeds]
        where = f"table {height} x {width}, r = {rank}, {ratio:g} entries an unknown, noise {noise:g}"
        data = [{"row": task.rows, "col": task.cols, "value": task.values} for task in tasks]
        found = [once(lambda part=part: gpsense.recover(part, offsets=False)) for part in data]
        errors = [_error(each.matrix, task.truth) for (each, _), task in zip(found, tasks, strict=True)]
        ranks = ", ".join(str(each.rank) for each, _ in found)
        ours, seconds = median(errors), median(taken for _, taken in found)
        others = []
        for name, (solve, told) in TABLE_BASELINES.items():
            answers = [once(lambda task=task, solve=solve: solve(task)) for task in tasks]
            error = median(_error(x, task.truth) for (x, _), task in zip(answers, tasks, strict=True))
            over = max(error, EXACT) / max(ours, EXACT)
            note = f"error {error:.2g}; {told}"
            others.append(make_row("recovery", f"{name}, {where}", median(t for _, t in answers), note, ratio=over))
        best = min(row["ratio"] for row in others)
        note = f"error {ours:.2g}, ranks found {ranks}; rank unknown, nothing tuned"
        rows += [make_row("recovery", f"gpsense.recover, {where}", seconds, note, ratio=best), *others]
    return rows


def _tasks(noise: float) -> list[Task]:
    shape = bench.SOLVE_DIM, bench.SOLVE_RANK, bench.SOLVE_MEASUREMENTS
    return [make_task(*shape, noise, seed) for seed in range(bench.SOLVE_SEEDS)]


def _problem(task: Task) -> Problem:
    measurements = dense_measurements(jnp.asarray(task.matrices))
    return Problem(measurements, jnp.asarray(task.values), jnp.asarray(task.truth), task.rank)


def _recover_to(problems: list[Problem], accuracy: float) -> tuple[float, str]:
    """Seconds of recover, which has no accuracy to set, and a note on whether its errors are at most ``accuracy``."""
    seconds, errors, ranks = _recover(problems)
    reached = "" if max(errors) <= accuracy else ", which is NOT below the accuracy"
    note = f"nothing tuned; errors at most {max(errors):.2g}{reached}; ranks found {', '.join(map(str, ranks))}"
    return seconds, note


def _recover(problems: list[Problem]) -> tuple[float, list[float], list[int]]:
    """Median seconds of recover over the problems, errors and ranks; a quick problem is timed three times."""
    seconds, errors, ranks = [], [], []
    for measurements, values, truth, _ in problems:
        run = lambda m=measurements, v=values: gpsense.recover(m, v)  # noqa: E731
        found = run()
        taken = [once(run)[1]]
        taken += [once(run)[1] for _ in range(2 if taken[0] < QUICK else 0)]
        seconds.append(median(taken))
        errors.append(_error(found.factor @ found.factor.T, np.asarray(truth)))
        ranks.append(found.rank)
    return median(seconds), errors, ranks


def _baseline_to(baseline: Tunable, problems: list[Problem], found: Tuned, accuracy: float) -> tuple[float | None, str]:
    """Seconds of a baseline to an accuracy (None if a problem does not reach it), and a note on steps and settings."""
    counts = [needed(errors, accuracy) for errors in found.errors]
    steps = [count for count in counts if count is not None]
    if len(steps) < len(counts):
        return None, f"not reached in {baseline.steps} steps; {_told(found.settings)}"
    note = f"{', '.join(map(str, steps))} steps; {_told(found.settings)}"
    return seconds_to(baseline, problems, found.settings, steps), note


def _solver_note(*parts: str) -> str:
    return "; ".join(part for part in (*parts, "first problem only") if part)


def _told(settings: dict[str, float]) -> str:
    return "tuned by an oracle: " + ", ".join(f"{name} {value:g}" for name, value in settings.items())


def _error(matrix: np.ndarray, truth: np.ndarray) -> float:
    return float(np.linalg.norm(matrix - truth) / np.linalg.norm(truth))


def _row(
    name: str, where: str, seconds: float | None, note: str, ratio: float | None = None, target: Any = None
) -> Row:
    size = f"d = {bench.SOLVE_DIM}, r = {bench.SOLVE_RANK}, n = {bench.SOLVE_MEASUREMENTS}"
    return make_row("recovery", f"{name}, {size}, {where}", seconds, note, ratio=ratio, target=target)
