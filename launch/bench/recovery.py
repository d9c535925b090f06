"""One matrix of unknown rank: gpsense's recover against the baselines and other packages, in float64.

Without noise the time to an accuracy counts, with noise the error. Numbers are medians over a few problems; compiling
is not counted.
"""

import inspect
from statistics import median
from typing import Any

import jax.numpy as jnp
import numpy as np

import gpsense
from gpsense.sensing.measurements import dense_measurements
from launch import bench
from launch.bench.recovery_baselines import TUNED, Problem, Tunable, Tuned, needed, seconds_to, tuned
from launch.bench.rows import Absent, Row, make_row, once
from launch.bench.solvers import Task, external, make_task

ACCURACIES = (1e-3, 1e-6)
FASTER, CLOSER = 2.0, 1 / 1.05
STRICTER = (0.5, 0.2, 0.1)
ORACLE, QUICK = "spectral", 1.0
KNOWN = {True: "rank known", False: "rank unknown"}


def recovery() -> list[Row]:
    """Time to two accuracies without noise, then the error under noise."""
    return noiseless() + noisy()


def noiseless() -> list[Row]:
    """Seconds to each accuracy; a baseline's ratio is its time over recover's, that of recover the best one's."""
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
    """Errors under noise; ratio: that of gradient descent at the known rank over this one's, more is better."""
    noise = bench.SOLVE_NOISE
    tasks = _tasks(noise)
    problems = [_problem(task) for task in tasks]
    found = {baseline.method: tuned(baseline, problems, noise, 0.0) for baseline in TUNED}
    oracle = median(float(errors[-1]) for errors in found[ORACLE].errors)
    where = f"noise {noise:g}"
    seconds, errors, ranks = _recover(problems, None)
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
    first = float(found[ORACLE].errors[0][-1])
    for name, answer, note in external(tasks[0]):
        if isinstance(answer, Absent):
            rows.append(_row(name, where, None, str(answer)))
            continue
        error = _error(answer.matrix, tasks[0].truth)
        said = _solver_note(f"error {error:.3g} (known rank {first:.3g})", answer.status, note)
        rows.append(_row(name, where, answer.seconds, said, first / error))
    return rows


def _tasks(noise: float) -> list[Task]:
    shape = bench.SOLVE_DIM, bench.SOLVE_RANK, bench.SOLVE_MEASUREMENTS
    return [make_task(*shape, noise, seed) for seed in range(bench.SOLVE_SEEDS)]


def _problem(task: Task) -> Problem:
    measurements = dense_measurements(jnp.asarray(task.matrices))
    return Problem(measurements, jnp.asarray(task.values), jnp.asarray(task.truth), task.rank)


def _recover_to(problems: list[Problem], accuracy: float) -> tuple[float, str]:
    """Seconds of recover at the loosest tolerance that brings every error below the accuracy."""
    tolerance, (seconds, errors, ranks) = accuracy, _recover(problems, accuracy)
    for share in STRICTER if _takes_tolerance() else ():
        if max(errors) <= accuracy:
            break
        tolerance = share * accuracy
        seconds, errors, ranks = _recover(problems, tolerance)
    told = f"tolerance {tolerance:g}" if _takes_tolerance() else "no tolerance to set"
    reached = "" if max(errors) <= accuracy else ", which is NOT below the accuracy"
    note = f"nothing tuned, {told}; errors at most {max(errors):.2g}{reached}; ranks found {', '.join(map(str, ranks))}"
    return seconds, note


def _recover(problems: list[Problem], tolerance: float | None) -> tuple[float, list[float], list[int]]:
    """Median seconds of recover on the problems, compiled, errors and ranks; of each the median of 3 if it is quick."""
    more: dict[str, Any] = {} if tolerance is None or not _takes_tolerance() else {"tolerance": tolerance}
    seconds, errors, ranks = [], [], []
    for measurements, values, truth, _ in problems:
        run = lambda m=measurements, v=values: gpsense.recover(m, v, **more)  # noqa: E731
        found = run()
        taken = [once(run)[1]]
        taken += [once(run)[1] for _ in range(2 if taken[0] < QUICK else 0)]
        seconds.append(median(taken))
        errors.append(_error(found.factor @ found.factor.T, np.asarray(truth)))
        ranks.append(found.rank)
    return median(seconds), errors, ranks


def _takes_tolerance() -> bool:
    return "tolerance" in inspect.signature(gpsense.recover).parameters


def _baseline_to(baseline: Tunable, problems: list[Problem], found: Tuned, accuracy: float) -> tuple[float | None, str]:
    """Seconds of a baseline to an accuracy, and its steps and settings; None where a problem does not get there."""
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
