"""JAX on this machine: precision, what it runs on, how much memory there is."""

import hashlib
import os
import platform
import tempfile
import zlib
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path

import jax

from gpsense._devices import start_devices
from launch.shell import Refusal, notice

NEWEST = 64  # programs kept that are looked at, whether they are whole
ZSTANDARD = b"\x28\xb5\x2f\xfd"  # how its data begin


def use_cores() -> None:
    """One CPU device a core, or as many as the environment says; to be called before anything uses a device."""
    told = "--xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if told or getattr(jax.config, "jax_num_cpu_devices", -1) != -1:
        return
    with suppress(RuntimeError, AttributeError, ValueError):  # devices in use already, or a platform without affinity
        jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))


def configure(precision: str) -> None:
    """One dtype per process, full float32 products on accelerators (no TF32, no bfloat16), CPU devices: use_cores.

    Compiled programs are kept as :func:`keep_programs` says. Refused is what JAX is told by the environment and a grid
    cannot run with: a platform that is not there (BadInput), checks of every operation for NaN, which a cell that fails
    would stop all others by, and operations that are not compiled (Refusal).
    """
    for name in ("jax_debug_nans", "jax_debug_infs", "jax_disable_jit"):
        if getattr(jax.config, name):
            raise Refusal(f"{name.upper()}: a grid cannot run with it; unset it")
    jax.config.update("jax_enable_x64", precision == "float64")
    jax.config.update("jax_default_matmul_precision", "highest")
    keep_programs()
    use_cores()
    start_devices()
    if jax.default_backend() == "cpu" and jax.local_device_count() > 1:
        one_thread_a_call()


def keep_programs() -> None:
    """Keep compiled programs between runs in ``$GPSENSE_CACHE`` (default ``~/.cache/gpsense``; empty: not kept).

    Each jaxlib and kind of host has a folder of its own there, since programs hold its machine code. Where it cannot be
    written to, programs are not kept, and a line says so.
    """
    folder = os.environ.get("GPSENSE_CACHE")
    if folder is None:
        with suppress(RuntimeError):  # a user without a home: programs are not kept
            folder = str(Path.home() / ".cache" / "gpsense")
    if folder:
        host = hashlib.sha256(repr((platform.machine(), platform.processor(), _cpu())).encode()).hexdigest()[:12]
        place = Path(folder) / f"{version('jaxlib')}-{host}"
        try:
            place.mkdir(parents=True, exist_ok=True)
            os.rmdir(tempfile.mkdtemp(dir=place, prefix=".probe-"))
        except OSError as error:
            _tell(f"{folder} cannot be written to ({error.strerror})")
            return
        remove_torn(place)
        jax.config.update("jax_compilation_cache_dir", str(place))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@cache
def remove_torn(folder: Path) -> None:
    """Remove programs that were not written to their end, by processes that were killed.

    JAX would warn of each in every run and never write it again. Only those written since the last look are read, the
    NEWEST at most. What another process is writing just now goes, too, and is compiled again.
    """
    stamp = folder / ".looked"
    with suppress(OSError):
        since = stamp.stat().st_mtime if stamp.exists() else 0.0
        stamp.touch()
        with os.scandir(folder) as found:
            programs = sorted((each.stat().st_mtime, each.path) for each in found if each.name.endswith("-cache"))
        for written, path in programs[-NEWEST:]:
            if written >= since and _torn(Path(path).read_bytes()):
                os.unlink(path)


def _torn(data: bytes) -> bool:
    """Whether bytes that JAX compressed by zlib, which it does where no zstandard is installed, lack their end."""
    stream = zlib.decompressobj()
    try:
        stream.decompress(data)
    except zlib.error:
        return data[:4] != ZSTANDARD
    return not stream.eof


@cache
def _tell(problem: str) -> None:
    """Say once that programs are not kept."""
    remedy = "set GPSENSE_CACHE to a writable folder, or to nothing"
    notice(f"compiled programs are not kept: {problem}; {remedy}")


def one_thread_a_call() -> None:
    """Limit SciPy's own BLAS, which jaxlib takes its LAPACK from, to the thread that calls.

    Every device has its core and calls for itself; with a thread a core and call, threads wait for one another, and
    on a busy machine an eigendecomposition takes many times as long. NumPy's own BLAS keeps its threads; where
    both share one library nothing is changed.
    """
    import scipy.linalg  # noqa: F401  (loads the library)
    from threadpoolctl import ThreadpoolController

    blas = ThreadpoolController().select(user_api="blas")
    paths = [each.filepath for each in blas.lib_controllers]
    scipys = [path for path in paths if {"scipy", "scipy.libs"} & set(Path(path).parts)]
    blas.select(filepath=scipys).limit(limits=1)


def _cpu() -> str:
    """Model and features of the processor, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return "".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))


def memory_budget(gib: float | None) -> float:
    """Bytes a chunk may take: as asked for, else 80 % of an accelerator's memory or half of the free main memory."""
    if gib is not None:
        return gib * 2**30
    device = jax.local_devices()[0]
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return 0.8 * stats["bytes_limit"]
    pages = "SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else "SC_PHYS_PAGES"
    return 0.5 * os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")
