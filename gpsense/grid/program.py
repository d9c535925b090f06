"""Compiled programs: the only place where cells get a batch axis.

The axes are nested by what cells share. Seeds and data form the outer axis, spread over the devices, and each pair
draws its problem once; settings form the inner axis, vmapped with the problem unmapped, so that a step's products with
the data are matrix products over all settings. Between records the host drops stopped cells from the batch.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from gpsense._lanes import in_lanes
from gpsense.descent import RUNNING
from gpsense.fields import declared
from gpsense.grid.axes import Grid
from gpsense.grid.compaction import Batch, Compaction, Sharing, bucket, padded, repeated
from gpsense.grid.compiling import Compiled, compile_later
from gpsense.grid.estimate import working_bytes
from gpsense.grid.plan import (
    Chunk,
    Plan,
    ProgramPlan,
    chunk_bytes,
    make_plan,
    one_cell,
    outer_batch,
    padded_outer,
    settings_of,
)
from gpsense.grid.tracing import Reader, Traces
from gpsense.keys import Keys, keys_of
from gpsense.pipeline import End, completed
from gpsense.systems import AnySystem, Evaluator, Learner

Arrays = dict[str, np.ndarray]
AnyLearner = Learner[Any, Any, Any, Any, Any]
OUTER, SAME = P("outer"), P()
TUNING = "highest"  # precision of the products of fine-tuning


class Program:
    """The compiled phases of one system, on the given ``devices`` (default: all local ones of the default backend).

    ``traces``: how many argument shapes each phase was called with; ``known``: traces shared with other programs;
    ``compile_seconds``: how long runs have waited for tracing and compiling so far; ``width``: the width of the last
    fine-tuning.
    """

    def __init__(
        self, grid: Grid, plan: ProgramPlan, devices: Sequence[Any] | None = None, known: Traces | None = None
    ):
        self._reader, self._known = Reader(plan.system), known or Traces()
        self._once = isinstance(plan.system.learner, Evaluator)
        self.grid, self.plan = grid, plan
        self.traces: Counter[str] = Counter()
        self.compile_seconds = 0.0
        self.width: int | None = None
        self.mesh = Mesh(np.asarray(devices or jax.local_devices()), ("outer",))
        # on one device arrays get the same sharding whether a program or the host made them, so programs are equal too
        self._rows = NamedSharding(self.mesh, OUTER if self.mesh.size > 1 else SAME)
        self.outer = padded_outer(plan.layout.outer, self.mesh.size)
        self._shapes: dict[tuple[Any, ...], Any] = {}
        self._compiled: dict[tuple[Any, ...], Future[Compiled]] = {}
        self._compaction = Compaction(self.mesh.size, self.outer, outer_batch(), plan.cost.flops)

    def _phase(self, name: str, system: AnySystem) -> Callable[..., Any]:
        """A function that builds a jitted phase of a system from the numbers fixed in it (its steps or its width)."""
        if name == "draw":
            return self._over_rows(lambda keys, data: system.draw(data, keys.problem))
        learner = system.learner
        if isinstance(learner, Evaluator):
            return self._over_cells(learner.evaluate)

        def start(problem: Any, setting: Any, keys: Any) -> Any:
            state = learner.start(problem, setting, keys)
            return state, learner.record(problem, setting, state)

        def narrow(problem: Any, setting: Any, state: Any, pruned: Any, width: int) -> Any:
            state = learner.start_fine_tuning(problem, setting, state, pruned, width)
            return state, learner.record(problem, setting, state)

        if name == "branch":
            return self._branch(learner)
        if name == "train":
            return self._segment(learner, learner.train, system.train_precision)
        if name == "fine_tune":
            return self._segment(learner, learner.fine_tune, TUNING)
        if name == "narrow":
            return self._over_cells(narrow, donated=lambda width: (2,) if learner.donates(width) else ())
        return self._over_cells({"start": start, "prune": learner.prune, "measure": learner.measure}[name])

    def _over_rows(self, row: Callable[..., Any]) -> Callable[..., Any]:
        """A function that builds the jitted ``row(keys, data)`` over all rows."""

        def rows(keys: Any, data: Any) -> Any:
            return jax.lax.map(lambda each: row(*each), (keys, data))

        return lambda: jax.jit(self._shard(rows, (OUTER, OUTER)))

    def _over_cells(
        self, cell: Callable[..., Any], donated: Callable[..., tuple[int, ...]] = lambda *fixed: ()
    ) -> Callable[..., Any]:
        """A function of ``fixed`` that builds the jitted ``cell(problem, setting, *cells, *fixed)`` over all cells.

        Arrays in ``cells`` have both axes, (outer, inner, ...), except keys, which have only the outer one.
        """

        inner = self.plan.layout.inner

        def build(*fixed: Any) -> Any:
            def rows(problems: Any, settings: Any, *cells: Any) -> Any:
                def row(problem: Any, cells: tuple[Any, ...]) -> Any:
                    axes = jax.tree.map(lambda leaf: 0 if leaf.ndim else None, cells)
                    one = lambda setting, own: cell(problem, setting, *own, *fixed)  # noqa: E731
                    return jax.vmap(one, in_axes=(0, axes), axis_size=inner)(settings, cells)

                batch = outer_batch()
                return jax.lax.map(lambda both: row(*both), (problems, cells), batch_size=batch if batch > 1 else None)

            shard = lambda *args: self._shard(rows, (OUTER, SAME) + (OUTER,) * (len(args) - 2))(*args)  # noqa: E731
            return jax.jit(shard, donate_argnums=donated(*fixed))

        return build

    def _segment(self, learner: AnyLearner, phase: Callable[..., Any], products: str) -> Callable[..., Any]:
        """A function of the number of steps that builds a jitted segment.

        The segment takes the steps in chosen cells and writes their states and records into the arrays of all.
        ``rows`` (devices, blocks, batch) are the problems to run on each device, in the first ``count`` blocks;
        ``chosen`` (outer, cells) are the settings to run on each problem. A row ends once none of its cells is running.
        """

        stride = learner.stride

        def build(n_steps: int) -> Any:
            def row(problem: Any, settings: Any, states: Any) -> Any:
                def cell(setting: Any, state: Any) -> Any:
                    move, (whole, rest) = partial(phase, problem, setting), divmod(n_steps, stride)
                    going = lambda carry: (carry[0] < whole) & (carry[1].status == RUNNING)  # noqa: E731
                    step = lambda carry: (carry[0] + 1, move(carry[1], stride))  # noqa: E731
                    if whole:  # a loop without iterations would still be traced and compiled
                        state = jax.lax.while_loop(going, step, (jnp.int32(0), state))[1]
                    return move(state, rest) if rest else state

                if jax.tree.leaves(states)[0].shape[0] == 1:  # a batch axis of length 1 would slow products
                    setting, state = jax.tree.map(lambda leaf: leaf[0], (settings, states))
                    state = cell(setting, state)
                    return jax.tree.map(lambda leaf: leaf[None], (state, learner.record(problem, setting, state)))
                states = jax.vmap(partial(in_lanes, cell) if learner.lanes(problem) else cell)(settings, states)
                point = jax.vmap(partial(learner.record, problem))(settings, states)
                return states, point

            def shard(problems: Any, settings: Any, cells: Any, rows: Any, count: Any, chosen: Any) -> Any:
                def block(index: Any, cells: Any) -> Any:
                    place = rows[0, index]
                    one = place.shape[0] == 1
                    place = place[0] if one else place
                    inner = chosen[place]
                    outer = place if one else place[:, None]
                    take = lambda tree: jax.tree.map(lambda leaf: leaf[outer, inner], tree)  # noqa: E731
                    which = jax.tree.map(lambda leaf: leaf[inner], settings)
                    problem = jax.tree.map(lambda leaf: leaf[place], problems)
                    with jax.default_matmul_precision(products):
                        moved = (row if one else jax.vmap(row))(problem, which, take(cells[0]))
                    return jax.tree.map(lambda leaf, new: leaf.at[outer, inner].set(new, mode="drop"), cells, moved)

                return jax.lax.fori_loop(0, count[0], block, cells)

            specs = (OUTER, SAME, OUTER, OUTER, OUTER, OUTER)
            return jax.jit(self._shard(shard, specs), donate_argnums=2)

        return build

    def _branch(self, learner: AnyLearner) -> Callable[..., Any]:
        """A function that builds a jitted step: cells ``due`` (inner,) get states and records from their leaders'."""

        def rows(problems: Any, settings: Any, cells: Any, leader: Any, due: Any) -> Any:
            def row(problem: Any, cells: Any) -> Any:
                states, points = jax.tree.map(lambda leaf: leaf[leader], cells)
                new = jax.vmap(partial(learner.branch, problem))(settings, states), points
                one = lambda due, new, old: jax.tree.map(partial(jnp.where, due), new, old)  # noqa: E731
                return jax.vmap(one)(due, new, cells)

            batch = outer_batch()
            return jax.lax.map(lambda both: row(*both), (problems, cells), batch_size=batch if batch > 1 else None)

        return lambda: jax.jit(self._shard(rows, (OUTER, SAME, OUTER, SAME, SAME)), donate_argnums=2)

    def _shard(self, function: Callable[..., Any], specs: tuple[Any, ...]) -> Callable[..., Any]:
        return jax.shard_map(function, mesh=self.mesh, in_specs=specs, out_specs=OUTER, check_vma=False)

    @property
    def memory(self) -> dict[tuple[Any, ...], int]:
        """The bytes of every compiled phase: arguments, results and scratch together, over all devices."""
        return {key: compiled.result().bytes * self.mesh.size for key, compiled in self._compiled.items()}

    def _begin(self, name: str, args: tuple[Any, ...], *fixed: int) -> tuple[Any, ...]:
        """Trace a phase once for arguments of these shapes and begin to compile it; returns its key."""
        if name == "train" and self._tunes(*fixed):
            name = "fine_tune"
        leaves, tree = jax.tree.flatten(args)
        key = (name, fixed, tuple(leaf.shape for leaf in leaves))
        if key in self._compiled:
            return key
        self.traces[name] += 1
        effort = self.plan.layout.effort
        chosen = {"draw": effort.draw, "train": effort.steps, "fine_tune": effort.steps}.get(name, effort.once)
        devices = self.mesh.devices.ravel().tolist()

        def trace(system: AnySystem) -> tuple[Future[Compiled], Any]:
            lowered = self._phase(name, system)(*fixed).lower(*args)
            shape = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self._rows)  # noqa: E731
            return compile_later(lowered, chosen, devices), jax.tree.map(shape, lowered.out_info)

        types = tuple(str(leaf.dtype) for leaf in leaves)
        cells = (self.plan.layout.inner, outer_batch(), tuple(device.id for device in devices))
        whole = (type(self.plan.system), key, types, tree, cells, chosen)
        self._compiled[key], self._shapes[key] = self._known.once(name, whole, self._reader, trace)
        return key

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        """Add the time that the block takes to ``compile_seconds``."""
        begun = time.perf_counter()
        yield
        self.compile_seconds += time.perf_counter() - begun

    def _call(self, name: str, args: tuple[Any, ...], *fixed: int) -> Any:
        """Run a phase, compiled for these shapes on first use."""
        with self._waiting():
            call = self._compiled[self._begin(name, args, *fixed)].result().call
        return call(*args)

    def _tunes(self, n_steps: int) -> bool:
        """Whether ``n_steps`` of training compute the same as fine-tuning, so that one program serves both."""
        system, learner = self.plan.system, self.plan.system.learner
        if isinstance(learner, Evaluator) or system.train_precision != TUNING:
            return False
        whole, rest = divmod(n_steps, learner.stride)
        lengths = ([learner.stride] if whole else []) + ([rest] if rest else [])
        return all(learner.trains_as_it_tunes(length) for length in lengths)

    def _place(self, tree: Any) -> Any:
        """Arrays spread over the devices along their first axis."""
        return jax.device_put(tree, self._rows)

    def _place_whole(self, tree: Any) -> Any:
        """Arrays that are the same on each device."""
        return jax.device_put(tree, NamedSharding(self.mesh, SAME))

    def inputs(self, chunk: Chunk) -> tuple[Keys, Any, Any]:
        """A chunk's keys and data (outer,), for each seed and data, and settings (inner,), padded to the layout."""
        grid, system = self.grid, self.plan.system
        outer = padded(grid.outer[chunk.outer : chunk.outer_stop], self.outer)
        inner = padded(grid.inner[chunk.inner : chunk.inner_stop], self.plan.layout.inner)
        keys = keys_of(np.asarray([seed for seed, _ in outer], np.uint32))

        def stack(role: type, rows: list[dict[str, Any]]) -> Any:
            defaults = {name: field.default for name, field in declared(role).items()}
            same = defaults | grid.constants_of(role)
            kind = grid.traced_dtype
            columns = {
                name: repeated(value, len(rows), kind(name)) for name, value in same.items() if value is not None
            }
            columns |= {name: np.asarray([row[name] for row in rows], kind(name)) for name in rows[0]}
            one = role(**{name: jnp.asarray(column[0]) for name, column in columns.items()})
            return eqx.tree_at(lambda tree: [getattr(tree, name) for name in columns], one, list(columns.values()))

        data = stack(system.Data, [numbers for _, numbers in outer])
        return self._place(keys), self._place(data), self._place_whole(stack(system.Setting, inner))

    def run(
        self,
        chunk: Chunk,
        on_segment: Callable[[float], None] = lambda share: None,
        on_running: Callable[[], None] = lambda: None,
    ) -> Arrays:
        """Run a chunk; returns measures by name with axes (outer, inner, ...), curves with a last axis of records.

        ``on_segment`` is called after each segment with its share of the chunk's steps (if there are none, with 1 at
        the end); ``on_running`` once all phases known to be needed have been traced. Stopped cells are left out of the
        segments that follow, where that saves more than the smaller program costs to compile.
        """
        keys, data, settings = inputs = self.inputs(chunk)
        sharing = self._sharing(chunk)
        with self._waiting():
            self._begin_all(inputs, self.width, sharing)
        on_running()
        problems, learner = self._call("draw", (keys, data)), self.plan.system.learner
        if isinstance(learner, Evaluator):
            results = self._call("evaluate", (problems, settings, keys))
            on_segment(1.0)
            return self._real(chunk, results)
        segments = self.grid.schedule.segments()
        total = sum(sum(part) for part in segments)
        cells = self._call("start", (problems, settings, keys))
        real = np.zeros((self.outer, self.plan.layout.inner), bool)
        real[: chunk.outer_stop - chunk.outer, : chunk.inner_stop - chunk.inner] = True
        curves, lanes = [_arrays(cells[1])], learner.lanes(problems)

        def phase(name: str, cells: Any, lengths: tuple[int, ...], shared: Sharing) -> tuple[Any, End]:
            sizes, done, steps = {int((~shared.follows).sum())}, 0, sum(lengths)
            for length, recorded in shared.lengths(lengths):
                running = (np.asarray(cells[0].status) == RUNNING) & real & ~shared.follows
                for batch in self._compaction.batches(running, sizes, steps - done, lanes):
                    cells = self._call(name, (problems, settings, cells, *self._spread(batch)), length)
                done += length
                if (due := shared.due(done, done == steps)).any():
                    which = self._place_whole((shared.leader, due))
                    cells = self._call("branch", (problems, settings, cells, *which))
                if recorded:
                    curves.append(shared.filled(_arrays(cells[1]), done))
                on_segment(length / total)
            state, point = cells
            return state, End(_arrays(point), np.array(state.status), np.array(state.steps))

        states, trained = phase("train", cells, segments[0], sharing)
        pruned = self._call("prune", (problems, settings, states))
        kept = np.where(real, np.asarray(pruned.mask).sum(-1), 0)
        self.width = bucket(int(kept.max()), pruned.mask.shape[-1])
        with self._waiting():
            self._begin_tuning(problems, settings, states, pruned, self.width)
        cells = self._call("narrow", (problems, settings, states, pruned), self.width)
        error_pruned = np.array(cells[1]["error_curve"])
        states, tuned = phase("fine_tune", cells, segments[1], _each(real.shape[1]))
        measures = self._call("measure", (problems, settings, states, pruned))
        if total == 0:
            on_segment(1.0)
        results = completed(_arrays(measures), trained, error_pruned, tuned)
        stacked = {name: np.stack([point[name] for point in curves], -1) for name in curves[0]}
        return self._real(chunk, results | {name: curve for name, curve in stacked.items() if name.endswith("_curve")})

    def _real(self, chunk: Chunk, results: dict[str, Any]) -> Arrays:
        """The results of a chunk's cells, without the padding up to the layout."""
        rows, columns = chunk.outer_stop - chunk.outer, chunk.inner_stop - chunk.inner
        return {name: np.asarray(value)[:rows, :columns] for name, value in results.items()}

    def _spread(self, batch: Batch) -> tuple[Any, Any, Any]:
        """The arrays of a batch, placed on the devices."""
        return self._place(batch.rows), self._place(batch.blocks), self._place(batch.chosen)

    def _batch(self, running: np.ndarray) -> tuple[Any, Any, Any]:
        """All running cells as one batch."""
        return self._spread(next(self._compaction.batches(running, {int(running.sum(1).max())}, 0)))

    def _sharing(self, chunk: Chunk) -> Sharing:
        """How the settings of a chunk share their training."""
        inner, learner = self.plan.layout.inner, self.plan.system.learner
        sharing = _each(inner)
        if isinstance(learner, Evaluator) or type(learner).shared is Learner.shared:
            return sharing
        settings = settings_of(self.grid, self.grid.inner[chunk.inner : chunk.inner_stop])
        for place, (leader, steps) in enumerate(learner.shared(settings)):
            sharing.leader[place], sharing.steps[place] = leader, steps
        return sharing

    def begin(self, chunk: Chunk, width: int | None = None) -> None:
        """Trace and begin to compile a chunk's phases: those up to pruning or, with a guess of its ``width``, all.

        It may be called in another thread while another program runs.
        """
        self._begin_all(self.inputs(chunk), width, self._sharing(chunk))

    def prepare(self, chunk: Chunk) -> int:
        """Compile, not run, phases up to pruning; returns a chunk's peak bytes, its results on the host included."""
        with self._waiting():
            shapes = self._begin_all(self.inputs(chunk), None, self._sharing(chunk))
            most = max(self.memory.values())
        if self._once:
            return most + _bytes(shapes)
        (train, tune), (problems, cells, pruned) = self.grid.schedule.segments(), shapes
        narrowing = _bytes((problems, cells, pruned)) + _bytes(cells[0]) // 2
        return max(narrowing, most) + (1 + len(train) + len(tune)) * _bytes(cells[1]) + _bytes(pruned)

    def _begin_all(self, inputs: tuple[Any, Any, Any], width: int | None, sharing: Sharing) -> Any:
        """Begin to compile all phases up to pruning, in their order, and with a ``width`` the phases after it.

        Returns the shapes of an Evaluator's results, else of problems, cells and the results of pruning.
        """
        keys, data, settings = inputs
        problems = self._shapes[self._begin("draw", (keys, data))]
        if self._once:
            return self._shapes[self._begin("evaluate", (problems, settings, keys))]
        cells = self._shapes[self._begin("start", (problems, settings, keys))]
        batch = self._batch(np.tile(~sharing.follows, (self.outer, 1)))
        for length, _ in sharing.lengths(self.grid.schedule.segments()[0])[:1]:
            self._begin("train", (problems, settings, cells, *batch), length)
        if sharing.follows.any():
            self._begin("branch", (problems, settings, cells, *self._place_whole((sharing.leader, sharing.follows))))
        pruned = self._shapes[self._begin("prune", (problems, settings, cells[0]))]
        if width is not None:
            self._begin_tuning(problems, settings, cells[0], pruned, width)
        return problems, cells, pruned

    def _begin_tuning(self, problems: Any, settings: Any, states: Any, pruned: Any, width: int) -> None:
        """Begin to compile the phases after pruning."""
        cells = self._shapes[self._begin("narrow", (problems, settings, states, pruned), width)]
        batch = self._batch(np.ones((self.outer, self.plan.layout.inner), bool))
        for length in self.grid.schedule.segments()[1][:1]:
            self._begin("fine_tune", (problems, settings, cells, *batch), length)
        self._begin("measure", (problems, settings, cells[0], pruned))

    def time_steps(self, chunk: Chunk) -> tuple[float, float]:
        """Seconds to compile the phases up to pruning, and seconds of one training step of all cells.

        Without training steps, the second number is the time to draw, start and prune (or to evaluate) all cells.
        """
        self.prepare(chunk)
        keys, data, settings = self.inputs(chunk)
        begun = time.perf_counter()
        problems = self._call("draw", (keys, data))
        if self._once:
            jax.block_until_ready(self._call("evaluate", (problems, settings, keys)))
            return self.compile_seconds, time.perf_counter() - begun
        cells = self._call("start", (problems, settings, keys))
        segments, _ = self.grid.schedule.segments()
        if not segments:
            jax.block_until_ready(self._call("prune", (problems, settings, cells[0])))
            return self.compile_seconds, time.perf_counter() - begun
        sharing = self._sharing(chunk)
        batch, length = self._batch(np.tile(~sharing.follows, (self.outer, 1))), sharing.lengths(segments)[0][0]
        cells = jax.block_until_ready(self._call("train", (problems, settings, cells, *batch), length))
        begun = time.perf_counter()
        jax.block_until_ready(self._call("train", (problems, settings, cells, *batch), length))
        return self.compile_seconds, (time.perf_counter() - begun) / length


def fit_to_memory(plan: Plan, memory: float | int) -> Plan:
    """The plan, with smaller chunks where one would take more than ``memory`` bytes; BadInput where one cell would.

    The heaviest program is first traced for one cell, since pruning and its certificate may take much more memory than
    training. Near the limit it is also compiled, since a plan's estimates are only good to a factor of four.
    """
    heaviest = _heaviest(plan)
    working = working_bytes(heaviest.system, *one_cell(plan.grid))
    if working > heaviest.cost.cell_bytes:
        plan = make_plan(plan.grid, memory, parts=plan.parts, heavier=working / heaviest.cost.cell_bytes)
    budget = float(memory)
    while plan.bytes > memory / 4:
        heaviest = _heaviest(plan)
        first = next(chunk for chunk in plan.chunks if plan.programs[chunk.program] is heaviest)
        needed = Program(plan.grid, heaviest).prepare(first)
        if needed <= memory or heaviest.layout.cells == 1:
            break
        budget *= 0.9 * memory / needed
        plan = make_plan(plan.grid, budget, parts=plan.parts, heavier=plan.heavier)
    return plan


def _heaviest(plan: Plan) -> ProgramPlan:
    """The program whose chunks take the most memory."""
    return max(plan.programs, key=lambda each: chunk_bytes(each.cost, each.layout))


def _each(inner: int) -> Sharing:
    """The sharing in which every one of ``inner`` settings is trained."""
    return Sharing(np.arange(inner, dtype=np.int32), np.zeros(inner, np.int64))


def _arrays(tree: Any) -> Any:
    """The tree with its arrays copied to NumPy."""
    return jax.tree.map(np.array, tree)


def _bytes(tree: Any) -> int:
    """The bytes of all arrays of a tree, or of arrays with the shapes in it."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
