"""Strict settings for every test: float64, no silent rank or dtype promotion, shapes of :data:`CHECKED` checked."""

import atexit
import gc
import os
import shutil
import tempfile
from collections import Counter
from importlib.metadata import version

# programs are compiled once for all tests, the processes that share them, and the commands they start
if "PYTEST_XDIST_WORKER" not in os.environ:
    if kept := os.environ.get("GPSENSE_CACHE"):
        os.environ["GPSENSE_CACHE"] = os.path.abspath(kept)
    else:
        os.environ["GPSENSE_CACHE"] = tempfile.mkdtemp(prefix="gpsense-tests-")
        atexit.register(shutil.rmtree, os.environ["GPSENSE_CACHE"], ignore_errors=True)
    # tiny programs cost more to compile than to run; XLA aborts where it does not know a flag, and what is set wins
    cheap = ["--xla_backend_optimization_level=0", "--xla_cpu_parallel_codegen_split_count=1"]
    if tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 11):
        cheap.append("--xla_cpu_use_fusion_emitters=false")
    os.environ["XLA_FLAGS"] = " ".join([*cheap, os.environ.get("XLA_FLAGS", "")]).strip()
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("GPSENSE_TINY", "1")  # the notebooks at a fraction of their size
os.environ.setdefault("NPROC", str(os.cpu_count() or 1))  # add_threads would name more for all that follow
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # matrices are small, and a process a core is running

import jax
import numpy as np
import pytest
from jaxtyping import install_import_hook

from launch.device import keep_programs

# every call of these is checked against its annotations, the shapes of arrays among them
CHECKED = [f"gpsense.{name}" for name in ("_linalg", "penalties", "pruning.columns", "pruning.inputs", "stationarity")]
CHECKED += [f"gpsense.sensing.{name}" for name in ("isometry", "truths")]
CHECKED += [f"gpsense.sparse.{name}" for name in ("directions", "hermite", "moments", "samples")]
CHECKED += [f"gpsense.tickets.{name}" for name in ("convexity", "matching", "tensor")]
install_import_hook(CHECKED, "beartype.beartype")
keep_programs()
# and by the processes that tests start
os.environ["JAX_COMPILATION_CACHE_DIR"] = jax.config.jax_compilation_cache_dir
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
gc.freeze()  # tracing makes many objects that live long: each look at all of them is a tenth of a test's time
gc.set_threshold(100_000, 20, 20)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


def in_float64() -> None:
    """The precision of the tests, which a command run inside one sets anew for the whole process."""
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_default_matmul_precision", "highest")


in_float64()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with many slow tests first, so that the processes end at about the same time."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(scope="module", autouse=True)
def _modules_in_float64() -> None:
    in_float64()


@pytest.fixture(autouse=True)
def _tests_in_float64() -> None:
    in_float64()


@pytest.fixture(autouse=True)
def _own_draws(request: pytest.FixtureRequest) -> None:
    """Each test draws from the beginning of its module's ``RNG``, whatever ran before it."""
    if hasattr(request.module, "RNG"):
        request.module.RNG = np.random.default_rng(4)


@pytest.fixture
def key() -> jax.Array:
    """A random key, the same in every test."""
    return jax.random.key(20)
