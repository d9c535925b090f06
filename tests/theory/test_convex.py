"""The trace norm's count of measurements: against random matrices and where it is known."""

import numpy as np
import pytest

from gpsense.theory import trace_norm_samples
from gpsense.theory.convex import eigenvalue_density


@pytest.mark.parametrize("side", [1, 2, 5, 18])
def test_the_density_is_that_of_random_matrices(side):
    at, density = eigenvalue_density(side)
    weights = density * (at[1] - at[0])
    np.testing.assert_allclose(weights.sum(), side, rtol=1e-9)
    np.testing.assert_allclose(weights @ at**2, side * (side + 1) / 2, rtol=1e-9)  # E tr W^2
    np.testing.assert_allclose(weights @ np.maximum(at, 0) ** 2, side * (side + 1) / 4, rtol=1e-9)
    draws = np.random.default_rng(side).normal(size=(20_000, side, side))
    found = np.linalg.eigvalsh((draws + draws.transpose(0, 2, 1)) / 2)
    np.testing.assert_allclose(weights @ np.maximum(at - 1, 0), np.maximum(found - 1, 0).sum(1).mean(), rtol=0.1)


@pytest.mark.parametrize(("dim", "rank"), [(20, 2), (12, 1), (9, 4)])
def test_the_dimension_is_the_mean_squared_distance_to_the_cone_of_subgradients(dim, rank):
    """By its definition, in NumPy: one multiple for all matrices, the best of a fine grid of them."""
    draws = np.random.default_rng(0).normal(size=(20_000, dim - rank, dim - rank))
    found = np.linalg.eigvalsh((draws + draws.transpose(0, 2, 1)) / 2)
    multiples = np.linspace(0, 8, 161)
    tails = np.array([(np.maximum(found - t, 0) ** 2).sum(1).mean() for t in multiples])
    expected = rank * (rank + 1) / 2 + rank * (dim - rank) + (rank * multiples**2 + tails).min()
    np.testing.assert_allclose(trace_norm_samples(dim, rank), expected, rtol=5e-3)


def test_limits():
    """All numbers of a matrix of full rank, none of a zero matrix, and never fewer than the unknowns."""
    assert trace_norm_samples(20, 20) == 210.0
    assert trace_norm_samples(20, 0) == pytest.approx(0.0, abs=1e-9)
    for rank in (1, 2, 5, 19):
        assert 20 * rank - rank * (rank - 1) / 2 < trace_norm_samples(20, rank) < 210
    assert trace_norm_samples(20, 2) == pytest.approx(65.77, abs=0.01)
    with pytest.raises(ValueError, match="rank: 4 is not between 0 and dim 3; "):
        trace_norm_samples(3, 4)
