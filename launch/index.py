"""A page that lists the runs in a folder, each with its kind, contents, date, number of cells, state and a link.

``python -m launch.report --index runs`` writes runs/index.html. Grids, claims and recoveries are looked for in the
subfolders of the folder and one level below these.
"""

import html
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from gpsense.errors import counted
from gpsense.grid import files
from launch import pages
from launch.shell import Refusal

SEARCH = """<p><label>Search <input id="search" type="search" placeholder="name, system, axis, state"></label>
<span id="found" class="facts" aria-live="polite"></span></p>"""
SCRIPT = """<script>
const rows = [...document.querySelectorAll("tbody tr")], box = document.getElementById("search");
box.addEventListener("input", () => {
  const words = box.value.toLowerCase().split(/\\s+/);
  for (const row of rows) row.hidden = !words.every(word => row.textContent.toLowerCase().includes(word));
  document.getElementById("found").textContent = `${rows.filter(row => !row.hidden).length} of ${rows.length}`;
});
</script>"""


class Entry(NamedTuple):
    """One run: folder, page, kind, description, time in seconds since the epoch, number of cells, and state."""

    folder: Path
    page: Path | None
    kind: str
    about: str
    when: float
    cells: int | None
    state: str


def write_index(folder: Path) -> Path:
    """Write index.html, a list of the runs in a folder, and return its path; raises Refusal if there is no run."""
    if not folder.is_dir():
        raise Refusal(f"--index: {folder} is not a directory; name the folder of the runs")
    found = sorted(entries(folder), key=lambda entry: -entry.when)
    if not found:
        raise Refusal(f"--index: there is no run in {folder}; name the folder of the runs, such as runs")
    kinds = Counter(entry.kind for entry in found)
    head = f"<p>{', '.join(f'{count} x {kind}' for kind, count in kinds.items())}; newest first.</p>{SEARCH}"
    titles = ("run", "kind", "what", "when", "cells", "state")
    body = pages.table(titles, (_row(entry, folder) for entry in found), "Runs") + SCRIPT
    return pages.write(folder / "index.html", f"Runs in {folder}", head, body)


def entries(folder: Path) -> Iterable[Entry]:
    """The runs among the subfolders of a folder and those one level below."""
    for path in sorted([*folder.glob("[!.]*/"), *folder.glob("[!.]*/[!.]*/")]):
        readers = {"manifest.json": grid, "claims.json": claims, "summary.json": recovery}
        for name, reader in readers.items():
            if (path / name).is_file():
                try:
                    entry = reader(path, files.read_json(path / name))
                except (OSError, ValueError, KeyError, TypeError, AttributeError):
                    entry = Entry(path, None, "unknown", f"{name} cannot be read", _when(path / name), None, "damaged")
                if entry is not None:
                    yield entry
                break


def grid(path: Path, manifest: dict[str, Any]) -> Entry:
    """The entry of a grid's run, made by ``launch.grid``, for a claim, or in Python."""
    stored, python = list((path / "chunks").glob("*.chunk")), files.made_in_python(manifest)
    config = {"": manifest.get("settings", {})} if python else manifest["config"]
    lists = {
        (section, key): value
        for section, fields in config.items()
        if isinstance(fields, dict)
        for key, value in fields.items()
        if isinstance(value, list) and len(value) > 1 and not isinstance(value[1], list)  # not an array's shape, digest
    }
    place = ("", "seeds") if python else ("run", "seeds")
    seeds = config.get(place[0], {}).get("seeds", 1)
    count = len(seeds) if isinstance(seeds, list) else seeds
    axes = [f"{key} x {len(value)}" for (section, key), value in lists.items() if (section, key) != place]
    system = f"{config[''].get('system', '')} from Python" if python else config.get("system", "")
    about = f"{system.strip()}: {', '.join([*axes, counted(count, 'seed')])}"
    results = path / ("results.nc" if python else "summary.json")
    if results.is_file() and (path / "results.nc").is_file():
        said = _logged(path) if python else files.read_json(results)
        lost = said.get("diverged", 0)
        state = f"finished, {lost} diverged" if lost else "finished"
        return Entry(path, _page(path), "grid", about, _when(results), said["cells"], state)
    newest = max(map(_when, stored), default=_when(path / "manifest.json"))
    total = manifest.get("chunks")
    state = f"{len(stored)} of {counted(total, 'chunk')}" if total else counted(len(stored), "chunk")
    return Entry(path, _page(path), "grid", about, newest, None, state)


def _logged(path: Path) -> dict[str, Any]:
    """The numbers of cells and of diverged cells in a run's log; that of cells is None if the log has none."""
    lines = files.logged(path).values()
    counts = {name: sum(line.get(name, 0) for line in lines) for name in ("cells", "diverged")}
    return counts | {"cells": counts["cells"] or None}


def claims(path: Path, records: list[dict[str, Any]]) -> Entry:
    """The entry of a folder that ``launch.claims`` wrote."""
    verdicts = Counter(record["verdict"] for record in records)
    about = ", ".join(dict.fromkeys(record["paper"] for record in records))
    state = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items())
    page = path / "claims.html"
    when = _when(path / "claims.json")
    return Entry(path, page if page.is_file() else None, "claims", about, when, None, state)


def recovery(path: Path, summary: dict[str, Any]) -> Entry | None:
    """The entry of a folder that ``launch.recover`` wrote; None for any other."""
    if not {"kind", "rank", "n"} <= set(summary):
        return None
    about = f"{summary['n']} values ({summary['kind']}) of a {summary['rows']} x {summary['columns']} matrix"
    state = f"finished, rank {summary['rank']}"
    return Entry(path, _page(path), "recovery", about, _when(path / "summary.json"), None, state)


def _page(path: Path) -> Path | None:
    return path / "report.html" if (path / "report.html").is_file() else None


def _when(path: Path) -> float:
    return path.stat().st_mtime


def _row(entry: Entry, folder: Path) -> list[str]:
    """The table row of a run, as HTML cells; its name links to its page."""
    name = html.escape(entry.folder.relative_to(folder).as_posix())
    if entry.page is not None:
        link = html.escape(entry.page.relative_to(folder).as_posix().replace("%", "%25").replace("#", "%23"))
        name = f'<a href="{link}">{name}</a>'
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.when))
    cells = "" if entry.cells is None else str(entry.cells)
    return [name, *(html.escape(text) for text in (entry.kind, entry.about, when, cells, entry.state))]
