"""One run by several processes of ``jax.distributed``, on one host or on many.

Cells are independent, so no array is spread over hosts: every process runs and writes its own chunks on its own
devices. ``jax.distributed`` numbers the processes and starts accelerators that need all hosts; then the processes leave
its service, which would end all of them if one died, and share only the run directory.
"""

import os
import sys
import threading
import time
from pathlib import Path

import jax

from gpsense._devices import start_devices
from gpsense.grid.files import writable
from launch.shell import Refusal

PATIENCE = 300.0  # seconds within which all processes must start
SEEN = 60.0  # seconds within which a shared file system must show a file to all


def join(address: str, process: tuple[int, int] | None, directory: Path) -> int:
    """Become process i of N (``process``), of which process 0 listens at ``address``; returns N.

    ``process`` None: Slurm, Open MPI, Kubernetes or a TPU pod tell i, N and address. Raises Refusal if none of them
    does, or if this process does not see the folder in which process 0 makes the run directory. If the other processes
    do not start within PATIENCE, this one ends with exit code 2.
    """
    writable(directory)
    remedy = "give HOST:PORT of process 0, and --shard i/N" if process is None else "start all N with the same address"
    problem = f"--distributed: {address}: the processes do not find one another"

    def give_up() -> None:  # where JAX would print a stack and abort
        print(f"error: {problem} within {PATIENCE:g} s; {remedy}", file=sys.stderr, flush=True)
        os._exit(2)

    waiting = threading.Timer(PATIENCE, give_up)
    waiting.daemon = True
    waiting.start()
    longer = int(2 * PATIENCE)
    try:
        if process is None:
            jax.distributed.initialize(initialization_timeout=longer)
        else:
            known = {"num_processes": process[1], "process_id": process[0], "cluster_detection_method": "deactivate"}
            jax.distributed.initialize(address, initialization_timeout=longer, **known)
    except (RuntimeError, ValueError, KeyError) as error:
        raise Refusal(f"{problem} ({' '.join(str(error).split())[:150]}); {remedy}") from None
    finally:
        waiting.cancel()
    start_devices()
    _meet(directory)
    return jax.process_count()


def _meet(directory: Path) -> None:
    """Leave the service once all have looked for a file of process 0; raises Refusal if this one does not see it."""
    parent = next(each for each in (directory, *directory.resolve().parents) if each.is_dir())
    mark = parent / f".gpsense-process-0-of-{jax.process_count()}"
    until, seen = time.monotonic() + SEEN, first()
    try:
        if first():
            mark.touch()
        while not seen and time.monotonic() < until:
            seen = mark.name in os.listdir(parent)
            time.sleep(0.0 if seen else 0.1)
        jax.distributed.shutdown()  # this waits for all
    finally:
        if first():
            mark.unlink(missing_ok=True)
    if not seen:
        problem = f"process {jax.process_index()} of {jax.process_count()} does not see the {parent} of process 0"
        raise Refusal(f"--out: {problem}; choose a directory that all processes see")


def first() -> bool:
    """Whether this is process 0, which collects the results."""
    return jax.process_index() == 0


def leave(directory: Path) -> int:
    """Print that this process, not process 0, is done; returns the exit code."""
    process = f"process {jax.process_index()} of {jax.process_count()}"
    print(f"{process} is done; all chunks are in {directory}; process 0 collects them")
    return 0
