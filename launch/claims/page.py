"""The page of the claims: one self-contained HTML file with all verdicts, intervals, figures and configs."""

import base64
import html
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gpsense.grid.files import atomic
from launch.claims.experiment import caveat
from launch.claims.table import counts, expected_text, facts, measured_text, verdict_text

TEMPLATE = Path(__file__).with_name("page.html")
Record = dict[str, Any]


def write_page(folder: Path) -> Path:
    """Write ``claims.html`` from the ``claims.json`` and the figures of a folder; returns its path."""
    records = json.loads((folder / "claims.json").read_text(encoding="utf-8"))
    offset = records[0]["seed_offset"] if records else 0
    papers = dict.fromkeys(record["paper"] for record in records)
    notes = [f"{paper}: {words}" for paper in papers if (words := caveat(paper))]
    parts = {
        "title": "Claims" + (f", seeds moved by {offset}" if offset else ""),
        "counts": html.escape(counts(records)),
        "notes": "".join(f'<p class="note">{html.escape(words)}</p>' for words in notes),
        "overview": _overview(records),
        "claims": "\n".join(_claim(record, folder / "figures" / f"{record['claim']}.png") for record in records),
    }
    page = re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], TEMPLATE.read_text(encoding="utf-8"))
    path = folder / "claims.html"
    with atomic(path) as aside:
        aside.write_text(page, encoding="utf-8")
    return path


def _overview(records: list[Record]) -> str:
    """A row for each claim."""
    rows = [
        [
            f'<a href="#{_anchor(record)}">{html.escape(record["claim"])}</a>',
            html.escape(record["paper"]),
            html.escape(record["kind"]),
            html.escape(record["statement"]),
            _verdict(record["verdict"], record["verdict"]),
        ]
        for record in records
    ]
    return _table(("claim", "paper", "kind", "statement", "verdict"), rows)


def _claim(record: Record, picture: Path) -> str:
    """A claim's statement, quantities, figure and config."""
    rows = []
    for name, measured in record["measured"].items():
        checked = name in record["expected"]
        wanted = expected_text(record["expected"][name], record["tolerance"][name]) if checked else "not checked"
        words = name, record["kinds"].get(name, ""), wanted, measured_text(measured)
        verdict = _verdict(record["verdicts"][name], verdict_text(record, name)) if checked else ""
        rows.append([*map(html.escape, words), verdict])
    table = _table(("quantity", "kind", "expected", "measured [95 % interval]", "verdict"), rows)
    title = f"{html.escape(record['claim'])}: {_verdict(record['verdict'], record['verdict'])}"
    config = f"<details><summary>Config</summary><pre>{html.escape(record['config'])}</pre></details>"
    return (
        f'<section id="{_anchor(record)}"><h2>{title}</h2><p>{html.escape(record["statement"])}</p>'
        f'<p class="facts">{html.escape(facts(record))}</p>'
        f'<div class="table" tabindex="0" role="region" aria-label="Quantities">{table}</div>'
        f"{_image(picture)}{config}</section>"
    )


def _anchor(record: Record) -> str:
    return html.escape(f"{record['paper']}-{record['claim']}-{record['size']}")


def _verdict(word: str, text: str) -> str:
    return f'<span class="verdict {word}">{html.escape(text)}</span>'


def _table(titles: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table of cells that are HTML already."""
    head = "".join(f'<th scope="col">{title}</th>' for title in titles)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>\n" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _image(path: Path) -> str:
    """A PNG file as a data URI; nothing where there is none."""
    if not path.is_file():
        return ""
    code = base64.b64encode(path.read_bytes()).decode("ascii")
    return f'<img alt="{html.escape(path.stem)}" src="data:image/png;base64,{code}">'
