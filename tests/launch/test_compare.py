"""Runs and claims side by side: cells matched by their axes, changes told by intervals that do not overlap."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from launch import compare, report
from launch.shell import Refusal
from tests.launch.test_report import fill, results


def record(claim: str, verdict: str = "holds", **measured: Any) -> dict[str, Any]:
    """A claim's record: quantities as (value, low, high)."""
    numbers = {
        q: dict(zip(("value", "low", "high"), each, strict=True)) | {"seeds": 16} for q, each in measured.items()
    }
    return {"paper": "p", "claim": claim, "measured": numbers, "verdicts": dict.fromkeys(measured, verdict)}


def written(path: Path, *records: dict[str, Any]) -> Path:
    path.write_text(json.dumps(records), encoding="utf-8")
    return path


def test_runs_are_matched_by_the_values_of_their_axes(tmp_path: Path) -> None:
    first = results()
    second = results().isel(penalty=[2, 0]).copy(deep=True)
    second["error"][:, 1, 1] += 10  # noise 0.5, penalty 0
    named = {name: report.read_run(fill(tmp_path / name, d)) for name, d in (("a", first), ("b", second))}
    settings, _, text, _ = compare.runs(named).split("\n\n")
    assert settings == "the settings of these runs are the same"
    rows = {tuple(line.split()[:2]): line for line in text.splitlines()[2:]}
    assert len(rows) == 6
    assert "0.002 [0.00132, 0.00268]  0.002 [0.00132, 0.00268]" in rows["0.1", "0"]
    assert rows["0.5", "0"].endswith("*")
    assert "  -" in rows["0.1", "0.01"]
    assert [key for key, line in rows.items() if line.endswith("*")] == [("0.5", "0")]


def test_runs_are_named_by_the_parts_of_their_paths_that_tell_them_apart() -> None:
    assert compare.short_names([Path("/runs/one"), Path("/runs/two")]) == ["one", "two"]
    assert compare.short_names([Path("/runs/a/one"), Path("/runs/b/one")]) == ["a/one", "b/one"]


def test_settings_that_differ_stand_above_the_numbers(tmp_path: Path) -> None:
    runs = {name: report.read_run(fill(tmp_path / name, results())) for name in ("a", "b")}
    for name, rate in (("a", 0.5), ("b", 0.3)):
        config = {"train": {"rate": rate, "steps": 100}, "run": {"seeds": [0, 1, 2]}, "name": name}
        runs[name] = runs[name]._replace(manifest={"config": config, "digest": name})
    assert compare.runs(runs).split("\n\n")[0].splitlines() == ["what differs  a    b", "train.rate    0.5  0.3"]
    config = runs["a"].manifest["config"]
    runs["b"] = runs["b"]._replace(manifest={"config": config, "digest": "b"})
    assert compare.runs(runs).splitlines()[1].split() == ["data", "or", "code,", "by", "digest", "a", "b"]


def test_measures_of_one_name_and_two_meanings_are_not_compared(tmp_path: Path) -> None:
    other = results()
    other["error"].attrs["long_name"] = "loss"
    runs = {name: report.read_run(fill(tmp_path / name, d)) for name, d in (("a", results()), ("b", other))}
    parts = compare.runs(runs).split("\n\n")
    assert parts[1] == "error is not compared, as its meaning differs: error <of> U in a; loss in b"
    assert [part.split(":")[0] for part in parts[2:]] == ["rank", "*"]
    alone = {name: run._replace(dataset=run.dataset.drop_vars("rank")) for name, run in runs.items()}
    with pytest.raises(
        Refusal, match=r"no measure in common \(error is not compared.* loss in b\); compare runs of one"
    ):
        compare.runs(alone)


def test_nothing_is_written_where_one_of_several_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = fill(tmp_path / "good", results())
    before = sorted(tmp_path.rglob("*"))
    for bad in (tmp_path / "none", tmp_path):
        assert report.main([str(good), str(bad), "--tex"]) == 2
        assert capsys.readouterr().out == ""
    other = fill(tmp_path / "other", results().drop_vars("rank").rename(error="loss"))
    assert report.main([str(good), str(other)]) == 2
    assert "no measure in common" in capsys.readouterr().err
    assert not [
        path for path in sorted(tmp_path.rglob("*")) if path not in before and other not in (path, *path.parents)
    ]


def test_a_claim_that_changed_is_told_and_others_are_counted(tmp_path: Path) -> None:
    before = written(
        tmp_path / "before.json",
        record("same", x=(1.0, 0.9, 1.1)),
        record("moved", y=(1.0, 0.9, 1.1)),
        record("turned", z=(1.0, 0.9, 1.1)),
        record("several", w=([1.0, 2.0], [0.9, 1.9], [1.1, 2.1])),
        record("gone", x=(1.0, None, None)),
    )
    now = written(
        tmp_path / "claims.json",
        record("same", x=(1.05, 0.95, 1.2)),
        record("moved", y=(1.3, 1.2, 1.4)),
        record("turned", "fails", z=(1.0, 0.9, 1.1)),
        record("several", w=([1.0, 3.0], [0.9, 2.9], [1.1, 3.1])),
        record("new", x=(1.0, None, None)),
    )
    lines = compare.claims(before, tmp_path).splitlines()
    told = {line.split()[0]: line for line in lines[1:4]}
    assert set(told) == {"p/moved", "p/turned", "p/several"}
    assert told["p/moved"].endswith("*")
    assert "holds -> fails" in told["p/turned"]
    assert not told["p/turned"].endswith("*")
    assert told["p/several"].endswith("*")
    assert lines[4] == "1 quantity did not change: same verdict, overlapping intervals"
    assert lines[-2:] == [f"only in {before}: p/gone", f"only in {tmp_path}: p/new"]
    assert now.exists()


def test_a_quantity_that_only_one_file_has_is_told(tmp_path: Path) -> None:
    before = written(tmp_path / "before.json", record("c", "fails", x=(1.0, 0.9, 1.1), gone=(2.0, 1.9, 2.1)))
    now = written(tmp_path / "now.json", record("c", x=(1.3, 1.2, 1.4), new=(3.0, 2.9, 3.1)))
    lines = compare.claims(before, now).splitlines()
    told = {line.split()[1]: line for line in lines[1:4]}
    assert set(told) == {"x", "gone", "new"}
    assert re.search(r"2 \[1.9, 2.1\] \(16 seeds\) +- +fails$", told["gone"])
    assert re.search(r" - +3 \[2.9, 3.1\] \(16 seeds\) +holds$", told["new"])
    assert lines[4].startswith("0 quantities did not change")


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"paper": "p", "claim": "c"}]'])
def test_what_holds_no_claims_is_refused(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = written(tmp_path / "claims.json", record("c", x=(1.0, 0.9, 1.1))), tmp_path / "bad.json"
    bad.write_text(text, encoding="utf-8")
    assert report.main([str(tmp_path), "--compare", str(bad)]) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert report.main([str(tmp_path), "--compare", str(good)]) == 0
    assert report.main([str(tmp_path), "--compare", str(tmp_path / "none.json")]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_an_interval_stands_where_all_seeds_agree_too() -> None:
    assert compare.interval_text((3.0, 3.0, 3.0)) == "3 [3, 3]"
    assert compare.interval_text((5.5, 4.48, 6.0)) == "5.5 [4.48, 6]"
