"""One grid of cells, drawn once and given to all baselines as NumPy arrays, and the engine's results on it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from launch.bench.rows import once

if TYPE_CHECKING:
    from gpsense.grid import Chunk, Grid, Program


Axes = dict[str, tuple[Any, ...]]


class Problem(NamedTuple):
    """The arrays that all cells of one seed share: A_i (n, dim, dim), y (n,), the start (dim, width), M = U* U*^T."""

    matrices: np.ndarray
    values: np.ndarray
    start: np.ndarray
    truth: np.ndarray


@dataclass(frozen=True)
class Workload:
    """Seeds x penalties; each cell: ``train`` steps of gradient descent on loss plus penalty, columns of norm at most
    ``2 sqrt(smoothing)`` deleted, ``fine_tune`` steps on the loss alone. No step tests for convergence."""

    dim: int
    width: int
    n: int
    seeds: tuple[int, ...] = tuple(range(8))
    penalties: tuple[float, ...] = (0.1,)
    train: int = 500
    fine_tune: int = 200
    rank: int = 2
    rate: float = 0.02
    smoothing: float = 0.04
    start_scale: float = 0.3
    noise: float = 0.5
    form: str = "auto"
    dtype: str = "float32"
    record_every: int = 100

    @property
    def cells(self) -> int:
        """The number of cells."""
        return len(self.seeds) * len(self.penalties)

    @property
    def threshold(self) -> float:
        """The largest norm of a column that is deleted."""
        return 2 * self.smoothing**0.5

    def part(self, seeds: int, penalties: int) -> "Workload":
        """The workload with its first ``seeds`` seeds, and ``penalties`` penalties spread evenly over its own."""
        spread = np.linspace(0, len(self.penalties) - 1, min(penalties, len(self.penalties))).round().astype(int)
        return replace(self, seeds=self.seeds[:seeds], penalties=tuple(self.penalties[i] for i in spread))


def draw(workload: Workload) -> list[Problem]:
    """The problem of every seed, by gpsense's own samplers and keys."""
    import jax

    from gpsense.keys import seed_keys
    from gpsense.sensing.losses import Empirical
    from gpsense.sensing.symmetric import smat
    from gpsense.systems.sensing import Sensing

    sizes = {name: getattr(workload, name) for name in ("dim", "width", "rank", "n", "dtype")}
    system = Sensing(**sizes, form="direct")
    data, setting = Sensing.Data(noise=workload.noise), Sensing.Setting(start_scale=workload.start_scale)

    @jax.jit
    def one(seed: jax.Array) -> tuple[jax.Array, ...]:
        keys = seed_keys(seed)
        drawn = system.draw(data, keys.problem)
        assert isinstance(drawn.objective, Empirical)
        matrices = jax.vmap(smat)(drawn.objective.measurements.packed())
        start = system.init(setting, keys.start)
        return matrices, drawn.objective.values, start, drawn.truth @ drawn.truth.T

    return [Problem(*(np.array(leaf) for leaf in one(jax.numpy.uint32(seed)))) for seed in workload.seeds]


class Engine(NamedTuple):
    """What a run of the grid engine gives.

    Relative errors (seeds, penalties), the number of operations, the form of the data, and a function that runs
    everything again, from sampling to measures, and returns the seconds it took.
    """

    errors: np.ndarray
    flops: float
    form: str
    again: Callable[[], float]


def run_engine(workload: Workload) -> Engine:
    """The results of gpsense's grid engine, which runs the workload as one chunk; the first run compiles."""
    program, chunk = compiled(workload)
    results = program.run(chunk)
    again = lambda: once(lambda: program.run(chunk))[1]  # noqa: E731
    return Engine(results["error"], needed_flops(workload, results), form(program), again)


def form(program: "Program") -> str:
    """The form of the data that a program's system has chosen."""
    from gpsense.systems.sensing import Sensing

    system = program.plan.system
    assert isinstance(system, Sensing)
    return system.form


def to_grid(workload: Workload, axes: Axes | None = None, **more: Any) -> "Grid":
    """The workload as a grid; further ``axes`` and ``more`` constants replace its own."""
    from gpsense.grid import Axis, Grid
    from gpsense.pipeline import Schedule
    from gpsense.systems.sensing import Sensing

    names = ("width", "rank", "rate", "smoothing", "start_scale", "form", "dtype")
    constants: dict[str, Any] = {name: getattr(workload, name) for name in names}
    constants |= {"tolerance": 0.0, "fine_tune_tolerance": 0.0, "curvature_steps": 0} | more
    listed: Axes = {"dim": (workload.dim,), "n": (workload.n,), "noise": (workload.noise,)}
    listed |= {"penalty": workload.penalties} | (axes or {})
    constants = {name: value for name, value in constants.items() if name not in listed}
    schedule = Schedule(workload.train, workload.fine_tune, workload.record_every)
    varied = tuple(Axis(name, values) for name, values in listed.items())
    return Grid(Sensing(), schedule, Axis("seed", workload.seeds), varied, constants)


def compiled(workload: Workload, axes: Axes | None = None, **more: Any) -> tuple["Program", "Chunk"]:
    """The program and the only chunk of a workload, axes and constants as for :func:`to_grid`."""
    from gpsense.grid import Layout, Program, make_plan

    cells = to_grid(workload, axes, **more)
    plan = make_plan(cells, 8 * 2**30, (Layout(len(cells.outer), len(cells.inner)),))
    return Program(cells, plan.programs[0]), plan.chunks[0]


def phases(workload: Workload, program: "Program", chunk: "Chunk") -> tuple[float, float, float]:
    """Seconds of a run, of its training steps and of its fine-tuning steps.

    A phase takes the median seconds of its segments (the first, which is not timed alone, left out) times their number.
    """
    marks = [time.perf_counter()]
    program.run(chunk, lambda _: marks.append(time.perf_counter()))
    total = time.perf_counter() - marks[0]
    ends, train = np.asarray(marks[1:]), -(-workload.train // workload.record_every)
    both = ends[:train], ends[train:]
    steps = [float(np.median(np.diff(phase))) * len(phase) if len(phase) > 1 else 0.0 for phase in both]
    return total, steps[0], steps[1]


def needed_flops(workload: Workload, results: dict[str, np.ndarray]) -> float:
    """The operations of the steps taken: products only, in the cheapest exact form.

    A training step takes ``2 D^2 + 4 d^2 k`` with ``D = d (d + 1) / 2``, or ``4 n D`` instead of ``2 D^2`` where that
    is less; a fine-tuning step has the width that the chunk is compacted to in place of k.
    """
    from gpsense.grid.compaction import bucket
    from gpsense.sensing.symmetric import packed_size

    packed, square = packed_size(workload.dim), workload.dim**2
    data = min(2.0 * packed**2, 4.0 * workload.n * packed)
    kept = bucket(int(np.nanmax(results["rank"])), workload.width)
    train, tune = data + 4.0 * square * workload.width, data + 4.0 * square * kept
    return float(results["steps_train"].sum() * train + results["steps_fine_tune"].sum() * tune)


def relative_error(factor: np.ndarray, problem: Problem) -> float:
    """``||U U^T - M||_F / ||M||_F`` of a factor of any width, in float64."""
    factor, truth = factor.astype(np.float64), problem.truth.astype(np.float64)
    return float(np.linalg.norm(factor @ factor.T - truth) / np.linalg.norm(truth))
