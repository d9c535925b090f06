"""Recovery with rank and noise unknown: on every kind of map, at every scale, no worse than knowing the rank."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense.errors import BadInput
from gpsense.estimators.recover import recover
from gpsense.sensing.measurements import (
    Distances,
    Entries,
    dense_measurements,
    gaussian_measurements,
    rank_one_measurements,
)
from gpsense.sensing.truths import low_rank_truth
from launch import cities

SPECTRUM = (1.0, 0.6)


def _error(factor, truth):
    truth = np.asarray(truth)
    x, m = factor @ factor.T, truth @ truth.T
    return np.linalg.norm(x - m) / np.linalg.norm(m)


def _gaussian(seed, noise, dim=16, n=200):
    @jax.jit
    def draw():
        truth = low_rank_truth(jax.random.key(seed), dim, jnp.asarray(SPECTRUM))
        measurements = gaussian_measurements(jax.random.key(seed + 50), n, dim, jnp.float64)
        values = measurements.forward(truth) + noise * jax.random.normal(jax.random.key(seed + 99), (n,))
        return measurements, values, truth

    return draw()


@pytest.fixture(scope="module")
def noisy():
    measurements, values, truth = _gaussian(0, 0.1)
    return measurements, values, truth, recover(measurements, values, width=8)


def _known_rank(measurements, values, truth):
    """Least squares over factors of the true rank, by Gauss-Newton from the truth, in NumPy."""
    factor, rows = np.array(truth), np.asarray(jax.jit(lambda maps: maps.packed())(measurements))
    dim, rank = factor.shape
    upper = np.triu_indices(dim)
    weight = np.where(upper[0] == upper[1], 1.0, np.sqrt(2.0))
    for _ in range(8):
        residual = rows @ ((factor @ factor.T)[upper] * weight) - np.asarray(values)
        columns = []
        for a in range(dim):
            for j in range(rank):
                step = np.zeros((dim, dim))
                step[a] += factor[:, j]
                step[:, a] += factor[:, j]
                columns.append(rows @ (step[upper] * weight))
        factor = factor - np.linalg.lstsq(np.array(columns).T, residual, rcond=1e-9)[0].reshape(dim, rank)
    return factor


def test_noisy_gaussian_equals_least_squares_at_the_known_rank(noisy):
    measurements, values, truth, result = noisy
    assert result.rank == 2
    best = _error(_known_rank(measurements, values, truth), truth)
    np.testing.assert_allclose(_error(result.factor, truth), best, rtol=0.01)


def test_the_noise_level_is_estimated(noisy):
    assert 0.07 < noisy[3].noise < 0.16


def test_the_path_has_a_plateau_at_the_true_rank(noisy):
    ranks = noisy[3].path.rank
    assert np.sum(ranks == 2) >= 3
    assert ranks[0] <= 2 <= ranks[-1]
    assert np.all(np.diff(noisy[3].path.penalty) < 0)


def test_noiseless_recovery_is_exact_in_float64():
    measurements, values, truth = _gaussian(1, 0.0)
    result = recover(measurements, values, width=8)
    assert result.rank == 2
    assert _error(result.factor, truth) < 1e-9


def test_units_of_values_and_matrices_do_not_matter(noisy):
    measurements, values, _, result = noisy
    scaled = recover(dense_measurements(1e-3 * _matrices(measurements)), values * 1e5, width=8)
    assert scaled.rank == result.rank
    np.testing.assert_allclose(
        scaled.factor @ scaled.factor.T, 1e8 * result.factor @ result.factor.T, rtol=1e-5, atol=1.0
    )
    np.testing.assert_allclose(scaled.noise, 1e5 * result.noise, rtol=1e-4)


def _matrices(measurements):
    from tests import reference

    return jnp.asarray(reference.unpacked(np.asarray(measurements.rows), measurements.dim))


@pytest.mark.slow
def test_rank_one_vectors():
    truth = low_rank_truth(jax.random.key(3), 12, jnp.asarray(SPECTRUM))
    measurements = rank_one_measurements(jax.random.key(4), 300, 12, jnp.float64)
    values = measurements.forward(truth) + 0.1 * jax.random.normal(jax.random.key(5), (300,))
    result = recover(measurements, values, width=8)
    assert result.rank == 2
    assert _error(result.factor, truth) < 0.03


@pytest.mark.slow
def test_half_of_the_entries():
    truth = np.asarray(low_rank_truth(jax.random.key(6), 20, jnp.asarray(SPECTRUM)))
    rng = np.random.default_rng(7)
    rows, cols = np.triu_indices(20)
    seen = np.sort(rng.permutation(rows.size)[: rows.size // 2])
    measurements = Entries(jnp.asarray(rows[seen]), jnp.asarray(cols[seen]), 20)
    values = measurements.forward(jnp.asarray(truth)) + 1e-3 * rng.standard_normal(seen.size)
    result = recover(measurements, values, width=8)
    assert result.rank == 2
    assert _error(result.factor, truth) < 0.05


@pytest.mark.slow
def test_pure_noise_has_rank_zero():
    measurements = gaussian_measurements(jax.random.key(8), 120, 10, jnp.float64)
    result = recover(measurements, jax.random.normal(jax.random.key(9), (120,)), width=6)
    assert result.rank == 0
    assert result.factor.shape == (10, 0)
    assert np.isfinite(result.residual)


def test_the_same_seed_gives_the_same_bits(noisy):
    measurements, values, _, result = noisy
    again = recover(measurements, values, width=8)
    np.testing.assert_array_equal(again.factor, result.factor)


@pytest.mark.slow
def test_the_map_of_the_cities_comes_out_of_distances():
    """2 % noise, 30 % of the pairs: rank 2 and at most 3 % error of the centred Gram matrix, 8 of 10 draws at least."""
    good = []
    for seed in range(10):
        drawn = cities.example(0.3, 0.02, seed)
        first, second = (jnp.asarray(drawn.fields[name]) for name in ("i", "j"))
        result = recover(Distances(first, second, len(drawn.places)), jnp.asarray(drawn.fields["y"]), seed=seed)
        good.append(result.rank == 2 and drawn.score(result.factor)["error"] <= 0.03)
    assert len(drawn.places) >= 60
    assert sum(good) >= 8


@pytest.mark.parametrize(
    ("values", "line"),
    [
        (np.zeros(30), "y: is all zero"),
        (np.full(30, np.nan), "y: holds NaN or infinity"),
        (np.ones(29), r"y: shape \(29,\) for 30 measurements"),
    ],
)
def test_values_that_cannot_be_used_are_refused(values, line):
    measurements = gaussian_measurements(jax.random.key(0), 30, 4, jnp.float64)
    with pytest.raises(BadInput, match=line):
        recover(measurements, jnp.asarray(values))


def test_too_few_measurements_and_wrong_signs_are_refused():
    few = gaussian_measurements(jax.random.key(0), 4, 4, jnp.float64)
    with pytest.raises(BadInput, match="only 4 measurements"):
        recover(few, jnp.ones(4))
    vectors = rank_one_measurements(jax.random.key(0), 30, 4, jnp.float64)
    with pytest.raises(BadInput, match="no positive eigenvalue"):
        recover(vectors, -jnp.ones(30))
