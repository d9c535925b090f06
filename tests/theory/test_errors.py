"""Error laws against projections of simulated noise."""

import jax.numpy as jnp
import numpy as np

from gpsense import theory
from tests.compiled import Compiled

LAWS = Compiled(theory)


def test_noise_floor_and_exact_rank_error_are_their_formulas():
    np.testing.assert_allclose(LAWS.noise_floor(1.0, 20, 400), np.sqrt(0.1), rtol=1e-12)
    np.testing.assert_allclose(LAWS.exact_rank_error(2.0, 30, 2, 3000), 2 * np.sqrt(59 / 3000), rtol=1e-12)


def test_best_fits_to_a_noisy_truth_err_as_the_laws_say():
    """Many measurements show M plus a symmetric Gaussian matrix; its best rank-r and best semidefinite fits."""
    dim, rank, noise, n, rng = 9, 2, 1.0, 1_000_000, np.random.default_rng(0)
    truth = np.diag([1.0, 0.7] + [0.0] * (dim - rank))
    draw = rng.normal(size=(4000, dim, dim)) * noise / np.sqrt(n)
    values, vectors = np.linalg.eigh(truth + (draw + draw.transpose(0, 2, 1)) / 2)
    for law, least in ((LAWS.unpruned_error, 0.0), (LAWS.exact_rank_error, 0.1)):
        fit = (vectors * np.where(values > least, values, 0)[:, None]) @ vectors.transpose(0, 2, 1)
        measured = np.sqrt(((fit - truth) ** 2).sum((1, 2)).mean())
        np.testing.assert_allclose(law(noise, dim, rank, n), measured, rtol=0.01)


def test_eigenvalues_without_a_column_are_wholly_lost():
    spectrum = jnp.asarray([1.0, 0.5, 0.05])
    roots = LAWS.column_root(spectrum, 0.2, 0.01)
    assert np.isnan(roots).tolist() == [False, False, True]
    left = np.array([1.0, 0.5, 0.05]) - np.nan_to_num(roots)
    np.testing.assert_allclose(LAWS.bias(spectrum, 0.2, 0.01), np.linalg.norm(left), rtol=1e-10)
    relative = np.linalg.norm(left) / np.linalg.norm(spectrum)
    np.testing.assert_allclose(LAWS.relative_bias(spectrum, 0.2, 0.01), relative, rtol=1e-10)
    np.testing.assert_allclose(LAWS.bias(spectrum, 0.0, 0.01), 0.0, atol=1e-12)
