"""Recoveries drawn on axes: what stands on them, in a figure of their own or on axes that are given."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure

from gpsense.plots import plot_fit, plot_map, plot_path

PENALTIES = np.geomspace(1e-3, 1, 5)
PATH = SimpleNamespace(
    penalty=PENALTIES,
    held_out_error=1 + PENALTIES,
    rank=np.array([4, 3, 2, 2, 1]),
    column_norms=np.linspace(0, 1, 20).reshape(5, 4),
    smoothing=np.full(5, 1e-3),
)
RESULT = SimpleNamespace(path=PATH, chosen=2, rank=2, residual=0.1)
VALUES, PLACES = np.array([1.0, -4.0, 2.0]), np.array([[0.0, 1.0], [2.0, 3.0], [-1.0, 0.0]])
DRAWN = {
    "path": (lambda axes=None: plot_path(RESULT, axes), 3),
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


def test_the_chosen_penalty_and_the_points_are_where_they_belong():
    left = plot_path(RESULT, Figure().subplots(1, 3))[0]
    np.testing.assert_allclose(left.lines[-1].get_xdata(), PENALTIES[2])
    found = plot_map(["a", "b", "c"], PLACES, PLACES + 0.1, Figure().subplots())
    np.testing.assert_allclose(found.lines[-1].get_xydata(), PLACES + 0.1)
    assert [text.get_text() for text in found.texts] == ["a", "b", "c"]
    fit = plot_fit(RESULT, VALUES + 0.1, VALUES, Figure().subplots())
    assert "rank 2, residual 0.1 = 0.025 of the largest y" in fit.get_title()
