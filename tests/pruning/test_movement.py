"""Score movement: weights that a step of gradient descent takes away from 0."""

import jax
import jax.numpy as jnp
import numpy as np

from gpsense import Axis, Grid, Schedule, TeacherStudent, run_grid
from gpsense.pruning.weight_scores import SCORES, movement


def test_it_is_the_growth_of_squares_under_gradient_flow(key):
    """``d(w^2)/dt = 2 w dw/dt = -2 w g``: by a finite difference of one small step."""
    params = {"w": jax.random.normal(key, (3, 4), jnp.float64)}
    mask = {"w": jnp.asarray(np.arange(12).reshape(3, 4) % 3 > 0)}
    loss = lambda at: jnp.sum(jnp.sin(at["w"]) * jnp.arange(12.0).reshape(3, 4))  # noqa: E731
    scores, step = movement(params, mask, loss, key)["w"], 1e-6
    at = jnp.where(mask["w"], params["w"], 0.0)
    moved = at - step * jnp.where(mask["w"], jax.grad(loss)({"w": at})["w"], 0.0)
    np.testing.assert_allclose(2 * scores, (moved**2 - at**2) / step, rtol=1e-4, atol=1e-4)
    assert (np.asarray(scores)[~np.asarray(mask["w"])] == 0).all()


def test_systems_pruned_by_weights_take_it_by_name():
    assert "movement" in SCORES
    system = TeacherStudent(dim=8, neurons=2, support=3, n=60, rule="movement", start="gaussian", dtype="float64")
    found = run_grid(Grid(system, Schedule(0, 20, 20), 2, (Axis("kept", (0.25, 0.5)),)))
    np.testing.assert_array_equal(found["rank"], [[4, 8], [4, 8]])
