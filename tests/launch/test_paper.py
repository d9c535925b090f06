"""Figures and tables for papers: widths, captions, labels within the picture, LaTeX that prints what it says."""

import csv
import io
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import xarray as xr
from matplotlib import style
from PIL import Image

from launch import figures, paper, report
from launch.shell import Refusal
from tests.launch.test_report import fill, results


def with_rows(directory: Path) -> Path:
    """A run directory whose summary has a row for every combination of noise and penalty."""
    dataset = results()
    run = fill(directory, dataset)
    rows = [
        {"noise": n, "penalty": p, "rank": 1.0, "error": float(dataset["error"].sel(noise=n, penalty=p).median())}
        for n in (0.1, 0.5)
        for p in (0.0, 0.01, 0.1)
    ]
    (run / "summary.json").write_text(
        json.dumps({"cells": 18, "table": [row | {"law": None, "diverged": 0} for row in rows]})
    )
    return run


def percentile(values: list[float], share: float) -> float:
    """Linear between the sorted values that are not NaN."""
    good = sorted(v for v in values if v == v)
    place = share * (len(good) - 1)
    low = int(place)
    high = min(low + 1, len(good) - 1)
    return good[low] + (place - low) * (good[high] - good[low])


def test_percentiles_stand_beside_the_median_of_their_own_cell(tmp_path: Path) -> None:
    run = report.read_run(with_rows(tmp_path / "run"))
    for row in paper.summary_rows(run):
        values = run.dataset["error"].sel(noise=row["noise"], penalty=row["penalty"]).values.tolist()
        assert row["error_low"] == pytest.approx(percentile(values, 0.16), rel=1e-12)
        assert row["error_high"] == pytest.approx(percentile(values, 0.84), rel=1e-12)


def test_csv_holds_every_number_in_full(tmp_path: Path) -> None:
    run = report.read_run(with_rows(tmp_path / "run"))
    rows = paper.summary_rows(run)
    back = list(csv.DictReader(io.StringIO(paper.csv_of(rows))))
    assert len(back) == 6
    assert [float(row["error"]) for row in back] == [row["error"] for row in rows]
    assert next(csv.DictReader(io.StringIO(paper.csv_of([{"error": 1.5, "law": None}]))))["law"] == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1, "0.100"), (2.0, "2"), (1.5e-7, r"$1.50 \times 10^{-7}$"), (-0.25, "$-0.250$"), (123.4, "123"), (None, "--")],
)
def test_numbers_in_latex(value: float | None, text: str) -> None:
    assert paper.number(value) == text


FORMULAS = {
    "error of U U^T: ||U U^T - M||_F / ||M||_F, after": r"error of $U U^T$: $\|U U^T - M\|_F / \|M\|_F$, after",
    "column norms ||U e_i|| [units of U^2]": r"column norms $\|U e_i\|$ [units of $U^2$]",
    "||W - W*||_F / ||W*||_F, rows": r"$\|W - W^*\|_F / \|W^*\|_F$, rows",
    "(1/2N) sum (yhat - y)^2 along": r"$(1/2N) \sum (\hat y - y)^2$ along",
    "<grad f(W), W - V> / ||W||^2, V flat": r"$\langle \nabla f(W), W - V \rangle / \|W\|^2$, $V$ flat",
    "size r~ and cos^2 of ||u_λ||^10": r"size $\tilde r$ and $\cos^2$ of $\|u_{\lambda}\|^{10}$",
    "W^* A^T A, loss / weight^2": r"$W^* A^T A$, loss / $\mathrm{weight}^2$",
    "A test of class A, p < 0.05 and q > 3; I* 2-4": r"A test of class A, p $<$ 0.05 and q $>$ 3; $I^*$ 2-4",
}


def test_latex_prints_what_stands_there() -> None:
    assert paper.tex("true_rank 50 % of ||U||^2 & λ") == (r"true\_rank 50 \% of $\|U\|^2$ \& $\lambda$")
    for text, said in FORMULAS.items():
        assert paper.tex(text) == said
    assert paper.tex("a | b_1") == r"a $|$ b\_1"
    assert paper.tex("\\input{x}") == r"\textbackslash{}input\{x\}"


def test_the_table_has_a_line_a_row_and_nothing_to_escape(tmp_path: Path) -> None:
    run = report.read_run(with_rows(tmp_path / "run"))
    text = paper.latex_of(paper.summary_rows(run), run.dataset)
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    assert len(body) == 6
    assert {line.count(" & ") for line in [*body, text.split(r"\toprule")[1].strip().splitlines()[0]]} == {4}
    assert body[1].startswith("0.1 & 0.01 & ")
    assert text.count("{") == text.count("}")


def test_a_table_asked_for_in_one_column_takes_one(tmp_path: Path) -> None:
    run = with_rows(tmp_path / "run")
    stored = report.read_run(run)
    for width, kind in (("one", "table"), ("two", "table*"), (None, "table*")):
        paper.write(stored, run, paper.Wanted(("png",), width, ("latex",)))
        text = (run / "paper" / "table.tex").read_text(encoding="utf-8")
        assert f"\\begin{{{kind}}}" in text
        assert text.count("{") == text.count("}")
        assert ("[" in text, "percentile" in text, "graphicx" in text) == (*[width != "one"] * 2, width == "one")


def inside(figure: Any) -> None:
    """What is drawn lies within the figure, to a hundredth of an inch."""
    figure.canvas.draw()
    box = figure.get_tightbbox(figure.canvas.get_renderer())
    assert box.x0 > -0.01
    assert box.y0 > -0.01
    assert box.x1 < figure.get_figwidth() + 0.01
    assert box.y1 < figure.get_figheight() + 0.01


@pytest.mark.parametrize("width", paper.WIDTHS)
def test_figures_are_as_wide_as_the_column_and_nothing_is_cut(width: str) -> None:
    with style.context(paper.STYLE):
        for name, axes in figures.drawn(results(), paper.WIDTHS[width]):
            figure = figures.figure_of(axes)
            assert figure.get_figwidth() == paper.WIDTHS[width]
            assert figure.get_suptitle() == ""
            assert str(figure.get_label()).endswith("."), name
            inside(figure)
            figures.save(figure)


@pytest.mark.slow
def test_files_of_all_kinds_and_the_same_bytes_again(tmp_path: Path) -> None:
    run = with_rows(tmp_path / "run")
    stored = report.read_run(run)
    wanted = paper.Wanted(("png", "pdf", "svg"), tex=True)
    paths = paper.write(stored, run, wanted)
    names = {path.relative_to(run / "paper").as_posix() for path in paths}
    drawn = {f"{name}.{kind}" for name in ("columns", "curves", "rank", "error") for kind in wanted.formats}
    assert names == drawn | {"table.csv", "table.tex", "paper.tex"}
    with Image.open(run / "paper" / "error.png") as image:
        assert image.width == round(3.35 * 300)
    first = {path: path.read_bytes() for path in paths}
    assert first[run / "paper" / "error.pdf"].startswith(b"%PDF")
    assert {path: path.read_bytes() for path in paper.write(stored, run, wanted)} == first
    text = (run / "paper" / "paper.tex").read_text(encoding="utf-8")
    assert text.count(r"\includegraphics[width=\columnwidth]") == 4
    assert r"\begin{tabular}" in text


DOCUMENT = r"""\documentclass[twocolumn]{article}
\usepackage{graphicx,booktabs,longtable}
\begin{document}
\input{paper}
\end{document}
"""


@pytest.mark.slow
def test_latex_compiles_and_no_table_is_too_wide(tmp_path: Path) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("no LaTeX is installed")
    run = with_rows(tmp_path / "run")
    paper.write(report.read_run(run), run, paper.Wanted(tex=True))
    (run / "paper" / "main.tex").write_text(DOCUMENT, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "main.tex"]
    told = subprocess.run(command, cwd=run / "paper", capture_output=True, text=True, timeout=60, check=False)
    assert told.returncode == 0, told.stdout[-2000:]
    assert "Overfull" not in told.stdout
    assert "Output written on main.pdf" in told.stdout


def test_a_style_alone_draws_png_figures_in_that_style(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = tmp_path / "one.mplstyle"
    one.write_text("lines.linewidth: 7\n", encoding="utf-8")
    seen: list[tuple[float, tuple[str, ...]]] = []

    def draw(dataset: xr.Dataset, directory: Path, formats: tuple[str, ...] = ("png",)) -> list[Path]:
        seen.append((matplotlib.rcParams["lines.linewidth"], formats))
        return [directory / "error.png"]

    monkeypatch.setattr(figures, "draw", draw)
    run = with_rows(tmp_path / "run")
    assert report.main([str(run), "--style", str(one)]) == 0
    assert seen[1:] == [(7.0, ("png",))]
    assert capsys.readouterr().out.endswith(f"{run / 'figures' / 'error.png'}\n")
    assert not (run / "paper").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--format", "gif"], "--format: 'gif' is not a format"),
        (["--table", "word"], "--table: 'word' is not a kind of table"),
        (["--style", "nowhere.mplstyle"], "--style: nowhere.mplstyle is neither a file nor a matplotlib style; give"),
        (["--width", "three"], "--width: there is no 'three'; use one of one, two"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    options: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = with_rows(tmp_path / "run")
    before = sorted(run.rglob("*"))
    assert report.main([str(run), *options]) == 2
    assert capsys.readouterr().err.startswith(f"error: {words}")
    assert sorted(run.rglob("*")) == before


def test_pgf_needs_latex(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paper.shutil, "which", lambda name: None)
    with pytest.raises(Refusal, match="is not installed; use pdf or svg"):
        paper.verify(paper.Wanted(("pgf",)))


def test_a_run_without_two_values_of_an_axis_has_no_map() -> None:
    one: xr.Dataset = results().isel(noise=[0], penalty=[1])
    assert [name for name, axes in figures.drawn(one, 3.35) if figures.save(axes) == []] == ["columns", "curves"]
    assert np.isfinite(one["error"]).all()


def test_claims_have_a_line_a_number_in_csv_and_a_quantity_in_latex(tmp_path: Path) -> None:
    measured = {
        "x_1": {"value": 1.0, "low": 0.9, "high": 1.1, "seeds": 16},
        "y": {"value": [1.0, 2.0], "low": [0.5, 1.5], "high": [1.5, 2.5], "seeds": 16},
    }
    expected = {"x_1": {"at_least": 0.5, "at_most": None}}
    record = {"paper": "p", "claim": "c", "measured": measured, "expected": expected}
    record |= {"tolerance": {"x_1": 0.0}, "verdicts": dict.fromkeys(measured, "holds")}
    (tmp_path / "claims.json").write_text(json.dumps([record]), encoding="utf-8")
    assert report.main([str(tmp_path), "--table", "csv,latex"]) == 0
    rows = list(csv.DictReader(io.StringIO((tmp_path / "claims.csv").read_text(encoding="utf-8"))))
    assert [(row["quantity"], float(row["value"]), float(row["low"])) for row in rows] == [
        ("x_1", 1.0, 0.9),
        ("y", 1.0, 0.5),
        ("y", 2.0, 1.5),
    ]
    text = (tmp_path / "claims.tex").read_text(encoding="utf-8")
    assert text.count("holds") == 2
    assert r"p/c & x\_1 & " in text


def test_a_column_has_one_number_of_digits() -> None:
    rows = [{"rank": 5.5, "rank_low": 4.48, "rank_high": 6.0}, {"rank": 5.0, "rank_low": 4.48, "rank_high": 5.0}]
    assert paper._column(rows, "rank", False) == ["5.50 [4.48, 6.00]", "5.00 [4.48, 5.00]"]
    assert paper._column([{"rank": 5.0, "rank_low": 4.0, "rank_high": 12.0}], "rank", False) == ["5 [4, 12]"]
    agreed = {"rank": 2.0, "rank_low": 2.0, "rank_high": 2.0}
    assert paper._column([agreed, rows[0]], "rank", False)[0] == "2.00 [2.00, 2.00]"
    assert paper._column([agreed, agreed], "rank", False) == ["2", "2"]
