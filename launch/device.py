"""Sets up JAX on this machine: precision, devices, stored compiled programs and memory."""

import hashlib
import os
import platform
import tempfile
import warnings
import zlib
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path

import jax

from gpsense._devices import start_devices
from launch.shell import Refusal, notice

NEWEST = 64  # most stored programs that are checked for completeness
ZSTANDARD = b"\x28\xb5\x2f\xfd"  # its first bytes


def use_cores() -> None:
    """Make JAX use one CPU device per core, unless the environment sets their number; call it before any is used."""
    told = "--xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if told or getattr(jax.config, "jax_num_cpu_devices", -1) != -1:
        return
    with suppress(RuntimeError, AttributeError, ValueError):  # devices in use already, or a platform without affinity
        jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))


def configure(precision: str) -> None:
    """Configure JAX for a grid: its precision, one CPU device per core, and where compiled programs are kept.

    Accelerators multiply in full float32 (no TF32, no bfloat16). Raises BadInput if JAX is set to use a platform that
    is missing, and Refusal if it is set not to compile, or to raise an error at every NaN or infinity: one failing cell
    would then stop all others.
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

    Each version of jaxlib and each kind of processor has its own folder there, since programs are machine code. If
    that folder cannot be written to, programs are not kept, and a notice says so.
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
        # a program that another process is still writing is compiled here
        warnings.filterwarnings("ignore", message="Error reading persistent compilation cache entry")


@cache
def remove_torn(folder: Path) -> None:
    """Remove stored programs that are incomplete, because the process that wrote them was killed.

    JAX would warn of each in every run and never rewrite it. Only those written since the last check are read, at most
    NEWEST. A program that another process is just writing is removed too, and compiled again later.
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
    """Whether data that JAX compressed by zlib (as it does without zstandard) are incomplete."""
    stream = zlib.decompressobj()
    try:
        stream.decompress(data)
    except zlib.error:
        return data[:4] != ZSTANDARD
    return not stream.eof


@cache
def _tell(problem: str) -> None:
    """Print once a notice that compiled programs are not kept."""
    remedy = "set GPSENSE_CACHE to a writable folder, or leave it empty"
    notice(f"compiled programs are not kept: {problem}; {remedy}")


def one_thread_a_call() -> None:
    """Limit SciPy's own BLAS, which provides the LAPACK of jaxlib, to one thread per call.

    Each device has one core and makes its own calls; with one thread per core in each call, threads wait for one
    another, and on a busy machine an eigendecomposition takes many times as long. NumPy's own BLAS keeps its threads;
    if both share one library, nothing is changed.
    """
    import scipy.linalg  # noqa: F401  (loads the library)
    from threadpoolctl import ThreadpoolController

    blas = ThreadpoolController().select(user_api="blas")
    paths = [each.filepath for each in blas.lib_controllers]
    scipys = [path for path in paths if {"scipy", "scipy.libs"} & set(Path(path).parts)]
    blas.select(filepath=scipys).limit(limits=1)


def _cpu() -> str:
    """Model and features of the processor from /proc/cpuinfo; empty where there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return "".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))


def memory_budget(gib: float | None) -> float:
    """The bytes that a chunk may take: ``gib`` GiB; None: 80 % of an accelerator's memory, else half the free RAM."""
    if gib is not None:
        return gib * 2**30
    device = jax.local_devices()[0]
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return 0.8 * stats["bytes_limit"]
    pages = "SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else "SC_PHYS_PAGES"
    return 0.5 * os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")
