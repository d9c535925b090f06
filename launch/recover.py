"""Recover a matrix of low rank from your own measurements: ``python -m launch.recover FILE [--out DIR]``.

FILE is a table or a file of arrays. Rows, columns and points are numbers from 0, or names.

A table (.csv, .tsv, .parquet) has one measurement per row, under a header with these columns:
  row,col,value    entries of a matrix, such as ratings
  i,j,distance     distances of points, which are squared when they are read
  i,j,distance2    squared distances
  pauli,value      Pauli words, such as XIZ, and their expectations
--row, --col, --value and so on name these columns if FILE names them otherwise; all other columns are ignored, with a
notice. A table may also be wide, with row labels in its first column and column labels in its header. A wide table
needs --kind if its labels are numbers or if it holds distances or a symmetric matrix (entries).

A file of arrays (.npz, .mat) holds the values y (n,) and one of:
  A                (n, d, d), or (n, rows, columns) for a rectangular matrix
  x                (n, d), for A_i = x_i x_i^H
  row, col         (n,), entries of any matrix
  rows, cols       (n,), entries of a symmetric matrix
  i, j             (n,), pairs of points, with distance or distance2 in place of y
  pauli            (n,), Pauli words

Rank and noise need not be known. The results in the folder DIR are factor.npy (for a rectangular matrix left.npy and
right.npy), labels of the rows of X in their order, summary.json, figures and report.html. For distances the matrix X is
the Gram matrix of the centred points, d_ij^2 = X_ii + X_jj - 2 X_ij; the points are the rows of factor.npy, up to a
rotation.

``python -m launch.recover --example cities`` does all this for real places: it recovers their map from a part of their
distances, which it also writes to DIR, as measurements.npz, a file of arrays as above.

Exit codes: 0 done, 1 an error of the operating system, 2 bad input, 130 interrupted.
"""

import argparse
import hashlib
import html
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gpsense.grid.files import atomic, own, read_json, remove_left_over, writable, write_json
from launch import interrupt, pages
from launch.shell import Parser, Progress, Refusal, guarded, leave, notice, program

if TYPE_CHECKING:
    from gpsense.estimators.recover import Recovery
    from gpsense.recovery.forms import Measured

SIDES = "row", "column"
CERTAIN = 1e-9  # share of its eigenvalue from which a standard error is shown; at rank 1, a known trace leaves none
BETWEEN = "   "  # between two facts on a printed line
NOTHING = "; nothing was written"
CHOICES = {"auto": None, "yes": True, "no": False}
# what each column holds, by its default name
NAMES = {
    "row": "rows of the matrix, numbers or names such as users",
    "col": "columns of the matrix, numbers or names such as films",
    "i": "first point of each pair, a number from 0 or a name",
    "j": "second point of each pair, a number from 0 or a name",
    "pauli": "Pauli words, such as XIZ",
    "value": "measured values",
    "distance": "measured distances, which are squared when they are read",
    "distance2": "squared distances",
}


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    with interrupt.telling(lambda: f"interrupted{NOTHING}"):
        return guarded(lambda: run(_arguments(argv)), NOTHING)


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    summary, details = (__doc__ or "").replace("``", "").split("\n\n", 1)
    layout = argparse.RawDescriptionHelpFormatter  # keeps the line breaks of the list of columns
    parser = Parser(program("recover"), description=summary, epilog=details, formatter_class=layout)
    add = parser.add_argument
    add(
        "measurements",
        nargs="?",
        type=Path,
        metavar="FILE",
        help="the measurements: .csv, .tsv, .parquet, .npz or .mat",
    )
    add("--example", choices=["cities"], help="recover a worked example instead of a FILE")
    add("--out", type=Path, metavar="DIR", help="folder for the results; default runs/recover-NAME-DIGEST")
    kinds = ["dense", "rank_one", "entries", "distances", "plain_distances", "table", "pauli"]
    add(
        "--kind",
        metavar="KIND",
        help=f"what was measured, one of {', '.join(kinds)}; kind distances means squared distances (unless "
        "their column or array is named distance), plain_distances those not squared; default: inferred from the "
        "names of columns or arrays",
    )
    for name, what in NAMES.items():
        add(f"--{name}", metavar="NAME", help=f"column of FILE with the {what}; default: {name}")
    add("--rank", type=int, help="the rank, if it is known")
    add("--max-rank", type=int, help="largest rank to try")
    add("--trace", type=float, help="trace of the matrix, if it is known (1 for a quantum state)")
    add(
        "--truth",
        type=Path,
        metavar="FILE.npy",
        help="the true matrix, if known, to report error or fidelity; for distances, the Gram matrix of the centred "
        "points. Its rows and columns follow labels.npy (or row_labels.npy and column_labels.npy), which this command "
        "writes to DIR: sorted names, or for a wide table its own order",
    )
    add("--robust", choices=CHOICES, default="auto", help="leave outliers out (auto: if some are far from the rest)")
    add(
        "--offsets",
        choices=CHOICES,
        default="auto",
        help="fit offsets of a table's rows and columns (auto: if that predicts held-out values better)",
    )
    add("--seed", type=int, default=0, help="random seed of the held-out values and of the example (default 0)")
    add("--noise", type=float, help="with --example: relative noise (default 0.02)")
    add("--share", type=float, help="with --example: share of pairs measured (default 0.3)")
    arguments = parser.parse_args(argv)
    if (arguments.measurements is None) == (arguments.example is None):
        raise Refusal("FILE: give one file, or --example cities")
    unread, source = (("kind", *NAMES), "--example") if arguments.example else (("noise", "share"), "FILE")
    for name in unread:
        if getattr(arguments, name) is not None:
            remedy = "leave it out" if arguments.example else "leave it out, or give --example cities in place of FILE"
            raise Refusal(f"--{name}: it has no effect with {source}; {remedy}")
    arguments.noise = 0.02 if arguments.noise is None else arguments.noise
    arguments.share = 0.3 if arguments.share is None else arguments.share
    for name, good, need in (
        ("seed", arguments.seed >= 0, "at least 0"),
        ("noise", 0 <= arguments.noise < np.inf, "at least 0"),
        ("share", 0 < arguments.share <= 1, "above 0 and at most 1"),
    ):
        if not good:
            raise Refusal(f"--{name}: {getattr(arguments, name)} is out of range; give a number {need}")
    return arguments


def run(arguments: argparse.Namespace) -> int:
    """Read and check the measurements, recover the matrix and write the results; returns the exit code."""
    from gpsense.errors import BadInput
    from gpsense.recovery.forms import KINDS, read_fields, unknown_kind
    from gpsense.recovery.progress import telling
    from launch import cities, measured

    if arguments.kind is not None and arguments.kind not in KINDS:
        raise Refusal(f"--{unknown_kind(arguments.kind)}")
    name = arguments.example or arguments.measurements.stem
    example = cities.example(arguments.share, arguments.noise, arguments.seed) if arguments.example else None
    columns = {given: what for what in NAMES if (given := getattr(arguments, what)) is not None}
    path = arguments.measurements
    fields = (
        example.fields
        if example
        else measured.known(path, measured.read(path, columns, arguments.kind), arguments.kind)
    )
    reading = str(fields.pop(measured.READING, ""))
    try:
        data = read_fields(fields)
    except BadInput as error:
        raise Refusal(_in_options(error)) from None
    data.reading = "; ".join(filter(None, (reading, data.reading)))
    options = {key: getattr(arguments, key) for key in ("seed", "rank", "max_rank", "trace")}
    options |= {key: CHOICES[getattr(arguments, key)] for key in ("robust", "offsets")}
    truth = _truth(arguments.truth, data) if arguments.truth else None
    digest = _digest(data, options)
    out = arguments.out or Path("runs") / f"recover-{name}-{digest[:8]}"
    _usable(out, digest)

    from gpsense.estimators.recover import recover

    begun = time.perf_counter()
    with Progress() as progress, telling(progress):
        try:
            result = recover(data, **options)
        except BadInput as error:
            flag = "--" if error.field in ("rank", "max_rank", "trace", "offsets") else ""
            raise Refusal(f"{flag}{error}".replace("max_rank", "max-rank")) from None
        facts = _facts(name, data, result, time.perf_counter() - begun)
    if example:
        facts |= example.score(result.factor)
    if truth is not None:
        facts |= _score(result.matrix, truth, data.map.complex) | {"truth_order": _order(data)}
    found = [words for words in result.notices if words != data.reading] + _doubts(result)
    for words in found:
        notice(words)
    record = facts | {"digest": digest, "settings": options, "notices": found} | _versions()
    with interrupt.telling(lambda: f"interrupted while {out} was written; rerun to complete it"):
        _write(out, record, result, data, example)
    print(_text(facts))
    factors = "factor.npy" if data.map.semidefinite else "left.npy, right.npy"
    if any(labels is not None for labels in result.labels):
        factors += (
            " (their rows in the order of " + ("" if data.map.semidefinite else "row_ and column_") + "labels.npy)"
        )
    print(f"factors {out}/{factors}   summary {out / 'summary.json'}   page {out / 'report.html'}")
    return 0


def _in_options(error: Any) -> str:
    """The text of an error about arrays, with the options that name a file's columns."""
    if error.field == "kind" and "alone do not say" in error.problem:
        remedy = "name the values by --distance (plain) or --distance2 (squared) in place of --value"
        return f"--kind: {error.problem}; {remedy}, or add --kind distances (squared)"
    option = {"y": "value"}.get(error.field, error.field)
    if error.problem.startswith("missing") and option in NAMES:
        either = " Give" if error.remedy.endswith("?") else ", or give"
        return f"{error}{either} its name in FILE by --{option} NAME"
    return str(error)


def _truth(path: Path, data: "Measured") -> np.ndarray:
    """The true matrix from a .npy file; raises Refusal unless it is finite, not 0, of the shape of X, and can be X."""
    from launch.measured import read_array

    try:
        truth = read_array(path)
    except FileNotFoundError:
        raise Refusal(f"--truth: {path}: no such file; give the path of a .npy file") from None
    except (OSError, ValueError):
        raise Refusal(f"--truth: {path} is not a .npy file; save the matrix with numpy.save") from None
    numbers = truth.dtype.kind in "fiuc" and np.isfinite(truth).all() and truth.any()
    if truth.shape != data.map.sides or not numbers:
        sides = " x ".join(map(str, data.map.sides))
        problem = f"{path} must hold a {sides} matrix of finite numbers, at least one of them not 0"
        raise Refusal(f"--truth: {problem}; save such a matrix")
    if data.map.semidefinite and not np.diag(truth).any():
        of_points = "the Gram matrix C C^T of the centred points C, not their distances"
        remedy = f"save {of_points if data.kind == 'distances' else 'a positive semidefinite matrix'}"
        raise Refusal(f"--truth: {path} has only zeros on its diagonal, so it is not positive semidefinite; {remedy}")
    return truth


def _order(data: "Measured") -> str:
    """The order of the rows and columns of X, and so of the truth, in words; empty where they have no names."""
    from gpsense.recovery.forms import listed

    pairs = data.kind != "table"
    told = [
        f"{side}s{' and columns' * pairs} in the order {listed(map(str, labels))}"
        for side, labels in zip(SIDES, data.labels, strict=True)
        if labels is not None and not np.array_equal(labels, np.arange(labels.size))
    ]
    return "; ".join(told[:1] if pairs else told)


def _score(found: np.ndarray, truth: np.ndarray, state: bool) -> dict[str, float]:
    """The relative error of X (``found``) from Y; if ``state``, also ``(tr |sqrt(X) sqrt(Y)|)^2 / (tr X tr Y)``."""
    facts = {"relative_error": float(np.linalg.norm(found - truth) / np.linalg.norm(truth))}
    if state:
        roots = [vectors * np.sqrt(np.maximum(values, 0)) for values, vectors in map(np.linalg.eigh, (found, truth))]
        overlap = np.linalg.svd(roots[0].conj().T @ roots[1], compute_uv=False).sum()
        traces = abs(float(np.trace(found).real * np.trace(truth).real))
        facts["fidelity"] = float(overlap**2 / traces) if traces else 0.0
    return facts


def _versions() -> dict[str, Any]:
    """Versions of the packages that determine the numbers; JAX is left out, as it computes nothing here."""
    import platform
    from importlib.metadata import version

    return {
        "versions": {name: version(name) for name in ("gpsense", "numpy", "scipy")}
        | {"python": platform.python_version()},
        "precision": "float64",
    }


def _facts(name: str, data: "Measured", result: "Recovery", seconds: float) -> dict[str, Any]:
    rows, columns = data.map.sides
    sizes, errors = (np.asarray(each).tolist() for each in (result.sizes, result.size_errors))
    return {
        "name": name,
        "kind": data.kind,
        "read_as": data.reading,
        "n": int(data.values.size),
        "rows": rows,
        "columns": columns,
        "seconds": round(seconds, 3),
        "scale": result.scale(data.values),
        "rank": result.rank,
        "chosen_by": result.chosen_by,
        "rank_share": result.rank_share,
        "noise": result.noise,
        "residual": result.residual,
        "measurements": result.measurements,
        "unknowns": result.unknowns,
        "semidefinite": bool(data.map.semidefinite),
        "sizes": sizes,
        "size_errors": errors,
        "undetermined": list(result.undetermined),
        "outliers": result.outliers.tolist(),
        "offset": result.offsets.mean if result.offsets.rows.size else None,
    }


def _digest(data: "Measured", options: dict[str, Any]) -> str:
    """The identity of a recovery: a hash of the data and of every option that affects the numbers."""
    kind = data.kind + ", squared" * data.squared
    digest = hashlib.sha256(json.dumps([kind, data.map.sides, options]).encode())
    for array in (data.values, data.map.rows()):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def _doubts(result: "Recovery") -> list[str]:
    """The warnings that a reader of the result needs, one per line."""
    by_number = {side for side, names in zip(SIDES, result.labels, strict=True) if names is None}
    by_number |= {"point"} if SIDES[0] in by_number else set()
    doubts = [
        f"the measurements leave this open: {words}{' (numbers from 0)' * any(side in words for side in by_number)}"
        for words in result.undetermined
    ]
    if result.outliers.size:
        shown = ", ".join(result.wild[:10]) + ", ..." * (result.outliers.size > 10)
        several = result.outliers.size > 1
        which = f"({'measurements' if several else 'measurement'} {shown}, counted from 0)"
        told = f"{result.outliers.size} {'outliers were' if several else 'outlier was'} left out {which}"
        doubts.append(f"{told}; --robust no keeps {'them' if several else 'it'}")
    if result.rank and result.chosen_by not in ("exact", "shrunk") and result.measurements < 1.2 * result.unknowns:
        told = f"{result.unknowns} unknowns for only {result.measurements} measurements"
        doubts.append(f"rank {result.rank} has {told}; do not trust it")
    if result.rank_share < 0.75:
        doubts.append(f"the rank is uncertain: only {result.rank_share:.0%} of the resamples give it")
    if result.chosen_by == "shrunk":
        doubts.append(
            "the spectrum has no gap: the factors stay penalised, with the weight that predicts held-out values best"
        )
    return doubts


def _usable(out: Path, digest: str) -> None:
    """Raises Refusal if a folder cannot be written to or holds anything but this recovery; writes nothing."""
    own(out)
    if out.is_dir() and any(out.iterdir()):
        try:
            theirs = read_json(out / "summary.json")["digest"]
        except (OSError, ValueError, KeyError, TypeError):
            raise Refusal(f"--out: {out} is not empty and not a recovery; choose another directory") from None
        if theirs != digest:
            what = "a run of a grid" if (out / "manifest.json").exists() else "the recovery of other data or settings"
            raise Refusal(f"--out: {out} holds {what}; choose another directory")
    writable(out)


def _write(out: Path, record: dict[str, Any], result: "Recovery", data: "Measured", example: Any) -> None:
    """Write the factors, labels, summary.json, figures and page; for an example also its measurements."""
    from gpsense.plots import plot_fit, plot_map, plot_ranks
    from launch import figures

    path = [{"penalty": one.penalty, "rank": one.rank, "sizes": one.sizes.tolist()} for one in result.path]
    fits = {
        rank: {"misfit": fit.misfit, "left": fit.left, "edge": fit.edge} for rank, fit in sorted(result.fits.items())
    }
    arrays = {"factor": result.left} if data.map.semidefinite else {"left": result.left, "right": result.right}
    if result.offsets.rows.size:
        arrays |= {"row_offsets": result.offsets.rows, "column_offsets": result.offsets.columns}
    named = ("labels",) if data.map.semidefinite else ("row_labels", "column_labels")
    for name, labels in zip(named, data.labels, strict=False):
        if labels is not None and not np.array_equal(labels, np.arange(labels.size)):
            arrays[name] = labels.astype(str) if labels.dtype == object else labels
    try:
        out.mkdir(parents=True, exist_ok=True)
        remove_left_over(out)
        for name, array in arrays.items():
            with atomic(out / f"{name}.npy") as aside, open(aside, "wb") as file:
                np.save(file, array)
        if example:
            with atomic(out / "measurements.npz") as aside, open(aside, "wb") as file:
                np.savez(file, **example.fields)
        figures.save(plot_ranks(result), out / "figures" / "ranks.png")
        figures.save(plot_fit(result, result.predict(data.map), data.values), out / "figures" / "fit.png")
        if example:
            headline = f"{len(example.names)} cities from {data.values.size} noisy distances: rank {result.rank}, "
            headline += f"error {100 * record['error']:.2f} %, median offset {record['median_offset_km']:.0f} km"
            axes = plot_map(example.names, example.places, example.aligned(result.factor))
            axes.set_title(headline)
            figures.save(axes, out / "figures" / "map.png")
        write_json(out / "summary.json", record | {"path": path, "fits": fits})
        _page(out, record, fits)
    except OSError as error:
        raise Refusal(f"--out: {out} cannot be written to ({error.strerror}); name a writable directory") from None


def _page(out: Path, record: dict[str, Any], fits: dict[int, dict[str, float]]) -> None:
    """Write report.html: the summary in words, warnings, the ranks tried, figures and settings."""
    lines = [f"<p>{html.escape(line.replace(BETWEEN, '; '))}</p>" for line in _text(record).split("\n")]
    head = "".join(lines) + "".join(pages.note(words) for words in record["notices"])
    rows = [
        [f"{rank}{', chosen' * (rank == record['rank'])}", *(f"{fit[key]:.3g}" for key in ("misfit", "left", "edge"))]
        for rank, fit in fits.items()
    ]
    titles = ("rank", "relative residual", "largest eigenvalue left", "its bound for noise alone")
    body = pages.table(titles, rows, "Ranks tried")
    body += "".join(pages.image(out / "figures" / f"{name}.png") for name in ("ranks", "fit", "map"))
    settings = json.dumps(record["settings"] | record["versions"], indent=1)
    body += f"<details><summary>Settings and versions</summary><pre>{html.escape(settings)}</pre></details>"
    pages.write(out / "report.html", f"Recovery of {record['name']}", head, body)


def _text(facts: dict[str, Any]) -> str:
    """The printed summary of a recovery."""
    from gpsense.plots.recoveries import CHOSEN
    from gpsense.recovery.solve import NOT_RESAMPLED

    noise, residual = (f"{facts[key]:.3g} ({facts[key] / facts['scale']:.2%} of y)" for key in ("noise", "residual"))
    by = CHOSEN[facts["chosen_by"]]
    by += "" if facts["chosen_by"] in NOT_RESAMPLED else f"; {facts['rank_share']:.0%} of resamples agree"
    lines = [
        *filter(None, [facts["read_as"]]),
        f"{facts['name']}: {facts['n']} values ({facts['kind']}) of a {facts['rows']} x {facts['columns']} matrix",
        f"rank {facts['rank']} ({by}){BETWEEN}noise {noise}{BETWEEN}residual {residual}",
        f"{facts['unknowns']} unknowns, {facts['measurements']} different measurements"
        f"{BETWEEN}{facts['seconds']:.2f} s",
    ]
    if facts["rank"] and facts["chosen_by"] != "shrunk":
        pairs = zip(facts["sizes"][:8], facts["size_errors"], strict=False)
        name = "eigenvalues " if facts["semidefinite"] else "singular values "
        told = [f"{size:.4g}" + f" ± {1.96 * error:.2g}" * (error > CERTAIN * size) for size, error in pairs]
        lines.append(name + ", ".join(told) + " (95 %)" * any("±" in each for each in told))
    if facts["offset"] is not None:
        lines.append(
            f"matrix = left right^T + {facts['offset']:.4g} + offsets of its rows and columns "
            "(row_offsets.npy, column_offsets.npy; the number is offset in summary.json)"
        )
    if "relative_error" in facts:
        told = f"{BETWEEN}fidelity {facts['fidelity']:.4f}" if "fidelity" in facts else ""
        order = f" ({facts['truth_order']})" if facts["truth_order"] else ""
        lines.append(f"relative error to the given truth {facts['relative_error']:.3g}{order}{told}")
    if "error" in facts:
        lines.append(
            f"error of the centred Gram matrix {100 * facts['error']:.2f} %{BETWEEN}median offset "
            f"{facts['median_offset_km']:.1f} km, largest {facts['largest_offset_km']:.1f} km"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    leave(main())
