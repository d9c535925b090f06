"""``--verify``: honest runs agree, changed numbers do not, whatever their size, and what is no run is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from gpsense.errors import BadInput
from gpsense.grid import store
from launch import grid, verify
from tests.commands import ended
from tests.parameters import first_quick

pytestmark = pytest.mark.usefixtures("never_drawn")
OPTIONS = [
    "--problem.dim",
    "4",
    "--problem.n",
    "20",
    "--problem.rank",
    "1",
    "--train.penalty",
    "0.1,0.2",
    "--problem.noise",
    "0.3",
]
OPTIONS += ["--train.steps", "20", "--fine_tune.steps", "10", "--run.record_every", "10", "--run.seeds", "2"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run in float32."""
    folder = tmp_path_factory.mktemp("verify") / "run"
    assert ended(grid.main, *OPTIONS, "--out", folder).code == 0
    return folder


def test_an_honest_run_agrees(run: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    checked = ended(grid.main, "--verify", run)
    assert (checked.code, checked.err) == (0, "")
    lines = checked.out.splitlines()
    assert lines[0] == f"{run} (results.nc): 4 of 4 cells recomputed, each alone, in float64"
    assert all("agrees in 20 measures, by " in line for line in lines[1:5])
    assert sorted(line.split(":")[0].strip() for line in lines[1:5]) == [
        f"seed {seed}, penalty {penalty}" for seed in (0, 1) for penalty in (0.1, 0.2)
    ]
    assert lines[5].startswith("4 agree, 0 disagree; tolerance for float32: 0.0001 of a number")
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


@pytest.mark.parametrize("name", first_quick(["error", "rank", "column_norms", "steps_train"]))
def test_a_changed_number_disagrees(run: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(run, tmp_path / "run")
    dataset = xr.load_dataset(run / "results.nc", engine="h5netcdf")
    values = dataset[name].values
    values[(1, 0) + (0,) * (values.ndim - 2)] += 1 if name in ("rank", "steps_train") else 1e-3
    store.write_dataset(tmp_path / "run" / "results.nc", dataset)
    checked = ended(grid.main, "--verify", tmp_path / "run")
    assert (checked.code, checked.err) == (1, "")
    wrong = [line for line in checked.out.splitlines() if "DISAGREES" in line]
    assert len(wrong) == 1
    assert wrong[0].strip().startswith(f"seed 1, penalty 0.1: DISAGREES in {name}")


def test_a_run_that_cannot_be_written_to_is_verified(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(directory: Path) -> None:
        raise BadInput("out", f"{directory} cannot be written to", "choose a writable directory")

    monkeypatch.setattr(store, "writable", refuse)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert ended(grid.main, "--verify", run).code == 0
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_what_cannot_be_verified_is_refused_in_one_line(run: Path, tmp_path: Path) -> None:
    names = ("empty", "python", "changed", "torn", "begun")
    empty, python, changed, torn, begun = (tmp_path / name for name in names)
    manifest = json.loads((run / "manifest.json").read_text())
    empty.mkdir()
    for directory, change in ((python, {"config": None}), (changed, {"digest": "abc"}), (torn, {}), (begun, {})):
        directory.mkdir()
        (directory / "manifest.json").write_text(json.dumps(manifest | change))
    (torn / "results.nc").write_bytes(b"no netCDF")
    for argv, words in (
        ((empty,), "is not a gpsense run; name the directory of a run"),
        ((tmp_path / "none",), "is not a gpsense run"),
        ((python,), "made in Python and has no config, so it can be neither verified nor continued from a shell; to"),
        ((changed,), "cannot be rebuilt from its manifest"),
        ((torn,), "results.nc cannot be read"),
        ((begun,), "has no finished cell yet; wait for the first chunk"),
        ((run, "--out", tmp_path), "give no config and no other option but --allow-plugins"),
    ):
        refused = ended(grid.main, "--verify", *argv)
        assert (refused.code, refused.out, refused.err.count("\n")) == (2, "", 1), argv
        assert words in refused.err


def test_rounding_excuses_what_it_does_and_no_more() -> None:
    class Alone:
        """A cell whose numbers depend on precision: by 0.01 in float32, not in float64."""

        def measures(self, *where: int, wide: bool) -> dict[str, Any]:
            return {"a": np.float64(1.0 if wide else 1.01), "whole": np.int32(3 if wide else 4), "b": np.float64(1.0)}

    def judged(**values: Any) -> dict[str, tuple[bool, bool]]:
        found = verify._differences(Alone(), verify.Cell(0, 0, 0, {}, ""), xr.Dataset(values), {}, 1e-4)
        return {each.name: (each.wrong, each.sensitive) for each in found}

    assert judged(a=1.005, whole=4, b=1.0) == {"a": (False, True), "whole": (False, True), "b": (False, False)}
    assert judged(a=1.2, whole=3, b=1.00005) == {"a": (True, False), "whole": (False, False), "b": (False, False)}
    assert judged(a=1.0, whole=3, b=1.001)["b"] == (True, False)
    assert judged(a=np.nan, whole=3, b=1.0)["a"] == (True, False)
    assert judged(whole=3, b=1.0)["a"] == (True, False)


@pytest.mark.slow
def test_functions_and_runs_in_float64_are_verified(tmp_path: Path) -> None:
    code = "import jax, jax.numpy as jnp\ndef draw(key, n):\n"
    code += "    return jnp.where(jnp.arange(30, dtype=n.dtype) < n, jax.random.normal(key, (30,)), 0)\n"
    code += "def cell(problem, shift=0.5):\n    return {'total': problem.sum() + shift, 'spread': problem.std()}\n"
    (tmp_path / "mine.py").write_text(code)
    options = [f"{tmp_path / 'mine.py'}:cell", "--n", "10,20", "--shift", "0.1,0.2", "--seeds", "3"]
    for precision, out in (("float32", "a"), ("float64", "b")):
        assert ended(grid.main, *options, "--run.precision", precision, "--out", tmp_path / out).code == 0
        checked = ended(grid.main, "--verify", tmp_path / out, "--allow-plugins")
        assert (checked.code, checked.err) == (0, "")
        assert "8 agree, 0 disagree" in checked.out
