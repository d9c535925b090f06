"""The variance of uneven noise as a function of the values, and fits with weights by it."""

import numpy as np
import pytest

import gpsense
from gpsense.recovery import maps
from gpsense.recovery.noise import fitted_variance
from gpsense.recovery.solve import evened, solve


@pytest.mark.parametrize("law", [(0.5, 0.0, 0.0), (0.0, 2.0, 0.0), (0.0, 0.0, 0.3), (1.0, 0.0, 0.2)])
def test_the_variance_is_found_from_squared_residuals(law):
    rng = np.random.default_rng(0)
    expected = rng.normal(size=40_000) * 3
    truth = law[0] + law[1] * np.abs(expected) + law[2] * expected**2
    found = fitted_variance(expected, truth * rng.standard_normal(expected.size) ** 2)
    assert np.all(found.coefficients >= 0)
    large = truth > np.quantile(truth, 0.05)
    np.testing.assert_allclose(found.of(expected)[large], truth[large], rtol=0.08)


@pytest.mark.parametrize("unit", [1e-12, 1e9])
def test_the_variance_has_the_units_of_its_squares(unit):
    rng = np.random.default_rng(1)
    expected = rng.normal(size=300)
    squares = (0.1 + expected**2) * rng.standard_normal(300) ** 2
    plain, scaled = fitted_variance(expected, squares), fitted_variance(unit * expected, unit**2 * squares)
    np.testing.assert_allclose(scaled.of(unit * expected), unit**2 * plain.of(expected), rtol=1e-9)


@pytest.mark.parametrize("zeros", [0, 45])
def test_a_variance_is_never_zero(zeros):
    expected = np.r_[np.zeros(zeros), np.linspace(0, 1, 50 - zeros)]
    assert fitted_variance(expected, expected**2).of(np.zeros(1)) > 0


def _rank_one(seed, share):
    """Quadratic forms of a matrix of rank 2, with noise of a fifth of each value, and ``share`` of wild values."""
    rng = np.random.default_rng(seed)
    x, u = rng.standard_normal((250, 14)), rng.standard_normal((14, 2))
    clean = np.sum((x @ u) ** 2, axis=1)
    values = clean * (1 + 0.2 * rng.standard_normal(250))
    wild = np.sort(rng.permutation(250)[: round(share * 250)])
    values[wild] += 10 * np.std(clean)
    return x, u @ u.T, values, wild


@pytest.mark.parametrize("share", [0.0, 0.04])
def test_weights_by_the_variance_more_than_halve_the_error(share):
    ratios, inside = [], []
    for seed in range(3):
        x, truth, values, wild = _rank_one(seed, share)
        plain = solve(maps.RankOne(x), values)
        found = gpsense.recover({"x": x, "value": values})
        assert (found.rank, found.outliers.tolist()) == (2, wild.tolist())
        assert any("weighted by one over the variance" in each for each in found.notices)
        ratios.append(
            np.linalg.norm(found.matrix - truth) / np.linalg.norm(plain.factors[0] @ plain.factors[0].T - truth)
        )
        places = np.triu_indices(14)
        inside.append(np.abs(found.matrix - truth)[places] < 1.96 * found.standard_errors(*places))
    assert np.median(ratios) < 0.5
    assert 0.88 < np.mean(inside) < 0.995


def test_noise_is_that_of_a_value_of_median_variance_and_the_residual_that_of_all():
    x, truth, values, _ = _rank_one(5, 0.0)
    found = gpsense.recover({"x": x, "value": values})
    clean = np.einsum("ni,ij,nj->n", x, truth, x)
    assert found.noise == pytest.approx(0.2 * np.median(clean), rel=0.25)
    fitted = np.einsum("ni,ij,nj->n", x, found.matrix, x)
    assert found.residual == pytest.approx(np.sqrt(np.mean((fitted - values) ** 2)), rel=1e-9)


def test_repeats_are_weighted_by_their_number_and_count_in_the_residual():
    x, _, values, _ = _rank_one(6, 0.0)
    again = np.random.default_rng(6).permutation(values) * 0.02
    both, map_ = np.r_[values + again, values - again], maps.RankOne(np.r_[x, x])
    found = evened(map_, both, solve(map_, both, robust=False), robust=False)
    fitted = map_.predict(found.factors)
    assert found.residual == pytest.approx(np.sqrt(np.mean((fitted - both) ** 2)), rel=1e-9)


def test_a_rank_that_leaves_more_than_noise_is_not_taken_for_one_that_does_not():
    """Weighted, the price of outliers would buy one column here and leave the other in the residual."""
    rng = np.random.default_rng(0)
    left, right = rng.uniform(0.2, 2, size=(30, 2)), rng.uniform(0.2, 2, size=(24, 2))
    rows, columns = np.nonzero(rng.random((30, 24)) < 0.6)
    clean = (left @ right.T)[rows, columns]
    values = clean + 0.1 * np.abs(clean) * rng.normal(size=clean.size)
    wild = np.sort(rng.permutation(clean.size)[: round(0.05 * clean.size)])
    values[wild] += 10 * np.std(clean) * rng.choice([-1, 1], wild.size)
    found = gpsense.recover({"row": rows, "col": columns, "value": values})
    assert found.rank == 2
    assert set(wild) <= set(found.outliers)
