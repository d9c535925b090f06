"""A user's function from the command line: table, figures, page, types of its parameters, resuming, refusals."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import xarray as xr

from launch import grid, report

SOURCE = '''
import jax
import jax.numpy as jnp
import helper_of_test


def draw(key, n=5, noise=0.1):
    return jax.random.normal(key, (10,)) * noise, jnp.arange(10) < n


def cell(problem, key, scale=1.0, kind="sum", double=False):
    """A scaled sum."""
    values, used = problem
    total = jnp.sum(jnp.where(used, values, 0.0)) * scale * (2 if double else 1)
    return {"total": helper_of_test.twice(total if kind == "sum" else -total), "used": jnp.sum(used)}


def size(key, m):
    return {"total": jnp.sum(jnp.ones(m))}


def keyless(x):
    return {"y": x}


def several(key, a):
    curve = jnp.arange(3) - a
    return {"error": a, "sharpness": -a, "hits": jnp.sum(curve < 0), "curve": curve}


def weighted(a, weights=(1.0, 2.0)):
    return {"y": a * sum(weights)}


def named(a, names=("one", "two")):
    return {"y": a}


def broken(key, x):
    return {"y": x + undefined}
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the file and what it imports."""
    (tmp_path / "mine.py").write_text(SOURCE, encoding="utf-8")
    (tmp_path / "helper_of_test.py").write_text("def twice(x):\n    return 2 * x\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_function_gives_table_figures_and_page(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--scale", "1,3", "--kind", "sum,minus", "--double", "false,true", "--n", "4,10", "--seeds", "2"]
    assert grid.main(["mine.py:cell", *options, "--out", "run"]) == 0
    shown = capsys.readouterr().out
    assert "total" in shown
    assert "32 cells" in shown
    found = xr.open_dataset("run/results.nc", engine="h5netcdf")
    assert found["total"].dims == ("kind", "double", "seed", "n", "scale")
    ratio = found["total"].sel(kind="minus", double=True, scale=3.0) / found["total"].sel(
        kind="sum", double=False, scale=1.0
    )
    assert ratio.values == pytest.approx(-6.0, rel=1e-6)
    assert found["used"].sel(n=4).values == pytest.approx(4)
    found.close()
    assert {path.name for path in Path("run/figures").iterdir()} == {"total.png", "used.png"}
    assert "total" in Path("run/report.html").read_text(encoding="utf-8")
    assert grid.main(["mine.py:cell", *options, "--out", "run"]) == 0  # resumes


def test_every_number_that_a_function_returns_is_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert grid.main(["mine.py:several", "--a", "1,2", "--out", "run"]) == 0
    shown = capsys.readouterr().out
    lines = [line.split() for line in shown.splitlines()]
    assert ["a", "error", "hits", "sharpness"] in lines
    assert ["2", "2", "2", "-2"] in lines
    assert "also in results.nc: curve (3)\n" in shown
    assert {path.name for path in Path("run/figures").iterdir()} == {"error.png", "hits.png", "sharpness.png"}
    page = Path("run/report.html").read_text(encoding="utf-8")
    assert '"main":["error", "hits", "sharpness"]' in page
    assert "Also in results.nc: curve (3)." in page


def test_static_parameters_may_give_shapes(folder: Path) -> None:
    assert grid.main(["mine.py:size", "--m", "3,4", "--static", "m", "--out", "run"]) == 0
    with xr.open_dataset("run/results.nc", engine="h5netcdf") as found:
        assert found["total"].sel(seed=0).values.tolist() == [3, 4]


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (
            ["mine.py:cell", "--scal", "1"],
            "error: cell.scal: neither draw nor cell has a parameter of this name; did you mean scale?",
        ),
        (["mine.py:size", "--b", "1"], "error: cell.b: size has no parameter of this name; use any of m"),
        (["mine.py:cell", "--double", "maybe"], "error: cell.double: 'maybe' is neither true nor false"),
        (["mine.py:broken", "--x", "1"], "error: system: mine.py:broken failed in mine.py at line "),
        (["mine.py:size"], "error: cell.m: it has no value; give --m VALUES\n"),
        (["mine.py:size", "--m", "3,4"], "error: cell.m: size (line 19) needs the value for a shape, a loop or a"),
        (["mine.py:size", "--m", "abc"], "error: cell.m: 'abc' is text, and size (line 19) failed with it; give a"),
        (["mine.py:cell", "--n", "abc"], "error: cell.n: 'abc' is not a number, as its default 5 is; give a number"),
        (["mine.py:keyless", "--x", "1", "--seeds", "2"], "error: cell: it takes no key, so that all 2 seeds"),
        (["mine.py:several", "--a", "1", "--seeds", "2"], "error: cell: it takes key and does not use it, so that all"),
        (["mine.py:size", "--m", "3", "--static", "k"], "error: --static: size has no parameter k; name one of m\n"),
        (["mine.py:cell", "--static", "scal"], "error: --static: neither draw nor cell has a parameter scal; did you"),
        (["mine.py:cel"], "error: system: mine.py has no cel; did you mean cell?"),
    ],
)
def test_refusals_are_one_line(argv: list[str], line: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert grid.main([*argv, "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(line)
    assert error.count("\n") == 1
    assert "static=" not in error


@pytest.mark.parametrize("name", ["system", "name", "plugin", "shard", "verify", "help", "systems", "dry_run"])
def test_a_parameter_named_like_an_option_is_refused(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wherever the function is named, with the option or without."""
    (folder / f"own_{name}.py").write_text(f"def cell(key, {name}):\n    return {{'y': {name}}}\n", encoding="utf-8")
    for argv in ([f"own_{name}.py:cell", f"--{name}", "2"], ["--dry-run", "--system", f"own_{name}.py:cell"]):
        assert grid.main(argv) == 2
        line = f"error: cell: parameter {name} has the name of an option of this command; rename it\n"
        assert capsys.readouterr().err == line


def test_help_speaks_in_the_names_of_a_function(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        grid.main(["mine.py:cell", "--help"])
    shown = capsys.readouterr().out
    words = {word for word in shown.split() if word.startswith("--")}
    assert {"--scale", "--kind", "--double", "--n", "--noise", "--seeds", "--static", "--out"} <= words
    assert not [word for word in words if "." in word]
    assert "quickstart" not in shown
    assert "A scaled sum. Square brackets hold the defaults." in " ".join(shown.split())


SOLVES = """
import jax
import jax.numpy as jnp


def ridge(key, lam, n):
    k1, k2 = jax.random.split(key)
    X = jax.random.normal(k1, (n, 50))
    several = [X.T @ X + (i + lam) * n * jnp.eye(50) for i in range(3)]
    return {"sum": sum(jnp.linalg.solve(gram, jax.random.normal(k2, (50,))).sum() for gram in several)}
"""


@pytest.mark.slow
def test_solves_side_by_side_on_all_devices_end(tmp_path: Path) -> None:
    """Calls of LAPACK that fill XLA's pool would wait for ever: see add_threads."""
    (tmp_path / "mine.py").write_text(SOLVES, encoding="utf-8")
    options = ["--lam", "log:0.001:1:6", "--n", "25,50,100", "--seeds", "32", "--static", "n"]
    command = [sys.executable, "-m", "launch.grid", "mine.py:ridge", *options, "--out", "run"]
    environment = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "NPROC")}
    paths = os.pathsep.join([str(Path(grid.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment |= {"PYTHONPATH": paths}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, timeout=300)
    with xr.open_dataset(tmp_path / "run" / "results.nc", engine="h5netcdf") as found:
        assert not found["sum"].isnull().any()


def test_a_default_that_is_a_tuple_of_numbers_is_one_value(folder: Path) -> None:
    for name, more, factor in (("kept", [], 3.0), ("given", ["--weights", "3,4"], 7.0)):
        for _ in range(2):  # the second time from what is stored
            assert grid.main(["mine.py:weighted", "--a", "0.5,2", *more, "--out", name]) == 0
        with xr.open_dataset(f"{name}/results.nc", engine="h5netcdf") as found:
            assert found["y"].sel(a=2).values == pytest.approx(2 * factor)
        assert report.main([name, "--allow-plugins"]) == 0


def test_a_default_that_no_command_can_give_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert grid.main(["mine.py:named", "--a", "1"]) == 2
    assert "cell.names: its default ('one', 'two') cannot be given in a command" in capsys.readouterr().err
