"""Wild values: what a fit without some values costs, and the search for one."""

import numpy as np
import pytest

from gpsense import recover
from gpsense.recovery import maps, outliers
from gpsense.recovery.path import Fit, Path
from gpsense.recovery.solve import solve
from gpsense.recovery.steps import Problem, balanced, descend
from launch.bench.trial import draw
from tests.parameters import first_quick


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


def test_what_a_residual_keeps_of_the_noise_is_that_of_another_fit():
    """A fit follows a value that moves by its leverage; what it predicts of one left out varies by those of others."""
    problem, factor, wild = problem_of(0, size=0.0)
    sound = problem.map.predict((factor,))  # at little noise, so that second derivatives add little
    problem = Problem(problem.map, sound + 0.01 * (problem.values - sound), problem.weights)
    kept = np.delete(np.arange(117), wild)

    def fitted(moved, by):
        values = problem.values.copy()
        values[moved] += by
        part = Problem(problem.map, values, problem.weights).take(kept)
        state = descend(part, balanced((factor,), 1.0), steps=50, tolerance=1e-14)
        return state.factors, problem.map.predict(state.factors)

    step = 1e-4
    slopes = np.array([fitted(i, step)[1] - fitted(i, -step)[1] for i in range(117)]) / (2 * step)
    follows = np.diagonal(slopes)
    wanted = np.where(np.isin(np.arange(117), kept), 1 - follows, 1 + np.sum(slopes[kept] ** 2, axis=0))
    found = outliers.remaining(problem, fitted(0, 0.0)[0], kept)
    assert np.sum(1 - found[kept]) == pytest.approx(39, abs=1e-6)  # leverages add up to the unknowns
    np.testing.assert_allclose(found, wanted, atol=5e-3, rtol=5e-3)
    for unit in (1e-9, 1e9):
        scaled = Problem(problem.map, unit * problem.values, problem.weights)
        again = outliers.remaining(scaled, (np.sqrt(unit) * fitted(0, 0.0)[0][0],), kept)
        np.testing.assert_allclose(again, found, rtol=1e-6)


@pytest.mark.parametrize(("deviations", "seed"), [(12, 1), (12, 6), (15, 4), (15, 11), (20, 2)])
def test_values_that_a_fit_follows_closely_are_told_by_their_leverage(deviations, seed):
    """Wild values on the diagonal, followed by three quarters, are left out, and a sound one there is not."""
    rng = np.random.default_rng(seed)
    factor = np.linalg.qr(rng.normal(size=(25, 3)))[0] * np.sqrt([25, 12, 6])
    i, j = np.triu_indices(25)
    y = (factor @ factor.T)[i, j] + 0.01 * rng.normal(size=i.size)
    wild = np.sort(rng.permutation(i.size)[:16])
    y[wild] += 0.01 * deviations * rng.choice([-1, 1], 16)
    found = recover({"rows": i, "cols": j, "value": y})
    assert found.rank == 3
    np.testing.assert_array_equal(found.outliers, wild)


@pytest.mark.parametrize("seed", first_quick([83, 238]))
def test_a_column_is_not_saved_by_leaving_a_sound_value_out(seed):
    map_, y, factor = draw(seed)
    found = solve(map_, y)
    assert found.rank == factor.shape[1]
    assert not found.outliers.size


def test_offsets_of_a_table_take_their_part_of_the_noise():
    """``1 - h`` of a table with offsets: its values' share of the projection off all that the model can move."""
    rng = np.random.default_rng(0)
    i, j = (each.ravel() for each in np.indices((9, 7)))
    factors = rng.standard_normal((9, 1)), rng.standard_normal((7, 1))
    problem = Problem(maps.Table(i, j, (9, 7)), rng.standard_normal(63), np.ones(63))
    moves = np.zeros((63, 9 + 7 + 9 + 7))
    places = np.arange(63)
    moves[places, i], moves[places, 9 + j] = factors[1][j, 0], factors[0][i, 0]
    moves[places, 16 + i] = moves[places, 25 + j] = 1.0
    hat = moves @ np.linalg.pinv(moves, rcond=1e-10)
    assert np.trace(hat) == pytest.approx(9 + 7 - 1 + 9 + 7 - 3)  # less the scale, two means moved and a constant
    np.testing.assert_allclose(outliers.remaining(problem, factors, None, offsets=True), 1 - np.diag(hat), atol=1e-6)
