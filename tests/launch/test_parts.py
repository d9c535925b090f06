"""One run in several parts: shards of a job array, directories put together, a page of what is there so far."""

import json
import os
import re
from pathlib import Path

import pytest
import xarray as xr

from gpsense.grid.chunkfile import decode
from launch import grid, report
from tests.commands import ended

pytestmark = pytest.mark.usefixtures("never_drawn")
OPTIONS = ["--problem.dim", "4", "--problem.n", "20", "--problem.rank", "1", "--problem.noise", "0,0.1"]
OPTIONS += ["--train.steps", "20", "--fine_tune.steps", "10", "--run.record_every", "10", "--run.precision", "float64"]
OPTIONS += ["--train.penalty", "0.1", "--run.seeds", "3", "--run.curvature_steps", "0"]


def results(directory: Path) -> xr.Dataset:
    return xr.load_dataset(directory / "results.nc", engine="h5netcdf")


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders 0 and 1 with the two parts of a run, whole with all of it."""
    folder = tmp_path_factory.mktemp("parts")
    for index in (0, 1):
        ran = ended(grid.main, *OPTIONS, "--out", folder / str(index), "--shard", f"{index}/2")
        assert (ran.code, ran.err) == (0, "")
        assert ran.out.startswith(f"part {index} of 2 is done; 1 of 2 chunks are in {folder / str(index)}; ")
        assert not (folder / str(index) / "results.nc").exists()
    assert ended(grid.main, *OPTIONS, "--out", folder / "whole").code == 0
    return folder


def test_merged_parts_are_the_whole_run(parts: Path, tmp_path: Path) -> None:
    merged = ended(report.main, "--merge", tmp_path / "out", parts / "0", parts / "1")
    assert (merged.code, merged.err) == (0, "")
    assert f"2 of 2 chunks are in {tmp_path / 'out'}" in merged.out
    assert "cells; the chunks took " in merged.out  # nothing was run now
    xr.testing.assert_allclose(results(tmp_path / "out"), results(parts / "whole"), rtol=1e-12, atol=1e-14)
    assert len((tmp_path / "out" / "metrics.jsonl").read_text().splitlines()) == 2
    assert (tmp_path / "out" / "report.html").exists()


def test_a_plain_run_collects_what_shards_left(parts: Path, tmp_path: Path) -> None:
    merged = ended(report.main, "--merge", tmp_path / "out", parts / "1")
    assert (merged.code, merged.err) == (0, "")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<strong>This run is not finished:</strong> 3 of 6 cells (1 of 2 chunks) are stored" in page
    assert not (tmp_path / "out" / "results.nc").exists()
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    data, whole = json.loads(found[1]), results(parts / "whole")
    assert data["missing"] == [2, 1]  # of the three seeds, noise by noise
    last = whole["error"].isel(seed=slice(2, None), noise=0).median("seed").item()
    assert data["medians"]["error"][0] == pytest.approx(last, rel=1e-4)
    again = ended(grid.main, *OPTIONS, "--out", tmp_path / "out")
    assert (again.code, again.err) == (0, "")
    xr.testing.assert_allclose(results(tmp_path / "out"), whole, rtol=1e-12, atol=1e-14)
    assert "not finished" not in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_what_cannot_be_merged_is_refused_in_one_line(parts: Path, tmp_path: Path) -> None:
    other, cut, mine, file = (tmp_path / name for name in ("other", "cut", "mine", "file"))
    manifest = json.loads((parts / "0" / "manifest.json").read_text())
    for directory, change in ((other, {"digest": "abc"}), (cut, {"layouts": [[1, 1]]})):
        directory.mkdir()
        (directory / "manifest.json").write_text(json.dumps(manifest | change))
    mine.mkdir()
    (mine / "thesis.tex").touch()
    file.touch()
    out, first = tmp_path / "out", parts / "0"
    for argv, words in (
        ((out, first, other), "belongs to another run"),
        ((out, first, cut), "is divided into other chunks"),
        ((out, first, mine), "is not a gpsense run"),
        ((mine, first), "is not a gpsense run"),
        ((other, first), "belongs to another run"),
        ((file, first), "is a file"),
    ):
        refused = ended(report.main, "--merge", *argv)
        assert (refused.code, refused.out, refused.err.count("\n")) == (2, "", 1)
        assert words in refused.err
    assert not out.exists()
    assert [path.name for path in mine.iterdir()] == ["thesis.tex"]


def test_damaged_and_foreign_chunks_are_left_out_of_a_merge(parts: Path, tmp_path: Path) -> None:
    (chunk,) = (parts / "0" / "chunks").iterdir()
    bad = tmp_path / "bad"
    (bad / "chunks").mkdir(parents=True)
    (bad / "manifest.json").write_bytes((parts / "0" / "manifest.json").read_bytes())
    (bad / "chunks" / "000001.chunk").write_bytes(chunk.read_bytes())
    (bad / "chunks" / chunk.name).write_bytes(chunk.read_bytes()[:-3])
    (bad / "chunks" / "\x1b[31m.chunk").write_bytes(chunk.read_bytes())
    os.mkfifo(bad / "metrics.jsonl")
    merged = ended(report.main, "--merge", tmp_path / "out", bad, parts / "0")
    assert merged.code == 0
    assert merged.err.replace("\n", "").isprintable()
    assert [line.rpartition(": ")[2] for line in merged.err.splitlines()] == [
        "its digest or number is that of another chunk",
        "its checksum does not match its bytes",
        "its digest or number is that of another chunk",
    ]
    copied = list((tmp_path / "out" / "chunks").iterdir())
    assert [path.name for path in copied] == [chunk.name]
    assert decode(copied[0].read_bytes())


@pytest.mark.parametrize("text", ["1/1", "2/2", "-1/2", "1", "a/b", "1/0", "0.5/2", ""])
def test_a_shard_that_is_none_is_refused(text: str) -> None:
    refused = ended(grid.main, *OPTIONS, "--shard", text)
    assert (refused.code, refused.out, refused.err.count("\n")) == (2, "", 1)
    assert refused.err.startswith("error: --shard: ")


def test_a_run_with_nothing_yet_has_no_page(parts: Path, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes((parts / "0" / "manifest.json").read_bytes())
    refused = ended(report.main, tmp_path)
    assert (refused.code, refused.err) == (2, f"error: {tmp_path} has no finished chunk yet; wait for the first\n")
