"""Self-contained HTML pages: one file with its pictures in it, of the same looks for claims and recoveries."""

import base64
import html
import re
from collections.abc import Iterable
from pathlib import Path

from gpsense.grid.files import atomic

TEMPLATE = Path(__file__).with_name("page.html")


def write(path: Path, title: str, head: str, body: str) -> Path:
    """Write a page; ``head`` and ``body`` are HTML already, the title is text. Returns the path."""
    parts = {"title": html.escape(title), "head": head, "body": body}
    page = re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], TEMPLATE.read_text(encoding="utf-8"))
    with atomic(path) as aside:
        aside.write_text(page, encoding="utf-8")
    return path


def note(words: str) -> str:
    """A sentence that has to be seen."""
    return f'<p class="note">{html.escape(words)}</p>'


def table(titles: Iterable[str], rows: Iterable[Iterable[str]], label: str) -> str:
    """A table of cells that are HTML already, which scrolls where it is too wide."""
    head = "".join(f'<th scope="col">{title}</th>' for title in titles)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>\n" for row in rows)
    whole = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="table" tabindex="0" role="region" aria-label="{html.escape(label)}">{whole}</div>'


def image(path: Path) -> str:
    """A PNG file as a data URI; nothing where there is none."""
    if not path.is_file():
        return ""
    code = base64.b64encode(path.read_bytes()).decode("ascii")
    return f'<img alt="{html.escape(path.stem)}" src="data:image/png;base64,{code}">'
