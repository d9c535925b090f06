"""Intervals of claims: how often they cover, by simulation, and where seeds agree or a statistic has no value."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import bootstrap

from launch.claims.quantities import Quantity, independently, log_slope, mean, over_seeds, pooled_share, share

TRIALS = 300
Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]


def covered(found: Quantity, truth: float) -> float:
    assert found.low is not None
    assert found.high is not None
    return float(np.mean((found.low <= truth) & (truth <= found.high)))


@pytest.mark.parametrize(
    ("seeds", "draw", "truth", "least"),
    [
        (8, lambda rng, shape: rng.normal(3.0, 2.0, shape), 3.0, 0.9),
        (16, lambda rng, shape: rng.normal(3.0, 2.0, shape), 3.0, 0.92),
        (16, lambda rng, shape: rng.exponential(1.0, shape), 1.0, 0.88),
        (16, lambda rng, shape: rng.lognormal(0.0, 1.0, shape), np.exp(0.5), 0.84),
    ],
    ids=["normal, 8 seeds", "normal", "exponential", "lognormal"],
)
def test_means_are_covered_more_often_than_by_percentiles(seeds: int, draw: Draw, truth: float, least: float) -> None:
    """A percentile bootstrap covers 0.87, 0.92, 0.86 and 0.82 of these."""
    sample = draw(np.random.default_rng(1), (seeds, TRIALS))
    found = mean(sample)
    assert least <= covered(found, truth) <= 0.99
    drawn = np.random.default_rng(2).integers(0, seeds, (500, seeds))
    ends = np.quantile(sample[drawn].mean(axis=1), [0.025, 0.975], axis=0)
    assert covered(found, truth) > covered(Quantity(found.value, *ends), truth)


@pytest.mark.parametrize(("p", "alike"), [(0.9, 0.0), (0.9, 0.5), (0.5, 0.9), (0.97, 1.0)])
def test_shares_are_covered_where_cells_share_their_seeds(p: float, alike: float) -> None:
    """Twelve cells a seed whose successes correlate by ``alike``: a seed draws one for all of them, or not."""
    rng, seeds, cells = np.random.default_rng(3), 16, 12
    hits = []
    for _ in range(TRIALS):
        common, own = rng.random((seeds, 1)) < p, rng.random((seeds, cells)) < p
        hits.append(np.where(rng.random((seeds, cells)) < alike**0.5, common, own))
    assert np.mean([covered(pooled_share(hit), p) for hit in hits]) >= 0.88
    if 0.4 < alike < 1:  # as if all cells were independent: too narrow
        assert np.mean([covered(share(hit.reshape(-1)), p) for hit in hits]) < 0.85


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"),
    [(10, 10, 0.7225, 1.0), (0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (81, 263, 0.2553, 0.3662)],
)
def test_shares_have_wilsons_interval(hits: int, total: int, low: float, high: float) -> None:
    runs = np.arange(total) < hits
    for found in (share(runs), pooled_share(np.repeat(runs[:, None], 5, axis=1))):
        assert float(found.value) == pytest.approx(hits / total)
        np.testing.assert_allclose([found.low, found.high], [low, high], atol=1e-4)
        assert found.seeds == total


def test_a_share_of_some_cells_leaves_the_others_out() -> None:
    counted = np.array([[True, True, False], [True, False, False], [False, False, False]])
    found = pooled_share(np.array([[True, False, True], [True, True, True], [True] * 3]), counted)
    assert (float(found.value), found.seeds) == (0.75, 2)
    assert np.isnan(pooled_share(np.ones((3, 2)), False).value)


def test_one_failure_among_many_cells_does_not_narrow_an_interval_below_that_of_none() -> None:
    hits = np.ones((16, 24), bool)
    none = pooled_share(hits)
    hits[0, 0] = False
    one = pooled_share(hits)
    assert none.low is not None
    assert one.low is not None
    assert float(none.low) == pytest.approx(0.8064, abs=1e-4)
    assert float(one.low) < float(none.low) + 0.01


def test_the_bootstrap_is_scipys_at_the_level_that_few_seeds_ask_for() -> None:
    sample = np.random.default_rng(4).exponential(1.0, 12)
    found = mean(sample)
    wide, plain = (
        bootstrap((sample,), np.mean, n_resamples=20_000, method="BCa", confidence_level=level).confidence_interval
        for level in (0.9785, 0.95)  # 2 Phi(sqrt(12/11) t_11) - 1
    )
    np.testing.assert_allclose([found.low, found.high], wide, rtol=0.1)
    assert float(found.high) - float(found.low) > plain.high - plain.low
    np.testing.assert_array_equal(mean(sample).low, found.low)


def test_seeds_that_agree_have_no_spread_and_one_seed_tells_nothing() -> None:
    found = mean(np.full((16, 2), 4.0))
    np.testing.assert_array_equal([found.low, found.high], [[4, 4], [4, 4]])
    alone = mean([3.0])
    assert (float(alone.low), float(alone.high)) == (-np.inf, np.inf)


def test_resamples_without_a_value_count_as_beyond_either_end() -> None:
    sample = np.repeat([0.0, 1.0], [4, 12])
    often = over_seeds(lambda v: np.nan if v.mean() > 0.8 else v.mean(), sample)
    assert (float(often.low), float(often.high)) == (-np.inf, np.inf)
    high = over_seeds(lambda v: np.inf if v.mean() < 0.7 else 1.25, sample)
    assert (float(high.low), float(high.value), float(high.high)) == (1.25, 1.25, np.inf)


def test_what_is_paired_is_resampled_together() -> None:
    values = np.random.default_rng(2).normal(5.0, 1.0, 30)
    ratio = over_seeds(lambda a, b: a.mean() / b.mean(), values, 2 * values)
    assert (float(ratio.low), float(ratio.value), float(ratio.high)) == pytest.approx((0.5, 0.5, 0.5), rel=1e-12)


def test_arrays_of_different_length_are_resampled_on_their_own() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(1.0, 1.0, 40), rng.normal(2.0, 1.0, 20)
    found = independently(lambda a, b: a.mean() - b.mean(), one, other)
    assert found.seeds == 20
    half = 2.09 * np.sqrt(one.var(ddof=1) / 40 + other.var(ddof=1) / 20)
    assert float(found.high - found.low) / 2 == pytest.approx(half, rel=0.15)


def test_the_slope_of_a_power_law_is_its_power() -> None:
    x = np.array([1.0, 2.0, 5.0, 9.0])
    factors = np.random.default_rng(3).uniform(1, 2, (6, 1))
    found = log_slope(x, factors * x**-1.5)
    np.testing.assert_allclose([found.value, found.low, found.high], -1.5, rtol=1e-12)
