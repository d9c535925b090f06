"""The devices that JAX runs on, and the threads of its CPU pool."""

import os
from contextlib import suppress

import jax

from gpsense.errors import BadInput

THREADS = 4  # per core, in XLA's CPU pool


def add_threads() -> None:
    """Give XLA's CPU pool more threads than cores, for a user's code, which may call LAPACK in any way.

    A call of jaxlib's batched solve, eigh, svd and the like holds a thread of the pool while it waits for other threads
    of the pool. If as many calls run at once as the pool has threads, on several devices or side by side in one
    program, they deadlock. ``$NPROC`` sets the number of threads; it is read once, when the devices start, and a value
    that is set already is kept. On two cores the extra threads make the quickstart take up to 1.6 times as long, with
    the same bits, so that gpsense's own systems run without them.
    """
    cores = os.cpu_count() or 1
    with suppress(AttributeError):  # a platform without affinity
        cores = len(os.sched_getaffinity(0))
    os.environ.setdefault("NPROC", str(THREADS * max(cores, 2)))


def start_devices() -> None:
    """Start the devices; raises BadInput where the platform that JAX is told to use is not available."""
    try:
        jax.local_devices()
    except (RuntimeError, AssertionError) as error:
        said = " ".join(str(error).split())[:150] or "no such device"
        problem = f"{jax.config.jax_platforms} cannot be used ({said})"  # pyright: ignore[reportAttributeAccessIssue]
        raise BadInput("JAX_PLATFORMS", problem, "unset it or use cpu") from None
