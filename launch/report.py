"""The page of a run: one self-contained HTML file that shows every cell of the grid.

``python -m launch.report DIR`` redraws the figures and rewrites the page from what is stored in DIR; for an unfinished
run, from the chunks stored so far. ``--merge OUT DIR...`` first merges run directories of one config, ``--index
FOLDER`` writes a page that lists all runs in a folder.
The page's layout and script are ``report_page.html``; this module fills in text and numbers.
"""

import html
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr
import yaml

from gpsense.errors import BadInput, counted
from gpsense.grid.files import atomic, made_in_python, own, read_json, remove_left_over
from gpsense.plots.view import (
    FAILED,
    axis_label,
    curves,
    fine_tuned,
    listed_axes,
    main_measures,
    others,
    over_seeds,
    part_noun,
    plane,
    problem_words,
    setting_words,
    short_name,
    stage_label,
    threshold_of,
    value_text,
    without_failures,
)
from launch import figures, pages
from launch.shell import Parser, Refusal, leave, program, refused

if TYPE_CHECKING:
    from launch.work import Work

MOST_NUMBERS = 2_000_000
MEDIANS = ("rank", "error", "error_trained", "error_pruned")
EXPLAINED = {"law": "error at known rank, by theory", "diverged": "seeds that diverged"}
TEMPLATE = Path(__file__).with_name("report_page.html")


class Unreadable(Exception):
    """The error for a directory without a run that can be read; the text is one line that says what is missing."""


class Run(NamedTuple):
    """The contents of a run directory: manifest, summary and results."""

    manifest: dict[str, Any]
    summary: dict[str, Any]
    dataset: xr.Dataset


class Kept(NamedTuple):
    """The numbers of seeds and of columns of each cell that the page carries, and the indices of the records."""

    seeds: int
    columns: int
    records: np.ndarray


def read_run(directory: Path) -> Run:
    """Read manifest.json, summary.json and results.nc; raises Unreadable if one is missing or damaged.

    The summary's table is recomputed from the results, so that the two agree. A run made in Python has no
    summary.json.
    """
    if not directory.is_dir():
        raise Unreadable(f"{directory} is not a directory; name the directory of a run")
    from gpsense.grid.store import read_dataset
    from launch import table

    manifest = _object_in(directory, "manifest.json")
    kept = _python_summary(directory, manifest) if made_in_python(manifest) else _object_in(directory, "summary.json")
    try:
        dataset = read_dataset(directory / "results.nc")
    except (OSError, ValueError) as error:
        raise Unreadable(_refusal(directory, "results.nc", error)) from None
    if manifest.get("digest") != dataset.attrs.get("config_digest", manifest.get("digest")):
        raise Unreadable(f"{directory / 'results.nc'} belongs to another run; run the grid again")
    needed = {
        "status": "status" in dataset,
        "seed": "seed" in dataset.dims,
        "train_steps": "train_steps" in dataset.attrs,
    }
    lacking = [name for name, there in needed.items() if not there]
    if lacking or not main_measures(dataset):
        listed = ", ".join(lacking) or "results, a variable of one number per cell"
        raise Unreadable(f"{directory / 'results.nc'} lacks {listed}; run the grid again")
    if other := [name for name, values in dataset.data_vars.items() if values.dtype.kind not in "biufc"]:
        raise Unreadable(f"{directory / 'results.nc'} holds no numbers in {other[0]}; run the grid again")
    summary = {name: kept[name] for name in ("name", "programs", "seconds") if name in kept}
    rows = kept.get("table")
    columns = rows[0] if isinstance(rows, list) and rows and isinstance(rows[0], dict) else {}
    return Run(manifest, summary | {"table": table.rows(dataset, list(columns))}, dataset)


def _object_in(directory: Path, name: str) -> dict[str, Any]:
    """The JSON object in a file of a run; raises Unreadable if there is none."""
    try:
        found = read_json(directory / name)
        if not isinstance(found, dict):
            raise ValueError("not an object")
    except (OSError, ValueError) as error:
        raise Unreadable(_refusal(directory, name, error)) from None
    return found


def _python_summary(directory: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """The summary of a run made in Python, which stores none: its name and seconds."""
    from gpsense.grid.store import Store

    return {"name": manifest.get("name"), "seconds": round(Store(directory).seconds(), 3)}


def read_unfinished(work: "Work") -> Run:
    """What an unfinished run has stored so far; cells of missing chunks are NaN with status -1.

    Raises Unreadable if no chunk is stored yet. Writes nothing.
    """
    from launch import table
    from launch.work import collected, opened

    place, plan = opened(work), work.plan
    count = place.count(plan)
    if not count:
        raise Unreadable(f"{work.out} has no finished chunk yet; wait for the first")
    dataset = collected(work)
    summary = {"name": work.config.name, "digest": work.digest, "cells": plan.cells, "programs": len(plan.programs)}
    summary |= {"seconds": round(place.seconds(), 3), "chunks": [count, len(plan.chunks)]}
    manifest = read_json(work.out / "manifest.json")
    return Run(manifest, summary | {"table": table.rows(dataset, work.config.system.table)}, dataset)


def _refusal(directory: Path, name: str, error: Exception) -> str:
    inside = sorted(path.parent for path in directory.glob("[!.]*/manifest.json"))
    if inside and not (directory / name).exists():
        name = f"name one of them, such as {inside[0]}," if len(inside) > 1 else f"name it, {inside[0]},"
        choice = f"{name} or list all on a page: {program('report')} --index {directory}"
        return f"{directory} is not a run, but holds {counted(len(inside), 'run')}; {choice}"
    if not (directory / name).exists() and _recovered(directory):
        return f"{directory} is a recovery, not a run of a grid; open {directory / 'report.html'}"
    if not (directory / name).exists():
        return f"{directory} is not a gpsense run, it has no {name}; name the directory of a run"
    return f"{directory / name} cannot be read ({' '.join(str(error).split())[:120]}); run the grid again"


def _recovered(directory: Path) -> bool:
    """Whether ``launch.recover`` wrote this folder."""
    try:
        return "chosen_by" in read_json(directory / "summary.json")
    except (OSError, ValueError, TypeError):
        return False


def write_report(directory: Path, limit: int = MOST_NUMBERS, run: Run | None = None) -> Path:
    """Write ``report.html`` of ``run`` (None: the finished run in ``directory``) and return its path.

    At most about ``limit`` numbers are embedded. If there are more, the page carries fewer seeds, then fewer columns,
    then fewer records of each cell, and says so. Figures already in ``directory/figures`` are embedded as pictures.
    Raises Unreadable if there is no run.
    """
    from plotly.offline import get_plotlyjs

    run = run or read_run(directory)
    dataset = without_failures(run.dataset)
    kept = fit(dataset, limit)
    parts = {
        "title": html.escape(_title(run, directory)),
        "made": _made(run),
        "note": _unfinished(run) + _note(dataset, kept) + _others(dataset),
        "table": _table(run.summary.get("table", []), dataset),
        "pictures": _pictures(directory / "figures"),
        "config": html.escape(yaml.safe_dump(_settings(run.manifest), sort_keys=False, allow_unicode=True)),
        "plotly": get_plotlyjs(),
        "data": payload(run.dataset, kept),
        "wide_style": pages.WIDE_STYLE,
        "wide_script": pages.WIDE_SCRIPT,
    }
    page = re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], TEMPLATE.read_text(encoding="utf-8"))
    path = directory / "report.html"
    with atomic(path) as aside:
        aside.write_text(page, encoding="utf-8")
    return path


def _settings(manifest: dict[str, Any]) -> Any:
    """The config of a run, or the settings of one made in Python."""
    return manifest.get("settings", {}) if made_in_python(manifest) else manifest["config"]


def fit(dataset: xr.Dataset, limit: int) -> Kept:
    """The most seeds, then columns, then records with which curves and column norms stay within ``limit`` numbers."""
    seeds, columns, records = (dataset.sizes.get(name, 0) for name in ("seed", "column", "step"))
    room = limit * seeds / max(dataset["status"].size, 1)  # numbers per combination of the axes other than seed
    seeds = int(np.clip((room - 2 * records) // max(2 * records + columns, 1), 1, seeds))
    if seeds == 1:
        columns = int(np.clip(room - 4 * records, min(columns, 10), columns))
        thinned = int(np.clip((room - columns) // 4, min(records, 10), records))
    else:
        thinned = records
    if not records:
        return Kept(seeds, columns, np.arange(0))
    last = max(int((dataset["phase"] == "train").sum()) - 1, 0)
    places = np.linspace(0, records - 1, thinned).round().astype(int)
    return Kept(seeds, columns, np.union1d(places, [0, last, min(last + 1, records - 1), records - 1]))


def payload(dataset: xr.Dataset, kept: Kept) -> str:
    """The page's numbers as JSON, flat in row-major order of (axes, seed, step or column); NaN is null."""
    axes, good = listed_axes(dataset), without_failures(dataset)
    dataset = dataset.transpose(*axes, "seed", ...)
    good = good.transpose(*axes, "seed", ...)
    places = {"seed": slice(kept.seeds), "step": kept.records, "column": slice(kept.columns)}
    some = dataset.isel(places, missing_dims="ignore")
    main = main_measures(dataset)
    medians = list(dict.fromkeys([*main, *(name for name in MEDIANS if name in dataset)]))
    drawn = {name.removesuffix("_curve"): name for name in curves(dataset)}
    level = threshold_of(dataset)
    status = dataset["status"]
    level = xr.DataArray(np.nan) if level is None else level
    labelled = [name for name in (*main, "column_norms", *drawn.values()) if name in dataset]
    words = {str(name): stage_label(dataset, str(name)) for name in labelled}
    fields = {
        "axes": _json([_axis(dataset, name) for name in axes]),
        "plane": _json(plane(dataset)),
        "seeds": _json(some["seed"].values.tolist()),
        "n_seeds": _json(dataset.sizes["seed"]),
        "labels": _json(words),
        "main": _json(main),
        "kept": _json(short_name(dataset["rank"]) if "rank" in dataset else ""),
        "part": _json(part_noun(dataset)),
        "tuned": _json(fine_tuned(dataset)),
        "steps": _json(some["step"].values.tolist() if drawn else []),
        "train": _json(int((some["phase"] == "train").sum()) if drawn else 0),
        "train_steps": _json(int(dataset.attrs["train_steps"])),
        "columns": _json(kept.columns),
        "diverged": _numbers((status == FAILED[1]).sum("seed").values),
        "missing": _numbers((status == FAILED[0]).sum("seed").values),
        "failed": _numbers(some["status"].isin(FAILED).values),
        "threshold": _numbers(level.broadcast_like(status.isel(seed=0)).transpose(*axes).values),
        "medians": _object({name: _numbers(over_seeds(good[name])[0], 5) for name in medians}),
        "curves": _object({name: _numbers(some[variable].values) for name, variable in drawn.items()}),
        "median_curves": _object(
            {name: _numbers(over_seeds(good[v])[0][..., kept.records]) for name, v in drawn.items()}
        ),
        "norms": _numbers(some["column_norms"].values) if "column_norms" in some else "[]",
    }
    return _object(fields)


def _axis(dataset: xr.Dataset, name: str) -> dict[str, Any]:
    values = [value_text(v) for v in dataset[name].values]
    return {"name": name, "label": axis_label(dataset, name), "values": values}


def _json(value: Any) -> str:
    """JSON that cannot close the script element in which it is embedded."""
    return json.dumps(value).replace("<", "\\u003c")


def _object(fields: dict[str, str]) -> str:
    return "{" + ",".join(f"{_json(name)}:{text}" for name, text in fields.items()) + "}"


def _numbers(values: np.ndarray, digits: int = 4) -> str:
    """A flat JSON array, rounded to significant digits."""
    form = f"%.{digits}g"
    flat = np.asarray(values, float).ravel()
    finite = np.isfinite(flat).tolist()
    return "[" + ",".join(form % v if ok else "null" for v, ok in zip(flat.tolist(), finite, strict=True)) + "]"


def _title(run: Run, directory: Path) -> str:
    return str(run.manifest.get("name") or run.summary.get("name") or directory.resolve().name)


def _made(run: Run) -> str:
    """The entries of an HTML description list (dt, dd) that say how the run was made."""
    manifest, summary, status = run.manifest, run.summary, run.dataset["status"]
    told = {name: manifest.get(name) for name in ("versions", "flags")}
    versions, flags = (value if isinstance(value, dict) else {} for value in told.values())
    devices = manifest.get("devices")
    devices = [str(device) for device in devices] if isinstance(devices, list) else []
    of_kinds = [f"{devices.count(device)} x {device}" for device in dict.fromkeys(devices)]
    facts = {
        "problem": ", ".join(problem_words(run.dataset).values()),
        "training": ", ".join(setting_words(run.dataset).values()),
        "cells": status.size,
        "seeds": run.dataset.sizes["seed"],
        "programs": summary.get("programs"),
        "diverged": f"{int((status == FAILED[1]).sum())} of {counted(status.size, 'cell')}",
        "missing": int((status == FAILED[0]).sum()),
        "time": f"{_number(summary['seconds'])} s" if "seconds" in summary else None,
        "devices": ", ".join([*of_kinds, *([str(manifest["host"])] if "host" in manifest else [])]),
        "precision": manifest.get("precision"),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "flags": ", ".join(f"{name}={value}" for name, value in flags.items() if isinstance(value, str) and value),
        "config digest": manifest.get("digest"),
    }
    return "".join(f"<dt>{name}</dt><dd>{html.escape(str(fact))}</dd>" for name, fact in facts.items() if fact)


def _unfinished(run: Run) -> str:
    """The HTML note that a run is not finished and how much of it is stored; empty for a finished one."""
    if "chunks" not in run.summary:
        return ""
    (count, total), status = run.summary["chunks"], run.dataset["status"]
    cells, chunks = counted(status.size, "cell"), counted(total, "chunk")
    there = f"{int((status != FAILED[0]).sum())} of {cells} ({count} of {chunks}) are stored"
    return f'<p class="note"><strong>This run is not finished:</strong> {there}; all numbers are from these only.</p>'


def _note(dataset: xr.Dataset, kept: Kept) -> str:
    """The HTML note on what the page leaves out to stay small; empty where nothing is."""
    dims = {"seeds": "seed", "columns": "column", "records": "step"}
    whole = {name: dataset.sizes.get(dim, 0) for name, dim in dims.items()}
    here = {"seeds": kept.seeds, "columns": kept.columns, "records": len(kept.records)}
    fewer = [f"{here[name]} of {count} {name}" for name, count in whole.items() if here[name] < count]
    if not fewer:
        return ""
    words = f"To keep this page small, it carries {', '.join(fewer)} of each cell; medians are over all seeds."
    return f'<p class="note">{words} results.nc holds everything.</p>'


def _others(dataset: xr.Dataset) -> str:
    """The HTML note on measures of a user's own code that the page does not show; empty where there are none."""
    words = others(dataset, main_measures(dataset))
    return f'<p class="note">{html.escape(words[0].upper() + words[1:])}.</p>' if words else ""


def _number(value: Any) -> str:
    """A table entry as text, numbers to four digits."""
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _table(rows: list[dict[str, Any]], dataset: xr.Dataset) -> str:
    """The HTML table of the summary's rows; each heading is the key with its meaning."""
    if not rows:
        return "<p>No rows.</p>"
    named = {str(name): axis_label(dataset, str(name)) for name in dataset.coords}
    named = {name: label for name, label in named.items() if label != name}
    words = EXPLAINED | named | {str(name): stage_label(dataset, str(name)) for name in dataset.data_vars}
    keys = list(dict.fromkeys(key for row in rows for key in row))
    above = {key: short_name(dataset[key]) if key in dataset.data_vars else key for key in keys}
    titles = {key: html.escape(name).replace("_", "_<wbr>") for key, name in above.items()}
    heads = [f"{title}<small>{html.escape(words.get(key, ''))}</small>" for key, title in titles.items()]
    head = "".join(f'<th scope="col">{text}</th>' for text in heads)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(_number(row.get(key)))}</td>" for key in keys) + "</tr>\n" for row in rows
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="table" tabindex="0" role="region" aria-label="Medians over seeds">{table}</div>'


def _pictures(directory: Path) -> str:
    """The HTML section with the PNG files of a folder, as data URIs; empty where there are none."""
    entries = []
    for path in sorted(path for path in directory.glob("[!.]*.png") if path.is_file()):
        entries.append(f"<figure>{pages.image(path)}<figcaption>{html.escape(path.name)}</figcaption></figure>")
    return f"<section><h2>Figures</h2>{''.join(entries)}</section>" if entries else ""


def main(argv: list[str] | None = None) -> int:
    """Draw the figures and write the page of a stored run, finished or not; returns the exit code."""
    about = "Draw the figures and write the page of a stored run, finished or not. Several DIR are also compared. Exit "
    about += "codes: 0 done, 1 every cell diverged (only if this command itself gathers the chunks into results.nc), "
    about += "2 bad input, 130 interrupted."
    parser = Parser(program("report"), description=about)
    parser.add_argument("directory", type=Path, metavar="DIR", nargs="*", help="a run directory, such as runs/mine")
    parser.add_argument(
        "--index", type=Path, metavar="FOLDER", help="write FOLDER/index.html, a page that lists the runs in FOLDER"
    )
    merged = "first merge the chunks of all DIR, which are parts of one run, into OUT"
    parser.add_argument("--merge", type=Path, metavar="OUT", help=merged)
    plugins = "allow running your own code (FILE.py or module) with which the run was made"
    parser.add_argument("--allow-plugins", action="store_true", help=plugins)
    compared = "print what changed between FILE, an earlier claims.json, and DIR, a folder that launch.claims wrote"
    parser.add_argument("--compare", type=Path, metavar="FILE", help=compared)
    papers = parser.add_argument_group(
        "for papers",
        "write figures and tables of each DIR to DIR/paper (without --width or --tex, figures go to DIR/figures)",
    )
    papers.add_argument("--tex", action="store_true", help="write figures, tables and a LaTeX file with both")
    papers.add_argument(
        "--format", type=_names, default=(), metavar="F,...", help="write figures as png, pdf, svg or pgf"
    )
    papers.add_argument("--width", choices=("one", "two"), help="width of figures and tables: one column or two")
    papers.add_argument(
        "--table",
        type=_names,
        default=(),
        metavar="T,...",
        help="write the run's table as csv or latex; for a folder of claims, write their table into DIR itself",
    )
    papers.add_argument(
        "--style",
        metavar="FILE",
        help="draw figures (png by default) in this matplotlib style: a file, or a style's name",
    )
    try:
        given = parser.parse_args(argv)
        directories, allowed = given.directory, given.allow_plugins
        if given.index is not None:
            from launch.index import write_index

            if directories:
                raise Refusal("--index: it takes one folder of runs; leave out DIR")
            print(write_index(given.index))
            return 0
        if not directories:
            raise Refusal("DIR: give the directory of a run, or --index FOLDER")
        if given.compare is not None:
            from launch import compare

            for directory in directories:
                print(compare.claims(given.compare, directory))
            return 0
        wanted = (given.format, given.width, given.table, given.tex, given.style)
        if any(wanted):
            from launch import paper

            paper.verify(paper.Wanted(*wanted))
        if given.table and all((each / "claims.json").is_file() for each in directories):
            from launch import paper

            for directory in directories:
                print(*paper.write_claims(directory, given.table), sep="\n")
            return 0
        if given.merge is not None:
            from launch.merge import merge

            print(merge(given.merge, directories, allowed))
            directories = [given.merge]
        runs = {each: stored_run(each, allowed) for each in directories}  # all are read before anything is written
        beside = ""
        if len(runs) > 1:
            from launch import compare

            beside = compare.runs(dict(zip(compare.short_names(list(runs)), runs.values(), strict=True)))
        code = max(again(directory, run, allowed) for directory, run in runs.items())
        if any(wanted):
            for directory, run in runs.items():
                from launch import paper

                for path in paper.write(run, directory, paper.Wanted(*wanted)):
                    print(path)
        if beside:
            print(f"\n{beside}")
        return code
    except (Refusal, BadInput, Unreadable, OSError) as error:
        return refused(error)


def _names(text: str) -> tuple[str, ...]:
    """The names in a comma-separated text."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def stored_run(directory: Path, allow_plugins: bool = False) -> Run:
    """The run in a directory, finished or not; raises Unreadable if there is none."""
    names = ("results.nc", "summary.json")
    own(directory)
    if not (directory / "manifest.json").exists() or all((directory / name).exists() for name in names):
        return read_run(directory)
    if (directory / "results.nc").exists() and made_in_python(_object_in(directory, "manifest.json")):
        return read_run(directory)
    from launch.work import stored

    return read_unfinished(stored(directory, allow_plugins))


def again(directory: Path, run: Run, allow_plugins: bool = False) -> int:
    """Redraw the figures and rewrite the page of a run, and print their paths; returns the exit code.

    If all chunks are stored but not yet collected, the results are first written, as launch.grid would do.
    """
    count, total = run.summary.get("chunks", (0, 1))
    if count == total:
        from launch.grid import report
        from launch.work import stored

        return report(stored(directory, allow_plugins))
    remove_left_over(directory)
    if bool(run.dataset["status"].isin(FAILED).all()):
        print("no figure is drawn, since every cell diverged or is missing")
    for path in [*figures.draw(run.dataset, directory / "figures"), write_report(directory, run=run)]:
        print(path)
    return 0


if __name__ == "__main__":
    leave(main())
