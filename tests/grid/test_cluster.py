"""Chunks on a dask cluster: the bits of one process, though workers die; anything else is refused in one line."""

import json
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from gpsense import BadInput, sweep
from gpsense.grid.cluster import check_cluster, client_of

HERE = find_spec("distributed") is not None
needs_dask = pytest.mark.skipif(not HERE, reason="dask.distributed is not installed")


def draw(key: Any, scale: Any) -> Any:
    return scale * jax.random.normal(key, (5,))


def cell(problem: Any, shift: Any) -> Any:
    return {"total": problem.sum() + shift}


AXES: dict[str, Any] = {"seeds": 6, "scale": [1.0, 2.0], "shift": [0.1, 0.2]}


@pytest.mark.skipif(HERE, reason="dask.distributed is installed")
def test_without_dask_it_is_refused() -> None:
    with pytest.raises(BadInput, match=r"^cluster: dask.distributed is not installed; pip install"):
        check_cluster("local:2")


@needs_dask
@pytest.mark.parametrize(
    "cluster", ["local:0", "local:", "local:-1", "local:99999", "tcp:", "here", "tcp://a\x1b", 3, ""]
)
def test_what_is_no_cluster_is_refused(cluster: Any) -> None:
    with pytest.raises(
        BadInput, match=r"^cluster: .* is not a cluster; use local:N, tcp://HOST:PORT or a dask Client$"
    ):
        check_cluster(cluster)


@needs_dask
def test_a_directory_is_needed() -> None:
    with pytest.raises(BadInput, match="^cluster: its workers write chunks to a directory; give a directory as out$"):
        sweep(cell, draw, cluster="local:2", **AXES)


@needs_dask
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_cluster_gives_the_bits_of_one_process_though_a_worker_dies(tmp_path: Path) -> None:
    import distributed  # pyright: ignore[reportMissingImports]

    alone = sweep(cell, draw, out=tmp_path / "alone", memory=1500, **AXES)
    environment = {"PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parent)])}
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, env=environment) as local,
        distributed.Client(local) as client,
    ):
        workers = list(client.run(os.getpid).values())

        def kill() -> None:
            while not list((tmp_path / "out" / "chunks").glob("*.chunk")):
                time.sleep(0.01)
            os.kill(workers[0], signal.SIGKILL)

        threading.Thread(target=kill, daemon=True).start()
        together = sweep(cell, draw, out=tmp_path / "out", memory=1500, cluster=client, **AXES)
    for name in alone.data_vars:
        np.testing.assert_array_equal(alone[name], together[name])
    count = len(list((tmp_path / "out" / "chunks").glob("*.chunk")))
    assert count == len(list((tmp_path / "alone" / "chunks").glob("*.chunk"))) > 2
    lines = [json.loads(line)["chunk"] for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert set(lines) == set(range(count))


@needs_dask
@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="cores cannot be asked for here")
@pytest.mark.filterwarnings("ignore")
def test_workers_of_one_machine_have_cores_of_their_own() -> None:
    cores, before = os.sched_getaffinity(0), dict(os.environ)
    with client_of("local:2") as client:
        shares = list(client.run(os.sched_getaffinity, 0).values())
    assert dict(os.environ) == before  # what workers are told is not left to this process
    assert len(shares) == 2
    assert set.union(*shares) == cores
    assert len(cores) == 1 or not set.intersection(*shares)


def told(path: Path) -> str:
    """What a file of /proc says; nothing where its thread or process has ended."""
    with suppress(OSError):
        return path.read_text()
    return ""


def processes() -> list[int]:
    """The workers that this process watches over."""
    tasks = Path("/proc/self/task")
    found = [int(child) for task in tasks.iterdir() for child in told(task / "children").split()]
    return [each for each in found if "spawn_main" in told(Path(f"/proc/{each}/cmdline"))]


@needs_dask
@pytest.mark.slow
@pytest.mark.skipif(not Path(f"/proc/self/task/{os.getpid()}/children").exists(), reason="Linux tells the children")
@pytest.mark.filterwarnings("ignore")
def test_workers_that_die_while_they_start_are_replaced(capfd: pytest.CaptureFixture[str]) -> None:
    """The first ones, and those started in place of others: dask alone would fail, and then wait for ever."""

    def kill(but: set[int]) -> int:
        while not (there := set(processes()) - but):
            time.sleep(0.002)
        with suppress(ProcessLookupError):
            os.kill(min(there), signal.SIGKILL)
        return min(there)

    first = threading.Thread(target=kill, args=(set(),), daemon=True)
    first.start()
    with client_of("local:1") as client:
        first.join()
        worker = kill(set())
        kill({worker})
        assert [each.result(timeout=120) for each in client.map(abs, [-1, -2])] == [1, 2]
    assert capfd.readouterr() == ("", "")


@needs_dask
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_cluster_whose_workers_never_start_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import distributed  # pyright: ignore[reportMissingImports]

    def fail(**options: Any) -> None:
        raise RuntimeError("Nanny failed to start.")

    monkeypatch.setattr(distributed, "LocalCluster", fail)
    with (
        pytest.raises(ChildProcessError, match="^cluster: workers of local:1 ended while they started, in each of 3"),
        client_of("local:1"),
    ):
        pass


@needs_dask
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_scheduler_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no scheduler answers at tcp://127.0.0.1:9"):
        sweep(cell, draw, out=tmp_path / "out", cluster="tcp://127.0.0.1:9", **AXES)
