"""Compiled programs: the only place where cells get a batch axis.

Nested by what is shared. Seeds and instances lie outside and each draws its problem once; settings lie inside and are
vmapped with the problem unmapped, so that a step's products with the data are matrix products over all settings.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from gpsense import pipeline
from gpsense.descent import RUNNING
from gpsense.grid.axes import Grid
from gpsense.grid.plan import Chunk, ProgramPlan, outer_batch

Arrays = dict[str, np.ndarray]


class Program:
    """The compiled phases of one static spec; ``traces`` counts how often each phase was traced."""

    def __init__(self, grid: Grid, plan: ProgramPlan):
        system, spec = grid.system, plan.spec
        self.grid, self.plan = grid, plan
        self.traces: Counter[str] = Counter()

        def draw(seed: Any, instance: Any) -> Any:
            return system.sample(spec, instance, pipeline.seed_keys(seed).problem)

        def start(problem: Any, setting: Any, seed: Any) -> Any:
            state = pipeline.begin_training(system, spec, setting, pipeline.seed_keys(seed))
            return state, pipeline.record(system, spec, problem, setting, state)

        def stretch(phase: Callable[..., Any]) -> Callable[..., Any]:
            def move(problem: Any, setting: Any, state: Any, n_steps: int) -> Any:
                state = phase(system, spec, problem, setting, state, n_steps)
                return state, pipeline.record(system, spec, problem, setting, state)

            return move

        def narrow(problem: Any, setting: Any, state: Any, pruned: Any, width: int) -> Any:
            return pipeline.begin_fine_tuning(system, spec, setting, state, pruned, width)

        self._draw = jax.jit(lambda seeds, instances: jax.lax.map(lambda row: draw(*row), (seeds, instances)))
        self._start = self._over_cells("start", start)
        self._train = self._over_cells("train", stretch(pipeline.train), static=1, donate=True)
        self._prune = self._over_cells("prune", eqx.Partial(pipeline.prune, system, spec))
        self._narrow = self._over_cells("narrow", narrow, static=1)
        self._fine_tune = self._over_cells("fine_tune", stretch(pipeline.fine_tune), static=1, donate=True)
        self._finish = self._over_cells("finish", eqx.Partial(pipeline.finish, system, spec))

    def _over_cells(
        self, name: str, cell: Callable[..., Any], static: int = 0, donate: bool = False
    ) -> Callable[..., Any]:
        """Jit ``cell(problem, setting, *cells, *static)`` over problems (outer) and settings (inner).

        Cells carry both axes, (outer, inner, ...), but for a seed, which carries the outer one only.
        """
        batch = min(outer_batch(), self.plan.layout.outer)

        def batched(problems: Any, settings: Any, cells: tuple[Any, ...], *fixed: int) -> Any:
            self.traces[name] += 1

            def row(problem: Any, cells: tuple[Any, ...]) -> Any:
                axes = jax.tree.map(lambda leaf: 0 if leaf.ndim else None, cells)
                return jax.vmap(lambda s, c: cell(problem, s, *c, *fixed), in_axes=(0, axes))(settings, cells)

            return jax.lax.map(lambda both: row(*both), (problems, cells), batch_size=batch if batch > 1 else None)

        return jax.jit(batched, static_argnums=tuple(range(3, 3 + static)), donate_argnums=(2,) if donate else ())

    def inputs(self, chunk: Chunk) -> tuple[jax.Array, Any, Any]:
        """Seeds (outer,), instances (outer,) and settings (inner,) of a chunk, padded to the layout."""
        system, layout = self.grid.system, self.plan.layout
        dtype = jnp.dtype(self.plan.spec.dtype)
        outer = _padded(self.grid.outer()[chunk.outer : chunk.outer_stop], layout.outer)
        inner = _padded(self.grid.labels(system.Setting)[chunk.inner : chunk.inner_stop], layout.inner)
        seeds = jnp.asarray([seed for seed, _ in outer], jnp.uint32)

        def stack(role: type, rows: list[dict[str, Any]]) -> Any:
            defaults = {name: getattr(role(), name) for name in self.grid.fields(role)}
            same = defaults | self.grid.constants_of(role)
            columns = {name: _repeat(value, len(rows), dtype) for name, value in same.items() if value is not None}
            columns |= {name: jnp.asarray([row[name] for row in rows], dtype) for name in rows[0]}
            one = role(**{name: column[0] for name, column in columns.items()})
            return eqx.tree_at(lambda tree: [getattr(tree, name) for name in columns], one, list(columns.values()))

        return seeds, stack(system.Instance, [instance for _, instance in outer]), stack(system.Setting, inner)

    def run(self, chunk: Chunk, on_segment: Callable[[float], None] = lambda share: None) -> Arrays:
        """Run a chunk; every measure by name with axes (outer, inner, ...), curves with a last axis of records.

        ``on_segment`` is told after each stretch which share of the chunk's steps it was. A phase ends as soon as no
        cell of the chunk is running.
        """
        schedule = self.grid.schedule
        train_segments, fine_tune_segments = schedule.segments()
        total = sum(train_segments) + sum(fine_tune_segments)
        seeds, instances, settings = self.inputs(chunk)
        problems = self._draw(seeds, instances)
        states, point = self._start(problems, settings, (seeds,))
        curves = [point]

        def phase(advance: Callable[..., Any], states: Any, segments: tuple[int, ...]) -> Any:
            for length in segments:
                if bool(jnp.any(states.status == RUNNING)):
                    states, point = advance(problems, settings, (states,), length)
                    curves.append(point)
                else:
                    curves.append(curves[-1])
                on_segment(length / total)
            return states

        states = phase(self._train, states, train_segments)
        pruned = self._prune(problems, settings, (states,))
        width = bucket(int(pruned.mask.sum(-1).max()), pruned.mask.shape[-1])
        states = self._narrow(problems, settings, (states, pruned), width)
        states = phase(self._fine_tune, states, fine_tune_segments)
        results = self._finish(problems, settings, (states, pruned))
        results |= {name: jnp.stack([point[name] for point in curves], -1) for name in curves[0]}
        rows, columns = chunk.outer_stop - chunk.outer, chunk.inner_stop - chunk.inner
        return {name: np.asarray(value)[:rows, :columns] for name, value in results.items()}

    def time_steps(self, chunk: Chunk, n_steps: int = 20) -> tuple[float, float]:
        """Seconds to compile and run training's first steps, and seconds of one step of a problem's settings."""
        seeds, instances, settings = self.inputs(replace(chunk, outer_stop=chunk.outer + 1))
        begun = time.perf_counter()
        problems = self._draw(seeds, instances)
        states, _ = self._start(problems, settings, (seeds,))
        states, _ = jax.block_until_ready(self._train(problems, settings, (states,), n_steps))
        compiled = time.perf_counter()
        jax.block_until_ready(self._train(problems, settings, (states,), n_steps))
        return compiled - begun, (time.perf_counter() - compiled) / n_steps


def bucket(kept: int, width: int) -> int:
    """The width fine-tuning is compiled for: the next power of two from the most columns kept, at most ``width``."""
    return min(width, 1 << max(kept - 1, 0).bit_length())


def _padded(rows: list[Any], length: int) -> list[Any]:
    """The rows, the last one repeated up to the length, so that every chunk of a program has one shape."""
    return rows + [rows[-1]] * (length - len(rows))


def _repeat(value: Any, length: int, dtype: Any) -> jax.Array:
    """A constant given to every row."""
    array = jnp.asarray(value, dtype)
    return jnp.broadcast_to(array, (length, *array.shape))
