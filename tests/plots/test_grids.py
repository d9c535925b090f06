"""The pictures exist, are pictures, cope with every shape of grid, and go into axes that are given."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib import pyplot
from matplotlib.figure import Figure

from gpsense.errors import BadInput
from gpsense.plots import grids, plot_columns, plot_curves, plot_measure, view
from launch import figures

DIVERGED, MISSING = 3, -1


def make(axes: dict[str, Any], seeds: int = 3, columns: int = 6, tuned: int = 2, **scalars: Any) -> xr.Dataset:
    """Random results with the schema of results.nc: training records at 0, 10, .. 40, then ``tuned`` records."""
    random = np.random.default_rng(0)
    dims, shape = ("seed", *axes), (seeds, *(len(values) for values in axes.values()))
    numbers = {name: (dims, random.uniform(0.1, 1, shape)) for name in ("error", "error_trained", "error_pruned")}
    for name in ("loss_curve", "error_curve"):
        numbers[name] = ((*dims, "step"), random.uniform(0.1, 1, (*shape, 5 + tuned)))
    numbers["column_norms"] = ((*dims, "column"), -np.sort(-random.uniform(0, 1, (*shape, columns))))
    numbers["rank"] = (dims, random.integers(0, columns, shape).astype(float))
    numbers["status"] = (dims, np.ones(shape, np.int16))
    phase = ["train"] * 5 + ["fine_tune"] * tuned
    coords = {"seed": np.arange(seeds), **axes, "step": 10 * np.arange(5 + tuned), "phase": ("step", phase)}
    return xr.Dataset(numbers, coords | scalars, {"train_steps": 40})


def failing(dataset: xr.Dataset, status: int, **place: Any) -> xr.Dataset:
    """The same with the cells of a place failed: measures NaN, curves as they were."""
    dataset = dataset.copy(deep=True)
    for name in ("error", "error_trained", "error_pruned", "rank", "column_norms"):
        dataset[name][place] = np.nan
    dataset["status"][place] = status
    return dataset


def size(path: Path) -> tuple[int, int]:
    """Width and height that a PNG file states."""
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(head[16:20]), int.from_bytes(head[20:24])


PENALTY, NOISE, NAMES = [0.0, 0.01, 0.1, 0.3, 1.0], [0.1, 0.5], np.array(["gd", "adam"])
NOISY = make({"noise": NOISE, "penalty": PENALTY, "threshold": [0.1, 0.4]})
MIXED = make({"optimizer": NAMES, "penalty": PENALTY}, measurements="gaussian", smoothing=0.04)
GRIDS = {
    "no axis": (make({"dim": [5]}, smoothing=0.04), 2),
    "names, no fine-tuning, no threshold": (make({"optimizer": NAMES}, seeds=1, tuned=0, penalty=0.1), 4),
    "names and missing cells": (failing(MIXED, MISSING, penalty=slice(1, 3), seed=slice(1)), 4),
    "many axes and diverged cells": (failing(NOISY, DIVERGED, penalty=4), 4),
    "diverged throughout": (failing(make({"noise": NOISE, "penalty": PENALTY}), DIVERGED, seed=slice(None)), 0),
}


@pytest.mark.parametrize(("dataset", "lines"), [(NOISY, ["0", "0.01", "0.3", "1"]), (make({}), None)])
def test_columns_need_no_rank(dataset: xr.Dataset, lines: list[str] | None) -> None:
    legend = plot_columns(dataset.drop_vars("rank"), Figure().subplots(1, 2))[0].get_legend()
    assert lines == (legend and [text.get_text() for text in legend.get_texts()])


@pytest.mark.parametrize(("dataset", "count"), GRIDS.values(), ids=GRIDS.keys())
def test_every_shape_of_grid_is_drawn(dataset: xr.Dataset, count: int, tmp_path: Path) -> None:
    paths = figures.draw(dataset, tmp_path / "figures")
    assert [path.name for path in paths] == ["columns.png", "curves.png", "rank.png", "error.png"][:count]
    assert sorted(path.name for path in (tmp_path / "figures").glob("*")) == sorted(path.name for path in paths)
    for path in paths:
        width, height = size(path)
        assert 800 < width < 2000
        assert 500 < height < 1500


DRAWN = {
    "columns": (plot_columns, 2),
    "curves": (plot_curves, 2),
    "measure": (lambda dataset, axes=None: plot_measure(dataset, "error", axes, log=True), 1),
}


@pytest.mark.parametrize(("plot", "count"), DRAWN.values(), ids=DRAWN.keys())
@pytest.mark.parametrize("dataset", [MIXED, NOISY], ids=["named axis", "three axes"])
def test_axes_that_are_given_are_drawn_on_and_their_figure_left_alone(
    plot: Any, count: int, dataset: xr.Dataset
) -> None:
    figure = Figure()
    axes = figure.subplots(1, count)
    found = plot(dataset, axes)
    assert np.ravel(found).tolist() == np.ravel(axes).tolist()
    assert all(one.has_data() and one.get_xlabel() for one in np.ravel(found))
    assert figure.get_suptitle() == ""
    assert np.ravel(found)[0].get_legend() is not None or count == 1
    assert pyplot.get_fignums() == []


@pytest.mark.parametrize(("plot", "count"), DRAWN.values(), ids=DRAWN.keys())
def test_without_axes_a_figure_says_what_is_held_fixed(plot: Any, count: int) -> None:
    axes = np.ravel(plot(NOISY))
    assert axes.size == count
    assert "threshold 0.1 (first of 2)" in axes[0].figure.get_suptitle()
    assert pyplot.get_fignums() == [axes[0].figure.number]
    pyplot.close(axes[0].figure)


def test_what_cannot_be_drawn_is_refused() -> None:
    for wrong in (Figure().subplots(1, 3), [None, None], "ab"):
        with pytest.raises(BadInput, match="^axes: .*give 2"):
            plot_columns(MIXED, wrong)
    with pytest.raises(BadInput, match="no axis besides the seeds"):
        plot_measure(make({}), "rank")
    with pytest.raises(BadInput, match="no curves along steps; train for at least one step"):
        plot_curves(MIXED.isel(step=slice(1)))
    with pytest.raises(BadInput, match="no curves along steps; draw its measures by plot_measure"):
        plot_curves(MIXED.drop_dims("step"))


@pytest.mark.parametrize(
    ("dataset", "name", "words"),
    [
        (MIXED, "eror", "name: there is no 'eror'; did you mean error?"),
        (
            MIXED,
            "column_norms",
            r"name: column_norms has a further axis, column \(6 values\), beside those of the cells; "
            r"select one value, as dataset.isel\(column=0\)$",
        ),
        (
            MIXED.assign(mean=MIXED["error"].mean("seed")),
            "mean",
            "name: mean lacks the axis seed; give a variable of the dataset that has the axes seed, optimizer, pen",
        ),
        (
            MIXED.drop_vars("phase").median("seed"),
            "error",
            "dataset: it has no seeds; give the results with their seeds",
        ),
        (MIXED["error"], "error", "dataset: it holds no results of a grid; give the Dataset of a run"),
    ],
)
def test_a_measure_that_cannot_be_drawn_is_refused_with_the_remedy(dataset: Any, name: str, words: str) -> None:
    with pytest.raises(BadInput, match=f"^{words}"):
        plot_measure(dataset, name)


def test_one_value_of_a_measures_own_axis_is_drawn_as_the_refusal_says() -> None:
    axes = plot_measure(MIXED.isel(column=0), "column_norms")
    assert axes.has_data()
    pyplot.close(axes.figure)


def test_a_figure_of_a_selection_says_what_was_selected() -> None:
    marked = make({"n": [1, 2], "noise": NOISE, "penalty": PENALTY}, mu=0.5)
    for name in ("seed", "n", "noise", "penalty"):
        marked[name].attrs["listed"] = 1
    marked["mu"].attrs["section"] = "cell"
    axes = plot_measure(marked.sel(n=2, seed=1), "error")
    assert axes.figure.get_suptitle().splitlines()[1] == "n 2, mu 0.5"
    assert axes.figure.get_supxlabel() == "seed 1"
    assert "seed 1" in axes.figure.get_label()
    pyplot.close(axes.figure)


@pytest.mark.slow
def test_ten_thousand_cells_are_drawn(tmp_path: Path) -> None:
    grid = make({"penalty": np.linspace(0, 1, 100), "n": np.arange(100)}, seeds=1, columns=2, smoothing=0.04)
    assert len(figures.draw(grid, tmp_path)) == 4


@pytest.mark.slow
def test_500_columns_and_zeros_are_drawn_and_drawn_again(tmp_path: Path) -> None:
    wide = make({}, seeds=2, columns=500, smoothing=0.04)
    for name in ("error", "error_pruned", "rank", "column_norms", "loss_curve", "error_curve"):
        wide[name] = 0 * wide[name]
    first = [path.read_bytes() for path in figures.draw(wide, tmp_path)]
    (tmp_path / "curves.png").write_bytes(b"old")
    assert [path.read_bytes() for path in figures.draw(wide, tmp_path)] == first


def test_map_spans_the_longest_axes_with_penalty_on_x() -> None:
    assert view.plane(make({"n": [1, 2, 3, 4, 5, 6], "noise": NOISE, "penalty": PENALTY})) == ("penalty", "n")
    assert view.plane(make({"noise": [1, 2, 3], "rate": [1, 2, 3, 4], "penalty": [0, 1]})) == ("rate", "noise")
    assert view.plane(make({"optimizer": np.array(["a", "b", "c"]), "n": [1, 2]})) == ("n", "optimizer")
    assert view.plane(make({"penalty": [0.1], "noise": NOISE})) == ("noise",)
    assert view.plane(make({})) == ()


def test_threshold_is_the_given_one_else_from_smoothing() -> None:
    given = view.threshold_of(make({}, threshold=0.3, smoothing=0.04))
    default = view.threshold_of(make({"smoothing": [0.01, 0.04]}))
    assert given is not None
    assert float(given) == 0.3
    assert default is not None
    np.testing.assert_allclose(default, [0.2, 0.4])
    assert view.threshold_of(make({})) is None


def test_quantiles_over_seeds_leave_failed_ones_out() -> None:
    dataset = failing(make({"penalty": PENALTY}, seeds=7), DIVERGED, seed=slice(2, 5), penalty=slice(1, 3))
    dataset = failing(dataset, MISSING, penalty=4)
    curves = view.without_failures(dataset)["error_curve"]
    assert bool(curves.isel(penalty=4).isnull().all())
    found = view.over_seeds(curves, 0.16, 0.5, 0.84)
    expected = np.nanquantile(curves.isel(penalty=slice(4)).values, [0.16, 0.5, 0.84], axis=0)
    np.testing.assert_allclose(np.array(found)[:, :4], expected)
    assert np.isnan(np.array(found)[:, 4]).all()


def test_share_of_columns_above_a_share_of_the_largest() -> None:
    norms = np.array([[2.0, 1.0, 0.5, 0.0], [1.0, 1.0, np.nan, np.nan], [0.0, 0.0, 0.0, 0.0]])
    shares = np.array([0.0, 0.25, 0.6, 1.0])
    by_hand = [(4 / 4 + 1 + 1) / 3, (3 / 4 + 1 + 1) / 3, (1 / 4 + 1 + 1) / 3, (1 / 4 + 1 + 1) / 3]
    np.testing.assert_allclose(grids.share_above(norms, shares), by_hand)


def test_both_curves_are_joined_across_pruning_by_a_dotted_line():
    """The loss to its first record of fine-tuning, the error to what pruning left; both begin where training ended."""
    data = make({"penalty": PENALTY})
    loss, error = plot_curves(data, Figure().subplots(1, 2))
    end = int(data.attrs["train_steps"])
    steps, tuning = data["step"].values, (data["phase"] == "fine_tune").values
    for axes, to in ((loss, steps[tuning][0]), (error, end)):
        dotted = [line for line in axes.lines if line.get_linestyle() == ":"]
        solid = [line for line in axes.lines if line.get_linestyle() == "-" and line.get_color() in grids.PALETTE]
        assert len(dotted) == data.sizes["penalty"]
        for line, training, tuned in zip(dotted, solid[::2], solid[1::2], strict=True):
            assert list(line.get_xdata()) == [steps[~tuning][-1] if axes is loss else end, to]
            assert line.get_ydata()[0] == training.get_ydata()[-1]
            assert line.get_ydata()[1] == tuned.get_ydata()[0]


def test_a_figure_of_the_error_says_after_which_phase_and_numbers_both_ends_of_its_bar() -> None:
    axes = plot_measure(NOISY, "error", log=True)
    figure = axes.figure
    bar = figure.axes[1]
    assert "after fine-tuning" in figure.get_suptitle()
    assert bar.get_ylabel() == "median error after fine-tuning"
    low, high = axes.images[0].get_clim()
    numbers = [float(text.get_text()) for text in bar.get_yticklabels()]
    assert (numbers[0], numbers[-1]) == pytest.approx((low, high), rel=1e-2)
    pyplot.close(figure)
    alone = plot_measure(NOISY.drop_vars("error_trained"), "error", Figure().subplots())
    assert alone.figure.axes[1].get_ylabel() == "median error"


def test_names_of_variables_keep_their_letters_and_zero_is_not_cut() -> None:
    zero = NOISY.isel(noise=0, threshold=0).assign(est=0 * NOISY["rank"].isel(noise=0, threshold=0))
    axes = plot_measure(zero, "est")
    assert axes.figure.get_suptitle().startswith("est")
    assert axes.get_ylim()[0] < 0
    assert grids._digits(0.105) == "0.105"
    pyplot.close(axes.figure)


def test_labels_break_where_a_figure_is_narrow() -> None:
    long = NOISY.copy(deep=True)
    long["column_norms"].attrs |= {"long_name": "norms of the parts after training", "units": "units of the parameters"}
    axes = plot_columns(long, width=3.35)
    assert axes[1].get_xlabel() == "norms of the parts after training\n[units of the parameters]"
    pyplot.close(axes[0].figure)


def test_an_error_that_is_the_loss_is_drawn_once() -> None:
    same = NOISY.assign(error_curve=NOISY["loss_curve"])
    assert view.curves(same) == ["loss_curve"]
    assert plot_curves(same, Figure().subplots()).size == 1


def test_a_figure_says_how_many_values_it_leaves_out_and_what_the_parts_are() -> None:
    legend = plot_columns(NOISY, Figure().subplots(1, 2))[0].get_legend()
    assert legend.get_title().get_text() == "penalty (4 of 5 values)"
    own = NOISY.copy(deep=True)
    own["rank"].attrs["units"] = "parts"
    own["column_norms"].attrs["long_name"] = "norms of the parts after training, largest first"
    _, right = plot_columns(own)
    assert right.get_ylabel() == "parts per seed and bin"
    assert right.figure.get_suptitle().startswith("Norms of the parts after training")
    pyplot.close(right.figure)


def test_a_caption_has_the_main_settings_of_training_and_pruning() -> None:
    held = make({"penalty": PENALTY}, rate=0.02, smoothing=0.04, optimizer="gd", momentum=0.9)
    assert list(view.setting_words(held).values()) == [
        "optimizer gd",
        "rate 0.02",
        "smoothing 0.04",
        "threshold 0.4",
        "40 steps of training",
        "20 of fine-tuning",
    ]
    axes = plot_curves(held, width=3.35)
    caption = axes[0].figure.get_label()
    assert "; dotted: across pruning; " in caption
    assert caption.endswith("threshold 0.4, 40 steps of training, 20 of fine-tuning.")
    pyplot.close(axes[0].figure)
    assert view.setting_words(make({"penalty": PENALTY}, tuned=0)) == {"steps": "40 steps of training"}


@pytest.mark.parametrize(("width", "height"), [(3.35, 2.1), (6.9, 4), (2, 2)])
def test_numbers_in_cells_and_at_the_bar_stay_apart(width: float, height: float) -> None:
    """In fewer digits where three do not fit, none where two do not; at any size of the figure."""
    narrow = make({"noise": NOISE, "penalty": [0, 0.025, 0.05, 0.1, 0.2, 0.4]})
    narrow["error"] = 0.0637 + 0 * narrow["error"] + 0.04 * narrow["noise"]
    figure = pyplot.figure(figsize=(width, height), layout="constrained")
    with pyplot.rc_context({"font.size": 8}):
        axes = plot_measure(narrow, "error", figure.subplots(), log=True)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axes.texts]
    assert {len(text.get_text()) for text in axes.texts} <= ({5} if width < 4 else {6})
    assert len(boxes) == (0 if width < 3 else 12)
    cell = axes.bbox.width / 6
    assert all(box.width < cell - 2 for box in boxes)
    ticks = [text.get_window_extent() for text in figure.axes[1].get_yticklabels()]
    assert len(ticks) >= 2
    assert all(one.y1 <= other.y0 for one, other in pairwise(sorted(ticks, key=lambda box: box.y0)))
    pyplot.close(figure)
