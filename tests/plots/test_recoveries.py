"""Recoveries drawn on axes: what stands on them, in a figure of their own or on axes that are given."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure

from gpsense.plots import plot_fit, plot_map, plot_ranks
from gpsense.plots._axes import whole_ticks
from gpsense.recovery.path import Fit, Step
from launch import cities

STEPS = tuple(Step(p, p / 10, rank, np.arange(rank, 0, -1.0)) for p, rank in ((1.0, 1), (0.7, 2), (0.5, 3)))
FITS = {rank: Fit(None, misfit, left, 1.0) for rank, misfit, left in ((0, 1.0, 3.0), (1, 0.4, 1.5), (2, 0.1, 0.6))}
FOUND = {"path": STEPS, "fits": FITS, "chosen_by": "edge", "rank": 2, "residual": 0.1, "outliers": np.array([1])}
RESULT = SimpleNamespace(**FOUND, squared=False, scale=lambda values: 2.0)
VALUES, PLACES = np.array([1.0, -4.0, 2.0]), np.array([[0.0, 1.0], [2.0, 3.0], [-1.0, 0.0]])
DRAWN = {
    "ranks": (lambda axes=None: plot_ranks(RESULT, axes), 2),
    "fit": (lambda axes=None: plot_fit(RESULT, VALUES + 0.1, VALUES, axes), 1),
    "map": (lambda axes=None: plot_map(["a", "b", "c"], PLACES, PLACES + 0.1, axes), 1),
}


@pytest.mark.parametrize(("plot", "count"), DRAWN.values(), ids=DRAWN.keys())
def test_axes_are_those_given_or_new(plot, count):
    figure = Figure()
    axes = figure.subplots(1, count)
    assert np.ravel(plot(axes)).tolist() == np.ravel(axes).tolist()
    assert figure.get_suptitle() == ""
    assert pyplot.get_fignums() == []
    new = np.ravel(plot())
    assert new.size == count
    assert all(one.has_data() and one.get_xlabel() and one.get_ylabel() for one in new)
    pyplot.close(new[0].figure)


def test_a_fit_that_leaves_no_noise_has_no_ratio_to_it():
    fits = FITS | {2: Fit(None, 0.0, 0.0, 0.0), 3: Fit(None, 0.0)}
    _, right = plot_ranks(SimpleNamespace(**{**vars(RESULT), "fits": fits}), Figure().subplots(1, 2))
    np.testing.assert_array_equal(right.lines[0].get_xdata(), [0, 1])


def test_the_chosen_rank_and_the_points_are_where_they_belong():
    left, right = plot_ranks(RESULT, Figure().subplots(1, 2))
    np.testing.assert_allclose(left.lines[0].get_xdata(), [1.0, 0.7, 0.5])
    np.testing.assert_allclose(right.lines[0].get_ydata(), [3.0, 1.5, 0.6])
    np.testing.assert_allclose(right.lines[-1].get_xdata(), 2)
    found = plot_map(["a", "b", "c"], PLACES, PLACES + 0.1, Figure().subplots())
    np.testing.assert_allclose(found.lines[-1].get_xydata(), PLACES + 0.1)
    assert [text.get_text() for text in found.texts] == ["a", "b", "c"]
    fit = plot_fit(RESULT, VALUES + 0.1, VALUES, Figure().subplots())
    assert fit.get_title() == "Rank 2, root mean square residual 0.1\n(5.00% of the rms of y)"
    np.testing.assert_allclose(fit.lines[-2].get_xydata(), [[1.0, 1.1], [2.0, 2.1]])
    assert fit.lines[-1].get_xydata().size == 0
    assert fit.get_xlim()[0] > 0
    assert [text.get_text() for text in fit.get_legend().get_texts()] == ["left out (1 of 1 beyond the axes)"]
    near = np.array([1.0, 1.4, 2.0])
    fit = plot_fit(RESULT, near + 0.1, near, Figure().subplots())
    np.testing.assert_allclose(fit.lines[-1].get_xydata(), [[1.4, 1.5]])
    assert [text.get_text() for text in fit.get_legend().get_texts()] == ["left out"]


def test_plain_distances_are_drawn_as_they_were_measured():
    result = SimpleNamespace(**vars(RESULT) | {"squared": True, "outliers": np.zeros(0, int)})
    fit = plot_fit(result, np.array([4.0, -1.0]), np.array([9.0, 1.0]), Figure().subplots())
    np.testing.assert_allclose(fit.lines[-1].get_xydata(), [[3.0, 2.0], [1.0, 0.0]])
    assert fit.get_xlabel() == "measured distance"


@pytest.mark.parametrize("low", [1e-9, 0.05, 0.4])
def test_words_of_the_figures_hide_nothing_and_are_not_cut(low):
    """Legends below their axes, titles within the figure, numbers in plain digits on logarithmic axes."""
    fits = {rank: Fit(None, low ** (rank / 2), 2.0, 1.0) for rank in range(3)}
    result = SimpleNamespace(**{**vars(RESULT), "fits": fits, "residual": 1.234e-15})
    for axes in (plot_ranks(result), np.ravel(plot_fit(result, VALUES, VALUES))):
        figure = axes[0].figure
        figure.canvas.draw()
        width, height = figure.canvas.get_width_height()
        for one in axes:
            title = one.title.get_window_extent()
            assert (title.x0 >= 0, title.x1 <= width, title.y1 <= height) == (True, True, True)
            if one.get_yscale() == "log":
                legend = one.get_legend().get_window_extent()
                assert legend.y1 < one.get_window_extent().y0
                assert legend.y0 >= 0
                assert not any("times" in tick.get_text() for tick in one.get_xticklabels() + one.get_yticklabels())
        pyplot.close(figure)


def test_a_rank_beyond_the_path_is_explained_and_every_line_is_named():
    axes = plot_ranks(SimpleNamespace(**{**vars(RESULT), "path": STEPS[:1], "rank": 2}))
    told = axes[0].figure.get_supxlabel()
    assert told.startswith(
        "Where the path ended, 1 column had passed the threshold; rank 2 was found by adding columns"
    )
    named = {text.get_text() for text in axes[1].get_legend().get_texts()}
    assert {"largest from noise alone", "chosen: rank 2"} <= named
    assert len(named) == len(axes[1].lines)
    pyplot.close(axes[0].figure)
    axes = plot_ranks(SimpleNamespace(**{**vars(RESULT), "path": ()}))
    assert "no path" in axes[0].texts[0].get_text()
    assert axes[0].figure.get_supxlabel() == ""
    pyplot.close(axes[0].figure)


def test_large_numbers_stand_at_their_ticks():
    axes = Figure().subplots()
    axes.plot([0, 2e8], [0, 1])
    whole_ticks(axes.xaxis)
    axes.figure.canvas.draw()
    assert "1e8" in [text.get_text() for text in axes.get_xticklabels()]
    assert axes.xaxis.get_offset_text().get_text() == ""


def test_no_name_on_the_map_of_cities_lies_over_another_point():
    example = cities.example()
    axes = plot_map(example.names, example.places, example.places)
    axes.figure.canvas.draw()
    points = axes.transData.transform(example.places)
    over = [
        (text.get_text(), name)
        for text in axes.texts
        for name, point in zip(example.names, points, strict=True)
        if text.get_window_extent().contains(*point)
    ]
    pyplot.close(axes.figure)
    assert len(axes.texts) == 72
    assert over == []
