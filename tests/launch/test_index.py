"""The page over a folder of runs: what each is, how far it is, a link to its page, and a search."""

import json
from pathlib import Path
from typing import Any

import pytest

from launch import index, report
from tests.commands import ended
from tests.launch.test_report import browser, fill, results, visit

__all__ = ["browser"]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A finished grid, one that is not, claims, a recovery, a damaged run and what is none of these."""
    folder = tmp_path / "runs"
    folder.mkdir()
    done = fill(folder / "done #1", results())
    config = {"name": "done", "system": "sensing", "problem": {"noise": [0.1, 0.5]}, "run": {"seeds": [0, 1, 2]}}
    (done / "manifest.json").write_text(json.dumps({"digest": "d", "config": config}))
    (done / "summary.json").write_text(json.dumps({"cells": 18, "diverged": 1, "table": []}))
    report.write_report(done)
    part = folder / "part"
    (part / "chunks").mkdir(parents=True)
    (part / "chunks" / "000000.chunk").touch()
    (part / "manifest.json").write_text(
        json.dumps({"digest": "d", "chunks": 4, "config": config | {"system": "images"}})
    )
    settings = {"system": "cell", "n": [64, 256], "table": ["float32", [3, 2], "5f"], "seeds": [0, 1, 2, 3]}
    for name, stored in (("swept", 2), ("begun", 1)):
        (folder / name / "chunks").mkdir(parents=True)
        (folder / name / "manifest.json").write_text(json.dumps({"digest": "d", "settings": settings, "chunks": 2}))
        for number in range(stored):
            (folder / name / "chunks" / f"00000{number}.chunk").touch()
    lines = [{"chunk": 0, "cells": 4, "diverged": 3}, {"chunk": 0, "cells": 4}, {"chunk": 1, "cells": 4, "diverged": 1}]
    log = "\n".join(["{torn", *map(json.dumps, lines)])
    (folder / "swept" / "metrics.jsonl").write_text(log)
    (folder / "swept" / "results.nc").touch()
    (folder / "claims" / "offset-1").mkdir(parents=True)
    verdicts = [{"paper": "p", "verdict": word} for word in ("holds", "holds", "fails")]
    (folder / "claims" / "offset-1" / "claims.json").write_text(json.dumps(verdicts))
    (folder / "map").mkdir()
    found = {"kind": "distances", "rank": 2, "n": 767, "rows": 72, "columns": 72}
    (folder / "map" / "summary.json").write_text(json.dumps(found))
    (folder / "torn").mkdir()
    (folder / "torn" / "manifest.json").write_text("{")
    (folder / "deep").mkdir()
    (folder / "deep" / "manifest.json").write_text("[" * 100_000)
    (folder / "notes").mkdir()
    return folder


def test_every_run_has_a_row_with_its_state(runs: Path) -> None:
    told = ended(report.main, "--index", runs)
    assert (told.code, told.out) == (0, f"{runs / 'index.html'}\n")
    found = {entry.folder.name: entry for entry in index.entries(runs)}
    assert set(found) == {"done #1", "part", "offset-1", "map", "torn", "deep", "swept", "begun"}
    assert (found["done #1"].cells, found["done #1"].state) == (18, "finished, 1 diverged")
    assert found["done #1"].about == "sensing: noise x 2, 3 seeds"
    assert (found["part"].state, found["part"].page) == ("1 of 4 chunks", None)
    assert found["swept"].about == found["begun"].about == "cell from Python: n x 2, 4 seeds"
    assert (found["swept"].cells, found["swept"].state) == (8, "finished, 1 diverged")
    assert (found["begun"].cells, found["begun"].state) == (None, "1 of 2 chunks")
    assert (found["offset-1"].kind, found["offset-1"].state) == ("claims", "2 holds, 1 fails")
    assert (found["map"].kind, found["map"].state) == ("recovery", "finished, rank 2")
    assert found["torn"].state == found["deep"].state == "damaged"


def test_a_folder_without_runs_is_refused_in_one_line(tmp_path: Path) -> None:
    for argv, words in (
        (["--index", tmp_path / "none"], "is not a directory"),
        (["--index", tmp_path], "there is no run in"),
        (["--index", tmp_path, tmp_path], "it takes one folder of runs; leave out DIR"),
    ):
        told = ended(report.main, *argv)
        assert (told.code, told.out, told.err.count("\n")) == (2, "", 1)
        assert words in told.err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_runs_that_is_taken_for_a_run_is_told(runs: Path) -> None:
    told = ended(report.main, runs)
    assert (told.code, told.out) == (2, "")
    said = f"error: {runs} is not a run, but holds 6 runs; name one of them, such as {runs / 'begun'}, or "
    assert told.err.startswith(said)
    assert told.err.endswith(f" --index {runs}\n")


def test_a_folder_of_one_run_names_it(runs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    (runs / "begun").rename(folder / "begun")
    said = f"error: {folder} is not a run, but holds 1 run; name it, {folder / 'begun'}, or list all on a page: "
    assert ended(report.main, folder).err.startswith(said)


@pytest.mark.parametrize("width", [390, 1366])
def test_a_search_hides_rows_and_a_link_leads_to_the_page(runs: Path, browser: Any, width: int) -> None:
    page, complaints = visit(browser, index.write_index(runs), width)
    page.fill("#search", "sensing noise")
    assert page.text_content("#found") == "1 of 8"
    page.click("text=done #1")
    page.wait_for_function("document.getElementById('cell')?.textContent.includes('noise 0.1')")
    assert [text for text in complaints if not text.endswith("report.html")] == []
