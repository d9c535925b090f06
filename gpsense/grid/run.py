"""Running a whole grid, in memory or in a directory, in which it can be resumed."""

import hashlib
import itertools
import json
import re
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from gpsense._devices import add_threads, start_devices
from gpsense.descent import STATUS_NAMES
from gpsense.errors import BadInput
from gpsense.fields import check_flag, shown
from gpsense.grid import store
from gpsense.grid.axes import Grid
from gpsense.grid.estimate import fingerprint
from gpsense.grid.plan import Chunk, Layout, Plan, make_plan, one_cell, shard_of
from gpsense.grid.program import Arrays, Program, fit_to_memory
from gpsense.grid.results import collect, diverged_words, shown_value
from gpsense.grid.store import Store
from gpsense.grid.tracing import Traces
from gpsense.systems import SYSTEMS

if TYPE_CHECKING:
    import xarray as xr

MEMORY = 4.0 * 2**30
CONTEXT = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_default_device",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
    "jax_numpy_dtype_promotion",
    "jax_numpy_rank_promotion",
    "jax_debug_nans",
    "jax_debug_infs",
    "jax_disable_jit",
)
_aside = ThreadPoolExecutor(1, thread_name_prefix="tracing")


def verify_run(memory: Any, progress: Any) -> None:
    """Raises BadInput for memory that is not a number of bytes, and for progress that is neither a flag nor None."""
    check_flag("progress", progress, optional=True)
    if isinstance(memory, bool) or not isinstance(memory, int | float) or not memory > 0:
        raise BadInput("memory", f"{shown(memory)} is not a number of bytes", "give a number above 0")


def run_grid(
    grid: Grid,
    memory: float = MEMORY,
    *,
    out: str | Path | None = None,
    progress: bool | None = None,
    cluster: Any = None,
    make: Callable[[], Grid] | None = None,
) -> "xr.Dataset":
    """Run every cell of a grid within ``memory`` bytes and return the labelled Dataset.

    With ``out``, every chunk is written to that directory as it is done, and ``results.nc`` at the end; calling again
    resumes. ``progress``: whether to show a bar on standard error; None: if standard error is a terminal. ``cluster``
    (with ``out``, a folder that all workers see): ``local:N``, the address of a dask scheduler, or a Client, whose
    workers run the chunks; ``make``: for a grid that cannot be pickled, a function that returns it in each worker.

    Raises BadInput where the directory belongs to another run, and for a field that has no effect on any cell of this
    run, such as ``keep`` with rule threshold. A UserWarning says how many cells diverged.

    >>> grid = gpsense.Grid(gpsense.Sensing(dim=6, rank=1, n=60), seeds=2, axes=(gpsense.Axis("penalty", [0.0, 0.1]),))
    >>> results = gpsense.run_grid(grid)
    >>> dict(results["error"].sizes)
    {'seed': 2, 'penalty': 2}
    """
    dataset = run_whole(grid, memory, out, progress, cluster, make)
    if words := diverged_words(dataset):
        warnings.warn(f"{words}: lower the rate" if grid.system.steps else words, stacklevel=2)
    return dataset


def run_whole(
    grid: Grid, memory: float, out: Any, progress: Any, cluster: Any = None, make: Callable[[], Grid] | None = None
) -> "xr.Dataset":
    """:func:`run_grid` without the warning about diverged cells, for callers that give one in their own words."""
    verify_run(memory, progress)
    grid.verify_read()
    if not SYSTEMS.holds(grid.system):
        add_threads()
    start_devices()
    if out is not None and not isinstance(out, str | Path):
        raise BadInput("out", f"{shown(out)} is not a path", "give the name of a directory")
    if cluster is not None and out is None:
        raise BadInput("cluster", "its workers write chunks to a directory", "give a directory as out")
    if out is None:
        plan = fit_to_memory(make_plan(grid, memory), memory)
        kept: list[tuple[Chunk, Arrays]] = []
        run_chunks(plan, plan.chunks, lambda chunk, arrays, line: kept.append((chunk, arrays)), progress)
        return collect(plan, kept)
    facts = identified(grid)
    digest, settings = digest_of(facts), settings_of(facts)
    place = Store(Path(out), digest)
    manifest = store.check(place.directory, digest, settings=settings)
    plan = make_plan(grid, memory, store.layouts(manifest))
    plan = plan if manifest else fit_to_memory(plan, memory)
    manifest = {"name": grid.system.name, "digest": digest, "settings": settings, "layouts": store.described(plan)}
    manifest = place.create(manifest | {"chunks": len(plan.chunks)} | store.versions())
    plan = make_plan(grid, memory, store.layouts(manifest))
    if cluster is not None:
        from gpsense.grid.cluster import run_on_cluster

        run_on_cluster(cluster, plan, place, make or partial(_itself, grid), progress)
    else:
        run_missing(plan, place, progress)
    dataset = collect(plan, place.whole(plan))
    dataset.attrs |= {"config_digest": digest, "name": grid.system.name, "system": grid.system.name}
    store.write_dataset(place.directory / "results.nc", dataset)
    return dataset


def _itself(grid: Grid) -> Grid:
    return grid


def _nothing() -> None:
    pass


def run_missing(
    plan: Plan,
    place: Store,
    progress: bool | None = None,
    known: Traces | None = None,
    meanwhile: Callable[[], object] = _nothing,
    shard: tuple[int, int] | None = None,
) -> None:
    """Run the chunks missing from a run directory, shared with other processes that do so; returns when all are stored.

    The process that takes a chunk's lease first runs it; if that process ends before storing it, another one does.
    ``shard`` (index, count): only that part of the chunks, see :func:`~gpsense.grid.plan.shard_of`. ``progress``,
    ``known`` and ``meanwhile`` are those of :func:`run_chunks`; the bar also counts chunks run by others. Under
    ``jax.distributed`` each process begins with its own part.
    """
    chunks = place.missing(plan, None if shard is None else shard_of(plan, *shard))
    if jax.process_count() > 1:
        own = shard_of(plan, jax.process_index(), jax.process_count())
        chunks.sort(key=lambda chunk: chunk not in own)
    known = known or Traces()
    with place.leases() as leases, progress_bar(plan, chunks, progress) as bar:

        def take(chunk: Chunk) -> bool:
            if place.path(chunk).exists() or not leases.take(chunk.number):
                return False
            if place.path(chunk).exists():  # stored since the first check
                leases.give_back(chunk.number)
                return False
            return True

        def keep(chunk: Chunk, arrays: Arrays, line: dict[str, Any]) -> None:
            place.keep(chunk, arrays, line)
            leases.give_back(chunk.number)
            stored.add(chunk.number)

        while chunks:
            stored = set[int]()
            _run_chunks(plan, chunks, keep, bar, known, meanwhile, take)
            meanwhile = meanwhile if not stored else _nothing
            others = [chunk for chunk in chunks if chunk.number not in stored]
            chunks = [chunk for chunk in others if place.read(chunk) is None]
            bar.update(sum(chunk.cells for chunk in others) - sum(chunk.cells for chunk in chunks))
            if chunks and not stored:
                bar.set_postfix_str(f"{len(chunks)} chunks left to other processes")
                time.sleep(min(1.0, leases.expiry / 6))


def run_chunks(
    plan: Plan,
    chunks: Any,
    keep: Callable[[Chunk, Arrays, dict[str, Any]], None],
    progress: bool | None = None,
    known: Traces | None = None,
    meanwhile: Callable[[], object] = _nothing,
) -> None:
    """Run these chunks of a plan, handing each to ``keep(chunk, arrays, log line)`` as soon as it is done.

    ``progress``: whether to show a bar; None: if standard error is a terminal.

    While one program runs, the next is traced and compiled in another thread, guessing that it keeps as many columns as
    the previous one; while the last one runs, that thread calls ``meanwhile``. ``known``: traced phases of other runs.
    """
    with progress_bar(plan, chunks, progress) as bar:
        _run_chunks(plan, chunks, keep, bar, known or Traces(), meanwhile)


def progress_bar(plan: Plan, chunks: Sequence[Chunk], progress: bool | None) -> Any:
    """A progress bar over the cells of these chunks."""
    from tqdm import tqdm

    layout = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
    total = sum(chunk.cells for chunk in chunks)
    hidden = None if progress is None else not progress
    return tqdm(total=total, desc=f"{plan.cells} cells", bar_format=layout, disable=hidden)


def _run_chunks(
    plan: Plan,
    chunks: Sequence[Chunk],
    keep: Callable[[Chunk, Arrays, dict[str, Any]], None],
    bar: Any,
    known: Traces,
    meanwhile: Callable[[], object],
    take: Callable[[Chunk], bool] = lambda chunk: True,
) -> None:
    """:func:`run_chunks`, leaving out the chunks for which ``take`` returns False when it is their turn."""

    def moved(cells: int) -> Callable[[float], None]:
        def move(share: float) -> None:
            bar.update(share * cells)

        return move

    begun_aside, width = [], None
    parts = [list(part) for _, part in itertools.groupby(chunks, key=lambda chunk: chunk.program)]
    for part, after in itertools.zip_longest(parts, parts[1:]):
        ready, begun_aside, program = begun_aside, [], None
        for chunk in filter(take, part):
            on_running = _nothing
            if program is None:
                ours = plan.programs[chunk.program]
                program = ready.pop().result() if ready else Program(plan.grid, ours, known=known)
                ahead = partial(begun, plan, after[0], known, width, _context()) if after else meanwhile
                on_running = lambda ahead=ahead, to=begun_aside: to.append(_aside.submit(ahead))  # noqa: E731
            arrays, line, program = run_chunk(program, chunk, moved(chunk.cells), on_running, known)
            keep(chunk, arrays, line)
        width = program.width if program else width


def run_chunk(
    program: Program,
    chunk: Chunk,
    on_segment: Callable[[float], None] = lambda share: None,
    on_running: Callable[[], object] = _nothing,
    known: Traces | None = None,
) -> tuple[Arrays, dict[str, Any], Program]:
    """The measures of a chunk, its log line, and the program that ran it (see :func:`in_memory`)."""
    start, compiled = time.perf_counter(), program.compile_seconds
    arrays, used = in_memory(program, chunk, on_segment, on_running, known)
    compiling = used.compile_seconds - (compiled if used is program else 0.0)
    line = _log_line(chunk, arrays, time.perf_counter() - start - compiling, compiling)
    if used is not program:
        line["batch"] = [used.plan.layout.outer, used.plan.layout.inner]
    return arrays, line, used


def in_memory(
    program: Program,
    chunk: Chunk,
    on_segment: Callable[[float], None] = lambda share: None,
    on_running: Callable[[], object] = _nothing,
    known: Traces | None = None,
) -> tuple[Arrays, Program]:
    """Run a chunk; whenever memory runs out, start again with half as many rows or settings at a time.

    Returns the measures and the program that succeeded. BadInput where even a single cell does not fit.
    """
    begun_next = False

    def once() -> None:
        nonlocal begun_next
        if not begun_next:
            begun_next = True
            on_running()

    while True:
        layout, told = program.plan.layout, 0.0

        def tell(share: float, cells: int) -> None:
            nonlocal told
            told += share * cells / chunk.cells
            on_segment(share * cells / chunk.cells)

        try:
            rows = [
                [program.run(piece, partial(tell, cells=piece.cells), once) for piece in row]
                for row in pieces(chunk, layout)
            ]
            return _joined(rows), program
        except (MemoryError, jax.errors.JaxRuntimeError) as error:
            if not (isinstance(error, MemoryError) or re.search("RESOURCE_EXHAUSTED|out of memory", str(error), re.I)):
                raise
            if layout.cells == 1:
                problem = "memory ran out while running a single cell"
                raise BadInput("memory", problem, "make the problem smaller, or free memory") from None
        on_segment(-told)
        half = (
            replace(layout, outer=-(-layout.outer // 2))
            if layout.outer > 1
            else replace(layout, inner=-(-layout.inner // 2))
        )
        program = Program(program.grid, replace(program.plan, layout=half), known=known)


def pieces(chunk: Chunk, layout: Layout) -> list[list[Chunk]]:
    """The chunk cut into pieces with at most the rows and columns of ``layout``, as a list of rows of pieces."""
    return [
        [
            replace(
                chunk,
                outer=top,
                outer_stop=min(top + layout.outer, chunk.outer_stop),
                inner=left,
                inner_stop=min(left + layout.inner, chunk.inner_stop),
            )
            for left in range(chunk.inner, chunk.inner_stop, layout.inner)
        ]
        for top in range(chunk.outer, chunk.outer_stop, layout.outer)
    ]


def _joined(rows: list[list[Arrays]]) -> Arrays:
    """The measures of a chunk, joined from those of its pieces."""
    if len(rows) == len(rows[0]) == 1:
        return rows[0][0]
    names = rows[0][0]
    return {name: np.concatenate([np.concatenate([each[name] for each in row], 1) for row in rows]) for name in names}


def settle() -> None:
    """Wait until the thread that traces ahead has finished, as is necessary before a change of precision."""
    _aside.submit(lambda: None).result()


def begun(
    plan: Plan, chunk: Chunk, known: Traces, width: int | None = None, context: tuple[Any, ...] | None = None
) -> Program:
    """The program of a chunk; it has begun to compile unless JAX's settings in this thread differ from ``context``."""
    program = Program(plan.grid, plan.programs[chunk.program], known=known)
    if context is None or context == _context():
        program.begin(chunk, width)
    return program


def _context() -> tuple[Any, ...]:
    """The settings of JAX that affect tracing and that a ``with`` block can change in one thread alone."""
    return tuple(getattr(jax.config, name, None) for name in CONTEXT)


def _log_line(chunk: Any, arrays: Arrays, seconds: float, compiling: float) -> dict[str, Any]:
    """The line of metrics.jsonl for a chunk; ``seconds`` exclude compiling."""
    line = {
        "chunk": chunk.number,
        "program": chunk.program,
        "cells": chunk.cells,
        "devices": jax.local_device_count(),
        "seconds": round(seconds, 3),
        "compile_seconds": round(compiling, 3),
    }
    if "error" in arrays:
        finite = arrays["error"][np.isfinite(arrays["error"])]
        line["median_error"] = float(np.median(finite)) if finite.size else None
    return line | {name: int((arrays["status"] == code).sum()) for code, name in enumerate(STATUS_NAMES) if code}


def identity(grid: Grid) -> str:
    """The digest of what determines a grid's results, see :func:`identified`."""
    return digest_of(identified(grid))


def digest_of(facts: dict[str, Any]) -> str:
    """A digest of facts that JSON can hold."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def settings_of(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts of :func:`identified` that a user sets, by name."""
    steps = zip(("train_steps", "fine_tune_steps", "record_every"), facts["schedule"], strict=True)
    return {"system": facts["system"], **facts["fields"], **facts["axes"], **dict(steps), "seeds": facts["seeds"]}


def identified(grid: Grid) -> dict[str, Any]:
    """What determines a grid's results: the system, its revision, the fields that differ from their defaults, the axes,
    steps and seeds; for a user's functions, also the operations they trace to.

    A new field changes nothing here if its default gives the old behaviour.
    """
    known = grid.known
    single = {
        name: value
        for name, value in grid.single().items()
        if not (_equal(value, known[name].default) or (known[name].hidden and grid.system.own_code))
    }
    return {
        "system": grid.system.name,
        "revision": grid.system.revision,
        "fields": {name: _plain(value) for name, value in sorted(single.items())},
        "axes": {
            axis.name: [_plain(value) for value in axis.values]
            for axis in sorted(grid.axes, key=lambda axis: axis.name)
            if axis.listed or axis.values != (known[axis.name].default,)
        },
        "schedule": [grid.schedule.train_steps, grid.schedule.fine_tune_steps, grid.schedule.record_every],
        "seeds": list(grid.seeds.values),
        "traced": fingerprints(grid) if _has_code(grid) else [],
    }


def fingerprints(grid: Grid) -> list[str]:
    """The :func:`~gpsense.grid.estimate.fingerprint` of every program of a grid."""
    data, setting = one_cell(grid)
    return [fingerprint(system, data, setting) for _, system in grid.programs()]


def _has_code(grid: Grid) -> bool:
    """Whether results depend on a user's functions, which no name identifies."""
    values = [*grid.single().values(), *(value for axis in grid.axes for value in axis.values)]
    own = not type(grid.system).__module__.startswith("gpsense.") or grid.system.steps is None
    return own or grid.system.own_code or any(callable(value) for value in values)


def _equal(value: Any, default: Any) -> bool:
    """Whether a value is the default; arrays never are."""
    return not hasattr(value, "shape") and value == default


def _plain(value: Any) -> Any:
    """A value in a form that JSON can hold; for an array its type, shape and digest."""
    if hasattr(value, "shape") and np.ndim(value):
        array = np.asarray(value)
        return [str(array.dtype), list(array.shape), hashlib.sha256(array.tobytes()).hexdigest()[:16]]
    return list(value) if isinstance(value, tuple) else shown_value(value)
