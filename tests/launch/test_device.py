"""JAX on this machine: whose threads LAPACK calls run on, and what it is told that a grid cannot run with."""

import os
import subprocess
import sys

import jax
import pytest
from threadpoolctl import ThreadpoolController

from launch import device
from launch.shell import Refusal


def test_lapack_calls_keep_to_their_thread_and_numpys_do_not() -> None:
    """jaxlib calls the library that came with SciPy; NumPy's is another, or the same and left alone."""
    with ThreadpoolController().limit(limits=2, user_api="blas"):
        device.one_thread_a_call()
        blas = [each for each in ThreadpoolController().info() if each["user_api"] == "blas"]
        threads = {place: each["num_threads"] for each in blas for place in each["filepath"].split("/")}
    assert threads.get("scipy.libs", 1) == 1
    assert threads.get("numpy.libs", 2) == 2


@pytest.mark.parametrize("name", ["jax_debug_nans", "jax_disable_jit"])
def test_settings_that_a_grid_cannot_run_with_are_refused(name):
    before = getattr(jax.config, name)
    jax.config.update(name, True)
    try:
        with pytest.raises(Refusal, match=f"^{name.upper()}: a grid cannot run with it; unset it$"):
            device.configure("float64")
    finally:
        jax.config.update(name, before)


def test_a_platform_that_is_not_there_is_refused():
    code = "from launch import device; device.configure('float32')"
    environment = os.environ | {"JAX_PLATFORMS": "cuda"}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "Refusal: JAX_PLATFORMS: cuda cannot be used" in ran.stderr
