"""The README.md beside a paper's configs: what its claims expect, and what was measured by the last recorded run.

``configs/PAPER/claims.json`` holds the records of that run. The text depends on it and on the configs alone; a
claim whose config has changed since is shown without numbers.
"""

import json
import textwrap
from importlib import import_module
from pathlib import Path
from typing import Any

from gpsense.grid.files import atomic, write_json
from launch.claims.experiment import Experiment, caveat, expected_of, read_claims
from launch.claims.table import counts, expected_text, facts, measured_text, verdict_text
from launch.claims.verdicts import SKIPPED
from launch.shell import Refusal

COMMAND = "python -m launch.claims --write-tables"
Record = dict[str, Any]


def write_tables(configs: Path, papers: list[str], run: Path) -> list[Path]:
    """Record what ``run`` (a folder with claims.json) measured at the small size, and write every paper's README.md.

    Raises Refusal, before anything is written, if ``run`` has no claims.json.
    """
    if not (run / "claims.json").is_file():
        raise Refusal(f"--out: {run} has no claims.json; give the folder that launch.claims wrote to")
    written = []
    for paper in papers:
        folder = configs / paper
        fresh = {r["claim"]: r for r in read_records(run) if _run(r, paper)}
        known = {record["claim"]: record for record in read_records(folder)}
        claims = read_claims(folder, full=False)
        both = known | {name: {**record, "config": ""} for name, record in fresh.items()}
        records = [both[claim.name] for claim in claims if claim.name in both]
        write_json(folder / "claims.json", records)
        path = folder / "README.md"
        with atomic(path) as aside:
            aside.write_text(readme(folder), encoding="utf-8")
        written.append(path)
    return written


def _run(record: Record, paper: str) -> bool:
    """Whether a record is of this paper, at the small size, and was not skipped."""
    return record["paper"] == paper and record["size"] == "small" and record["verdict"] != SKIPPED


def read_records(folder: Path) -> list[Record]:
    """The records in the claims.json of a folder; empty if there is no such file."""
    path = folder / "claims.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def readme(folder: Path) -> str:
    """README.md of a paper, from its configs and its claims.json."""
    claims = read_claims(folder, full=False)
    known = {record["claim"]: record for record in read_records(folder)}
    current = {claim.name: known.get(claim.name) for claim in claims}
    current = {c.name: r for c in claims if (r := current[c.name]) is not None and same(c, r)}
    module = import_module(f"launch.claims.{folder.name}")
    head = str(module.__doc__).split(": the check of each")[0]
    words = [
        f"# {head}",
        f"This page is written by `{COMMAND}` from `claims.json` and the configs; change those.",
        f"`python -m launch.claims --paper {folder.name}` runs all of them, `--claim NAME` one.",
        counts(list(current.values())) + "." if current else "",
        f"Not run since their configs changed: {', '.join(late)}." if (late := [*missing(claims, current)]) else "",
    ]
    note = caveat(folder.name)
    parts = [words[0], _filled(" ".join(filter(None, words[1:]))), *([_filled(f"Note: {note}")] if note else [])]
    return "\n\n".join([*parts, *(_claim(claim, current.get(claim.name)) for claim in claims)]) + "\n"


def missing(claims: list[Experiment], current: dict[str, Record]) -> list[str]:
    """The names of the claims that have no current record."""
    return [claim.name for claim in claims if claim.name not in current]


def same(claim: Experiment, record: Record) -> bool:
    """Whether a record is of the claim as it is now: the same grids, expectations and seeds."""
    digests = {name: config.digest() for name, config in claim.grids.items()}
    expected = {name: expected_of(each) for name, each in claim.claim.expect.items()}
    within = {name: each.within for name, each in claim.claim.expect.items()}
    now = json.loads(json.dumps([digests, expected, within]))
    return now == [record["digests"], record["expected"], record["tolerance"]] and not record["seed_offset"]


def _claim(claim: Experiment, record: Record | None) -> str:
    """The section of one claim: its verdict, statement, and a table of expected and measured quantities."""
    heads = ["quantity", "kind", "expected", *(["measured [95 % interval]", "verdict"] if record else [])]
    rows = [heads, ["---"] * len(heads)]
    for name, expected in claim.claim.expect.items():
        row = [name, expected.kind or claim.claim.kind, expected_text(expected_of(expected), expected.within)]
        rows.append(row + ([measured_text(record["measured"][name]), verdict_text(record, name)] if record else []))
    table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
    said = facts(record) if record else claim.claim.source
    title = f"## [{claim.name}]({claim.path.name})" + (f": {record['verdict']}" if record else "")
    return "\n\n".join([title, _filled(f"{claim.claim.statement} ({said})"), table])


def _filled(text: str) -> str:
    return textwrap.fill(text, 120, break_on_hyphens=False, break_long_words=False)
