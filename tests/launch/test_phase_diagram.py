"""The phase diagram: the try of a path is chosen without the truth; what is needed and what leads, by hand."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from launch.claims.experiment import read_claims
from launch.claims.greedy_pruning.phase import METHODS, Curve, curve_of, phase_diagram
from launch.config import DEFAULT

N = [40, 50, 60, 80]


def grid(method: str, error: np.ndarray, along: str = "penalty", **measures: np.ndarray) -> xr.Dataset:
    """A grid of ``method`` at d = 20, r = 2: errors (seed, n), or (seed, n, tries) with loss and rank."""
    dims = ("seed", "n", along)[: error.ndim]
    scalars = {"dim": 20, "true_rank": 2, "width": 10, "method": method, "condition": 1.0}
    scalars |= {"smoothing": 0.01, "baseline_penalty": 0.5, "penalty": 0.1}
    axes = {"seed": np.arange(len(error)), "n": N[: error.shape[1]]}
    axes |= {along: [0.1, 0.01]} if error.ndim == 3 else {}
    found = {name: (dims, values) for name, values in ({"error": error} | measures).items()}
    return xr.Dataset(found, scalars | axes, {"train_steps": 100})


def greedy(along: str = "penalty") -> xr.Dataset:
    """Four seeds: the first try recovers all but those of the first n."""
    error = np.full((4, 4, 2), 1e-5)
    error[:, 0] = 0.5
    both = {"loss": np.full(error.shape, 1e-9), "rank": np.full(error.shape, 2.0)}
    return grid("greedy_pruning", error, along, **both)


def test_the_try_of_a_path_is_the_smallest_rank_that_fits_and_the_truth_is_not_read():
    loss = np.array([[[1.0, 1e-8], [1e-8, 1e-8], [1.0, 1.0], [np.nan, 1e-8]]])
    rank = np.array([[[1.0, 2.0], [3.0, 2.0], [2.0, 2.0], [np.nan, 2.0]]])
    error = np.array([[[1e-9, 0.5], [0.5, 1e-5], [1e-9, 1e-9], [np.nan, 1e-5]]])
    expected = [[0, 1, 0, 1]]  # chosen: the second but for the third n, where none fits
    for along in ("penalty", "keep"):
        cells = grid("greedy_pruning", error, along, loss=loss, rank=rank)
        np.testing.assert_array_equal(curve_of(cells).recovered, expected)
        np.testing.assert_array_equal(curve_of(cells.isel({along: [1, 0]})).recovered, expected)


def test_equal_ranks_are_told_apart_by_the_larger_penalty():
    both = np.full((1, 1, 2), 1e-9)
    cells = grid("greedy_pruning", np.array([[[1e-5, 0.5]]]), loss=both, rank=both + 2)
    assert curve_of(cells).recovered.all()
    assert not curve_of(cells.assign(error=cells["error"].isel(penalty=[1, 0]).drop_vars("penalty"))).recovered.any()


def test_of_a_baselines_tries_the_first_that_fits_counts_whatever_its_rank():
    loss = np.array([[[1e-8, 1e-8], [1.0, 1e-8], [1.0, 1.0]]])
    rank = np.array([[[3.0, 2.0], [1.0, 2.0], [2.0, 2.0]]])
    error = np.array([[[1e-5, 0.5], [1e-5, 1e-5], [1e-5, 1e-5]]])
    cells = grid("irls", error, "baseline_penalty", loss=loss, rank=rank)
    np.testing.assert_array_equal(curve_of(cells).recovered, [[1, 1, 0]])


@pytest.mark.parametrize(
    ("rates", "needed"), [([0, 1, 1], 1.5), ([1, 0, 1], 2), ([1, 1, 1], 1), ([1, 1, 0], np.inf), ([0, 0, 0], np.inf)]
)
def test_what_is_needed_counts_from_the_last_failure_on(rates: list[int], needed: float):
    recovered = np.broadcast_to(np.array(rates, float), (5, 3))
    found = Curve(np.array([1, 1.5, 2]), recovered, "").needed()
    assert float(found.value) == float(found.low) == float(found.high) == needed


def test_what_is_needed_has_an_interval_over_the_instances():
    recovered = np.ones((20, 3))
    recovered[:, 0], recovered[:2, 1] = 0, 0  # 18 of 20: on the bar
    found = Curve(np.array([1, 1.5, 2]), recovered, "").needed()
    assert (float(found.value), float(found.low), float(found.high)) == (1.5, 1.5, 2.0)
    assert found.seeds == 20


def test_a_baseline_that_diverges_gives_no_lead_and_no_number():
    """One lost instance of four at 1.25, where the baseline recovers the others: neither a lead nor a tie is shown."""
    error = np.full((4, 4), 1e-5)
    error[2, 1] = np.nan
    found, _ = phase_diagram({"": greedy(), "irls": grid("irls", error)})
    assert np.isnan(found["lead over irls at 1.25, condition 1"].value)
    assert found["lead over irls at 1, condition 1"].value == -1
    assert np.isnan(found["n/(d r), irls, condition 1"].value)
    error[:, :2] = 0.5
    error[2, 0] = np.nan  # whatever this one had given, 1.5 are needed
    found, _ = phase_diagram({"": greedy(), "irls": grid("irls", error)})
    assert found["n/(d r), irls, condition 1"].value == 1.5
    lost = greedy()
    lost = lost.assign(error=lost["error"].where(lost["seed"] > 0))
    assert np.isnan(phase_diagram({"": lost})[0]["n/(d r), greedy_pruning, condition 1"].value)


def test_the_check_measures_what_the_config_expects_and_draws_a_panel_for_each_size():
    late = np.where(np.arange(4) < 3, 0.5, 1e-4) * np.ones((4, 1))
    late[0, 1] = 1e-4
    runs = {"": greedy(), "scan": greedy("keep"), "irls": grid("irls", greedy()["error"].values[..., 0])}
    runs |= {name: grid(name, late) for name in METHODS[3:]}
    ill = [cells.assign_coords(condition=10.0) for cells in (runs[""], runs["scan"])]
    hard = [cells.assign_coords(condition=100.0) for cells in runs.values()]
    runs[""] = xr.concat([runs[""], ill[0]], "condition", join="exact")
    runs |= {"ill scan": ill[1]} | {f"hard {place}": cells for place, cells in enumerate(hard)}
    found, figure = phase_diagram(runs)
    claim = next(c for c in read_claims(Path(DEFAULT.parent, "greedy_pruning"), True) if c.name == "phase_diagram")
    everywhere = {name.replace("condition 100", f"condition {c}") for name in found for c in (1, 10, 100)}
    assert set(claim.claim.expect) <= everywhere
    assert found["n/(d r), greedy_pruning, condition 10"].value == 1.25
    assert found["n/(d r), rank_scan, condition 10"].value == 1.25
    assert found["n/(d r), trace_norm, condition 100"].value == 2
    assert found["lead over small_start at 1.25, condition 1"].value == 0.75
    assert found["lead over irls at 1.25, condition 100"].value == 0
    first, second, third = (axes.get_title() for axes in figure.axes)
    assert first == "d = 20, r = 2, condition 1; 4 instances"
    assert "condition 10;" in second
    assert "not run: irls" in second
    assert "condition 100" in third
