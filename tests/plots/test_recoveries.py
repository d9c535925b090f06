"""Recoveries drawn on axes: what stands on them, in a figure of their own or on axes that are given."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure

from gpsense.plots import plot_fit, plot_map, plot_ranks
from gpsense.recovery.path import Fit, Step

STEPS = tuple(Step(p, p / 10, rank, np.arange(rank, 0, -1.0)) for p, rank in ((1.0, 1), (0.7, 2), (0.5, 3)))
FITS = {rank: Fit(None, misfit, left, 1.0) for rank, misfit, left in ((0, 1.0, 3.0), (1, 0.4, 1.5), (2, 0.1, 0.6))}
RESULT = SimpleNamespace(path=STEPS, fits=FITS, chosen_by="edge", rank=2, residual=0.1, outliers=np.array([1]))
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


def test_the_chosen_rank_and_the_points_are_where_they_belong():
    left, right = plot_ranks(RESULT, Figure().subplots(1, 2))
    np.testing.assert_allclose(left.lines[0].get_xdata(), [1.0, 0.7, 0.5])
    np.testing.assert_allclose(right.lines[0].get_ydata(), [3.0, 1.5, 0.6])
    np.testing.assert_allclose(right.lines[-1].get_xdata(), 2)
    found = plot_map(["a", "b", "c"], PLACES, PLACES + 0.1, Figure().subplots())
    np.testing.assert_allclose(found.lines[-1].get_xydata(), PLACES + 0.1)
    assert [text.get_text() for text in found.texts] == ["a", "b", "c"]
    fit = plot_fit(RESULT, VALUES + 0.1, VALUES, Figure().subplots())
    share = 0.1 / np.sqrt(np.mean(np.square(VALUES)))
    assert fit.get_title() == f"Rank 2, residual 0.1 ({share:.2%} of y, root mean square)"
    np.testing.assert_allclose(fit.lines[-1].get_xydata(), [[-4.0, -3.9]])
    assert [text.get_text() for text in fit.get_legend().get_texts()] == ["left out"]
