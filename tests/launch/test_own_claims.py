"""A claim of a user's own is judged alike: quantities, figure, page; bad input in one line, before anything runs."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import yaml

from launch.claims import __main__ as command
from launch.claims.expectations import Claim
from launch.claims.own import outcome_of
from launch.shell import Refusal

DASK = find_spec("distributed") is not None
CHECK = """
def check(runs):
    cells = runs[""]
    kept = cells["rank"].sel(penalty=0.2) == 1
    return {"right rank": kept, "error": cells["error"].sel(penalty=0.2), "columns": 3}


def broken(runs):
    return runs["other"]


def words(runs):
    return {"right rank": "many"}


def measure(runs):
    return {"right rank": runs[""]["eror"] < 1}


def numbers(runs):
    print("printed once")
    if "config_digest" not in runs[""].attrs:
        raise ValueError("of these numbers")
    return {"right rank": runs[""]["rank"]}
"""
FIELDS: dict[str, Any] = {
    "problem": {"dim": 6, "width": 3, "rank": 1, "measurements": "population"},
    "train": {"penalty": [0, 0.2], "smoothing": 0.04, "rate": 0.05, "steps": 40},
    "fine_tune": {"steps": 10},
    "run": {"seeds": 16, "record_every": 20, "precision": "float64"},
}
CLAIM: dict[str, Any] = {
    "statement": "With the penalty one column is left.",
    "source": "own",
    "kind": "comparison",
    "check": "mine.py:check",
    "expect": {"right rank": {"at_most": 1}, "error": {"at_most": 2}, "columns": {"value": 3}},
}


def write(folder: Path, fields: dict[str, Any] | None = None, **changes: Any) -> str:
    (folder / "mine.py").write_text(CHECK)
    path = folder / "my_claim.yaml"
    path.write_text(yaml.safe_dump(FIELDS | {"claim": CLAIM | changes} | (fields or {}), sort_keys=False))
    return str(path)


def test_a_claim_of_ones_own_is_run_judged_drawn_and_put_on_the_page(tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out"
    assert command.main([write(tmp_path), "--out", str(out)]) == 0
    (record,) = json.loads((out / "claims.json").read_text())
    assert (record["paper"], record["claim"], record["kind"]) == ("own", "my_claim", "comparison")
    assert record["measured"]["right rank"]["seeds"] == record["measured"]["error"]["seeds"] == 16
    assert record["measured"]["columns"] == {"value": 3.0, "low": None, "high": None, "seeds": None}
    assert record["verdicts"]["columns"] == "holds"
    assert "1 claim: 1 " in capsys.readouterr().out
    page = (out / "claims.html").read_text()
    for part in (CLAIM["statement"], "data:image/png;base64,", "right rank", "check: mine.py:check", "(exact)"):
        assert part in page
    assert "{{" not in page
    assert 'src="http' not in page
    assert page.count("<script") == 1

    config = write(tmp_path, expect={"columns": {"value": 4}})
    assert command.main([config, "--out", str(out)]) == 1
    assert json.loads((out / "claims.json").read_text())[0]["verdict"] == "fails"


@pytest.mark.parametrize(
    ("fields", "changes", "line"),
    [
        ({}, {"check": "mine.py:chek"}, "claim.check: mine.py has no function chek; did you mean check?"),
        ({}, {"check": "other.py:check"}, "claim.check: no file other.py; give the path of a Python file"),
        ({}, {"check": "root_law"}, "claim.check: root_law names no function; write FILE.py:NAME"),
        ({}, {"kind": "wish"}, "claim.kind: 'wish' is unknown; use 'law', 'comparison' or 'regression'"),
        ({}, {"expect": {"a": {}}}, "claim.expect.a: give either value (and within), or at_least, at_most or both"),
        ({"claim": None}, {}, "claim: is missing; add a section claim with statement, source, kind, check, expect"),
        ({"train": {"rte": 1}}, {}, "train.rte: system sensing has no such field; did you mean train.rate?"),
        ({}, {"grids": {"a": {"problem": {"rank": 9}}}}, "problem.rank: "),
        (
            {},
            {"expect": {"right rnk": {"at_most": 1}}},
            "claim.expect: right rnk is not measured; did you mean right rank?",
        ),
        (
            {},
            {"expect": {"speed": {"value": 1}}},
            "claim.expect: speed is not measured; use any of right rank, error, columns",
        ),
        (
            {},
            {"expect": {"error": {"at_lest": 1}}},
            "claim.expect.error.at_lest: unknown field; did you mean at_least?",
        ),
        (
            {},
            {"check": "mine.py:broken"},
            "claim.check: mine.py:broken failed in mine.py at line 9 (KeyError: 'other'); fix",
        ),
        ({}, {"check": "mine.py:measure"}, "claim.check: mine.py:measure failed in mine.py at line 17 (KeyError: "),
        ({}, {"check": "mine.py:words"}, "claim.check: mine.py:words returns no numbers for right rank; give a"),
        ({}, {"first_seed": -1}, "claim.first_seed: Input should be greater than or equal to 0, got -1"),
    ],
)
def test_bad_input_is_refused_in_one_line_before_anything_runs(
    fields: dict[str, Any], changes: dict[str, Any], line: str, tmp_path: Path, capsys: Any
) -> None:
    out = tmp_path / "out"
    assert command.main([write(tmp_path, fields, **changes), "--out", str(out)]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"error: my_claim.yaml: {line}")
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert not out.exists()


def test_a_check_that_needs_other_numbers_than_the_stand_ins_is_left_to_the_run(tmp_path: Path, capsys: Any) -> None:
    """It fails on all stand-ins, and only what was measured says that a name is wrong."""
    config = write(tmp_path, {"train": FIELDS["train"] | {"penalty": 0.2}}, check="mine.py:numbers")
    for expect, line in (("right rank", ""), ("rank", "claim.expect: rank is not measured; use any of right rank")):
        given = yaml.safe_load(Path(config).read_text())
        Path(config).write_text(
            yaml.safe_dump(given | {"claim": given["claim"] | {"expect": {expect: {"at_least": 0}}}})
        )
        assert command.main([config, "--out", str(tmp_path / "out")]) == (2 if line else 0)
        printed = capsys.readouterr()
        assert line in printed.err
        assert printed.out.count("printed once") == 1


def test_a_file_and_the_name_of_a_papers_claim_do_not_go_together(tmp_path: Path, capsys: Any) -> None:
    assert command.main([write(tmp_path), "--claim", "width"]) == 2
    assert capsys.readouterr().err.startswith("error: --claim: chooses among the papers' claims; ")
    assert command.main([str(tmp_path / "none.yaml")]) == 2
    assert "no such file" in capsys.readouterr().err


def test_arrays_along_seeds_are_means_and_shares_whatever_their_other_axes() -> None:
    claim = Claim(statement="s", source="own", kind="law", check="f.py:g", expect={})
    numbers = xr.DataArray(np.arange(12.0).reshape(3, 4), dims=("n", "seed"))
    found = outcome_of({"mean": numbers, "share": numbers > 5, "worst": numbers.max()}, claim).quantities
    np.testing.assert_allclose(found["mean"].value, numbers.mean("seed"))
    np.testing.assert_allclose(found["share"].value, [0, 0.5, 1])
    assert (found["share"].seeds, found["worst"].seeds, float(found["worst"].value)) == (4, None, 11)
    with pytest.raises(Refusal, match=r"^claim\.check: f\.py:g returns list, not quantities by name; "):
        outcome_of([1.0], claim)


def test_what_is_no_cluster_is_refused(tmp_path: Path, capsys: Any) -> None:
    assert command.main([write(tmp_path), "--out", str(tmp_path / "out"), "--cluster", "here"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    said = "'here' is not a cluster" if DASK else "dask.distributed is not installed"
    assert printed.err.startswith(f"error: --cluster: {said}; ")
    assert printed.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not DASK, reason="dask.distributed is not installed")
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_workers_of_a_cluster_give_the_same_claim(tmp_path: Path) -> None:
    grids = {"other": {"problem": {"dim": 5}}}
    for name, more in (("alone", []), ("out", ["--cluster", "local:1"])):
        config = write(tmp_path, grids=grids)
        assert command.main([config, "--out", str(tmp_path / name), *more]) == 0
    (one,), (other,) = (json.loads((tmp_path / name / "claims.json").read_text()) for name in ("alone", "out"))
    assert one["measured"] == other["measured"]
    assert len(list((tmp_path / "out" / "grids").glob("*/results.nc"))) == 2
