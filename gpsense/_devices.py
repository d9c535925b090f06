"""What JAX runs on."""

import os
from contextlib import suppress

import jax

from gpsense.errors import BadInput

THREADS = 4  # of XLA's pool on the CPU, a core


def add_threads() -> None:
    """Give XLA's pool on the CPU more threads than cores, for code of which the calls of LAPACK are not known.

    jaxlib's batched solve, eigh, svd and the like hold a thread of the pool while they wait for others of it. As many
    at once as there are threads, on several devices or side by side in one program, wait for ever. Threads are named by
    ``$NPROC``, read once when the devices start: nothing changes after that, or where it is set. The quickstart takes
    up to 1.6 times as long with them on two cores, to the same bits: grids of gpsense's own systems do without.
    """
    cores = os.cpu_count() or 1
    with suppress(AttributeError):  # a platform without affinity
        cores = len(os.sched_getaffinity(0))
    os.environ.setdefault("NPROC", str(THREADS * max(cores, 2)))


def start_devices() -> None:
    """Start the devices; BadInput where the platform that JAX is told to use is not there."""
    try:
        jax.local_devices()
    except (RuntimeError, AssertionError) as error:
        said = " ".join(str(error).split())[:150] or "no such device"
        problem = f"{jax.config.jax_platforms} cannot be used ({said})"  # pyright: ignore[reportAttributeAccessIssue]
        raise BadInput("JAX_PLATFORMS", problem, "unset it or use cpu") from None
