"""The bound on the restricted isometry constant: proven by its matrices, exact where the constant is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense.errors import BadInput
from gpsense.sensing.isometry import isometry_constant_bound
from gpsense.sensing.measurements import Dense, Entries, gaussian_measurements, rank_one_measurements
from tests import reference

DIM = 4
PACKED = DIM * (DIM + 1) // 2


RANKS, STEPS, KEY = (1, 2, 4), 1000, jax.random.key(4)


@pytest.fixture(scope="module")
def gaussian():
    return gaussian_measurements(jax.random.key(3), 60, DIM, jnp.float64)


@pytest.fixture(scope="module")
def bounds(gaussian):
    """A Gaussian map's bound at several ranks, the last of them full."""
    return {rank: isometry_constant_bound(gaussian, rank, KEY, steps=STEPS) for rank in RANKS}


def test_the_matrices_have_their_rank_and_prove_the_bound(gaussian, bounds):
    """Ratios recomputed in NumPy with loops."""
    matrices = reference.unpacked(np.asarray(gaussian.rows), DIM)
    for rank, bound in bounds.items():
        for value, matrix in ((bound.largest, bound.at_largest), (bound.smallest, bound.at_smallest)):
            x = np.asarray(matrix)
            ratio = np.mean([reference.inner(a, x) ** 2 for a in matrices]) / reference.inner(x, x)
            np.testing.assert_allclose(value, ratio, rtol=1e-12)
            np.testing.assert_allclose(x, x.T, atol=1e-14)
            assert np.linalg.matrix_rank(x, tol=1e-12) == rank
        assert float(bound.delta) == max(float(bound.largest) - 1, 1 - float(bound.smallest))


def test_full_rank_gives_the_eigenvalues_of_the_gram_matrix(gaussian, bounds):
    eigenvalues = np.linalg.eigvalsh(np.asarray(gaussian.rows).T @ np.asarray(gaussian.rows) / gaussian.n)
    np.testing.assert_allclose(bounds[DIM].largest, eigenvalues[-1], rtol=1e-8)
    np.testing.assert_allclose(bounds[DIM].smallest, eigenvalues[0], rtol=1e-8)


def test_rank_one_ends_equal_a_search_over_the_sphere(gaussian, bounds):
    """Brute force: random unit vectors x, the ratio at x x^T, never beyond the bound and nearly reaching it."""
    x = np.random.default_rng(0).normal(size=(100_000, DIM))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    matrices = reference.unpacked(np.asarray(gaussian.rows), DIM)
    ratios = sum(np.sum((x @ a) * x, axis=1) ** 2 for a in matrices) / len(matrices)
    assert 0 <= float(bounds[1].largest) - ratios.max() < 0.03
    assert 0 <= ratios.min() - float(bounds[1].smallest) < 0.03


def test_the_constant_grows_with_the_rank(bounds):
    assert np.all(np.diff([float(bound.largest) for bound in bounds.values()]) > -1e-9)
    assert np.all(np.diff([float(bound.smallest) for bound in bounds.values()]) < 1e-9)


def test_the_constant_falls_with_the_measurements(gaussian, bounds):
    """Fewer measurements are the first rows, repeated so that one program serves."""
    repeated = [Dense(jnp.tile(gaussian.rows[:n], (60 // n, 1))) for n in (12, 30)]
    few, more = (float(isometry_constant_bound(each, 2, KEY, steps=STEPS).delta) for each in repeated)
    assert few > more > float(bounds[2].delta)
    assert few > 2 * float(bounds[2].delta)


def test_an_isometry_has_constant_zero():
    columns, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(60, PACKED)))
    bound = isometry_constant_bound(Dense(jnp.asarray(np.sqrt(60) * columns)), 2, KEY, steps=STEPS)
    assert abs(float(bound.delta)) < 1e-13


def test_rank_one_measurements_are_far_from_isometric_in_float32():
    """``E<A, X>^2 = 2 ||X||^2 + (tr X)^2`` is r + 2 at a projection of rank r."""
    bound = isometry_constant_bound(rank_one_measurements(KEY, 20_000, DIM), 2, KEY)
    np.testing.assert_allclose(bound.largest, 4.0, rtol=0.1)
    assert float(bound.delta) > 2.5
    assert all(each.dtype == jnp.float32 for each in bound)


def test_entries_miss_what_they_do_not_see():
    """A map of diagonal entries alone sends other matrices to zero; its integers state no dtype, JAX's own is used."""
    bound = isometry_constant_bound(Entries(jnp.arange(DIM), jnp.arange(DIM), DIM), 2, KEY)
    np.testing.assert_allclose([bound.smallest, bound.largest], [0.0, 0.25], rtol=1e-12, atol=1e-6)
    assert bound.at_smallest.dtype == jnp.float64


@pytest.mark.parametrize("rank", [0, DIM + 1])
def test_a_rank_out_of_range_is_refused(gaussian, rank):
    with pytest.raises(BadInput, match="rank"):
        isometry_constant_bound(gaussian, rank, KEY)
