"""Figures and tables of a run for a paper: figures one or two columns wide, tables in LaTeX or as CSV.

``python -m launch.report DIR --tex`` writes both to DIR/paper; further options of that command choose among them.
"""

import csv
import io
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib import style

from gpsense.errors import counted
from gpsense.grid.files import atomic
from gpsense.plots.view import axis_label, over_seeds, problem_words, setting_words, value_text, without_failures
from launch import figures, table
from launch.shell import Refusal

if TYPE_CHECKING:
    import xarray as xr

    from launch.report import Run

_LONG = r"\begin{longtable}{p{.22\linewidth}p{.24\linewidth}p{.14\linewidth}p{.24\linewidth}l}"
_SHRUNK = r"\resizebox{\ifdim\width>\columnwidth\columnwidth\else\width\fi}{!}{%"
WIDTHS = {"one": 3.35, "two": 6.9}  # inches
STYLE = Path(__file__).with_name("paper.mplstyle")
KINDS = {"csv": "csv", "latex": "tex"}
_GREEK = dict(zip("αβδηλμνστ", ["alpha", "beta", "delta", "eta", "lambda", "mu", "nu", "sigma", "tau"], strict=True))
_MATHS = {"|": "|", "<": "<", ">": ">", "≥": r"\ge", "≤": r"\le", "×": r"\times", "·": r"\cdot", "→": r"\to"}
_MATHS |= {"±": r"\pm", "−": "-", "²": "^2", "³": "^3", "ᵀ": "^T", "√": r"\surd"}
_LATEX = {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "–": "--"}
_LATEX |= {letter: f"\\{letter}" for letter in "&%$#_{}"}
_LATEX |= {letter: f"${words}$" for letter, words in _MATHS.items()}
_LATEX |= {letter: f"$\\{name}$" for letter, name in _GREEK.items()}
_INSIDE = rf"[A-Za-z0-9\s_^~;,+*/\[\]{''.join((*_GREEK, *'·ᵀ²³'))}-]"
_ATOM = "|".join(
    (
        rf"\|\|(?:{_INSIDE}|[()])+\|\|(?:_\w+)?(?:\^\w+)?",  # a norm
        rf"<(?:{_INSIDE}|[()])+>",  # an inner product
        rf"\({_INSIDE}+\)\^\w+",
        r"\(\d+/\w+\)|\bsum(?=\s+\()",
        r"\b[A-Za-z]+(?:_\w)?\^[\w*]+",
        r"\b[A-Z]\*|\b[a-z]~",
        r"\b[B-HJ-Z](?:_[A-Z])?\b(?![.'])",  # a single letter that is not a word
    )
)
_FORMULA = re.compile(rf"((?:{_ATOM})(?:\s*[-+/=]\s*(?:{_ATOM}|[a-z]\b|\d+\b)|\s+(?:{_ATOM}|A\b(?!\s+[a-z]{{2}})))*)")
_IN_FORMULA = {"||": r"\|", "<": r"\langle ", ">": r" \rangle", "*": r"\cdot ", "sum": r"\sum", "grad": r"\nabla"}
_IN_FORMULA |= {"cos": r"\cos", "yhat": r"\hat y"}


class Wanted(NamedTuple):
    """The output asked for: formats, width and style of the figures, and kinds of tables.

    ``width`` None: as on the page; ``tex``: whether to write a LaTeX file with both figures and tables.
    """

    formats: tuple[str, ...] = ()
    width: str | None = None
    tables: tuple[str, ...] = ()
    tex: bool = False
    style: str | None = None

    def settled(self) -> "Wanted":
        """The output with defaults filled in: PDF figures where a width is given, PNG figures where only a style is.

        With ``tex``, the figures have the width of one column, and tables of both kinds are written.
        """
        if self.tex:
            tables = self.tables or tuple(KINDS)
            return self._replace(formats=self.formats or ("pdf",), width=self.width or "one", tables=tables)
        default = ("pdf",) if self.width else ("png",) if self.style else ()
        return self._replace(formats=self.formats or default)


def verify(wanted: Wanted) -> None:
    """Raises Refusal for an unknown format, table or style, and for PGF where LaTeX is not installed."""
    for name in wanted.formats:
        if name not in figures.FORMATS:
            raise Refusal(f"--format: '{name}' is not a format; use one or more of {','.join(figures.FORMATS)}")
    for name in wanted.tables:
        if name not in KINDS:
            raise Refusal(f"--table: '{name}' is not a kind of table; use csv, latex or csv,latex")
    engine = str(matplotlib.rcParams["pgf.texsystem"])
    if "pgf" in wanted.formats and shutil.which(engine) is None:
        raise Refusal(f"--format: pgf needs {engine}, which is not installed; use pdf or svg")
    if wanted.style is not None and wanted.style not in style.available and not Path(wanted.style).is_file():
        remedy = "give a style file, or a name in matplotlib.style.available"
        raise Refusal(f"--style: {wanted.style} is neither a file nor a matplotlib style; {remedy}")


def write(run: "Run", directory: Path, wanted: Wanted) -> list[Path]:
    """Write the figures, tables and LaTeX file that are wanted of a run, and return their paths.

    Tables and figures of a given width go to DIR/paper; other figures, sized as on the page, to DIR/figures.
    """
    column, wanted, place, written = wanted.width == "one", wanted.settled(), directory / "paper", []
    captions: dict[str, str] = {}
    with style.context([STYLE, *filter(None, [wanted.style])] if wanted.width else list(filter(None, [wanted.style]))):
        if wanted.width is None and wanted.formats:
            written += figures.draw(run.dataset, directory / "figures", wanted.formats)
        elif wanted.width is not None:
            for name, axes in figures.drawn(run.dataset, WIDTHS[wanted.width]):
                captions[name] = str(figures.figure_of(axes).get_label())
                written += figures.save(axes, *(place / f"{name}.{kind}" for kind in wanted.formats), dpi=300)
    rows = summary_rows(run)
    texts = {"csv": csv_of(rows), "latex": latex_of(rows, run.dataset, column)}
    for kind in wanted.tables:
        written.append(_put(place / f"table.{KINDS[kind]}", texts[kind]))
    if wanted.tex:
        frame = figure_frames(captions, wanted.width == "two")
        written.append(_put(place / "paper.tex", frame + texts["latex"]))
    return written


def summary_rows(run: "Run") -> list[dict[str, Any]]:
    """The rows of the run's table; each median with ``NAME_low`` and ``NAME_high``, the 16th and 84th percentile."""
    dataset, rows = without_failures(run.dataset), [dict(row) for row in run.summary.get("table", [])]
    axes = [str(name) for name in dataset["status"].dims if name != "seed"]
    for name in [key for key in (rows[0] if rows else ()) if key in dataset.data_vars and key not in axes]:
        bounds = over_seeds(dataset[name].transpose("seed", *axes), 0.16, 0.84)
        for row, low, high in zip(rows, *(np.ravel(each) for each in bounds), strict=True):
            row[f"{name}_low"], row[f"{name}_high"] = (None if np.isnan(v) else float(v) for v in (low, high))
    return rows


def csv_of(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as CSV, with names of axes and measures as header and numbers in full; an empty field for None."""
    text = io.StringIO()
    keys = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(text, keys, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: "" if value is None else value for key, value in row.items()} for row in rows)
    return text.getvalue()


def latex_of(rows: Sequence[dict[str, Any]], dataset: "xr.Dataset", column: bool = False) -> str:
    """The rows as a LaTeX table (package booktabs): medians, and in brackets the 16th and 84th percentile.

    A table of more than four columns spans both columns of the page; with ``column`` it takes one, without percentiles,
    and graphicx shrinks it where it is still too wide.
    """
    bounds = {f"{key}_{end}" for row in rows for key in row for end in ("low", "high")}
    keys = [key for key in dict.fromkeys(key for row in rows for key in row) if key not in bounds]
    keys = [key for key in keys if key != "diverged" or any(row.get(key) for row in rows)]
    words = table.headings(dataset) | {str(name): axis_label(dataset, str(name)) for name in dataset.coords}
    lines = [" & ".join(tex(words.get(key, key)) for key in keys) + r" \\", r"\midrule"]
    many, axes = len(keys) > 4, set(dataset["status"].dims)
    if many and column:
        rows = [{key: value for key, value in row.items() if key in keys} for row in rows]
    cells = {key: _column(rows, key, key in axes) for key in keys}
    lines += [" & ".join(cells[key][place] for key in keys) + r" \\" for place in range(len(rows))]
    held = "; ".join(filter(None, (", ".join(told(dataset).values()) for told in (problem_words, setting_words))))
    count = dataset.sizes["seed"]
    seeds = counted(count, "seed")
    ends = "" if many and column else ", with the 16th and 84th percentile"
    caption = f"Medians over {seeds}{ends}" if count > 1 else f"Values of {seeds}"
    caption += f"{': ' if held else ''}{held}."
    kind = "table*" if many and not column else "table"
    packages = "booktabs,graphicx" if many and column else "booktabs"
    head = [f"% needs \\usepackage{{{packages}}}", f"\\begin{{{kind}}}", r"\centering", f"\\caption{{{tex(caption)}}}"]
    head += [r"\footnotesize\setlength{\tabcolsep}{4pt}"] * many
    head += [_SHRUNK] * (many and column)
    foot = [r"\bottomrule", r"\end{tabular}" + "}" * (many and column), f"\\end{{{kind}}}", ""]
    return "\n".join([*head, f"\\begin{{tabular}}{{{'r' * len(keys)}}}", r"\toprule", *lines, *foot])


def _column(rows: Sequence[dict[str, Any]], key: str, axis: bool) -> list[str]:
    """The cells of a column: the values of an axis, or medians, with their percentiles where these differ anywhere.

    Numbers have no decimal point if all of the column are whole.
    """
    if axis:
        return [tex(value_text(row[key])) for row in rows]
    found = [(row.get(key), row.get(f"{key}_low"), row.get(f"{key}_high")) for row in rows]
    whole = all(value == int(value) for each in found for value in each if value is not None and np.isfinite(value))
    cells, same = [], all(low == high for _, low, high in found)
    for value, low, high in found:
        bare = same or low is None or high is None
        ends = "" if bare else f" [{number(low, whole)}, {number(high, whole)}]"
        cells.append(number(value, whole) + ends)
    return cells


def number(value: float | None, whole: bool = True) -> str:
    """A number in LaTeX, to three digits and with powers of ten written out; a dash for None, NaN and infinity.

    ``whole``: a whole number below a million is written with all digits and no decimal point.
    """
    if value is None or not np.isfinite(value):
        return "--"
    bare = whole and value == int(value) and abs(value) < 1e6
    digits = f"{value:.15g}" if bare else f"{value:#.3g}".rstrip(".")
    mantissa, _, power = digits.partition("e")
    return f"${mantissa} \\times 10^{{{int(power)}}}$" if power else f"${mantissa}$" if value < 0 else mantissa


def tex(text: str) -> str:
    """A text escaped for LaTeX, with formulas such as ``||U U^T - M||_F / ||M||_F`` typeset as formulas."""
    parts = _FORMULA.split(text)
    return "".join(_formula(part) if place % 2 else _escaped(part) for place, part in enumerate(parts))


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)


def _formula(text: str) -> str:
    """A plain-text formula in LaTeX: names of several letters upright, exponents and indices in braces."""

    def put(found: re.Match[str]) -> str:
        token = found[0]
        if token[0] in "_^" and (inside := token[1:]):
            inside = f"\\{_GREEK[inside]}" if inside in _GREEK else inside
            return token[0] + (inside if len(inside) == 1 else f"{{{inside}}}")
        if found["star"]:
            return "^*"
        if token.endswith("~"):
            return rf"\tilde {token[0]}"
        upright = token.isalpha() and token.isascii() and len(token) > 1
        told = _IN_FORMULA.get(token) or _MATHS.get(token) or (f"\\{_GREEK[token]} " if token in _GREEK else "")
        return told or (rf"\mathrm{{{token}}}" if upright else token)

    return "$" + re.sub(r"\|\||[_^][\w*]+|[a-z]~|[A-Za-z]+|(?P<star>(?<=\w)\*(?!\w))|.", put, text) + "$"


def write_claims(directory: Path, kinds: Sequence[str]) -> list[Path]:
    """Write the claims of a folder as claims.csv and claims.tex (package longtable) there; returns the paths."""
    from launch.claims.table import expected_text, measured_text
    from launch.compare import intervals, read_claims

    rows: list[dict[str, Any]] = []
    lines = [r"claim & quantity & expected & measured [95 \% interval] & verdict \\", r"\midrule", r"\endhead"]
    for name, record in read_claims(directory).items():
        for quantity, measured in record["measured"].items():
            verdict = record["verdicts"].get(quantity, "-")
            for value, low, high in intervals(measured):
                ends = {"value": value, "low": low, "high": high, "seeds": measured.get("seeds")}
                rows.append({"claim": name, "quantity": quantity, **ends, "verdict": verdict})
            wanted = record["expected"].get(quantity)
            expected = "-" if wanted is None else expected_text(wanted, record["tolerance"].get(quantity))
            cells = (name, quantity, expected, measured_text(measured), verdict)
            lines.append(" & ".join(map(tex, cells)) + r" \\")
    head = ["% needs \\usepackage{booktabs,longtable}", _LONG, r"\toprule"]
    latex = "\n".join([*head, *lines, r"\bottomrule", r"\end{longtable}", ""])
    texts = {"csv": csv_of(rows), "latex": latex}
    return [_put(directory / f"claims.{KINDS[kind]}", texts[kind]) for kind in kinds]


def figure_frames(captions: dict[str, str], wide: bool) -> str:
    """The LaTeX figure environments with captions, over one column or, if ``wide``, two."""
    kind, width = ("figure*", "\\textwidth") if wide else ("figure", "\\columnwidth")
    lines = ["% needs \\usepackage{graphicx}, and \\graphicspath{{DIR/paper/}} where the figures lie elsewhere"]
    for name, caption in captions.items():
        lines += [f"\\begin{{{kind}}}", r"\centering", f"\\includegraphics[width={width}]{{{name}}}"]
        lines += [f"\\caption{{{tex(caption)}}}", f"\\label{{fig:{name}}}", f"\\end{{{kind}}}", ""]
    return "\n".join([*lines, ""])


def _put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as aside:
        aside.write_text(text, encoding="utf-8")
    return path
