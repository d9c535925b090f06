"""The grid command from refusal to report: its files and numbers, and that no interruption changes a bit."""

import contextlib
import io
import json
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
import xarray as xr

from gpsense.grid import Layout, make_plan
from gpsense.grid.chunkfile import decode
from gpsense.grid.plan import chunk_bytes
from launch import grid
from launch.arguments import parse
from launch.work import to_grid
from tests.commands import UNDRAWN

DIVERGED = 3
SMALL = ["--problem.dim", "6", "--problem.n", "30", "--train.steps", "60", "--fine_tune.steps", "20"]
SMALL += ["--run.precision", "float64"]
TINY = [*SMALL, "--problem.noise", "0,0.1", "--train.penalty", "0.05,0.1", "--run.seeds", "2"]
PICTURES = ["columns.png", "curves.png", "error.png", "rank.png"]

LONG = ["--problem.dim", "6", "--problem.n", "30", "--problem.noise", "0,0.1", "--train.penalty", "0.05,0.1"]
LONG += ["--run.seeds", "2", "--train.steps", "20000", "--train.tolerance", "0", "--fine_tune.steps", "10000"]
LONG += ["--fine_tune.tolerance", "0", "--run.record_every", "10000", "--out", "run"]
LONG += ["--run.curvature_steps", "0"]
CELLS = 8
COMMAND = ["-c", UNDRAWN]
INTERRUPTIBLE = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)  # a process that a shell started in the background ignores it
os.execv(sys.executable, [sys.executable, "-m", "launch.grid", *sys.argv[1:]])
"""


def tiny_but(name: str, value: str) -> list[str]:
    """The options of the tiny grid with one of them changed or added."""
    options = dict(zip(TINY[::2], TINY[1::2], strict=True)) | {name: value}
    return [word for option in options.items() for word in option]


class Ran(NamedTuple):
    """A finished command: its exit code, what it printed, its folder."""

    code: int
    out: str
    err: str
    folder: Path

    @property
    def dataset(self) -> xr.Dataset:
        return xr.load_dataset(self.folder / "results.nc", engine="h5netcdf")

    def chunks(self) -> dict[str, int]:
        """The chunk files and when each was written."""
        return {path.name: path.stat().st_mtime_ns for path in sorted((self.folder / "chunks").glob("*.chunk"))}


def run(folder: Path, *argv: str) -> Ran:
    """The command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = grid.main([*argv, "--out", str(folder)])
    return Ran(code, out.getvalue(), err.getvalue(), folder)


def finish(process: subprocess.Popen[str], folder: Path) -> Ran:
    """Wait for a command in a process of its own."""
    out, err = process.communicate(timeout=120)
    return Ran(process.returncode, out, err, folder / "run")


def until(chunks: int, process: subprocess.Popen[str], folder: Path) -> None:
    """Wait until so many chunks are stored; the run must still be going on then."""
    for _ in range(6000):
        if len(list(folder.glob("run/chunks/*.chunk"))) >= chunks:
            break
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    assert process.poll() is None


def one_cell_a_chunk() -> list[str]:
    """The memory budget that cuts the long run into chunks of one cell."""
    cost = make_plan(to_grid(parse(LONG).config), 2**40).programs[0].cost
    return ["--run.memory_gib", repr(chunk_bytes(cost, Layout(1, 1)) / 2**30)]


def same_bits(one: xr.Dataset, other: xr.Dataset) -> bool:
    """Whether two Datasets agree in every variable, bit by bit."""
    return set(one.variables) == set(other.variables) and all(
        np.array_equal(one[name].values, other[name].values, equal_nan=one[name].dtype.kind == "f")
        for name in one.variables
    )


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """2 noises x 2 penalties x 2 seeds, run once for all tests."""
    return run(tmp_path_factory.mktemp("tiny") / "my run", *TINY)


def test_the_line_below_the_table_counts_minima_saddles_and_what_is_open():
    """Every count that is not 0 in words of its own, with the bound that they speak of."""
    numbers = {"gradient_norm": 0.04, "gamma": 0.2, "curvature": -0.31, "unsettled": 0}
    line = grid.certificate_words(numbers | {"minima": 5, "saddles": 0, "undecided": 2})
    assert line == (
        "Where training stopped, the gradient norm of 7 cells is at most 0.04. Their smallest Hessian eigenvalue "
        "classifies them: -0.2 (minus the square root of that norm) or more is an approximate minimum, less is a "
        "saddle. That makes 5 approximate minima (each with probability 0.999), 2 undecided (a larger "
        "run.curvature_steps may decide); the lowest eigenvalue found is -0.31."
    )
    assert "the gradient norm of 1 cell is" in grid.certificate_words(
        numbers | {"minima": 1, "saddles": 0, "undecided": 0}
    )
    assert ", 1 saddle, " in grid.certificate_words(numbers | {"minima": 5, "saddles": 1, "undecided": 2})


def test_cells_that_had_not_settled_are_called_nothing(tmp_path: Path):
    """At a rate at which the loss goes up and down the gradient is no small number that a minimum could be told by."""
    told = {}
    for rate in (0.02, 0.26):
        options = ["--problem.dim", "8", "--problem.rank", "1", "--problem.n", "60", "--problem.noise", "0.3"]
        options += ["--run.seeds", "3"]
        options += ["--train.rate", str(rate), "--train.penalty", "0.05", "--train.steps", "400"]
        assert run(tmp_path / str(rate), *options).code == 0
        told[rate] = json.loads((tmp_path / str(rate) / "summary.json").read_text())["certificate"]
    assert told[0.02]["unsettled"] == 0
    assert sum(told[0.02][name] for name in ("minima", "saddles", "undecided")) == 3
    assert told[0.26] == {
        **dict.fromkeys(("gradient_norm", "gamma", "curvature", "curvature_low")),
        **dict.fromkeys(("minima", "saddles", "undecided"), 0),
        "unsettled": 3,
    }
    assert grid.certificate_words(told[0.26]) == (
        "In 3 cells one more step would change the loss by more than a tenth (train.rate times the squared gradient "
        "norm), so that nothing is said about where training would stop: lower train.rate, or give more train.steps."
    )


def test_the_time_of_a_resumed_run_is_told_apart_from_what_was_there():
    none, some, all_ = grid.Contents(0, 0.0, 0.0), grid.Contents(3, 107.4, 9.0), grid.Contents(4, 119.2, 12.5)
    assert grid.time_words("8 cells", none, all_) == "8 cells in 119.2 s, after 12.5 s of compiling"
    assert grid.time_words("8 cells", all_, all_) == "8 cells; the chunks took 119.2 s, and 12.5 s of compiling"
    assert grid.time_words("8 cells", some, all_) == (
        "8 cells; 1 chunk in 11.8 s now, after 3.5 s of compiling; 3 of 4 chunks were there before, which took 107.4 s"
    )


def test_cells_that_end_far_above_their_start_are_counted():
    curve = [[[1.0, 0.5, 0.1], [1.0, 9.0, 11.0], [1.0, np.nan, np.nan]]]
    assert grid.risen(xr.Dataset({"loss_curve": (("seed", "rate", "step"), curve)})) == 1
    assert grid.risen(xr.Dataset()) == 0


def test_run_fills_its_directory(tiny: Ran) -> None:
    assert (tiny.code, tiny.err) == (0, "")
    files = {str(path.relative_to(tiny.folder)) for path in tiny.folder.rglob("*") if path.is_file()}
    named = {"manifest.json", "results.nc", "summary.json", "metrics.jsonl", "report.html", "chunks/000000.chunk"}
    assert files == named | {f"figures/{name}" for name in PICTURES}
    assert str(tiny.folder / "results.nc") in tiny.out


def test_results_have_the_axes_as_named_dimensions(tiny: Ran) -> None:
    dataset, axes = tiny.dataset, ("seed", "noise", "penalty")
    assert dataset["error"].dims == axes
    assert dataset["error_curve"].dims == (*axes, "step")
    assert dataset["column_norms"].dims == (*axes, "column")
    assert dict(dataset.sizes) == {"seed": 2, "noise": 2, "penalty": 2, "step": 4, "column": 6}
    assert dataset["step"].values.tolist() == [0, 50, 60, 80]
    assert dataset["phase"].values.tolist() == ["train"] * 3 + ["fine_tune"]
    assert dataset["noise"].values.tolist() == [0, 0.1]
    assert dataset["error"].dtype == np.float64
    assert (dataset["dim"].item(), dataset["smoothing"].item()) == (6, 0.04)
    assert dataset["error"].sel(penalty=0.1, noise=0.1).mean("seed").item() > 0
    assert (dataset["error_curve"].isel(step=-1) == dataset["error"]).all()


def test_manifest_says_what_the_numbers_depend_on(tiny: Ran) -> None:
    manifest = json.loads((tiny.folder / "manifest.json").read_text())
    config = parse(TINY).config
    assert manifest["digest"] == config.digest() == tiny.dataset.attrs["config_digest"]
    assert manifest["config"] == config.plain()
    assert manifest["config"]["run"]["seeds"] == tiny.dataset["seed"].values.tolist() == [0, 1]
    assert manifest["precision"] == "float64"
    assert manifest["versions"]["jax"] == jax.__version__
    assert manifest["devices"]
    assert manifest["layouts"] == [[4, 2, "least", "least", "least"]]
    assert set(manifest["flags"]["compile_options"]) == {"full", "less", "least"}


def test_table_holds_medians_over_seeds_and_the_exact_rank_law(tiny: Ran) -> None:
    summary = json.loads((tiny.folder / "summary.json").read_text())
    assert (summary["cells"], summary["programs"], summary["diverged"]) == (8, 1, 0)
    assert len(summary["table"]) == 4
    norm = np.linalg.norm([1.0, 1.0])
    for row in summary["table"]:
        cells = tiny.dataset.sel(noise=row["noise"], penalty=row["penalty"])
        for name in ("rank", "error_trained", "error_pruned", "error"):
            assert row[name] == np.median(cells[name].values)
        free = 2 * 6 - 2 * 1 / 2
        assert row["law"] == pytest.approx(row["noise"] * np.sqrt(free / 30) / norm, rel=1e-12)
        words = [f"{value:.3g}" for value in list(row.values())[:-1]]
        assert re.search(r"^\s*" + r"\s+".join(map(re.escape, words)) + r"\s*$", tiny.out, re.MULTILINE)
    assert re.search(r"^noise +penalty +rank +trained +pruned +fine-tuned +exact-rank law$", tiny.out, re.MULTILINE)


@pytest.mark.usefixtures("undrawn")
def test_running_again_runs_no_cell_again(tiny: Ran) -> None:
    before, dataset, table = tiny.chunks(), tiny.dataset, tiny.out.split("\n\n")[0]
    lines = (tiny.folder / "metrics.jsonl").read_text()
    again = run(tiny.folder, *TINY)
    assert (again.code, again.err) == (0, "")
    assert again.chunks() == before
    assert (tiny.folder / "metrics.jsonl").read_text() == lines
    assert same_bits(again.dataset, dataset)
    assert again.out.split("\n\n")[0] == table


def test_directory_of_another_run_is_refused_and_left_alone(tiny: Ran, refuse: Callable[..., str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in tiny.folder.rglob("*")}
    line = refuse(*tiny_but("--train.steps", "61"), "--out", str(tiny.folder))
    assert "belongs to another run (train.steps: 60 there, 61 now)" in line
    assert "choose another directory" in line
    assert {path: path.stat().st_mtime_ns for path in tiny.folder.rglob("*")} == before


@pytest.mark.slow
def test_every_cell_diverging_is_exit_code_1_with_a_report(tmp_path: Path) -> None:
    ran = run(tmp_path / "run", *TINY, "--train.rate", "1e9")
    assert ran.code == 1
    assert "8 cells" in ran.out
    assert "8 diverged" in ran.out
    assert (ran.dataset["status"] == DIVERGED).all()
    assert np.isnan(ran.dataset["error"]).all()
    assert (ran.folder / "report.html").stat().st_size > 0
    assert "8 diverged, so that no figure is drawn" in ran.out
    assert not (ran.folder / "figures").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_one_rate_diverging_leaves_the_other_and_is_said(tmp_path: Path) -> None:
    ran = run(tmp_path / "run", *tiny_but("--train.penalty", "0.1"), "--train.rate", "0.02,1e9")
    assert ran.code == 0
    assert "4 diverged" in ran.out
    status = ran.dataset["status"]
    assert (status.sel(rate=1e9) == DIVERGED).all()
    assert (status.sel(rate=0.02) != DIVERGED).all()
    assert np.isfinite(ran.dataset["error"].sel(rate=0.02)).all()


@pytest.mark.slow
def test_dry_run_prints_the_plan_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert grid.main([*tiny_but("--run.precision", "float32"), "--dry-run"]) == 0
    printed = capsys.readouterr()
    assert re.search(r"programs 1 +cells 8 +chunks 1 +memory [\d.]+ MiB a chunk +results [\d.]+ MiB", printed.out)
    assert re.search(r"time about [\d.e-]+ s running \+ [\d.e-]+ s compiling", printed.out)
    assert re.search(
        r"program 0: greedy_pruning, dim 6, width 6, rank 2, n 30, .*, gaussian; chunks of 4 x 2 cells", printed.out
    )
    assert printed.err == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("argv", "field", "remedy"),
    [
        (["--problem.rank", "7"], "problem.rank: 7 exceeds dim 6", "use a rank of at most dim"),
        (["--problem.rank", "1,2,7"], "problem.rank: 7 exceeds dim 6", "use a rank of at most dim"),
        (["--problem.width", "1"], "problem.width: 1 is below rank 2", "use a width of at least rank"),
        (["--run.memory_gib", "1e-8"], "run.memory_gib: one cell needs ", "10.7 B allowed; raise the budget or make"),
        (
            ["--problem.n", "1000000000000"],
            "run.memory_gib: one cell needs ",
            "raise the budget or make the problem smaller",
        ),
        (["--problem.truth", "no.npy"], "problem.truth: no file no.npy", "give the path of a .npy file"),
        (["--out", "/dev/null"], "--out: /dev/null is a file", "choose a directory"),
        (["--out", "/dev/null/x/y"], "--out: /dev/null/x/y cannot be written to", "choose a writable directory"),
        (["--out", "/proc/gpsense"], "--out: /proc/gpsense cannot be written to", "choose a writable directory"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is_written(
    argv: list[str], field: str, remedy: str, refuse: Callable[..., str]
) -> None:
    line = refuse(*tiny_but(*argv))
    assert line.startswith(field)
    assert remedy in line


@pytest.mark.parametrize(
    ("truth", "problem"),
    [
        (np.ones((2, 6)), r"has shape \(2, 6\), should have \(6, 2\)"),
        (np.ones(6), r"shape \(6,\)"),
        (np.float64(1), r"shape \(\)"),
        (np.full((6, 2), np.nan), "finite real numbers"),
        (np.full((6, 2), 1j), "finite real numbers"),
        (np.zeros((6, 2)), "all its numbers are zero"),
        (np.full((6, 2), "a"), "finite real numbers"),
        (b"", "not a .npy array"),
        (b"no array at all", "not a .npy array"),
        ({"U": np.ones((6, 2))}, "not a .npy array"),
    ],
)
def test_truth_file_that_is_no_factor_is_refused(
    truth: object, problem: str, tmp_path: Path, refuse: Callable[..., str]
) -> None:
    with open(tmp_path / "truth.npy", "wb") as file:
        if isinstance(truth, bytes):
            file.write(truth)
        elif isinstance(truth, dict):
            np.savez(file, **truth)
        else:
            np.save(file, truth)
    assert re.match(rf"problem\.truth: .*{problem}.*; ", refuse(*TINY, "--problem.truth", "truth.npy"))


def test_directory_with_other_files_is_refused(tmp_path: Path, refuse: Callable[..., str]) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    assert "is not empty and not a gpsense run; choose another directory" in refuse(*TINY, "--out", "mine/")


def test_damaged_manifest_is_refused(tmp_path: Path, refuse: Callable[..., str]) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "manifest.json").write_text('{"digest": "abc", "layo')
    line = refuse(*TINY, "--out", "run")
    assert "run/manifest.json cannot be read (Unterminated string" in line
    assert line.endswith("; restore it from a copy, or run the grid in another directory")


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_config_by_path_finds_its_truth_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = np.random.default_rng(0).normal(size=(6, 2))
    folder = tmp_path / "my grids"
    folder.mkdir()
    np.save(folder / "truth.npy", truth)
    (folder / "größe 1.yaml").write_text(
        "problem: {dim: 6, n: 60, truth: truth.npy, noise: 0}\ntrain: {penalty: 1e-4, steps: 20, rate: 1e-2}\n"
        "fine_tune: {steps: 20}\nrun: {seeds: 1, precision: float64, record_every: 20}\n"
    )
    monkeypatch.chdir(tmp_path)
    ran = run(Path("my runs/first/"), "my grids/größe 1.yaml")
    assert (ran.code, ran.err) == (0, "")
    dataset = ran.dataset
    assert dataset["penalty"].item() == 1e-4
    start = dataset["error_curve"].isel(step=0).item()
    assert dataset["error"].item() < start
    assert "law" not in json.loads((ran.folder / "summary.json").read_text())["table"][0]
    np.save(folder / "truth.npy", truth + 1)
    assert run(Path("my runs/first"), "my grids/größe 1.yaml").code == 2


class History(NamedTuple):
    """A run interrupted, killed and resumed: what each start left behind."""

    interrupted: Ran
    kept: dict[str, int]
    killed: Ran
    left: dict[str, int]
    whole: bool
    resumed: Ran


@pytest.fixture(scope="module")
def beside(
    process: Callable[..., subprocess.Popen[str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """The run that nothing happens to, started before the others and running beside them."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    started = process(COMMAND, [*LONG, *one_cell_a_chunk()], folder)
    yield started, folder
    started.kill()


@pytest.fixture(scope="module")
def uninterrupted(beside: tuple[subprocess.Popen[str], Path]) -> Ran:
    """The run that nothing happens to, at its end."""
    return finish(*beside)


@pytest.fixture(scope="module")
def history(
    process: Callable[..., subprocess.Popen[str]], tmp_path_factory: pytest.TempPathFactory, beside: object
) -> History:
    """The same run: SIGINT after a chunk, SIGKILL after two more, then to the end with another memory budget."""
    folder = tmp_path_factory.mktemp("history")
    first = process(["-c", INTERRUPTIBLE], [*LONG, *one_cell_a_chunk()], folder)
    until(1, first, folder)
    first.send_signal(signal.SIGINT)
    interrupted = finish(first, folder)
    kept = interrupted.chunks()
    second = process(COMMAND, LONG, folder)
    until(len(kept) + 2, second, folder)
    second.kill()
    killed = finish(second, folder)
    left = killed.chunks()
    stored = [decode((killed.folder / "chunks" / name).read_bytes())[1] for name in left]
    whole = all(chunk["error"].shape == (1, 1) and (chunk["status"] > 0).all() for chunk in stored)
    return History(interrupted, kept, killed, left, whole, finish(process(COMMAND, LONG, folder), folder))


@pytest.mark.slow
def test_interrupted_run_keeps_its_chunks_and_says_how_to_resume(history: History) -> None:
    assert history.interrupted.code == 130
    said = f"interrupted: {len(history.kept)} of {CELLS} chunks are kept in run; rerun to resume\n"
    assert history.interrupted.err == said
    assert 1 <= len(history.kept) < CELLS


@pytest.mark.slow
def test_killed_run_leaves_whole_chunks_only(history: History) -> None:
    assert history.killed.code == -signal.SIGKILL
    assert len(history.kept) + 2 <= len(history.left) < CELLS
    assert history.whole


@pytest.mark.slow
def test_resumed_run_has_the_bits_of_the_uninterrupted_one(history: History, uninterrupted: Ran) -> None:
    assert (uninterrupted.code, uninterrupted.err) == (0, "")
    assert (history.resumed.code, history.resumed.err) == (0, "")
    assert len(uninterrupted.chunks()) == CELLS
    assert same_bits(history.resumed.dataset, uninterrupted.dataset)


@pytest.mark.slow
def test_resumed_run_keeps_the_cut_and_the_chunks_of_the_first(history: History) -> None:
    final = history.resumed.chunks()
    assert len(final) == CELLS
    assert history.kept.items() <= history.left.items() <= final.items()
    assert json.loads((history.resumed.folder / "manifest.json").read_text())["layouts"] == [[1, 1, *["least"] * 3]]


@pytest.mark.slow
def test_two_at_once_in_one_directory_divide_the_chunks_and_both_succeed(
    process: Callable[..., subprocess.Popen[str]], tmp_path: Path, uninterrupted: Ran
) -> None:
    started = [process(COMMAND, [*LONG, *budget], tmp_path) for budget in (one_cell_a_chunk(), [])]
    for ran in [finish(one, tmp_path) for one in started]:
        assert (ran.code, ran.err) == (0, "")
    ((outer, inner, *_),) = json.loads((tmp_path / "run" / "manifest.json").read_text())["layouts"]
    assert len(ran.chunks()) == CELLS // (outer * inner)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["chunk"] for line in lines) == list(range(len(ran.chunks())))
    assert not [*tmp_path.rglob("*.part"), *tmp_path.rglob("*.lease")]
    xr.testing.assert_allclose(ran.dataset, uninterrupted.dataset, rtol=1e-4, atol=1e-6)
