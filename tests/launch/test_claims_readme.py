"""The README.md of every paper agrees with its configs and records; a claim that changed has no numbers."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from launch.claims import __main__ as command
from launch.claims.experiment import read_claims
from launch.claims.readme import COMMAND, readme, write_tables
from launch.config import DEFAULT
from launch.shell import Refusal

CONFIGS = DEFAULT.parent


@pytest.mark.parametrize("paper", command.papers())
def test_the_readme_of_a_paper_agrees_with_configs_and_records(paper: str) -> None:
    folder = CONFIGS / paper
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert text == readme(folder), f"run {COMMAND}"
    for claim in read_claims(folder, full=False):
        assert f"## [{claim.name}]({claim.path.name})" in text


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*/*.yaml")), ids=lambda path: path.stem)
def test_a_claims_header_holds_no_numbers_that_were_measured(path: Path) -> None:
    header = "".join(line for line in path.read_text().splitlines(keepends=True) if line.startswith("#"))
    if yaml.safe_load(path.read_text()).get("claim"):
        assert "Expect" not in header
        assert "in all" not in header


def record(claim: Any, value: float) -> dict[str, Any]:
    """A record of a claim that expects ``kept`` to be 4."""
    return {
        "paper": "greedy_pruning",
        "claim": claim.name,
        "size": "small",
        "seed_offset": 0,
        "first_seed": 0,
        "source": "derived",
        "precision": ["float32"],
        "seconds": 3.4,
        "expected": {"kept | all": 4.0},
        "tolerance": {"kept | all": 0.0},
        "measured": {"kept | all": {"value": value, "low": value, "high": value, "seeds": 16}},
        "kinds": {"kept | all": "law"},
        "verdicts": {"kept | all": "holds"},
        "deciding_seeds": {},
        "verdict": "holds",
        "digests": {name: config.digest() for name, config in claim.grids.items()},
    }


def test_tables_follow_from_a_run_and_a_claim_that_changed_has_no_numbers(tmp_path: Path) -> None:
    folder, run = tmp_path / "greedy_pruning", tmp_path / "run"
    folder.mkdir()
    run.mkdir()
    claim = {"statement": "s", "source": "derived", "kind": "law", "check": "width"}
    fields = {"run": {"seeds": 16}, "claim": claim | {"expect": {"kept | all": {"value": 4}}}}
    for name in ("one", "two"):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(fields))
    first, second = read_claims(folder, False)
    (run / "claims.json").write_text(json.dumps([record(first, 4.0), record(first, 9.0) | {"size": "full"}]))
    (path,) = write_tables(tmp_path, ["greedy_pruning"], run)
    text = path.read_text()
    assert "| kept \\| all | law | 4 | 4 (all 16 seeds) | holds |" in text
    assert "## [one](one.yaml): holds\n\ns (derived, float32, 3 s)" in text
    assert "Not run since their configs changed: two." in " ".join(text.split())
    assert "## [two](two.yaml)\n\ns (derived)\n\n| quantity | kind | expected |" in text

    (run / "claims.json").write_text(json.dumps([record(second, 4.0)]))
    write_tables(tmp_path, ["greedy_pruning"], run)
    assert "2 claims: 2 hold." in path.read_text()  # what was recorded before stays
    fields["run"] = {"seeds": 17}
    (folder / "one.yaml").write_text(yaml.safe_dump(fields))
    assert "Not run since their configs changed: one." in " ".join(readme(folder).split())


def test_tables_of_a_folder_without_claims_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "greedy_pruning").mkdir()
    with pytest.raises(Refusal, match=r"^--out: .* has no claims.json; give the folder"):
        write_tables(tmp_path, ["greedy_pruning"], tmp_path / "nowhere")
    assert list((tmp_path / "greedy_pruning").iterdir()) == []
