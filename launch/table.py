"""The short table printed at the end of a run: medians over seeds for every combination of the other axes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from gpsense import theory
from gpsense.descent import DIVERGED
from gpsense.errors import counted
from gpsense.plots.view import fine_tuned, main_measures, own_measures, spoken_name

HEADINGS = {"error_trained": "trained", "error_pruned": "pruned", "error": "fine-tuned", "law": "exact-rank law"}
SHOWN = 40
Cell = Mapping[str, Any]


def _sensing_law(cell: Cell) -> tuple[float, Any] | None:
    if cell["measurements"] != "gaussian":
        return None
    rank, dim = int(cell["true_rank"]), cell["dim"]
    return _symmetric(rank, dim), theory.exact_rank_error(cell["noise"], dim, rank, cell["n"])


def _rectangular_law(cell: Cell) -> tuple[float, Any] | None:
    if cell["measurements"] == "population":
        return None
    rank, dim, columns = int(cell["true_rank"]), cell["dim"], cell.get("columns", cell["dim"])
    law = theory.rectangular_rank_error(cell["noise"], dim, columns, rank, cell["n"])
    return rank * (dim + columns - rank), law


def _network_law(cell: Cell) -> tuple[float, Any] | None:
    if cell.get("measurements") == "population" or cell["bias"] != "free" or "truncation" in cell:
        return None
    rank, dim = int(cell["true_rank"]), cell["dim"]
    return _symmetric(rank, dim), theory.network_rank_error(cell["noise"], dim, rank, cell["n"])


def _symmetric(rank: int, dim: int) -> float:
    """The number of unknowns of a symmetric matrix of this rank."""
    return rank * dim - rank * (rank - 1) / 2


# unknowns and error at known rank of a cell, by system; None where the law does not apply
LAWS: dict[str, Callable[[Cell], tuple[float, Any] | None]] = {
    "sensing": _sensing_law,
    "rectangular": _rectangular_law,
    "quadratic_network": _network_law,
}


def rows(dataset: xr.Dataset, measures: Sequence[str]) -> list[dict[str, Any]]:
    """One row per combination of the axes other than seed: values of the axes, medians, law, count of diverged cells.

    Medians are over the cells that did not diverge, of those ``measures`` that the dataset has and of all measures of a
    user's own code; without fine-tuning ``error_pruned`` is left out, as it equals ``error``. ``law`` is the error at
    known rank for a drawn truth M, from :data:`LAWS`: in sensing with n Gaussian measurements, at least as many as
    unknowns, ``sigma sqrt((r d - r (r - 1) / 2) / n) / ||M||_F`` for noise sigma, rank r, side d. It is None in rows to
    which no law applies, and left out if these are all rows.
    """
    axes = [str(dim) for dim in dataset["status"].dims if dim != "seed"]
    named = [name for name in measures if name in dataset.data_vars] or main_measures(dataset)
    measures = list(dict.fromkeys([*named, *own_measures(dataset)]))
    if not fine_tuned(dataset) and "error" in measures:
        measures = [name for name in measures if name != "error_pruned"]
    shown = dataset[[*measures, "status"]]
    stacked = shown.stack(row=axes) if axes else shown.expand_dims("row")
    same = {str(name): value.values.item() for name, value in dataset.coords.items() if value.ndim == 0}
    same |= dataset.attrs  # they hold lists as numbers, coordinates hold them as text
    table = []
    for index in range(stacked.sizes["row"]):
        cell = stacked.isel(row=index)
        place = {name: cell[name].values.item() for name in axes}
        row: dict[str, Any] = dict(place)
        for name in measures:
            values = cell[name].values
            row[name] = float(np.median(values[~np.isnan(values)])) if not np.isnan(values).all() else None
        row["law"] = _law(same | place)
        row["diverged"] = int((cell["status"].values == DIVERGED).sum())
        table.append(row)
    lawless = all(row["law"] is None for row in table)
    return [{key: value for key, value in row.items() if key != "law" or not lawless} for row in table]


def _law(cell: Cell) -> float | None:
    """The exact-rank error law of a cell, relative to ||M||_F; None where it does not apply."""
    found = LAWS[cell["system"]](cell) if cell.get("system") in LAWS and "truth" not in cell else None
    if found is None:
        return None
    unknowns, law = found
    spectrum = cell.get("spectrum")
    if spectrum is None:
        spectrum = cell["condition"] ** -np.linspace(0.0, 1.0, int(cell["true_rank"]))
    return float(law) / float(np.linalg.norm(np.asarray(spectrum))) if cell["n"] >= unknowns else None


def headings(dataset: xr.Dataset) -> dict[str, str]:
    """The table's headings of measures: an error's is its stage, that of ``rank`` names the parts kept."""
    staged = fine_tuned(dataset) and "error_trained" in dataset
    stages = HEADINGS if staged else HEADINGS | {"error": "error"}
    return stages | ({"rank": spoken_name(dataset["rank"])} if "rank" in dataset else {})


def text(table: list[dict[str, Any]], headings: dict[str, str]) -> str:
    """The table for a terminal, numbers to three digits, at most 40 rows."""
    keys = list(table[0])
    if not any(row["diverged"] for row in table):
        keys.remove("diverged")
    cells = [[headings.get(key, key) for key in keys]] + [[_number(row[key]) for key in keys] for row in table[:SHOWN]]
    widths = [max(len(line[i]) for line in cells) for i in range(len(keys))]
    lines = ["  ".join(word.rjust(width) for word, width in zip(line, widths, strict=True)) for line in cells]
    if len(table) > SHOWN:
        lines.append(f"... and {counted(len(table) - SHOWN, 'more row')} in summary.json")
    return "\n".join(lines)


def _number(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
