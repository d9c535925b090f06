"""Strict settings for every test: float64, no silent rank or dtype promotion, shapes checked at run time."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator

# programs are compiled once for all tests, the processes that share them, and the commands they start
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["GPSENSE_CACHE"] = tempfile.mkdtemp(prefix="gpsense-tests-")
    atexit.register(shutil.rmtree, os.environ["GPSENSE_CACHE"], ignore_errors=True)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("GPSENSE_TINY", "1")  # the notebook at a fraction of its size

from jaxtyping import install_import_hook

with install_import_hook("gpsense", "beartype.beartype"):
    pass

import jax
import pytest

jax.config.update("jax_compilation_cache_dir", os.environ["GPSENSE_CACHE"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


def in_float64() -> None:
    """The precision of the tests, which a command run inside one sets anew for the whole process."""
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_default_matmul_precision", "highest")


in_float64()


@pytest.fixture(scope="module", autouse=True)
def _modules_in_float64() -> None:
    in_float64()


@pytest.fixture(autouse=True)
def _tests_in_float64() -> None:
    in_float64()


@pytest.fixture
def key() -> jax.Array:
    """A random key, the same in every test."""
    return jax.random.key(20)


@pytest.fixture(scope="module")
def quick_compiling() -> Iterator[None]:
    """Programs that compile sooner and run slower: for many programs at tiny sizes."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
