"""A run on a dask.distributed cluster: a worker is sent the number of a chunk and returns the name of its file.

All processes must see the run directory. Workers may join, die or run a chunk twice: a chunk is written whole or not
at all, and is the same whichever worker runs it. Needs the extra ``cluster``.
"""

import asyncio
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import jax

from gpsense.errors import BadInput
from gpsense.fields import shown
from gpsense.grid import store
from gpsense.grid.axes import Grid
from gpsense.grid.plan import Plan, make_plan
from gpsense.grid.program import Program
from gpsense.grid.run import progress_bar, run_chunk
from gpsense.grid.store import Store
from gpsense.grid.tracing import Traces

SETTINGS = ("jax_enable_x64", "jax_default_matmul_precision", "jax_numpy_dtype_promotion", "jax_numpy_rank_promotion")
DEATHS = 10  # of workers that run a chunk, before the run ends with an error
STARTS = 3  # attempts to start a local cluster
LOOK = 2.0  # seconds between two checks of its workers
PATIENCE = 60.0  # seconds that a scheduler which is gone may take to come back
RUNS = 4  # the number of runs whose programs a worker keeps
_lock = Lock()
_kept: dict[tuple[str, str], "_Kept"] = {}  # in a worker: the runs that it kept programs of


class _Kept:
    """What a worker keeps of a run: its plan and the programs that were compiled."""

    def __init__(self, plan: Plan):
        self.plan, self.known = plan, Traces()
        self.programs: dict[int, Program] = {}


def check_cluster(cluster: Any) -> Any:
    """The cluster if it is ``local:N``, an address ``tcp://HOST:PORT`` or a dask Client; BadInput for anything else."""
    try:
        import distributed  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise BadInput("cluster", "dask.distributed is not installed", 'pip install "gpsense[cluster]"') from None
    if isinstance(cluster, distributed.Client):
        return cluster
    if not isinstance(cluster, str) or not re.fullmatch(r"local:[1-9][0-9]{0,3}|(tcp|tls|ucx)://[!-~]+", cluster):
        raise BadInput("cluster", f"{shown(cluster)} is not a cluster", "use local:N, tcp://HOST:PORT or a dask Client")
    return cluster


@contextmanager
def client_of(cluster: Any) -> Iterator[Any]:
    """A client of a cluster; for ``local:N`` it starts N processes that share the devices, and ends them afterwards."""
    import dask.config  # pyright: ignore[reportMissingImports]
    import distributed  # pyright: ignore[reportMissingImports]

    if isinstance(cluster, distributed.Client):
        yield cluster
        return
    with dask.config.set({"distributed.scheduler.allowed-failures": DEATHS}):
        if not cluster.startswith("local:"):
            with _silent("distributed.client"):
                try:
                    client = distributed.Client(cluster, timeout=10, set_as_default=False)
                except OSError:
                    remedy = "start one there with the command dask scheduler"
                    raise BadInput("cluster", f"no scheduler answers at {cluster}", remedy) from None
                with client:
                    yield client
            return
        count = int(cluster.removeprefix("local:"))
        told = "--xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
        name = "distributed.nanny.pre-spawn-environ.JAX_NUM_CPU_DEVICES"
        shared = {} if told else {name: str(max(1, jax.local_device_count() // count))}
        scheduler = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}  # any port: dask warns of a used one
        quiet: dict[str, Any] = {"scheduler_kwargs": scheduler, "silence_logs": logging.CRITICAL}
        with (
            dask.config.set(shared),
            _environment_kept(),
            _silent("tornado.application"),
            _local(n_workers=count, threads_per_worker=1, **quiet) as local,
            distributed.Client(local, set_as_default=False) as client,
        ):
            local.loop.add_callback(_replace_ended, local, count)
            client.register_plugin(_own_cores(count))
            yield client


@contextmanager
def _environment_kept() -> Iterator[None]:
    """Restores, after the block, the environment variables of this process that dask's nannies set for workers."""
    import dask.config  # pyright: ignore[reportMissingImports]

    names = ["PYTHONHASHSEED", *dask.config.get("distributed.nanny.pre-spawn-environ")]
    before = {name: os.environ[name] for name in names if name in os.environ}
    try:
        yield
    finally:
        for name in names:
            os.environ.pop(name, None)
        os.environ.update(before)


def _local(**options: Any) -> Any:
    """A LocalCluster, started again where a worker dies while it starts; ChildProcessError after STARTS attempts."""
    import distributed  # pyright: ignore[reportMissingImports]

    for _ in range(STARTS):
        with suppress(RuntimeError):
            return distributed.LocalCluster(**options)
    problem = f"workers of local:{options['n_workers']} ended while they started, in each of {STARTS} attempts"
    raise ChildProcessError(f"cluster: {problem}; give fewer workers, or leave cluster out")


async def _replace_ended(local: Any, count: int) -> None:
    """While a LocalCluster runs, replace workers that have ended and that their nannies did not start again.

    A nanny starts its worker again once: it gives up if the new process dies while it starts, and is ended itself if
    that takes longer than dask waits for a lost worker.
    """
    seen: set[Any] = set()  # nannies that had no process at the last check
    while local.status.name == "running":
        await asyncio.sleep(LOOK)
        ended = {nanny for nanny in local.workers.values() if not nanny.is_alive()}
        for name in [name for name, nanny in local.workers.items() if nanny in ended & seen]:
            with suppress(Exception):  # the nanny may be in any state
                await local.workers.pop(name).close(timeout=LOOK)
        seen = ended
        if len(local.workers) < count and local.status.name == "running":
            local.scale(count)


def _own_cores(count: int) -> Any:
    """A plugin that gives each of ``count`` workers its own cores, so that their threads do not wait for each other."""
    import distributed  # pyright: ignore[reportMissingImports]

    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []

    class OwnCores(distributed.WorkerPlugin):
        """Gives a worker its cores whenever one starts, also in place of a worker that died."""

        def setup(self, worker: Any) -> None:
            share = cores[worker.name % count :: count] or cores[worker.name % max(len(cores), 1) :][:1]
            for thread in os.listdir("/proc/self/task") if share and os.path.isdir("/proc/self/task") else ():
                with suppress(OSError):  # a thread that has ended
                    os.sched_setaffinity(int(thread), share)

    return OwnCores()


@contextmanager
def _silent(name: str) -> Iterator[None]:
    """Silences a logger within the block, where its errors are handled."""
    log = logging.getLogger(name)
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


@contextmanager
def started(cluster: Any) -> Iterator[Any]:
    """A cluster for several runs in turn: the workers of ``local:N`` are started once; others are left as they are."""
    if isinstance(cluster, str) and cluster.startswith("local:"):
        with client_of(cluster) as client:
            yield client
    else:
        yield cluster


def run_on_cluster(
    cluster: Any, plan: Plan, place: Store, make: Callable[[], Grid], progress: bool | None = None
) -> None:
    """Run the chunks missing from a run directory on the workers of a cluster; returns when all are stored.

    ``make`` makes the grid in each worker. ``progress``: whether to show one bar for all; None: only on a terminal. If
    the scheduler ends, the missing chunks go to the next one that answers; ConnectionError if none does in PATIENCE s.
    """
    import distributed  # pyright: ignore[reportMissingImports]
    from distributed.comm.core import CommClosedError  # pyright: ignore[reportMissingImports]

    cluster = check_cluster(cluster)
    settings = {name: getattr(jax.config, name) for name in SETTINGS if hasattr(jax.config, name)}
    task = partial(_work, str(place.directory.resolve()), place.digest, make, settings)
    chunks, lost = place.missing(plan), None  # lost: the time at which the scheduler was found to have ended
    with progress_bar(plan, chunks, progress) as bar:
        while chunks:
            cells = {place.path(chunk).name: chunk.cells for chunk in chunks}
            try:
                with client_of(cluster) as client:
                    if client.status != "running":
                        raise distributed.CancelledError
                    futures = client.map(task, [chunk.number for chunk in chunks], pure=False)
                    for future in distributed.as_completed(futures, loop=client.loop):
                        name = future.result()
                        bar.update(cells.pop(name))
                        lost = None
            except distributed.KilledWorker:
                problem = "workers die while they run chunks, perhaps as memory runs out"
                remedy = "give fewer workers or a smaller memory"
                raise ChildProcessError(f"cluster: {problem}; {remedy}") from None
            except (distributed.CancelledError, CommClosedError):
                lost = lost or time.monotonic()
            except BadInput as error:
                if error.field != "cluster" or lost is None:
                    raise
            chunks = [chunk for chunk in chunks if place.read(chunk) is None]
            bar.update(sum(cells.values()) - sum(chunk.cells for chunk in chunks))
            if chunks and lost is not None:
                bar.set_postfix_str("no scheduler answers")
                if time.monotonic() - lost > PATIENCE:
                    problem = f"the scheduler ended, and no other has answered for {PATIENCE:g} s"
                    raise ConnectionError(f"cluster: {problem}; start one at its address and run this again")
                time.sleep(1)


def _work(directory: str, digest: str, make: Callable[[], Grid], settings: dict[str, Any], number: int) -> str:
    """Run a chunk in a worker unless it is stored already; returns the name of its file."""
    with _lock:
        place = Store(Path(directory), digest)
        for name, value in settings.items():
            jax.config.update(name, value)
        if (directory, digest) not in _kept:
            while len(_kept) >= RUNS:
                _kept.pop(next(iter(_kept)))
            layouts = store.layouts(store.read(place.directory))
            _kept[directory, digest] = _Kept(make_plan(make(), 2**60, layouts))
        kept = _kept[directory, digest]
        chunk = kept.plan.chunks[number]
        if place.read(chunk) is None:
            program = kept.programs.get(chunk.program) or Program(
                kept.plan.grid, kept.plan.programs[chunk.program], known=kept.known
            )
            arrays, line, kept.programs[chunk.program] = run_chunk(program, chunk, known=kept.known)
            place.keep(chunk, arrays, line)
        return place.path(chunk).name
