"""Weight-pruned networks: a phase map of masked students, and iterative pruning on digits, against plain loops."""

from collections.abc import Callable
from statistics import median
from typing import NamedTuple

import numpy as np

from gpsense.grid import Axis
from gpsense.pipeline import Schedule, run_cell
from gpsense.systems.images import Images
from gpsense.systems.teacher_student import TeacherStudent
from launch import bench
from launch.bench.convolutions import convolutions
from launch.bench.machine import fastest, product_rates
from launch.bench.rows import Absent, Row, make_row, once
from launch.bench.ticket_baselines import (
    numpy_student,
    on_best_threads,
    rounds_to,
    torch_path,
    torch_student,
    torch_ticket,
)
from launch.bench.ticket_cells import Loop, Work, loop, make_work, pruned_cells, stopping, students

TURNS = 3
AGREE_ERROR, AGREE_STEPS, AGREE_TESTS = 1e-5, 10, 0.02  # after many rounds, rounding decides on some weights
FEW = 5  # PyTorch, which takes ten times as long, runs one of every FEW cells
WHOLE = "JAX, loop of jitted cells, all steps"


class Baseline(NamedTuple):
    """A call that computes two numbers per cell (cells, 2), for one in ``every`` of the cells that baselines run."""

    run: Loop
    every: int = 1


class Found(NamedTuple):
    """The numbers of a baseline, the seconds of its first (compiling) call, and those of every turn."""

    numbers: np.ndarray
    first: float
    seconds: list[float]


class Turns(NamedTuple):
    """The engine's results, the seconds of its first (compiling) call and of every turn; the same of every baseline,
    or Absent where its package is missing.
    """

    results: dict[str, np.ndarray]
    first: float
    ours: list[float]
    found: dict[str, Found | Absent]


def tickets() -> list[Row]:
    """The rows of the phase map, of iterative pruning and of convolutions."""
    return [*phase_map(), *iterative(), *convolutions()]


def phase_map() -> list[Row]:
    """Rows: cells over support, samples and seed that stop at success, at a gradient norm or at the last step.

    The machine's products are measured in the same turns: a square matrix with as many numbers as the largest cell's
    inputs (n, dim), times one vector per neuron.
    """
    axes = (Axis("support", bench.MAP_SUPPORTS), Axis("n", bench.MAP_SAMPLES))
    schedule = Schedule(0, bench.MAP_STEPS, bench.MAP_STEPS)
    work = make_work("teacher_student", schedule, bench.MAP_SEEDS, axes, bench.MAP_SIZE)
    tasks = students(work)
    short = tasks[-1]._replace(steps=min(100, bench.MAP_STEPS))
    eager = on_best_threads(
        lambda: np.asarray([torch_student(task) for task in tasks[::FEW]]), lambda: torch_student(short)
    )
    baselines = {
        WHOLE: Baseline(loop(work, run_cell)),
        "JAX, loop of jitted cells that stop": Baseline(loop(work, stopping)),
        "NumPy, loop of cells, gradient by hand": Baseline(lambda: np.asarray([numpy_student(task) for task in tasks])),
        "PyTorch, loop of cells, autograd": Baseline(eager, FEW),
    }
    system, products = work.program.plan.system, []
    assert isinstance(system, TeacherStudent)
    size = round((system.n * system.dim) ** 0.5)
    turns = _in_turn(work, baselines, lambda: products.append(product_rates(system.neurons, size)))
    steps, ours, machine = turns.results["steps_fine_tune"], median(turns.ours), fastest(*products)
    each = 4.0 * system.dim * system.neurons
    used = np.asarray([fields["n"] for _, fields in work.grid.outer], float)[:, None]
    needed, done = float((steps * used).sum()) * each, float(steps.sum()) * system.n * each
    name = f", {steps.size} cells, d = {system.dim}, K = {system.neurons}"
    note = (
        f"{steps.size / ours:.3g} cells a second, n up to {system.n}, at most {bench.MAP_STEPS} steps, "
        f"{steps.mean():.0f} on average, {1e6 * ours / steps.sum():.3g} us each, sampling to measures, median of "
        f"{TURNS}; ratio: products of rows in use over {machine.gflops:.3g} GFLOP/s ({machine.way}), "
        f"{done / ours / 1e9 / machine.gflops:.2g} with the unused rows counted"
    )
    rate = needed / ours / 1e9
    rows = [make_row("tickets", "phase map" + name, ours, note, rate, rate / machine.gflops)]
    expected = np.stack([_part(turns, len(work.part), key) for key in ("error", "steps_fine_tune")], 1)

    def share(key: str, found: np.ndarray) -> float:
        return len(work.part) / steps.size if key == WHOLE else float(found[:, 1].sum() / steps.sum())

    return rows + _rows(turns, baselines, name, share, lambda found, every: _same_students(found, expected[::every]))


def iterative() -> list[Row]:
    """Rows: a network on digits over shares kept and seeds; PyTorch's loops test no stopping rule.

    Rounds that several shares of one seed have in common are trained once, by the engine and by one of PyTorch's loops.
    """
    size = bench.TICKET_SIZE
    rounds = max(rounds_to(kept, size["share"]) for kept in bench.TICKET_KEPT)
    train = rounds * size["round_steps"]
    schedule = Schedule(train, bench.TICKET_STEPS, train + bench.TICKET_STEPS)
    work = make_work("images", schedule, bench.TICKET_SEEDS, (Axis("kept", bench.TICKET_KEPT),), size)
    tasks = pruned_cells(work)
    short = tasks[0]._replace(round_steps=min(20, tasks[0].round_steps), fine_tune=1)
    eager = on_best_threads(lambda: np.asarray([torch_ticket(task) for task in tasks]), lambda: torch_ticket(short))
    shared = on_best_threads(lambda: np.asarray(torch_path(tasks)), lambda: torch_ticket(short))
    baselines = {
        "JAX, loop of jitted cells that stop": Baseline(loop(work, stopping, ("error", "loss"))),
        "PyTorch, loop of cells, Adam": Baseline(eager),
        "PyTorch, loop of seeds, rounds shared": Baseline(shared),
    }
    turns, system = _in_turn(work, baselines), work.program.plan.system
    assert isinstance(system, Images)
    steps = turns.results["steps_train"] + turns.results["steps_fine_tune"]
    ours, flops = median(turns.ours), float(steps.sum()) * work.program.plan.cost.flops
    name = f", {len(work.grid.outer)} seeds x {len(work.grid.inner)} shares"
    note = (
        f"{'-'.join(map(str, (64, *system.layers, 10)))} on {system.n} digits, batch {system.batch}, "
        f"{steps.min():.0f} to {steps.max():.0f} steps, {1e6 * ours / steps.sum():.3g} us each, "
        f"sampling to measures, median of {TURNS}"
    )
    expected = np.stack([_part(turns, len(work.part), key) for key in ("error", "loss")], 1)
    rows = [make_row("tickets", "iterative pruning, digits" + name, ours, note, flops / ours / 1e9)]
    share = len(work.part) / steps.size
    return rows + _rows(turns, baselines, name, lambda *_: share, lambda found, _: _same_tickets(found, expected))


def _in_turn(work: Work, baselines: dict[str, Baseline], also: Callable[[], None] = lambda: None) -> Turns:
    """Times engine and baselines in alternation, after a compiling run of each; absent packages are left out."""
    (results, first), ours, found = once(lambda: work.program.run(work.chunk)), [], {}
    for name, baseline in baselines.items():
        try:
            found[name] = Found(*once(baseline.run), [])
        except Absent as absent:
            found[name] = absent
    for _ in range(TURNS):
        also()
        ours.append(once(lambda: work.program.run(work.chunk))[1])
        for name, baseline in baselines.items():
            if not isinstance(found[name], Absent):
                found[name].seconds.append(once(baseline.run)[1])
    return Turns(results, first, ours, found)


def _rows(
    turns: Turns,
    baselines: dict[str, Baseline],
    size: str,
    share: Callable[[str, np.ndarray], float],
    tell: Callable[[np.ndarray, int], str],
) -> list[Row]:
    """Two rows for every baseline, without and with the time to compile: its seconds, scaled up by the ``share`` of all
    steps that it took, and a note by ``tell`` on its agreement with the engine; ratio: over the engine's seconds.
    """
    rows, engine = [], median(turns.ours)
    compiling = max(turns.first - engine, 0.0)
    for name, found in turns.found.items():
        if isinstance(found, Absent):
            rows.append(make_row("tickets", name + size, None, str(found)))
            continue
        seconds = median(found.seconds) / share(name, found.numbers)
        jitted = name.startswith("JAX")
        told = tell(found.numbers, baselines[name].every)
        note = f"{told}; timed on {len(found.numbers)} cells and scaled by their steps"
        note += "" if jitted else "; sampling not counted"
        rows.append(make_row("tickets", name + size, seconds, note, ratio=seconds / engine))
        own = max(found.first - median(found.seconds), 0.0) if jitted else 0.0
        note = f"{own:.3g} s to compile, and {compiling:.3g} s for the engine"
        ratio = (seconds + own) / (engine + compiling)
        rows.append(make_row("tickets", f"{name}{size}, with compiling", seconds + own, note, ratio=ratio))
    return rows


def _part(turns: Turns, cells: int, name: str) -> np.ndarray:
    """The engine's values of one measure for the baselines' cells."""
    return turns.results[name].reshape(-1)[:cells].astype(float)


def _same_students(found: np.ndarray, ours: np.ndarray) -> str:
    """A text that says whether errors and steps, ``found`` (cells, 2), agree with the engine's, ``ours``.

    Steps are compared where a cell succeeds: others stop at a gradient norm so small that it is float32 rounding.
    """
    apart, there = np.abs(found - ours), ours[:, 0] <= bench.MAP_SIZE["success"]
    gap, late = float(np.max(apart[:, 0])), float(np.max(apart[there, 1], initial=0.0))
    word = "agrees" if gap <= AGREE_ERROR and late <= AGREE_STEPS else "DISAGREES"
    cells = f"{len(ours)} cells, of which {there.sum()} succeed"
    return f"{word} with the engine in {cells}: errors to {gap:.1g}, steps to success to {late:g}"


def _same_tickets(found: np.ndarray, ours: np.ndarray) -> str:
    """A text on whether test errors and training losses (cells, 2) agree with the engine's: mean and worst."""
    means, cells = np.abs(np.mean(found - ours, axis=0)), np.max(np.abs(found - ours), axis=0)
    word = "agrees" if cells[0] <= AGREE_TESTS else "DISAGREES"
    gaps = zip(("test errors", "losses"), means, cells, strict=True)
    told = "; ".join(f"{name} to {mean:.1g} in the mean, {most:.1g} in each" for name, mean, most in gaps)
    return f"{word} with the engine in {len(ours)} cells: {told}"
