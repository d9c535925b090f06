"""One run by several processes of ``jax.distributed``, on one host or on many.

Cells have nothing to tell one another, so that no array is spread over hosts: every process runs and writes chunks of
its own on its own devices. ``jax.distributed`` says which process this is and starts accelerators that want all hosts;
then its service is left, which would end all processes where one dies, and only the run directory is shared.
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

PATIENCE = 300.0  # seconds within which all processes have started
SEEN = 60.0  # seconds within which a shared file system shows a file to all


def join(address: str, process: tuple[int, int] | None, directory: Path) -> int:
    """Become process i of N, the first of which listens at ``address``; how many there are.

    ``auto``: as Slurm, Open MPI, Kubernetes or a TPU pod tell. Refusal where nobody does, the others do not come within
    PATIENCE, or they do not see the place of the run directory.
    """
    writable(directory)
    remedy = "give HOST:PORT of process 0, and --shard i/N" if process is None else "start all N with one address"
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
    """Leave the service when all processes have looked for a file that the first has made; Refusal where it is not."""
    parent = next(each for each in (directory, *directory.resolve().parents) if each.is_dir())
    mark = parent / f".gpsense-process-0-of-{jax.process_count()}"
    until, seen = time.monotonic() + SEEN, first()
    try:
        if first():
            mark.touch()
        while not seen and time.monotonic() < until:
            seen = mark.name in os.listdir(parent)
            time.sleep(0.0 if seen else 0.1)
        jax.distributed.shutdown()  # which waits for all
    finally:
        if first():
            mark.unlink(missing_ok=True)
    if not seen:
        problem = f"process {jax.process_index()} of {jax.process_count()} does not see the {parent} of process 0"
        raise Refusal(f"--out: {problem}; choose a directory that all of them see")


def first() -> bool:
    """Whether this process collects the results."""
    return jax.process_index() == 0


def leave(directory: Path) -> int:
    """Say that this process, not the first, is done; the exit code."""
    process = f"process {jax.process_index()} of {jax.process_count()}"
    print(f"{process} is done; all chunks are in {directory}; process 0 collects them")
    return 0
