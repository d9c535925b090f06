"""JAX on this machine: whose threads LAPACK calls run on, how many devices there are,
and what it is told that a grid cannot run with."""

import json
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

import jax
import numpy as np
import pytest
import xarray as xr
from threadpoolctl import ThreadpoolController

from launch import device
from launch.shell import Refusal
from tests.commands import UNDRAWN


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


def test_a_cache_that_cannot_be_written_to_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GPSENSE_CACHE", str(tmp_path / "file"))
    before = jax.config.jax_compilation_cache_dir
    device.keep_programs()
    device.keep_programs()
    assert jax.config.jax_compilation_cache_dir == before
    assert capsys.readouterr().err == (
        f"notice: compiled programs are not kept: {tmp_path / 'file'} cannot be written to (Not a directory); "
        "set GPSENSE_CACHE to a writable folder, or leave it empty\n"
    )


def test_programs_that_a_kill_left_torn_are_removed(tmp_path: Path) -> None:
    """JAX would warn of each in every run; those seen to be whole are not read again."""
    whole = zlib.compress(b"program" * 100)
    wanted = {"whole": True, "half": False, "nothing": False, "flipped": False, "other": True}
    for name, data in {
        "whole": whole,
        "half": whole[:-5],
        "nothing": b"",
        "flipped": whole[:-1] + bytes([whole[-1] ^ 1]),
        "other": device.ZSTANDARD + b"...",
    }.items():
        (tmp_path / f"{name}-cache").write_bytes(data)
    look = device.remove_torn.__wrapped__
    look(tmp_path)
    assert {name: (tmp_path / f"{name}-cache").exists() for name in wanted} == wanted
    (tmp_path / "whole-cache").write_bytes(whole[:-5])
    os.utime(tmp_path / "whole-cache", (0, 0))
    look(tmp_path)
    assert (tmp_path / "whole-cache").exists()
    (tmp_path / "whole-cache").touch()
    look(tmp_path)
    assert not (tmp_path / "whole-cache").exists()


HALF_WRITTEN = """
import pathlib
import jax
from launch.device import keep_programs

keep_programs()
for _ in range(2):
    print(jax.jit(lambda x: 2 * x)(3.0))
    for program in pathlib.Path(jax.config.jax_compilation_cache_dir).glob("*-cache"):
        program.write_bytes(program.read_bytes()[:-5])
    jax.clear_caches()
"""


def test_a_program_that_is_still_being_written_is_compiled_without_a_word(tmp_path: Path) -> None:
    environment = {**os.environ, "GPSENSE_CACHE": str(tmp_path)}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    ended = subprocess.run([sys.executable, "-c", HALF_WRITTEN], env=environment, capture_output=True, text=True)
    assert (ended.stdout, ended.stderr) == ("6.0\n6.0\n", "")


MISSING = """
import numpy as np
import gpsense
from launch import config, device, work

grid = gpsense.Grid(gpsense.Sensing(dim=2, rank=1, n=9), seeds=1, axes=(gpsense.Axis("penalty", [0.0]),))
table = np.arange(80.0).reshape(40, 2)
for call in (
    lambda: device.configure("float32"),
    lambda: work.check_plan(config.build(config.read_yaml(config.DEFAULT)), None),
    lambda: gpsense.run_grid(grid),
    lambda: gpsense.sweep(lambda key, x: {"y": x}, seeds=1, x=[0.0, 1.0]),
    lambda: gpsense.fit_sparse(table, table[:, 0]),
    lambda: gpsense.find_tickets(None, (table, table), (table, table)),
):
    try:
        call()
    except gpsense.BadInput as error:
        print(error)
"""


def test_a_platform_that_is_not_there_is_refused_in_one_line_wherever_a_grid_or_a_fit_begins() -> None:
    environment = os.environ | {"JAX_PLATFORMS": "cuda"}
    ran = subprocess.run([sys.executable, "-c", MISSING], env=environment, capture_output=True, text=True, check=False)
    lines = ran.stdout.splitlines()
    assert (len(lines), ran.returncode) == (6, 0), ran.stderr
    for line in lines:
        assert re.fullmatch(r"JAX_PLATFORMS: cuda cannot be used \(.+\); unset it or use cpu", line)


def devices(**environment: str) -> int:
    """How many devices a command has in this environment."""
    code = "import jax; from launch import device; device.configure('float32'); print(jax.device_count())"
    kept = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")}
    command = [sys.executable, "-c", code]
    return int(subprocess.run(command, env=kept | environment, capture_output=True, text=True, check=True).stdout)


def test_as_many_devices_as_the_environment_says_else_one_a_core() -> None:
    assert devices(XLA_FLAGS="--xla_force_host_platform_device_count=3") == 3
    assert devices(JAX_NUM_CPU_DEVICES="5") == 5
    assert devices() == len(os.sched_getaffinity(0))


@pytest.mark.slow
def test_one_three_and_four_devices_give_the_same_bits(tmp_path: Path) -> None:
    options = ["--problem.dim", "6", "--problem.n", "40", "--run.seeds", "5", "--train.steps", "200"]
    results = []
    for count in (1, 3, 4):
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count}"
        command = [sys.executable, "-c", UNDRAWN, *options, "--out", str(tmp_path / str(count))]
        environment = os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run(command, env=environment, cwd=tmp_path, check=True, capture_output=True)
        manifest = json.loads((tmp_path / str(count) / "manifest.json").read_text())
        assert len(manifest["devices"]) == count
        results.append(xr.load_dataset(tmp_path / str(count) / "results.nc", engine="h5netcdf"))
    for other in results[1:]:
        for name, values in results[0].data_vars.items():
            np.testing.assert_array_equal(values, other[name], err_msg=str(name))
