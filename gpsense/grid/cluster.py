"""A run on a dask.distributed cluster: the number of a chunk goes to a worker, the name of its file comes back.

All processes see the run directory. Workers may join, die or run a chunk twice: a chunk is written whole or not at all,
and the same whoever runs it. Needs the extra ``cluster``.
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
STARTS = 3  # times that a cluster of this machine is begun
LOOK = 2.0  # seconds between two looks at its workers
PATIENCE = 60.0  # seconds that a scheduler which is gone may take to come back
RUNS = 4  # whose programs a worker keeps
_lock = Lock()
_kept: dict[tuple[str, str], "_Kept"] = {}  # of this worker: the runs that it had chunks of last


class _Kept:
    """What a worker keeps of a run: its plan and the programs that were compiled."""

    def __init__(self, plan: Plan):
        self.plan, self.known = plan, Traces()
        self.programs: dict[int, Program] = {}


def check_cluster(cluster: Any) -> Any:
    """``local:N``, an address ``tcp://HOST:PORT`` or a Client of dask's; BadInput for anything else."""
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
    """A client of a cluster; that of ``local:N`` is started, N processes that share the devices, and ended."""
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
                    remedy = "start dask scheduler there"
                    raise BadInput("cluster", f"no scheduler answers at {cluster}", remedy) from None
                with client:
                    yield client
            return
        count = int(cluster.removeprefix("local:"))
        told = "--xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
        name = "distributed.nanny.pre-spawn-environ.JAX_NUM_CPU_DEVICES"
        shared = {} if told else {name: str(max(1, jax.local_device_count() // count))}
        scheduler = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}  # any port: it would tell of a used one
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
    """Within the block dask's nannies set variables for their workers, which they would leave to this process."""
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
    """A LocalCluster, begun anew where a worker dies while it starts; ChildProcessError where that goes on."""
    import distributed  # pyright: ignore[reportMissingImports]

    for _ in range(STARTS):
        with suppress(RuntimeError):
            return distributed.LocalCluster(**options)
    raise ChildProcessError("the workers of the cluster end while they start")


async def _replace_ended(local: Any, count: int) -> None:
    """While a LocalCluster runs, start workers in place of those that ended and that their nannies did not start again.

    A nanny does so once: it gives up where the next process dies while it starts, and is ended itself where that takes
    longer than dask waits for a lost worker.
    """
    seen: set[Any] = set()  # nannies that had no process when they were looked at last
    while local.status.name == "running":
        await asyncio.sleep(LOOK)
        ended = {nanny for nanny in local.workers.values() if not nanny.is_alive()}
        for name in [name for name, nanny in local.workers.items() if nanny in ended & seen]:
            with suppress(Exception):  # it is in any state
                await local.workers.pop(name).close(timeout=LOOK)
        seen = ended
        if len(local.workers) < count and local.status.name == "running":
            local.scale(count)


def _own_cores(count: int) -> Any:
    """What gives each of so many workers its share of the cores: their threads would wait for one another's."""
    import distributed  # pyright: ignore[reportMissingImports]

    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []

    class OwnCores(distributed.WorkerPlugin):
        """Done where a worker starts, after a death too."""

        def setup(self, worker: Any) -> None:
            share = cores[worker.name % count :: count] or cores[worker.name % max(len(cores), 1) :][:1]
            for thread in os.listdir("/proc/self/task") if share and os.path.isdir("/proc/self/task") else ():
                with suppress(OSError):  # a thread that has ended
                    os.sched_setaffinity(int(thread), share)

    return OwnCores()


@contextmanager
def _silent(name: str) -> Iterator[None]:
    """Within the block a log says nothing, since its errors are handled."""
    log = logging.getLogger(name)
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


@contextmanager
def started(cluster: Any) -> Iterator[Any]:
    """A cluster for several runs in turn: the workers of ``local:N`` are started once; anything else is as it was."""
    if isinstance(cluster, str) and cluster.startswith("local:"):
        with client_of(cluster) as client:
            yield client
    else:
        yield cluster


def run_on_cluster(
    cluster: Any, plan: Plan, place: Store, make: Callable[[], Grid], progress: bool | None = None
) -> None:
    """Have the chunks that a run directory lacks run by the workers of a cluster; returns when all are there.

    ``make`` makes the grid anew in a worker. ``progress``: one bar for all; None: where there is a terminal. Where the
    scheduler ends, what is missing is given to the one that answers in its place; ConnectionError after PATIENCE.
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
                raise ChildProcessError("chunks end the workers that run them, as where memory runs out") from None
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
                    raise ConnectionError(f"the scheduler ended, and none has answered for {PATIENCE:g} s")
                time.sleep(1)


def _work(directory: str, digest: str, make: Callable[[], Grid], settings: dict[str, Any], number: int) -> str:
    """Run a chunk in a worker unless it is there already; the name of its file."""
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
