"""The grid command on a system that is pruned by coordinates: its table, figures and page speak of coordinates."""

import contextlib
import io
import re
from pathlib import Path

import pytest
import xarray as xr

from launch import grid
from tests.launch.test_report import numbers_of

CONFIG = """
system: sparse_features
problem: {dim: 12, sparsity: 3, n: [300, 700], test: 640}
train: {neurons: 8, second_layer: none}
prune: {contraction: [0.4, 0.8], pool: 2, biases: 1}
run: {seeds: 2, precision: float64}
"""
FIRST_LAYER = ["contraction", "n", "kept", "captured", "energy", "error"]


def run(folder: Path, *argv: str) -> str:
    """What the command prints."""
    (folder / "config.yaml").write_text(CONFIG)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert grid.main([str(folder / "config.yaml"), *argv, "--out", str(folder / "run")]) == 0
    return out.getvalue()


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("sparse")
    return run(folder), folder / "run"


def test_the_table_names_what_was_kept_and_no_stage_that_was_not(ran: tuple[str, Path]) -> None:
    printed, folder = ran
    assert "errors: excess risk over the variance of the noise-free y" in " ".join(printed.split())
    (line,) = [line for line in printed.splitlines() if "captured" in line]
    assert sorted(line.split()) == sorted(FIRST_LAYER)
    dataset = xr.load_dataset(folder / "results.nc", engine="h5netcdf")
    assert dataset["rank"].attrs["units"] == "coordinates"
    assert (dataset["error"] == 1).all()
    assert ((dataset["energy"] > 0) & (dataset["energy"] < 1)).all()


def test_figures_and_page_leave_out_curves_and_columns(ran: tuple[str, Path]) -> None:
    folder = ran[1]
    assert sorted(path.name for path in (folder / "figures").iterdir()) == ["error.png", "rank.png"]
    page = (folder / "report.html").read_text(encoding="utf-8")
    numbers = numbers_of(page)
    assert (numbers["kept"], numbers["tuned"], numbers["curves"], numbers["norms"]) == ("kept", False, {}, [])
    assert {axis["name"]: axis["label"] for axis in numbers["axes"]} == {
        "n": "samples n",
        "contraction": "contraction c of the basis",
    }
    assert re.search(r"<th scope=\"col\">kept<small>coordinates kept</small>", page)
    table = page[page.index("Medians over seeds") : page.index("<h2>Figures")]
    assert not re.search(r"column|measurement|penalty|fine-tun.*stage", table.replace('class="table"', ""))


@pytest.mark.slow
def test_phases_that_were_run_are_drawn(tmp_path: Path) -> None:
    argv = ["--train.second_layer", "ridge", "--train.method", "descent", "--prune.rule", "magnitude"]
    argv += ["--train.steps", "20", "--fine_tune.steps", "10", "--run.record_every", "10", "--prune.contraction", "0.5"]
    printed = run(tmp_path, *argv)
    assert re.search(r"pruned +fine-tuned", printed)
    drawn = sorted(path.name for path in (tmp_path / "run" / "figures").iterdir())
    assert drawn == ["curves.png", "error.png", "rank.png"]


@pytest.mark.slow
def test_a_dry_run_says_what_one_pass_costs(tmp_path: Path) -> None:
    printed = run(tmp_path, "--dry-run")
    assert re.search(r"programs 1 +cells 8 +chunks 1", printed)
    assert re.search(r"program 0: greedy_pruning, rule gradient, parity both, pool 2, dim 12, n up to 700", printed)
    assert re.search(r"n up to this size\); chunks of 4 x 2 cells, .* once$", printed, re.MULTILINE)
    assert not (tmp_path / "run").exists()
