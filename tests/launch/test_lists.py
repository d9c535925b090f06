"""Fields whose value is a list of numbers: table, law, figures, page, paper and resuming."""

from pathlib import Path

import pytest
import xarray as xr

from gpsense.fields import NUMBERS, WHOLES
from gpsense.systems import SYSTEMS
from launch import grid, report, table
from launch.schema import schema
from tests.commands import ended
from tests.parameters import first_quick

STEPS = ["--train.steps", "20", "--fine_tune.steps", "5"]
MATRIX = ["--problem.dim", "6", "--problem.n", "40", "--problem.noise", "0.1", "--train.penalty", "0.1", *STEPS]
MATRIX += ["--run.curvature_steps", "0"]
SPARSE = ["--problem.dim", "12", "--problem.n", "64"]
IMAGES = ["--problem.n", "100", "--prune.rule", "magnitude", "--train.optimizer", "gd", "--prune.kept", "0.2", *STEPS]
LISTS = [
    ("sensing", "problem.spectrum", "1,2", MATRIX),
    ("sensing", "problem.spectrum", "2,", [*MATRIX, "--problem.rank", "1"]),
    ("rectangular", "problem.spectrum", "1,0.5", MATRIX),
    ("quadratic_network", "problem.spectrum", "1,2", MATRIX),
    ("sparse_features", "problem.link", "0,1,0.5", SPARSE),
    ("sparse_features", "prune.bias_values", "0,1", SPARSE),
    ("diabetes", "prune.bias_values", "0,1", []),
    ("images", "train.layers", "8,4", IMAGES),
    ("images", "train.layers", "8,", IMAGES),
]


def test_every_field_that_takes_a_list_is_tried_here() -> None:
    there = {(n, place) for n in SYSTEMS for place, f in schema(SYSTEMS[n]).items() if f.kind in (NUMBERS, WHOLES)}
    assert there == {(system, place) for system, place, *_ in LISTS}


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("system", "place", "values", "options"), first_quick(LISTS, 3), ids=lambda each: str(each)[:20]
)
def test_a_list_has_a_table_a_page_and_a_paper(
    system: str, place: str, values: str, options: list[str], tmp_path: Path
) -> None:
    words = ["--system", system, f"--{place}", values, *options, "--run.seeds", "2", "--out", tmp_path / "run"]
    assert ended(grid.main, *words).code == 0
    again = ended(report.main, tmp_path / "run", "--table", "csv,latex")
    assert (again.code, again.err) == (0, "")
    assert (tmp_path / "run" / "report.html").is_file()


def test_a_list_has_figures(tmp_path: Path) -> None:
    words = ["--problem.spectrum", "1,2", *MATRIX, "--run.seeds", "2", "--out", tmp_path / "run"]
    assert ended(grid.main, *words).code == 0
    assert ended(report.main, tmp_path / "run", "--tex").code == 0


@pytest.mark.parametrize("listed", [[1.0, 2.0], [2.0]])
def test_the_law_of_a_spectrum_is_relative_to_its_norm(listed: list[float]) -> None:
    cells = {"seed": [0], "noise": 0.3, "dim": 20, "n": 400, "true_rank": len(listed), "measurements": "gaussian"}
    held = {"system": "sensing", "spectrum": listed, "train_steps": 1}
    dataset = xr.Dataset(
        {"error": ("seed", [0.1]), "status": ("seed", [1])}, cells | {"spectrum": str(tuple(listed))}, held
    )
    unlisted = dataset.drop_vars("spectrum").assign_attrs(spectrum=[1.0] * len(listed))
    (row,), (flat,) = (table.rows(each, ["error"]) for each in (dataset, unlisted))
    assert row["law"] * sum(value**2 for value in listed) ** 0.5 == pytest.approx(flat["law"] * len(listed) ** 0.5)
