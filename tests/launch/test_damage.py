"""Run directories with edited manifests and full disks: one line, no traceback, and resumable afterwards."""

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from gpsense.grid import files
from launch import grid, report
from tests.commands import Ended, ended

OPTIONS = ["--problem.dim", "4", "--problem.n", "20", "--problem.rank", "1", "--problem.noise", "0.1"]
OPTIONS += ["--train.steps", "20", "--fine_tune.steps", "10", "--run.record_every", "10", "--run.precision", "float64"]
OPTIONS += ["--train.penalty", "0.1", "--run.seeds", "3", "--run.curvature_steps", "0"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("damage") / "run"
    assert ended(grid.main, *OPTIONS, "--out", folder).code == 0
    return folder


def deep(levels: int) -> str:
    return "[" * levels + "]" * levels


NO_RUN = {  # what no run has in its manifest: refused by every command
    "empty": "",
    "torn": lambda m: json.dumps(m)[:-30],
    "a list": "[]",
    "a number": "3",
    "no UTF-8": b"\xff\xfe",
    "deep": deep(100_000),
    "deep in its config": lambda m: m | {"config": {"name": json.loads(deep(60))}},
    "half a letter": lambda m: m | {"name": "\ud800"},
    "a huge number": '{"digest": "abc", "layouts": [[' + "9" * 5000 + ", 1]]}",
    "no digest": lambda m: {name: value for name, value in m.items() if name != "digest"},
    "digest of a number": lambda m: m | {"digest": 3},
    "digest with controls": lambda m: m | {"digest": "a\x1b[31m\nb"},
    "config of a list": lambda m: m | {"config": [1]},
    "no layouts": lambda m: {name: value for name, value in m.items() if name != "layouts"},
    "layouts of a name": lambda m: m | {"layouts": "all"},
    "no layout": lambda m: m | {"layouts": []},
    "layout of nothing": lambda m: m | {"layouts": [[0, 5]]},
    "negative layout": lambda m: m | {"layouts": [[-1, 1]]},
    "layout of a fraction": lambda m: m | {"layouts": [[1.5, 1]]},
    "layout of NaN": lambda m: m | {"layouts": [[float("nan"), 1]]},
    "unknown effort": lambda m: m | {"layouts": [[3, 1, "most", "most", "most"]]},
    "layout too long": lambda m: m | {"layouts": [[3, 1, "full", "full", "full", "full"]]},
    "layout of null": lambda m: m | {"layouts": [None]},
}
OTHER_CUT = {  # a manifest of a run, but not of these cells
    "two programs": lambda m: m | {"layouts": [*m["layouts"], *m["layouts"]]},
    "more rows than there are": lambda m: m | {"layouts": [[10**9, 1]]},
    "more columns than there are": lambda m: m | {"layouts": [[3, 2]]},
    "another digest": lambda m: m | {"digest": "0123456789abcdef"},
}
HARMLESS = {  # told or not, the numbers are those of the config
    "no versions": lambda m: {name: value for name, value in m.items() if name not in ("versions", "devices")},
    "versions of a number": lambda m: m | {"versions": 3},
    "no name": lambda m: {name: value for name, value in m.items() if name != "name"},
    "another config": lambda m: m | {"config": {"system": "no such"}},
    "chunks of a name": lambda m: m | {"chunks": "many"},
    "a cut into rows": lambda m: m | {"layouts": [[1, 1, *m["layouts"][0][2:]]]},
}


def edited(run: Path, place: Path, change: Any) -> Path:
    """A copy of the run with another manifest."""
    shutil.copytree(run, place)
    manifest = json.loads((run / "manifest.json").read_text())
    made = change(manifest) if callable(change) else change
    data = made if isinstance(made, bytes) else (made if isinstance(made, str) else json.dumps(made)).encode()
    (place / "manifest.json").write_bytes(data)
    return place


def one_line(refused: Ended) -> None:
    assert (refused.code, refused.out, refused.err.count("\n")) == (2, "", 1)
    assert refused.err.startswith("error: ")
    assert refused.err.strip().isprintable()


@pytest.mark.parametrize("name", [*NO_RUN, *OTHER_CUT])
def test_a_manifest_that_is_none_is_refused_in_one_line(run: Path, tmp_path: Path, name: str) -> None:
    place = edited(run, tmp_path / "run", (NO_RUN | OTHER_CUT)[name])
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    refused = [ended(grid.main, *OPTIONS, "--out", place), ended(grid.main, "--verify", place)]
    (place / "results.nc").rename(tmp_path / "aside.nc")
    one_line(ended(report.main, place))
    (tmp_path / "aside.nc").rename(place / "results.nc")
    if name in NO_RUN:
        refused.append(ended(report.main, "--merge", tmp_path / "out", place))
        assert all(f"{place / 'manifest.json'} cannot be read (" in each.err for each in refused)
    for each in refused:
        one_line(each)
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*") if path.is_file()} == {
        path: time for path, time in before.items() if path.is_file()
    }


@pytest.mark.parametrize("config", [{}, {"system": "no such"}, {"problem": {"dim": 5}}, {"system": "mine.py:Own"}])
def test_a_manifest_of_another_config_is_not_merged(run: Path, tmp_path: Path, config: Any) -> None:
    place = edited(run, tmp_path / "run", lambda m: m | {"config": config})
    (place / "results.nc").unlink()
    (tmp_path / "out").mkdir()
    for argv in ([place], ["--merge", tmp_path / "new", place], ["--merge", tmp_path / "out", place, run]):
        refused = ended(report.main, *argv)
        one_line(refused)
        assert f"{place}: the run cannot be rebuilt from its manifest (" in refused.err
        allowed = str(config.get("system")).startswith("mine.py")
        remedy = "give --allow-plugins to run it" if allowed else "or run the grid again in another directory"
        assert refused.err.endswith(f"{remedy}\n")
        assert refused.err.count("--allow-plugins") == allowed
    one_line(ended(grid.main, "--verify", place))
    assert not (tmp_path / "new").exists()
    assert not [*(tmp_path / "out").iterdir()]


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", HARMLESS)
def test_a_manifest_that_says_little_else_changes_no_number(run: Path, tmp_path: Path, name: str) -> None:
    place = edited(run, tmp_path / "run", HARMLESS[name])
    again = ended(grid.main, *OPTIONS, "--out", place)
    assert again.code == 0
    assert all(line.startswith("notice: ") for line in again.err.splitlines())
    xr.testing.assert_allclose(*(xr.load_dataset(each / "results.nc", engine="h5netcdf") for each in (run, place)))
    assert ended(report.main, place).code == 0


@pytest.mark.parametrize("name", ["chunks", "chunks/damaged", "figures", "metrics.jsonl", "pipe"])
def test_nothing_is_written_through_a_link_out_of_the_directory(run: Path, tmp_path: Path, name: str) -> None:
    out, away = tmp_path / "run", tmp_path / "away"
    shutil.copytree(run, out)
    place = out / ("metrics.jsonl" if name == "pipe" else name)
    if place.exists():
        place.rename(away)
    else:
        away.mkdir()
    if name == "pipe":
        os.mkfifo(place)
    else:
        place.symlink_to(away)
    before = {path: path.stat().st_mtime_ns for path in (away, *away.rglob("*"))}
    for command, argv in ((grid.main, [*OPTIONS, "--out", out]), (report.main, [out])):
        refused = ended(command, *argv)
        one_line(refused)
        assert f"{place} is a link or not a " in refused.err
    one_line(ended(report.main, "--merge", out, run))
    assert {path: path.stat().st_mtime_ns for path in (away, *away.rglob("*"))} == before


SLOW = [(place, errno.ENOSPC) for place in ("results.nc", "summary.json", "report.html", ".lease", "manifest.json")]
SLOW += [(".chunk", errno.EDQUOT), (".chunk", errno.EROFS)]


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("place", "number"), [(".chunk", errno.ENOSPC), *(pytest.param(*each, marks=pytest.mark.slow) for each in SLOW)]
)
def test_a_full_disk_is_one_line_and_the_run_goes_on_afterwards(
    run: Path, tmp_path: Path, place: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = OSError(number, os.strerror(number))
    real_sync, real_open = os.fsync, os.open

    def sync(descriptor: int) -> None:
        if place in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise full
        real_sync(descriptor)

    def opened(path: Any, *rest: Any, **keywords: Any) -> int:
        if place == ".lease" and str(path).endswith(place):
            raise full
        return real_open(path, *rest, **keywords)

    out = tmp_path / "run"
    with monkeypatch.context() as context:
        context.setattr(files.os, "fsync", sync)
        context.setattr(os, "open", opened)
        failed = ended(grid.main, *OPTIONS, "--out", out)
    assert failed.code in (1, 2)
    assert failed.err.count("\n") == 1
    assert os.strerror(number) in failed.err
    assert not [*out.rglob("*.part"), *out.rglob("*.lease")]
    again = ended(grid.main, *OPTIONS, "--out", out)
    assert (again.code, again.err) == (0, "")
    one, other = (xr.load_dataset(each / "results.nc", engine="h5netcdf") for each in (run, out))
    assert all(np.array_equal(one[name], other[name], equal_nan=True) for name in one.data_vars)
