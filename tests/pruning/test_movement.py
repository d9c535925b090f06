"""Score movement: weights that a step of gradient descent takes away from 0."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense import Axis, Grid, Schedule, TeacherStudent, run_grid
from gpsense.pruning.weight_scores import SCORES, movement


def test_it_is_the_growth_of_squares_under_gradient_flow(key):
    """``d(w^2)/dt = 2 w dw/dt = -2 w g``: by a finite difference of one small step."""
    weights, slopes = np.random.default_rng(0).normal(size=(3, 4)), np.arange(12.0)
    mask = slopes.reshape(3, 4) % 3 > 0
    loss = lambda at: jnp.sum(jnp.sin(at["w"]).reshape(-1) * slopes)  # noqa: E731
    scores = jax.jit(lambda weights, mask: movement({"w": weights}, {"w": mask}, loss, key)["w"])(weights, mask)
    at, step = np.where(mask, weights, 0.0), 1e-6
    moved = at - step * np.where(mask, np.cos(at) * slopes.reshape(3, 4), 0.0)
    np.testing.assert_allclose(2 * np.asarray(scores), (moved**2 - at**2) / step, rtol=1e-4, atol=1e-4)
    assert (np.asarray(scores)[~mask] == 0).all()


@pytest.mark.slow
def test_systems_pruned_by_weights_take_it_by_name():
    assert "movement" in SCORES
    system = TeacherStudent(dim=8, neurons=2, support=3, n=60, rule="movement", start="gaussian", dtype="float64")
    found = run_grid(Grid(system, Schedule(0, 20, 20), 2, (Axis("kept", (0.25, 0.5)),)))
    np.testing.assert_array_equal(found["rank"], [[4, 8], [4, 8]])
