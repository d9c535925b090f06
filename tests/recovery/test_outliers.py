"""Wild values: what a fit without some values costs, and the search for one."""

import numpy as np
import pytest

from gpsense.recovery import maps, outliers
from gpsense.recovery.path import Fit, Path
from gpsense.recovery.steps import Problem, balanced


def problem_of(seed, size=10.0, unit=1.0):
    """117 noisy entries of a symmetric matrix of rank 2 and side 20, four of them off by ``size``: problem, U, wild."""
    rng = np.random.default_rng(seed)
    factor = rng.standard_normal((20, 2))
    i, j = np.triu_indices(20)
    some = rng.permutation(i.size)[:117]
    map_ = maps.Entries(i[some], j[some], 20)
    y = map_.predict((factor,)) + 0.1 * rng.standard_normal(117)
    wild = np.sort(rng.permutation(117)[:4])
    y[wild] += size * rng.choice([-1, 1], 4)
    return Problem(map_, unit * y, np.ones(117)), np.sqrt(unit) * factor, wild


def test_price_is_the_formula_and_knows_no_units():
    rng = np.random.default_rng(0)
    for unit in (1e-6, 1.0, 1e9):
        problem, factor, wild = problem_of(0, unit=unit)
        residual = problem.residual((factor,))
        kept = np.delete(np.arange(117), wild)
        noise, apart = np.sum(residual[kept] ** 2) / (113 - 39), np.mean(residual[wild] ** 2)
        size = (1.4826 * np.median(np.abs(problem.values))) ** 2
        by_hand = 0.5 * (113 - 39) * np.log(noise / size) + 4 * (0.5 * np.log(apart / size) + np.log(117))
        assert outliers.price(problem, residual, kept, 39) == pytest.approx(by_hand, rel=1e-9)
        several = [outliers.price(problem, residual, np.delete(np.arange(117), wild[:count]), 39) for count in range(5)]
        assert np.all(np.diff(several) < 0)  # each wild value left out makes it cheaper
        sound = rng.permutation(kept)[:4]
        assert outliers.price(problem, residual, np.setdiff1d(kept, sound), 39) > several[-1]  # a sound one dearer
        assert outliers.price(problem, residual, kept[:41], 39) == np.inf


@pytest.mark.parametrize("seed", [303, 306, 309])
def test_search_leaves_out_what_is_wild(seed):
    problem, _, wild = problem_of(seed)
    nothing = balanced((np.zeros((20, 0)),), 1.0)
    path = Path(fits={0: Fit(nothing, 1.0)})
    found = outliers.searched(problem, path, nothing, np.arange(117), seed=0, exact=1e-8)
    assert found is not None
    assert found.state.sizes.size == 2
    np.testing.assert_array_equal(np.setdiff1d(np.arange(117), found.kept), wild)


def test_search_leaves_sound_values_alone():
    problem, factor, _ = problem_of(0, size=0.0)
    state = balanced((factor,), 1.0)
    path = Path(fits={2: Fit(state, problem.misfit((factor,)))})
    assert outliers.searched(problem, path, state, np.arange(117), seed=0, exact=1e-8) is None


def test_an_entry_far_beyond_the_values_is_seen():
    problem, factor, _ = problem_of(0)
    assert not outliers.far_beyond(problem, balanced((factor,), 1.0))
    assert outliers.far_beyond(problem, balanced((20 * factor,), 1.0))


@pytest.mark.parametrize("kind", [maps.Entries, maps.Distances, maps.Table])
def test_rows_that_lost_sound_values_get_them_back(kind):
    """By what most of their values agree on, though none of them is kept and one is wild."""
    rng = np.random.default_rng(5)
    first, second = np.triu_indices(12, 1)
    factors = (rng.standard_normal((12, 2)),) * (1 if kind is not maps.Table else 2)
    map_ = kind(first, second, 12 if kind is not maps.Table else (12, 12))
    y = map_.predict(factors)
    y[3] += 4.0
    problem = Problem(map_, y, np.ones(y.size))
    kept = np.flatnonzero((first != 0) & (second != 7))
    turned = factors[0].copy()
    turned[[0, 7]] = 3.0
    found = outliers.readmitted(problem, balanced((turned, *factors[1:]), 1.0), kept, seed=0)
    assert np.setdiff1d(np.arange(y.size), found.kept).tolist() == [3]
    np.testing.assert_allclose(map_.predict(found.state.factors)[found.kept], y[found.kept], atol=1e-8)
