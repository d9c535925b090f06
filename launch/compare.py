"""Compares runs with one another, and claims with those of an earlier ``claims.json``, by their intervals.

``python -m launch.report DIR1 DIR2 ...`` prints the first, ``python -m launch.report DIR --compare FILE`` the second.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gpsense.grid.files import read_json
from gpsense.plots.view import listed_axes, main_measures, measure_label, over_seeds, value_text, without_failures
from launch.claims.table import measured_text
from launch.shell import Refusal

if TYPE_CHECKING:
    import xarray as xr

    from launch.report import Run

Interval = tuple[float, float, float]  # value, low, high
SHOWN = 60
_ENDS = ("value", "low", "high")


def runs(named: "Mapping[str, Run]") -> str:
    """The settings that differ between runs, then a table for each measure that all runs have.

    A table has a row per cell and a column per run, with the median over seeds [16th, 84th percentile]. Cells are
    matched by the values of all axes; a dash stands for a cell that a run lacks, and ``*`` marks rows in which two of
    the intervals do not overlap. A measure whose meaning differs between runs is named but not compared; raises
    Refusal if none is left.
    """
    datasets = {name: without_failures(run.dataset) for name, run in named.items()}
    axes = list(dict.fromkeys(axis for dataset in datasets.values() for axis in listed_axes(dataset)))
    shared = [name for name in main_measures(next(iter(datasets.values())))]
    shared = [name for name in shared if all(name in dataset for dataset in datasets.values())]
    meanings = {name: {run: measure_label(dataset[name]) for run, dataset in datasets.items()} for name in shared}
    unlike = [
        f"{name} is not compared, as its meaning differs: "
        + "; ".join(f"{words} in {run}" for run, words in of.items())
        for name, of in meanings.items()
        if len(set(of.values())) > 1
    ]
    shared = [name for name in shared if len(set(meanings[name].values())) == 1]
    if not shared:
        why = f" ({'. '.join(unlike)})" if unlike else ""
        raise Refusal(f"these runs have no measure in common{why}; compare runs of one system")
    parts = [differing_settings(named), *unlike]
    for measure in shared:
        found = {name: cells(dataset, measure, axes) for name, dataset in datasets.items()}
        keys = list(dict.fromkeys(key for each in found.values() for key in each))
        rows = [[*axes, *named, ""]]
        for key in keys[:SHOWN]:
            there = [each[key] for each in found.values() if key in each]
            marks = "*" if any(apart(a, b) for a in there for b in there) else ""
            rows.append([*key, *(interval_text(each.get(key)) for each in found.values()), marks])
        more = [f"... and {len(keys) - SHOWN} more"] if len(keys) > SHOWN else []
        words = meanings[measure][next(iter(named))]
        meaning = f" ({words})" if words != measure else ""
        parts.append(
            "\n".join([f"{measure}{meaning}: median over seeds [16th, 84th percentile]", columns(rows), *more])
        )
    return "\n\n".join([*parts, "*: two of the intervals do not overlap"])


def short_names(directories: Sequence[Path]) -> list[str]:
    """The shortest trailing parts of the paths that are all different."""
    parts = [path.resolve().parts for path in directories]
    names = (["/".join(each[-count:]) for each in parts] for count in range(1, max(map(len, parts)) + 1))
    return next((each for each in names if len(set(each)) == len(each)), [str(path) for path in directories])


def differing_settings(named: "Mapping[str, Run]") -> str:
    """A table of the settings that differ between the runs, with the value in each run."""
    from gpsense.grid.store import differences

    manifests = [run.manifest for run in named.values()]
    rows = differences(*(each.get("config") or each.get("settings") or {} for each in manifests))
    if not rows and len({each.get("digest") for each in manifests}) > 1:
        rows = [("data or code, by digest", *(str(each.get("digest")) for each in manifests))]
    rows += differences(*({"versions": each.get("versions") or {}} for each in manifests))
    return columns([["what differs", *named], *map(list, rows)]) if rows else "the settings of these runs are the same"


def cells(dataset: "xr.Dataset", measure: str, axes: list[str]) -> dict[tuple[str, ...], Interval]:
    """The median, 16th and 84th percentile over the seeds of each cell, by its values of ``axes`` as text.

    A dash stands for an axis that the dataset lacks.
    """
    mine = listed_axes(dataset)
    low, middle, high = over_seeds(dataset[measure].transpose("seed", *mine), 0.16, 0.5, 0.84)
    found = {}
    for place in np.ndindex(middle.shape):
        values = {axis: value_text(dataset[axis][i]) for axis, i in zip(mine, place, strict=True)}
        values |= {a: value_text(dataset[a]) for a in axes if a not in mine and a in dataset.coords}
        found[tuple(values.get(axis, "-") for axis in axes)] = (middle[place], low[place], high[place])
    return found


def claims(before: Path, now: Path) -> str:
    """A table of the quantities that changed, with value [95 % interval] before and now, and the verdicts.

    A quantity changed if its verdict did, if its intervals do not overlap (``*``), or if only one of the files has it
    (a dash for the other). Below the table stand the number of unchanged quantities, and the claims that only one file
    has, which are not compared. Raises Refusal for a file that holds no claims.
    """
    old, new = read_claims(before), read_claims(now)
    rows, same = [["claim", "quantity", "before", "now", "verdict", ""]], 0
    for name in [name for name in new if name in old]:
        for quantity in dict.fromkeys([*new[name]["measured"], *old[name]["measured"]]):
            earlier, measured = (each[name]["measured"].get(quantity) for each in (old, new))
            if earlier is None or measured is None:
                texts = ("-" if each is None else measured_text(each) for each in (earlier, measured))
                rows.append([name, quantity, *texts, _verdict((new if earlier is None else old)[name], quantity), ""])
                continue
            a, b = intervals(earlier), intervals(measured)
            verdicts = list(dict.fromkeys((_verdict(old[name], quantity), _verdict(new[name], quantity))))
            mark = "*" if len(a) != len(b) or any(map(apart, a, b)) else ""
            if len(verdicts) == 1 and not mark:
                same += 1
                continue
            rows.append([name, quantity, measured_text(earlier), measured_text(measured), " -> ".join(verdicts), mark])
    alone = [(before, [name for name in old if name not in new]), (now, [name for name in new if name not in old])]
    lines = [columns(rows)] if len(rows) > 1 else []
    unchanged = "1 quantity" if same == 1 else f"{same} quantities"
    lines.append(f"{unchanged} did not change: same verdict, overlapping intervals")
    lines += ["*: the intervals do not overlap"] * any(row[-1] for row in rows)
    lines += [f"only in {path}: {', '.join(names)}" for path, names in alone if names]
    return "\n".join(lines)


def read_claims(path: Path) -> dict[str, dict[str, Any]]:
    """The records of a claims.json, or of the one in a folder, by ``paper/claim``; raises Refusal if there are none."""
    path = path / "claims.json" if path.is_dir() else path
    try:
        records = read_json(path)
        if not isinstance(records, list):
            raise TypeError
        known = {f"{record['paper']}/{record['claim']}": record for record in records}
        if not all(isinstance(record["measured"], dict) for record in known.values()):
            raise TypeError
    except OSError:
        raise Refusal(f"--compare: {path} cannot be read; name a claims.json or a folder with one") from None
    except (ValueError, KeyError, TypeError):
        raise Refusal(f"--compare: {path} is not a claims.json; name a file that launch.claims wrote") from None
    return known


def intervals(measured: dict[str, Any]) -> list[Interval]:
    """Value, low and high of each number of a quantity; without an interval, low and high are the value."""
    value, low, high = ([each] if not isinstance(each, list) else each for each in map(measured.get, _ENDS))
    low, high = (value if ends == [None] else ends for ends in (low, high))
    return [(_float(v), _float(a), _float(b)) for v, a, b in zip(value, low, high, strict=True)]


def apart(a: Interval, b: Interval) -> bool:
    """Whether two intervals do not overlap."""
    return a[2] < b[1] or b[2] < a[1]


def interval_text(found: Interval | None) -> str:
    """The text ``value [low, high]``; a dash if there is no interval or the value is NaN."""
    if found is None or np.isnan(found[0]):
        return "-"
    value, low, high = (f"{number:.3g}" for number in found)
    return f"{value} [{low}, {high}]"


def columns(rows: list[list[str]]) -> str:
    """The rows as text in aligned columns, the first row as headings."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(word.ljust(width) for word, width in zip(r, widths, strict=True)).rstrip() for r in rows)


def _verdict(record: dict[str, Any], quantity: str) -> str:
    return str(record.get("verdicts", {}).get(quantity, record.get("verdict", "-")))


def _float(value: Any) -> float:
    return float("nan") if value is None else float(value)
