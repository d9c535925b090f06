"""Self-contained HTML pages with their pictures embedded, in one style for claims, recoveries and lists of runs."""

import base64
import html
import re
from collections.abc import Iterable
from pathlib import Path

from gpsense.grid.files import atomic

TEMPLATE = Path(__file__).with_name("page.html")
# what is wider than the page scrolls, with a hint above; on a phone pictures keep a readable size
WIDE_STYLE = """
  .table, .picture { overflow: auto; }
  .cut::before { content: "wider than the page: scroll sideways \\2192"; display: block; position: sticky; left: 0;
                 width: max-content; max-width: 100%; font-size: .8rem; color: #54626f; }
  @media (max-width: 600px) { .picture img { max-width: none; width: max(100%, calc(var(--wide) * .47 - 28px)); } }
"""
WIDE_SCRIPT = """
const wide = () => document.querySelectorAll(".table, .picture").forEach(
  each => each.classList.toggle("cut", each.scrollWidth > each.clientWidth + 1));
window.addEventListener("resize", wide);
window.addEventListener("load", wide);
wide();
"""


def write(path: Path, title: str, head: str, body: str) -> Path:
    """Write a page; ``head`` and ``body`` are HTML already, the title is text. Returns the path."""
    parts = {"title": html.escape(title), "head": head, "body": body}
    parts |= {"wide_style": WIDE_STYLE, "wide_script": WIDE_SCRIPT}
    page = re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], TEMPLATE.read_text(encoding="utf-8"))
    with atomic(path) as aside:
        aside.write_text(page, encoding="utf-8")
    return path


def note(words: str) -> str:
    """The HTML of a highlighted sentence."""
    return f'<p class="note">{html.escape(words)}</p>'


def table(titles: Iterable[str], rows: Iterable[Iterable[str]], label: str) -> str:
    """An HTML table that scrolls where it is too wide; titles and cells are HTML already."""
    head = "".join(f'<th scope="col">{title}</th>' for title in titles)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>\n" for row in rows)
    whole = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="table" tabindex="0" role="region" aria-label="{html.escape(label)}">{whole}</div>'


def image(path: Path) -> str:
    """The HTML that embeds a PNG file as a data URI, in a box that scrolls if too wide; empty if there is no file."""
    if not path.is_file():
        return ""
    data = path.read_bytes()
    code, wide, name = (
        base64.b64encode(data).decode("ascii"),
        int.from_bytes(data[16:20], "big"),
        html.escape(path.stem),
    )
    picture = f'<img alt="{name}" src="data:image/png;base64,{code}">'
    return (
        f'<div class="picture" style="--wide: {wide}px" tabindex="0" role="region" aria-label="{name}">{picture}</div>'
    )
