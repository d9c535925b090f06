"""The phase diagram: the cell of a path is chosen without the truth; what is needed and what leads, by hand."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from launch.claims.experiment import read_claims
from launch.claims.greedy_pruning.phase import curve_of, phase_diagram, threshold
from launch.config import DEFAULT

N = [40, 50, 60, 80]


def grid(method: str, error: np.ndarray, condition: float = 1.0, **measures: np.ndarray) -> xr.Dataset:
    """A grid of ``method`` at d = 20, r = 2: errors (seed, n), or (seed, n, penalty) with loss and rank."""
    dims = ("seed", "n", "penalty")[: error.ndim]
    scalars = {"dim": 20, "true_rank": 2, "width": 10, "method": method, "condition": condition}
    scalars |= {"smoothing": 0.01, "baseline_penalty": 0.5}
    axes = {"seed": np.arange(len(error)), "n": N[: error.shape[1]]}
    axes |= {"penalty": [0.1, 0.01]} if error.ndim == 3 else {"penalty": 0.1}
    found = {name: (dims, values) for name, values in ({"error": error} | measures).items()}
    return xr.Dataset(found, axes | scalars, {"train_steps": 100})


def greedy(condition: float = 1.0) -> xr.Dataset:
    """Four seeds: the larger penalty recovers all but those of the first n."""
    error = np.full((4, 4, 2), 1e-5)
    error[:, 0] = 0.5
    return grid("greedy_pruning", error, condition, loss=np.full(error.shape, 1e-9), rank=np.full(error.shape, 2.0))


def test_the_cell_of_a_path_is_the_smallest_rank_that_fits_and_the_truth_is_not_read():
    loss = np.array([[[1.0, 1e-8], [1e-8, 1e-8], [1.0, 1.0], [np.nan, 1e-8]]])
    rank = np.array([[[1.0, 2.0], [3.0, 2.0], [2.0, 2.0], [np.nan, 2.0]]])
    error = np.array([[[1e-9, 0.5], [0.5, 1e-5], [1e-9, 1e-9], [np.nan, 1e-5]]])
    cells = grid("greedy_pruning", error, loss=loss, rank=rank)
    expected = [[False, True, False, True]]  # chosen: the second but for the third n, where none fits
    np.testing.assert_array_equal(curve_of(cells).recovered, expected)
    np.testing.assert_array_equal(curve_of(cells.isel(penalty=[1, 0])).recovered, expected)


def test_equal_ranks_are_told_apart_by_the_larger_penalty():
    both = np.full((1, 1, 2), 1e-9)
    cells = grid("greedy_pruning", np.array([[[1e-5, 0.5]]]), loss=both, rank=both + 2)
    assert curve_of(cells).recovered.all()
    assert not curve_of(cells.assign(error=cells["error"].isel(penalty=[1, 0]).drop_vars("penalty"))).recovered.any()


@pytest.mark.parametrize(
    ("rates", "needed"), [([0, 1, 1], 1.5), ([1, 0, 1], 2), ([1, 1, 1], 1), ([1, 1, 0], np.inf), ([0, 0, 0], np.inf)]
)
def test_what_is_needed_counts_from_the_last_failure_on(rates: list[int], needed: float):
    recovered = np.broadcast_to(np.array(rates, bool), (5, 3))
    assert threshold(np.array([1, 1.5, 2]), recovered) == needed


def test_the_check_measures_what_the_config_expects_and_draws_a_panel_for_each_size():
    late = np.where(np.arange(4) < 3, 0.5, 1e-4) * np.ones((4, 1))
    late[0, 1] = 1e-4
    runs = {"": greedy(), "irls": grid("irls", greedy()["error"].values[..., 0]), "ill": greedy(condition=10)}
    runs |= {name: grid(name, late) for name in ("trace_norm", "scaled_gd_lambda", "small_start")}
    found, figure = phase_diagram(runs)
    claim = next(c for c in read_claims(Path(DEFAULT.parent, "greedy_pruning"), True) if c.name == "phase_diagram")
    assert set(found) == set(claim.claim.expect)
    assert found["n/(d r), greedy_pruning"].value == found["greedy_pruning, worst panel"].value == 1.25
    assert found["n/(d r), trace_norm"].value == 2
    assert found["lead over small_start"].value == 0.75
    assert found["lead over irls"].value == 0
    first, second = (axes.get_title() for axes in figure.axes)
    assert first == "d = 20, r = 2, condition 1; 4 instances"
    assert "condition 10" in second
    assert "not run: trace_norm" in second
