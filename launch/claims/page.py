"""The page of the claims: one self-contained HTML file with all verdicts, intervals, figures and configs."""

import html
from pathlib import Path
from typing import Any

from gpsense.grid.files import read_json
from launch import pages
from launch.claims.experiment import caveat
from launch.claims.table import counts, expected_text, facts, greek, measured_text, verdict_text

LEGEND = (
    "A claim holds where the 95 % interval of every quantity lies inside the expected range, fails where one "
    "lies outside, and is undecided where one lies across a bound. Intervals are over seeds; all cells of one seed are "
    "one cluster. Law: predicted by theory. Comparison: one method does better than another. Regression: the "
    "target is an earlier measurement of this project."
)
Record = dict[str, Any]


def write_page(folder: Path) -> Path:
    """Write ``claims.html`` from the ``claims.json`` and the figures of a folder; returns its path."""
    records = read_json(folder / "claims.json")
    offset = records[0]["seed_offset"] if records else 0
    papers = dict.fromkeys(record["paper"] for record in records)
    notes = [f"{paper}: {words}" for paper in papers if (words := caveat(paper))]
    head = f'<p>{html.escape(counts(records))}</p><p class="facts">{LEGEND}</p>' + "".join(map(pages.note, notes))
    claims = "\n".join(_claim(record, folder / "figures" / f"{record['claim']}.png") for record in records)
    title = "Claims" + (f", seeds moved by {offset}" if offset else "")
    return pages.write(folder / "claims.html", title, head, _overview(records) + claims)


def _overview(records: list[Record]) -> str:
    """The table of all verdicts, one row per claim."""
    rows = [
        [
            f'<a href="#{_anchor(record)}">{html.escape(record["claim"])}</a>',
            html.escape(record["paper"]),
            html.escape(record["kind"]),
            html.escape(greek(record["statement"])),
            _verdict(record["verdict"], record["verdict"]),
        ]
        for record in records
    ]
    return pages.table(("claim", "paper", "kind", "statement", "verdict"), rows, "All verdicts")


def _claim(record: Record, picture: Path) -> str:
    """A claim's statement, quantities, figure and config."""
    rows = []
    for name, measured in record["measured"].items():
        checked = name in record["expected"]
        wanted = expected_text(record["expected"][name], record["tolerance"][name]) if checked else "not checked"
        words = name, record["kinds"].get(name, ""), wanted, measured_text(measured)
        verdict = _verdict(record["verdicts"][name], verdict_text(record, name)) if checked else ""
        rows.append([*map(html.escape, words), verdict])
    table = pages.table(("quantity", "kind", "expected", "measured [95 % interval]", "verdict"), rows, "Quantities")
    title = f"{html.escape(record['claim'])}: {_verdict(record['verdict'], record['verdict'])}"
    config = f"<details><summary>Config</summary><pre>{html.escape(record['config'])}</pre></details>"
    return (
        f'<section id="{_anchor(record)}"><h2>{title}</h2><p>{html.escape(greek(record["statement"]))}</p>'
        f'<p class="facts">{html.escape(facts(record))}</p>'
        f"{table}{pages.image(picture)}{config}</section>"
    )


def _anchor(record: Record) -> str:
    return html.escape(f"{record['paper']}-{record['claim']}-{record['size']}")


def _verdict(word: str, text: str) -> str:
    return f'<span class="verdict {word}">{html.escape(text)}</span>'
