"""Measurements of signs: isotropic, growing with n, and an ensemble of sensing by its name alone."""

import jax
import jax.numpy as jnp
import numpy as np

from gpsense import Axis, Grid, Schedule, Sensing, run_grid
from gpsense.sensing.measurements import ENSEMBLES
from gpsense.sensing.measurements.bernoulli import bernoulli_measurements
from gpsense.theory import exact_rank_error

_draw = jax.jit(bernoulli_measurements, static_argnums=(1, 2, 3))


def test_rows_are_signs_and_extend_fewer(key):
    few, more = (np.asarray(_draw(key, n, 4, jnp.float64).rows) for n in (3, 7))
    assert set(np.unique(more)) == {-1.0, 1.0}
    np.testing.assert_array_equal(few, more[:3])
    matrix = np.asarray(jax.jit(lambda: bernoulli_measurements(key, 1, 4, jnp.float64).adjoint(jnp.ones(1)))())
    np.testing.assert_allclose(np.abs(matrix), np.full((4, 4), 2**-0.5) + (1 - 2**-0.5) * np.eye(4), rtol=1e-12)


def test_the_map_is_isotropic(key):
    draw = np.random.default_rng(0).normal(size=(5, 5))
    matrix = draw + draw.T
    values = jax.jit(lambda: bernoulli_measurements(key, 40_000, 5, jnp.float64).apply(jnp.asarray(matrix)))()
    np.testing.assert_allclose(np.mean(np.square(values)), np.sum(matrix**2), rtol=0.05)


def test_sensing_takes_it_by_name():
    """Rank 1 is found from signs, too, with the error of the exact-rank oracle."""
    system = Sensing(dim=6, n=120, rank=1, measurements="bernoulli", dtype="float64", curvature_steps=0)
    found = run_grid(Grid(system, Schedule(300, 200, 250), 4, (Axis("noise", (0.3,)),), {"penalty": 0.2}))
    assert (found["rank"] == 1).all()
    law = ENSEMBLES["bernoulli"].error_law
    assert law is exact_rank_error
    assert float(found["error"].mean()) < 2 * float(jax.jit(law)(0.3, 6, 1, 120))
