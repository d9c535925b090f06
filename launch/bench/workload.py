"""One grid of cells, drawn once and handed to everyone as NumPy float32 arrays; the engine's answer to it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from launch.bench.rows import once


class Problem(NamedTuple):
    """What the cells of one seed share: A_i (n, dim, dim), y (n,), the start (dim, width) and M = U* U*^T."""

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

    @property
    def cells(self) -> int:
        """Cells in all."""
        return len(self.seeds) * len(self.penalties)

    @property
    def threshold(self) -> float:
        """The column norm up to which a column is deleted."""
        return 2 * self.smoothing**0.5

    def part(self, seeds: int, penalties: int) -> "Workload":
        """The first seeds, with this many penalties spread evenly over the list."""
        spread = np.linspace(0, len(self.penalties) - 1, min(penalties, len(self.penalties))).round().astype(int)
        return replace(self, seeds=self.seeds[:seeds], penalties=tuple(self.penalties[i] for i in spread))


def draw(workload: Workload) -> list[Problem]:
    """The problem of every seed, by gpsense's own samplers and keys."""
    import jax

    from gpsense.objectives import Empirical
    from gpsense.pipeline import seed_keys
    from gpsense.symmetric import smat
    from gpsense.systems import Sensing, SensingInstance, SensingSetting, SensingSpec
    from gpsense.systems.sensing import sample_sensing

    spec = SensingSpec(workload.dim, workload.width, workload.rank, workload.n, form="direct")
    instance, setting = SensingInstance(workload.noise), SensingSetting(start_scale=workload.start_scale)

    @jax.jit
    def one(seed: jax.Array) -> tuple[jax.Array, ...]:
        keys = seed_keys(seed)
        drawn = sample_sensing(spec, instance, keys.problem)
        assert isinstance(drawn.objective, Empirical)
        matrices = jax.vmap(smat)(drawn.objective.measurements.packed())
        start = Sensing().start(spec, setting, keys.start)
        return matrices, drawn.objective.values, start, drawn.truth @ drawn.truth.T

    return [Problem(*(np.array(leaf) for leaf in one(jax.numpy.uint32(seed)))) for seed in workload.seeds]


class Engine(NamedTuple):
    """Relative errors (seeds, penalties), operations, the form of the data, and a call that runs all again, sampling
    and measures included, and returns its seconds."""

    errors: np.ndarray
    flops: float
    form: str
    again: Callable[[], float]


def run_engine(workload: Workload) -> Engine:
    """The workload by gpsense's grid engine, as one chunk; the first run compiles."""
    from gpsense.grid import Axis, Grid, Layout, Program, make_plan
    from gpsense.pipeline import Schedule
    from gpsense.systems import SYSTEMS

    constants = {name: getattr(workload, name) for name in ("width", "rank", "rate", "smoothing", "start_scale")}
    constants |= {"dtype": "float32", "tolerance": 0.0, "fine_tune_tolerance": 0.0}
    listed = {"dim": (workload.dim,), "n": (workload.n,), "noise": (workload.noise,), "penalty": workload.penalties}
    axes = tuple(Axis(name, values) for name, values in listed.items())
    schedule = Schedule(workload.train, workload.fine_tune, 100)
    cells = Grid(SYSTEMS["sensing"], schedule, Axis("seed", workload.seeds), axes, constants)
    plan = make_plan(cells, 8 * 2**30, (Layout(len(workload.seeds), len(workload.penalties)),))
    program = Program(cells, plan.programs[0])
    run = lambda: program.run(plan.chunks[0])  # noqa: E731
    return Engine(run()["error"], plan.flops, plan.programs[0].spec.form, lambda: once(run)[1])


def relative_error(factor: np.ndarray, problem: Problem) -> float:
    """``||U U^T - M||_F / ||M||_F`` of a factor of any width, in float64."""
    factor, truth = factor.astype(np.float64), problem.truth.astype(np.float64)
    return float(np.linalg.norm(factor @ factor.T - truth) / np.linalg.norm(truth))
