"""Every loss is differentiated by JAX as any function of the factor, in either mode, alone and in a batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpsense.keys import seed_keys
from gpsense.pipeline import Schedule, run_cell
from gpsense.sensing.losses import Empirical, Objective, Population, gram_objective
from gpsense.sensing.measurements import gaussian_measurements, rectangular_measurements
from gpsense.sensing.stacked import product
from gpsense.sensing.stacked_losses import StackedPopulation, stacked_gram
from gpsense.sensing.symmetric import svec
from gpsense.systems.sensing import Sensing
from tests import reference

DIM, COLUMNS, WIDTH, N = 4, 3, 2, 9
NAMES = ("empirical", "gram", "centred gram", "population", "stacked empirical", "stacked gram", "stacked population")


@pytest.fixture(scope="module")
def losses() -> dict[str, Objective]:
    """All losses, of measurements with noise."""
    return jax.jit(_losses)()


def _losses() -> dict[str, Objective]:
    rng = np.random.default_rng(0)
    square, noise = jnp.asarray(rng.normal(size=(DIM, 2))), jnp.asarray(0.1 * rng.normal(size=N))
    stacked, sides = jnp.asarray(rng.normal(size=(DIM + COLUMNS, 2))), (DIM, COLUMNS)
    plain = gaussian_measurements(jax.random.key(1), N, DIM, jnp.float64)
    blocks = rectangular_measurements(jax.random.key(2), N, *sides, jnp.float64)
    values, others = plain.forward(square) + noise, blocks.forward(stacked) + noise
    matrix, block, offset = square @ square.T, product(stacked, DIM), jnp.asarray(0.25)
    return {
        "empirical": Empirical(plain, values),
        "gram": gram_objective(plain, values),
        "centred gram": gram_objective(plain, values, svec(matrix)),
        "population": Population(matrix, offset),
        "stacked empirical": Empirical(blocks, others),
        "stacked gram": stacked_gram(blocks, others, block),
        "stacked population": StackedPopulation(sides, block, offset),
    }


def _point(name: str, seed: int = 3) -> np.ndarray:
    rows = DIM + COLUMNS * name.startswith("stacked")
    return np.random.default_rng(seed).normal(size=(rows, WIDTH))


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_the_value_equal_central_differences_and_the_closed_form(losses, name):
    loss, u = losses[name], _point(name)
    both, many = jax.jit(lambda u: loss.value_and_gradient(u)), np.stack([u, 2 * u, -u])
    value = lambda u: loss.value_and_gradient(u)[0]  # noqa: E731
    gradient = jax.jit(jax.grad(value))
    expected = reference.gradient(lambda u: float(both(u)[0]), u)
    found = gradient(u)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found, both(u)[1], rtol=1e-10, atol=1e-11)
    each = np.stack([gradient(one) for one in many])
    of_each = jax.jit(jax.vmap(jax.grad(value)))(many)
    np.testing.assert_allclose(of_each, each, rtol=1e-10, atol=1e-11)
    of_all = jax.jit(jax.grad(lambda many: jnp.sum(jax.vmap(value)(many))))(many)
    np.testing.assert_allclose(of_all, each, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("name", NAMES)
def test_second_derivatives_equal_central_differences_whatever_the_mode(losses, name):
    loss, u, v = losses[name], _point(name), _point(name, 4)
    value, slope = (lambda u, i=i: loss.value_and_gradient(u)[i] for i in (0, 1))
    steep = jax.jit(slope)
    along = (np.asarray(steep(u + 1e-6 * v)) - np.asarray(steep(u - 1e-6 * v))) / 2e-6

    @jax.jit
    def ways(u, v):
        return {
            "forward, of the gradient": jax.jvp(slope, (u,), (v,))[1],
            "reverse, of the gradient": jax.grad(lambda u: jnp.sum(slope(u) * v))(u),
            "forward over reverse": jax.jvp(jax.grad(value), (u,), (v,))[1],
            "reverse over reverse": jax.grad(lambda u: jnp.sum(jax.grad(value)(u) * v))(u),
            "reverse over forward": jax.grad(lambda u: jax.jvp(value, (u,), (v,))[1])(u),
            "in a batch": jax.vmap(lambda v: jax.jvp(slope, (u,), (v,))[1])(jnp.stack([u, v]))[1],
        }

    for way, found in ways(u, v).items():
        np.testing.assert_allclose(found, along, rtol=1e-6, atol=1e-6, err_msg=way)


def test_a_gram_loss_can_be_differentiated_in_its_data():
    """Its slope and offset, say: ``dL = -2 z . ds + dc``."""
    u = jnp.asarray(_point("gram"))

    @jax.jit
    def both():
        loss = gram_objective(gaussian_measurements(jax.random.key(1), N, DIM, jnp.float64), jnp.ones(N))
        gradient = jax.grad(lambda loss: loss.value_and_gradient(u)[0])(loss)
        return gradient, -2 * (svec(u @ u.T) - loss.centre)

    gradient, slope = both()
    np.testing.assert_allclose(gradient.slope, slope, rtol=1e-12)
    np.testing.assert_allclose(gradient.offset, 1.0, rtol=1e-15)


def test_a_whole_cell_can_be_differentiated_in_a_setting():
    """The error after training, reverse mode through every step, against a central difference."""
    system, schedule = (
        Sensing(dim=5, width=4, n=30, form="gram", dtype="float64", curvature_steps=0),
        Schedule(60, 20, 20),
    )

    @jax.jit
    @jax.value_and_grad
    def error(penalty: jax.Array) -> jax.Array:
        setting = Sensing.Setting(penalty=penalty, rate=0.03)
        return run_cell(system, schedule, Sensing.Data(noise=0.3), setting, seed_keys(0))["error_trained"]

    at = jnp.asarray(0.05)
    expected = (error(at + 1e-6)[0] - error(at - 1e-6)[0]) / 2e-6
    np.testing.assert_allclose(error(at)[1], expected, rtol=1e-5)
