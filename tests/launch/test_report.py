"""The page: self-contained, escaped, honest about what it leaves out, and every cell a click away."""

import csv
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from plotly.offline import get_plotlyjs

from gpsense.grid.store import write_dataset
from launch import figures, pages, paper, report
from tests.parameters import first_quick

SEEDS, NOISE, PENALTY, STEPS, COLUMNS = 3, [0.1, 0.5], [0.0, 0.01, 0.1], 7, 4
EVIL = "</script><script>window.stolen = 1</script><b>&"
OFFLINE = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
OFFLINE += ["--disable-component-update", "--disable-sync"]


def results() -> xr.Dataset:
    """Numbers that say where they are: cell (seed s, noise i, penalty j) has error (1 + s + 10 j + 100 i) / 1000."""
    dims = ("seed", "noise", "penalty")
    s, i, j = np.meshgrid(np.arange(SEEDS), np.arange(2), np.arange(3), indexing="ij")
    error = (1.0 + s + 10 * j + 100 * i) / 1000
    fall = np.linspace(2, 1, STEPS)
    numbers = {
        "error": (dims, error, {"long_name": "error <of> U", "units": "1"}),
        "error_trained": (dims, 3 * error),
        "error_pruned": (dims, 4 * error),
        "rank": (dims, 1.0 + j),
        "status": (dims, np.ones(error.shape, np.int16)),
        "error_curve": ((*dims, "step"), error[..., None] * fall),
        "loss_curve": ((*dims, "step"), 5 * error[..., None] * fall),
        "column_norms": ((*dims, "column"), error[..., None] * np.arange(COLUMNS, 0, -1)),
    }
    phase = ["train"] * 5 + ["fine_tune"] * 2
    coords = {"seed": np.arange(SEEDS), "noise": NOISE, "penalty": PENALTY, "smoothing": 0.04}
    coords |= {"step": 10 * np.arange(STEPS), "phase": ("step", phase)}
    dataset = xr.Dataset(numbers, coords, {"train_steps": 40})
    dataset["penalty"].attrs["long_name"] = "penalty λ"
    dataset["status"][1, 1, 2] = 3
    dataset["error"][1, 1, 2] = np.nan
    dataset["penalty"].attrs["long_name"] = "penalty λ"
    return dataset


def fill(directory: Path, dataset: xr.Dataset) -> Path:
    """A run directory with these results and hostile text in its config."""
    directory.mkdir(exist_ok=True)
    manifest = {"name": f"run {EVIL}", "config": {"name": EVIL}, "versions": {"jax": EVIL}}
    rows = [{"noise": 0.1, "penalty": 0.01, "error": 0.0123456789, "law": None, EVIL: EVIL}]
    (directory / "manifest.json").write_text(json.dumps(manifest | {"devices": ["cpu", "cpu"], "digest": "d1"}))
    (directory / "summary.json").write_text(json.dumps({"cells": 18, "programs": 1, "seconds": 8.1, "table": rows}))
    write_dataset(directory / "results.nc", dataset)
    return directory


def numbers_of(page: str) -> dict[str, Any]:
    """The data that a page embeds."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A filled run directory."""
    return fill(tmp_path / "run", results())


def test_a_run_made_in_python_is_reported_from_its_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = fill(tmp_path / "run", results())
    (run / "summary.json").unlink()
    (run / "manifest.json").write_text(
        json.dumps(
            {
                "name": "mine",
                "digest": "d1",
                "settings": {"system": "mine"},
                "layouts": [[1, 1, "full", "full", "full"]],
            }
        )
    )
    assert report.main([str(run)]) == 0
    assert {path.name for path in (run / "figures").iterdir()} == {"columns.png", "curves.png", "rank.png", "error.png"}
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "system: mine" in page
    assert "<h1>mine" in page
    (run / "results.nc").unlink()
    assert report.main([str(run)]) == 2
    assert "rerun the script that called sweep or run_grid with this directory as out" in capsys.readouterr().err


def test_where_every_cell_diverged_no_figure_is_drawn_and_that_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = results()
    dataset["status"][:] = 3
    assert report.main([str(fill(tmp_path / "run", dataset))]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told == [
        "no figure is drawn, since every cell diverged or is missing",
        str(tmp_path / "run" / "report.html"),
    ]


def test_page_refers_to_nothing_outside_and_escapes(tmp_path: Path) -> None:
    dataset = results()
    dataset["error"][:, 0, 0] = np.nan
    run = fill(tmp_path / "run", dataset)
    (run / "figures").mkdir()
    (run / "figures" / "rank.png").write_bytes(b"\x89PNG")
    os.mkfifo(run / "figures" / "pipe.png")
    page = report.write_report(run).read_text(encoding="utf-8").replace(get_plotlyjs(), "")
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", page)
    assert "@import" not in page
    assert "url(" not in page
    assert "stolen = 1</script>" not in page
    assert "&lt;/script&gt;" in page
    assert page.count("</script>") == 3
    assert 'src="data:image/png;base64,iVBORw=="' in page
    assert "{{" not in page
    for text in ("8.1 s", "1 of 18 cells", "2 x cpu", "error &lt;of&gt; U", "penalty λ", "<td>–</td>"):
        assert text in page
    assert [path.name for path in run.glob(".*")] == []


@pytest.mark.parametrize("rows", [None, 3, [3], [[]], [{"error": "many"}], [{"error": 7.0, EVIL: EVIL}, {}]])
def test_the_table_is_of_the_results_whatever_the_summary_says(run: Path, rows: Any) -> None:
    (run / "summary.json").write_text(json.dumps({"table": rows, "chunks": 3, "seconds": EVIL}))
    page = report.write_report(run).read_text(encoding="utf-8")
    assert "<td>0.1</td><td>0.01</td>" in page
    assert "<td>0.012</td>" in page
    assert not any(said in page for said in ("<td>7</td>", "<td>many</td>", EVIL))


def test_the_head_and_the_caption_of_a_table_have_the_main_settings(run: Path) -> None:
    page = report.write_report(run).read_text(encoding="utf-8")
    assert "<dt>training</dt><dd>smoothing 0.04, threshold 0.4, 40 steps of training, 20 of fine-tuning</dd>" in page
    assert numbers_of(page)["labels"]["error"] == "error <of> U, after fine-tuning"
    text = paper.latex_of([{"noise": 0.1, "error": 1.0}], report.read_run(run).dataset)
    assert "percentile: smoothing 0.04, threshold 0.4, 40 steps of training, 20 of fine-tuning." in text


def test_data_are_in_order_of_axes_then_seed(run: Path) -> None:
    data, dataset = numbers_of(report.write_report(run).read_text(encoding="utf-8")), results()
    axes = {axis["name"]: axis["values"] for axis in data["axes"]}
    assert list(axes.items()) == [("noise", ["0.1", "0.5"]), ("penalty", ["0", "0.01", "0.1"])]
    assert data["plane"] == ["penalty", "noise"]
    medians = dataset["error"].median("seed").values.ravel()
    np.testing.assert_allclose(data["medians"]["error"][:5], medians[:5], rtol=1e-4)
    assert data["medians"]["error"][5] == pytest.approx((0.121 + 0.123) / 2)
    assert (data["diverged"], data["missing"]) == ([0, 0, 0, 0, 0, 1], [0] * 6)
    norms = dataset["column_norms"].transpose("noise", "penalty", "seed", "column").values
    np.testing.assert_allclose(data["norms"], norms.ravel(), rtol=1e-3)
    np.testing.assert_allclose(data["threshold"], [0.4] * 6)
    assert (data["train"], data["train_steps"], data["n_seeds"]) == (5, 40, 3)


@pytest.mark.parametrize(("limit", "seeds", "words"), [(10**6, 3, ""), (300, 2, "2 of 3 seeds")])
def test_a_large_grid_embeds_fewer_seeds_and_says_so(run: Path, limit: int, seeds: int, words: str) -> None:
    page = report.write_report(run, limit).read_text(encoding="utf-8").replace(get_plotlyjs(), "")
    data = numbers_of(page)
    assert (len(data["seeds"]), data["columns"]) == (seeds, COLUMNS)
    assert len(data["curves"]["loss"]) == 6 * seeds * len(data["steps"])
    assert len(data["median_curves"]["loss"]) == 6 * len(data["steps"])
    assert ("it carries" in page) == bool(words)
    assert words in page


def test_columns_and_records_are_thinned_last(run: Path) -> None:
    wide = results().isel(seed=[0]).drop_vars(["column_norms"])
    steps, columns = 101, 500
    phase = ("step", ["train"] * 81 + ["fine_tune"] * 20)
    wide = wide.drop_dims("step").assign_coords(step=np.arange(steps), phase=phase)
    for name, tail, size in (("loss_curve", "step", steps), ("column_norms", "column", columns)):
        wide[name] = (("seed", "noise", "penalty", tail), np.ones((1, 2, 3, size)))
    kept = [report.fit(wide, limit) for limit in (10**6, 3000, 300)]
    assert [(part.columns, len(part.records)) for part in kept] == [(500, 101), (96, 101), (10, 12)]
    assert {0, 80, 81, 100} <= set(kept[2].records.tolist())


def test_bad_input_is_one_line_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = fill(tmp_path / "broken", results())
    (broken / "results.nc").write_bytes(b"not netCDF")
    other = fill(tmp_path / "other", results().drop_vars("status"))
    one = fill(tmp_path / "one", results().isel(seed=0))
    bare = fill(tmp_path / "bare", results().drop_attrs())
    text = fill(tmp_path / "text", results().assign(rank=results()["rank"].astype(str)))
    nothing = fill(tmp_path / "nothing", results()[["status"]])
    none, empty = tmp_path / "none", tmp_path / "empty"
    empty.mkdir()
    words = {none: "not a directory", empty: "manifest.json", broken: "results.nc", other: "lacks status"}
    filled = tmp_path / "filled"
    filled.mkdir()
    (filled / "thesis.tex").touch()
    words |= {filled: "is not a gpsense run, it has no manifest.json; name the directory of a run"}
    found = tmp_path / "found"
    found.mkdir()
    (found / "summary.json").write_text('{"chosen_by": "edge"}')
    words |= {found: f"{found} is a recovery, not a run of a grid; open {found / 'report.html'}\n"}
    words |= {one: "lacks seed", bare: "lacks train_steps", text: "results.nc holds no numbers in rank; run"}
    words |= {nothing: "results.nc lacks results, a variable of one number per cell; run the grid again"}
    for directory, word in words.items():
        before = sorted(directory.rglob("*"))
        assert report.main([str(directory)]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert word in err
        assert sorted(directory.rglob("*")) == before


@pytest.mark.slow
def test_command_prints_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = fill(tmp_path / "run", results().isel(noise=1))
    assert report.main([str(run)]) == 0
    paths = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert [path.name for path in paths] == ["columns.png", "curves.png", "rank.png", "error.png", "report.html"]
    assert paths[-1].read_text(encoding="utf-8").count('<figure><div class="picture"') == 4


def test_neither_module_imports_jax() -> None:
    code = "import sys, launch.report; sys.exit('jax' in sys.modules)"
    root = Path(report.__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """An installed Chromium without a window, or a skip."""
    names = ("chromium", "chromium-browser", "chromium-headless-shell", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip("no Chromium or Chrome is installed")
    try:
        playwright = importlib.import_module("playwright.sync_api")
    except ImportError:
        pytest.skip("playwright is not installed")
    with playwright.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=found, args=OFFLINE)
        yield chromium
        chromium.close()


def visit(browser: Any, path: Path, width: int = 1366) -> tuple[Any, list[str]]:
    """The page of a file, and the list in which its complaints and requests for other files gather."""
    page, complaints = browser.new_page(viewport={"width": width, "height": 800}), []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: request.url == path.as_uri() or complaints.append(request.url))
    page.goto(path.as_uri(), wait_until="domcontentloaded")
    return page, complaints


def click(page: Any, column: int, row: int) -> None:
    """Click a cell of the map as a person would."""
    where = """([i, j]) => { const map = document.getElementById("map"); map.scrollIntoView();
      const layout = map._fullLayout, box = map.getBoundingClientRect();
      return [box.left + layout._size.l + layout.xaxis.d2p(i), box.top + layout._size.t + layout.yaxis.d2p(j)]; }"""
    x, y = page.evaluate(where, [column, row])
    page.mouse.move(x, y)
    page.mouse.click(x, y)


def drawn(page: Any, plot: str, name: str) -> list[float]:
    """The heights of a named line, gaps left out."""
    find = "([plot, name]) => document.getElementById(plot).data.find(trace => trace.name === name).y"
    return [value for value in page.evaluate(find, [plot, name]) if value is not None]


def test_a_click_on_a_cell_shows_that_cell(run: Path, browser: Any) -> None:
    page, complaints = visit(browser, report.write_report(run))
    text = page.text_content("#cell")
    assert "noise 0.1, penalty 0. Rank 1; error 0.006 trained, 0.008 pruned, 0.002 fine-tuned" in text
    click(page, 1, 1)
    page.wait_for_function("document.getElementById('cell').textContent.includes('noise 0.5, penalty 0.01')")
    text = page.text_content("#cell")
    assert "Rank 2; error 0.336 trained, 0.448 pruned, 0.112 fine-tuned (medians of 3 seeds)" in text
    cell = results().sel(noise=0.5, penalty=0.01)
    median = cell["error_curve"].median("seed").values
    np.testing.assert_allclose(drawn(page, "curves", "median"), [*median[:5], 0.448, *median[5:]], rtol=1e-3)
    np.testing.assert_allclose(drawn(page, "curves", "seeds"), cell["error_curve"].values.ravel(), rtol=1e-3)
    np.testing.assert_allclose(drawn(page, "norms", "seeds"), cell["column_norms"].values.ravel(), rtol=1e-3)
    page.select_option("#curve", "loss")
    np.testing.assert_allclose(drawn(page, "curves", "seeds"), cell["loss_curve"].values.ravel(), rtol=1e-3)
    page.select_option("#measure", "rank")
    page.select_option("#axis-penalty", "2")
    assert "penalty 0.1. Rank 3" in page.text_content("#cell")
    assert "medians of 2 seeds); 1 diverged" in page.text_content("#cell")
    assert complaints == []
    assert page.evaluate("window.stolen") is None


def test_one_axis_is_a_row_and_none_is_just_the_curves(tmp_path: Path, browser: Any) -> None:
    one, none = results().isel(noise=0), results().isel(noise=0, penalty=1)
    page, complaints = visit(browser, report.write_report(fill(tmp_path / "one", one)))
    click(page, 2, 0)
    page.wait_for_function("document.getElementById('cell').textContent.includes('penalty 0.1.')")
    page, more = visit(browser, report.write_report(fill(tmp_path / "none", none)))
    assert page.query_selector("#map") is None
    np.testing.assert_allclose(drawn(page, "curves", "seeds"), none["error_curve"].values.ravel(), rtol=1e-3)
    assert complaints + more == []


def test_what_a_run_lacks_is_left_out_of_the_page(tmp_path: Path, browser: Any) -> None:
    bare = results().drop_vars(["column_norms", "error_trained", "error_pruned", "loss_curve"])
    page, complaints = visit(browser, report.write_report(fill(tmp_path / "bare", bare)))
    assert "noise 0.1, penalty 0. Rank 1; error 0.002 (medians of 3" in page.text_content("#cell")
    assert [page.query_selector(part) is None for part in ("#norms", "#curves", "#map")] == [True, False, False]
    page, more = visit(browser, report.write_report(fill(tmp_path / "no curves", bare.drop_dims("step"))))
    assert [page.query_selector(part) is None for part in ("#curves", "#map")] == [True, False]
    assert complaints + more == []


def test_axes_beyond_the_map_are_chosen_from_a_list(tmp_path: Path, browser: Any) -> None:
    optimizers = xr.DataArray(["gd", "adam"], dims="optimizer", name="optimizer")
    both = results().expand_dims(optimizer=optimizers).copy(deep=True)
    for name in report.MEDIANS:
        both[name][1] *= 2
    page, complaints = visit(browser, report.write_report(fill(tmp_path / "both", both)))
    page.select_option("#axis-optimizer", "1")
    assert "optimizer adam, noise 0.1, penalty 0. Rank 2; error 0.012" in page.text_content("#cell")
    assert page.evaluate("document.getElementById('map').data[0].text[0][1]") == "0.024"
    assert complaints == []


WIDE = """() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]"""
LETTERS = """() => [...document.querySelectorAll("#map text, #curves text, #norms text")]
  .filter(text => text.textContent.trim()).map(text => ({ text: text.textContent,
    size: parseFloat(getComputedStyle(text).fontSize), left: text.getBoundingClientRect().left,
    right: text.getBoundingClientRect().right }))"""
TICKS = """() => [...document.querySelectorAll("#map .xtick text")].map(text => text.getBoundingClientRect())
  .map(box => [box.left, box.right]).sort((a, b) => a[0] - b[0])"""


def many() -> xr.Dataset:
    """The results with 24 penalties of long names."""
    wide = results().isel(penalty=[0] * 24).copy(deep=True)
    return wide.assign_coords(penalty=("penalty", 0.001234 * np.arange(1, 25), {"long_name": "penalty λ"}))


BAR = """() => [...document.querySelectorAll("#map .cbaxis text")].map(text => text.getBoundingClientRect())
  .map(box => [box.top, box.bottom]).sort((a, b) => a[0] - b[0])"""


def test_numbers_at_the_bar_of_a_low_map_stay_apart(tmp_path: Path, browser: Any) -> None:
    low = results().isel(noise=0)
    low["error"] = 0.0729 + 0.032 * (low["penalty"] == 0) + 0 * low["error"]
    page, complaints = visit(browser, report.write_report(fill(tmp_path / "low", low)))
    numbers = page.evaluate(BAR)
    assert len(numbers) == 2
    assert all(above[1] <= below[0] for above, below in pairwise(numbers))
    assert complaints == []


FITS = "document.querySelector('.table table').scrollWidth"  # how wide a table would be


@pytest.mark.parametrize("width", [390, 1366])
def test_everything_fits_the_width_and_labels_stay_apart(tmp_path: Path, browser: Any, width: int) -> None:
    for name, dataset in (("few", results()), ("many", many())):
        dataset["error"].attrs["long_name"] = "relative Frobenius error of U U^T: ||U U^T - M||_F / ||M||_F"
        page, complaints = visit(browser, report.write_report(fill(tmp_path / f"{name} {width}", dataset)), width)
        scroll, client = page.evaluate(WIDE)
        assert scroll <= client
        letters = page.evaluate(LETTERS)
        assert len(letters) > 20
        for each in letters:
            assert each["size"] >= 8, each
            assert each["left"] >= -1, each
            assert each["right"] <= width + 1, each
        names = [box for each in page.query_selector_all("#norms .legendtext") if (box := each.bounding_box())]
        above = page.query_selector("#norms .gtitle").bounding_box()
        assert len(names) == 2
        assert all(above["y"] + above["height"] <= box["y"] for box in names)
        ticks = page.evaluate(TICKS)
        assert len(ticks) >= 3
        assert all(left[1] <= right[0] for left, right in pairwise(ticks))
        assert complaints == []


@pytest.mark.parametrize("width", first_quick([390, 1366]))
def test_what_is_wider_than_the_page_says_that_it_scrolls(tmp_path: Path, browser: Any, width: int) -> None:
    """Tables and pictures, on pages of both kinds; on a phone a picture is half as large as on a desk at least."""
    picture = tmp_path / "wide.png"
    figures.save(Figure(figsize=(9.5, 3)), picture)
    wide = [str(number) * 9 for number in range(12)]
    body = pages.table(wide, [wide], "wide") + pages.table(["a"], [["1"]], "narrow") + pages.image(picture)
    pages.write(tmp_path / "page.html", "page", "", body)
    page, complaints = visit(browser, tmp_path / "page.html", width)
    page.wait_for_function("document.readyState === 'complete'")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    cut = page.evaluate("[...document.querySelectorAll('.cut')].map(each => each.getAttribute('aria-label'))")
    assert cut == (["wide", "wide"] if width == 390 else ["wide"] * (page.evaluate(FITS) > width))
    assert page.evaluate("document.querySelector('img').getBoundingClientRect().width") >= 0.45 * 1425
    told = page.evaluate("getComputedStyle(document.querySelector('.table'), '::before').content")
    assert ("scroll sideways" in told) == ("wide" in cut)
    assert complaints == []
    run = fill(tmp_path / "run", results())
    page, complaints = visit(browser, report.write_report(run), width)
    page.wait_for_function("document.readyState === 'complete'")
    where = "document.querySelectorAll('.table.cut').length"
    assert page.evaluate(where) == page.evaluate(where.replace(".cut", "")) * (page.evaluate(FITS) > width - 40)
    assert complaints == []


def test_the_figures_of_a_run_fit_a_phone(tmp_path: Path, browser: Any) -> None:
    run = fill(tmp_path / "run", results())
    figures.draw(results(), run / "figures")
    page, _ = visit(browser, report.write_report(run), 390)
    page.wait_for_function("document.readyState === 'complete'")
    assert page.evaluate("document.querySelectorAll('.picture').length") == 4
    assert page.evaluate("document.querySelectorAll('.picture.cut').length") == 0


def test_plots_follow_a_window_that_is_made_narrow(run: Path, browser: Any) -> None:
    page, complaints = visit(browser, report.write_report(run))
    page.set_viewport_size({"width": 390, "height": 800})
    page.wait_for_function("document.querySelector('#map .main-svg').getBoundingClientRect().width < 390")
    page.wait_for_function("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert complaints == []


def test_arrow_keys_choose_a_neighbour(run: Path, browser: Any) -> None:
    page, complaints = visit(browser, report.write_report(run))
    page.focus("#map")
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft", "ArrowUp", "ArrowUp"):
        page.keyboard.press(key)
    assert "noise 0.5, penalty 0.01. Rank 2" in page.text_content("#cell")
    assert page.text_content("#code") == "ds.isel(noise=1, penalty=1)"
    assert complaints == []


@pytest.mark.parametrize(
    ("words", "count"),
    first_quick(
        [
            ("rank>=2, error<0.1", 2),
            ("noise=0.5", 3),
            ("penalty=0.01 noise=0.1", 1),
            ("error<0.02", 2),
            ("0.5", 3),
            ("x=1", 0),
        ],
        2,
    ),
)
def test_a_search_lists_the_cells_and_a_click_shows_one(run: Path, browser: Any, words: str, count: int) -> None:
    page, complaints = visit(browser, report.write_report(run))
    page.fill("#search", words)
    assert page.text_content("#count") == f"{count} of 6 cells"
    hits = page.query_selector_all("#hits button")
    assert len(hits) == count
    if hits:
        text = hits[-1].text_content()
        hits[-1].click()
        assert page.text_content("#cell").startswith(f"Cell shown: {', '.join(text.split(', ')[:2])}.")
    assert complaints == []


def test_a_cells_numbers_are_downloaded(run: Path, browser: Any) -> None:
    page, complaints = visit(browser, report.write_report(run))
    page.select_option("#axis-noise", "1")
    with page.expect_download() as found:
        page.click("#download")
    rows = list(csv.DictReader(Path(found.value.path()).read_text(encoding="utf-8").splitlines()))
    cell = results().sel(noise=0.5, penalty=0.0)
    assert {row["quantity"]: row["value"] for row in rows[:2]} == {"noise": "0.5", "penalty": "0"}
    told = {
        name: [float(row["value"]) for row in rows if row["quantity"] == name] for name in ("error along step", "rank")
    }
    np.testing.assert_allclose(told["error along step"], cell["error_curve"].values.ravel(), rtol=1e-3)
    assert told["rank"] == [1.0]
    norms = [float(row["value"]) for row in rows if row["quantity"] == "column norm" and row["seed"] == "2"]
    np.testing.assert_allclose(norms, cell["column_norms"].values[2], rtol=1e-3)
    assert found.value.suggested_filename.endswith("noise-0.5_penalty-0.csv")
    assert [text for text in complaints if not text.startswith("blob:")] == []


def test_where_every_seed_diverged_the_page_says_so(tmp_path: Path, browser: Any) -> None:
    lost = results()
    lost["status"][:] = 3
    for name in ("error", "error_trained", "error_pruned", "rank", "error_curve", "loss_curve", "column_norms"):
        lost[name][:] = np.nan
    page, complaints = visit(browser, report.write_report(fill(tmp_path / "lost", lost)))
    assert "No seed left; 3 diverged" in page.text_content("#cell")
    assert "every seed diverged or is missing" in page.text_content("#curves")
    assert complaints == []


def test_a_field_of_another_system_is_not_shown(run: Path, browser: Any) -> None:
    page, _ = visit(browser, report.write_report(run))
    shown = page.text_content("main")
    assert "||V_J||" not in shown
    assert [option.text_content() for option in page.query_selector_all("#measure option")] == ["rank", "error"]


def test_results_of_another_run_are_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_dataset(run / "results.nc", results().assign_attrs(config_digest="d2"))
    assert report.main([str(run)]) == 2
    assert capsys.readouterr().err == f"error: {run / 'results.nc'} belongs to another run; run the grid again\n"
    write_dataset(run / "results.nc", results().assign_attrs(config_digest="d1"))
    assert report.main([str(run)]) == 0
